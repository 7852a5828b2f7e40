//! Field lines, strictly (RFC 9112 section 5).

use super::refuse;
use crate::error::DecodeError;

/// Bytes of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// Bytes of a host's name or IPv4 address (RFC 3986 section 3.2.2), without the comma:
/// it would make a list of one.
const HOST: [bool; 256] = alphanumeric_and(b"-._~%!$&'()*+;=");

/// Which bytes are letters, digits or of `others`.
const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Whether a field's value, or a chunk's extension, has only bytes that it may
/// have: no control characters but tab.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    // All are looked at, so that it needs no branches.
    let control = |byte: u8| (byte < 0x20) & (byte != b'\t') | (byte == 0x7f);
    !bytes.iter().fold(false, |any, byte| any | control(*byte))
}

/// One field of a head or a trailer section.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Where the value begins in the buffer.
    pub(super) value_at: usize,
}

/// The field line at `at`, which is `line` without its CRLF.
pub(super) fn field(line: &[u8], at: usize) -> Result<Field<'_>, DecodeError> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(refuse(400, at, "a folded field line"));
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(refuse(400, at, "a field line without a colon"));
    };
    let (name, rest) = line.split_at(colon);
    if !is_token(name) {
        return Err(refuse(400, at, "a field name that is no token"));
    }
    let rest = rest.get(1..).unwrap_or_default();
    let value = trim(rest);
    if !is_text(value) {
        return Err(refuse(400, at, "a control character in a field value"));
    }
    let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let value_at = at + colon + 1 + if value.is_empty() { 0 } else { blank };
    Ok(Field { name, value, value_at })
}

/// Without the blanks around it.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// The members of a comma-separated list.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// A line of `buf` from `at`: what is before its CRLF, and where the next begins.
/// `None` where its end is not there yet; an error where it ends in a bare LF or
/// has a bare CR.
pub(super) fn line(buf: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let rest = buf.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(None) };
    let line = rest.get(..end).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(refuse(400, at + end, "a line that ends in a bare LF"));
    };
    Ok(Some((line, at + end + 1)))
}

/// An authority as host and, with its colon, port (RFC 3986 section 3.2, without
/// userinfo); `None` for bytes that two parsers could split differently.
pub(super) fn authority(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let literal = bytes.first() == Some(&b'[');
    let end = match literal {
        true => memchr::memchr(b']', bytes)? + 1,
        false => memchr::memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, port) = bytes.split_at_checked(end)?;
    let inner = if literal { host.get(1..end - 1)? } else { host };
    if literal && inner.is_empty() {
        return None;
    }
    let allowed = |byte: &u8| HOST[usize::from(*byte)] || (literal && *byte == b':');
    let port_is_number = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    (inner.iter().all(allowed) && port_is_number).then_some((host, port))
}

/// Whether `name` is `lower` in any case.
pub(super) fn is(name: &[u8], lower: &str) -> bool {
    name.len() == lower.len() && name.eq_ignore_ascii_case(lower.as_bytes())
}
