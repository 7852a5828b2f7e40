//! The plain fields that a struct begins with, for tools and tests.

use super::envelope::Encoding;
use super::varint;

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An integer of any size.
    Number(i64),
    /// A floating-point number.
    Double(f64),
    /// Text, or any bytes.
    Text(Vec<u8>),
    /// A list, a map, a set, a struct or a UUID; what is after it is not read.
    Nested,
}

/// The fields of `body` by their ids, up to the first that is [`Value::Nested`], the
/// struct's end, or what cannot be read.
pub fn fields(encoding: Encoding, body: &[u8]) -> Vec<(i16, Value)> {
    let mut reader = Reader { rest: body, id: 0 };
    let mut all = Vec::new();
    while let Some(field) = match encoding {
        Encoding::Compact => reader.compact(),
        Encoding::Binary | Encoding::BinaryOld => reader.binary(),
    } {
        let nested = field.1 == Value::Nested;
        all.push(field);
        if nested {
            break;
        }
    }
    all
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The last field's id, which the compact protocol counts from.
    id: i16,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::read(self.rest, 0).ok()?;
        self.rest = self.rest.get(len..)?;
        Some(value)
    }

    fn text(&mut self, len: usize) -> Option<Value> {
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Value::Text(text.to_vec()))
    }

    fn binary(&mut self) -> Option<(i16, Value)> {
        let [kind] = self.take()?;
        if kind == 0 {
            return None;
        }
        let id = i16::from_be_bytes(self.take()?);
        let value = match kind {
            2 => Value::Bool(self.take() != Some([0])),
            3 => Value::Number(i8::from_be_bytes(self.take()?).into()),
            4 => Value::Double(f64::from_be_bytes(self.take()?)),
            6 => Value::Number(i16::from_be_bytes(self.take()?).into()),
            8 => Value::Number(i32::from_be_bytes(self.take()?).into()),
            10 => Value::Number(i64::from_be_bytes(self.take()?)),
            11 => {
                let len = u32::from_be_bytes(self.take()?);
                self.text(usize::try_from(len).ok()?)?
            }
            _ => Value::Nested,
        };
        Some((id, value))
    }

    fn compact(&mut self) -> Option<(i16, Value)> {
        let [first] = self.take()?;
        if first == 0 {
            return None;
        }
        self.id = match first >> 4 {
            0 => i16::try_from(varint::unzigzag(self.varint()?)).ok()?,
            delta => self.id.checked_add(delta.into())?,
        };
        let value = match first & 0x0f {
            1 => Value::Bool(true),
            2 => Value::Bool(false),
            3 => Value::Number(i8::from_be_bytes(self.take()?).into()),
            4..=6 => Value::Number(varint::unzigzag(self.varint()?)),
            7 => Value::Double(f64::from_le_bytes(self.take()?)),
            8 => {
                let len = self.varint()?;
                self.text(usize::try_from(len).ok()?)?
            }
            _ => Value::Nested,
        };
        Some((self.id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_fields_are_read_in_both_encodings() {
        let binary = b"\x0b\0\x01\0\0\0\x02hi\x08\0\x02\xff\xff\xff\xff\x02\x01\0\x01\
            \x04\x01\x01\x3f\xf0\0\0\0\0\0\0\x03\x01\x02\x80\x0a\x01\x03\0\0\0\0\0\0\0\x05\0";
        let compact = b"\x18\x02hi\x15\x01\x01\x80\x04\x17\0\0\0\0\0\0\xf0\x3f\x13\x80\x16\x0a\0";
        let due = vec![
            (1, Value::Text(b"hi".to_vec())),
            (2, Value::Number(-1)),
            (256, Value::Bool(true)),
            (257, Value::Double(1.0)),
            (258, Value::Number(-128)),
            (259, Value::Number(5)),
        ];
        assert_eq!(fields(Encoding::Binary, binary), due);
        assert_eq!(fields(Encoding::Compact, compact), due);
        // Half a field is none, wherever it is cut.
        for (encoding, body) in [(Encoding::Binary, &binary[..]), (Encoding::Compact, compact)] {
            for cut in 0..body.len() {
                assert!(due.starts_with(&fields(encoding, &body[..cut])), "{encoding:?} {cut}");
            }
        }
    }

    #[test]
    fn nothing_is_read_behind_what_is_nested() {
        assert_eq!(fields(Encoding::Binary, b"\x0c\0\0\0\0"), [(0, Value::Nested)]);
        assert_eq!(fields(Encoding::Compact, b"\x0c\0\0\0"), [(0, Value::Nested)]);
        assert_eq!(fields(Encoding::Binary, b"\0"), []);
    }
}
