//! Dubbo 2. Correlated by the 64-bit id of its 16-byte [`header`].
//!
//! A request's [`body`] is read no deeper than the wanted keys need: from the
//! header alone, over four short strings, to the attachments, for which the
//! arguments between are skipped as the type descriptor counts them. [`rewrite`] passes
//! a message on with other attachments; [`reply`] speaks for the proxy; [`call`]
//! makes and reads whole messages for tools and tests.

mod body;
pub mod call;
mod deadline;
mod decoder;
mod header;
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
const NAME: &str = "dubbo";

/// The largest body its peers accept by default.
const LARGEST_BODY: u64 = 8 << 20;

/// The protocol.
pub struct Dubbo;

const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::SERVICE,
    shared::METHOD,
    shared::SIZE,
    KeySpec::key("interface", "the service's interface, the same as service", "com.shop.Orders"),
    KeySpec::key(
        "path",
        "the service's path, the same unless the service renames it",
        "com.shop.Orders",
    ),
    KeySpec::key("version", "the service's version", "1.0.0"),
    KeySpec::key("group", "the attachment of that name", "blue"),
    KeySpec::key("dubbo.version", "the version of Dubbo that the client speaks", "2.0.2"),
    KeySpec::key("serialization", "how the body is written", "hessian2"),
    KeySpec::key("parameter-types", "the descriptor of the parameters", "Ljava/lang/String;"),
    KeySpec::key("generic.method", "what a generic call ($invoke) really calls", "find"),
    KeySpec::family(
        "attachment.",
        "an attachment whose value is text, a number or a truth value",
        "attachment.tenant",
    ),
];

impl Protocol for Dubbo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        match prefix {
            [] | [0xda] => Probe::Maybe { need: 2 },
            [0xda, 0xbb, ..] => Probe::Yes { confidence: CERTAIN },
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

    fn set_correlation(&self, head: &mut [u8], id: u64) {
        if let Some(place) = head.get_mut(4..12) {
            place.copy_from_slice(&id.to_be_bytes());
        }
    }

    fn relay(&self, _: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        let start = out.len();
        if hop.timeout.is_none_or(|timeout| !rewrite::lower(bytes, timeout, out)) {
            out.extend_from_slice(bytes);
        }
        if let (Some(id), Some(head)) = (hop.id, out.get_mut(start..)) {
            self.set_correlation(head, id);
        }
    }

    /// Attachments are behind the arguments.
    fn deadline(&self) -> Option<&'static str> {
        Some(deadline::DEADLINE)
    }

    fn mutable(&self) -> &'static [Mutable] {
        const { &[Mutable::family("attachment.")] }
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
        rewrite::rewrite(bytes, hop.id, changes, out)?;
        if let Some(timeout) = hop.timeout {
            let changed = out.split_off(start);
            if !rewrite::lower(&changed, timeout, out) {
                out.extend_from_slice(&changed);
            }
        }
        Ok(())
    }

    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After {
        reply::local(to, fault, why, out)
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        if let Some(to) = error.reply_to {
            reply::error(to, reply::BAD_REQUEST, &error.reason, out);
        }
    }

    fn answer(&self, head: &Head, message: &[u8], out: &mut Vec<u8>) {
        reply::heartbeat(head.reply_to, message, out);
    }

    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        header::write(header::REQUEST | header::TWO_WAY | header::EVENT | 2, 0, id, b"N", out);
        true
    }
}

struct Compiled(Arc<decoder::Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(decoder::DubboDecoder::new(self.0.clone(), side))
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<decoder::DubboDecoder>(decoder) else { return false };
        decoder.retarget(self.0.clone());
        true
    }

    /// The event that Dubbo's own servers send before they stop.
    fn leave(&self, spoke: ReplyTo, out: &mut Vec<u8>) -> Leave {
        reply::read_only(spoke, out);
        Leave::Told
    }
}

#[cfg(test)]
mod tests;
