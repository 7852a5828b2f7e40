//! How a call fared: the first field of its reply tells.

use super::envelope::{EXCEPTION, Encoding, Envelope};
use super::varint;
use crate::frame::Outcome;

/// The outcome in a reply whose start is `envelope`. `message`: as much of it as is at hand.
pub(super) fn of(envelope: &Envelope, message: &[u8]) -> Outcome {
    let body = message.get(envelope.body..).unwrap_or_default();
    if envelope.kind == EXCEPTION {
        return match exception_code(envelope.encoding, body) {
            // Unknown method, wrong type or name, bad sequence id: the call's own fault.
            Some(1..=4) => Outcome::AppError,
            _ => Outcome::ServerError,
        };
    }
    // A result is a struct of one field: 0 is the value, any other a declared
    // exception, none at all the success of a void method.
    match first_field(envelope.encoding, body) {
        None | Some(0) => Outcome::Ok,
        Some(_) => Outcome::AppError,
    }
}

fn first_field(encoding: Encoding, body: &[u8]) -> Option<i64> {
    let first = *body.first()?;
    if first == 0 {
        return None;
    }
    if encoding != Encoding::Compact {
        let id: &[u8; 2] = body.get(1..)?.first_chunk()?;
        return Some(i64::from(i16::from_be_bytes(*id)));
    }
    match first >> 4 {
        0 => varint::read(body, 1).ok().map(|(id, _)| varint::unzigzag(id)),
        delta => Some(i64::from(delta)),
    }
}

/// Field 2 of a TApplicationException.
fn exception_code(encoding: Encoding, body: &[u8]) -> Option<i32> {
    let mut at = 0;
    if encoding == Encoding::Compact {
        let mut id = 0;
        loop {
            let first = *body.get(at)?;
            at += 1;
            match first >> 4 {
                0 => {
                    let (value, len) = varint::read(body, at).ok()?;
                    id = varint::unzigzag(value);
                    at += len;
                }
                delta => id += i64::from(delta),
            }
            match first & 0x0f {
                8 => {
                    let (len, size) = varint::read(body, at).ok()?;
                    at = at.checked_add(size)?.checked_add(usize::try_from(len).ok()?)?;
                }
                5 if id == 2 => {
                    let (value, _) = varint::read(body, at).ok()?;
                    return i32::try_from(varint::unzigzag(value)).ok();
                }
                _ => return None,
            }
        }
    }
    loop {
        let kind = *body.get(at)?;
        let id: &[u8; 2] = body.get(at + 1..)?.first_chunk()?;
        let value: &[u8; 4] = body.get(at + 3..)?.first_chunk()?;
        match kind {
            11 => {
                let len = u32::from_be_bytes(*value) as usize;
                at = at.checked_add(7)?.checked_add(len)?;
            }
            8 if *id == [0, 2] => return Some(i32::from_be_bytes(*value)),
            _ => return None,
        }
    }
}
