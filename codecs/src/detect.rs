//! Which protocol a connection speaks, from its first bytes.

use crate::codec::Protocol;

/// What one protocol says of the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Not this protocol, whatever follows.
    No,
    /// Cannot say before the prefix holds at least `need` bytes (always more than it holds).
    Maybe {
        /// Length of prefix to ask again with.
        need: usize,
    },
    /// It is this protocol; 255 ([`CERTAIN`]) where no other could begin so.
    Yes {
        /// Certainty, for choosing among several that say yes.
        confidence: u8,
    },
}

/// Confidence at which detection stops asking others.
pub const CERTAIN: u8 = 255;

/// The outcome of detection.
#[derive(Clone, Copy)]
pub enum Detection {
    /// The connection speaks this protocol.
    Matched(&'static dyn Protocol),
    /// Ask again when the prefix is at least so long.
    Need(usize),
    /// No enabled protocol begins so.
    Unmatched,
}

/// Asks `protocols` about `prefix`.
///
/// A certain yes wins at once, the first in order where two are certain. Else
/// detection waits while any protocol may still say yes; then the most confident
/// yes wins, and among equals the first in order.
pub fn detect(protocols: &[&'static dyn Protocol], prefix: &[u8]) -> Detection {
    let mut best: Option<(u8, &'static dyn Protocol)> = None;
    let mut wait: Option<usize> = None;
    for protocol in protocols {
        match protocol.probe(prefix) {
            Probe::No => {}
            Probe::Yes { confidence: CERTAIN } => return Detection::Matched(*protocol),
            Probe::Yes { confidence } => {
                if best.is_none_or(|(had, _)| confidence > had) {
                    best = Some((confidence, *protocol));
                }
            }
            Probe::Maybe { need } => {
                let need = need.max(prefix.len() + 1);
                wait = Some(wait.map_or(need, |w| w.min(need)));
            }
        }
    }
    match (wait, best) {
        (Some(need), _) => Detection::Need(need),
        (None, Some((_, protocol))) => Detection::Matched(protocol),
        (None, None) => Detection::Unmatched,
    }
}
