//! What a request's body says, as far as somebody wants to know.

use super::NAME;
use super::deadline::{self, DEADLINE};
use super::header::{self, Header};
use crate::frame::Kind;
use crate::hessian::{Reader, Scalar, Skipper, Stop, Text};
use crate::interest::{Interest, Slot};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::shared::SharedSlots;

/// How deep the wanted keys reach; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Header,
    DubboVersion,
    Path,
    Version,
    Method,
    ParameterTypes,
    Attachments,
}

/// Slots, resolved once per config.
pub(super) struct Keys {
    shared: SharedSlots,
    serialization: Option<Slot>,
    dubbo_version: Option<Slot>,
    /// `interface`, `path` and `service` are one value.
    paths: Vec<Slot>,
    version: Option<Slot>,
    methods: Vec<Slot>,
    parameter_types: Option<Slot>,
    generic_method: Option<Slot>,
    group: Option<Slot>,
    attachments: Vec<(Box<str>, Slot)>,
    /// How long the client waits is wanted.
    deadline: bool,
    everything: bool,
    depth: Depth,
}

impl Keys {
    pub(super) fn new(interest: &Interest) -> Self {
        let shared = SharedSlots::new(interest);
        let paths: Vec<Slot> = [interest.slot("interface"), interest.slot("path"), shared.service]
            .into_iter()
            .flatten()
            .collect();
        let mut keys = Self {
            shared,
            serialization: interest.slot("serialization"),
            dubbo_version: interest.slot("dubbo.version"),
            paths,
            version: interest.slot("version"),
            methods: shared.method.into_iter().collect(),
            parameter_types: interest.slot("parameter-types"),
            generic_method: interest.slot("generic.method"),
            group: interest.slot("group"),
            attachments: interest.family("attachment."),
            deadline: interest.slot(DEADLINE).is_some(),
            everything: interest.wants_everything(),
            depth: Depth::Header,
        };
        keys.depth = match () {
            () if keys.everything
                || keys.group.is_some()
                || keys.generic_method.is_some()
                || !keys.attachments.is_empty() =>
            {
                Depth::Attachments
            }
            () if keys.parameter_types.is_some() => Depth::ParameterTypes,
            () if !keys.methods.is_empty() => Depth::Method,
            () if keys.version.is_some() => Depth::Version,
            () if !keys.paths.is_empty() => Depth::Path,
            () if keys.dubbo_version.is_some() => Depth::DubboVersion,
            () => Depth::Header,
        };
        keys
    }

    /// Whether the header alone is not enough.
    pub(super) fn need_body(&self) -> bool {
        self.depth > Depth::Header
    }

    pub(super) fn fill_header(&self, header: &Header, kind: Kind, size: u64, meta: &mut Metadata) {
        self.shared.fill(meta, NAME, kind, Some(size));
        if let Some(slot) = self.serialization {
            let number = header.flags & header::SERIALIZATION;
            match header::serialization(number) {
                Some(name) => meta.set_static(slot, name),
                None => meta.set_number(slot, i128::from(number)),
            }
        }
    }
}

/// Reads bodies; kept between messages so that its vectors are.
pub(super) struct Body {
    skipper: Skipper,
    scratch: Vec<u8>,
    name: Vec<u8>,
    /// Whether the last body's fields were all read: what is short is behind them.
    pub(super) past_fields: bool,
    /// How long the last body's sender waits, ms; 0: it does not say, or nobody wants to know.
    pub(super) timeout: u32,
}

impl Body {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            skipper: Skipper::new(limits.depth, limits.elements),
            scratch: Vec::new(),
            name: Vec::new(),
            past_fields: false,
            timeout: 0,
        }
    }

    /// Fills what `keys` want from a message of which `buf` is the shown part.
    pub(super) fn read(
        &mut self,
        keys: &Keys,
        serialization: u8,
        buf: &[u8],
        meta: &mut Metadata,
    ) -> Result<(), Stop> {
        (self.past_fields, self.timeout) = (false, 0);
        match serialization {
            2 => self.hessian(keys, buf, meta),
            6 => json_lines(keys, buf, meta),
            // The header is all that can be read of any other.
            _ => Ok(()),
        }
    }

    fn hessian(&mut self, keys: &Keys, buf: &[u8], meta: &mut Metadata) -> Result<(), Stop> {
        self.skipper.begin();
        let mut reader = Reader::new(buf, header::LEN);
        let parts: [(Depth, &[Slot]); 4] = [
            (Depth::DubboVersion, keys.dubbo_version.as_slice()),
            (Depth::Path, &keys.paths),
            (Depth::Version, keys.version.as_slice()),
            (Depth::Method, &keys.methods),
        ];
        let mut generic = false;
        for (depth, slots) in parts {
            if keys.depth < depth {
                return Ok(());
            }
            // A service without a version has a null there.
            let Some(text) = reader.string(&mut self.scratch)? else { continue };
            for slot in slots {
                set(meta, *slot, text, &self.scratch);
            }
            if depth == Depth::Method {
                generic = reader.text(text, &self.scratch).starts_with(b"$invoke");
            }
        }
        if keys.depth < Depth::ParameterTypes {
            return Ok(());
        }
        let at = reader.at;
        let types = reader.string(&mut self.scratch)?;
        let count = match types {
            Some(text) => {
                if let Some(slot) = keys.parameter_types {
                    set(meta, slot, text, &self.scratch);
                }
                arguments(reader.text(text, &self.scratch))
                    .ok_or(Stop::Bad(at, "a type descriptor that describes no types"))?
            }
            None => 0,
        };
        if keys.depth < Depth::Attachments {
            return Ok(());
        }
        self.past_fields = true;
        for argument in 0..count {
            if let (0, true, Some(slot)) = (argument, generic, keys.generic_method) {
                let mut ahead = reader;
                if let Ok(Some(Scalar::Text(text))) = ahead.scalar(&mut self.scratch) {
                    set(meta, slot, text, &self.scratch);
                }
            }
            self.skipper.skip(&mut reader)?;
        }
        self.attachments(keys, buf, reader, meta)
    }

    fn attachments(
        &mut self,
        keys: &Keys,
        buf: &[u8],
        mut reader: Reader<'_>,
        meta: &mut Metadata,
    ) -> Result<(), Stop> {
        let begin = reader.at;
        // Some clients leave out an empty map.
        match buf.get(begin) {
            None => {
                return if begin >= buf.len() {
                    Err(Stop::Short).or_else(|_: Stop| whole_end(buf, begin))
                } else {
                    Ok(())
                };
            }
            Some(b'N') => return Ok(()),
            Some(b'H') => reader.at += 1,
            Some(b'M') => {
                reader.at += 1;
                map_type(&mut reader, &mut self.scratch)?;
            }
            Some(_) => {
                return Err(Stop::Bad(begin, "something else where the attachments should be"));
            }
        }
        loop {
            match buf.get(reader.at) {
                None => return Err(Stop::Short),
                Some(b'Z') => return Ok(()),
                Some(_) => {}
            }
            let mut ahead = reader;
            let Some(Scalar::Text(name)) = ahead.scalar(&mut self.name)? else {
                // A key that is no string: nobody can ask for it.
                self.skipper.skip(&mut reader)?;
                self.skipper.skip(&mut reader)?;
                continue;
            };
            reader = ahead;
            let name = reader.text(name, &self.name);
            let mut slots = [None, None];
            if name == b"group" {
                slots[0] = keys.group;
            }
            let wanted = keys
                .attachments
                .iter()
                .find(|(wanted, _)| wanted.as_bytes().eq_ignore_ascii_case(name));
            slots[1] = wanted.map(|(_, slot)| *slot);
            let waits = keys.deadline && deadline::is_name(name);
            if slots == [None, None] && !keys.everything && !waits {
                self.skipper.skip(&mut reader)?;
                continue;
            }
            let Some(value) = reader.scalar(&mut self.scratch)? else {
                self.skipper.skip(&mut reader)?;
                continue;
            };
            if waits {
                let says = deadline::millis(&value, &reader, &self.scratch);
                self.timeout = deadline::sooner(self.timeout, says);
            }
            for slot in slots.into_iter().flatten() {
                match value {
                    Scalar::Null => {}
                    Scalar::Bool(value) => {
                        meta.set_static(slot, if value { "true" } else { "false" });
                    }
                    Scalar::Integer(value) => meta.set_number(slot, i128::from(value)),
                    Scalar::Double(value) => meta.set_text(slot, value.to_string().as_bytes()),
                    Scalar::Text(text) => set(meta, slot, text, &self.scratch),
                }
            }
            if keys.everything && slots[1].is_none() {
                let shown = match value {
                    Scalar::Null => continue,
                    Scalar::Bool(value) => value.to_string().into_bytes(),
                    Scalar::Integer(value) => value.to_string().into_bytes(),
                    Scalar::Double(value) => value.to_string().into_bytes(),
                    Scalar::Text(text) => reader.text(text, &self.scratch).to_vec(),
                };
                meta.push_extra(&format!("attachment.{}", String::from_utf8_lossy(name)), &shown);
            }
        }
    }
}

/// Passes over a map's type: a name, or the number of one named before.
pub(super) fn map_type(reader: &mut Reader<'_>, scratch: &mut Vec<u8>) -> Result<(), Stop> {
    let begin = reader.at;
    if reader.int().is_err() {
        reader.at = begin;
        reader.string(scratch)?;
    }
    Ok(())
}

/// A whole message may end where its attachments would begin; part of one may not.
fn whole_end(buf: &[u8], at: usize) -> Result<(), Stop> {
    let whole = header::read(buf).is_some_and(|header| header.body as usize + header::LEN == at);
    if whole { Ok(()) } else { Err(Stop::Short) }
}

fn set(meta: &mut Metadata, slot: Slot, text: Text, scratch: &[u8]) {
    match text {
        Text::Span(start, len) => meta.set_span(slot, start, len),
        Text::Joined => meta.set_text(slot, scratch),
    }
}

/// How many arguments a descriptor describes: each primitive and each `L…;` is
/// one, and a `[` is part of what follows it.
pub(super) fn arguments(descriptor: &[u8]) -> Option<usize> {
    let mut count = 0;
    let mut rest = descriptor;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'[' if rest.is_empty() => return None,
            b'[' => continue,
            b'L' => {
                let end = memchr::memchr(b';', rest)?;
                rest = rest.get(end + 1..)?;
            }
            b'V' | b'Z' | b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' => {}
            _ => return None,
        }
        count += 1;
    }
    Some(count)
}

/// fastjson writes one JSON value a line; the first five are strings.
///
/// One with escapes is refused: a server would undo them, so rules would see
/// another name than it does.
fn json_lines(keys: &Keys, buf: &[u8], meta: &mut Metadata) -> Result<(), Stop> {
    let parts: [(Depth, &[Slot]); 5] = [
        (Depth::DubboVersion, keys.dubbo_version.as_slice()),
        (Depth::Path, &keys.paths),
        (Depth::Version, keys.version.as_slice()),
        (Depth::Method, &keys.methods),
        (Depth::ParameterTypes, keys.parameter_types.as_slice()),
    ];
    let mut at = header::LEN;
    for (depth, slots) in parts {
        if keys.depth < depth {
            break;
        }
        let rest = buf.get(at..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).ok_or(Stop::Short)?;
        let line = rest.get(..end).unwrap_or_default();
        let start = at + line.len() - line.trim_ascii_start().len() + 1;
        match line.trim_ascii() {
            b"null" => {}
            [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
                for slot in slots {
                    meta.set_span(*slot, start, text.len());
                }
            }
            _ => return Err(Stop::Bad(at, "neither null nor a string without escapes")),
        }
        at += end + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn a_descriptor_counts_arrays_with_what_they_hold() {
        for (descriptor, count) in [
            ("", Some(0)),
            ("Ljava/lang/String;", Some(1)),
            ("[Ljava/lang/String;I", Some(2)),
            ("[[IJLa;[Z", Some(4)),
            ("Lunfinished", None),
            ("[", None),
            ("X", None),
        ] {
            assert_eq!(arguments(descriptor.as_bytes()), count, "{descriptor}");
        }
    }
}
