//! A message passed on under another sequence id, or with other headers. The
//! struct in it is never read, much less written again.

use super::envelope::{self, Encoding, Envelope, Transport};
use super::{header, varint};
use crate::mutation::{Change, To, Unchangeable};

/// Appends `bytes`, the start or all of a message that the decoder has accepted, with `id`.
pub(super) fn relay(bytes: &[u8], id: Option<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    if let (Some(id), Some(at)) = (id, strict_seqid(bytes)) {
        out.extend_from_slice(bytes);
        patch(out, start + at, id as u32);
        return;
    }
    let (Some(id), Ok(found)) = (id, envelope::read(bytes, true, usize::MAX)) else {
        out.extend_from_slice(bytes);
        return;
    };
    let id = id as u32;
    if found.encoding == Encoding::Compact {
        // The id's size may change, and the frame's with it.
        let (at, len) = found.seqid_at;
        out.extend_from_slice(bytes.get(..at).unwrap_or_default());
        varint::write(u64::from(id), out);
        let size = out.len() - start - at;
        out.extend_from_slice(bytes.get(at + len..).unwrap_or_default());
        resize(&found, out, start, size as i64 - len as i64);
    } else {
        out.extend_from_slice(bytes);
        patch(out, start + found.seqid_at.0, id);
    }
    if found.transport == Transport::Header {
        patch(out, start + header::SEQID, id);
    }
}

/// Where the sequence id stands in a message that is framed or not and has a version word
/// of the binary protocol, as most are. The decoder has accepted it, so no more is asked.
fn strict_seqid(bytes: &[u8]) -> Option<usize> {
    let start = match bytes {
        [0x80, 0x01, ..] => 0,
        [0x80..=0xff, ..] => return None,
        [_, _, _, _, 0x80, 0x01, ..] => 4,
        _ => return None,
    };
    let len = *bytes.get(start + 4..)?.first_chunk()?;
    let at = start + 8 + usize::try_from(u32::from_be_bytes(len)).ok()?;
    bytes.get(at..at.checked_add(4)?).map(|_| at)
}

/// The same with `changes` made to the headers.
pub(super) fn rewrite(
    bytes: &[u8],
    id: Option<u64>,
    changes: &[Change<'_>],
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let found = envelope::read(bytes, true, usize::MAX)
        .map_err(|_| Unchangeable("its start is not all there"))?;
    if found.transport != Transport::Header {
        return Err(Unchangeable("only the THeader transport carries headers"));
    }
    let (start, len) = found.header;
    let block = bytes.get(start..start + len).unwrap_or_default();
    if header::has_unknown(block) {
        return Err(Unchangeable("its headers are of an unknown kind"));
    }
    let (mut kept, mut pairs) = (Vec::new(), Vec::new());
    header::pairs(block, |pair| {
        let list = if pair.kept { &mut kept } else { &mut pairs };
        list.push((pair.key, pair.value));
    })
    .map_err(|_| Unchangeable("its headers cannot be read"))?;
    for change in changes {
        let Some(name) = change.of("header.") else {
            return Err(Unchangeable("only headers can be changed"));
        };
        let same = |had: &(&[u8], &[u8])| had.0.eq_ignore_ascii_case(name.as_bytes());
        if !matches!(change.to, To::Append(_)) {
            kept.retain(|had| !same(had));
            pairs.retain(|had| !same(had));
        }
        if let To::Set(value) | To::Append(value) = change.to {
            pairs.push((name.as_bytes(), value));
        }
    }
    let mut changed = Vec::with_capacity(bytes.len() + 256);
    changed.extend_from_slice(bytes.get(..header::WORDS).unwrap_or_default());
    let protocol =
        if found.encoding == Encoding::Compact { Encoding::Compact } else { Encoding::Binary };
    header::write(protocol, &kept, &pairs, &mut changed).map_err(Unchangeable)?;
    let size = changed.len() as i64 - (start + len) as i64;
    changed.extend_from_slice(bytes.get(start + len..).unwrap_or_default());
    resize(&found, &mut changed, 0, size);
    relay(&changed, id, out);
    Ok(())
}

/// Writes the frame's new length, where there is a frame.
fn resize(found: &Envelope, out: &mut [u8], start: usize, by: i64) {
    if let (Some(size), true) = (found.size, by != 0) {
        let size = (size as i64 - 4 + by) as u32;
        patch(out, start, size);
    }
}

fn patch(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_where_a_reader_finds_it(
            mut bytes in prop::collection::vec(any::<u8>(), 0..40),
            start in 0usize..5,
        ) {
            let starts: [&[u8]; 5] = [
                b"",
                b"\x80\x01\0\x01\0\0\0\x02ab",
                b"\0\0\0\x20\x80\x01\0\x01\0\0\0\x02ab",
                b"\0\0\0\x20\x82\x21\x05\x02ab",
                b"\x82\x21\x05\x02ab",
            ];
            bytes.splice(0..0, starts[start].iter().copied());
            if let Ok(found) = envelope::read(&bytes, true, usize::MAX) {
                let strict = found.encoding == Encoding::Binary
                    && found.transport != Transport::Header;
                prop_assert_eq!(strict_seqid(&bytes), strict.then_some(found.seqid_at.0));
            }
        }
    }
}
