//! TLS that is passed through: routed by the server name in its first message, and
//! never decrypted.
//!
//! [`client_hello`] reads that message (RFC 8446, section 4.1.2); from then on all bytes of
//! both directions are the session's own. Where a client encrypts its hello
//! (ECH), the name is that of the outer one, which is meant to be routed by.

mod decoder;
mod hello;

use std::sync::Arc;

pub use hello::{ClientHello, Hello, LONGEST, client_hello};

use crate::codec::{After, Codec, Decoder, KeySpec, Protocol, Side};
use crate::detect::{CERTAIN, Probe};
use crate::error::DecodeError;
use crate::frame::{Exchange, Fault, ReplyTo};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::shared;

/// The name in configs and metadata.
const NAME: &str = "tls";

/// The protocol.
pub struct Tls;

const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    KeySpec::key(
        "tls.sni",
        "the server name that the client asks for, lower case, without a final dot",
        "shop.example",
    ),
    KeySpec::key(
        "tls.alpn",
        "the protocols that the client offers, its favourite first, joined by commas",
        "h2,http/1.1",
    ),
];

/// Alert descriptions (RFC 8446, section 6.2; RFC 6066, section 3).
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

impl Protocol for Tls {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        match hello::opening(prefix) {
            Some(true) => Probe::Yes { confidence: CERTAIN },
            Some(false) => Probe::No,
            None => Probe::Maybe { need: prefix.len() + 1 },
        }
    }

    fn exchange(&self) -> Exchange {
        Exchange::Session
    }

    fn keys(&self) -> &'static [KeySpec] {
        KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        Arc::new(Compiled(Arc::new(decoder::Plan::new(limits, interest))))
    }

    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        _: &str,
        out: &mut Vec<u8>,
    ) -> After {
        let description = match fault {
            Fault::NoRoute => UNRECOGNIZED_NAME,
            Fault::Denied => ACCESS_DENIED,
            _ => INTERNAL_ERROR,
        };
        alert(description, to.token, out);
        After::Close
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        // What was no hello at all has no status: its sender would not understand an alert.
        if error.status != 0 {
            alert(DECODE_ERROR, 0, out);
        }
    }
}

/// Appends a fatal alert of the version that the client's hello named; 0: any.
fn alert(description: u8, version: u64, out: &mut Vec<u8>) {
    let minor = match version {
        0x0300..=0x0303 => version as u8,
        _ => 3,
    };
    out.extend_from_slice(&[0x15, 3, minor, 0, 2, 2, description]);
}

struct Compiled(Arc<decoder::Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(decoder::TlsDecoder::new(self.0.clone(), side))
    }
}

#[cfg(test)]
mod tests;
