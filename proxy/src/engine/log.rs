//! Access logs: what is remembered of a request, and the line when it ends.
//!
//! With no log each of these costs one look at an `Option`. A line begins where the route is
//! known and the metadata at hand ([`Engine::log_choice`]), waits in the logger for the
//! request to be sent or answered, travels in its [`Flight`] or, in a session, its
//! [`Downstream`], and is written where that ends.

use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::{Fault, Head, Kind, Outcome, ReplyTo, View};
use rand::Rng;
use rand::rngs::SmallRng;

use super::Engine;
use super::state::{DownId, Downstream, Flight, UpId};
use crate::observe::access_log::format::Ended;
use crate::observe::access_log::{AccessLogs, Line, fault_word};
use crate::observe::text::Calendar;
use crate::snapshot::Snapshot;

/// How long a line waits for others before it is handed over, ms.
const WAIT: u64 = 100;

/// Bytes that are handed over at once.
const ENOUGH: usize = 32 << 10;

/// Bytes that a worker keeps of one log while the writer is behind.
const BEHIND: usize = 256 << 10;

/// Lines kept for reuse, and the largest worth keeping: together at most 16 MiB.
const SPARE: usize = 4096;
const SPARE_BYTES: usize = 4096;

/// How often it is said that lines are dropped, ms.
const COMPLAIN: u64 = 10_000;

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// With its reply, which says so; without one where nothing is expected.
    Replied(Option<Outcome>),
    /// By the proxy, for this reason.
    Fault(Fault),
    /// Its client left before the answer.
    Abandoned,
    /// The proxy answered it as it is told to.
    Answered,
    /// Its connection was reset on purpose.
    Reset,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            Self::Replied(Some(outcome)) => outcome.as_str(),
            Self::Replied(None) => "sent",
            Self::Fault(_) => "fault",
            Self::Abandoned => "abandoned",
            Self::Answered => "local",
            Self::Reset => "reset",
        }
    }

    /// Whether neither the proxy nor the upstream failed.
    fn is_well(self) -> bool {
        matches!(self, Self::Replied(None | Some(Outcome::Ok | Outcome::AppError)) | Self::Answered)
    }
}

/// A worker's access logs.
pub(super) struct Logger {
    #[expect(clippy::redundant_allocation, reason = "the inner count is shared by threads")]
    logs: Rc<Arc<AccessLogs>>,
    /// By the position of a log: lines not yet handed over.
    own: Vec<Vec<u8>>,
    /// When the next are to be handed over, ms; `u64::MAX`: there are none.
    due: u64,
    /// When the engine's clock was 0, µs since 1970.
    wall: u64,
    /// The line of the message that is being dealt with.
    current: Option<Box<Line>>,
    /// Whether that message was looked at.
    judged: bool,
    /// For reuse.
    #[expect(clippy::vec_box, reason = "flights hold the boxes")]
    spare: Vec<Box<Line>>,
    scratch: Vec<u8>,
    calendar: Calendar,
    /// When it is said again that lines were dropped, ms, and how many since.
    complain: u64,
    dropped: u64,
}

/// What a line needs to know of its connection.
struct From {
    id: DownId,
    /// µs.
    start: u64,
    kind: &'static str,
    bytes_in: u64,
}

impl Logger {
    fn new(logs: Arc<AccessLogs>) -> Self {
        Self {
            logs: Rc::new(logs),
            own: Vec::new(),
            due: u64::MAX,
            wall: 0,
            current: None,
            judged: false,
            spare: Vec::new(),
            scratch: Vec::new(),
            calendar: Calendar::default(),
            complain: 0,
            dropped: 0,
        }
    }

    fn begin(
        &mut self,
        down: &Downstream,
        from: &From,
        route: Option<&str>,
        view: &View<'_>,
        config: &Snapshot,
        rng: &mut SmallRng,
    ) -> Option<Box<Line>> {
        // The message may have come under a config of before, whose keys have other places.
        let logs = if Arc::ptr_eq(&self.logs, &config.access_logs) {
            self.logs.clone()
        } else {
            Rc::new(config.access_logs.clone())
        };
        let (mut wanted, mut lucky) = (0, 0);
        for (at, log) in logs.list.iter().enumerate() {
            if (from.kind == "message" && !log.messages)
                || !log.when.iter().all(|predicate| predicate.holds(view))
            {
                continue;
            }
            let luck = log.share == u64::MAX || rng.random::<u64>() < log.share;
            lucky |= u32::from(luck) << at;
            wanted |= u32::from(luck || log.errors) << at;
        }
        if wanted == 0 {
            return None;
        }
        let mut line = self.spare.pop().unwrap_or_default();
        (line.wanted, line.lucky) = (wanted, lucky);
        line.listener = down.listener;
        (line.protocol, line.dialect) = (down.protocol, down.track.dialect);
        line.source = down.peer.source;
        line.connection = from.id.to_wire(64);
        (line.kind, line.start, line.bytes_in) = (from.kind, from.start, from.bytes_in);
        line.fill(&logs, route, view);
        line.logs = Some(logs);
        Some(line)
    }

    /// Whether some log tells of messages within sessions.
    pub(super) fn wants_messages(&self) -> bool {
        self.logs.list.iter().any(|log| log.messages)
    }

    fn recycle(&mut self, mut line: Box<Line>) {
        line.clear();
        if self.spare.len() < SPARE && line.kept() <= SPARE_BYTES {
            self.spare.push(line);
        }
    }

    /// Hands over what waits; what cannot be taken waits on, or is dropped where this is the
    /// last time: how many lines those are.
    fn hand_over(&mut self, now: u64, last: bool) -> u64 {
        self.due = u64::MAX;
        let mut lost = 0;
        for (bytes, output) in self.own.iter_mut().zip(self.logs.outputs()) {
            if bytes.is_empty() {
                continue;
            }
            let given = if last { output.give_in_turn(bytes) } else { output.give(bytes) };
            if !given && last {
                lost += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                bytes.clear();
            } else if !given {
                self.due = now + WAIT;
            }
        }
        self.dropped += lost;
        if self.dropped > 0 && (last || now >= self.complain) {
            tracing::warn!(
                lines = self.dropped,
                "access log: lines dropped, as the writer is behind"
            );
            (self.dropped, self.complain) = (0, now + COMPLAIN);
        }
        lost
    }
}

impl Engine {
    /// Requests that end from now on get lines in the logs of the config in use, where they
    /// are open.
    pub(super) fn log_anew(&mut self) {
        let logs = self.snapshot.access_logs.clone();
        if self.logger.as_ref().is_some_and(|had| Arc::ptr_eq(&had.logs, &logs)) {
            return;
        }
        self.hand_last_lines();
        if logs.outputs().is_empty() {
            self.logger = None;
            return;
        }
        let logger = self.logger.get_or_insert_with(|| Box::new(Logger::new(logs.clone())));
        logger.own.resize_with(logs.list.len(), Vec::new);
        logger.logs = Rc::new(logs);
    }

    /// Whether there are access logs.
    pub fn logs(&self) -> bool {
        self.logger.is_some()
    }

    /// Which worker's it is; told in the field `connection`.
    pub fn set_worker(&mut self, worker: u16) {
        self.worker = worker;
    }

    /// Tells what the time was when the engine's clock was 0, µs since 1970.
    pub fn set_wall(&mut self, micros: u64) {
        if let Some(logger) = &mut self.logger {
            logger.wall = micros;
        }
    }

    /// When lines are to be handed over, ms; `u64::MAX`: there are none.
    pub(super) fn next_lines(&self) -> u64 {
        self.logger.as_ref().map_or(u64::MAX, |logger| logger.due)
    }

    /// Hands over lines that have waited for long enough.
    pub(super) fn hand_lines(&mut self) {
        if let Some(logger) = &mut self.logger
            && logger.due <= self.now
        {
            logger.hand_over(self.now, false);
        }
    }

    /// The worker ends: whatever is still in flight ends with it, and all lines are handed over.
    pub fn end_logs(&mut self) {
        if self.logger.is_none() {
            return;
        }
        let flights = self.flights.iter().map(|(id, _)| id);
        for id in flights.collect::<Vec<_>>() {
            let Some(mut line) = self.flights.get_mut(id).and_then(|had| had.line.take()) else {
                continue;
            };
            line.status = 0;
            self.end_line(line, How::Fault(Fault::ShuttingDown), None);
        }
        let downs = self.downs.iter().map(|(id, _)| id);
        for id in downs.collect::<Vec<_>>() {
            self.log_session(id, How::Fault(Fault::ShuttingDown));
        }
        self.hand_last_lines();
    }

    fn hand_last_lines(&mut self) {
        let Some(logger) = &mut self.logger else { return };
        let lost = logger.hand_over(self.now, true);
        self.counters.logged = self.counters.logged.saturating_sub(lost);
        self.counters.unlogged += lost;
    }

    /// A message begins to be dealt with.
    pub(super) fn log_message(&mut self) {
        let Some(logger) = &mut self.logger else { return };
        logger.judged = false;
        if let Some(stale) = logger.current.take() {
            logger.recycle(stale);
        }
    }

    /// A message's route is known, and that it goes on or is answered now.
    pub(super) fn log_choice(
        &mut self,
        id: DownId,
        head: &Head,
        route: Option<&str>,
        view: &View<'_>,
    ) {
        self.log_as(id, head.kind.as_str(), head.len, route, view);
    }

    /// The same of what is called by another word than its kind, and has so many bytes.
    pub(super) fn log_as(
        &mut self,
        id: DownId,
        kind: &'static str,
        bytes: usize,
        route: Option<&str>,
        view: &View<'_>,
    ) {
        self.log_message();
        let config = self.config_of_down(id);
        let (Some(logger), Some(down)) = (&mut self.logger, self.downs.get(id)) else { return };
        logger.judged = true;
        let waited = down.arrived != self.now;
        let start = if waited { down.arrived * 1000 } else { self.micros };
        let from = From { id, start, kind, bytes_in: bytes as u64 };
        logger.current = logger.begin(down, &from, route, view, &config, &mut self.rng);
    }

    /// A message goes nowhere, or where its connection goes: no route was asked.
    pub(super) fn log_unchosen(&mut self, id: DownId, head: &Head, message: &[u8]) {
        if self.logger.as_ref().is_none_or(|logger| logger.judged) {
            return;
        }
        let metadata = self.downs.get_mut(id).and_then(|down| down.metadata.take());
        let Some(metadata) = metadata else { return };
        self.log_choice(id, head, None, &metadata.view(message));
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = Some(metadata);
        }
    }

    /// The line of the message that is being dealt with, given to this connection.
    pub(super) fn take_line(&mut self, up: Option<UpId>) -> Option<Box<Line>> {
        let mut line = self.logger.as_mut()?.current.take()?;
        if let Some(upstream) = up.and_then(|up| self.ups.get(up)) {
            line.give(self.micros, upstream.cluster, upstream.endpoint);
        }
        Some(line)
    }

    /// A message that was as good as sent is dealt with otherwise.
    pub(super) fn log_again(&mut self, line: Option<Box<Line>>) {
        if let (Some(logger), Some(mut line)) = (&mut self.logger, line) {
            (line.given, line.place) = (None, None);
            logger.current = Some(line);
        }
    }

    /// Bytes that the client of a session sent.
    pub(super) fn count_in_session(&mut self, id: DownId, bytes: usize) {
        if self.logger.is_some()
            && let Some(line) = self.downs.get_mut(id).and_then(|down| down.line.as_mut())
        {
            line.bytes_in += bytes as u64;
        }
    }

    /// The message that is being dealt with is answered by the proxy, with so many bytes.
    pub(super) fn log_local(&mut self, how: How, status: u32, bytes: usize) {
        let Some(mut line) = self.take_line(None) else { return };
        line.status = status;
        line.bytes_out = bytes as u64;
        self.end_line(line, how, None);
    }

    /// A message that the proxy answers without any route.
    pub(super) fn log_at_home(&mut self, id: DownId, head: &Head, message: &[u8], bytes: usize) {
        if self.logger.is_some() && head.kind == Kind::Local {
            self.log_message();
            self.log_unchosen(id, head, message);
            self.log_local(How::Answered, 0, bytes);
        }
    }

    /// A message gets a native error of so many bytes.
    pub(super) fn log_refused(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        fault: Fault,
        bytes: usize,
    ) {
        if self.logger.is_some() {
            self.log_unchosen(id, head, message);
            let status = self.status_of(protocol, head.reply_to, fault);
            self.log_local(How::Fault(fault), status, bytes);
        }
    }

    /// The status that tells of a fault.
    fn status_of(&self, protocol: usize, to: ReplyTo, fault: Fault) -> u32 {
        let enabled = self.snapshot.protocols.get(protocol);
        enabled.map_or(0, |enabled| enabled.protocol.fault_status(to, fault))
    }

    /// A request in flight ends.
    pub(super) fn log_flight(&mut self, flight: &mut Flight, how: How, reply: usize) {
        let Some(mut line) = flight.line.take() else { return };
        if let (How::Fault(fault), 1..) = (how, reply) {
            line.status = self.status_of(flight.protocol, flight.reply_to, fault);
        }
        line.bytes_out += reply as u64;
        if let Some(upstream) = self.ups.get(flight.up) {
            // It may have been taken elsewhere than it was first meant to go.
            line.place = Some((upstream.cluster, upstream.endpoint));
        }
        let began = line.given.map(|given| given.max(flight.began));
        self.end_line(line, how, began);
    }

    /// A request turned its connection into a session: its line is the session's.
    pub(super) fn log_joined(&mut self, id: DownId, line: Option<Box<Line>>) {
        let Some(mut line) = line else { return };
        line.kind = "session";
        match self.downs.get_mut(id) {
            Some(down) => down.line = Some(line),
            None => self.end_line(line, How::Abandoned, None),
        }
    }

    /// A session ends.
    pub(super) fn log_session(&mut self, id: DownId, how: How) {
        if let Some(line) = self.downs.get_mut(id).and_then(|down| down.line.take()) {
            let began = line.given;
            self.end_line(line, how, began);
        }
    }

    /// A session's message was let pass, or not.
    pub(super) fn log_within(&mut self, bytes: u64, how: How) {
        if let Some(mut line) = self.take_line(None) {
            line.bytes_in = bytes;
            self.end_line(line, how, None);
        }
    }

    /// Writes a request's line to the logs that want it, and takes it back. `began`: its
    /// last try, µs.
    pub(super) fn end_line(&mut self, mut line: Box<Line>, how: How, began: Option<u64>) {
        let Some(logger) = &mut self.logger else { return };
        let Some(logs) = line.logs.take() else { return };
        let snapshot = &self.snapshot;
        let cluster = line.place.and_then(|(cluster, _)| snapshot.clusters.get(cluster));
        let endpoint = line.place.and_then(|(_, at)| cluster?.endpoints.get(at));
        let listener = snapshot.listeners.get(line.listener);
        let protocol = line.protocol.and_then(|at| snapshot.protocols.get(at));
        let ended = Ended {
            time: logger.wall.saturating_add(line.start),
            worker: self.worker,
            listener: listener.map_or("", |listener| listener.name.as_str()),
            protocol: protocol.map_or("tcp", |enabled| enabled.protocol.name()),
            dialect: protocol.and_then(|enabled| {
                enabled.protocol.dialects().get(usize::from(line.dialect)).copied()
            }),
            cluster: cluster.map(|cluster| cluster.name.as_str()),
            endpoint: endpoint.map(|endpoint| endpoint.address),
            outcome: how.word(),
            status_word: protocol.and_then(|enabled| enabled.protocol.status_word(line.status)),
            fault: match how {
                How::Fault(fault) => Some(fault_word(fault)),
                _ => None,
            },
            duration: self.micros.saturating_sub(line.start),
            upstream: began.map(|began| self.micros.saturating_sub(began)),
            line: &line,
        };
        let current = Rc::ptr_eq(&logs, &logger.logs);
        for (at, log) in logs.list.iter().enumerate() {
            let may = line.wanted & 1 << at != 0
                && (line.lucky & 1 << at != 0 || (log.errors && !how.is_well()));
            if !may
                || !log
                    .ends
                    .iter()
                    .all(|(field, matcher)| ended.holds(*field, matcher, &mut logger.scratch))
            {
                continue;
            }
            if !current {
                // The config changed meanwhile; such lines are few.
                let mut bytes = Vec::new();
                ended.write(&log.format, &mut logger.calendar, &mut bytes);
                let output = logs.outputs().get(at);
                let given = output.is_some_and(|output| output.give_in_turn(&mut bytes));
                self.counters.logged += u64::from(given);
                self.counters.unlogged += u64::from(!given);
                continue;
            }
            let Some(bytes) = logger.own.get_mut(at) else { continue };
            if bytes.len() >= BEHIND {
                self.counters.unlogged += 1;
                logger.dropped += 1;
                continue;
            }
            ended.write(&log.format, &mut logger.calendar, bytes);
            self.counters.logged += 1;
            let output = logs.outputs().get(at).filter(|_| bytes.len() >= ENOUGH);
            if output.is_some_and(|output| output.give(bytes)) {
                continue;
            }
            logger.due = logger.due.min(self.now + WAIT);
        }
        logger.recycle(line);
    }
}
