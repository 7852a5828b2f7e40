//! Writing the few values that a proxy, a tool or a test writes itself.

/// Most UTF-16 units in one chunk of a string.
const CHUNK: usize = 0x8000;

/// Appends a string. Characters beyond the basic plane are written as two
/// surrogates of three bytes each, which every implementation reads.
pub fn string(text: &str, out: &mut Vec<u8>) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut rest = &units[..];
    while rest.len() > CHUNK {
        let (chunk, after) = rest.split_at(CHUNK);
        out.push(b'R');
        out.extend_from_slice(&(CHUNK as u16).to_be_bytes());
        chunk.iter().for_each(|unit| put(*unit, out));
        rest = after;
    }
    match rest.len() {
        len @ 0..=31 => out.push(len as u8),
        len @ 32..=1023 => out.extend_from_slice(&[0x30 + (len >> 8) as u8, len as u8]),
        len => {
            out.push(b'S');
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    rest.iter().for_each(|unit| put(*unit, out));
}

fn put(unit: u16, out: &mut Vec<u8>) {
    match unit {
        0..=0x7f => out.push(unit as u8),
        0x80..=0x7ff => {
            out.extend_from_slice(&[0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8])
        }
        _ => out.extend_from_slice(&[
            0xe0 | (unit >> 12) as u8,
            0x80 | (unit >> 6 & 0x3f) as u8,
            0x80 | (unit & 0x3f) as u8,
        ]),
    }
}

/// Appends an int.
pub fn int(value: i32, out: &mut Vec<u8>) {
    match value {
        -16..=47 => out.push((0x90 + value) as u8),
        _ => {
            out.push(b'I');
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends a long.
pub fn long(value: i64, out: &mut Vec<u8>) {
    match value {
        -8..=15 => out.push((0xe0 + value) as u8),
        _ => {
            out.push(b'L');
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends a map of strings; null where there is nothing in it.
pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.push(b'H');
    for (key, value) in entries {
        string(key, out);
        string(value, out);
    }
    out.push(b'Z');
}
