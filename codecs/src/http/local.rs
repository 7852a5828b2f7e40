//! Responses that the proxy gives itself.

use super::note;
use crate::codec::After;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Fault, ReplyTo};

/// The status that tells a client of this fault.
pub(super) fn status(fault: Fault) -> (u16, &'static str) {
    match fault {
        Fault::NoRoute => (404, "Not Found"),
        Fault::Denied => (403, "Forbidden"),
        Fault::TooLarge => (413, "Content Too Large"),
        Fault::Unsupported => (501, "Not Implemented"),
        Fault::UpstreamReset | Fault::Malformed => (502, "Bad Gateway"),
        Fault::Timeout => (504, "Gateway Timeout"),
        Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::Overloaded
        | Fault::Expired
        | Fault::ShuttingDown => (503, "Service Unavailable"),
    }
}

/// Answers a request that was understood.
pub(super) fn reply(to: ReplyTo, fault: Fault, why: &str, out: &mut Vec<u8>) -> After {
    let (status, reason) = status(fault);
    write(status, reason, why, note::connection(to), to.token & note::HEAD == 0, out);
    note::after(to)
}

/// Answers bytes that are no request.
/// The status and the reason phrase for a request that cannot be read.
pub(super) fn refusal(error: &DecodeError) -> (u16, &'static str) {
    match (error.status, error.kind) {
        (413, _) => (413, "Content Too Large"),
        (414, _) => (414, "URI Too Long"),
        (431, _) | (0, ErrorKind::TooLarge) => (431, "Request Header Fields Too Large"),
        (501, _) => (501, "Not Implemented"),
        (505, _) => (505, "HTTP Version Not Supported"),
        _ => (400, "Bad Request"),
    }
}

pub(super) fn reject(error: &DecodeError, out: &mut Vec<u8>) {
    let (status, reason) = refusal(error);
    write(status, reason, &error.reason, "connection: close\r\n", true, out);
}

fn write(status: u16, reason: &str, why: &str, connection: &str, body: bool, out: &mut Vec<u8>) {
    let text = format!("polyport: {why}\n");
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n{connection}\r\n",
        text.len()
    );
    out.extend_from_slice(head.as_bytes());
    if body {
        out.extend_from_slice(text.as_bytes());
    }
}
