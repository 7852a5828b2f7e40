//! A message passed on with other attachments. Its header but for id and length, its fields
//! and its arguments stay byte for byte, and so does every attachment that no
//! change names.
//!
//! Attachments may hold objects that later ones refer to by number, so one that holds
//! an object, a list or a map cannot be taken out; all others can.

use super::LARGEST_BODY;
use super::body::{arguments, map_type};
use super::deadline;
use super::header::{self, EVENT, Header, REQUEST, SERIALIZATION};
use crate::hessian::{Reader, Scalar, Skipper, Stop, write};
use crate::limits::Limits;
use crate::mutation::{Change, To, Unchangeable};

const FAMILY: &str = "attachment.";

/// The serialization whose attachments can be changed.
const HESSIAN2: u8 = 2;

/// The status of a reply that came from the service.
const OK: u8 = 20;

impl From<Stop> for Unchangeable {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Short => Self("its body ends too early"),
            Stop::Bad(_, why) => Self(why),
        }
    }
}

/// Appends `bytes`, a whole message, with `changes` made to its attachments and with `id`.
pub(super) fn rewrite(
    bytes: &[u8],
    id: Option<u64>,
    changes: &[Change<'_>],
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let header = header::read(bytes).ok_or(Unchangeable("its header is not all there"))?;
    if bytes.len() as u64 != header::LEN as u64 + u64::from(header.body) {
        return Err(Unchangeable("it is too large to be held as a whole"));
    }
    if header.flags & EVENT != 0 {
        return Err(Unchangeable("an event has no attachments"));
    }
    if header.flags & SERIALIZATION != HESSIAN2 {
        return Err(Unchangeable("only the attachments of hessian2 can be changed"));
    }
    let edits = Edits::new(changes)?;
    let limits = Limits::default();
    let mut skipper = Skipper::new(limits.depth, limits.elements);
    let found = locate(&header, bytes, &mut skipper)?;
    let start = out.len();
    match found {
        Some(reader) => {
            out.extend_from_slice(bytes.get(..reader.at).unwrap_or_default());
            edits.apply(reader, bytes, &mut skipper, out)?;
        }
        None if edits.sets() => return Err(Unchangeable("it has no attachments")),
        None => out.extend_from_slice(bytes),
    }
    let body = (out.len() - start).saturating_sub(header::LEN);
    let Some(length) = u32::try_from(body).ok().filter(|body| u64::from(*body) <= LARGEST_BODY)
    else {
        return Err(Unchangeable("its body would pass the 8 MiB that its peers accept"));
    };
    let id = id.unwrap_or(header.id);
    if let Some(place) = out.get_mut(start + 4..start + 12) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    if let Some(place) = out.get_mut(start + 12..start + header::LEN) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Appends `bytes`, a whole call, with each attachment that says how long its sender waits
/// lowered to `timeout` ms, as text where it is text and as a number where it is one; false, and
/// nothing appended, where there is none that says more.
pub(super) fn lower(bytes: &[u8], timeout: u32, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let lowered = lowered(bytes, timeout, out);
    if lowered != Ok(true) {
        out.truncate(start);
    }
    lowered == Ok(true)
}

fn lowered(bytes: &[u8], timeout: u32, out: &mut Vec<u8>) -> Result<bool, Stop> {
    let header = header::read(bytes).ok_or(Stop::Short)?;
    let whole = bytes.len() as u64 == header::LEN as u64 + u64::from(header.body);
    if !whole || header.flags & SERIALIZATION != HESSIAN2 || header.flags & EVENT != 0 {
        return Ok(false);
    }
    let limits = Limits::default();
    let mut skipper = Skipper::new(limits.depth, limits.elements);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    let Some(mut reader) = locate(&header, bytes, &mut skipper)? else { return Ok(false) };
    match bytes.get(reader.at) {
        Some(b'H') => reader.at += 1,
        Some(b'M') => {
            reader.at += 1;
            map_type(&mut reader, &mut name)?;
        }
        _ => return Ok(false),
    }
    let (start, mut copied, mut any) = (out.len(), 0, false);
    while bytes.get(reader.at).is_some_and(|tag| *tag != b'Z') {
        let mut ahead = reader;
        let says = match ahead.scalar(&mut name)? {
            Some(Scalar::Text(text)) => deadline::is_name(ahead.text(text, &name)),
            _ => false,
        };
        skipper.skip(&mut reader)?;
        let begin = reader.at;
        let mut ahead = reader;
        skipper.skip(&mut reader)?;
        if !says {
            continue;
        }
        let Some(scalar) = ahead.scalar(&mut value)? else { continue };
        if deadline::millis(&scalar, &ahead, &value) <= timeout {
            continue;
        }
        out.extend_from_slice(bytes.get(copied..begin).unwrap_or_default());
        match scalar {
            // Clients write an int or a long: each has forms that are no other's.
            Scalar::Integer(_) if matches!(bytes.get(begin), Some(b'I' | 0x80..=0xd7)) => {
                write::int(i32::try_from(timeout).unwrap_or(i32::MAX), out);
            }
            Scalar::Integer(_) => write::long(i64::from(timeout), out),
            _ => write::string(&timeout.to_string(), out),
        }
        (copied, any) = (reader.at, true);
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    // Longer by a few bytes at most, which every peer has room for.
    let body = (out.len() - start).saturating_sub(header::LEN) as u32;
    if let Some(place) = out.get_mut(start + 12..start + header::LEN) {
        place.copy_from_slice(&body.to_be_bytes());
    }
    Ok(any)
}

/// A reader at the message's attachments; `None` where it is a reply that has no place for them.
fn locate<'a>(
    header: &Header,
    bytes: &'a [u8],
    skipper: &mut Skipper,
) -> Result<Option<Reader<'a>>, Stop> {
    let (mut reader, mut scratch) = (Reader::new(bytes, header::LEN), Vec::new());
    skipper.begin();
    if header.flags & REQUEST == 0 {
        if header.status != OK {
            return Ok(None);
        }
        return match reader.int()? {
            // An exception or a value, then the attachments.
            3 | 4 => skipper.skip(&mut reader).map(|()| Some(reader)),
            5 => Ok(Some(reader)),
            // Clients before 2.6.3 read no other, so none is made into one with attachments.
            _ => Ok(None),
        };
    }
    // The version of Dubbo, the path, the service's version, the method.
    for _ in 0..4 {
        reader.string(&mut scratch)?;
    }
    let at = reader.at;
    let count = match reader.string(&mut scratch)? {
        Some(types) => arguments(reader.text(types, &scratch))
            .ok_or(Stop::Bad(at, "a type descriptor that describes no types"))?,
        None => 0,
    };
    for _ in 0..count {
        skipper.skip(&mut reader)?;
    }
    Ok(Some(reader))
}

/// What is to become of an attachment.
struct Edit<'a> {
    name: &'a str,
    /// `None`: it is gone.
    value: Option<&'a str>,
}

/// The edits of one message: one a name, in the order of their changes.
struct Edits<'a>(Vec<Edit<'a>>);

impl<'a> Edits<'a> {
    fn new(changes: &[Change<'a>]) -> Result<Self, Unchangeable> {
        let mut edits: Vec<Edit<'a>> = Vec::with_capacity(changes.len());
        for change in changes {
            let name =
                change.of(FAMILY).ok_or(Unchangeable("only its attachments can be changed"))?;
            let value = match change.to {
                To::Remove => None,
                To::Set(value) => Some(
                    std::str::from_utf8(value)
                        .map_err(|_| Unchangeable("an attachment's value must be UTF-8"))?,
                ),
                To::Append(_) => return Err(Unchangeable("an attachment has one value only")),
            };
            match edits.iter_mut().find(|edit| edit.name.eq_ignore_ascii_case(name)) {
                Some(edit) => *edit = Edit { name, value },
                None => edits.push(Edit { name, value }),
            }
        }
        Ok(Self(edits))
    }

    fn sets(&self) -> bool {
        self.0.iter().any(|edit| edit.value.is_some())
    }

    /// Appends the attachments at `reader`, the last thing in `bytes`, as they shall be.
    fn apply(
        mut self,
        mut reader: Reader<'_>,
        bytes: &[u8],
        skipper: &mut Skipper,
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        let begin = reader.at;
        match bytes.get(begin) {
            Some(b'N') => {
                reader.at += 1;
                // Null stands for no attachments.
                match self.sets() {
                    true => {
                        out.push(b'H');
                        self.add(out);
                    }
                    false => out.push(b'N'),
                }
            }
            Some(tag @ (b'H' | b'M')) => {
                reader.at += 1;
                if *tag == b'M' {
                    map_type(&mut reader, &mut Vec::new())?;
                }
                out.extend_from_slice(bytes.get(begin..reader.at).unwrap_or_default());
                self.entries(&mut reader, bytes, skipper, out)?;
                self.add(out);
            }
            Some(_) => return Err(Unchangeable("something else where its attachments should be")),
            None if self.sets() => return Err(Unchangeable("it has no attachments")),
            None => {}
        }
        if reader.at != bytes.len() {
            return Err(Unchangeable("there is something behind its attachments"));
        }
        Ok(())
    }

    /// Appends the entries that stay, and those that get another value in their old
    /// places and spelling; passes over the end of the map.
    fn entries(
        &mut self,
        reader: &mut Reader<'_>,
        bytes: &[u8],
        skipper: &mut Skipper,
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        let (mut scratch, mut written) = (Vec::new(), vec![false; self.0.len()]);
        loop {
            let begin = reader.at;
            match bytes.get(begin) {
                None => return Err(Stop::Short.into()),
                Some(b'Z') => break,
                Some(_) => {}
            }
            let mut ahead = *reader;
            let edit = match ahead.scalar(&mut scratch)? {
                Some(Scalar::Text(name)) => {
                    let name = ahead.text(name, &scratch);
                    self.0.iter().position(|edit| edit.name.as_bytes().eq_ignore_ascii_case(name))
                }
                _ => None,
            };
            skipper.skip(reader)?;
            let value = reader.at;
            skipper.skip(reader)?;
            let Some(edit) = edit else {
                out.extend_from_slice(bytes.get(begin..reader.at).unwrap_or_default());
                continue;
            };
            if bytes.get(value).is_some_and(|tag| numbered(*tag)) {
                return Err(Unchangeable("an attachment that is an object has to stay"));
            }
            // Of several that differ in case only, the first gets the value.
            if let (Some(Edit { value: Some(text), .. }), Some(written @ false)) =
                (self.0.get(edit), written.get_mut(edit))
            {
                *written = true;
                out.extend_from_slice(bytes.get(begin..value).unwrap_or_default());
                write::string(text, out);
            }
        }
        reader.at += 1;
        let mut written = written.into_iter();
        self.0.retain(|_| written.next() == Some(false));
        Ok(())
    }

    /// Appends the values that had no place yet, and the end of the map.
    fn add(&self, out: &mut Vec<u8>) {
        for Edit { name, value } in &self.0 {
            if let Some(value) = value {
                write::string(name, out);
                write::string(value, out);
            }
        }
        out.push(b'Z');
    }
}

/// Whether a value that begins so, or what is in it, is counted by references, or defines
/// a class or a type's name that later values may name by its number.
fn numbered(tag: u8) -> bool {
    matches!(tag, b'C' | b'H' | b'M' | b'O' | b'U'..=b'X' | 0x60..=0x7f)
}

#[cfg(test)]
mod tests;
