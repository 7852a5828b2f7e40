//! Leaving: clients that are to go elsewhere are asked to, each in its protocol's own way,
//! and served meanwhile.
//!
//! A connection that leaves goes on as before. Its client is told where the protocol has
//! words ([`Leave`]), and the connection ends when that says so, or when it has been quiet
//! for a while. A part of the time is left to those who do not hear: after the last call what
//! is in flight is answered, whatever else comes is refused, and then the connection ends.
//! Sessions are told one by one, so that not all of their clients come back at once.

use polyport_codecs::{Fault, Leave, ReplyTo};
use rand::Rng;

use super::Engine;
use super::slab::Slab;
use super::state::{DownId, DownState, Downstream, UpState, Upstream};

/// Leaving connections are looked through at most so often (ms).
const GRAIN: u64 = 20;

/// The last so many hundredths of the time are for what is in flight.
const LAST_CALL: u64 = 25;

/// Sessions are told within so many hundredths of the time, in no order.
const FAREWELLS: u64 = 50;

/// Between when and when connections leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    since: u64,
    until: u64,
}

impl Times {
    /// From here on nothing new is served, ms.
    fn last_call(self) -> u64 {
        self.until - self.until.saturating_sub(self.since) * LAST_CALL / 100
    }
}

/// A connection that leaves.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// Nothing new is served from here on, ms.
    pub(super) last_call: u64,
    /// It ends then, ms, whatever is on it.
    pub(super) until: u64,
    /// A session is dismissed then, ms.
    pub(super) farewell: u64,
    /// Something was last on it, ms.
    pub(super) busy: u64,
    /// Its client was told, as far as its protocol can; `None`: not yet.
    told: Option<Leave>,
    /// The last call was made.
    called: bool,
}

impl Downstream {
    /// Whether nothing new is served on it any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.last_call <= now)
    }

    /// Whether the reply to all that is in flight tells its client that it ends.
    pub(super) fn ends_with_reply(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.told == Some(Leave::Reply))
            // What is behind it would be done and not be answered.
            && self.in_flight == 1
            && self.held.is_none()
    }

    /// Whether an answer of the proxy's own, written now, is to tell its client that the
    /// connection ends.
    fn ends_with_own_reply(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.told == Some(Leave::Reply))
            && self.in_flight == 0
            && self.held.is_none()
    }

    /// Whether nothing is in flight, half read or half written.
    fn is_quiet(&self) -> bool {
        matches!(self.state, DownState::Idle | DownState::Detecting)
            && !(self.parked || self.resuming || self.blocked || self.waiting.is_some())
            && (self.in_flight, self.input.len(), self.out.len()) == (0, 0, 0)
            && self.lanes.is_empty()
            // What was begun on it would be lost.
            && self.held.is_none()
    }
}

/// What is to be done with a leaving connection.
#[derive(Clone, Copy)]
enum Due {
    /// Nothing: it is busy, and looked at again to know since when it is not.
    Look,
    /// Nothing has been on it for a while: it ends.
    Quiet,
    /// A session ends.
    Farewell,
    LastCall,
    /// Its time is up.
    End,
}

/// When what is next due, ms.
fn due(down: &mut Downstream, ups: &Slab<Box<Upstream>>, now: u64, quiet: u64) -> (u64, Due) {
    let is_quiet = down.is_quiet();
    let Some(leaving) = down.leaving.as_mut() else { return (u64::MAX, Due::Look) };
    match down.state {
        DownState::Closing { .. } => (leaving.until, Due::End),
        DownState::Session(up)
            if (leaving.told == Some(Leave::Farewell) || down.seam.is_some())
                && leaving.farewell < leaving.until =>
        {
            let between = down.seam.as_ref().is_some_and(|seam| seam.is_between());
            let between = between
                || down.dialogue.as_ref().is_some_and(|dialogue| {
                    // One whose opening is not answered yet has nothing to leave.
                    dialogue.begun
                        && (dialogue.left, dialogue.steps, dialogue.waiting.len()) == (0, false, 0)
                }) && down.input.is_empty()
                    && ups.get(up).is_none_or(|upstream| {
                        matches!(upstream.state, UpState::Idle) && upstream.input.is_empty()
                    });
            match leaving.farewell {
                farewell if farewell > now || between => (farewell, Due::Farewell),
                _ if leaving.until <= now => (now, Due::Farewell),
                _ => (now + GRAIN, Due::Look),
            }
        }
        DownState::Session(_) => (leaving.until, Due::Farewell),
        _ if leaving.called => (leaving.until, Due::End),
        _ if leaving.last_call <= now => (now, Due::LastCall),
        _ if is_quiet => {
            let at = leaving.busy.max(down.last_read).saturating_add(quiet);
            if at < leaving.last_call {
                (at, Due::Quiet)
            } else {
                (leaving.last_call, Due::LastCall)
            }
        }
        _ => {
            leaving.busy = now;
            ((now + (quiet / 4).max(GRAIN)).min(leaving.last_call), Due::Look)
        }
    }
}

impl Engine {
    /// All connections leave, those that are still to come, too; at `until` (ms, on this
    /// engine's clock) at the latest. Called again, it changes nothing for those that leave.
    pub fn drain(&mut self, until: u64) {
        self.draining = Some(self.times(until));
        self.leave(None);
    }

    /// The same of one listener's connections, by its position.
    pub fn drain_listener(&mut self, listener: usize, until: u64) {
        if self.left.len() <= listener {
            self.left.resize(listener + 1, None);
        }
        let times = self.times(until);
        if let Some(place) = self.left.get_mut(listener) {
            *place = Some(times);
        }
        self.leave(Some(listener));
    }

    /// Whether a drained engine has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.draining.is_some() && self.downs.is_empty()
    }

    /// Connections of a listener that leave, or all that do where `None`.
    pub fn leaving(&self, listener: Option<usize>) -> usize {
        let of = |down: &Downstream| listener.is_none_or(|listener| down.listener == listener);
        self.downs.iter().filter(|(_, down)| down.leaving.is_some() && of(down)).count()
    }

    fn times(&self, until: u64) -> Times {
        Times { since: self.now, until: until.max(self.now) }
    }

    fn leave(&mut self, listener: Option<usize>) {
        let downs: Vec<DownId> = self
            .downs
            .iter()
            .filter(|(_, down)| listener.is_none_or(|listener| down.listener == listener))
            .map(|(id, _)| id)
            .collect();
        for id in downs {
            self.begin_to_leave(id);
            self.tell(id);
        }
        self.expire_leaving();
    }

    /// A connection leaves, if its listener's do.
    pub(super) fn begin_to_leave(&mut self, id: DownId) {
        if self.goes_elsewhere(id) {
            return;
        }
        let Some(down) = self.downs.get_mut(id) else { return };
        // Of streams their connection is told; a session on one learns it by itself.
        if (down.stream && down.seam.is_none()) || down.leaving.is_some() {
            return;
        }
        let Some(times) = self.draining.or(self.left.get(down.listener).copied().flatten()) else {
            return;
        };
        let spread = times.until.saturating_sub(times.since) * FAREWELLS / 100;
        let drawn = times.since + self.rng.random_range(0..=spread);
        down.leaving = Some(Box::new(Leaving {
            last_call: times.last_call(),
            until: times.until,
            farewell: drawn.max(self.now),
            busy: self.now,
            told: None,
            called: false,
        }));
        self.earliest_leave = self.earliest_leave.min(self.now);
    }

    /// Whether a listener takes no connections at all any more.
    pub(super) fn is_closed(&self, listener: usize) -> bool {
        self.draining
            .or(self.left.get(listener).copied().flatten())
            .is_some_and(|times| times.last_call() <= self.now)
    }

    /// Tells the client of a leaving connection, once it is known what it speaks.
    pub(super) fn tell(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(spoke) = down.spoke else { return };
        let Some(enabled) = down.protocol.and_then(|at| self.snapshot.protocols.get(at)) else {
            return;
        };
        let Some(leaving) = down.leaving.as_mut().filter(|leaving| leaving.told.is_none()) else {
            return;
        };
        if matches!(down.state, DownState::Closing { .. }) {
            return;
        }
        let mut words = self.spares.take();
        let way = enabled.codec.leave(spoke, &mut words);
        leaving.told = Some(way);
        if way == Leave::Told {
            self.owe(id, words, false);
        } else {
            self.spares.give(words);
        }
    }

    /// The request that the proxy is about to answer itself: where its client leaves and is to
    /// learn it from the reply, as one whose connection ends with it.
    pub(super) fn parting(&self, id: DownId, protocol: usize, to: ReplyTo) -> ReplyTo {
        if !self.downs.get(id).is_some_and(|down| down.ends_with_own_reply()) {
            return to;
        }
        let enabled = self.snapshot.protocols.get(protocol);
        enabled.map_or(to, |enabled| enabled.protocol.last(to))
    }

    /// Goes on with whatever leaves.
    pub(super) fn expire_leaving(&mut self) {
        if self.now < self.earliest_leave {
            return;
        }
        let (now, quiet) = (self.now, self.snapshot.timeouts.quiet.as_millis() as u64);
        let leaving = self.downs.iter().filter(|(_, down)| down.leaving.is_some());
        let all: Vec<DownId> = leaving.map(|(id, _)| id).collect();
        self.earliest_leave = u64::MAX;
        for id in all {
            let Some(down) = self.downs.get_mut(id) else { continue };
            let (mut at, what) = due(down, &self.ups, now, quiet);
            if at <= now {
                at = now;
                match what {
                    Due::Look => {}
                    Due::Quiet => self.stop_reading(id),
                    Due::Farewell => self.end_session(id, Fault::ShuttingDown),
                    Due::LastCall => self.call_last(id),
                    Due::End => {
                        self.close_down(id);
                        continue;
                    }
                }
            }
            self.earliest_leave = self.earliest_leave.min(at.max(now + GRAIN));
        }
    }

    /// What is in flight is answered; whatever else comes may go elsewhere.
    fn call_last(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        if let Some(leaving) = &mut down.leaving {
            leaving.called = true;
        }
        match down.state {
            DownState::Detecting => self.stop_reading(id),
            // What was read and waits for whatever reason is refused; nothing new is read.
            DownState::Idle => {
                down.parked = true;
                self.wake_down(id);
            }
            // A body still coming is read to its end; the reply then closes.
            DownState::Body { flight, .. } | DownState::Steps { flight, .. } => {
                if let Some(flight) = flight.and_then(|id| self.flights.get_mut(id)) {
                    flight.last = true;
                }
            }
            DownState::Session(_) | DownState::Closing { .. } => {}
        }
    }
}
