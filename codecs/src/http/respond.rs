//! Direct answers of routes.

use std::io::Write;

use super::change::immutable_field;
use super::fields::{is, is_text, trim};
use super::note;
use crate::answer::Answer;
use crate::codec::After;
use crate::frame::ReplyTo;

/// Answers a request as its route says. Headers that would break the message are
/// left out: control characters, names that are no token, what frames or is the
/// connection's own. A status that no final response has becomes 500.
pub(super) fn respond(to: ReplyTo, answer: &Answer<'_>, out: &mut Vec<u8>) -> After {
    let status = if matches!(answer.status, 200..=599) { answer.status } else { 500 };
    // After a 2xx to CONNECT the client speaks to a tunnel that is not there.
    let tunnel = to.token & note::CONNECT != 0 && status < 300;
    let to = if tunnel { ReplyTo { token: to.token | note::CLOSE, ..to } } else { to };
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
    let bare = tunnel || matches!(status, 204 | 304);
    let mut typed = bare || answer.body.is_empty();
    for (name, value) in answer.headers {
        if immutable_field(name.as_bytes()).is_some() || !is_text(value) {
            continue;
        }
        typed |= is(name.as_bytes(), "content-type");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(trim(value));
        out.extend_from_slice(b"\r\n");
    }
    if !typed {
        out.extend_from_slice(b"content-type: text/plain\r\n");
    }
    if !bare {
        let _ = write!(out, "content-length: {}\r\n", answer.body.len());
    }
    out.extend_from_slice(note::connection(to).as_bytes());
    out.extend_from_slice(b"\r\n");
    if !bare && to.token & note::HEAD == 0 {
        out.extend_from_slice(answer.body);
    }
    note::after(to)
}

/// The phrase of a status (RFC 9110 section 15); none for those that are rare.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
