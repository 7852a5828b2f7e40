//! The THeader transport: a block of key/value headers between the frame's length
//! and the message (Apache Thrift, `doc/specs/HeaderFormat.md`).

use super::envelope::{Encoding, Stop, u32_at, within};
use super::varint;
use crate::error::ErrorKind;

/// Where the sequence id stands in the frame.
pub(super) const SEQID: usize = 8;
/// Where the block's size, in words of four bytes, stands.
pub(super) const WORDS: usize = 12;
/// Where the block begins.
pub(super) const BLOCK: usize = 14;

/// Info kind: key/value pairs.
const PAIRS: u64 = 1;
/// Info kind: key/value pairs that stay for the connection (fbthrift).
const KEPT_PAIRS: u64 = 2;

/// A block that was read.
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) len: usize,
    /// Where the message proper begins.
    pub(super) payload: usize,
    /// What it is written in.
    pub(super) protocol: Encoding,
}

fn bad<T>(at: usize, why: &'static str) -> Result<T, Stop> {
    Err(Stop::Bad(at, ErrorKind::Malformed, why))
}

/// Reads the fixed part and the block's own start, once all of the block is there.
pub(super) fn read(buf: &[u8], head: usize) -> Result<Block, Stop> {
    let size = u64::from(u32_at(buf, 0)?) + 4;
    let Some(&[high, low]) = buf.get(WORDS..BLOCK) else { return Err(Stop::Need(BLOCK)) };
    let len = usize::from(u16::from_be_bytes([high, low])) * 4;
    let payload = BLOCK + len;
    if payload as u64 > size {
        return bad(WORDS, "a header block beyond its frame");
    }
    within(payload, head)?;
    let Some(block) = buf.get(BLOCK..payload) else { return Err(Stop::Need(payload)) };
    let mut fields = Fields { block, at: 0 };
    let protocol = match fields.number()? {
        0 => Encoding::Binary,
        2 => Encoding::Compact,
        _ => return Err(Stop::Bad(BLOCK, ErrorKind::Unsupported, "an unknown encoding")),
    };
    if fields.number()? != 0 {
        // What is compressed can neither be routed by its method nor be given another id.
        return Err(Stop::Bad(BLOCK + 1, ErrorKind::Unsupported, "transforms are not carried"));
    }
    Ok(Block { start: BLOCK, len, payload, protocol })
}

struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u64, Stop> {
        match varint::read(self.block, self.at) {
            Ok((value, len)) => {
                self.at += len;
                Ok(value)
            }
            Err(_) => bad(BLOCK + self.at, "a header block that ends too early"),
        }
    }

    fn text(&mut self) -> Result<(usize, &'a [u8]), Stop> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let start = self.at;
        let Some(text) = self.block.get(start..start.saturating_add(len)) else {
            return bad(BLOCK + start, "a header beyond its block");
        };
        self.at += len;
        Ok((BLOCK + start, text))
    }
}

/// One header: where its value stands in the frame, and whether it stays for the connection.
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) value_at: usize,
    pub(super) kept: bool,
}

/// Calls `each` for every header of `block`, in order.
pub(super) fn pairs<'a>(block: &'a [u8], mut each: impl FnMut(Pair<'a>)) -> Result<(), Stop> {
    let mut fields = Fields { block, at: 0 };
    fields.number()?;
    fields.number()?;
    while fields.at < block.len() {
        let kind = fields.number()?;
        if kind == 0 {
            // Padding, to the end.
            return Ok(());
        }
        if kind != PAIRS && kind != KEPT_PAIRS {
            // Unknown infos have no length: all after them is opaque.
            return Ok(());
        }
        for _ in 0..fields.number()? {
            let (_, key) = fields.text()?;
            let (value_at, value) = fields.text()?;
            each(Pair { key, value, value_at, kept: kind == KEPT_PAIRS });
        }
    }
    Ok(())
}

/// Whether `block` ends in infos of a kind that cannot be read.
pub(super) fn has_unknown(block: &[u8]) -> bool {
    let mut fields = Fields { block, at: 0 };
    let mut look = || -> Result<bool, Stop> {
        fields.number()?;
        fields.number()?;
        while fields.at < block.len() {
            match fields.number()? {
                0 => return Ok(false),
                PAIRS | KEPT_PAIRS => {
                    for _ in 0..fields.number()? {
                        fields.text()?;
                        fields.text()?;
                    }
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    };
    look().unwrap_or(true)
}

/// Appends a block, its size word first, with these headers.
pub(super) fn write<'a>(
    protocol: Encoding,
    kept: &[(&'a [u8], &'a [u8])],
    pairs: &[(&'a [u8], &'a [u8])],
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let size_at = out.len();
    out.extend_from_slice(&[0, 0]);
    let start = out.len();
    varint::write(if protocol == Encoding::Compact { 2 } else { 0 }, out);
    varint::write(0, out);
    for (kind, pairs) in [(KEPT_PAIRS, kept), (PAIRS, pairs)] {
        if pairs.is_empty() {
            continue;
        }
        varint::write(kind, out);
        varint::write(pairs.len() as u64, out);
        for (key, value) in pairs {
            varint::write(key.len() as u64, out);
            out.extend_from_slice(key);
            varint::write(value.len() as u64, out);
            out.extend_from_slice(value);
        }
    }
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let Ok(words) = u16::try_from((out.len() - start) / 4) else {
        return Err("the headers would pass 256 KiB");
    };
    if let Some(place) = out.get_mut(size_at..start) {
        place.copy_from_slice(&words.to_be_bytes());
    }
    Ok(())
}
