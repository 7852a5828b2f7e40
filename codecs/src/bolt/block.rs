//! The header block: texts by name, each name and value behind a length of 32 bits.

use std::ops::Range;

/// A length that stands for null, in place of a name or a value.
const NULL: u32 = u32::MAX;

/// One name with its value. Offsets count from the start of the block; null is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    /// All of its bytes, lengths included.
    pub(super) whole: Range<usize>,
}

/// What is wrong: a length that passes the end of the block, at this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(pub(super) usize);

/// The entries of a block, in order; nothing after the first that is broken.
pub(super) fn entries(block: &[u8]) -> Entries<'_> {
    Entries { block, at: 0 }
}

/// Iterator of [`entries`].
pub(super) struct Entries<'a> {
    block: &'a [u8],
    at: usize,
}

impl Entries<'_> {
    fn text(&mut self) -> Result<Option<Range<usize>>, Broken> {
        let broken = Broken(self.at);
        let rest = self.block.get(self.at..).ok_or(broken)?;
        let (len, rest) = rest.split_first_chunk().ok_or(broken)?;
        let (start, len) = (self.at + 4, u32::from_be_bytes(*len));
        if len == NULL {
            self.at = start;
            return Ok(None);
        }
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or(broken)?;
        self.at = start + len;
        Ok(Some(start..self.at))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.block.len() {
            return None;
        }
        let start = self.at;
        let read = self.text().and_then(|name| Ok((name, self.text()?)));
        Some(match read {
            Ok((name, value)) => Ok(Entry { name, value, whole: start..self.at }),
            Err(broken) => {
                self.at = self.block.len();
                Err(broken)
            }
        })
    }
}

/// Appends an entry.
pub(super) fn put(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for text in [name, value] {
        // What is too long for its length is refused later: the block is, too.
        let len = u32::try_from(text.len()).unwrap_or(NULL);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Result<Vec<Entry>, Broken> {
        entries(block).collect()
    }

    #[test]
    fn entries_come_in_order_and_nulls_keep_their_place() {
        let block = b"\0\0\0\x01a\0\0\0\x02bc\xff\xff\xff\xff\0\0\0\x01d\0\0\0\0\xff\xff\xff\xff";
        let all = read(block).expect("whole");
        assert_eq!(
            all,
            [
                Entry { name: Some(4..5), value: Some(9..11), whole: 0..11 },
                Entry { name: None, value: Some(19..20), whole: 11..20 },
                Entry { name: Some(24..24), value: None, whole: 20..28 },
            ]
        );
        assert_eq!(read(b""), Ok(vec![]));
    }

    #[test]
    fn a_length_that_passes_the_end_is_no_entry() {
        for (block, at) in [
            (&b"\0\0\0\x02a"[..], 0),
            (b"\0\0\0", 0),
            (b"\0\0\0\x01a", 5),
            (b"\0\0\0\x01a\0\0\0\x01", 5),
            (b"\x80\0\0\0a\0\0\0\0", 0),
            (b"\xff\xff\xff\xfea\0\0\0\0", 0),
        ] {
            assert_eq!(read(block), Err(Broken(at)), "{}", block.escape_ascii());
        }
    }
}
