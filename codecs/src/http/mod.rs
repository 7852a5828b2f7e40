//! HTTP/1.0 and 1.1 by RFC 9110 and 9112. Ordered, exclusive; a session after
//! 101 or a 2xx to CONNECT. Of HTTP/2 (RFC 9113) only the [`preface`](probe) is known
//! here: each of its streams comes as the text of HTTP/1.1, marked `HTTP/2.0`.
//!
//! The decoders are strict: what two parsers could read differently is refused,
//! never repaired. A head is found and scanned by [`head`] with [`fields`]; [`body`]
//! frames what follows it; [`relay`] writes a head as the next hop should see it,
//! copying runs of lines between those that are for one hop only or that a route
//! changes ([`change`]); [`local`] speaks for the proxy, [`grpc`] to requests of
//! gRPC, and [`respond`] for a route. Keys are filled by [`keys`]. What people tell apart
//! is named by [`dialect`]; [`websocket`] knows where frames end, to part with a word.

mod body;
mod change;
mod dialect;
mod fields;
mod grpc;
mod head;
mod health;
mod keys;
mod local;
mod probe;
mod relay;
mod request;
mod respond;
mod response;
mod websocket;

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::answer::Answer;
use crate::codec::{After, Codec, Decoder, Hop, KeySpec, Leave, Protocol, Side, known};
use crate::detect::Probe;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Exchange, Fault, Head, ReplyTo};
use crate::health::{BadOption, HealthAsk, HealthCheck, HealthWay};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::mutation::{Change, Mutable, Unchangeable};
use crate::seam::Seam;

/// The name in configs and metadata.
const NAME: &str = "http";

/// The protocol.
pub struct Http;

/// What is noted of a message in [`ReplyTo::token`].
pub(crate) mod note {
    use crate::codec::After;
    use crate::frame::ReplyTo;

    /// It is HTTP/1.0.
    pub(crate) const VERSION_10: u64 = 1;
    /// The method is HEAD: no reply to it has a body.
    pub(crate) const HEAD: u64 = 1 << 1;
    /// The method is CONNECT.
    pub(crate) const CONNECT: u64 = 1 << 2;
    /// The sender closes after this exchange.
    pub(crate) const CLOSE: u64 = 1 << 3;
    /// It asks to change the protocol.
    pub(crate) const UPGRADE: u64 = 1 << 4;
    /// Some of its fields are for this hop only.
    pub(crate) const HOP_FIELDS: u64 = 1 << 5;
    /// Its target is in absolute form.
    pub(crate) const ABSOLUTE: u64 = 1 << 6;
    /// It has no Host field.
    pub(crate) const NO_HOST: u64 = 1 << 7;
    /// Its body is chunked.
    pub(crate) const CHUNKED: u64 = 1 << 8;
    /// A reply whose body ends with the connection.
    pub(crate) const UNTIL_CLOSE: u64 = 1 << 9;
    /// A request of gRPC.
    pub(crate) const GRPC: u64 = 1 << 10;
    /// Its sender takes trailers.
    pub(crate) const TRAILERS: u64 = 1 << 11;
    /// It asks to become a WebSocket, and nothing else.
    pub(crate) const WEBSOCKET: u64 = 1 << 12;

    /// The Connection field of an answer that the proxy gives itself, line end included.
    pub(crate) fn connection(to: ReplyTo) -> &'static str {
        match (after(to), to.token & VERSION_10 != 0) {
            (After::Close, _) => "connection: close\r\n",
            (After::Keep, true) => "connection: keep-alive\r\n",
            (After::Keep, false) => "",
        }
    }

    /// What becomes of the connection after that answer.
    pub(crate) fn after(to: ReplyTo) -> After {
        if to.token & CLOSE != 0 { After::Close } else { After::Keep }
    }
}

impl Protocol for Http {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dialects(&self) -> &'static [&'static str] {
        dialect::NAMES
    }

    fn stream_dialect(&self) -> u8 {
        dialect::HTTP2
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        probe::probe(prefix)
    }

    fn streams(&self, prefix: &[u8]) -> Probe {
        probe::preface(prefix)
    }

    fn exchange(&self) -> Exchange {
        Exchange::Ordered { shared: false }
    }

    fn statuses(&self, word: &str) -> Option<RangeInclusive<u32>> {
        grpc::statuses(word)
    }

    fn status_word(&self, status: u32) -> Option<&'static str> {
        grpc::status_word(status)
    }

    fn fault_status(&self, to: ReplyTo, fault: Fault) -> u32 {
        if to.token & note::GRPC != 0 {
            return grpc::fault_status(fault);
        }
        local::status(fault).0.into()
    }

    fn keys(&self) -> &'static [KeySpec] {
        keys::KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        let keys = keys::Keys::new(interest);
        Arc::new(Compiled(Arc::new(Plan { limits: limits.clone(), keys })))
    }

    fn relay(&self, head: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        // Nothing is asked that could be refused.
        let _ = relay::head(head, bytes, hop, change::Changes::NONE, out);
    }

    fn health_ways(&self) -> &'static [HealthWay] {
        health::WAYS
    }

    fn health(&self, ask: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
        health::check(ask)
    }

    fn mutable(&self) -> &'static [Mutable] {
        change::MUTABLE
    }

    fn immutable(&self, key: &str) -> Option<&'static str> {
        change::immutable(key)
    }

    fn rewrite(
        &self,
        head: &Head,
        bytes: &[u8],
        hop: &Hop,
        changes: &[Change<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        let changes = change::Changes::checked(changes, hop.side)?;
        relay::head(head, bytes, hop, changes, out)
    }

    fn needs_plain_body(&self, request: ReplyTo) -> bool {
        request.token & note::VERSION_10 != 0
    }

    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After {
        if to.token & note::GRPC != 0 {
            return grpc::reply(to, fault, why, out);
        }
        local::reply(to, fault, why, out)
    }

    fn respond(&self, to: ReplyTo, answer: &Answer<'_>, out: &mut Vec<u8>) -> Option<After> {
        Some(respond::respond(to, answer, out))
    }

    fn last(&self, to: ReplyTo) -> ReplyTo {
        ReplyTo { token: to.token | note::CLOSE, ..to }
    }

    fn seam(&self, opened: ReplyTo) -> Option<Box<dyn Seam>> {
        (opened.token & note::WEBSOCKET != 0).then(|| Box::new(websocket::Frames::new()) as _)
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        local::reject(error, out);
    }

    fn reject_status(&self, error: &DecodeError) -> u32 {
        local::refusal(error).0.into()
    }
}

struct Plan {
    limits: Limits,
    keys: keys::Keys,
}

struct Compiled(Arc<Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        match side {
            Side::Request => Box::new(request::RequestDecoder::new(self.0.clone(), false)),
            Side::Reply => Box::new(response::ResponseDecoder::new(self.0.clone())),
        }
    }

    fn stream_decoder(&self) -> Box<dyn Decoder> {
        Box::new(request::RequestDecoder::new(self.0.clone(), true))
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<request::RequestDecoder>(decoder) else { return false };
        decoder.retarget(self.0.clone());
        true
    }

    /// `Connection: close`.
    fn leave(&self, _: ReplyTo, _: &mut Vec<u8>) -> Leave {
        Leave::Reply
    }
}

/// A refusal with its status: 400, 413, 414, 431, 501 or 505.
fn refuse(
    status: u16,
    offset: usize,
    reason: impl Into<std::borrow::Cow<'static, str>>,
) -> DecodeError {
    let kind = match status {
        413 | 414 | 431 => ErrorKind::TooLarge,
        501 | 505 => ErrorKind::Unsupported,
        _ => ErrorKind::Malformed,
    };
    DecodeError::new(NAME, kind, offset, reason).with_status(status)
}

#[cfg(test)]
mod tests;
