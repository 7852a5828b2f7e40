//! Finding messages, and saying what they are for.

use std::sync::Arc;

use super::envelope::{self, CALL, Envelope, ONEWAY, Stop, Transport};
use super::walk::{Walk, Walked};
use super::{LARGEST_FRAME, NAME, TOO_LARGE, header, outcome, reply};
use crate::codec::{Decoder, Side};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, ReplyTo, Step};
use crate::interest::{Interest, Slot};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::shared::SharedSlots;

/// Slots and limits, shared by all decoders of a config.
pub(super) struct Plan {
    limits: Limits,
    shared: SharedSlots,
    transport: Option<Slot>,
    encoding: Option<Slot>,
    seqid: Option<Slot>,
    headers: Vec<(Box<str>, Slot)>,
    everything: bool,
}

impl Plan {
    pub(super) fn new(limits: &Limits, interest: &Interest) -> Self {
        Self {
            limits: limits.clone(),
            shared: SharedSlots::new(interest),
            transport: interest.slot("transport"),
            encoding: interest.slot("encoding"),
            seqid: interest.slot("seqid"),
            headers: interest.family("header."),
            everything: interest.wants_everything(),
        }
    }

    /// Bytes that a message may take.
    fn largest(&self) -> u64 {
        self.limits.frame.min(LARGEST_FRAME)
    }
}

pub(super) struct ThriftDecoder {
    plan: Arc<Plan>,
    side: Side,
    /// The walk over the unframed message at hand.
    walk: Option<Walk>,
    /// How many of its bytes, from its start, were walked over; 0 between messages.
    walked: usize,
    /// Its head was reported, and the rest goes in pieces.
    streaming: bool,
    over: bool,
}

impl ThriftDecoder {
    pub(super) fn new(plan: Arc<Plan>, side: Side) -> Self {
        Self { plan, side, walk: None, walked: 0, streaming: false, over: false }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    fn refuse(
        &self,
        found: Option<&Envelope>,
        kind: ErrorKind,
        at: usize,
        why: &'static str,
    ) -> DecodeError {
        let error = DecodeError::new(NAME, kind, at, why);
        match found {
            Some(found) if found.kind == CALL && self.side == Side::Request => {
                error.answering(reply_to(found))
            }
            _ => error,
        }
    }

    fn fill(
        &self,
        found: &Envelope,
        kind: Kind,
        size: Option<u64>,
        buf: &[u8],
        meta: &mut Metadata,
    ) {
        let plan = &self.plan;
        plan.shared.fill(meta, NAME, kind, size);
        let method = method(found, buf);
        if let (Some(slot), true) = (plan.shared.service, method.0 > found.name.0) {
            meta.set_span(slot, found.name.0, method.0 - 1 - found.name.0);
        }
        if let Some(slot) = plan.shared.method {
            meta.set_span(slot, method.0, method.1);
        }
        if let Some(slot) = plan.transport {
            meta.set_static(slot, found.transport.as_str());
        }
        if let Some(slot) = plan.encoding {
            meta.set_static(slot, found.encoding.as_str());
        }
        if let Some(slot) = plan.seqid {
            meta.set_number(slot, i128::from(found.seqid as i32));
        }
    }

    fn fill_headers(&self, found: &Envelope, buf: &[u8], meta: &mut Metadata) -> Result<(), Stop> {
        let plan = &self.plan;
        if found.transport != Transport::Header || (plan.headers.is_empty() && !plan.everything) {
            return Ok(());
        }
        let (start, len) = found.header;
        header::pairs(buf.get(start..start + len).unwrap_or_default(), |pair| {
            let slot = plan
                .headers
                .iter()
                .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(pair.key));
            if let Some((_, slot)) = slot {
                meta.set_span(*slot, pair.value_at, pair.value.len());
            } else if plan.everything
                && let Ok(key) = std::str::from_utf8(pair.key)
            {
                meta.push_extra(&format!("header.{}", key.to_ascii_lowercase()), pair.value);
            }
        })
    }

    /// Walks on over an unframed message from where the last walk stopped; whether it is over.
    fn walk_on(&mut self, found: &Envelope, buf: &[u8]) -> Result<bool, DecodeError> {
        let depth = self.plan.limits.depth;
        let walk = self.walk.get_or_insert_with(|| Walk::new(depth));
        if self.walked == 0 {
            self.walked = found.body;
            walk.restart(found.encoding, self.plan.largest().saturating_sub(found.body as u64));
        }
        match walk.go(buf.get(self.walked..).unwrap_or_default()) {
            Ok(Walked::On(count)) => {
                self.walked += count;
                Ok(false)
            }
            Ok(Walked::Over(count)) => {
                self.walked += count;
                Ok(true)
            }
            Err(lost) => Err(self.refuse(Some(found), lost.0, self.walked, lost.1)),
        }
    }

    fn stream(&mut self, buf: &[u8]) -> Result<Step, DecodeError> {
        if self.over {
            (self.streaming, self.over, self.walked) = (false, false, 0);
            return Ok(Step::End);
        }
        let Some(walk) = &mut self.walk else { return Ok(Step::End) };
        let walked = walk.go(buf).map_err(|lost| DecodeError::new(NAME, lost.0, 0, lost.1))?;
        let count = match walked {
            Walked::On(count) => count,
            Walked::Over(count) => {
                self.over = true;
                count
            }
        };
        match count {
            0 if self.over => self.stream(buf),
            0 => Ok(Step::Need(buf.len() + 1)),
            _ => Ok(Step::Body(count)),
        }
    }
}

impl Decoder for ThriftDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        if self.streaming {
            return self.stream(buf);
        }
        let whole_limit = self.plan.limits.whole;
        let limits = &self.plan.limits;
        let found = match envelope::read(buf, limits.thrift_old_binary, limits.head) {
            Ok(found) => found,
            Err(Stop::Need(need)) => return Ok(Step::Need(need.max(buf.len() + 1))),
            Err(Stop::Bad(at, kind, why)) => {
                let error = self.refuse(None, kind, at, why);
                let asker = envelope::asker(buf, at).filter(|_| self.side == Side::Request);
                return Err(match asker {
                    Some((transport, encoding, seqid)) => error.answering(ReplyTo {
                        id: u64::from(seqid),
                        token: reply::token(transport, encoding),
                    }),
                    None => error,
                });
            }
        };
        let kind = match (found.kind, self.side) {
            (CALL, Side::Request) => Kind::Request,
            (ONEWAY, Side::Request) => Kind::Oneway,
            (CALL | ONEWAY, Side::Reply) => Kind::Push,
            (_, Side::Reply) => Kind::Response,
            (_, Side::Request) => {
                return Err(self.refuse(None, ErrorKind::Malformed, 0, "a reply from a client"));
            }
        };
        let mut head = Head::whole(kind, 0);
        let size = match found.size {
            Some(size) => {
                if size - 4 > self.plan.largest() {
                    return Err(self.refuse(Some(&found), ErrorKind::TooLarge, 0, TOO_LARGE));
                }
                let whole = size <= whole_limit as u64;
                let shown = if whole { size as usize } else { found.body + FIRST_FIELD };
                let shown = shown.min(usize::try_from(size).unwrap_or(usize::MAX));
                if buf.len() < shown {
                    return Ok(Step::Need(shown));
                }
                head.len = shown;
                if size > shown as u64 {
                    head.body = Body::Length(size - shown as u64);
                }
                Some(size)
            }
            None => {
                let over = self.walk_on(&found, buf)?;
                if over && self.walked <= whole_limit {
                    head.len = self.walked;
                    self.walked = 0;
                    Some(head.len as u64)
                } else if !over && buf.len() <= whole_limit.max(found.body + FIRST_FIELD) {
                    return Ok(Step::Need(buf.len() + 1));
                } else {
                    head.len = self.walked;
                    head.body = Body::Steps;
                    (self.streaming, self.over) = (true, over);
                    None
                }
            }
        };
        meta.clear();
        self.fill(&found, kind, size, buf, meta);
        match self.fill_headers(&found, buf, meta) {
            Err(Stop::Bad(at, kind, why)) => return Err(self.refuse(Some(&found), kind, at, why)),
            Ok(()) | Err(Stop::Need(_)) => {}
        }
        head.reply_to = reply_to(&found);
        match self.side {
            Side::Request => {
                // A reply names the method alone, as the servers' own replies do.
                let (start, len) = method(&found, buf);
                head.note = (u32::try_from(start).unwrap_or(0), u32::try_from(len).unwrap_or(0));
            }
            Side::Reply => {
                // Of a large reply the same bytes are looked at however it was split.
                let first = found.body + FIRST_FIELD;
                let look = match head.body {
                    Body::None => head.len,
                    Body::Steps if self.over => first.min(head.len),
                    _ => first,
                };
                head.outcome = outcome::of(&found, buf.get(..look).unwrap_or_default());
            }
        }
        Ok(Step::Head(head))
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if unread.is_empty() && !self.streaming {
            return Ok(false);
        }
        Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a message"))
    }
}

/// Bytes of a large reply's struct that are looked at for its outcome.
const FIRST_FIELD: usize = 8;

/// Where the method's own name stands: a multiplexed service puts its name and a colon
/// before it.
fn method(found: &Envelope, buf: &[u8]) -> (usize, usize) {
    let (start, len) = found.name;
    let name = buf.get(start..start + len).unwrap_or_default();
    match name.iter().position(|byte| *byte == b':') {
        Some(colon) => (start + colon + 1, len - colon - 1),
        None => (start, len),
    }
}

fn reply_to(found: &Envelope) -> ReplyTo {
    ReplyTo { id: u64::from(found.seqid), token: reply::token(found.transport, found.encoding) }
}
