//! The walk over a struct that finds where an unframed message ends. It can stop
//! after any byte and go on when more have come, and holds no more than where it
//! is: one small level for each value that it is inside of.

use super::TOO_LARGE;
use super::envelope::Encoding;
use super::varint;
use crate::error::ErrorKind;

/// What the walk is inside of.
#[derive(Debug, Clone, Copy)]
enum Level {
    Struct,
    /// So many elements of this type to come.
    Elements(u8, u64),
    /// So many keys and values of these types to come; whether the next is a key.
    Pairs(u8, u8, u64, bool),
}

/// Why the walk cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost(pub(super) ErrorKind, pub(super) &'static str);

/// Bytes that cannot be of a struct.
fn lost(why: &'static str) -> Lost {
    Lost(ErrorKind::Malformed, why)
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// So many bytes are of the struct, and more of it is to come.
    On(usize),
    /// So many bytes are of the struct, which is over.
    Over(usize),
}

pub(super) struct Walk {
    compact: bool,
    levels: Vec<Level>,
    depth: usize,
    /// Bytes of a value that are not looked at.
    skip: u64,
    /// Bytes that the struct may still take, after those that its values say they have.
    room: u64,
}

/// What one look at the bytes came to.
enum Look {
    /// A value of so many bytes, then so many that need no look.
    Took(usize, u64),
    Short,
}

// The binary protocol's types.
const STOP: u8 = 0;
const BOOL: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 4;
const I16: u8 = 6;
const I32: u8 = 8;
const I64: u8 = 10;
const STRING: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;
const UUID: u8 = 16;

impl Walk {
    /// A walk that goes no deeper than `depth`. It begins with [`Walk::restart`].
    pub(super) fn new(depth: usize) -> Self {
        Self { compact: false, levels: Vec::new(), depth, skip: 0, room: 0 }
    }

    /// Begins before the first field of a struct of at most `room` bytes.
    pub(super) fn restart(&mut self, encoding: Encoding, room: u64) {
        self.compact = encoding == Encoding::Compact;
        self.levels.clear();
        self.levels.push(Level::Struct);
        self.skip = 0;
        self.room = room;
    }

    /// Walks over `buf`, which begins where the last walk stopped.
    pub(super) fn go(&mut self, buf: &[u8]) -> Result<Walked, Lost> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let left = (buf.len() - at) as u64;
                let step = self.skip.min(left);
                self.skip -= step;
                at += step as usize;
                if self.skip > 0 {
                    return Ok(Walked::On(at));
                }
            }
            let Some(level) = self.levels.last().copied() else { return Ok(Walked::Over(at)) };
            let rest = buf.get(at..).unwrap_or_default();
            let look = match level {
                Level::Struct => self.field(rest)?,
                Level::Elements(_, 0) | Level::Pairs(_, _, 0, true) => {
                    self.levels.pop();
                    continue;
                }
                Level::Elements(kind, left) => self.element(rest, kind, left)?,
                Level::Pairs(key, value, left, at_key) => {
                    self.pair(rest, key, value, left, at_key)?
                }
            };
            match look {
                Look::Took(count, skip) => {
                    // By what a value says, not by what is there: every split agrees.
                    let whole = skip.saturating_add(count as u64);
                    let room = self.room.checked_sub(whole);
                    self.room = room.ok_or(Lost(ErrorKind::TooLarge, TOO_LARGE))?;
                    at += count;
                    self.skip = skip;
                }
                Look::Short => return Ok(Walked::On(at)),
            }
        }
    }

    fn set_level(&mut self, level: Level) {
        if let Some(last) = self.levels.last_mut() {
            *last = level;
        }
    }

    fn push(&mut self, level: Level) -> Result<(), Lost> {
        if self.levels.len() >= self.depth {
            return Err(lost("values are nested too deep"));
        }
        self.levels.push(level);
        Ok(())
    }

    /// A field's head, and its value's start.
    fn field(&mut self, buf: &[u8]) -> Result<Look, Lost> {
        let Some(&first) = buf.first() else { return Ok(Look::Short) };
        if first == STOP {
            self.levels.pop();
            return Ok(Look::Took(1, 0));
        }
        let (head, kind) = if self.compact {
            let mut head = 1;
            if first >> 4 == 0 {
                match varint::read(buf, 1) {
                    Ok((_, len)) => head += len,
                    Err(true) => return Ok(Look::Short),
                    Err(false) => return Err(lost("a field id too large")),
                }
            }
            // True and false are types of their own, with no value after them.
            match first & 0x0f {
                1 | 2 => return Ok(Look::Took(head, 0)),
                kind => (head, from_compact(kind)?),
            }
        } else {
            (3, first)
        };
        if buf.len() < head {
            return Ok(Look::Short);
        }
        self.value(buf, head, kind)
    }

    fn element(&mut self, buf: &[u8], kind: u8, left: u64) -> Result<Look, Lost> {
        if let Some(size) = self.fixed(kind) {
            let Some(all) = left.checked_mul(size) else { return Err(lost("a list too long")) };
            self.set_level(Level::Elements(kind, 0));
            return Ok(Look::Took(0, all));
        }
        // Its level is changed first, as the value may put another on top.
        self.set_level(Level::Elements(kind, left - 1));
        let look = self.value(buf, 0, kind)?;
        if matches!(look, Look::Short) {
            self.set_level(Level::Elements(kind, left));
        }
        Ok(look)
    }

    fn pair(
        &mut self,
        buf: &[u8],
        key: u8,
        value: u8,
        left: u64,
        at_key: bool,
    ) -> Result<Look, Lost> {
        let (kind, after) = if at_key {
            (key, Level::Pairs(key, value, left, false))
        } else {
            (value, Level::Pairs(key, value, left - 1, true))
        };
        self.set_level(after);
        let look = self.value(buf, 0, kind)?;
        if matches!(look, Look::Short) {
            self.set_level(Level::Pairs(key, value, left, at_key));
        }
        Ok(look)
    }

    /// Bytes of a value whose type alone tells them.
    fn fixed(&self, kind: u8) -> Option<u64> {
        match kind {
            BOOL | BYTE => Some(1),
            DOUBLE => Some(8),
            UUID => Some(16),
            I16 if !self.compact => Some(2),
            I32 if !self.compact => Some(4),
            I64 if !self.compact => Some(8),
            _ => None,
        }
    }

    /// The start of a value at `at`, of which all before belongs to its head.
    /// Levels are pushed only where the look is not short.
    fn value(&mut self, buf: &[u8], at: usize, kind: u8) -> Result<Look, Lost> {
        if let Some(size) = self.fixed(kind) {
            return Ok(Look::Took(at, size));
        }
        let number = |at: usize| match varint::read(buf, at) {
            Ok(found) => Ok(Some(found)),
            Err(true) => Ok(None),
            Err(false) => Err(lost("a number too large")),
        };
        let word = |at: usize| {
            let bytes = buf.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map(|bytes| u64::from(u32::from_be_bytes(*bytes)))
        };
        let count = |count: u64| match count {
            0..=0x7fff_ffff => Ok(count),
            _ => Err(lost("a negative length")),
        };
        match (kind, self.compact) {
            (I16 | I32 | I64, _) => {
                Ok(number(at)?.map_or(Look::Short, |(_, len)| Look::Took(at + len, 0)))
            }
            (STRING, true) => {
                let Some((len, size)) = number(at)? else { return Ok(Look::Short) };
                Ok(Look::Took(at + size, count(len)?))
            }
            (STRING, false) => {
                let Some(len) = word(at) else { return Ok(Look::Short) };
                Ok(Look::Took(at + 4, count(len)?))
            }
            (STRUCT, _) => {
                self.push(Level::Struct)?;
                Ok(Look::Took(at, 0))
            }
            (LIST | SET, true) => {
                let Some(&first) = buf.get(at) else { return Ok(Look::Short) };
                let (left, head) = match first >> 4 {
                    15 => {
                        let Some((left, len)) = number(at + 1)? else { return Ok(Look::Short) };
                        (left, 1 + len)
                    }
                    left => (u64::from(left), 1),
                };
                self.push(Level::Elements(from_compact(first & 0x0f)?, count(left)?))?;
                Ok(Look::Took(at + head, 0))
            }
            (LIST | SET, false) => {
                let (Some(&kind), Some(left)) = (buf.get(at), word(at + 1)) else {
                    return Ok(Look::Short);
                };
                self.push(Level::Elements(known(kind)?, count(left)?))?;
                Ok(Look::Took(at + 5, 0))
            }
            (MAP, true) => {
                let Some((left, len)) = number(at)? else { return Ok(Look::Short) };
                if left == 0 {
                    return Ok(Look::Took(at + len, 0));
                }
                let Some(&kinds) = buf.get(at + len) else { return Ok(Look::Short) };
                let (key, value) = (from_compact(kinds >> 4)?, from_compact(kinds & 0x0f)?);
                self.push(Level::Pairs(key, value, count(left)?, true))?;
                Ok(Look::Took(at + len + 1, 0))
            }
            (MAP, false) => {
                let (Some(&key), Some(&value), Some(left)) =
                    (buf.get(at), buf.get(at + 1), word(at + 2))
                else {
                    return Ok(Look::Short);
                };
                // An empty map may name no types.
                if left > 0 {
                    let level = Level::Pairs(known(key)?, known(value)?, count(left)?, true);
                    self.push(level)?;
                }
                Ok(Look::Took(at + 6, 0))
            }
            _ => Err(lost("an unknown type")),
        }
    }
}

fn known(kind: u8) -> Result<u8, Lost> {
    match kind {
        BOOL | BYTE | DOUBLE | I16 | I32 | I64 | STRING | STRUCT | MAP | SET | LIST | UUID => {
            Ok(kind)
        }
        // Old encoders name the type of an empty list's elements so.
        STOP | 1 => Ok(BYTE),
        _ => Err(lost("an unknown type")),
    }
}

/// The binary protocol's name of a compact type.
fn from_compact(kind: u8) -> Result<u8, Lost> {
    Ok(match kind {
        1 | 2 => BOOL,
        3 => BYTE,
        4 => I16,
        5 => I32,
        6 => I64,
        7 => DOUBLE,
        8 => STRING,
        9 => LIST,
        10 => SET,
        11 => MAP,
        12 => STRUCT,
        13 => UUID,
        0 => BYTE,
        _ => return Err(lost("an unknown type")),
    })
}
