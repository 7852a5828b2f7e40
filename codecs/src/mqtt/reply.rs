//! What the proxy says itself, to clients, in the broker's place.

use super::packet::{Packet, Version};
use super::properties::REASON_STRING;
use super::wire::{put_text, put_varint, reason};
use crate::codec::After;
use crate::error::DecodeError;
use crate::frame::{Fault, ReplyTo};

const UNSPECIFIED: u8 = 0x80;
const IMPLEMENTATION: u8 = 0x83;
const NOT_AUTHORIZED: u8 = 0x87;
const UNAVAILABLE: u8 = 0x88;
const BUSY: u8 = 0x89;
const SHUTTING_DOWN: u8 = 0x8b;
const KEEP_ALIVE: u8 = 0x8d;
const MAXIMUM_CONNECT_TIME: u8 = 0xa0;
const QUOTA: u8 = 0x97;

/// CONNACK of 3.1 and 3.1.1.
const V3_VERSION: u8 = 1;
const V3_UNAVAILABLE: u8 = 3;
const V3_NOT_AUTHORIZED: u8 = 5;

/// Bytes of a reason in words; with the packet around it, far below 256.
const LONGEST_REASON: usize = 128;

/// What [`ReplyTo::token`] holds of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// `None`: a version that we do not speak.
    pub(super) version: Option<Version>,
    pub(super) packet: Packet,
    pub(super) qos: u8,
    /// It defines a topic alias, which the broker must not miss.
    pub(super) defines_alias: bool,
    /// The client takes no packet as large as one with a reason in words.
    pub(super) terse: bool,
    /// Filters of SUBSCRIBE and UNSUBSCRIBE.
    pub(super) count: u32,
}

impl Token {
    pub(super) const fn new(version: Option<Version>, packet: Packet) -> Self {
        Self { version, packet, qos: 0, defines_alias: false, terse: false, count: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        self.version.map_or(0, |version| version as u64)
            | (self.packet as u64) << 8
            | u64::from(self.qos) << 12
            | u64::from(self.defines_alias) << 14
            | u64::from(self.terse) << 15
            | u64::from(self.count) << 16
    }

    pub(super) fn unpack(token: u64) -> Option<Self> {
        Some(Self {
            version: Version::from_level(token as u8),
            packet: Packet::from_number((token >> 8) as u8 & 0xf)?,
            qos: (token >> 12) as u8 & 3,
            defines_alias: token >> 14 & 1 == 1,
            terse: token >> 15 & 1 == 1,
            count: (token >> 16) as u32,
        })
    }

    const fn is_v5(self) -> bool {
        matches!(self.version, Some(Version::V5))
    }
}

/// Answers a packet that was understood but goes no further.
pub(super) fn local(to: ReplyTo, fault: Fault, why: &str, out: &mut Vec<u8>) -> After {
    let Some(token) = Token::unpack(to.token) else { return After::Close };
    let id = (to.id as u16).to_be_bytes();
    match token.packet {
        Packet::Connect => {
            refuse_connect(token, fault, why, out);
            return After::Close;
        }
        // The broker would take the alias for another topic, or for none.
        Packet::Publish if token.defines_alias => {
            disconnect(token, of_packet(fault), why, out);
            return After::Close;
        }
        Packet::Publish => acknowledge(token, id, of_packet(fault), out),
        Packet::Subscribe => {
            let code = match token.version {
                Some(Version::V5) => of_packet(fault),
                Some(Version::V311) => 0x80,
                // 3.1 has no refusal: granted, and nothing ever comes.
                _ => 0,
            };
            each_filter(0x90, token, id, Some(code), out);
        }
        Packet::Unsubscribe => {
            let code = token.is_v5().then(|| match of_packet(fault) {
                // Its table has no quota.
                QUOTA => IMPLEMENTATION,
                code => code,
            });
            each_filter(0xb0, token, id, code, out);
        }
        _ => {
            disconnect(token, of_packet(fault), why, out);
            return After::Close;
        }
    }
    After::Keep
}

/// CONNACK (section 3.2), or nothing in a version without a fitting code.
fn refuse_connect(token: Token, fault: Fault, why: &str, out: &mut Vec<u8>) {
    if !token.is_v5() {
        let code = match fault {
            Fault::Denied => V3_NOT_AUTHORIZED,
            _ => V3_UNAVAILABLE,
        };
        out.extend_from_slice(&[0x20, 2, 0, code]);
        return;
    }
    let code = match fault {
        Fault::Denied => NOT_AUTHORIZED,
        Fault::Overloaded => QUOTA,
        Fault::TooLarge => reason::TOO_LARGE,
        Fault::Unsupported => IMPLEMENTATION,
        Fault::Malformed => UNSPECIFIED,
        Fault::NoRoute
        | Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Timeout
        | Fault::Expired
        | Fault::ShuttingDown => UNAVAILABLE,
    };
    with_reason(0x20, &[0, code], token, why, out);
}

/// The reason that PUBACK, PUBREC, SUBACK and DISCONNECT all have in their tables.
fn of_packet(fault: Fault) -> u8 {
    match fault {
        Fault::Denied | Fault::NoRoute => NOT_AUTHORIZED,
        Fault::Overloaded => QUOTA,
        Fault::TooLarge
        | Fault::Unsupported
        | Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Timeout
        | Fault::Malformed
        | Fault::Expired
        | Fault::ShuttingDown => IMPLEMENTATION,
    }
}

/// PUBACK or PUBREC; QoS 0 has none. In 3.1 and 3.1.1 they cannot refuse: the
/// message counts as delivered and is dropped, as brokers do (MQTT-3.3.5-2). The
/// PUBREL that then comes passes, and brokers answer one of an unknown message too.
fn acknowledge(token: Token, id: [u8; 2], code: u8, out: &mut Vec<u8>) {
    let first = match token.qos {
        0 => return,
        1 => 0x40,
        _ => 0x50,
    };
    let v5 = token.is_v5();
    out.extend_from_slice(&[first, if v5 { 3 } else { 2 }]);
    out.extend_from_slice(&id);
    if v5 {
        out.push(code);
    }
}

/// SUBACK or UNSUBACK with the same code for each filter; `None`: without codes.
fn each_filter(first: u8, token: Token, id: [u8; 2], code: Option<u8>, out: &mut Vec<u8>) {
    let count = code.map_or(0, |_| token.count as usize);
    out.push(first);
    put_varint(2 + usize::from(token.is_v5()) + count, out);
    out.extend_from_slice(&id);
    if token.is_v5() {
        out.push(0);
    }
    out.extend(std::iter::repeat_n(code.unwrap_or_default(), count));
}

/// The end of a session that was opened by `opened`. Only 5.0 has words for it.
pub(super) fn farewell(opened: ReplyTo, fault: Fault, out: &mut Vec<u8>) {
    let Some(token) = Token::unpack(opened.token) else { return };
    let code = match fault {
        Fault::ShuttingDown => SHUTTING_DOWN,
        Fault::Expired => MAXIMUM_CONNECT_TIME,
        Fault::Denied | Fault::NoRoute => NOT_AUTHORIZED,
        Fault::Overloaded => QUOTA,
        Fault::Timeout => KEEP_ALIVE,
        Fault::TooLarge => reason::TOO_LARGE,
        Fault::Unsupported => IMPLEMENTATION,
        // 0x88, server unavailable, is CONNACK's alone.
        Fault::NoHealthyEndpoint | Fault::ConnectFailed => BUSY,
        Fault::UpstreamReset | Fault::Malformed => UNSPECIFIED,
    };
    let why = if fault == Fault::Timeout { "keep-alive exceeded" } else { fault.as_str() };
    disconnect(token, code, why, out);
}

/// Answers bytes that were refused: CONNACK before the session, DISCONNECT in it.
pub(super) fn reject(error: &DecodeError, out: &mut Vec<u8>) {
    let token = error.reply_to.and_then(|to| Token::unpack(to.token));
    let Some(token) = token else { return };
    let code = error.status as u8;
    match token {
        // In the writing of 3.1.1, which clients of any version know.
        Token { version: None, .. } => out.extend_from_slice(&[0x20, 2, 0, V3_VERSION]),
        Token { packet: Packet::Connect, .. } if token.is_v5() => {
            with_reason(0x20, &[0, code], token, &error.reason, out);
        }
        _ => disconnect(token, code, &error.reason, out),
    }
}

fn disconnect(token: Token, code: u8, why: &str, out: &mut Vec<u8>) {
    if token.is_v5() {
        with_reason(0xe0, &[code], token, why, out);
    }
}

/// A packet of 5.0 whose only property is the reason in words.
fn with_reason(first: u8, fields: &[u8], token: Token, why: &str, out: &mut Vec<u8>) {
    let mut why = format!("polyport: {why}");
    let mut end = why.len().min(LONGEST_REASON);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why.retain(|letter| letter != '\0');
    let properties = if token.terse { 0 } else { 3 + why.len() };
    out.push(first);
    put_varint(fields.len() + super::wire::varint_len(properties) + properties, out);
    out.extend_from_slice(fields);
    put_varint(properties, out);
    if properties > 0 {
        out.push(REASON_STRING);
        put_text(why.as_bytes(), out);
    }
}
