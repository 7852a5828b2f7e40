//! Apache Thrift, correlated by the sequence id of its messages.
//!
//! [`envelope`] reads where a message begins and what it is called, in any
//! transport (framed, unframed, THeader) and encoding (binary, compact).
//! Framed messages are never looked into further, but for the first field of a
//! reply; the end of an unframed one is found by the walk over its struct in
//! [`walk`]. [`relay`] passes a message on under another sequence id and with other
//! headers, every other byte as it was; [`reply`] speaks for the proxy;
//! [`call`] makes and reads whole messages for tools and tests.

pub mod call;
mod decoder;
mod envelope;
mod fields;
mod header;
mod health;
mod outcome;
mod relay;
mod reply;
mod varint;
mod walk;

use std::sync::Arc;

use crate::codec::{After, Codec, Decoder, Hop, KeySpec, Protocol, Side, known};
use crate::detect::{CERTAIN, Probe};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Exchange, Fault, Head, ReplyTo};
use crate::health::{BadOption, HealthAsk, HealthCheck, HealthWay};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::mutation::{Change, Mutable, Unchangeable};
use crate::shared;

/// The name in configs and metadata.
const NAME: &str = "thrift";

/// The largest frame its peers accept by default.
const LARGEST_FRAME: u64 = 16_384_000;

const TOO_LARGE: &str = "a message larger than is allowed";

/// The protocol.
pub struct Thrift;

const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::SERVICE,
    shared::METHOD,
    shared::SIZE,
    KeySpec::key("transport", "how messages are delimited: framed, unframed, header", "framed"),
    KeySpec::key("encoding", "how values are written: binary, binary-old, compact", "compact"),
    KeySpec::key("seqid", "the client's sequence id", "7"),
    KeySpec::family("header.", "a header of the THeader transport", "header.tenant"),
];

impl Protocol for Thrift {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        let maybe = |need| Probe::Maybe { need };
        let yes = Probe::Yes { confidence: CERTAIN };
        match prefix {
            [] => maybe(1),
            // Unframed: the version word, or the compact protocol's first two bytes.
            [0x80] | [0x82] => maybe(2),
            [0x80, 0x01] | [0x80, 0x01, _] => maybe(4),
            [0x80, 0x01, _, 1..=4, ..] => yes,
            [0x82, version, ..] if compact_call(*version) => yes,
            // Framed: no frame is so long that its length does not begin with 0.
            [0] | [0, _] | [0, _, _] | [0, _, _, _] => maybe(prefix.len() + 1),
            [0, _, _, _, 0x80 | 0x82 | 0x0f] => maybe(6),
            [0, _, _, _, 0x80, 0x01, ..] | [0, _, _, _, 0x0f, 0xff, ..] => yes,
            [0, _, _, _, 0x82, version, ..] if compact_call(*version) => yes,
            _ => Probe::No,
        }
    }

    fn exchange(&self) -> Exchange {
        Exchange::Correlated
    }

    fn keys(&self) -> &'static [KeySpec] {
        KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        Arc::new(Compiled(Arc::new(decoder::Plan::new(limits, interest))))
    }

    fn id_bits(&self) -> u32 {
        32
    }

    fn relay(&self, _: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        relay::relay(bytes, hop.id, out);
    }

    fn health_ways(&self) -> &'static [HealthWay] {
        health::WAYS
    }

    fn health(&self, ask: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
        health::check(ask)
    }

    fn mutable(&self) -> &'static [Mutable] {
        const { &[Mutable::family("header.")] }
    }

    fn rewrite(
        &self,
        _: &Head,
        bytes: &[u8],
        hop: &Hop,
        changes: &[Change<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        relay::rewrite(bytes, hop.id, changes, out)
    }

    fn local_reply(
        &self,
        to: ReplyTo,
        note: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After {
        reply::exception(to, note, reply::code(fault), why, out);
        After::Keep
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        if let Some(to) = error.reply_to {
            let code = match error.kind {
                ErrorKind::Unsupported => reply::UNSUPPORTED,
                _ => reply::PROTOCOL_ERROR,
            };
            reply::exception(to, b"", code, &error.reason, out);
        }
    }
}

/// Whether the compact protocol's second byte says version 1 and a known message type.
fn compact_call(byte: u8) -> bool {
    byte & 0x1f == 1 && (1..=4).contains(&(byte >> 5))
}

struct Compiled(Arc<decoder::Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(decoder::ThriftDecoder::new(self.0.clone(), side))
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<decoder::ThriftDecoder>(decoder) else { return false };
        decoder.retarget(self.0.clone());
        true
    }
}

#[cfg(test)]
mod tests;
