//! Numbers and texts as MQTT writes them (MQTT 5.0, section 1.5).

/// The largest number that a variable byte integer holds, and so the largest packet.
pub(super) const LARGEST: usize = 268_435_455;

/// Reason codes (MQTT 5.0, section 2.4) for what a decoder refuses.
pub(super) mod reason {
    pub(in super::super) const MALFORMED: u8 = 0x81;
    pub(in super::super) const PROTOCOL_ERROR: u8 = 0x82;
    pub(in super::super) const UNSUPPORTED_VERSION: u8 = 0x84;
    pub(in super::super) const BAD_FILTER: u8 = 0x8f;
    pub(in super::super) const BAD_TOPIC: u8 = 0x90;
    pub(in super::super) const BAD_ALIAS: u8 = 0x94;
    pub(in super::super) const TOO_LARGE: u8 = 0x95;
}

/// Why a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    /// Offset of what is refused.
    pub(super) at: usize,
    /// The reason code that a 5.0 client is told.
    pub(super) status: u8,
    pub(super) why: &'static str,
}

pub(super) const fn malformed(at: usize, why: &'static str) -> Bad {
    Bad { at, status: reason::MALFORMED, why }
}

pub(super) const fn forbidden(at: usize, why: &'static str) -> Bad {
    Bad { at, status: reason::PROTOCOL_ERROR, why }
}

/// Some bytes of a packet and where they lie in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) at: usize,
    pub(super) bytes: &'a [u8],
}

/// A place in a packet that is all there: what is missing is malformed. Offsets
/// count from the packet's first byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    packet: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `packet` from `at`.
    pub(super) fn new(packet: &'a [u8], at: usize) -> Self {
        Self { packet, at }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.packet.len()
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<Text<'a>, Bad> {
        let at = self.at;
        let end = at.saturating_add(len);
        let bytes = self.packet.get(at..end).ok_or(malformed(at, "a field passes its packet"))?;
        self.at = end;
        Ok(Text { at, bytes })
    }

    /// A reader of the next `len` bytes alone; this one goes on behind them.
    pub(super) fn within(&mut self, len: usize) -> Result<Self, Bad> {
        let at = self.at;
        self.take(len)?;
        Ok(Self { packet: self.packet.get(..self.at).unwrap_or_default(), at })
    }

    pub(super) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.number(1)? as u8)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Bad> {
        Ok(self.number(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Bad> {
        self.number(4)
    }

    fn number(&mut self, len: usize) -> Result<u32, Bad> {
        let text = self.take(len)?;
        Ok(text.bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A variable byte integer, in as few bytes as it takes (MQTT-1.5.5-1).
    pub(super) fn varint(&mut self) -> Result<usize, Bad> {
        let at = self.at;
        match varint(self.packet.get(at..).unwrap_or_default()) {
            Varint::Is { value, len } if len == varint_len(value) => {
                self.at += len;
                Ok(value)
            }
            Varint::Is { .. } => Err(malformed(at, "a number in more bytes than it takes")),
            Varint::Short => Err(malformed(at, "a number passes its packet")),
            Varint::Endless => Err(malformed(at, "a number of more than four bytes")),
        }
    }

    /// Bytes behind their length.
    pub(super) fn binary(&mut self) -> Result<Text<'a>, Bad> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// A text behind its length: UTF-8 without U+0000 (MQTT-1.5.4-1, -2).
    pub(super) fn text(&mut self) -> Result<Text<'a>, Bad> {
        let text = self.binary()?;
        if !is_text(text.bytes) {
            return Err(malformed(text.at, "a text that is not UTF-8, or has a null in it"));
        }
        Ok(text)
    }

    /// A topic's name: no filter, and not empty unless an alias stands for it.
    pub(super) fn topic(&mut self) -> Result<Text<'a>, Bad> {
        let topic = self.text()?;
        if memchr::memchr2(b'+', b'#', topic.bytes).is_some() {
            let why = "a wildcard in a topic's name";
            return Err(Bad { at: topic.at, status: reason::BAD_TOPIC, why });
        }
        Ok(topic)
    }

    /// The number that an acknowledgement repeats; 0 is none (MQTT-2.2.1-3).
    pub(super) fn packet_id(&mut self) -> Result<u16, Bad> {
        let at = self.at;
        match self.u16()? {
            0 => Err(forbidden(at, "the packet identifier 0")),
            id => Ok(id),
        }
    }
}

/// Whether `bytes` may be written as a text.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && memchr::memchr(0, bytes).is_none()
}

/// What some bytes are as a variable byte integer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Varint {
    Is { value: usize, len: usize },
    Short,
    Endless,
}

/// Reads a variable byte integer: seven bits a byte, the lowest first.
pub(super) fn varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for at in 0..4 {
        let Some(byte) = bytes.get(at) else { return Varint::Short };
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Varint::Is { value, len: at + 1 };
        }
    }
    Varint::Endless
}

/// The fewest bytes that hold `value`.
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x001f_ffff => 3,
        _ => 4,
    }
}

/// Writes a number of at most [`LARGEST`].
pub(super) fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a text of at most 65,535 bytes, and no more of a longer one.
pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.get(..len.into()).unwrap_or(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_can() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (LARGEST, 4)] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!((out.len(), varint_len(value)), (len, len));
            assert_eq!(varint(&out), Varint::Is { value, len });
            assert_eq!(varint(&out[..len - 1]), Varint::Short);
            assert_eq!(Reader::new(&out, 0).varint(), Ok(value));
        }
        assert_eq!(varint(&[0x80; 5]), Varint::Endless);
        assert!(Reader::new(&[0x80, 0], 0).varint().is_err());
    }

    #[test]
    fn a_text_is_utf8_without_nulls() {
        for (bytes, good) in [
            (&b"\0\x03a/b"[..], true),
            (b"\0\x00", true),
            (b"\0\x04a/b", false),
            (b"\0\x01\0", false),
            (b"\0\x03\xed\xa0\x80", false),
            (b"\0\x02\xc0\x80", false),
            (b"\0", false),
        ] {
            assert_eq!(Reader::new(bytes, 0).text().is_ok(), good, "{}", bytes.escape_ascii());
        }
    }
}
