//! What gRPC puts into a head (its "PROTOCOL-HTTP2"), whichever version carries it.

use std::io::Write;
use std::ops::RangeInclusive;

use super::fields::is;
use super::note;
use crate::codec::After;
use crate::frame::{Fault, Outcome, ReplyTo};

/// Whether a content type is gRPC's. That of gRPC-Web is not: its trailers are in the body.
pub(super) fn is_type(value: &[u8]) -> bool {
    let Some((name, rest)) = value.split_at_checked(16) else { return false };
    is(name, "application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Service and method of a path, `/package.Service/Method`.
pub(super) fn call(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let (slash, rest) = path.split_first()?;
    let end = memchr::memrchr(b'/', rest)?;
    let (service, method) = (rest.get(..end)?, rest.get(end + 1..)?);
    (*slash == b'/' && !service.is_empty() && !method.is_empty()).then_some((service, method))
}

/// Milliseconds of a `grpc-timeout`, rounded up; 0 where it is none.
pub(super) fn timeout(value: &[u8]) -> u32 {
    let Some((unit, digits)) = value.split_last() else { return 0 };
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let millis = match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => 0,
    };
    u32::try_from(millis).unwrap_or(u32::MAX)
}

/// Appends the field that tells the server how long the client still waits: of its
/// digits there may be eight.
pub(super) fn put_timeout(millis: u32, out: &mut Vec<u8>) {
    let (number, unit) = if millis < 100_000_000 { (millis, 'm') } else { (millis / 1_000, 'S') };
    let _ = write!(out, "grpc-timeout: {number}{unit}\r\n");
}

/// How a request fared whose `grpc-status` is this one.
pub(super) fn outcome(status: &[u8]) -> Outcome {
    match status {
        b"0" => Outcome::Ok,
        b"4" => Outcome::Timeout,
        b"8" => Outcome::Overloaded,
        b"14" => Outcome::Unavailable,
        b"2" | b"13" | b"15" => Outcome::ServerError,
        _ => Outcome::AppError,
    }
}

/// Where gRPC's codes begin among the statuses of [`Head::status`](crate::Head::status): behind HTTP's.
const CODES: u32 = 1 << 16;

/// What configs call gRPC's codes, from 0 (gRPC's `doc/statuscodes.md`).
const NAMES: [&str; 17] = [
    "grpc-ok",
    "grpc-cancelled",
    "grpc-unknown",
    "grpc-invalid-argument",
    "grpc-deadline-exceeded",
    "grpc-not-found",
    "grpc-already-exists",
    "grpc-permission-denied",
    "grpc-resource-exhausted",
    "grpc-failed-precondition",
    "grpc-aborted",
    "grpc-out-of-range",
    "grpc-unimplemented",
    "grpc-internal",
    "grpc-unavailable",
    "grpc-data-loss",
    "grpc-unauthenticated",
];

/// The status of a reply whose `grpc-status` is this one.
pub(super) fn numbered(status: &[u8]) -> u32 {
    let code = std::str::from_utf8(status).ok().and_then(|text| text.parse::<u16>().ok());
    code.map_or(0, |code| CODES + u32::from(code))
}

/// What a config calls the status of a gRPC reply.
pub(super) fn status_word(status: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(status.checked_sub(CODES)?).ok()?).copied()
}

/// The statuses that a config's word names: `grpc-unavailable`, `503`, `5xx`.
pub(super) fn statuses(word: &str) -> Option<RangeInclusive<u32>> {
    if word.starts_with("grpc-") {
        let code = NAMES.iter().position(|known| *known == word)?;
        let status = CODES + u32::try_from(code).ok()?;
        return Some(status..=status);
    }
    let (first, last) = match word.strip_suffix("xx") {
        Some(class) => {
            let class: u32 = class.parse().ok()?;
            (class * 100, class * 100 + 99)
        }
        None => (word.parse().ok()?, word.parse().ok()?),
    };
    (first >= 200 && last <= 599).then_some(first..=last)
}

/// The same as a status of ours.
pub(super) fn fault_status(fault: Fault) -> u32 {
    numbered(status(fault).as_bytes())
}

/// The status that tells a client of this fault.
fn status(fault: Fault) -> &'static str {
    match fault {
        Fault::Timeout => "4",
        Fault::Denied => "7",
        Fault::Overloaded | Fault::TooLarge => "8",
        Fault::NoRoute | Fault::Unsupported => "12",
        Fault::Malformed => "13",
        Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Expired
        | Fault::ShuttingDown => "14",
    }
}

/// Answers a request with trailers only, which over HTTP/1.1 are fields of the head.
pub(super) fn reply(to: ReplyTo, fault: Fault, why: &str, out: &mut Vec<u8>) -> After {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: ");
    out.extend_from_slice(status(fault).as_bytes());
    out.extend_from_slice(b"\r\ngrpc-message: polyport: ");
    escape(why, out);
    out.extend_from_slice(b"\r\ncontent-length: 0\r\n");
    out.extend_from_slice(note::connection(to).as_bytes());
    out.extend_from_slice(b"\r\n");
    note::after(to)
}

/// Percent-encodes a message, as gRPC has it: all but printable ASCII, and `%`.
fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
    }
}
