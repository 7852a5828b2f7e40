//! Replies: every type of RESP2 and RESP3, walked without recursion.

use std::sync::Arc;

use super::{NAME, Plan, line, malformed, number, plain_count, too_large};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Outcome, Step};
use crate::metadata::Metadata;

/// Longest line of a reply (a simple string, an error, a big number), as for requests.
const LONGEST_LINE: usize = 64 << 10;

pub(super) struct ReplyDecoder {
    plan: Arc<Plan>,
    /// Where to look next, from the start of the buffer; may lie behind its end.
    at: u64,
    /// What is open, outermost first.
    open: Vec<Open>,
    /// The head is out; what follows are body steps.
    streaming: bool,
    started: bool,
    kind: Kind,
    outcome: Outcome,
}

/// A value that others are part of.
#[derive(Clone, Copy)]
enum Open {
    /// So many values are still to come.
    Values(u64),
    /// So many values of an attribute; the value they describe comes after them.
    Attribute(u64),
    /// Values up to a line `.`.
    UntilDot,
    /// Pieces `;len` up to one of no length.
    Pieces,
}

impl ReplyDecoder {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            at: 0,
            open: Vec::new(),
            streaming: false,
            started: false,
            kind: Kind::Response,
            outcome: Outcome::Ok,
        }
    }

    /// Walks on through `buf`. `Ok(true)`: the reply is over, at `self.at`.
    fn walk(&mut self, buf: &[u8]) -> Result<bool, DecodeError> {
        loop {
            let Ok(at) = usize::try_from(self.at) else { return Ok(false) };
            if at >= buf.len() {
                return Ok(false);
            }
            let Some((text, next)) = line(buf, at) else {
                // A line without its CR, or not all there.
                if memchr::memchr(b'\n', buf.get(at..).unwrap_or_default()).is_some() {
                    return Err(malformed(at, "a line that does not end in CRLF"));
                }
                if buf.len() - at > LONGEST_LINE {
                    return Err(too_large(at, "a line of more than 64 KiB"));
                }
                return Ok(false);
            };
            let Some((mark, rest)) = text.split_first() else {
                return Err(malformed(at, "an empty line where a value should be"));
            };
            if !self.started {
                self.started = true;
                self.kind = if *mark == b'>' { Kind::Push } else { Kind::Response };
            }
            if matches!(self.open.last(), Some(Open::Pieces)) && *mark != b';' {
                return Err(malformed(at, "a streamed string is made of ';' pieces"));
            }
            if self.open.is_empty() && matches!(mark, b'-' | b'!') {
                self.outcome = if *mark == b'-' { outcome(rest) } else { Outcome::AppError };
            }
            let length = || number(rest).ok_or_else(|| malformed(at, "a length that is no number"));
            let mut done = true;
            match mark {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.at = next as u64,
                b'$' | b'!' | b'=' if rest == b"?" => {
                    self.at = next as u64;
                    self.push(at, Open::Pieces)?;
                    done = false;
                }
                b'$' | b'!' | b'=' => match length()? {
                    -1 => self.at = next as u64,
                    len if len >= 0 && len as u64 <= self.plan.limits.frame => {
                        self.at = next as u64 + len as u64 + 2;
                    }
                    _ => return Err(too_large(at, "a bulk length out of bounds")),
                },
                b';' if matches!(self.open.last(), Some(Open::Pieces)) => match length()? {
                    0 => {
                        self.at = next as u64;
                        self.open.pop();
                    }
                    len if len > 0 && len as u64 <= self.plan.limits.frame => {
                        self.at = next as u64 + len as u64 + 2;
                        done = false;
                    }
                    _ => return Err(too_large(at, "a piece's length out of bounds")),
                },
                b'.' if rest.is_empty() && matches!(self.open.last(), Some(Open::UntilDot)) => {
                    self.at = next as u64;
                    self.open.pop();
                }
                b'*' | b'~' | b'>' | b'%' | b'|' => {
                    self.at = next as u64;
                    if rest == b"?" && !matches!(mark, b'>' | b'|') {
                        self.push(at, Open::UntilDot)?;
                        done = false;
                    } else {
                        let count = length()?;
                        let each = if matches!(mark, b'%' | b'|') { 2 } else { 1 };
                        match u64::try_from(count) {
                            // An empty attribute says nothing; the value comes next.
                            Ok(0) if *mark == b'|' => done = false,
                            Ok(count) if *mark == b'|' => {
                                self.push(at, Open::Attribute(count * each))?;
                                done = false;
                            }
                            Ok(0) => {}
                            Ok(count) => {
                                self.push(at, Open::Values(count * each))?;
                                done = false;
                            }
                            Err(_) if count == -1 => {}
                            Err(_) => return Err(malformed(at, "a negative count")),
                        }
                    }
                }
                _ => {
                    let seen = char::from(*mark).escape_default().to_string();
                    return Err(malformed(at, format!("no type begins with '{seen}'")));
                }
            }
            // A value is over: so may be those that it is part of.
            if !done {
                continue;
            }
            loop {
                match self.open.last_mut() {
                    None => return Ok(true),
                    Some(Open::Values(left)) => {
                        *left -= 1;
                        if *left > 0 {
                            break;
                        }
                        self.open.pop();
                    }
                    Some(Open::Attribute(left)) => {
                        *left -= 1;
                        if *left == 0 {
                            self.open.pop();
                        }
                        break;
                    }
                    Some(Open::UntilDot | Open::Pieces) => break,
                }
            }
        }
    }

    fn push(&mut self, at: usize, open: Open) -> Result<(), DecodeError> {
        if self.open.len() >= self.plan.limits.depth {
            return Err(too_large(at, format!("values nested deeper than {}", self.open.len())));
        }
        self.open.push(open);
        Ok(())
    }

    fn reset(&mut self) {
        self.at = 0;
        self.open.clear();
        (self.streaming, self.started) = (false, false);
        self.outcome = Outcome::Ok;
    }

    fn head(&self, len: usize, body: Body) -> Step {
        let mut head = Head::whole(self.kind, len);
        (head.outcome, head.body) = (self.outcome, body);
        Step::Head(head)
    }

    fn first(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        if self.at == 0
            && buf.first() == Some(&b'$')
            && let Some((len, start)) = plain_count(buf, 0)
            && let size = start.saturating_add(len).saturating_add(2)
            && size <= buf.len()
            && len as u64 <= self.plan.limits.frame
        {
            // A value that is all there, as most replies are.
            meta.clear();
            self.plan.shared.fill(meta, NAME, Kind::Response, Some(size as u64));
            return Ok(Step::Head(Head::whole(Kind::Response, size)));
        }
        let over = self.walk(buf)?;
        let have = buf.len() as u64;
        if over && self.at <= have {
            meta.clear();
            self.plan.shared.fill(meta, NAME, self.kind, Some(self.at));
            let step = self.head(self.at as usize, Body::None);
            self.reset();
            return Ok(step);
        }
        if self.at <= self.plan.limits.whole as u64 && have <= self.plan.limits.whole as u64 {
            let need = if self.at > have { self.at as usize } else { buf.len() + 1 };
            if over {
                // The last value reaches behind the buffer's end: the next call has
                // all of the reply and walks over it again, once.
                self.reset();
            }
            return Ok(Step::Need(need));
        }
        meta.clear();
        self.plan.shared.fill(meta, NAME, self.kind, None);
        if over {
            let step = self.head(buf.len(), Body::Length(self.at - have));
            self.reset();
            return Ok(step);
        }
        let taken = self.at.min(have);
        if taken == 0 {
            // Its first line is not all there; how long it may be is bounded.
            return Ok(Step::Need(buf.len() + 1));
        }
        let step = self.head(taken as usize, Body::Steps);
        self.at -= taken;
        self.streaming = true;
        Ok(step)
    }

    fn rest(&mut self, buf: &[u8]) -> Result<Step, DecodeError> {
        let have = buf.len() as u64;
        if !self.finished() && self.walk(buf)? {
            self.started = false;
        }
        let taken = self.at.min(have);
        if taken > 0 {
            self.at -= taken;
            return Ok(Step::Body(taken as usize));
        }
        if self.finished() && self.at == 0 {
            self.reset();
            return Ok(Step::End);
        }
        Ok(Step::Need(buf.len() + 1))
    }

    /// While streaming: the last value's end is known.
    fn finished(&self) -> bool {
        self.streaming && !self.started
    }
}

/// What the first word of an error says.
fn outcome(error: &[u8]) -> Outcome {
    let end = memchr::memchr(b' ', error).unwrap_or(error.len());
    match error.get(..end).unwrap_or_default() {
        b"LOADING" | b"MASTERDOWN" | b"CLUSTERDOWN" | b"READONLY" | b"TRYAGAIN" => {
            Outcome::Unavailable
        }
        b"BUSY" | b"OOM" => Outcome::Overloaded,
        _ => Outcome::AppError,
    }
}

impl Decoder for ReplyDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        if self.streaming { self.rest(buf) } else { self.first(buf, meta) }
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if unread.is_empty() && !self.streaming && !self.started {
            return Ok(false);
        }
        Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a reply"))
    }
}
