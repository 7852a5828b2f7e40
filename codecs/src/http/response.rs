//! Responses: the status line, and a body whose framing depends on the request.

use std::collections::VecDeque;
use std::sync::Arc;

use super::body::Framing;
use super::fields::{is_text, line};
use super::head::{Finder, Found, scan};
use super::{NAME, Plan, note, refuse};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Lease, Outcome, ReplyTo, Step};
use crate::metadata::Metadata;

pub(super) struct ResponseDecoder {
    plan: Arc<Plan>,
    finder: Finder,
    framing: Option<Framing>,
    /// Notes of the requests that wait for their responses, in order.
    requests: VecDeque<u64>,
}

impl ResponseDecoder {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, finder: Finder::default(), framing: None, requests: VecDeque::new() }
    }

    fn head(&mut self, buf: &[u8], found: Found, meta: &mut Metadata) -> Result<Step, DecodeError> {
        let plan = self.plan.clone();
        let head_bytes = buf.get(..found.end).unwrap_or_default();
        let Some((text, fields_at)) = line(head_bytes, found.start)? else {
            return Err(refuse(400, found.start, "a head without a status line"));
        };
        let (minor, status) = status_line(text, found.start)?;
        let Some(request) = self.requests.front().copied() else {
            return Err(refuse(400, found.start, "a response that no request asked for"));
        };
        meta.clear();
        let said = scan(head_bytes, fields_at, &plan.limits, |field| {
            plan.keys.field(field, head_bytes, meta);
        })?;
        if said.length.is_some() && said.chunked {
            return Err(refuse(400, fields_at, "both Content-Length and Transfer-Encoding"));
        }
        let mut head = Head::whole(Kind::Response, found.end);
        let mut notes = said.notes;
        if minor == 0 {
            notes |= note::VERSION_10;
        }
        // Chunks from HTTP/1.0 are faulty framing: nothing may follow (RFC 9112 section 6.1).
        head.last = said.close || (minor == 0 && (!said.keep_alive || said.chunked));
        (head.outcome, head.status) = match said.outcome {
            // Trailers only: the head says how the call fared.
            Some(found) if request & note::GRPC != 0 => found,
            _ => (outcome(status), u32::from(status)),
        };
        let tunnel = (200..300).contains(&status) && request & note::CONNECT != 0;
        match status {
            101 if request & note::UPGRADE == 0 => {
                return Err(refuse(400, found.start, "101 to a request that asked for no upgrade"));
            }
            101 => {
                head.lease = Lease::Session;
                notes |= note::UPGRADE;
            }
            100..=199 => head.kind = Kind::Interim,
            _ if tunnel => head.lease = Lease::Session,
            204 | 304 => {}
            _ if request & note::HEAD != 0 => {}
            _ => match (said.length, said.chunked) {
                (_, true) => self.steps(&mut head, Framing::Size { extra: 0 }),
                (Some(0), _) => {}
                (Some(length), _) => head.body = Body::Length(length),
                (None, _) => {
                    notes |= note::UNTIL_CLOSE;
                    head.last = true;
                    self.steps(&mut head, Framing::UntilClose);
                }
            },
        }
        head.reply_to.token = notes;
        if head.kind == Kind::Response {
            self.requests.pop_front();
        }
        plan.keys.response(status, found, head.kind, said.length, meta);
        Ok(Step::Head(head))
    }

    fn steps(&mut self, head: &mut Head, framing: Framing) {
        head.body = Body::Steps;
        self.framing = Some(framing);
    }
}

/// Minor version and status (RFC 9112 section 4).
fn status_line(text: &[u8], at: usize) -> Result<(u8, u16), DecodeError> {
    let minor = match text.get(..9) {
        Some(b"HTTP/1.1 ") => 1,
        Some(b"HTTP/1.0 ") => 0,
        _ => return Err(refuse(400, at, "a status line that begins with no known version")),
    };
    let digits = text.get(9..12).unwrap_or_default();
    let status: Option<u16> = if digits.len() == 3 && digits.iter().all(u8::is_ascii_digit) {
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())
    } else {
        None
    };
    let rest = text.get(12..).unwrap_or_default();
    match status {
        Some(status @ 100..=599)
            if is_text(rest) && rest.first().is_none_or(|byte| *byte == b' ') =>
        {
            Ok((minor, status))
        }
        _ => Err(refuse(400, at, "a status line without a status of three digits")),
    }
}

fn outcome(status: u16) -> Outcome {
    match status {
        429 => Outcome::Overloaded,
        400..=499 => Outcome::AppError,
        502 | 503 => Outcome::Unavailable,
        504 => Outcome::Timeout,
        500.. => Outcome::ServerError,
        _ => Outcome::Ok,
    }
}

impl Decoder for ResponseDecoder {
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

    fn expect(&mut self, request: ReplyTo) {
        self.requests.push_back(request.token);
    }

    fn wants_requests(&self) -> bool {
        true
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        match self.framing {
            Some(Framing::UntilClose) => Ok(true),
            None if self.finder.is_idle() && unread.len() <= self.finder.lead() => Ok(false),
            _ => Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a response")),
        }
    }
}
