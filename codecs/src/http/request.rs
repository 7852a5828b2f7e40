//! Requests: the start line, what the fields say, and how the body is framed.

use std::sync::Arc;

use super::body::Framing;
use super::fields::{authority, is_token, line};
use super::head::{Finder, Found, Said, scan};
use super::{NAME, Plan, dialect, note, refuse};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Lease, Step};
use crate::metadata::Metadata;

pub(super) struct RequestDecoder {
    plan: Arc<Plan>,
    finder: Finder,
    framing: Option<Framing>,
    /// Decodes a stream of HTTP/2, translated.
    stream: bool,
}

/// A request's start line.
pub(super) struct StartLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) version: Version,
}

/// The version that a start line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
    /// Of a translated stream, which otherwise is as HTTP/1.1 has it.
    Http2,
}

impl Version {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

const VERSIONS: &str = "a version other than HTTP/1.0 and HTTP/1.1";

/// Splits a start line (RFC 9112 section 3), strictly: single spaces, no others.
pub(super) fn start_line(text: &[u8], at: usize) -> Result<StartLine<'_>, DecodeError> {
    let mut parts = text.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse(400, at, "a request line that is not method, target and version"));
    };
    if !is_token(method) || method.len() > 32 {
        return Err(refuse(400, at, "a method that is no token of at most 32 bytes"));
    }
    let refused = |byte: u8| !(0x21..=0x7e).contains(&byte) | (byte == b'#');
    if target.is_empty() || target.iter().fold(false, |any, byte| any | refused(*byte)) {
        return Err(refuse(400, at, "a target with bytes that no target has"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        b"HTTP/2.0" => Version::Http2,
        _ if version.starts_with(b"HTTP/") => {
            return Err(refuse(505, at, VERSIONS));
        }
        _ => return Err(refuse(400, at, "a request line that does not end in a version")),
    };
    Ok(StartLine { method, target, version })
}

/// A target's path and query in origin form, and the authority it names.
pub(super) struct Target<'a> {
    pub(super) scheme: Option<&'a [u8]>,
    pub(super) authority: Option<&'a [u8]>,
    /// `/path?query`; empty for CONNECT; `*` for OPTIONS.
    pub(super) origin: &'a [u8],
}

/// Understands a target (RFC 9112 section 3.2).
pub(super) fn target<'a>(start: &StartLine<'a>) -> Result<Target<'a>, DecodeError> {
    let bytes = start.target;
    if start.method == b"CONNECT" {
        if authority(bytes).is_none_or(|(host, port)| host.is_empty() || port.len() < 2) {
            return Err(refuse(400, 0, "a CONNECT target that is not host:port"));
        }
        return Ok(Target { scheme: None, authority: Some(bytes), origin: b"" });
    }
    if bytes.first() == Some(&b'/') {
        return Ok(Target { scheme: None, authority: None, origin: bytes });
    }
    if bytes == b"*" && start.method == b"OPTIONS" {
        return Ok(Target { scheme: None, authority: None, origin: bytes });
    }
    let at = memchr::memmem::find(bytes, b"://");
    let Some((scheme, rest)) = at.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 3..)?)))
    else {
        return Err(refuse(400, 0, "a target that is neither a path nor absolute"));
    };
    if !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")) {
        return Err(refuse(400, 0, "a target with a scheme other than http and https"));
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (named, origin) = rest.split_at(end);
    if authority(named).is_none_or(|(host, _)| host.is_empty()) || origin.first() == Some(&b'?') {
        return Err(refuse(400, 0, "an absolute target without a plain host and a path"));
    }
    let origin: &[u8] = match origin {
        // RFC 9112 section 3.2.4.
        [] if start.method == b"OPTIONS" => b"*",
        [] => b"/",
        _ => origin,
    };
    Ok(Target { scheme: Some(scheme), authority: Some(named), origin })
}

impl RequestDecoder {
    pub(super) fn new(plan: Arc<Plan>, stream: bool) -> Self {
        Self { plan, finder: Finder::default(), framing: None, stream }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    fn head(&mut self, buf: &[u8], found: Found, meta: &mut Metadata) -> Result<Step, DecodeError> {
        let plan = self.plan.clone();
        let head_bytes = buf.get(..found.end).unwrap_or_default();
        let Some((text, fields_at)) = line(head_bytes, found.start)? else {
            return Err(refuse(400, found.start, "a head without a start line"));
        };
        let start = start_line(text, found.start)?;
        if start.version == Version::Http2 && !self.stream {
            return Err(refuse(505, found.start, VERSIONS));
        }
        let target = target(&start)?;
        meta.clear();
        let mut said = scan(head_bytes, fields_at, &plan.limits, |field| {
            plan.keys.field(field, head_bytes, meta);
        })?;
        let notes = notes(&start, &target, &said)?;
        let (body, framing) = match (said.length, said.chunked) {
            (Some(_), true) => {
                return Err(refuse(400, fields_at, "both Content-Length and Transfer-Encoding"));
            }
            (_, true) if start.version == Version::Http10 => {
                return Err(refuse(400, fields_at, "Transfer-Encoding in an HTTP/1.0 request"));
            }
            (_, true) => (Body::Steps, Some(Framing::Size { extra: 0 })),
            (Some(length), _) if length > plan.limits.body => {
                return Err(refuse(413, fields_at, format!("a body of {length} bytes")));
            }
            (None | Some(0), false) => (Body::None, None),
            (Some(length), false) => (Body::Length(length), None),
        };
        self.framing = framing;
        let mut head = Head::whole(Kind::Request, found.end);
        head.body = body;
        head.lease = Lease::Once;
        head.reply_to.token = notes;
        if notes & note::GRPC != 0 {
            head.timeout = said.timeout;
        }
        head.last = notes & note::CLOSE != 0;
        // RFC 9110, section 9.2.2.
        head.idempotent =
            matches!(start.method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
        said.dialect = dialect::of(start.version, notes);
        head.dialect = said.dialect;
        plan.keys.request(&start, &target, found, head_bytes, &said, meta);
        Ok(Step::Head(head))
    }
}

fn notes(start: &StartLine<'_>, target: &Target<'_>, said: &Said) -> Result<u64, DecodeError> {
    let mut notes = said.notes;
    if start.version == Version::Http10 {
        notes |= note::VERSION_10;
        if !said.keep_alive {
            notes |= note::CLOSE;
        }
    } else if said.hosts == 0 {
        return Err(refuse(400, 0, "a request without a Host"));
    }
    if said.hosts > 1 {
        return Err(refuse(400, 0, "more than one Host"));
    }
    if said.hosts == 0 {
        notes |= note::NO_HOST;
    }
    if said.close {
        notes |= note::CLOSE;
    }
    match start.method {
        b"HEAD" => notes |= note::HEAD,
        b"CONNECT" => notes |= note::CONNECT,
        _ => {}
    }
    if said.upgrades() && start.version != Version::Http10 {
        notes |= note::UPGRADE;
        if said.websocket {
            notes |= note::WEBSOCKET;
        }
    }
    if target.scheme.is_some() {
        notes |= note::ABSOLUTE;
    }
    Ok(notes)
}

impl Decoder for RequestDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        if let Some(framing) = self.framing {
            let (step, framing) = framing.step(buf, &self.plan.limits)?;
            self.framing = framing;
            return Ok(step);
        }
        match self.finder.find(buf, &self.plan.limits)? {
            None => Ok(Step::Need(buf.len() + 1)),
            Some(found) => self.head(buf, found, meta),
        }
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if self.framing.is_none() && self.finder.is_idle() && unread.len() <= self.finder.lead() {
            return Ok(false);
        }
        Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a request"))
    }
}
