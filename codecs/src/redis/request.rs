//! Commands: arrays of bulk strings, or lines.

use std::sync::Arc;

use super::commands::{Command, FirstKey, find};
use super::session::Session;
use super::{NAME, Plan, inline, line, malformed, number, plain_count, too_large};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Step};
use crate::metadata::Metadata;

/// Words whose places are kept: enough for every command's first key but a few
/// (`XREAD` with many options), whose key is then absent.
const KEPT: usize = 16;

/// Longest `*…` or `$…` line that can mean anything.
const LONGEST_COUNT: usize = 32;

pub(super) struct RequestDecoder {
    plan: Arc<Plan>,
    session: Session,
    db: i64,
    user: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing of a message seen but `lead` bytes that mean nothing (empty lines and arrays).
    Start { lead: usize },
    /// Inside an array: `seen` of `count` words end before `at`.
    Words { lead: usize, count: usize, seen: usize, at: usize, spans: [(u32, u32); KEPT] },
    /// Past the head: `left` bytes of a word, then `words` more words.
    Body { left: u64, words: usize },
}

/// What the first bytes of a message are.
enum Begun {
    /// All that there is to say of it now.
    Step(Step),
    /// An array of so many words, the first of which begins at `at`.
    Words { lead: usize, count: usize, at: usize },
}

impl RequestDecoder {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let state = State::Start { lead: 0 };
        Self { plan, session: Session::default(), db: 0, user: Vec::new(), state }
    }

    /// Goes on by other keys and limits.
    pub(super) fn retarget(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    fn start(
        &mut self,
        buf: &[u8],
        mut lead: usize,
        meta: &mut Metadata,
    ) -> Result<Begun, DecodeError> {
        loop {
            self.state = State::Start { lead };
            let Some(first) = buf.get(lead) else { return Ok(Begun::Step(Step::Need(lead + 1))) };
            if *first != b'*' {
                let Some(end) = buf.get(lead..).and_then(|rest| memchr::memchr(b'\n', rest)) else {
                    if buf.len() - lead > inline::LONGEST {
                        return Err(too_large(lead, "too big inline request"));
                    }
                    return Ok(Begun::Step(Step::Need(buf.len() + 1)));
                };
                if end > inline::LONGEST {
                    return Err(too_large(lead, "too big inline request"));
                }
                let typed = buf.get(lead..lead + end).unwrap_or_default();
                let words = inline::words(typed.strip_suffix(b"\r").unwrap_or(typed))?;
                let after = lead + end + 1;
                if words.is_empty() {
                    lead = self.skip(after)?;
                    continue;
                }
                let head = self.head(buf, &Words::Typed(&words), after, Some(after), meta);
                self.state = State::Start { lead: 0 };
                return Ok(Begun::Step(Step::Head(head)));
            }
            if let Some((count, at)) = plain_count(buf, lead)
                && (1..=self.plan.limits.elements).contains(&count)
            {
                return Ok(Begun::Words { lead, count, at });
            }
            let Some((digits, at)) = line(buf, lead) else {
                if buf.len() - lead > LONGEST_COUNT {
                    return Err(too_large(lead, "too big mbulk count string"));
                }
                return Ok(Begun::Step(Step::Need(buf.len() + 1)));
            };
            if digits.len() > LONGEST_COUNT {
                return Err(too_large(lead, "too big mbulk count string"));
            }
            let count = number(digits.get(1..).unwrap_or_default());
            let most = i64::try_from(self.plan.limits.elements).unwrap_or(i64::MAX);
            match count {
                Some(count) if count <= 0 => lead = self.skip(at)?,
                Some(count) if count <= most => {
                    return Ok(Begun::Words { lead, count: count as usize, at });
                }
                _ => return Err(malformed(lead, "invalid multibulk length")),
            }
        }
    }

    /// Passes over bytes that mean nothing; not over so many that they fill the buffer.
    fn skip(&self, lead: usize) -> Result<usize, DecodeError> {
        if lead > self.plan.limits.head {
            return Err(too_large(lead, "too many empty requests"));
        }
        Ok(lead)
    }

    fn words(
        &mut self,
        buf: &[u8],
        meta: &mut Metadata,
        (lead, count): (usize, usize),
        (mut seen, mut at): (usize, usize),
        mut spans: [(u32, u32); KEPT],
    ) -> Result<Step, DecodeError> {
        let whole = lead + self.plan.limits.whole;
        loop {
            if seen == count {
                let kept = count.min(KEPT);
                let words = Words::Spans { buf, spans: &spans, kept, count };
                let head = self.head(buf, &words, at, Some(at), meta);
                self.state = State::Start { lead: 0 };
                return Ok(Step::Head(head));
            }
            let (len, start) = match word_header(buf, at)? {
                Some(found) => found,
                None if at > whole => {
                    return self.begin_body(
                        buf,
                        (lead, at),
                        (0, count - seen),
                        &spans,
                        (seen, count),
                        meta,
                    );
                }
                None => {
                    self.state = State::Words { lead, count, seen, at, spans };
                    return Ok(Step::Need(buf.len() + 1));
                }
            };
            if len as u64 > self.plan.limits.frame {
                return Err(too_large(at, "invalid bulk length"));
            }
            let end = start + len + 2;
            if end > whole {
                // What routing needs is there, or will never be in bounds.
                if seen == 0
                    || (seen < 3 && len > self.plan.limits.head && self.needs(buf, &spans, seen))
                {
                    return Err(too_large(at, "a command or key that is too long to route by"));
                }
                return self.begin_body(
                    buf,
                    (lead, start),
                    (len as u64 + 2, count - seen - 1),
                    &spans,
                    (seen, count),
                    meta,
                );
            }
            if buf.len() < end {
                self.state = State::Words { lead, count, seen, at, spans };
                return Ok(Step::Need(end));
            }
            if buf.get(start + len..end) != Some(b"\r\n") {
                return Err(malformed(start + len, "invalid bulk length"));
            }
            if let Some(span) = spans.get_mut(seen) {
                *span = (start as u32, len as u32);
            }
            seen += 1;
            at = end;
        }
    }

    /// Whether word `at` is one that routing looks at.
    fn needs(&self, buf: &[u8], spans: &[(u32, u32); KEPT], at: usize) -> bool {
        let words = Words::Spans { buf, spans, kept: at, count: at };
        let command = words.get(0).and_then(find);
        match command.map(|command| command.first_key) {
            Some(FirstKey::At(key)) => at <= usize::from(key),
            Some(FirstKey::None) | None => at < 2,
            Some(FirstKey::Counted(key)) => at <= usize::from(key) + 1,
            Some(_) => true,
        }
    }

    /// The message is too long to be shown whole: its head is what came before `at`.
    fn begin_body(
        &mut self,
        buf: &[u8],
        (_, at): (usize, usize),
        (left, words): (u64, usize),
        spans: &[(u32, u32); KEPT],
        (seen, count): (usize, usize),
        meta: &mut Metadata,
    ) -> Result<Step, DecodeError> {
        let known = Words::Spans { buf, spans, kept: seen.min(KEPT), count };
        let mut head = self.head(buf, &known, at, None, meta);
        if words == 0 {
            head.body = Body::Length(left);
            self.state = State::Start { lead: 0 };
        } else {
            head.body = Body::Steps;
            self.state = State::Body { left, words };
        }
        Ok(Step::Head(head))
    }

    fn body(&mut self, buf: &[u8], left: u64, words: usize) -> Result<Step, DecodeError> {
        if left > 0 {
            if buf.is_empty() {
                return Ok(Step::Need(1));
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            self.state = State::Body { left: left - count as u64, words };
            return Ok(Step::Body(count));
        }
        if words == 0 {
            self.state = State::Start { lead: 0 };
            return Ok(Step::End);
        }
        match word_header(buf, 0)? {
            None => Ok(Step::Need(buf.len() + 1)),
            Some((len, _)) if len as u64 > self.plan.limits.frame => {
                Err(too_large(0, "invalid bulk length"))
            }
            Some((len, start)) => {
                self.state = State::Body { left: len as u64 + 2, words: words - 1 };
                Ok(Step::Body(start))
            }
        }
    }

    fn head(
        &mut self,
        buf: &[u8],
        words: &Words<'_>,
        len: usize,
        size: Option<usize>,
        meta: &mut Metadata,
    ) -> Head {
        meta.clear();
        let name = words.get(0).unwrap_or_default();
        let command = find(name);
        let (kind, lease) = self.session.next(command, |at| words.get(at), words.count());
        let mut head = Head::whole(kind, len);
        head.lease = lease;
        head.last = kind == crate::frame::Kind::Local;
        head.idempotent = command.is_some_and(|command| command.reads);
        self.follow(command, words);
        self.fill(command, words, buf, meta, kind, size);
        head
    }

    /// Keeps what the connection says of itself.
    fn follow(&mut self, command: Option<&Command>, words: &Words<'_>) {
        let Some(command) = command else { return };
        match command.name {
            "select" => self.db = words.get(1).and_then(number).unwrap_or(self.db),
            "reset" => {
                self.db = 0;
                self.user.clear();
            }
            "auth" => {
                let user = if words.count() > 2 { words.get(1) } else { Some(&b"default"[..]) };
                self.user = user.unwrap_or_default().to_vec();
            }
            "hello" => {
                let at = (1..words.count()).find(|at| {
                    words.get(*at).is_some_and(|word| word.eq_ignore_ascii_case(b"auth"))
                });
                if let Some(user) = at.and_then(|at| words.get(at + 1)) {
                    self.user = user.to_vec();
                }
            }
            _ => {}
        }
    }

    fn fill(
        &self,
        command: Option<&Command>,
        words: &Words<'_>,
        buf: &[u8],
        meta: &mut Metadata,
        kind: crate::frame::Kind,
        size: Option<usize>,
    ) {
        let plan = &self.plan;
        plan.shared.fill(meta, NAME, kind, size.map(|size| size as u64));
        for slot in [plan.command, plan.shared.method].into_iter().flatten() {
            match command {
                Some(command) => meta.set_static(slot, command.name),
                None => meta.set_text(slot, &words.get(0).unwrap_or_default().to_ascii_lowercase()),
            }
        }
        if let Some(slot) = plan.subcommand
            && command.is_some_and(|command| command.container)
            && let Some(word) = words.get(1)
        {
            meta.set_text(slot, &word.to_ascii_lowercase());
        }
        if (plan.key.is_some() || plan.hashtag.is_some())
            && let Some(at) = command.and_then(|command| key_at(command, words))
            && let Some(key) = words.get(at)
        {
            if let Some(slot) = plan.key {
                words.set(meta, slot, at, key, buf);
            }
            if let Some(slot) = plan.hashtag {
                meta.set_text(slot, hashtag(key));
            }
        }
        if let Some(slot) = plan.argc {
            meta.set_number(slot, words.count() as i128);
        }
        if let Some(slot) = plan.db {
            meta.set_number(slot, i128::from(self.db));
        }
        if let Some(slot) = plan.user
            && !self.user.is_empty()
        {
            meta.set_text(slot, &self.user);
        }
    }
}

/// The words of a command: places in the buffer, or typed ones.
enum Words<'a> {
    Spans { buf: &'a [u8], spans: &'a [(u32, u32); KEPT], kept: usize, count: usize },
    Typed(&'a [Vec<u8>]),
}

impl Words<'_> {
    fn get(&self, at: usize) -> Option<&[u8]> {
        match self {
            Self::Spans { buf, spans, kept, .. } if at < *kept => {
                let (start, len) = *spans.get(at)?;
                buf.get(start as usize..start as usize + len as usize)
            }
            Self::Spans { .. } => None,
            Self::Typed(words) => words.get(at).map(Vec::as_slice),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Spans { count, .. } => *count,
            Self::Typed(words) => words.len(),
        }
    }

    fn set(&self, meta: &mut Metadata, slot: crate::Slot, at: usize, word: &[u8], _: &[u8]) {
        match self {
            Self::Spans { spans, .. } => {
                if let Some((start, len)) = spans.get(at) {
                    meta.set_span(slot, *start as usize, *len as usize);
                }
            }
            Self::Typed(_) => meta.set_text(slot, word),
        }
    }
}

/// Where the first key is among the words.
fn key_at(command: &Command, words: &Words<'_>) -> Option<usize> {
    match command.first_key {
        FirstKey::None => None,
        FirstKey::At(at) => Some(usize::from(at)),
        FirstKey::Counted(at) => {
            let count = number(words.get(usize::from(at))?)?;
            (count > 0).then_some(usize::from(at) + 1)
        }
        FirstKey::AfterStreams => {
            let at = (1..words.count().min(KEPT))
                .find(|at| words.get(*at).is_some_and(|w| w.eq_ignore_ascii_case(b"streams")))?;
            Some(at + 1)
        }
        FirstKey::Migrate => {
            if words.get(3).is_some_and(|key| !key.is_empty()) {
                return Some(3);
            }
            let at = (4..words.count().min(KEPT))
                .find(|at| words.get(*at).is_some_and(|w| w.eq_ignore_ascii_case(b"keys")))?;
            Some(at + 1)
        }
    }
}

/// What Redis Cluster hashes: the part between the first `{` and the next `}`, if any is there.
fn hashtag(key: &[u8]) -> &[u8] {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = memchr::memchr(b'}', rest)?;
        rest.get(..close)
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// The length of the word whose `$…` line is at `at`, and where it starts.
#[inline]
fn word_header(buf: &[u8], at: usize) -> Result<Option<(usize, usize)>, DecodeError> {
    match plain_count(buf, at) {
        Some(found) if buf.get(at) == Some(&b'$') => Ok(Some(found)),
        _ => odd_word_header(buf, at),
    }
}

/// The same of one that is unusual, wrong or not all there.
#[cold]
fn odd_word_header(buf: &[u8], at: usize) -> Result<Option<(usize, usize)>, DecodeError> {
    let Some(first) = buf.get(at) else { return Ok(None) };
    if *first != b'$' {
        let seen = char::from(*first).escape_default().to_string();
        return Err(malformed(at, format!("expected '$', got '{seen}'")));
    }
    let Some((digits, start)) = line(buf, at) else {
        if buf.len() - at > LONGEST_COUNT {
            return Err(too_large(at, "too big bulk count string"));
        }
        return Ok(None);
    };
    if digits.len() > LONGEST_COUNT {
        return Err(too_large(at, "too big bulk count string"));
    }
    let len = number(digits.get(1..).unwrap_or_default());
    match len.and_then(|len| usize::try_from(len).ok()) {
        Some(len) => Ok(Some((len, start))),
        None => Err(malformed(at, "invalid bulk length")),
    }
}

impl Decoder for RequestDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        match self.state {
            State::Start { lead } => match self.start(buf, lead, meta)? {
                Begun::Step(step) => Ok(step),
                Begun::Words { lead, count, at } => {
                    self.words(buf, meta, (lead, count), (0, at), [(0, 0); KEPT])
                }
            },
            State::Words { lead, count, seen, at, spans } => {
                self.words(buf, meta, (lead, count), (seen, at), spans)
            }
            State::Body { left, words } => self.body(buf, left, words),
        }
    }

    fn memory(&self) -> Option<Vec<u8>> {
        if !self.session.is_free() || matches!(self.state, State::Body { .. }) {
            return None;
        }
        // The database, and the user's name as it was given.
        Some([&self.db.to_be_bytes(), self.user.as_slice()].concat())
    }

    fn recall(&mut self, memory: &[u8]) -> bool {
        let Some((db, user)) = memory.split_first_chunk() else { return memory.is_empty() };
        (self.db, self.user) = (i64::from_be_bytes(*db), user.to_vec());
        true
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        match self.state {
            State::Start { lead } if unread.len() <= lead => Ok(false),
            _ => Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a request")),
        }
    }
}
