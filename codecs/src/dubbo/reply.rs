//! Replies that the proxy gives itself.

use super::header::{self, EVENT, SERIALIZATION};
use crate::codec::After;
use crate::frame::{Fault, ReplyTo};
use crate::hessian;

/// Status: the request cannot be read.
pub(super) const BAD_REQUEST: u8 = 40;
const OK: u8 = 20;
const SERVER_TIMEOUT: u8 = 31;
const BAD_RESPONSE: u8 = 50;
const SERVICE_NOT_FOUND: u8 = 60;
const SERVER_ERROR: u8 = 80;
const POOL_EXHAUSTED: u8 = 100;

/// Answers a request that was understood, with the status that Dubbo's own
/// servers would give. The body is never empty: a client waits for one.
pub(super) fn local(to: ReplyTo, fault: Fault, why: &str, out: &mut Vec<u8>) -> After {
    let status = match fault {
        Fault::NoRoute => SERVICE_NOT_FOUND,
        Fault::Timeout => SERVER_TIMEOUT,
        Fault::Overloaded => POOL_EXHAUSTED,
        Fault::TooLarge | Fault::Unsupported => BAD_REQUEST,
        Fault::Malformed => BAD_RESPONSE,
        Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Denied
        | Fault::Expired
        | Fault::ShuttingDown => SERVER_ERROR,
    };
    error(to, status, why, out);
    After::Keep
}

/// Appends an error reply in the request's own serialization, where it is one that
/// we can write.
pub(super) fn error(to: ReplyTo, status: u8, why: &str, out: &mut Vec<u8>) {
    let why = format!("polyport: {why}");
    let asked = to.token as u8 & SERIALIZATION;
    let mut body = Vec::new();
    let serialization = if header::json_lines(asked) {
        json(&why, &mut body);
        asked
    } else {
        hessian::write::string(&why, &mut body);
        2
    };
    header::write(serialization, status, to.id, &body, out);
}

/// Answers a heartbeat: an event with the same id and serialization, without the
/// two-way flag, with null for a body: the heartbeat's own, where it is not
/// Hessian's, as that is null in its serialization.
pub(super) fn heartbeat(to: ReplyTo, message: &[u8], out: &mut Vec<u8>) {
    let serialization = to.token as u8 & SERIALIZATION;
    let null = match message.get(header::LEN..) {
        Some(null) if serialization != 2 && !null.is_empty() => null,
        _ => b"N",
    };
    header::write(EVENT | serialization, OK, to.id, null, out);
}

/// Tells a client that this server takes no more calls: an event that wants no reply, with
/// `R` for a body, in the client's own serialization where it is one that we can write.
pub(super) fn read_only(spoke: ReplyTo, out: &mut Vec<u8>) {
    let asked = spoke.token as u8 & SERIALIZATION;
    let json = header::json_lines(asked);
    let (serialization, r): (u8, &[u8]) = if json { (asked, b"\"R\"\n") } else { (2, b"\x01R") };
    header::write(header::REQUEST | EVENT | serialization, 0, 0, r, out);
}

/// Appends a JSON string and the end of its line; control characters become spaces.
fn json(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(b"\"\n");
}
