//! Finding messages, and saying what they are for.

use std::sync::Arc;

use super::block;
use super::header::{self, Header, Unread};
use super::keys::{Found, Keys, Refused};
use super::reply;
use super::{LARGEST_CHECKED, NAME};
use crate::codec::{Decoder, Side};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Lease, Outcome, ReplyTo, Step};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::metadata::Metadata;

/// Slots and limits, shared by all decoders of a config.
pub(super) struct Plan {
    pub(super) limits: Limits,
    keys: Keys,
}

impl Plan {
    pub(super) fn new(limits: &Limits, interest: &Interest) -> Self {
        Self { limits: limits.clone(), keys: Keys::new(interest) }
    }
}

pub(super) struct BoltDecoder {
    plan: Arc<Plan>,
    side: Side,
    found: Found,
}

impl BoltDecoder {
    pub(super) fn new(plan: Arc<Plan>, side: Side) -> Self {
        Self { plan, side, found: Found::default() }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        (self.plan, self.found) = (plan, Found::default());
    }
}

/// An error that answers its message, if that is a call that waits for a reply.
fn refuse(
    header: &Header,
    kind: Kind,
    error: ErrorKind,
    at: usize,
    why: impl Into<std::borrow::Cow<'static, str>>,
) -> DecodeError {
    let error = DecodeError::new(NAME, error, at, why);
    if kind == Kind::Request { error.answering(reply_to(header)) } else { error }
}

fn reply_to(header: &Header) -> ReplyTo {
    ReplyTo { id: u64::from(header.id), token: header.form.token() }
}

impl Decoder for BoltDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        let plan = &*self.plan;
        let header = match header::read(buf) {
            Ok(header) => header,
            Err(Unread::Short(need)) => return Ok(Step::Need(need)),
            Err(Unread::Bad(at, why)) => {
                return Err(DecodeError::new(NAME, ErrorKind::Malformed, at, why));
            }
        };
        let kind = kind(&header, self.side);
        let routed = matches!(kind, Kind::Request | Kind::Oneway);
        let (size, checked) = (header.size(), header.form.checked());
        let largest = if checked { LARGEST_CHECKED } else { u64::MAX }.min(plan.limits.frame);
        if size > largest {
            let reason = format!("a message of {size} bytes, where {largest} are allowed");
            return Err(refuse(&header, kind, ErrorKind::TooLarge, header.fixed() - 4, reason));
        }
        let small = size <= plan.limits.whole as u64;
        let front = header.content_at();
        let fits = front <= plan.limits.head.max(header.fixed());
        // A small message is shown whole, and so is one that a checksum holds
        // together; of a large one all that is before its content.
        let shown = match () {
            () if small || checked => usize::try_from(size).unwrap_or(usize::MAX),
            () if fits => front,
            () if routed => {
                let limit = plan.limits.head;
                let reason = format!("class and header block end at byte {front}, past {limit}");
                return Err(refuse(&header, kind, ErrorKind::TooLarge, front, reason));
            }
            () => header.fixed(),
        };
        let Some(message) = buf.get(..shown) else { return Ok(Step::Need(shown)) };
        if checked
            && let Some((told, real)) = header::checksums(message)
            && told != real
        {
            // Nothing in it can be trusted, its id no more than the rest: no answer.
            let reason = format!("checksum {told:08x} on bytes that have {real:08x}");
            return Err(DecodeError::new(NAME, ErrorKind::Malformed, shown, reason));
        }
        meta.clear();
        plan.keys.fill_header(&header, kind, shown, meta);
        let at = header.block_at();
        let block = message.get(at..front).unwrap_or_default();
        if plan.keys.need_block() {
            let filled = plan.keys.fill_block(block, at, &mut self.found, meta);
            // Rules about what is not routed are none.
            if let (Err(Refused(at, why)), true) = (filled, routed) {
                return Err(refuse(&header, kind, ErrorKind::Malformed, at, why));
            }
        }
        let mut head = Head::whole(kind, shown);
        head.reply_to = reply_to(&header);
        if routed {
            head.timeout = u32::try_from(header.timeout).unwrap_or(0);
        }
        if kind == Kind::Response {
            head.outcome = outcome(&header, block);
        }
        let left = size - shown as u64;
        if left > 0 {
            head.body = Body::Length(left);
        } else if !small {
            // As large ones do that are streamed, so that no small one waits for it.
            head.lease = Lease::Once;
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

/// A server's own calls to its client are pushes: a shared connection has no
/// client whom they could be meant for.
fn kind(header: &Header, side: Side) -> Kind {
    match (header.command, header.kind, side) {
        (header::GO_AWAY, ..) => Kind::GoAway,
        (header::HEARTBEAT, header::RESPONSE, _) => Kind::HeartbeatReply,
        // Servers answer one whatever its type.
        (header::HEARTBEAT, ..) => Kind::Heartbeat,
        (_, header::RESPONSE, _) => Kind::Response,
        (_, _, Side::Reply) => Kind::Push,
        (_, header::ONEWAY, _) => Kind::Oneway,
        _ => Kind::Request,
    }
}

fn outcome(header: &Header, block: &[u8]) -> Outcome {
    match header.status {
        reply::SUCCESS if threw(block) => Outcome::AppError,
        reply::SUCCESS => Outcome::Ok,
        reply::BUSY => Outcome::Overloaded,
        reply::COMMUNICATION | reply::CLOSED => Outcome::Unavailable,
        reply::TIMEOUT => Outcome::Timeout,
        reply::NO_PROCESSOR | reply::UNREADABLE => Outcome::AppError,
        _ => Outcome::ServerError,
    }
}

/// Whether SOFARPC says in the header block that the call threw.
fn threw(block: &[u8]) -> bool {
    block::entries(block).map_while(Result::ok).any(|entry| {
        let text = |range| block.get(range).unwrap_or_default();
        entry.name.is_some_and(|name| text(name) == b"sofa_head_response_error")
            && entry.value.is_some_and(|value| text(value) == b"true")
    })
}
