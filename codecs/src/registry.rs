//! The protocols there are.

use crate::codec::{KeySpec, Protocol};

/// The protocols a build knows, in the order that settles ties of detection.
///
/// A program that links this crate adds its own with [`Registry::with`]; nothing
/// else is needed for the proxy to detect, route and carry it.
#[derive(Clone)]
pub struct Registry {
    protocols: Vec<&'static dyn Protocol>,
}

impl Registry {
    /// Every protocol of this crate: one line each.
    pub fn builtin() -> Self {
        Self {
            protocols: vec![
                &crate::dubbo::Dubbo,
                &crate::thrift::Thrift,
                &crate::bolt::Bolt,
                &crate::tls::Tls,
                &crate::http::Http,
                &crate::mqtt::Mqtt,
                &crate::redis::Redis,
            ],
        }
    }

    /// No protocol at all, to be filled by [`Registry::with`].
    pub fn empty() -> Self {
        Self { protocols: Vec::new() }
    }

    /// Adds `protocol`, after those there are; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, protocol: &'static dyn Protocol) -> Self {
        self.protocols.retain(|had| had.name() != protocol.name());
        self.protocols.push(protocol);
        self
    }

    /// The protocol called `name`.
    pub fn get(&self, name: &str) -> Option<&'static dyn Protocol> {
        self.protocols.iter().find(|protocol| protocol.name() == name).copied()
    }

    /// All protocols, in detection order.
    pub fn protocols(&self) -> &[&'static dyn Protocol] {
        &self.protocols
    }

    /// Every key any protocol fills, first mention only.
    pub fn keys(&self) -> Vec<&'static KeySpec> {
        let mut keys: Vec<&'static KeySpec> = Vec::new();
        for key in self.protocols.iter().flat_map(|protocol| protocol.keys()) {
            if !keys.iter().any(|had| had.name == key.name) {
                keys.push(key);
            }
        }
        keys
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.protocols.iter().map(|protocol| protocol.name())).finish()
    }
}
