//! Access logs: a line begins where a message's route is known and its metadata at hand
//! ([`Engine::log_choice`]), waits in the logger until the message is sent or answered,
//! travels with its flight or its session, and is written where that is reported
//! ([`super::report`]). With no log each of these costs one look at an `Option`.

use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::View;
use rand::Rng;
use rand::rngs::SmallRng;

use super::Engine;
use super::report::Ended;
use super::state::{DownId, Downstream};
use crate::observe::access_log::format::Entry;
use crate::observe::access_log::words::is_well;
use crate::observe::access_log::{AccessLogs, Line};
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
        (id, down): (DownId, &Downstream),
        within: bool,
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
            if (within && !log.messages) || !log.when.iter().all(|predicate| predicate.holds(view))
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
        line.source = down.peer.source;
        line.connection = id.to_wire(64);
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
        if self.logger.is_some() {
            self.report_rest();
            self.hand_last_lines();
        }
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

    /// A message's route is known, and that it goes on or is answered now. `within`: it is
    /// one of a session's.
    pub(super) fn log_choice(
        &mut self,
        id: DownId,
        within: bool,
        route: Option<&str>,
        view: &View<'_>,
    ) {
        self.log_message();
        let config = self.config_of_down(id);
        let (Some(logger), Some(down)) = (&mut self.logger, self.downs.get(id)) else { return };
        logger.judged = true;
        logger.current = logger.begin((id, down), within, route, view, &config, &mut self.rng);
    }

    /// A message goes nowhere, or where its connection goes: no route was asked.
    pub(super) fn log_unchosen(&mut self, id: DownId, message: &[u8]) {
        if self.logger.as_ref().is_none_or(|logger| logger.judged) {
            return;
        }
        let metadata = self.downs.get_mut(id).and_then(|down| down.metadata.take());
        let Some(metadata) = metadata else { return };
        self.log_choice(id, false, None, &metadata.view(message));
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = Some(metadata);
        }
    }

    /// The line of the message that is being dealt with. `given`: to a connection, now.
    pub(super) fn take_line(&mut self, given: bool) -> Option<Box<Line>> {
        let mut line = self.logger.as_mut()?.current.take()?;
        line.given = given.then_some(self.micros);
        Some(line)
    }

    /// A message that was as good as sent is dealt with otherwise.
    pub(super) fn log_again(&mut self, line: Option<Box<Line>>) {
        if let Some(logger) = &mut self.logger {
            logger.current = line;
        }
    }

    /// Writes a request's line to the logs that want it, and takes it back.
    pub(super) fn write_line(&mut self, ended: &Ended<'_>, mut line: Box<Line>) {
        let Some(logger) = &mut self.logger else { return };
        let Some(logs) = line.logs.take() else { return };
        let snapshot = &self.snapshot;
        let cluster = ended.track.at.and_then(|(cluster, _)| snapshot.clusters.get(cluster));
        let endpoint = ended.track.at.and_then(|(_, at)| cluster?.endpoints.get(at));
        let listener = snapshot.listeners.get(ended.listener);
        let protocol = ended.protocol.and_then(|at| snapshot.protocols.get(at));
        let entry = Entry {
            ended,
            line: &line,
            time: logger.wall.saturating_add(ended.track.since),
            worker: self.worker,
            listener: listener.map_or("", |listener| listener.name.as_str()),
            protocol: protocol.map_or("tcp", |enabled| enabled.protocol.name()),
            dialect: protocol.and_then(|enabled| {
                enabled.protocol.dialects().get(usize::from(ended.track.dialect)).copied()
            }),
            cluster: cluster.map(|cluster| cluster.name.as_str()),
            endpoint: endpoint.map(|endpoint| endpoint.address),
            status_word: protocol.and_then(|enabled| enabled.protocol.status_word(ended.status())),
        };
        let well = is_well(ended.how);
        let current = Rc::ptr_eq(&logs, &logger.logs);
        for (at, log) in logs.list.iter().enumerate() {
            let may =
                line.wanted & 1 << at != 0 && (line.lucky & 1 << at != 0 || (log.errors && !well));
            if !may
                || !log
                    .ends
                    .iter()
                    .all(|(field, matcher)| entry.holds(*field, matcher, &mut logger.scratch))
            {
                continue;
            }
            if !current {
                // The config changed meanwhile; such lines are few.
                let mut bytes = Vec::new();
                entry.write(&log.format, &mut logger.calendar, &mut bytes);
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
            entry.write(&log.format, &mut logger.calendar, bytes);
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
