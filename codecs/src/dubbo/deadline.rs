//! How long a client waits, as its attachments say.

use crate::hessian::{Reader, Scalar};

/// The key that makes attachments be read for it.
pub(super) const DEADLINE: &str = "attachment.timeout";

/// The attachments that say it: the configured timeout, and what is left of the time of
/// the call that this one is part of.
const NAMES: [&[u8]; 2] = [b"timeout", b"_TO"];

/// Whether an attachment of this name says it.
pub(super) fn is_name(name: &[u8]) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Milliseconds that a value says; 0 where it says none.
pub(super) fn millis(value: &Scalar, reader: &Reader<'_>, scratch: &[u8]) -> u32 {
    match value {
        Scalar::Integer(millis) if *millis > 0 => u32::try_from(*millis).unwrap_or(u32::MAX),
        Scalar::Text(text) => digits(reader.text(*text, scratch)),
        _ => 0,
    }
}

fn digits(text: &[u8]) -> u32 {
    if text.is_empty() || text.len() > 10 || !text.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let millis = text.iter().fold(0u64, |all, digit| all * 10 + u64::from(digit - b'0'));
    u32::try_from(millis).unwrap_or(u32::MAX)
}

/// The shorter of two times, of which 0 is none.
pub(super) fn sooner(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, other) => other,
        (one, 0) => one,
        (one, other) => one.min(other),
    }
}
