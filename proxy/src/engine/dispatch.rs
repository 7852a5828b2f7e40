//! From a request's head to an upstream connection: order, route, endpoint, connection.

use polyport_codecs::{Body, Exchange, Fault, Head, Hop, Kind, Lease, Side};

use super::choose::{Chosen, Nowhere};
use super::report::{Ending, Joined, Own, Track};
use super::state::{
    ConnId, Dialogue, DownId, DownState, Expected, Flight, FlightId, Lane, UpId, UpMode,
};
use super::{Engine, patience};
use crate::edit::changes;

/// What became of a head.
pub(super) enum Passed {
    /// It is dealt with; its body goes to `to`, or nowhere.
    On { to: Option<UpId>, flight: Option<FlightId> },
    /// It has to wait, with its bytes.
    Parked,
}

/// Requests up to this size are kept while they are first on a reused
/// connection, to be sent again if that turns out dead.
const COPY_LIMIT: usize = 16 << 10;

const NOWHERE: Passed = Passed::On { to: None, flight: None };

impl Engine {
    /// Sends a message on its way. `buf` begins with its head.
    pub(super) fn dispatch(&mut self, id: DownId, head: &Head, buf: &[u8]) -> Passed {
        let message = buf.get(..head.len).unwrap_or_default();
        if let Some(down) = self.downs.get_mut(id) {
            down.spoke = Some(head.reply_to);
            if down.leaving.is_some() {
                self.tell(id);
            }
        }
        self.log_message();
        match head.kind {
            Kind::Request | Kind::Oneway => self.forward(id, head, message, buf),
            Kind::Heartbeat | Kind::Local => {
                self.counters.local += 1;
                let mut reply = self.spares.take();
                let enabled = self.downs.get(id).and_then(|down| down.protocol);
                if let Some(enabled) = enabled.and_then(|at| self.snapshot.protocols.get(at)) {
                    enabled.protocol.answer(head, message, &mut reply);
                }
                let own = Own { status: 0, bytes: reply.len() };
                self.report_here(id, head, message, Ending::Local, own);
                self.owe(id, reply, head.last);
                if head.last {
                    self.stop_reading(id);
                }
                NOWHERE
            }
            // What only servers send is of no use from a client.
            _ => NOWHERE,
        }
    }

    fn forward(&mut self, id: DownId, head: &Head, message: &[u8], buf: &[u8]) -> Passed {
        let snapshot = self.config_of_down(id);
        let Some(down) = self.downs.get_mut(id) else { return NOWHERE };
        let Some(protocol) = down.protocol else { return NOWHERE };
        let Some(enabled) = snapshot.protocols.get(protocol) else { return NOWHERE };
        let exchange = enabled.protocol.exchange();
        let lease = effective_lease(head, exchange);
        // By what it is, not by what connection its cluster gives it.
        let may_wait = may_wait(head, lease, exchange);
        let ordered = matches!(exchange, Exchange::Ordered { .. });
        let on_held = down.held.is_some() && !down.releasing;
        if down.is_over(self.now) {
            down.fate = None;
            self.unwait(id);
            self.turn_away(id, protocol, head, message, Fault::ShuttingDown);
            return NOWHERE;
        }
        if self.pressure.shed && !on_held {
            // What was begun on a held connection is finished: half a transaction is worse.
            self.shed(id, protocol, head, message);
            return NOWHERE;
        }
        if ordered && !down.lanes.is_empty() && (down.alone || lease != Lease::Shared) {
            // Requests on different connections may overtake each other.
            let same = on_held && matches!(lease, Lease::Hold | Lease::Release);
            if !same {
                return Passed::Parked;
            }
        }
        if lease == Lease::Session && (down.in_flight > 0 || !down.lanes.is_empty()) {
            return Passed::Parked;
        }

        if exchange == Exchange::Correlated
            && down.in_flight > 0
            && down.latest_id == head.reply_to.id
            && head.kind == Kind::Request
        {
            // A client that gives all its requests one id tells their replies apart by
            // their order, so one follows the other.
            return Passed::Parked;
        }

        if patience::limit(down, head) <= self.now {
            // Nobody waits for an answer of the upstream's any more.
            down.fate = None;
            self.unwait(id);
            self.turn_away(id, protocol, head, message, Fault::Timeout);
            if on_held {
                // As below: nothing goes on there without it.
                self.stop_reading(id);
            }
            return NOWHERE;
        }
        let held = down.held.filter(|_| on_held);
        let chosen = if let Some(up) = held {
            if let Err(fault) = self.permit_held(id, buf) {
                self.turn_away(id, protocol, head, message, fault);
                // What was begun on the held connection must not be completed without
                // this message: it ends with the client's connection.
                self.stop_reading(id);
                return NOWHERE;
            }
            self.log_unchosen(id, message);
            let edits = (Vec::new(), Vec::new());
            let lease = match lease {
                // Where the codec thinks that nothing is held: it is, until it is given back.
                Lease::Shared | Lease::Once => Lease::Hold,
                lease => lease,
            };
            let (route, arm, timeout, pace) = (usize::MAX, 0, None, 0);
            Chosen { up, lease, route, arm, timeout, edits, told: Vec::new(), pace }
        } else {
            match self.choose(&snapshot, id, head, buf, lease, protocol) {
                Ok(chosen) => chosen,
                Err(Nowhere::Wait) => return Passed::Parked,
                Err(Nowhere::Queue(timeout)) => {
                    self.bound_wait(id, head, timeout);
                    return Passed::Parked;
                }
                Err(Nowhere::Reset) => {
                    self.counters.requests += 1;
                    self.counters.faults += 1;
                    self.report_here(id, head, message, Ending::Reset, Own::default());
                    self.reset_down(id);
                    return NOWHERE;
                }
                Err(Nowhere::Answer(reply, values)) => {
                    self.counters.local += 1;
                    self.answer(id, protocol, head, message, &reply, &values);
                    self.spares.give(values);
                    return NOWHERE;
                }
                Err(Nowhere::Fault(fault)) => {
                    self.turn_away(id, protocol, head, message, fault);
                    return NOWHERE;
                }
            }
        };

        if chosen.up == UpId::nobody() {
            return self.postpone(id, protocol, head, message, chosen);
        }
        let Chosen { up, lease, route, arm, timeout, edits, told, pace } = chosen;
        let Some(upstream) = self.ups.get_mut(up) else { return NOWHERE };
        if upstream.blocked && upstream.out.len() > snapshot.buffers.high {
            upstream.holding_back.push(id);
            self.unlease(up);
            self.spares.give(told);
            self.spares.give(edits.0);
            self.spares.give(edits.1);
            return Passed::Parked;
        }
        if let Err(fault) = self.count_in(up, route == usize::MAX) {
            self.spares.give(edits.0);
            self.spares.give(edits.1);
            self.spares.give(told);
            self.unlease(up);
            if let Some(down) = self.downs.get_mut(id) {
                down.fate = None;
            }
            self.turn_away(id, protocol, head, message, fault);
            return NOWHERE;
        }
        let way = snapshot.forward(route);
        self.counters.requests += 1;
        let line = self.take_line(true);
        if pace > 0 {
            self.set_pace(ConnId::Up(up), pace);
        }
        let (Some(down), Some(upstream)) = (self.downs.get_mut(id), self.ups.get_mut(up)) else {
            return NOWHERE;
        };
        down.fate = None;
        let oneway = head.kind == Kind::Oneway;
        let request = timeout.unwrap_or(snapshot.timeouts.request).as_millis() as u64;
        let request = request.saturating_sub(down.waited).max(1);
        let stream = way.and_then(|way| way.times.stream).unwrap_or(snapshot.timeouts.stream);
        let stream = stream.as_millis() as u64;
        let limit = patience::limit(down, head);
        // The time of a request runs from when all of it is there; until then
        // its body has to move.
        let first = match head.body {
            Body::None => request,
            _ => stream,
        };
        let deadline = if may_wait { u64::MAX } else { self.now.saturating_add(first).min(limit) };
        let reused = upstream.used;
        let plain_body = enabled.protocol.needs_plain_body(head.reply_to);
        let flight = Flight {
            up,
            lane: down.lanes_gone + down.lanes.len() as u64,
            started: self.now,
            began: self.micros,
            deadline,
            total: deadline,
            timeout: request,
            stream,
            limit,
            lease,
            pace,
            edits: edits.1,
            generation: down.generation,
            route,
            arm,
            listener: down.listener,
            track: Track {
                request: head.len as u64,
                at: Some((upstream.cluster, upstream.endpoint)),
                ..down.track
            },
            told,
            line,
            ..Flight::begun(head, id, protocol, plain_body)
        };
        let flight = self.flights.insert(flight, head.noted(message));
        self.earliest_flight = self.earliest_flight.min(deadline);
        down.in_flight += 1;
        if upstream.in_flight == 0 {
            upstream.unwritten = upstream.out.is_empty();
        }
        upstream.in_flight += 1;
        upstream.last_active = self.now;

        let hop = Hop {
            side: Side::Request,
            id: (exchange == Exchange::Correlated && !upstream.ordered)
                .then(|| flight.to_wire(enabled.protocol.id_bits())),
            source: Some(down.peer.source.ip()),
            secure: down.peer.tls.is_some(),
            request: head.reply_to,
            close: false,
            plain_body: false,
            timeout: patience::told(head, limit, self.now, request),
        };
        let out = upstream.out.tail(&mut self.spares);
        let start = out.len();
        let keeps = way.is_some_and(|way| way.retry.is_some() || way.mirror.is_some());
        let asked = way.and_then(|way| way.edits.as_ref());
        let asked = asked.map_or(&[][..], |edits| &edits.request);
        let changed = if asked.is_empty() {
            enabled.protocol.relay(head, message, &hop, out);
            Ok(())
        } else {
            changes(asked, &edits.0, |changes| {
                enabled.protocol.rewrite(head, message, &hop, changes, out)
            })
        };
        if let Err(error) = changed {
            self.spares.give(edits.0);
            tracing::debug!(%error, "a request cannot be changed as its route asks");
            out.truncate(start);
            let line = self.forget_flight(flight).and_then(|flight| flight.line);
            self.log_again(line);
            self.counters.faults += 1;
            self.unlease(up);
            let fault = if head.body == Body::None { Fault::Unsupported } else { Fault::TooLarge };
            self.refuse(id, protocol, head, message, fault);
            return NOWHERE;
        }
        let written = out.get(start..).unwrap_or_default();
        if lease == Lease::Profile {
            let mut copy = self.spares.take();
            copy.extend_from_slice(message);
            if let Some(flight) = self.flights.get_mut(flight) {
                flight.copy = copy;
            }
        } else if reused
            && lease == Lease::Once
            && head.idempotent
            && head.body == Body::None
            && written.len() <= COPY_LIMIT
        {
            let mut copy = self.spares.take();
            copy.extend_from_slice(written);
            if let Some(flight) = self.flights.get_mut(flight) {
                flight.copy = copy;
            }
        }
        if upstream.tell_decoder
            && let Some(decoder) = &mut upstream.decoder
        {
            decoder.expect(head.reply_to);
        }
        if keeps {
            self.keep(flight, head, message, edits.0);
        } else {
            self.spares.give(edits.0);
        }
        let (Some(upstream), Some(down)) = (self.ups.get_mut(up), self.downs.get_mut(id)) else {
            return NOWHERE;
        };
        match lease {
            Lease::Session => {
                upstream.mode = UpMode::Session(id);
                upstream.draining = true;
                down.state = DownState::Session(up);
                down.held = None;
                if exchange == Exchange::Session {
                    down.dialogue = Some(Box::new(dialogue(head)));
                }
            }
            Lease::Shared => down.alone = false,
            Lease::Hold => {
                down.held = Some(up);
                down.alone = true;
            }
            Lease::Release => {
                down.releasing = true;
                down.alone = true;
            }
            Lease::Once | Lease::Profile => down.alone = true,
        }
        if lease == Lease::Session {
            if head.patience > 0 {
                self.look_by(self.now + u64::from(head.patience));
            }
            self.pace_session(id, up, pace);
            // From here on nobody pairs replies with requests: this one has ended well.
            self.count_session(up);
            self.mark_up(up);
            // A dialogue's server still has to say so.
            let opened = exchange != Exchange::Session;
            self.counters.answered += u64::from(opened);
            if let Some(mut flight) = self.forget_flight(flight) {
                let told = std::mem::take(&mut flight.told);
                self.joined(id, up, Joined::by(flight.track, told, flight.line.take()));
            }
            if opened {
                self.report_opening(id, Ending::Opened);
                self.sew(id, protocol, head.reply_to);
            }
            self.begin_session(id, patience::times_of(&snapshot, route));
            // It cannot go to another process any more, if it was to.
            self.begin_to_leave(id);
            self.tell(id);
            return Passed::On { to: Some(up), flight: None };
        }
        if upstream.ordered && !oneway {
            upstream.expected.push_back(Expected::Flight(flight));
        }
        if !oneway {
            down.latest_id = head.reply_to.id;
        }
        if ordered && !oneway {
            down.lanes.push_back(Lane { flight: Some(flight), bytes: Vec::new(), last: false });
        }
        self.mark_up(up);
        Passed::On { to: Some(up), flight: Some(flight) }
    }
}

/// The state of a session whose messages are looked at, after the one that opens it.
fn dialogue(head: &Head) -> Dialogue {
    Dialogue {
        opened: head.reply_to,
        left: if let Body::Length(left) = head.body { left } else { 0 },
        steps: head.body == Body::Steps,
        dropping: false,
        pace: 0,
        patience: u64::from(head.patience),
        waiting: Vec::new(),
        begun: false,
        over: false,
    }
}

/// Whether a message may take as long as it likes: a session, or a command that blocks.
pub(crate) fn may_wait(head: &Head, lease: Lease, exchange: Exchange) -> bool {
    let shared = matches!(exchange, Exchange::Ordered { shared: true });
    lease == Lease::Session || lease == Lease::Once && shared && head.body == Body::None
}

/// What a message asks of its connection, once its exchange and size have had
/// their say: large messages travel alone, so that no small one waits behind their bytes.
pub(crate) fn effective_lease(head: &Head, exchange: Exchange) -> Lease {
    match (exchange, head.lease) {
        (Exchange::Session, _) => Lease::Session,
        (Exchange::Ordered { shared: false }, Lease::Shared) => Lease::Once,
        (_, Lease::Shared) if head.body != Body::None => Lease::Once,
        (_, lease) => lease,
    }
}
