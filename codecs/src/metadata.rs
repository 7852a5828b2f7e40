//! Key/value facts about one message, reused from message to message.

use crate::interest::{Interest, Slot};

/// Where one value lives. Twenty-four bytes, so that clearing a table of them is cheap.
#[derive(Debug, Clone, Copy, Default)]
enum Value {
    #[default]
    Absent,
    /// A span of the buffer that was decoded.
    Span {
        start: u32,
        len: u32,
    },
    /// A span of [`Metadata::arena`]: a value that had to be computed.
    Computed {
        start: u32,
        len: u32,
    },
    Static(&'static str),
}

/// The facts a decoder found in the current message: one value per [`Slot`] of
/// the [`Interest`] it was made for.
///
/// Values are spans of the decoded buffer wherever the wire form is the value,
/// so a reader passes that buffer along ([`Metadata::view`]). All numbers are
/// kept as decimal text: rules compare text, and parse where they compare ranges.
///
/// Nothing is allocated per message once the arena has grown to its working size.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    values: Vec<Value>,
    arena: Vec<u8>,
    extras: Vec<(Value, Value)>,
    /// Slots from here on survive `clear`: facts about the connection.
    kept: Vec<(Slot, Value)>,
    kept_arena: usize,
    /// The fact that no decoder overrules.
    pinned: Option<Slot>,
}

impl Metadata {
    /// An empty table for `interest`.
    pub fn new(interest: &Interest) -> Self {
        Self { values: vec![Value::Absent; interest.len()], ..Self::default() }
    }

    /// Forgets the message's values; facts set by [`Metadata::keep`] stay.
    pub fn clear(&mut self) {
        self.values.fill(Value::Absent);
        self.arena.truncate(self.kept_arena);
        self.extras.clear();
        for (slot, value) in &self.kept {
            if let Some(place) = self.values.get_mut(usize::from(slot.0)) {
                *place = *value;
            }
        }
    }

    /// Forgets everything, kept facts too.
    pub fn reset(&mut self) {
        self.kept.clear();
        self.pinned = None;
        self.kept_arena = 0;
        self.clear();
    }

    /// Sets a fact about the connection (listener, source address) that every
    /// later message carries. Call it between messages only.
    pub fn keep(&mut self, slot: Slot, text: &[u8]) {
        self.arena.truncate(self.kept_arena);
        let value = self.compute(text);
        self.kept_arena = self.arena.len();
        self.kept.push((slot, value));
        self.put(slot, value);
    }

    /// Sets a fact that decoders cannot know better, such as that the connection
    /// came over TLS: what they say of `slot` is ignored. There is one such slot.
    pub fn pin(&mut self, slot: Slot, text: &[u8]) {
        self.keep(slot, text);
        self.pinned = Some(slot);
    }

    fn put(&mut self, slot: Slot, value: Value) {
        if self.pinned == Some(slot) {
            return;
        }
        if let Some(place) = self.values.get_mut(usize::from(slot.0)) {
            *place = value;
        }
    }

    fn compute(&mut self, text: &[u8]) -> Value {
        let start = self.arena.len();
        self.arena.extend_from_slice(text);
        span(start, text.len(), |start, len| Value::Computed { start, len })
    }

    /// The value is `len` bytes of the decoded buffer from `start`.
    pub fn set_span(&mut self, slot: Slot, start: usize, len: usize) {
        let value = span(start, len, |start, len| Value::Span { start, len });
        self.put(slot, value);
    }

    /// The value is one of the codec's own constants.
    pub fn set_static(&mut self, slot: Slot, text: &'static str) {
        self.put(slot, Value::Static(text));
    }

    /// The message has no such value after all.
    pub fn unset(&mut self, slot: Slot) {
        self.put(slot, Value::Absent);
    }

    /// The value had to be computed (lower-cased, joined, unescaped); it is copied.
    pub fn set_text(&mut self, slot: Slot, text: &[u8]) {
        let value = self.compute(text);
        self.put(slot, value);
    }

    /// The value is a number, kept as decimal text.
    pub fn set_number(&mut self, slot: Slot, number: i128) {
        use std::io::Write;
        let start = self.arena.len();
        // Writing to a Vec cannot fail.
        let _ = write!(self.arena, "{number}");
        let len = self.arena.len() - start;
        self.put(slot, span(start, len, |start, len| Value::Computed { start, len }));
    }

    /// A member of an open family that has no slot, copied; used only where
    /// [`Interest::wants_everything`].
    pub fn push_extra(&mut self, name: &str, value: &[u8]) {
        let name = self.compute(name.as_bytes());
        let value = self.compute(value);
        self.extras.push((name, value));
    }

    /// The values, readable beside the buffer they were decoded from.
    pub fn view<'a>(&'a self, buf: &'a [u8]) -> View<'a> {
        View { metadata: self, buf }
    }
}

/// Spans that do not fit 32 bits cannot arise: heads are bounded far below. If
/// one did, the value would be empty rather than wrong.
fn span(start: usize, len: usize, make: impl Fn(u32, u32) -> Value) -> Value {
    match (u32::try_from(start), u32::try_from(len)) {
        (Ok(start), Ok(len)) => make(start, len),
        _ => Value::Absent,
    }
}

/// [`Metadata`] beside the buffer its spans point into.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    metadata: &'a Metadata,
    buf: &'a [u8],
}

impl<'a> View<'a> {
    /// The value in `slot`, if the message has one.
    pub fn get(&self, slot: Slot) -> Option<&'a [u8]> {
        self.resolve(*self.metadata.values.get(usize::from(slot.0))?)
    }

    fn resolve(&self, value: Value) -> Option<&'a [u8]> {
        let of = |bytes: &'a [u8], start: u32, len: u32| {
            let start = start as usize;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        match value {
            Value::Absent => None,
            Value::Span { start, len } => of(self.buf, start, len),
            Value::Computed { start, len } => of(&self.metadata.arena, start, len),
            Value::Static(text) => Some(text.as_bytes()),
        }
    }

    /// Every value, with its key: slots first, in slot order, then extras.
    pub fn iter<'i>(
        &'i self,
        interest: &'i Interest,
    ) -> impl Iterator<Item = (&'i str, &'a [u8])> + 'i {
        let slots = interest
            .names()
            .enumerate()
            .filter_map(|(at, name)| Some((name, self.get(Slot(u16::try_from(at).ok()?))?)));
        let extras = self.metadata.extras.iter().filter_map(|(name, value)| {
            let name = std::str::from_utf8(self.resolve(*name)?).ok()?;
            Some((name, self.resolve(*value)?))
        });
        slots.chain(extras)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_with_the_message_and_kept_facts_stay() {
        let interest = Interest::of(["listener", "method", "size", "path"]);
        let mut meta = Metadata::new(&interest);
        meta.keep(Slot(0), b"edge");
        meta.set_static(Slot(1), "GET");
        meta.set_number(Slot(2), 42);
        meta.set_span(Slot(3), 4, 2);
        let view = meta.view(b"GET /a HTTP");
        assert_eq!(view.get(Slot(0)), Some(&b"edge"[..]));
        assert_eq!(view.get(Slot(2)), Some(&b"42"[..]));
        assert_eq!(view.get(Slot(3)), Some(&b"/a"[..]));
        meta.clear();
        assert_eq!(meta.view(b"").get(Slot(0)), Some(&b"edge"[..]));
        assert_eq!(meta.view(b"").get(Slot(1)), None);
    }

    #[test]
    fn a_pinned_fact_is_not_overruled() {
        let mut meta = Metadata::new(&Interest::of(["scheme"]));
        meta.pin(Slot(0), b"https");
        meta.clear();
        meta.set_static(Slot(0), "http");
        assert_eq!(meta.view(b"").get(Slot(0)), Some(&b"https"[..]));
    }

    #[test]
    fn a_span_outside_the_buffer_is_no_value() {
        let mut meta = Metadata::new(&Interest::of(["a"]));
        meta.set_span(Slot(0), 3, 9);
        assert_eq!(meta.view(b"short").get(Slot(0)), None);
    }
}
