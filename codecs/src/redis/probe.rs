//! Whether a connection's first bytes are Redis's.

use super::commands;
use crate::detect::{CERTAIN, Probe};

/// A line longer than this is no command that anybody types.
const LONGEST_LINE: usize = 1024;

/// How sure a known command word makes us: other line protocols may have the word too.
const TYPED: u8 = 150;

pub(super) fn probe(prefix: &[u8]) -> Probe {
    // Empty lines before the first command mean nothing.
    let lead = prefix.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = prefix.get(lead..).unwrap_or_default();
    if lead > 8 {
        return Probe::No;
    }
    match rest.first() {
        None => Probe::Maybe { need: prefix.len() + 1 },
        Some(b'*') => array(rest, prefix.len()),
        Some(byte) if byte.is_ascii_alphabetic() => typed(rest, prefix.len()),
        Some(_) => Probe::No,
    }
}

/// `*`, digits, CRLF, `$`: certain at the `$`.
fn array(rest: &[u8], len: usize) -> Probe {
    let digits = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 7 {
        return Probe::No;
    }
    let tail = rest.get(1 + digits..).unwrap_or_default();
    let expected = b"\r\n$";
    if digits == 0 {
        return if tail.is_empty() { Probe::Maybe { need: len + 1 } } else { Probe::No };
    }
    match tail.iter().zip(expected).position(|(have, want)| have != want) {
        Some(_) => Probe::No,
        None if tail.len() >= expected.len() => Probe::Yes { confidence: CERTAIN },
        None => Probe::Maybe { need: len + 1 },
    }
}

/// A known command word. Words that are also HTTP methods are told apart by the line's end.
fn typed(rest: &[u8], len: usize) -> Probe {
    let more = Probe::Maybe { need: len + 1 };
    let word = rest.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'-');
    let Some(word) = word else {
        let possible = commands::COMMANDS.iter().any(|command| {
            command.name.as_bytes().get(..rest.len()).is_some_and(|p| p.eq_ignore_ascii_case(rest))
        });
        return if possible { more } else { Probe::No };
    };
    if !matches!(rest.get(word), Some(b' ' | b'\r' | b'\n' | b'\t'))
        || commands::find(rest.get(..word).unwrap_or_default()).is_none()
    {
        return Probe::No;
    }
    let line = rest.get(..rest.len().min(LONGEST_LINE)).unwrap_or_default();
    match memchr::memchr(b'\n', line) {
        None if rest.len() >= LONGEST_LINE => Probe::No,
        None => more,
        Some(end) => {
            let line = line.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let http = line.len() >= 9
                && line.get(line.len() - 9..).is_some_and(|tail| tail.starts_with(b" HTTP/"));
            if http { Probe::No } else { Probe::Yes { confidence: TYPED } }
        }
    }
}
