//! Finding messages, and saying what they are for.

use std::sync::Arc;

use super::body::{Body as RequestBody, Keys};
use super::header::{self, EVENT, Header, REQUEST, SERIALIZATION, TWO_WAY};
use super::{LARGEST_BODY, NAME};
use crate::codec::{Decoder, Side};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Outcome, ReplyTo, Step};
use crate::hessian::Stop;
use crate::interest::Interest;
use crate::limits::Limits;
use crate::metadata::Metadata;

/// Slots and limits, shared by all decoders of a config.
pub(super) struct Plan {
    pub(super) limits: Limits,
    pub(super) keys: Keys,
}

impl Plan {
    pub(super) fn new(limits: &Limits, interest: &Interest) -> Self {
        Self { limits: limits.clone(), keys: Keys::new(interest) }
    }
}

pub(super) struct DubboDecoder {
    plan: Arc<Plan>,
    side: Side,
    body: Option<RequestBody>,
}

impl DubboDecoder {
    pub(super) fn new(plan: Arc<Plan>, side: Side) -> Self {
        Self { plan, side, body: None }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        (self.plan, self.body) = (plan, None);
    }
}

impl DubboDecoder {
    /// An error that answers its message, if that is a call that waits for a reply.
    fn refuse(
        &self,
        header: &Header,
        kind: ErrorKind,
        at: usize,
        why: impl Into<std::borrow::Cow<'static, str>>,
    ) -> DecodeError {
        let error = DecodeError::new(NAME, kind, at, why);
        let call = header.flags & (REQUEST | TWO_WAY | EVENT) == REQUEST | TWO_WAY;
        if call && self.side == Side::Request {
            error.answering(ReplyTo { id: header.id, token: u64::from(header.flags) })
        } else {
            error
        }
    }
}

impl Decoder for DubboDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        let plan = self.plan.clone();
        let Some(header) = header::read(buf) else {
            let magic = [0xda, 0xbb];
            let have = buf.get(..buf.len().min(2)).unwrap_or_default();
            if !magic.starts_with(have) {
                return Err(DecodeError::new(
                    NAME,
                    ErrorKind::Malformed,
                    0,
                    format!("magic {} where da bb should be", have.escape_ascii()),
                ));
            }
            return Ok(Step::Need(if buf.len() < magic.len() { magic.len() } else { header::LEN }));
        };
        let to = ReplyTo { id: header.id, token: u64::from(header.flags) };
        let body = u64::from(header.body);
        let largest = plan.limits.frame.min(LARGEST_BODY);
        if body > largest {
            let reason = format!("a body of {body} bytes, where {largest} are allowed");
            return Err(self.refuse(&header, ErrorKind::TooLarge, 12, reason));
        }
        let size = header::LEN as u64 + body;
        let kind = kind(&header, self.side, buf);
        let deep = matches!(kind, Kind::Request | Kind::Oneway) && plan.keys.need_body();
        let size_here = usize::try_from(size).unwrap_or(usize::MAX);
        // A small message is shown whole; of a large one as much as routing may need.
        let shown = match () {
            () if size <= plan.limits.whole as u64 => size as usize,
            () if deep => plan.limits.head.max(header::LEN),
            () => header::LEN + GLANCE,
        }
        .min(size_here);
        if buf.len() < shown {
            return Ok(Step::Need(shown));
        }
        let shown_bytes = buf.get(..shown).unwrap_or_default();
        meta.clear();
        plan.keys.fill_header(&header, kind, size, meta);
        let mut stopped = None;
        if deep {
            let reader = self.body.get_or_insert_with(|| RequestBody::new(&plan.limits));
            let whole = shown as u64 == size;
            match reader.read(&plan.keys, header.flags & SERIALIZATION, shown_bytes, meta) {
                Ok(()) => {}
                // Of a large message not all can be seen; what cannot is absent.
                Err(Stop::Short) if !whole && reader.past_fields => {}
                // Fields that nobody could see would pass every rule about them.
                Err(Stop::Short) if !whole => {
                    stopped = Some((ErrorKind::TooLarge, shown, "the fields pass the head limit"));
                }
                Err(Stop::Short) => {
                    stopped = Some((ErrorKind::Malformed, shown, "the body ends too early"));
                }
                Err(Stop::Bad(at, why)) => stopped = Some((ErrorKind::Malformed, at, why)),
            }
        }
        if let Some((kind, at, why)) = stopped {
            return Err(self.refuse(&header, kind, at, why));
        }
        let mut head = Head::whole(kind, shown);
        head.reply_to = to;
        if deep {
            head.timeout = self.body.as_ref().map_or(0, |body| body.timeout);
        }
        if self.side == Side::Reply {
            head.outcome = outcome(&header, shown_bytes);
        }
        let left = size - shown as u64;
        if left > 0 {
            head.body = Body::Length(left);
        }
        Ok(Step::Head(head))
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if unread.is_empty() {
            return Ok(false);
        }
        Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a message"))
    }
}

/// Bytes of a large message's body that say what it is: an event's `R`, a reply's number.
const GLANCE: usize = 3;

fn kind(header: &Header, side: Side, buf: &[u8]) -> Kind {
    let is = |flag: u8| header.flags & flag != 0;
    match (is(REQUEST), is(EVENT), is(TWO_WAY)) {
        (true, true, two_way) => {
            // The body `R`: the server goes read-only.
            let r: &[u8] = if header::json_lines(header.flags) { b"\"R\"" } else { b"\x01R" };
            let end = header::LEN + r.len();
            let read_only = header.body as usize >= r.len() && buf.get(header::LEN..end) == Some(r);
            match (read_only, two_way) {
                (true, _) => Kind::GoAway,
                (false, true) => Kind::Heartbeat,
                (false, false) => Kind::Push,
            }
        }
        (true, false, true) => Kind::Request,
        (true, false, false) if side == Side::Request => Kind::Oneway,
        (true, false, false) => Kind::Push,
        (false, true, _) => Kind::HeartbeatReply,
        (false, false, _) => Kind::Response,
    }
}

fn outcome(header: &Header, shown: &[u8]) -> Outcome {
    match header.status {
        20 => {
            // 0 and 3: an exception, without and with attachments.
            let thrown: [u8; 2] = match header.flags & SERIALIZATION {
                2 => [0x90, 0x93],
                json if header::json_lines(json) => *b"03",
                _ => return Outcome::Ok,
            };
            match shown.get(header::LEN) {
                Some(first) if thrown.contains(first) => Outcome::AppError,
                _ => Outcome::Ok,
            }
        }
        30 | 31 => Outcome::Timeout,
        40 | 60 | 70 | 90 => Outcome::AppError,
        100 => Outcome::Overloaded,
        _ => Outcome::ServerError,
    }
}
