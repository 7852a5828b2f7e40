//! SOFABolt, the protocol of SOFARPC. Correlated by a 32-bit id.
//!
//! A message is a fixed [`header`] of 20 to 24 bytes, a class name, a
//! [`block`] of named texts and a content that is never looked into: names of
//! services and methods are in the block. Version 1 and version 2 messages may
//! alternate on a connection, so each is judged by its own first byte.
//!
//! A version 2 message may end in a [`crc32`] of all that is before it. Its id
//! cannot be changed without changing its last bytes, so it is never streamed:
//! it is gathered whole, up to [`LARGEST_CHECKED`]. Any other of more than
//! [`Limits::whole`] bytes is a head and so many bytes of body.
//!
//! Lengths are unsigned, as everywhere on this wire, though SOFABolt's own
//! Java reads those of class and block as signed and sends none over 32,767.
//!
//! [`reply`] speaks for the proxy, [`rewrite`] changes header blocks, [`call`]
//! makes and reads whole messages for tools and tests.

mod block;
pub mod call;
mod crc32;
mod decoder;
mod header;
mod keys;
mod reply;
mod rewrite;

use std::sync::Arc;

use crate::codec::{After, Codec, Decoder, Hop, KeySpec, Leave, Protocol, Side, known};
use crate::detect::{CERTAIN, Probe};
use crate::error::DecodeError;
use crate::frame::{Exchange, Fault, Head, ReplyTo};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::mutation::{Change, Mutable, Unchangeable};
use crate::shared;

/// The name in configs and metadata.
const NAME: &str = "bolt";

/// Bytes of the largest message with a checksum: it has to be in memory at once.
pub const LARGEST_CHECKED: u64 = 16 << 20;

/// The protocol.
pub struct Bolt;

const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::SERVICE,
    shared::METHOD,
    shared::SIZE,
    KeySpec::family("header.", "a text of the header block", "header.rpc_trace_context.sofaRpcId"),
    KeySpec::key(
        "class",
        "the class of the content",
        "com.alipay.sofa.rpc.core.request.SofaRequest",
    ),
    KeySpec::key("codec", "how the content is written", "hessian2"),
    KeySpec::key("timeout", "requests: how long the client waits, in milliseconds", "3000"),
    KeySpec::key("target-app", "the application that is asked for", "orders"),
    KeySpec::key("bolt.version", "1, or 2", "2"),
    KeySpec::key("status", "replies: the status", "0"),
];

impl Protocol for Bolt {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Nothing else begins so: as the length of a Thrift or TARS message, these
    /// bytes would pass what either allows.
    fn probe(&self, prefix: &[u8]) -> Probe {
        match header::opening(prefix) {
            Ok(_) => Probe::Yes { confidence: CERTAIN },
            Err(header::Unread::Short(need)) => Probe::Maybe { need },
            Err(header::Unread::Bad(..)) => Probe::No,
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

    fn set_correlation(&self, head: &mut [u8], id: u64) {
        header::set_id(head, id as u32);
    }

    fn relay(&self, _: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(bytes);
        finish(out.get_mut(start..).unwrap_or_default(), hop);
    }

    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        _: &str,
        out: &mut Vec<u8>,
    ) -> After {
        reply::status(to, reply::of(fault), out);
        After::Keep
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        if let Some(to) = error.reply_to {
            reply::status(to, reply::CODEC_EXCEPTION, out);
        }
    }

    fn answer(&self, head: &Head, _: &[u8], out: &mut Vec<u8>) {
        reply::heartbeat(head.reply_to, out);
    }

    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        reply::probe(id as u32, out);
        true
    }

    fn mutable(&self) -> &'static [Mutable] {
        const { &[Mutable::family(rewrite::FAMILY)] }
    }

    fn rewrite(
        &self,
        _: &Head,
        bytes: &[u8],
        hop: &Hop,
        changes: &[Change<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        let start = out.len();
        rewrite::message(bytes, hop.id, changes, out)?;
        finish(out.get_mut(start..).unwrap_or_default(), hop);
        Ok(())
    }
}

/// Writes what the hop asks for into a message.
fn finish(message: &mut [u8], hop: &Hop) {
    if let Some(timeout) = hop.timeout {
        header::set_timeout(message, timeout);
    }
    // This makes the checksum too.
    match (hop.id, hop.timeout) {
        (Some(id), _) => header::set_id(message, id as u32),
        (None, Some(_)) => {
            if let Ok(header) = header::read(message) {
                header::set_id(message, header.id);
            }
        }
        (None, None) => {}
    }
}

struct Compiled(Arc<decoder::Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(decoder::BoltDecoder::new(self.0.clone(), side))
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<decoder::BoltDecoder>(decoder) else { return false };
        decoder.retarget(self.0.clone());
        true
    }

    /// MOSN's command, which is of version 1 and which SOFABolt's own clients do not know.
    fn leave(&self, spoke: ReplyTo, out: &mut Vec<u8>) -> Leave {
        if !self.0.limits.bolt_go_away || header::Form::from_token(spoke.token).v2() {
            return Leave::Silent;
        }
        reply::go_away(out);
        Leave::Told
    }
}

#[cfg(test)]
mod tests;
