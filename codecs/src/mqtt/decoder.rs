//! Finding packets, and saying what they are for.

use std::sync::Arc;

use super::NAME;
use super::connect::{self, Connect};
use super::keys::Keys;
use super::packet::{self, Fixed, Packet, Version};
use super::properties::{Allowed, Properties};
use super::publish::{self, Publish};
use super::reply::Token;
use super::session::{Session, terse};
use super::subscribe::{Filter, Subscribe};
use super::wire::{Bad, Reader, Text, forbidden, malformed, reason, varint_len};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Lease, ReplyTo, Step};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::metadata::Metadata;

/// Slots and limits, shared by all decoders of a config.
pub(super) struct Plan {
    pub(super) limits: Limits,
    pub(super) keys: Keys,
}

impl Plan {
    pub(super) fn new(limits: &Limits, interest: &Interest) -> Self {
        Self { limits: limits.clone(), keys: Keys::new(interest) }
    }
}

/// How much of a packet must be there, and how much of it is the head.
pub(super) enum Shown {
    Need(usize),
    Head(usize),
}

/// Reads a client's packets.
pub(super) struct ClientDecoder {
    plan: Arc<Plan>,
    /// From CONNECT on.
    session: Option<Session>,
    /// Of the last SUBSCRIBE or UNSUBSCRIBE: the filters not yet shown.
    filters: Option<Filters>,
    /// For values that have to be put together, kept so that its memory is.
    scratch: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Filters {
    packet: Packet,
    version: Version,
    next: usize,
    end: usize,
}

impl ClientDecoder {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, session: None, filters: None, scratch: Vec::new() }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    fn version(&self) -> Option<Version> {
        self.session.as_ref().map(|session| session.version)
    }

    fn step(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, Bad> {
        if let Some(first) = buf.first() {
            packet::check_first(*first, self.version())?;
        }
        let fixed = match Fixed::read(buf)? {
            Ok(fixed) => fixed,
            Err(need) => return Ok(Step::Need(need)),
        };
        let shortest = 1 + varint_len(fixed.total - fixed.len);
        if self.version() == Some(Version::V5) && fixed.len != shortest {
            return Err(malformed(1, "a remaining length in more bytes than it takes"));
        }
        let shown = match shown(&fixed, buf, &self.plan.limits, self.version())? {
            Shown::Need(need) => return Ok(Step::Need(need)),
            Shown::Head(len) => len,
        };
        let packet = buf.get(..shown).unwrap_or_default();
        meta.clear();
        self.filters = None;
        let mut head = match self.session.as_mut() {
            None => self.connect(packet, &fixed, meta)?,
            Some(session) => match fixed.packet {
                Packet::Publish => {
                    publish(&self.plan, session, &mut self.scratch, packet, &fixed, meta)?
                }
                Packet::Subscribe | Packet::Unsubscribe => self.subscribe(packet, &fixed, meta)?,
                _ => {
                    control(packet, &fixed, session.version)?;
                    self.plan.keys.fill(&fixed, Kind::Control, meta);
                    self.plan.keys.fill_session(session, meta);
                    let token = Token::new(Some(session.version), fixed.packet);
                    head(Kind::Control, 0, Token { terse: session.terse, ..token })
                }
            },
        };
        head.len = shown;
        if fixed.total > shown {
            head.body = Body::Length((fixed.total - shown) as u64);
        }
        Ok(Step::Head(head))
    }

    fn connect(&mut self, packet: &[u8], fixed: &Fixed, meta: &mut Metadata) -> Result<Head, Bad> {
        let connect = Connect::read(packet, fixed)?;
        let keys = &self.plan.keys;
        keys.fill(fixed, Kind::Request, meta);
        keys.fill_connect(&connect, meta);
        keys.fill_users(&connect.properties, packet, &mut self.scratch, meta);
        let token = Token::new(Some(connect.version), Packet::Connect);
        let mut head = head(Kind::Request, 0, Token { terse: terse(&connect), ..token });
        head.lease = Lease::Session;
        head.patience = u32::from(connect.keep_alive) * 1500;
        self.session = Some(Session::new(&connect));
        Ok(head)
    }

    fn subscribe(
        &mut self,
        packet: &[u8],
        fixed: &Fixed,
        meta: &mut Metadata,
    ) -> Result<Head, Bad> {
        let Some(session) = &self.session else { return Err(forbidden(0, "no session")) };
        let version = session.version;
        let subscribe = Subscribe::read(packet, fixed, version)?;
        let keys = &self.plan.keys;
        keys.fill(fixed, Kind::Request, meta);
        keys.fill_session(session, meta);
        keys.fill_users(&subscribe.properties, packet, &mut self.scratch, meta);
        let mut reader = Reader::new(packet, subscribe.filters);
        let filter = Filter::read(&mut reader, fixed.packet, version)?;
        keys.fill_filter(fixed.packet, &filter, meta);
        let (next, end) = (reader.at, packet.len());
        self.filters = Some(Filters { packet: fixed.packet, version, next, end });
        let token = Token::new(Some(version), fixed.packet);
        let token = Token { terse: session.terse, count: subscribe.count, ..token };
        Ok(head(Kind::Request, subscribe.id, token))
    }

    /// The error that the engine is told, with what is needed to answer it.
    fn refuse(&self, bad: Bad, buf: &[u8]) -> DecodeError {
        let kind = match bad.status {
            reason::TOO_LARGE => ErrorKind::TooLarge,
            reason::UNSUPPORTED_VERSION => ErrorKind::Unsupported,
            _ => ErrorKind::Malformed,
        };
        let error = refused(bad, kind);
        let token = match &self.session {
            Some(session) => {
                let token = Token::new(Some(session.version), Packet::Disconnect);
                Token { terse: session.terse, ..token }
            }
            None => {
                let Ok(Ok(fixed)) = Fixed::read(buf) else { return error };
                match connect::version(buf, &fixed) {
                    Ok(version) => Token::new(Some(version), Packet::Connect),
                    Err(Bad { status: reason::UNSUPPORTED_VERSION, .. }) => {
                        Token::new(None, Packet::Connect)
                    }
                    Err(_) => return error,
                }
            }
        };
        error.answering(ReplyTo { id: 0, token: token.pack() })
    }
}

impl Decoder for ClientDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        self.step(buf, meta).map_err(|bad| self.refuse(bad, buf))
    }

    fn another(&mut self, buf: &[u8], meta: &mut Metadata) -> bool {
        let Some(filters) = &mut self.filters else { return false };
        let packet = buf.get(..filters.end).unwrap_or_default();
        let mut reader = Reader::new(packet, filters.next);
        if reader.is_empty() {
            return false;
        }
        let Ok(filter) = Filter::read(&mut reader, filters.packet, filters.version) else {
            return false;
        };
        filters.next = reader.at;
        self.plan.keys.fill_filter(filters.packet, &filter, meta);
        true
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        between_packets(unread)
    }
}

pub(super) fn refused(bad: Bad, kind: ErrorKind) -> DecodeError {
    DecodeError::new(NAME, kind, bad.at, bad.why).with_status(bad.status.into())
}

pub(super) fn between_packets(unread: &[u8]) -> Result<bool, DecodeError> {
    if unread.is_empty() {
        return Ok(false);
    }
    Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a packet"))
}

fn head(kind: Kind, id: u16, token: Token) -> Head {
    let mut head = Head::whole(kind, 0);
    head.reply_to = ReplyTo { id: id.into(), token: token.pack() };
    head
}

/// A small packet is shown whole, a large PUBLISH up to its payload. All others
/// are heads through and through.
fn shown(
    fixed: &Fixed,
    buf: &[u8],
    limits: &Limits,
    version: Option<Version>,
) -> Result<Shown, Bad> {
    let too_large = |why| Err(Bad { at: 1, status: reason::TOO_LARGE, why });
    if fixed.total as u64 > limits.frame {
        return too_large("a packet that passes the frame limit");
    }
    let shown = match version {
        _ if fixed.total <= limits.whole => fixed.total,
        Some(version) if fixed.packet == Packet::Publish => {
            match publish::front(buf, fixed, version, limits.head)? {
                Ok(len) => len,
                Err(need) => return Ok(Shown::Need(need)),
            }
        }
        _ if fixed.total > limits.head => {
            return too_large("a packet without a payload that passes the head limit");
        }
        _ => fixed.total,
    };
    Ok(if buf.len() < shown { Shown::Need(shown) } else { Shown::Head(shown) })
}

fn publish(
    plan: &Plan,
    session: &mut Session,
    scratch: &mut Vec<u8>,
    packet: &[u8],
    fixed: &Fixed,
    meta: &mut Metadata,
) -> Result<Head, Bad> {
    let publish = Publish::read(packet, fixed, session.version)?;
    let kind = if fixed.qos() == 0 { Kind::Oneway } else { Kind::Request };
    let keys = &plan.keys;
    keys.fill(fixed, kind, meta);
    keys.fill_session(session, meta);
    keys.fill_users(&publish.properties, packet, scratch, meta);
    let at = publish.properties.at;
    let defines_alias = match (publish.topic, publish.properties.alias) {
        (Text { bytes: [], .. }, Some(alias)) => {
            keys.fill_alias(session.aliases.get(alias, at)?, meta);
            false
        }
        (topic, alias) => {
            keys.fill_topic(topic, meta);
            match alias {
                Some(alias) => session.aliases.set(alias, topic.bytes, at)?,
                None => false,
            }
        }
    };
    let token = Token::new(Some(session.version), Packet::Publish);
    let token = Token { qos: fixed.qos(), defines_alias, terse: session.terse, ..token };
    Ok(head(kind, publish.id, token))
}

/// Checks a packet that only the session's two ends need to understand.
fn control(packet: &[u8], fixed: &Fixed, version: Version) -> Result<(), Bad> {
    let five = version == Version::V5;
    let mut reader = Reader::new(packet, fixed.len);
    let allowed = match fixed.packet {
        Packet::Puback | Packet::Pubrec | Packet::Pubrel | Packet::Pubcomp => {
            reader.packet_id()?;
            Allowed::ACKNOWLEDGEMENT
        }
        Packet::Auth => Allowed::AUTH,
        _ => Allowed::DISCONNECT,
    };
    // The reason may be left out, and the properties behind it.
    if five && fixed.packet != Packet::Pingreq && !reader.is_empty() {
        reader.u8()?;
        if !reader.is_empty() {
            Properties::read(&mut reader, allowed)?;
        }
    }
    if reader.is_empty() {
        Ok(())
    } else {
        Err(malformed(reader.at, "bytes behind the last field"))
    }
}
