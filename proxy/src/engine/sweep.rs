//! Deadlines. Requests lie side by side in one table with their deadlines, so
//! nothing is queued per request: the engine remembers a bound below which none
//! is due, and looks through the table only when time has passed that bound.
//! Under load that is once per timeout, not once per request.

use std::cmp::Reverse;

use polyport_codecs::Fault;

use super::Engine;
use super::flow::SHARED_STALL;
use super::observe::Seen;
use super::patience::SILENCE;
use super::state::{ConnId, DownId, DownState, FlightId, UpId, UpMode, UpPhase};
use crate::policy::retry::Ended;

/// Connections are looked through at most so often (ms).
const CONN_GRAIN: u64 = 250;

impl Engine {
    /// Some connection has a deadline at `at`.
    pub(super) fn look_by(&mut self, at: u64) {
        self.earliest_conn = self.earliest_conn.min(at);
    }

    /// When [`Engine::expire`] is next of use, ms; `u64::MAX`: nothing is waited for.
    pub fn next_deadline(&self) -> u64 {
        let wait = self.waiting.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        self.earliest_flight
            .min(self.earliest_conn)
            .min(self.earliest_wait)
            .min(wait)
            .min(self.next_lines())
            .min(self.next_sleeper())
            .min(self.earliest_leave)
    }

    /// Ends whatever is past its deadline.
    pub fn expire(&mut self) {
        self.wake_sleepers();
        self.tell_suppressed();
        self.hand_lines();
        if self.now >= self.earliest_flight {
            self.expire_flights();
        }
        if self.now >= self.earliest_wait {
            self.expire_queues();
        }
        self.expire_waits();
        self.expire_leaving();
        if self.now >= self.earliest_conn {
            self.expire_downs();
            self.expire_ups();
        }
    }

    fn expire_flights(&mut self) {
        let mut earliest = u64::MAX;
        let mut due: Vec<FlightId> = Vec::new();
        for (id, flight) in self.flights.iter() {
            if flight.deadline <= self.now {
                due.push(id);
            } else {
                earliest = earliest.min(flight.deadline);
            }
        }
        self.earliest_flight = earliest;
        for id in due {
            let Some(flight) = self.flights.get(id) else { continue };
            let (up, started, began) = (flight.up, flight.started, flight.began);
            // A client that waits for a moment only learns nothing of the endpoint.
            let hasty = flight.limit <= self.now && self.now.saturating_sub(started) < SILENCE;
            if let Some(upstream) = self.ups.get(up)
                && !hasty
            {
                let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
                let took = self.micros.saturating_sub(began);
                self.observe(cluster, endpoint, Seen::Timeout, took);
            }
            // A connection that said nothing since may be dead: new requests
            // go elsewhere, and it closes when the last one on it has ended.
            let silent =
                !hasty && self.ups.get(up).is_some_and(|upstream| upstream.last_read <= started);
            if silent {
                // First, so that the next try does not go there.
                self.drain_up(up);
            }
            let endpoint = self.ups.get(up).map(|upstream| upstream.endpoint);
            if !endpoint.is_some_and(|endpoint| self.again(id, Ended::Timeout, endpoint)) {
                self.fail(id, Fault::Timeout);
            }
        }
    }

    fn expire_downs(&mut self) {
        let timeouts = self.snapshot.timeouts;
        let (stream, idle, read, write) = (
            timeouts.stream.as_millis() as u64,
            timeouts.idle.as_millis() as u64,
            timeouts.read.as_millis() as u64,
            timeouts.write.as_millis() as u64,
        );
        let mut earliest = u64::MAX;
        let mut due: Vec<(DownId, Due)> = Vec::new();
        for (id, down) in self.downs.iter() {
            let (deadline, what) = match down.state {
                DownState::Closing { shut: true } => (Self::linger_deadline(down), Due::Close),
                _ if down.blocked || !down.holding_back.is_empty() => {
                    let patience = if down.holds_shared { write.min(SHARED_STALL) } else { write };
                    (down.blocked_since + patience, Due::Close)
                }
                // It is we who keep it waiting.
                _ if down.pace.is_resting() || down.is_delayed(self.now) => (u64::MAX, Due::Close),
                DownState::Detecting => {
                    let limit = self
                        .snapshot
                        .listeners
                        .get(down.listener)
                        .map_or(read, |listener| listener.detect_timeout.as_millis() as u64);
                    (down.message_since + limit, Due::FallBack)
                }
                DownState::Session(up) => {
                    let silent = match &down.dialogue {
                        Some(dialogue) if dialogue.patience > 0 && !down.read_paused => {
                            down.last_read + dialogue.patience
                        }
                        _ => u64::MAX,
                    };
                    let over = self.session_deadline(down, up);
                    if over <= silent { (over, Due::Over) } else { (silent, Due::Silent) }
                }
                DownState::Closing { .. } => (u64::MAX, Due::Close),
                DownState::Body { flight, .. } | DownState::Steps { flight, .. }
                    if !down.read_paused =>
                {
                    // A client that is being answered may pause in what it sends.
                    let flight = flight.and_then(|id| self.flights.get(id));
                    let streams = down.stream || flight.is_some_and(|flight| flight.replying);
                    let stream = flight.map_or(stream, |flight| flight.stream);
                    (down.last_read + if streams { stream.max(read) } else { read }, Due::Close)
                }
                DownState::Idle if down.waiting.is_some() => (u64::MAX, Due::Close),
                DownState::Idle if !down.input.is_empty() && !down.parked => {
                    (down.message_since + read, Due::Close)
                }
                DownState::Idle if down.in_flight == 0 && down.lanes.is_empty() => {
                    (down.last_read + idle, Due::Close)
                }
                _ => (u64::MAX, Due::Close),
            };
            let (deadline, what) = match down.state {
                // However it moves meanwhile, no session is older.
                DownState::Session(_) if down.session.until < deadline => {
                    (down.session.until, Due::Over)
                }
                _ => (deadline, what),
            };
            if deadline <= self.now {
                due.push((id, what));
            } else {
                earliest = earliest.min(deadline);
            }
        }
        // What has no deadline now gets one when its state changes; a look now
        // and then finds it, so that no change has to tell.
        let beat = if self.downs.is_empty() { u64::MAX } else { self.now + read.min(idle) };
        self.earliest_conn = earliest.max(self.now + CONN_GRAIN).min(beat);
        for (id, what) in due {
            match what {
                Due::FallBack => {
                    let prefix = self.downs.get(id).map(|down| down.input.clone());
                    if self.fall_back(id, &prefix.unwrap_or_default())
                        && let Some(down) = self.downs.get_mut(id)
                    {
                        down.parked = true;
                        self.wake_down(id);
                    }
                }
                Due::Close => self.close_down(id),
                Due::Silent => self.end_session(id, Fault::Timeout),
                Due::Over => self.end_session(id, Fault::Expired),
            }
        }
    }

    fn expire_ups(&mut self) {
        let write = self.snapshot.timeouts.write.as_millis() as u64;
        let snapshot = self.snapshot.clone();
        let mut earliest = u64::MAX;
        let mut due: Vec<(UpId, UpDue)> = Vec::new();
        for (id, upstream) in self.ups.iter() {
            let Some(cluster) = snapshot.clusters.get(upstream.cluster) else { continue };
            let heartbeat = cluster.heartbeat.as_millis() as u64;
            let idle_since = upstream.last_active;
            let idle = cluster.idle_timeout.as_millis() as u64;
            let pooled = matches!(upstream.mode, UpMode::Shared | UpMode::Idle);
            let (deadline, what) = match upstream.phase {
                UpPhase::Connecting(until) => (until, UpDue::Refused),
                UpPhase::Ready if upstream.blocked => {
                    (upstream.blocked_since + write, UpDue::Close)
                }
                UpPhase::Ready if upstream.probed > 0 => {
                    (upstream.probed + heartbeat, UpDue::Close)
                }
                UpPhase::Ready
                    if pooled && upstream.in_flight == 0 && upstream.mode == UpMode::Idle =>
                {
                    (idle_since + idle, UpDue::Close)
                }
                UpPhase::Ready if pooled && upstream.in_flight == 0 => {
                    let unused = self.profile_unused(upstream.profile);
                    if unused {
                        (idle_since + idle, UpDue::Close)
                    } else {
                        (upstream.last_read.max(idle_since) + heartbeat, UpDue::Probe)
                    }
                }
                UpPhase::Ready => (u64::MAX, UpDue::Close),
            };
            if deadline <= self.now {
                due.push((id, what));
            } else {
                earliest = earliest.min(deadline);
            }
        }
        let beat = if self.ups.is_empty() { u64::MAX } else { self.now + 5_000 };
        self.look_by(earliest.max(self.now + CONN_GRAIN).min(beat));
        self.forget_past();
        for (id, what) in due {
            match what {
                UpDue::Refused => {
                    self.actions.push(super::Action::Close(ConnId::Up(id)));
                    self.connect_failed(id);
                }
                UpDue::Close => self.close_up(id, Fault::UpstreamReset),
                UpDue::Probe => {
                    self.probe(id);
                    // Where the protocol has no probe, look again later.
                    if let Some(upstream) = self.ups.get_mut(id) {
                        upstream.last_active = self.now;
                    }
                }
            }
        }
    }

    /// Whether a connection state other than the empty one is no client's any more.
    fn profile_unused(&self, profile: usize) -> bool {
        profile > 0 && self.profiles.get(profile).is_none_or(|state| state.downs == 0)
    }
}

enum Due {
    Close,
    Silent,
    Over,
    FallBack,
}

enum UpDue {
    Refused,
    Close,
    Probe,
}
