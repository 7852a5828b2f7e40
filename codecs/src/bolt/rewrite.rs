//! Changing the header block; everything else stays byte by byte as it was, but
//! for its length, the id and the checksum.

use super::block;
use super::header;
use crate::mutation::{Change, To, Unchangeable};

/// The one family of keys that can be changed.
pub(super) const FAMILY: &str = "header.";

/// Appends the message at the front of `bytes` with `changes` made, and `id` where
/// one is given.
///
/// A name that is there keeps its spelling and its place; a new one comes last,
/// spelt as the change spells it. Of several changes to one name the last counts.
/// Null names and null values that no change names stay null.
pub(super) fn message(
    bytes: &[u8],
    id: Option<u64>,
    changes: &[Change<'_>],
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let Ok(header) = header::read(bytes) else {
        return Err(Unchangeable("its fixed part is not all there"));
    };
    let (block_at, content_at) = (header.block_at(), header.content_at());
    let (Some(front), Some(old), Some(rest)) =
        (bytes.get(..block_at), bytes.get(block_at..content_at), bytes.get(content_at..))
    else {
        return Err(Unchangeable("its header block is not all there"));
    };
    if header.form.checked() && header.size() != bytes.len() as u64 {
        return Err(Unchangeable("it has a checksum and is not all there"));
    }
    if changes.iter().any(|change| change.of(FAMILY).is_none()) {
        return Err(Unchangeable("only texts of its header block can be changed"));
    }
    if changes.iter().any(|change| matches!(change.to, To::Append(_))) {
        return Err(Unchangeable("a text of its header block has one value"));
    }
    let start = out.len();
    out.extend_from_slice(front);
    let new_at = out.len();
    // Which changes have been made: entries are many, and looked at once.
    let mut made = vec![false; changes.len()];
    for entry in block::entries(old) {
        let entry = entry.map_err(|_| Unchangeable("its header block is broken"))?;
        let name = entry.name.and_then(|range| old.get(range));
        let change = name.and_then(|name| Some((name, last(changes, name)?)));
        let Some((name, at)) = change else {
            out.extend_from_slice(old.get(entry.whole).unwrap_or_default());
            continue;
        };
        if let Some(made) = made.get_mut(at)
            && !std::mem::replace(made, true)
            && let Some(To::Set(value)) = changes.get(at).map(|change| change.to)
        {
            block::put(name, value, out);
        }
    }
    for (at, (change, made)) in changes.iter().zip(made).enumerate() {
        let name = change.of(FAMILY).unwrap_or_default().as_bytes();
        if let To::Set(value) = change.to
            && !made
            && last(changes, name) == Some(at)
        {
            block::put(name, value, out);
        }
    }
    let Ok(len) = u16::try_from(out.len() - new_at) else {
        return Err(Unchangeable("its header block would pass 65,535 bytes"));
    };
    out.extend_from_slice(rest);
    let message = out.get_mut(start..).unwrap_or_default();
    // The lengths of block (2 bytes) and content (4) end the fixed part.
    let at = header.fixed() - 6;
    if let Some(place) = message.get_mut(at..at + 2) {
        place.copy_from_slice(&len.to_be_bytes());
    }
    header::set_id(message, id.map_or(header.id, |id| id as u32));
    Ok(())
}

/// Which change counts for `name`.
fn last(changes: &[Change<'_>], name: &[u8]) -> Option<usize> {
    changes.iter().rposition(|change| {
        change.of(FAMILY).is_some_and(|of| of.as_bytes().eq_ignore_ascii_case(name))
    })
}
