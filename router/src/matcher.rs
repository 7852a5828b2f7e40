//! What a predicate can ask of one value. (Skeleton: the router is being written.)
use polyport_codecs::{Slot, View};

/// A question about one value.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Equal, byte for byte.
    Exact(Box<[u8]>),
}

/// A matcher on one key.
#[derive(Debug, Clone)]
pub struct Predicate {
    /// The key.
    pub slot: Slot,
    /// The question.
    pub matcher: Matcher,
}

impl Predicate {
    /// Whether the message satisfies it.
    pub fn holds(&self, view: &View<'_>) -> bool {
        match &self.matcher {
            Matcher::Exact(want) => view.get(self.slot) == Some(&want[..]),
        }
    }
}
