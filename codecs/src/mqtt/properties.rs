//! The properties of MQTT 5.0 (section 2.2.2).

use super::wire::{Bad, Reader, Text, forbidden, malformed, reason};

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SUBSCRIPTION_ID: u8 = 0x0b;
const SESSION_EXPIRY: u8 = 0x11;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
const AUTH_METHOD: u8 = 0x15;
const AUTH_DATA: u8 = 0x16;
const REQUEST_PROBLEM: u8 = 0x17;
const WILL_DELAY: u8 = 0x18;
const REQUEST_RESPONSE: u8 = 0x19;
pub(super) const REASON_STRING: u8 = 0x1f;
const RECEIVE_MAXIMUM: u8 = 0x21;
const ALIAS_MAXIMUM: u8 = 0x22;
const TOPIC_ALIAS: u8 = 0x23;
pub(super) const USER_PROPERTY: u8 = 0x26;
const MAXIMUM_PACKET: u8 = 0x27;

/// The properties that a packet may have: bit N stands for the identifier N.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed(u64);

impl Allowed {
    const fn of(identifiers: &[u8]) -> Self {
        let (mut bits, mut at) = (1 << USER_PROPERTY, 0);
        while at < identifiers.len() {
            bits |= 1 << identifiers[at];
            at += 1;
        }
        Self(bits)
    }

    pub(super) const CONNECT: Self = Self::of(&[
        SESSION_EXPIRY,
        AUTH_METHOD,
        AUTH_DATA,
        REQUEST_PROBLEM,
        REQUEST_RESPONSE,
        RECEIVE_MAXIMUM,
        ALIAS_MAXIMUM,
        MAXIMUM_PACKET,
    ]);
    pub(super) const WILL: Self = Self::of(&[
        PAYLOAD_FORMAT,
        MESSAGE_EXPIRY,
        CONTENT_TYPE,
        RESPONSE_TOPIC,
        CORRELATION_DATA,
        WILL_DELAY,
    ]);
    /// From a client; a server's may name subscriptions too (MQTT-3.3.4-6).
    pub(super) const PUBLISH: Self = Self::of(&[
        PAYLOAD_FORMAT,
        MESSAGE_EXPIRY,
        CONTENT_TYPE,
        RESPONSE_TOPIC,
        CORRELATION_DATA,
        TOPIC_ALIAS,
    ]);
    pub(super) const SUBSCRIBE: Self = Self::of(&[SUBSCRIPTION_ID]);
    pub(super) const UNSUBSCRIBE: Self = Self::of(&[]);
    pub(super) const ACKNOWLEDGEMENT: Self = Self::of(&[REASON_STRING]);
    pub(super) const DISCONNECT: Self = Self::of(&[SESSION_EXPIRY, REASON_STRING]);
    pub(super) const AUTH: Self = Self::of(&[AUTH_METHOD, AUTH_DATA, REASON_STRING]);

    const fn has(self, identifier: u8) -> bool {
        identifier < 64 && self.0 >> identifier & 1 == 1
    }
}

/// Properties that were read. All zero where a version has none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Properties {
    /// Where their length is written.
    pub(super) at: usize,
    /// Where the first begins.
    pub(super) start: usize,
    /// Where the last ends.
    pub(super) end: usize,
    /// The topic alias.
    pub(super) alias: Option<u16>,
    /// The largest packet that the client takes.
    pub(super) maximum_packet: Option<u32>,
    has_user: bool,
}

impl Properties {
    /// Those that were read before and lie there.
    pub(super) fn lying(at: usize, start: usize, end: usize) -> Self {
        Self { at, start, end, has_user: true, ..Self::default() }
    }

    /// Reads and checks all of them. Only user properties may come twice.
    pub(super) fn read(reader: &mut Reader<'_>, allowed: Allowed) -> Result<Self, Bad> {
        let at = reader.at;
        let len = reader.varint()?;
        let mut found = Self { at, start: reader.at, end: reader.at + len, ..Self::default() };
        let mut inner = reader.within(len)?;
        let mut seen = Allowed(0);
        while !inner.is_empty() {
            let at = inner.at;
            let identifier = inner.u8()?;
            if !allowed.has(identifier) {
                return Err(forbidden(at, "a property that its packet does not have"));
            }
            if identifier != USER_PROPERTY && seen.has(identifier) {
                return Err(forbidden(at, "a property that came before"));
            }
            seen.0 |= 1 << identifier;
            found.value(identifier, &mut inner)?;
        }
        if seen.has(AUTH_DATA) && !seen.has(AUTH_METHOD) {
            return Err(forbidden(at, "authentication data of no method"));
        }
        Ok(found)
    }

    fn value(&mut self, identifier: u8, inner: &mut Reader<'_>) -> Result<(), Bad> {
        let at = inner.at;
        let good = match identifier {
            PAYLOAD_FORMAT | REQUEST_PROBLEM | REQUEST_RESPONSE => inner.u8()? <= 1,
            RECEIVE_MAXIMUM => inner.u16()? != 0,
            ALIAS_MAXIMUM => inner.u16().is_ok(),
            MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY => {
                inner.u32()?;
                true
            }
            MAXIMUM_PACKET => {
                let maximum = inner.u32()?;
                self.maximum_packet = Some(maximum);
                maximum != 0
            }
            SUBSCRIPTION_ID => inner.varint()? != 0,
            TOPIC_ALIAS => {
                let alias = inner.u16()?;
                if alias == 0 {
                    let why = "the topic alias 0";
                    return Err(Bad { at, status: reason::BAD_ALIAS, why });
                }
                self.alias = Some(alias);
                true
            }
            CORRELATION_DATA | AUTH_DATA => {
                inner.binary()?;
                true
            }
            RESPONSE_TOPIC => {
                inner.topic()?;
                true
            }
            CONTENT_TYPE | AUTH_METHOD | REASON_STRING => {
                inner.text()?;
                true
            }
            USER_PROPERTY => {
                self.has_user = true;
                inner.text()?;
                inner.text()?;
                true
            }
            _ => return Err(malformed(at, "an unknown property")),
        };
        if good { Ok(()) } else { Err(forbidden(at, "a value that its property does not take")) }
    }

    /// Each property of `packet`, which these were read from: its identifier,
    /// all of its bytes, and name and value where it is a user property.
    pub(super) fn each<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = Property<'a>> {
        let mut inner = Reader::new(packet.get(..self.end).unwrap_or_default(), self.start);
        let mut scratch = Self::default();
        std::iter::from_fn(move || {
            let at = inner.at;
            let identifier = inner.u8().ok()?;
            let mut user = None;
            if identifier == USER_PROPERTY {
                user = Some((inner.binary().ok()?, inner.binary().ok()?));
            } else {
                scratch.value(identifier, &mut inner).ok()?;
            }
            Some(Property { bytes: packet.get(at..inner.at)?, user })
        })
    }

    /// Names and values of the user properties.
    pub(super) fn users<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        let packet = if self.has_user { packet } else { &[] };
        self.each(packet).filter_map(|property| property.user)
    }
}

/// One property.
pub(super) struct Property<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) user: Option<(Text<'a>, Text<'a>)>,
}

/// The server keep-alive, in seconds, among a CONNACK's properties; whatever they
/// else are, as far as they can be read.
pub(super) fn server_keep_alive(packet: &[u8], at: usize) -> Option<u16> {
    let mut reader = Reader::new(packet, at);
    let len = reader.varint().ok()?;
    let mut inner = reader.within(len).ok()?;
    loop {
        match inner.u8().ok()? {
            SERVER_KEEP_ALIVE => return inner.u16().ok(),
            SESSION_EXPIRY | MAXIMUM_PACKET => drop(inner.u32().ok()?),
            RECEIVE_MAXIMUM | ALIAS_MAXIMUM => drop(inner.u16().ok()?),
            // Maximum QoS, and what the server has: retained messages,
            // wildcards, subscription identifiers, shared subscriptions.
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => drop(inner.u8().ok()?),
            // Also: the client identifier it assigned, response information,
            // the reference to another server.
            0x12 | 0x1a | 0x1c | AUTH_METHOD | AUTH_DATA | REASON_STRING => {
                inner.binary().ok()?;
            }
            USER_PROPERTY => {
                inner.binary().ok()?;
                inner.binary().ok()?;
            }
            _ => return None,
        }
    }
}
