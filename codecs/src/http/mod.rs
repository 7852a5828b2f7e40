//! Placeholder; the codec's folder is being written.

use std::sync::Arc;

use crate::codec::{After, Codec, KeySpec, Protocol};
use crate::detect::Probe;
use crate::frame::{Exchange, Fault, ReplyTo};
use crate::interest::Interest;
use crate::limits::Limits;

/// The protocol.
pub struct Http;

impl Protocol for Http {
    fn name(&self) -> &'static str {
        "http"
    }
    fn probe(&self, _prefix: &[u8]) -> Probe {
        Probe::No
    }
    fn exchange(&self) -> Exchange {
        Exchange::Ordered { shared: false }
    }
    fn keys(&self) -> &'static [KeySpec] {
        &[]
    }
    fn compile(&self, _limits: &Limits, _interest: &Interest) -> Arc<dyn Codec> {
        unimplemented!()
    }
    fn local_reply(&self, _: ReplyTo, _: Fault, _: &str, _: &mut Vec<u8>) -> After {
        After::Close
    }
}
