//! Values as they stand in lines: numbers, times, and bytes of strangers made harmless.

use std::io::Write;

/// Appends a JSON string, in quotes. Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn json(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut plain = 0;
        for (at, byte) in text.iter().enumerate() {
            let short = match byte {
                b'"' => b'"',
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x20..=0x7e | 0x80.. => continue,
                _ => 0,
            };
            out.extend_from_slice(text.get(plain..at).unwrap_or_default());
            plain = at + 1;
            if short == 0 {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\u{byte:04x}");
            } else {
                out.extend_from_slice(&[b'\\', short]);
            }
        }
        out.extend_from_slice(text.get(plain..).unwrap_or_default());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends text that begins no new line, ends no quotes and moves no terminal's cursor:
/// such characters, and bytes that are no UTF-8, are escaped with a backslash.
pub(crate) fn plain(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
                letter if letter.is_control() => {
                    let _ = write!(out, "{}", letter.escape_default());
                }
                letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Appends microseconds as milliseconds with three decimals.
pub(crate) fn millis(micros: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{}.{:03}", micros / 1000, micros % 1000);
}

/// Turns the time into text, and remembers the last second's: most lines share it.
#[derive(Default)]
pub(crate) struct Calendar {
    /// Seconds since 1970, and their text up to the point.
    second: Option<u64>,
    text: Vec<u8>,
}

impl Calendar {
    /// Appends the time as RFC 3339 has it, in UTC, to the microsecond. `micros`: since 1970.
    pub(crate) fn write(&mut self, micros: u64, out: &mut Vec<u8>) {
        let second = micros / 1_000_000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            date(second, &mut self.text);
        }
        out.extend_from_slice(&self.text);
        let _ = write!(out, ".{:06}Z", micros % 1_000_000);
    }
}

fn date(seconds: u64, out: &mut Vec<u8>) {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that the leap day comes last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    let _ = write!(
        out,
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}",
        year + era * 400,
        second / 3600,
        second / 60 % 60,
        second % 60,
    );
}

/// Now, in microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339_has_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_709_251_200_000_000, "2024-03-01T00:00:00.000000Z"),
            (4_102_444_799_000_001, "2099-12-31T23:59:59.000001Z"),
        ];
        let mut calendar = Calendar::default();
        for (micros, text) in cases {
            for _ in 0..2 {
                let mut out = Vec::new();
                calendar.write(micros, &mut out);
                assert_eq!(String::from_utf8_lossy(&out), text);
            }
        }
    }

    #[test]
    fn plain_text_stays_on_its_line() {
        let mut out = Vec::new();
        plain("a\n\"b\\\r\x1b[2J\u{9b}ü\u{2028}".as_bytes(), &mut out);
        plain(b"\xff\xc3", &mut out);
        let want = "a\\n\\\"b\\\\\\r\\u{1b}[2J\\u{9b}ü\u{2028}\\xff\\xc3";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        let mut out = Vec::new();
        for micros in [0, 7, 1_042, 61_000_000] {
            millis(micros, &mut out);
            out.push(b' ');
        }
        assert_eq!(out, b"0.000 0.007 1.042 61000.000 ");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_json_string(value: Vec<u8>) {
            let mut out = Vec::new();
            json(&value, &mut out);
            let read: String = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(read, String::from_utf8_lossy(&value));
            prop_assert!(out.iter().all(|byte| !matches!(byte, 0..0x20 | 0x7f)));
        }

        #[test]
        fn any_bytes_make_plain_text_of_one_line(value: Vec<u8>) {
            let mut out = Vec::new();
            plain(&value, &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
