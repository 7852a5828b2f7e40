//! Who is told how each message ended: the one place that all who count and write of
//! that hang on. A request is reported once, whatever ended it.

use polyport_codecs::{Fault, Head, Kind, Outcome, View};

use super::Engine;
use super::state::{DownId, Flight, UpId};
use crate::snapshot::Snapshot;

/// Ending a message, or a session, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An upstream answered it.
    Replied {
        /// Ending it says that the request fared.
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
    Over,
}

/// A message that has ended, or a session.
pub struct Ended<'a> {
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// Index into the snapshot's protocols; `None`: opaque bytes.
    pub protocol: Option<usize>,
    /// Which of its protocol's dialects it is ([`Head::dialect`]).
    pub dialect: u8,
    /// The number of its route ([`crate::snapshot::Snapshot::route_id`]); `None` where none
    /// was taken.
    pub route: Option<usize>,
    /// Cluster and endpoint that it was given to last, by position.
    pub at: Option<(usize, usize)>,
    /// Request, one-way, or what the proxy answers for itself.
    pub kind: Kind,
    /// Ending it ended.
    pub how: Ending,
    /// From its head to its end, µs.
    pub took: u64,
    /// From when it was last given to an upstream connection to its end, µs; 0 where it was not.
    pub upstream: u64,
    /// Bytes that its client sent.
    pub request: u64,
    /// Bytes of the reply that an upstream sent.
    pub reply: u64,
    /// Ending often it was tried again.
    pub retries: u32,
    /// Its connection, where that is still there.
    pub down: Option<DownId>,
    /// Its metadata, where it ended as it came: for what had to wait see `told`.
    pub view: Option<View<'a>>,
    /// What [`Engine::remember`] kept of its metadata.
    pub told: &'a [u8],
}

/// What is remembered of a message until it ends.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    /// When its head was all there, µs.
    pub since: u64,
    /// Its route's number; `usize::MAX`: none.
    pub route: usize,
    /// Cluster and endpoint that it was given to last.
    pub at: Option<(usize, usize)>,
    /// Bytes of it so far.
    pub request: u64,
    /// Bytes of its reply so far.
    pub reply: u64,
    /// The status of its reply.
    pub status: u32,
    /// Ending often it was tried again.
    pub retries: u32,
    /// Its dialect.
    pub dialect: u8,
}

impl Track {
    /// Of a message whose head came at this time, µs.
    pub fn since(since: u64) -> Self {
        let (route, dialect) = (usize::MAX, 0);
        Self { since, route, at: None, request: 0, reply: 0, status: 0, retries: 0, dialect }
    }

    fn route(&self) -> Option<usize> {
        (self.route != usize::MAX).then_some(self.route)
    }
}

/// A session, from the message that opened it to its end.
#[derive(Debug)]
pub struct Joined {
    /// Of the message that opened it; its bytes grow with the session's.
    pub track: Track,
    /// What was remembered of that message.
    pub told: Vec<u8>,
    /// The message that opened it has been reported.
    pub opened: bool,
}

impl Engine {
    /// Everything that ends is told here, and nowhere else.
    pub(super) fn report(&mut self, ended: &Ended<'_>) {
        if let Some(series) = &mut self.series {
            series.ended(&self.snapshot, ended, self.now);
        }
    }

    /// What is kept of a message's metadata until it ends, as it sets out on its route.
    pub(super) fn remember(&mut self, config: &Snapshot, view: &View<'_>) -> Vec<u8> {
        self.exemplar(config, view)
    }

    /// Reports a message that ends as it comes. `message`: its head.
    pub(super) fn report_here(&mut self, id: DownId, head: &Head, message: &[u8], how: Ending) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let (listener, protocol, track) = (down.listener, down.protocol, down.track);
        let metadata = down.metadata.take();
        self.report(&Ended {
            listener,
            protocol,
            dialect: track.dialect,
            route: track.route(),
            at: track.at,
            kind: head.kind,
            how,
            took: self.micros.saturating_sub(track.since),
            upstream: 0,
            request: message.len() as u64,
            reply: 0,
            retries: 0,
            down: Some(id),
            view: metadata.as_ref().map(|metadata| metadata.view(message)),
            told: &[],
        });
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = metadata;
        }
    }

    /// Reports a request that was in flight. Copies are nobody's.
    pub(super) fn report_flight(&mut self, flight: &mut Flight, how: Ending) {
        if flight.mirror {
            return;
        }
        let told = std::mem::take(&mut flight.told);
        let here = self.ups.get(flight.up).map(|up| (up.cluster, up.endpoint));
        let at = here.or(flight.track.at);
        self.report(&Ended {
            listener: flight.listener,
            protocol: Some(flight.protocol),
            dialect: flight.track.dialect,
            route: flight.track.route(),
            at,
            kind: if flight.oneway { Kind::Oneway } else { Kind::Request },
            how,
            took: self.micros.saturating_sub(flight.track.since),
            upstream: self.micros.saturating_sub(flight.began),
            request: flight.track.request,
            reply: flight.track.reply,
            retries: flight.track.retries,
            down: self.downs.get(flight.down).map(|_| flight.down),
            view: None,
            told: &told,
        });
        self.spares.give(told);
    }

    /// A connection has become a session by a message of which `track` and `told` are known.
    /// `opened`: that message has been reported.
    pub(super) fn joined(
        &mut self,
        id: DownId,
        up: UpId,
        track: Track,
        told: Vec<u8>,
        opened: bool,
    ) {
        let at = self.ups.get(up).map(|up| (up.cluster, up.endpoint));
        let Some(down) = self.downs.get_mut(id) else { return };
        let track = Track { at: at.or(track.at), ..track };
        down.joined = Some(Box::new(Joined { track, told, opened }));
        self.measure_session(id);
    }

    /// Reports the message that opened a session, once.
    pub(super) fn report_opening(&mut self, id: DownId, how: Ending) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(joined) = down.joined.take() else { return };
        let (listener, protocol) = (down.listener, down.protocol);
        self.report_joined(id, listener, protocol, joined, how);
    }

    /// Reports that a session is over; before that how its first message fared, where
    /// nobody had answered it yet.
    pub(super) fn report_over(&mut self, id: DownId, unanswered: Ending) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(joined) = down.joined.take() else { return };
        let facts = (down.listener, down.protocol);
        self.report_left(id, facts, joined, unanswered);
    }

    /// The same of a connection that is no longer in the books.
    pub(super) fn report_left(
        &mut self,
        id: DownId,
        (listener, protocol): (usize, Option<usize>),
        joined: Box<Joined>,
        unanswered: Ending,
    ) {
        if !joined.opened {
            self.report_session(id, listener, protocol, &joined, unanswered);
        }
        self.report_session(id, listener, protocol, &joined, Ending::Over);
        self.spares.give(joined.told);
    }

    fn report_joined(
        &mut self,
        id: DownId,
        listener: usize,
        protocol: Option<usize>,
        mut joined: Box<Joined>,
        how: Ending,
    ) {
        if !joined.opened {
            joined.opened = true;
            self.report_session(id, listener, protocol, &joined, how);
        }
        if let Some(down) = self.downs.get_mut(id) {
            down.joined = Some(joined);
        }
    }

    fn report_session(
        &mut self,
        id: DownId,
        listener: usize,
        protocol: Option<usize>,
        joined: &Joined,
        how: Ending,
    ) {
        let track = &joined.track;
        let took = self.micros.saturating_sub(track.since);
        self.report(&Ended {
            listener,
            protocol,
            dialect: track.dialect,
            route: track.route(),
            at: track.at,
            kind: Kind::Request,
            how,
            took,
            upstream: took,
            request: track.request,
            reply: track.reply,
            retries: 0,
            down: self.downs.get(id).map(|_| id),
            view: None,
            told: &joined.told,
        });
    }
}
