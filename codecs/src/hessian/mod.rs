//! Hessian 2.0, as far as a proxy needs it: reading strings and numbers, skipping
//! any other value, writing strings and maps of them.
//!
//! [`Reader`] is a checked cursor: it says [`Stop::Short`] where the buffer ends
//! too early and [`Stop::Bad`] where no value is so written. [`Skipper`] walks values of
//! any nesting without recursion.

mod skip;
pub mod write;

pub use skip::Skipper;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The buffer ends inside the value.
    Short,
    /// The bytes at this offset are no value that may be there.
    Bad(usize, &'static str),
}

/// A string that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// So many bytes of the buffer from an offset.
    Span(usize, usize),
    /// It came in chunks and is joined in the scratch vector.
    Joined,
}

/// A value of a kind that can be shown as text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An int or a long.
    Integer(i64),
    /// A double.
    Double(f64),
    /// A string.
    Text(Text),
}

/// A cursor over hessian values.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    buf: &'a [u8],
    /// The offset of the next byte.
    pub at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at `at`.
    pub fn new(buf: &'a [u8], at: usize) -> Self {
        Self { buf, at }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.buf.get(self.at).copied().ok_or(Stop::Short)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn pass(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(Stop::Short)?;
        let bytes = self.buf.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        Ok(bytes)
    }

    /// A big-endian number of up to 8 bytes, sign-extended.
    fn signed(&mut self, count: usize) -> Result<i64, Stop> {
        let mut value = 0u64;
        for byte in self.pass(count)? {
            value = value << 8 | u64::from(*byte);
        }
        let shift = 64 - 8 * count as u32;
        Ok((value << shift) as i64 >> shift)
    }

    /// The length in UTF-16 units of the string chunk that `tag` begins, and
    /// whether it is the last; `None` where no string begins so.
    fn chunk(&mut self, tag: u8) -> Result<Option<(usize, bool)>, Stop> {
        Ok(Some(match tag {
            0x00..=0x1f => (usize::from(tag), true),
            0x30..=0x33 => (usize::from(tag - 0x30) << 8 | usize::from(self.byte()?), true),
            b'S' => (self.signed(2)? as usize & 0xffff, true),
            b'R' => (self.signed(2)? as usize & 0xffff, false),
            _ => return Ok(None),
        }))
    }

    /// Passes over characters worth so many UTF-16 units. A character beyond the
    /// basic plane counts two, written as one (UTF-8) or as two surrogates (CESU-8).
    fn units(&mut self, mut units: usize) -> Result<(), Stop> {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        if let Some(run) = rest.get(..units)
            && run.is_ascii()
        {
            self.at += units;
            return Ok(());
        }
        while units > 0 {
            let (count, worth) = match self.peek()? {
                0x00..=0x7f => (1, 1),
                0xc0..=0xdf => (2, 1),
                0xe0..=0xef => (3, 1),
                0xf0..=0xf7 => (4, 2),
                _ => return Err(Stop::Bad(self.at, "a byte that begins no character")),
            };
            self.pass(count)?;
            units = units.saturating_sub(worth);
        }
        Ok(())
    }

    /// A string, or null (`None`). Chunks are joined in `scratch`, and so are the
    /// halves of surrogate pairs, as UTF-8. Other bytes that are not UTF-8 are refused:
    /// Java reads an overlong form as the plain character, so a rule would
    /// see another name than the server.
    pub fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Text>, Stop> {
        let begin = self.at;
        let tag = self.byte()?;
        if tag == b'N' {
            return Ok(None);
        }
        let bad = Stop::Bad(begin, "something else where a string should be");
        let (units, last) = self.chunk(tag)?.ok_or(bad)?;
        let start = self.at;
        self.units(units)?;
        if last {
            let raw = self.buf.get(start..self.at).unwrap_or_default();
            if raw.is_ascii() || std::str::from_utf8(raw).is_ok() {
                return Ok(Some(Text::Span(start, raw.len())));
            }
            scratch.clear();
            scratch.extend_from_slice(raw);
            mend(scratch).ok_or(Stop::Bad(begin, NOT_UTF8))?;
            return Ok(Some(Text::Joined));
        }
        scratch.clear();
        scratch.extend_from_slice(self.buf.get(start..self.at).unwrap_or_default());
        loop {
            let tag = self.byte()?;
            let (units, last) = self.chunk(tag)?.ok_or(bad)?;
            let start = self.at;
            self.units(units)?;
            scratch.extend_from_slice(self.buf.get(start..self.at).unwrap_or_default());
            if last {
                mend(scratch).ok_or(Stop::Bad(begin, NOT_UTF8))?;
                return Ok(Some(Text::Joined));
            }
        }
    }

    /// An int.
    pub fn int(&mut self) -> Result<i64, Stop> {
        let begin = self.at;
        match self.byte()? {
            tag @ 0x80..=0xbf => Ok(i64::from(tag) - 0x90),
            tag @ 0xc0..=0xcf => Ok((i64::from(tag) - 0xc8) * 256 + i64::from(self.byte()?)),
            tag @ 0xd0..=0xd7 => Ok((i64::from(tag) - 0xd4) * 65_536 + (self.signed(2)? & 0xffff)),
            b'I' => self.signed(4),
            _ => Err(Stop::Bad(begin, "something else where an int should be")),
        }
    }

    /// A value that can be shown as text; `None`, with nothing passed, where it is of another kind.
    pub fn scalar(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Scalar>, Stop> {
        let tag = self.peek()?;
        Ok(Some(match tag {
            0x00..=0x1f | 0x30..=0x33 | b'S' | b'R' => match self.string(scratch)? {
                Some(text) => Scalar::Text(text),
                None => Scalar::Null,
            },
            b'N' => {
                self.at += 1;
                Scalar::Null
            }
            b'T' | b'F' => {
                self.at += 1;
                Scalar::Bool(tag == b'T')
            }
            0x80..=0xd7 | b'I' => Scalar::Integer(self.int()?),
            0xd8..=0xef => {
                self.at += 1;
                Scalar::Integer(i64::from(tag) - 0xe0)
            }
            0xf0..=0xff => {
                self.at += 1;
                Scalar::Integer((i64::from(tag) - 0xf8) * 256 + i64::from(self.byte()?))
            }
            0x38..=0x3f => {
                self.at += 1;
                Scalar::Integer((i64::from(tag) - 0x3c) * 65_536 + (self.signed(2)? & 0xffff))
            }
            b'Y' => {
                self.at += 1;
                Scalar::Integer(self.signed(4)?)
            }
            b'L' => {
                self.at += 1;
                Scalar::Integer(self.signed(8)?)
            }
            0x5b | 0x5c => {
                self.at += 1;
                Scalar::Double(f64::from(tag - 0x5b))
            }
            0x5d..=0x5f => {
                self.at += 1;
                let value = self.signed([1, 2, 4][usize::from(tag - 0x5d)])? as f64;
                Scalar::Double(if tag == 0x5f { value / 1000.0 } else { value })
            }
            b'D' => {
                self.at += 1;
                Scalar::Double(f64::from_bits(self.signed(8)? as u64))
            }
            _ => return Ok(None),
        }))
    }

    /// The bytes of a string that was read.
    pub fn text<'t>(&self, text: Text, scratch: &'t [u8]) -> &'t [u8]
    where
        'a: 't,
    {
        match text {
            Text::Span(start, len) => self.buf.get(start..start + len).unwrap_or_default(),
            Text::Joined => scratch,
        }
    }
}

const NOT_UTF8: &str = "a string that is not UTF-8";

/// Makes `text` UTF-8: joins surrogate pairs written as three bytes a half (CESU-8),
/// and puts U+FFFD for a lone half. `None` where other bytes are not UTF-8.
fn mend(text: &mut Vec<u8>) -> Option<()> {
    if std::str::from_utf8(text).is_ok() {
        return Some(());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    loop {
        let valid = std::str::from_utf8(rest).map_or_else(|error| error.valid_up_to(), str::len);
        let (good, bad) = rest.split_at(valid);
        out.extend_from_slice(good);
        let unit = |high: u8, low: u8| u32::from(high & 0x0f) << 6 | u32::from(low & 0x3f);
        let (point, used) = match *bad {
            [] => break,
            [
                0xed,
                a @ 0xa0..=0xaf,
                b @ 0x80..=0xbf,
                0xed,
                c @ 0xb0..=0xbf,
                d @ 0x80..=0xbf,
                ..,
            ] => (0x1_0000 + (unit(a, b) << 10) + unit(c, d), 6),
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => (0xfffd, 3),
            _ => return None,
        };
        let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = bad.get(used..)?;
    }
    *text = out;
    Some(())
}

#[cfg(test)]
pub(crate) mod tests;
