//! Finding a head's end, and what its fields say of framing and the connection.

use super::fields::{Field, authority, field, is, line, members};
use super::{grpc, note, refuse};
use crate::error::DecodeError;
use crate::frame::Outcome;
use crate::limits::Limits;

/// Empty lines before a start line that are passed over (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES: usize = 4;

/// Finds the end of heads, looking at no byte twice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finder {
    lead: usize,
    /// Where the search goes on.
    at: usize,
    /// A start line was seen.
    started: bool,
}

/// Where a head is.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Where its start line begins, behind empty lines.
    pub(super) start: usize,
    /// Where the bytes after its empty line begin.
    pub(super) end: usize,
}

impl Finder {
    /// The head that begins `buf`; `None` where its end is not there yet.
    pub(super) fn find(
        &mut self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<Option<Found>, DecodeError> {
        loop {
            let rest = buf.get(self.at..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest).map(|end| self.at + end) else {
                self.at = buf.len();
                return match () {
                    () if !self.started && buf.len() - self.lead > limits.request_line => {
                        Err(refuse(414, self.lead, "a start line that is too long"))
                    }
                    () if buf.len() - self.lead > limits.head => {
                        Err(refuse(431, self.lead, "a head that is too large"))
                    }
                    () => Ok(None),
                };
            };
            let empty = |start: usize| buf.get(start..=end) == Some(b"\r\n");
            if !self.started {
                if empty(self.lead) {
                    if end >= EMPTY_LINES * 2 {
                        return Err(refuse(400, end, "too many empty lines before a message"));
                    }
                    (self.lead, self.at) = (end + 1, end + 1);
                    continue;
                }
                if end - self.lead > limits.request_line {
                    return Err(refuse(414, self.lead, "a start line that is too long"));
                }
                self.started = true;
            } else if end >= 3 && buf.get(end - 3..=end) == Some(b"\r\n\r\n") {
                let found = Found { start: self.lead, end: end + 1 };
                if found.end - found.start > limits.head {
                    return Err(refuse(431, self.lead, "a head that is too large"));
                }
                *self = Self::default();
                return Ok(Some(found));
            }
            // The bound first: cut before the LF, the bound is all that can be seen.
            if end - self.lead > limits.head {
                return Err(refuse(431, self.lead, "a head that is too large"));
            }
            if buf.get(end.wrapping_sub(1)) != Some(&b'\r') {
                return Err(refuse(400, end, "a line that ends in a bare LF"));
            }
            self.at = end + 1;
        }
    }

    /// Whether nothing but empty lines was seen.
    pub(super) fn is_idle(&self) -> bool {
        !self.started
    }

    /// Bytes of empty lines that begin the buffer.
    pub(super) fn lead(&self) -> usize {
        self.lead
    }
}

/// What a head's fields say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) notes: u64,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) hosts: usize,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// Of `grpc-timeout`, in milliseconds; 0: none.
    pub(super) timeout: u32,
    /// Of `grpc-status`, with its number.
    pub(super) outcome: Option<(Outcome, u32)>,
    connection_upgrade: bool,
    upgrade: bool,
    h2c: bool,
    /// Upgrade asks for WebSocket, and for nothing else.
    pub(super) websocket: bool,
    /// Of a request, once it is known.
    pub(super) dialect: u8,
}

impl Said {
    /// Whether it asks to change the protocol.
    pub(super) fn upgrades(&self) -> bool {
        self.connection_upgrade && self.upgrade && !self.h2c
    }
}

/// Reads all fields from `at`, strictly; `each` sees every one.
pub(super) fn scan(
    buf: &[u8],
    mut at: usize,
    limits: &Limits,
    mut each: impl FnMut(&Field<'_>),
) -> Result<Said, DecodeError> {
    let mut said = Said::default();
    let mut count = 0;
    loop {
        let Some((text, next)) = line(buf, at)? else {
            return Err(refuse(400, at, "a head without an end"));
        };
        if text.is_empty() {
            return Ok(said);
        }
        count += 1;
        if count > limits.headers {
            return Err(refuse(431, at, format!("more than {} fields", limits.headers)));
        }
        let field = field(text, at)?;
        understand(&field, at, &mut said)?;
        each(&field);
        at = next;
    }
}

fn understand(field: &Field<'_>, at: usize, said: &mut Said) -> Result<(), DecodeError> {
    let Field { name, value, .. } = field;
    // Most fields are told from these few by their length.
    match name.len() {
        14 if is(name, "content-length") => {
            if said.length.is_some() {
                return Err(refuse(400, at, "more than one Content-Length"));
            }
            said.length = Some(
                length(value)
                    .ok_or_else(|| refuse(400, at, "a Content-Length that is no number"))?,
            );
        }
        17 if is(name, "transfer-encoding") => {
            if said.chunked {
                return Err(refuse(400, at, "more than one Transfer-Encoding"));
            }
            if !is(value, "chunked") {
                return Err(refuse(501, at, "a Transfer-Encoding other than chunked"));
            }
            said.chunked = true;
            said.notes |= note::CHUNKED;
        }
        4 if is(name, "host") => {
            if authority(value).is_none() {
                return Err(refuse(400, at, "a Host that is no host"));
            }
            said.hosts += 1;
        }
        10 if is(name, "connection") => {
            said.notes |= note::HOP_FIELDS;
            for member in members(value) {
                said.close |= is(member, "close");
                said.keep_alive |= is(member, "keep-alive");
                said.connection_upgrade |= is(member, "upgrade");
            }
        }
        7 if is(name, "upgrade") => {
            said.websocket = !said.upgrade && is(value, "websocket");
            said.upgrade = true;
            // A tunnel of HTTP/2 would carry requests past every route (h2c smuggling).
            said.h2c |= members(value).any(|member| is(member, "h2c"));
            said.notes |= note::HOP_FIELDS;
        }
        11 if is(name, "grpc-status") => {
            said.outcome = Some((grpc::outcome(value), grpc::numbered(value)))
        }
        12 if is(name, "content-type") && grpc::is_type(value) => said.notes |= note::GRPC,
        12 if is(name, "grpc-timeout") => said.timeout = grpc::timeout(value),
        2 if is(name, "te") => {
            said.notes |= note::HOP_FIELDS;
            if members(value).any(|member| is(member, "trailers")) {
                said.notes |= note::TRAILERS;
            }
        }
        _ if for_one_hop(name) => said.notes |= note::HOP_FIELDS,
        _ => {}
    }
    Ok(())
}

/// Fields that are for one hop only, or that the proxy sets itself, beside those
/// that Connection names (RFC 9110 section 7.6.1).
pub(super) fn for_one_hop(name: &[u8]) -> bool {
    let candidates: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["upgrade", "trailer"],
        10 => &["connection", "keep-alive"],
        14 => &["http2-settings"],
        15 => &["x-forwarded-for"],
        16 => &["proxy-connection"],
        17 => &["x-forwarded-proto"],
        18 => &["proxy-authenticate"],
        19 => &["proxy-authorization"],
        25 => &["proxy-authentication-info"],
        _ => return false,
    };
    candidates.iter().any(|candidate| is(name, candidate))
}

/// A decimal length, digits only.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
