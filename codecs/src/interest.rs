//! The keys that somebody will look at, so that decoders skip all others.

use std::collections::HashMap;

/// Index of a wanted key; where [`crate::Metadata`] keeps its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// The set of metadata keys that routes, hashes, limits and logs really use.
/// Compiled with the config and handed to every codec, which resolves its keys
/// to [`Slot`]s once and then parses no deeper than those need.
///
/// Names are matched without regard to ASCII case.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    names: Vec<Box<str>>,
    slots: HashMap<Box<str>, Slot>,
    everything: bool,
}

impl Interest {
    /// Nothing is wanted: decoders only frame.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These keys are wanted, in slot order; duplicates share a slot.
    pub fn of<S: AsRef<str>>(keys: impl IntoIterator<Item = S>) -> Self {
        let mut interest = Self::default();
        for key in keys {
            interest.add(key.as_ref());
        }
        interest
    }

    /// Every key is wanted, those of open families (`header.NAME`) too: for
    /// tools that show all there is. `fixed` names the keys known beforehand.
    pub fn everything<S: AsRef<str>>(fixed: impl IntoIterator<Item = S>) -> Self {
        Self { everything: true, ..Self::of(fixed) }
    }

    /// Wants `key` too; its slot. At most 65,535 keys; later ones share the last slot.
    pub fn add(&mut self, key: &str) -> Slot {
        let lower: Box<str> = key.to_ascii_lowercase().into();
        if let Some(slot) = self.slots.get(&lower) {
            return *slot;
        }
        let slot = Slot(u16::try_from(self.names.len()).unwrap_or(u16::MAX));
        self.names.push(key.into());
        self.slots.insert(lower, slot);
        slot
    }

    /// The slot of `key`, if it is wanted.
    pub fn slot(&self, key: &str) -> Option<Slot> {
        self.slots.get(key).or_else(|| self.slots.get(key.to_ascii_lowercase().as_str())).copied()
    }

    /// The wanted members of a family: for `"header."`, each wanted `header.NAME`
    /// as (lower-case `NAME`, slot).
    pub fn family(&self, prefix: &str) -> Vec<(Box<str>, Slot)> {
        let mut members: Vec<(Box<str>, Slot)> = self
            .slots
            .iter()
            .filter_map(|(name, slot)| Some((name.strip_prefix(prefix)?.into(), *slot)))
            .collect();
        members.sort();
        members
    }

    /// Whether members of families that have no slot are wanted as well
    /// ([`crate::Metadata::push_extra`]).
    pub fn wants_everything(&self) -> bool {
        self.everything
    }

    /// The wanted keys in slot order, as they were first written.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_any_case_and_has_one_slot() {
        let mut interest = Interest::of(["method", "Header.X-Tenant", "METHOD"]);
        assert_eq!(interest.len(), 2);
        assert_eq!(interest.slot("Method"), Some(Slot(0)));
        assert_eq!(interest.family("header."), vec![("x-tenant".into(), Slot(1))]);
        assert_eq!(interest.add("path"), Slot(2));
        assert_eq!(interest.slot("absent"), None);
    }
}
