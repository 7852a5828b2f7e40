//! Passing over values of any kind and nesting.

use super::{Reader, Stop};

/// Walks over values. Kept between messages so that its vectors are.
#[derive(Debug, Clone)]
pub struct Skipper {
    open: Vec<Open>,
    /// How many fields each class that was defined has.
    classes: Vec<u32>,
    depth: usize,
    elements: usize,
}

/// A value that others are part of.
#[derive(Debug, Clone, Copy)]
enum Open {
    Values(u64),
    UntilZ,
}

impl Skipper {
    /// A skipper that refuses nesting beyond `depth` and more than `elements`
    /// values in a message.
    pub fn new(depth: usize, elements: usize) -> Self {
        Self { open: Vec::new(), classes: Vec::new(), depth, elements }
    }

    /// Forgets the classes of the last message.
    pub fn begin(&mut self) {
        self.open.clear();
        self.classes.clear();
    }

    /// Passes over the value at the reader's place, with all that is in it.
    ///
    /// # Errors
    /// Where the buffer ends inside it, or it is no value, or passes the limits.
    pub fn skip(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        self.open.clear();
        let mut count = 0usize;
        loop {
            count += 1;
            if count > self.elements {
                return Err(Stop::Bad(reader.at, "more values than the limit allows"));
            }
            let begin = reader.at;
            let tag = reader.byte()?;
            if tag == b'Z' {
                match self.open.pop() {
                    Some(Open::UntilZ) => {}
                    _ => return Err(Stop::Bad(begin, "an end of nothing")),
                }
            } else {
                let inner = self.value(reader, begin, tag)?;
                match inner {
                    Some(Open::Values(0)) | None => {}
                    Some(open) => {
                        if self.open.len() >= self.depth {
                            return Err(Stop::Bad(begin, "values nested deeper than the limit"));
                        }
                        self.open.push(open);
                        continue;
                    }
                }
                if tag == b'C' {
                    // A definition is no value: the object that needs it comes next.
                    continue;
                }
            }
            // A value is over: so may be those that it is part of.
            loop {
                match self.open.last_mut() {
                    None => return Ok(()),
                    Some(Open::UntilZ) => break,
                    Some(Open::Values(left)) => {
                        *left -= 1;
                        if *left > 0 {
                            break;
                        }
                        self.open.pop();
                    }
                }
            }
        }
    }

    /// Passes over what belongs to `tag` itself; what is inside it, if anything can be.
    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        begin: usize,
        tag: u8,
    ) -> Result<Option<Open>, Stop> {
        let length =
            |length: i64| u64::try_from(length).map_err(|_| Stop::Bad(begin, "a negative length"));
        match tag {
            // Values of fixed size.
            b'N' | b'T' | b'F' | 0x80..=0xbf | 0xd8..=0xef | 0x5b | 0x5c => {}
            0xc0..=0xcf | 0xf0..=0xff | 0x5d => drop(reader.pass(1)?),
            0xd0..=0xd7 | 0x38..=0x3f | 0x5e => drop(reader.pass(2)?),
            b'I' | b'Y' | 0x5f | 0x4b => drop(reader.pass(4)?),
            b'L' | b'D' | 0x4a => drop(reader.pass(8)?),
            // Strings and binaries, in chunks.
            0x00..=0x1f | 0x30..=0x33 | b'S' | b'R' => {
                reader.at = begin;
                self.string(reader)?;
            }
            0x20..=0x2f => drop(reader.pass(usize::from(tag - 0x20))?),
            0x34..=0x37 => {
                let low = reader.byte()?;
                reader.pass(usize::from(tag - 0x34) << 8 | usize::from(low))?;
            }
            b'A' | b'B' => {
                let mut tag = tag;
                loop {
                    match tag {
                        b'A' | b'B' => {
                            let len = reader.signed(2)? as usize & 0xffff;
                            reader.pass(len)?;
                        }
                        0x20..=0x2f => drop(reader.pass(usize::from(tag - 0x20))?),
                        0x34..=0x37 => {
                            let low = reader.byte()?;
                            reader.pass(usize::from(tag - 0x34) << 8 | usize::from(low))?;
                        }
                        _ => return Err(Stop::Bad(reader.at - 1, "a binary without its end")),
                    }
                    if tag != b'A' {
                        break;
                    }
                    tag = reader.byte()?;
                }
            }
            // Lists.
            b'U' => {
                self.kind(reader)?;
                return Ok(Some(Open::UntilZ));
            }
            b'V' => {
                self.kind(reader)?;
                return Ok(Some(Open::Values(length(reader.int()?)?)));
            }
            b'W' | b'H' => return Ok(Some(Open::UntilZ)),
            b'X' => return Ok(Some(Open::Values(length(reader.int()?)?))),
            0x70..=0x77 => {
                self.kind(reader)?;
                return Ok(Some(Open::Values(u64::from(tag - 0x70))));
            }
            0x78..=0x7f => return Ok(Some(Open::Values(u64::from(tag - 0x78)))),
            // Maps: keys and values in turn.
            b'M' => {
                self.kind(reader)?;
                return Ok(Some(Open::UntilZ));
            }
            // Classes and objects.
            b'C' => {
                self.string(reader)?;
                let fields = length(reader.int()?)?;
                if fields > self.elements as u64 || self.classes.len() >= self.elements {
                    return Err(Stop::Bad(begin, "more fields than the limit allows"));
                }
                for _ in 0..fields {
                    self.string(reader)?;
                }
                self.classes.push(fields as u32);
            }
            b'O' => {
                let class = length(reader.int()?)?;
                return self.object(begin, class);
            }
            0x60..=0x6f => return self.object(begin, u64::from(tag - 0x60)),
            b'Q' => drop(reader.int()?),
            _ => return Err(Stop::Bad(begin, "a byte that begins no value")),
        }
        Ok(None)
    }

    fn object(&self, begin: usize, class: u64) -> Result<Option<Open>, Stop> {
        let fields = usize::try_from(class).ok().and_then(|class| self.classes.get(class));
        match fields {
            Some(fields) => Ok(Some(Open::Values(u64::from(*fields)))),
            None => Err(Stop::Bad(begin, "an object of a class that was not defined")),
        }
    }

    /// A type: its name, or the number of one named before.
    fn kind(&self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        match reader.peek()? {
            0x80..=0xd7 | b'I' => reader.int().map(drop),
            _ => self.string(reader),
        }
    }

    fn string(&self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        let begin = reader.at;
        loop {
            let tag = reader.byte()?;
            let Some((units, last)) = reader.chunk(tag)? else {
                return Err(Stop::Bad(begin, "something else where a string should be"));
            };
            reader.units(units)?;
            if last {
                return Ok(());
            }
        }
    }
}
