//! Which facts somebody wants, and where in a message they are.

use super::NAME;
use super::block::{self, Broken};
use super::header::{self, Header};
use crate::frame::Kind;
use crate::interest::{Interest, Slot};
use crate::metadata::Metadata;
use crate::shared::SharedSlots;

const SERVICE: &str = "service";
const TARGET_SERVICE: &str = "sofa_head_target_service";
const METHOD: &str = "sofa_head_method_name";
const TARGET_APP: &str = "sofa_head_target_app";

/// Slots, resolved once per config.
pub(super) struct Keys {
    shared: SharedSlots,
    class: Option<Slot>,
    codec: Option<Slot>,
    timeout: Option<Slot>,
    version: Option<Slot>,
    status: Option<Slot>,
    /// Names of the header block that are wanted, in lower case.
    names: Vec<Name>,
    everything: bool,
}

struct Name {
    name: Box<str>,
    /// `header.NAME`, and a key of its own where it has one.
    slots: Vec<Slot>,
}

/// Why a header block is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) usize, pub(super) &'static str);

/// What the reader of blocks keeps between messages, so that its place is.
#[derive(Default)]
pub(super) struct Found {
    /// For each of [`Keys::names`] where its last value is, and its spelling.
    values: Vec<Option<Place>>,
}

#[derive(Clone)]
struct Place {
    name: std::ops::Range<usize>,
    value: Option<std::ops::Range<usize>>,
}

impl Keys {
    pub(super) fn new(interest: &Interest) -> Self {
        let shared = SharedSlots::new(interest);
        let mut names: Vec<Name> = Vec::new();
        let mut want = |name: &str, slot: Option<Slot>| match names
            .iter_mut()
            .find(|had| *had.name == *name)
        {
            Some(had) => had.slots.extend(slot),
            None => names.push(Name { name: name.into(), slots: slot.into_iter().collect() }),
        };
        for (name, slot) in interest.family("header.") {
            want(&name, Some(slot));
        }
        if shared.method.is_some() {
            want(METHOD, shared.method);
        }
        if let Some(slot) = interest.slot("target-app") {
            want(TARGET_APP, Some(slot));
        }
        if shared.service.is_some() {
            // Which of the two it is shows when both have been looked for.
            want(SERVICE, None);
            want(TARGET_SERVICE, None);
        }
        Self {
            shared,
            class: interest.slot("class"),
            codec: interest.slot("codec"),
            timeout: interest.slot("timeout"),
            version: interest.slot("bolt.version"),
            status: interest.slot("status"),
            names,
            everything: interest.wants_everything(),
        }
    }

    /// Whether the header block is looked into.
    pub(super) fn need_block(&self) -> bool {
        self.everything || !self.names.is_empty()
    }

    /// Fills what the fixed part says; the class where it is within `shown`.
    pub(super) fn fill_header(
        &self,
        header: &Header,
        kind: Kind,
        shown: usize,
        meta: &mut Metadata,
    ) {
        self.shared.fill(meta, NAME, kind, Some(header.size()));
        if let Some(slot) = self.version {
            meta.set_static(slot, if header.form.v2() { "2" } else { "1" });
        }
        if let Some(slot) = self.codec {
            match header::codec(header.form.codec) {
                Some(name) => meta.set_static(slot, name),
                None => meta.set_number(slot, i128::from(header.form.codec)),
            }
        }
        let (slot, number) = if header.kind == header::RESPONSE {
            (self.status, i128::from(header.status))
        } else {
            (self.timeout, i128::from(header.timeout))
        };
        if let Some(slot) = slot {
            meta.set_number(slot, number);
        }
        if let Some(slot) = self.class
            && header.class > 0
            && header.block_at() <= shown
        {
            meta.set_span(slot, header.fixed(), usize::from(header.class));
        }
    }

    /// Fills what the header block says, which is `block`, from `at` in the buffer.
    ///
    /// A name that is there twice has its last value, as its readers put them in
    /// a map. Names are matched in any case, but theirs are not: a wanted one in
    /// two spellings could show a rule another value than its reader takes, so it
    /// is refused.
    pub(super) fn fill_block(
        &self,
        block: &[u8],
        at: usize,
        found: &mut Found,
        meta: &mut Metadata,
    ) -> Result<(), Refused> {
        let values = &mut found.values;
        values.clear();
        values.resize(self.names.len(), None);
        for entry in block::entries(block) {
            let entry = entry.map_err(|Broken(offset)| {
                Refused(at + offset, "a length in the header block that passes its end")
            })?;
            let Some(range) = entry.name else { continue };
            let name = block.get(range.clone()).unwrap_or_default();
            let wanted =
                self.names.iter().position(|want| want.name.as_bytes().eq_ignore_ascii_case(name));
            let Some(place) = wanted.and_then(|wanted| values.get_mut(wanted)) else {
                if self.everything {
                    self.extra(block, name, entry.value, meta);
                }
                continue;
            };
            if let Some(before) = place
                && block.get(before.name.clone()) != Some(name)
            {
                return Err(Refused(at + range.start, "one name in two spellings"));
            }
            *place = Some(Place { name: range, value: entry.value });
        }
        let mut service = None;
        for (wanted, place) in self.names.iter().zip(values.iter()) {
            let Some(value) = place.as_ref().and_then(|place| place.value.clone()) else {
                continue;
            };
            for slot in &wanted.slots {
                meta.set_span(*slot, at + value.start, value.len());
            }
            let named = *wanted.name == *SERVICE;
            if !value.is_empty()
                && (named || (service.is_none() && *wanted.name == *TARGET_SERVICE))
            {
                service = Some(value);
            }
        }
        if let (Some(slot), Some(value)) = (self.shared.service, service) {
            meta.set_span(slot, at + value.start, value.len());
        }
        Ok(())
    }

    fn extra(
        &self,
        block: &[u8],
        name: &[u8],
        value: Option<std::ops::Range<usize>>,
        meta: &mut Metadata,
    ) {
        let Some(value) = value.and_then(|value| block.get(value)) else { return };
        meta.push_extra(&format!("header.{}", String::from_utf8_lossy(name)), value);
    }
}
