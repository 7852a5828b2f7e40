//! How each message ended, told once and in one place to all who count or write it down:
//! metrics and access logs.

use polyport_codecs::{Body, Fault, Head, Kind, Outcome, View};

use super::Engine;
use super::state::{DownId, Flight, UpId};
use crate::observe::access_log::Line;
use crate::snapshot::Snapshot;

/// How a message, or a session, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An upstream answered it.
    Replied {
        /// How it says that the request fared.
        outcome: Outcome,
        /// The protocol's own status; 0 where it has none.
        status: u32,
    },
    /// It expects no reply, and was sent.
    Sent,
    /// It opened a session, which goes on; [`Ending::Over`] follows.
    Opened,
    /// The proxy answered it, as its protocol or its route says.
    Local,
    /// The proxy gave it an error.
    Failed {
        /// Why.
        fault: Fault,
        /// Half of a reply was out already, so that only the connection's end could say so.
        cut: bool,
    },
    /// Its connection was reset, as its route says.
    Reset,
    /// Its client left before the answer.
    Abandoned,
    /// It is one of a session's, and passed.
    Passed,
    /// It is one of a session's, and did not pass: it got an error, or its connection was reset.
    Refused(Option<Fault>),
    /// A session is over. Its bytes are all that went each way, its opening included.
    Over {
        /// What its server said of the message that was to open it.
        outcome: Outcome,
        /// Why it ended, where neither side just closed it.
        fault: Option<Fault>,
    },
}

impl Ending {
    /// Why the proxy ended it, where it did.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Failed { fault, .. } => Some(fault),
            Self::Refused(fault) | Self::Over { fault, .. } => fault,
            _ => None,
        }
    }
}

/// What the proxy itself answered a message with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    /// The protocol's own status; 0 where it has none.
    pub status: u32,
    /// Its bytes; 0 where nothing could be said.
    pub bytes: usize,
}

/// A message that has ended, or a session.
pub struct Ended<'a> {
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// Index into the snapshot's protocols; `None`: opaque bytes.
    pub protocol: Option<usize>,
    /// Request, one-way, or what the proxy answers for itself.
    pub kind: Kind,
    /// How it ended.
    pub how: Ending,
    /// What was remembered of it.
    pub track: Track,
    /// From its head to its end, µs.
    pub took: u64,
    /// From when it was last given to an upstream connection to its end, µs; 0 where it was not.
    pub upstream: u64,
    /// What the proxy answered.
    pub own: Own,
    /// What [`Engine::remember`] kept of its metadata.
    pub told: &'a [u8],
}

impl Ended<'_> {
    /// The number of its route ([`crate::snapshot::Snapshot::route_id`]); `None` where none
    /// was taken.
    pub fn route(&self) -> Option<usize> {
        (self.track.route != usize::MAX).then_some(self.track.route)
    }

    /// The status that its client was told; 0: none.
    pub fn status(&self) -> u32 {
        if self.own.status == 0 { self.track.status } else { self.own.status }
    }
}

/// What is remembered of a message until it ends.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    /// When its head was all there, µs.
    pub since: u64,
    /// Its route's number; `usize::MAX`: none.
    pub route: usize,
    /// Cluster and endpoint that it was given to last, by position.
    pub at: Option<(usize, usize)>,
    /// Bytes that its client has sent so far.
    pub request: u64,
    /// Bytes of the reply that an upstream has sent so far.
    pub reply: u64,
    /// The status of that reply.
    pub status: u32,
    /// How often it was tried again.
    pub retries: u32,
    /// Which of its protocol's dialects it is ([`Head::dialect`]).
    pub dialect: u8,
}

impl Track {
    /// Of a message whose head came at this time, µs.
    pub fn since(since: u64) -> Self {
        let (route, dialect) = (usize::MAX, 0);
        Self { since, route, at: None, request: 0, reply: 0, status: 0, retries: 0, dialect }
    }
}

/// A session, from the message that opened it to its end.
pub struct Joined {
    /// Of the message that opened it; its bytes grow with the session's.
    pub track: Track,
    /// What was remembered of that message.
    pub told: Vec<u8>,
    /// What access logs will tell of it.
    pub line: Option<Box<Line>>,
    /// The message that opened it has been reported.
    pub opened: bool,
    /// What the server said of that message.
    pub outcome: Outcome,
    /// Why it ends, where that is known beforehand.
    pub fault: Option<Fault>,
}

impl Joined {
    /// A session that such a message opens.
    pub fn by(track: Track, told: Vec<u8>, line: Option<Box<Line>>) -> Self {
        Self { track, told, line, opened: false, outcome: Outcome::Ok, fault: None }
    }
}

impl Engine {
    /// Everything that ends is told here, and nowhere else.
    fn report(&mut self, ended: &Ended<'_>, line: Option<Box<Line>>) {
        if let Some(series) = &mut self.series {
            series.ended(&self.snapshot, ended, self.now);
        }
        if let Some(line) = line {
            self.write_line(ended, line);
        }
    }

    /// What is kept of a message's metadata until it ends, as it sets out on its route.
    pub(super) fn remember(&mut self, config: &Snapshot, view: &View<'_>) -> Vec<u8> {
        self.exemplar(config, view)
    }

    /// Reports a message that ends as it comes. `message`: its head.
    pub(super) fn report_here(
        &mut self,
        id: DownId,
        head: &Head,
        message: &[u8],
        how: Ending,
        own: Own,
    ) {
        let mut bytes = message.len() as u64;
        match (how, head.body) {
            // Each of a session's messages is told by itself, or not at all.
            (Ending::Passed | Ending::Refused(_), Body::Length(left)) => bytes += left,
            (Ending::Passed | Ending::Refused(_), _) => {}
            _ if head.kind == Kind::Heartbeat => {}
            _ => self.log_unchosen(id, message),
        }
        self.report_now(id, head.kind, bytes, how, own);
    }

    /// Reports bytes that were to be a message and are none.
    pub(super) fn report_garbled(&mut self, id: DownId, fault: Fault, own: Own) {
        let Some(down) = self.downs.get_mut(id) else { return };
        // Nothing is known of it, not even what the decoder has found so far.
        down.track = Track::since(self.micros);
        if let Some(metadata) = &mut down.metadata {
            metadata.clear();
        }
        self.log_message();
        self.log_unchosen(id, b"");
        let how = Ending::Failed { fault, cut: false };
        self.report_now(id, Kind::Request, 0, how, own);
    }

    /// The same of whatever came on a connection, with so many bytes.
    pub(super) fn report_now(&mut self, id: DownId, kind: Kind, bytes: u64, how: Ending, own: Own) {
        let line = self.take_line(false);
        let Some(down) = self.downs.get(id) else { return };
        let track = Track { request: bytes, ..down.track };
        let ended = Ended {
            listener: down.listener,
            protocol: down.protocol,
            kind,
            how,
            track,
            took: self.micros.saturating_sub(track.since),
            upstream: 0,
            own,
            told: &[],
        };
        self.report(&ended, line);
    }

    /// Reports a request that was in flight. Copies are nobody's.
    pub(super) fn report_flight(&mut self, flight: &mut Flight, how: Ending, own: Own) {
        if flight.mirror {
            return;
        }
        let told = std::mem::take(&mut flight.told);
        // It may have been taken elsewhere than it was first meant to go.
        let here = self.ups.get(flight.up).map(|up| (up.cluster, up.endpoint));
        let ended = Ended {
            listener: flight.listener,
            protocol: Some(flight.protocol),
            kind: if flight.oneway { Kind::Oneway } else { Kind::Request },
            how,
            track: Track { at: here.or(flight.track.at), ..flight.track },
            took: self.micros.saturating_sub(flight.track.since),
            upstream: self.micros.saturating_sub(flight.began),
            own,
            told: &told,
        };
        self.report(&ended, flight.line.take());
        self.spares.give(told);
    }

    /// A connection has become a session, by a message that was not reported yet.
    pub(super) fn joined(&mut self, id: DownId, up: UpId, mut joined: Joined) {
        let at = self.ups.get(up).map(|up| (up.cluster, up.endpoint));
        let Some(down) = self.downs.get_mut(id) else { return };
        joined.track.at = at.or(joined.track.at);
        down.joined = Some(Box::new(joined));
        self.measure_session(id);
    }

    /// The client of a session has sent so many bytes.
    pub(super) fn count_said(&mut self, id: DownId, bytes: usize) {
        if let Some(joined) = self.downs.get_mut(id).and_then(|down| down.joined.as_mut()) {
            joined.track.request += bytes as u64;
        }
    }

    /// Reports the message that opened a session, once.
    pub(super) fn report_opening(&mut self, id: DownId, how: Ending) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(mut joined) = down.joined.take() else { return };
        let facts = (down.listener, down.protocol);
        self.report_opened(facts, &mut joined, how);
        if let Some(down) = self.downs.get_mut(id) {
            down.joined = Some(joined);
        }
    }

    /// Reports that a session is over, and why; before that how its first message fared,
    /// where nobody had answered it yet.
    pub(super) fn report_over(&mut self, id: DownId, unanswered: Ending, fault: Option<Fault>) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(mut joined) = down.joined.take() else { return };
        joined.fault = joined.fault.or(fault);
        let facts = (down.listener, down.protocol);
        self.report_left(facts, joined, unanswered);
    }

    /// The same of a connection that is no longer in the books.
    pub(super) fn report_left(
        &mut self,
        facts: (usize, Option<usize>),
        mut joined: Box<Joined>,
        unanswered: Ending,
    ) {
        self.report_opened(facts, &mut joined, unanswered);
        let (outcome, fault) = (joined.outcome, joined.fault);
        let line = joined.line.take();
        self.report_session(facts, &joined, Ending::Over { outcome, fault }, line);
        self.spares.give(joined.told);
    }

    fn report_opened(&mut self, facts: (usize, Option<usize>), joined: &mut Joined, how: Ending) {
        if std::mem::replace(&mut joined.opened, true) {
            return;
        }
        if let Ending::Replied { outcome, status } = how {
            (joined.outcome, joined.track.status) = (outcome, status);
        }
        // Where there is no session, there is no line of one.
        let none = matches!(how, Ending::Failed { .. } | Ending::Abandoned);
        let line = joined.line.take_if(|_| none);
        self.report_session(facts, joined, how, line);
    }

    fn report_session(
        &mut self,
        (listener, protocol): (usize, Option<usize>),
        joined: &Joined,
        how: Ending,
        line: Option<Box<Line>>,
    ) {
        let track = joined.track;
        let took = self.micros.saturating_sub(track.since);
        let ended = Ended {
            listener,
            protocol,
            kind: Kind::Request,
            how,
            track,
            took,
            upstream: took,
            own: Own::default(),
            told: &joined.told,
        };
        self.report(&ended, line);
    }

    /// The worker ends: whatever is still in flight ends with it.
    pub(super) fn report_rest(&mut self) {
        let fault = Fault::ShuttingDown;
        let flights: Vec<_> = self.flights.iter().map(|(id, _)| id).collect();
        for id in flights {
            if let Some(mut flight) = self.forget_flight(id) {
                let how = Ending::Failed { fault, cut: flight.replying };
                self.report_flight(&mut flight, how, Own::default());
            }
        }
        let downs: Vec<_> = self.downs.iter().map(|(id, _)| id).collect();
        for id in downs {
            self.report_over(id, Ending::Failed { fault, cut: false }, Some(fault));
        }
    }
}
