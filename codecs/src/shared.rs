//! The keys that every protocol fills, so that one rule can serve all.

use crate::codec::KeySpec;
use crate::frame::Kind;
use crate::interest::{Interest, Slot};
use crate::metadata::Metadata;

/// `protocol`, as every codec documents it.
pub const PROTOCOL: KeySpec = KeySpec::key("protocol", "name of the detected protocol", "redis");
/// `kind`, as every codec documents it.
pub const KIND: KeySpec = KeySpec::key("kind", "request, oneway, heartbeat, …", "request");
/// `service`, as every codec documents it.
pub const SERVICE: KeySpec =
    KeySpec::key("service", "what is called: Dubbo interface, HTTP host", "com.shop.Orders");
/// `method`, as every codec documents it.
pub const METHOD: KeySpec =
    KeySpec::key("method", "how it is called: Dubbo or HTTP method, Redis command", "find");
/// `size`, as every codec documents it.
pub const SIZE: KeySpec =
    KeySpec::key("size", "bytes of the message, where they are known beforehand", "120");

/// Slots of the shared keys; `None` where nobody asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SharedSlots {
    protocol: Option<Slot>,
    kind: Option<Slot>,
    pub(crate) service: Option<Slot>,
    pub(crate) method: Option<Slot>,
    size: Option<Slot>,
}

impl SharedSlots {
    pub(crate) fn new(interest: &Interest) -> Self {
        Self {
            protocol: interest.slot("protocol"),
            kind: interest.slot("kind"),
            service: interest.slot("service"),
            method: interest.slot("method"),
            size: interest.slot("size"),
        }
    }

    /// Fills what is known of any message.
    pub(crate) fn fill(
        &self,
        meta: &mut Metadata,
        protocol: &'static str,
        kind: Kind,
        size: Option<u64>,
    ) {
        if let Some(slot) = self.protocol {
            meta.set_static(slot, protocol);
        }
        if let Some(slot) = self.kind {
            meta.set_static(slot, kind.as_str());
        }
        if let (Some(slot), Some(size)) = (self.size, size) {
            meta.set_number(slot, i128::from(size));
        }
    }
}
