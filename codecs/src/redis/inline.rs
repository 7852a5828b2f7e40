//! Commands typed as a line, with Redis's quoting rules.

use super::malformed;
use crate::error::DecodeError;

/// Longest line, as in Redis (`PROTO_INLINE_MAX_SIZE`).
pub(super) const LONGEST: usize = 64 << 10;

/// The words of a line. Double quotes know `\n \r \t \b \a \xHH` and escape any other
/// character; single quotes know `\'`.
pub(super) fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let unbalanced = |at: usize| malformed(at, "unbalanced quotes in request");
    let mut words = Vec::new();
    let mut at = 0;
    let byte = |at: usize| line.get(at).copied();
    loop {
        while byte(at).is_some_and(|byte| byte.is_ascii_whitespace() || byte == 0) {
            at += 1;
        }
        if byte(at).is_none() {
            return Ok(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            match (quote, byte(at)) {
                (None, None) => break,
                (None, Some(space)) if space.is_ascii_whitespace() || space == 0 => break,
                (None, Some(mark @ (b'"' | b'\''))) => quote = Some(mark),
                (Some(_), None) => return Err(unbalanced(at)),
                (Some(open), Some(mark)) if mark == open => {
                    // A closing quote ends the word.
                    if byte(at + 1).is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(unbalanced(at));
                    }
                    at += 1;
                    break;
                }
                (Some(b'"'), Some(b'\\')) => {
                    let hex = |at: usize| byte(at).and_then(|b| char::from(b).to_digit(16));
                    if let (Some(b'x'), Some(high), Some(low)) =
                        (byte(at + 1), hex(at + 2), hex(at + 3))
                    {
                        word.push((high * 16 + low) as u8);
                        at += 3;
                    } else {
                        let escaped = byte(at + 1).ok_or_else(|| unbalanced(at))?;
                        word.push(match escaped {
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            b'b' => 8,
                            b'a' => 7,
                            other => other,
                        });
                        at += 1;
                    }
                }
                (Some(b'\''), Some(b'\\')) if byte(at + 1) == Some(b'\'') => {
                    word.push(b'\'');
                    at += 1;
                }
                (_, Some(other)) => word.push(other),
            }
            at += 1;
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let cases: [(&[u8], &[&[u8]]); 6] = [
            (b"  get   key ", &[b"get", b"key"]),
            (b"set k \"a b\"", &[b"set", b"k", b"a b"]),
            (b"set k \"\\x41\\n\\\"\"", &[b"set", b"k", b"A\n\""]),
            (b"set k 'it\\'s'", &[b"set", b"k", b"it's"]),
            (b"set k ''", &[b"set", b"k", b""]),
            (b"   ", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).expect("fine"), expected, "{}", line.escape_ascii());
        }
        for line in [&b"set k \"a"[..], b"set k 'a", b"set k \"a\"b", b"set k \"a\\"] {
            assert!(words(line).is_err(), "{}", line.escape_ascii());
        }
    }
}
