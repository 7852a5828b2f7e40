//! What a client's packets lean on: what its CONNECT said, and its topic aliases.

use std::collections::HashMap;

use super::connect::Connect;
use super::packet::Version;
use super::wire::{Bad, forbidden, reason};

/// Aliases that one client may have. Brokers allow ten or so by default; each
/// costs memory here for as long as the connection lasts.
const MOST_ALIASES: usize = 1024;

/// Bytes of all topics that a client's aliases stand for.
const MOST_BYTES: usize = 64 << 10;

/// A client's session, from its CONNECT on.
pub(super) struct Session {
    pub(super) version: Version,
    /// Whether the client takes no packet of the length that a reason may have.
    pub(super) terse: bool,
    /// Kept even where nobody asks, as another config may: CONNECT is said once.
    pub(super) client_id: Option<Box<[u8]>>,
    pub(super) username: Option<Box<[u8]>>,
    pub(super) aliases: Aliases,
}

impl Session {
    pub(super) fn new(connect: &Connect<'_>) -> Self {
        let id = connect.client_id.bytes;
        Self {
            version: connect.version,
            terse: terse(connect),
            client_id: (!id.is_empty()).then(|| id.into()),
            username: connect.username.map(|username| username.bytes.into()),
            aliases: Aliases::default(),
        }
    }
}

/// Whether a packet with a reason in words may be larger than the client takes.
pub(super) fn terse(connect: &Connect<'_>) -> bool {
    connect.properties.maximum_packet.is_some_and(|most| most < 256)
}

/// The topics that a client's aliases stand for (MQTT 5.0, section 3.3.2.3.4).
#[derive(Default)]
pub(super) struct Aliases {
    topics: HashMap<u16, Box<[u8]>>,
    bytes: usize,
}

impl Aliases {
    /// The topic of `alias`.
    pub(super) fn get(&self, alias: u16, at: usize) -> Result<&[u8], Bad> {
        self.topics.get(&alias).map(AsRef::as_ref).ok_or(forbidden(at, "an unknown topic alias"))
    }

    /// From now on `alias` stands for `topic`; whether that is new. At `at` is what to refuse.
    pub(super) fn set(&mut self, alias: u16, topic: &[u8], at: usize) -> Result<bool, Bad> {
        let had = self.topics.get(&alias).map(AsRef::as_ref);
        if had == Some(topic) {
            return Ok(false);
        }
        let bytes = self.bytes - had.map_or(0, <[u8]>::len) + topic.len();
        let count = self.topics.len() + usize::from(had.is_none());
        if count > MOST_ALIASES || bytes > MOST_BYTES {
            return Err(Bad { at, status: reason::BAD_ALIAS, why: "too many topic aliases" });
        }
        self.bytes = bytes;
        self.topics.insert(alias, topic.into());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_bounded_in_number_and_in_bytes() {
        let mut aliases = Aliases::default();
        for alias in 0..MOST_ALIASES as u16 {
            assert_eq!(aliases.set(alias, b"a", 0), Ok(true));
        }
        assert!(aliases.set(MOST_ALIASES as u16, b"a", 0).is_err());
        assert_eq!(aliases.set(0, b"a", 0), Ok(false));
        let mut aliases = Aliases::default();
        assert_eq!(aliases.set(1, &[b'a'; 60_000], 0), Ok(true));
        assert!(aliases.set(2, &[b'a'; 6_000], 0).is_err());
        assert_eq!(aliases.set(1, b"b", 0), Ok(true));
        assert_eq!(aliases.set(2, &[b'a'; 6_000], 0), Ok(true));
        assert_eq!(aliases.get(1, 0), Ok(&b"b"[..]));
        assert!(aliases.get(3, 0).is_err());
    }
}
