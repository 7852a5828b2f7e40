//! From a downstream's bytes to heads and bodies.

use std::rc::Rc;
use std::time::Duration;

use polyport_codecs::{Body, DecodeError, Detection, ErrorKind, Fault, Head, Probe, Step, detect};

use super::dispatch::Passed;
use super::peer::facts_of;
use super::pool::Party;
use super::report::{Ending, Own, Track};
use super::state::{ConnId, DownId, DownState, Downstream, FlightId, UpId, UpState};
use super::{Action, Engine, Net, Peer};
use crate::snapshot::Fallback;

/// How long a connection that we shut is kept for its peer to read our last words.
const LINGER: Duration = Duration::from_secs(1);

impl Engine {
    /// A listener accepted a connection. `None` where there are too many: close it.
    pub fn accept(&mut self, listener: usize, peer: Rc<Peer>) -> Option<ConnId> {
        let id = self.admit(listener, peer, false)?;
        let snapshot = self.snapshot.clone();
        let settings = snapshot.listeners.get(listener)?;
        if let Some(only) = settings.only()
            && !snapshot.protocols.get(only)?.may_stream()
        {
            self.speak(id, only);
        }
        Some(ConnId::Down(id))
    }

    /// A stream was opened on a connection that carries many of `protocol`.
    pub fn accept_stream(
        &mut self,
        listener: usize,
        peer: Rc<Peer>,
        protocol: usize,
    ) -> Option<ConnId> {
        let id = self.admit(listener, peer, true)?;
        self.speak(id, protocol);
        Some(ConnId::Down(id))
    }

    /// A connection that is known to speak `protocol`.
    pub(super) fn accept_as(
        &mut self,
        listener: usize,
        peer: Rc<Peer>,
        protocol: usize,
    ) -> Option<ConnId> {
        let id = self.admit(listener, peer, false)?;
        self.speak(id, protocol);
        Some(ConnId::Down(id))
    }

    fn admit(&mut self, listener: usize, peer: Rc<Peer>, stream: bool) -> Option<DownId> {
        let snapshot = self.snapshot.clone();
        let settings = snapshot.listeners.get(listener)?;
        let closed = self.is_closed(listener) && self.heir.is_none();
        if (closed && !stream) || self.downs.len() >= snapshot.buffers.connections {
            return None;
        }
        self.counters.accepted += 1;
        let metadata = facts_of(&snapshot, listener, &peer);
        let id = self.downs.insert(Box::new(Downstream {
            listener,
            generation: self.generation,
            peer,
            protocol: None,
            decoder: None,
            metadata: Some(Box::new(metadata)),
            state: DownState::Detecting,
            input: Vec::new(),
            need: 0,
            parked_head: None,
            waiting: None,
            waited: 0,
            arrived: self.now,
            session: Default::default(),
            track: Track::since(self.micros),
            joined: None,
            fate: None,
            let_in: None,
            pace: Default::default(),
            parked: false,
            resuming: false,
            read_paused: false,
            eof: false,
            out: Default::default(),
            blocked: false,
            dirty: false,
            lanes: Default::default(),
            lanes_gone: 0,
            in_flight: 0,
            alone: false,
            releasing: false,
            held: None,
            latest_id: 0,
            spoke: None,
            leaving: None,
            dialogue: None,
            seam: None,
            opaque: false,
            port: None,
            stream,
            profile: 0,
            holding_back: Vec::new(),
            holds_shared: false,
            opened: self.now,
            last_read: self.now,
            message_since: self.now,
            blocked_since: 0,
        }));
        self.measure_arrival(id);
        self.look_by(self.now + settings.detect_timeout.as_millis() as u64);
        self.look_by(self.now + snapshot.timeouts.idle.as_millis() as u64);
        self.follows(id);
        self.begin_to_leave(id);
        Some(id)
    }

    /// The connection speaks this protocol from here on.
    fn speak(&mut self, id: DownId, protocol: usize) {
        let snapshot = self.snapshot.clone();
        let (Some(down), Some(enabled)) =
            (self.downs.get_mut(id), snapshot.protocols.get(protocol))
        else {
            return;
        };
        if let (Some(slot), Some(metadata)) = (snapshot.facts.protocol, &mut down.metadata) {
            metadata.keep(slot, enabled.protocol.name().as_bytes());
        }
        self.measure_speech(id, Some(protocol));
        let Some(down) = self.downs.get_mut(id) else { return };
        down.protocol = Some(protocol);
        down.track.dialect = if down.stream { enabled.protocol.stream_dialect() } else { 0 };
        down.decoder = Some(enabled.request_decoder(down.stream));
        down.state = DownState::Idle;
    }

    pub(super) fn received_down(&mut self, id: DownId, bytes: &[u8], net: &mut dyn Net) {
        let Some(down) = self.downs.get_mut(id) else { return };
        down.measure_received(bytes.len());
        down.last_read = self.now;
        if down.pace.is_on() {
            self.charge(ConnId::Down(id), bytes.len());
        }
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.input.is_empty() {
            down.message_since = self.now;
            let taken = self.run_down(id, bytes, net);
            let left = bytes.get(taken..).unwrap_or_default();
            if !left.is_empty()
                && let Some(down) = self.downs.get_mut(id)
            {
                down.input = self.spares.take();
                down.input.extend_from_slice(left);
                self.look_by(self.now + self.snapshot.timeouts.read.as_millis() as u64);
            }
        } else {
            down.input.extend_from_slice(bytes);
            self.run_input(id, net);
        }
    }

    /// Looks again at the bytes that were kept.
    pub(super) fn run_input(&mut self, id: DownId, net: &mut dyn Net) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let mut input = std::mem::take(&mut down.input);
        let taken = self.run_down(id, &input, net);
        match self.downs.get_mut(id) {
            Some(down) if taken < input.len() => {
                if taken > 0 {
                    input.drain(..taken);
                    down.message_since = self.now;
                }
                down.input = input;
            }
            _ => self.spares.give(input),
        }
        if let Some(down) = self.downs.get(id) {
            if down.eof && !down.parked {
                self.ended_down(id);
            } else if !down.parked {
                self.actions.push(Action::Read(ConnId::Down(id)));
            }
        }
    }

    /// Consumes what it can of `buf`; how much that was.
    fn run_down(&mut self, id: DownId, buf: &[u8], net: &mut dyn Net) -> usize {
        let mut at = 0;
        loop {
            let Some(down) = self.downs.get_mut(id) else { return buf.len() };
            let rest = buf.get(at..).unwrap_or_default();
            match down.state {
                DownState::Closing { .. } => return buf.len(),
                DownState::Session(up) if down.dialogue.is_some() => {
                    match self.converse(id, up, rest, net) {
                        Some(taken) => {
                            at += taken;
                            self.count_said(id, taken);
                        }
                        None => return at,
                    }
                }
                DownState::Session(up) => {
                    if !rest.is_empty() {
                        self.count_said(id, rest.len());
                        self.pass_up(id, up, rest, net);
                    }
                    return buf.len();
                }
                DownState::Detecting => {
                    if down.generation != self.generation {
                        self.refresh(id);
                        continue;
                    }
                    if rest.is_empty()
                        || rest.len() < down.need
                        || self.holds_back(id, rest.len())
                        || !self.detect(id, rest)
                    {
                        return at;
                    }
                }
                DownState::Body { left, to, flight } => {
                    if rest.is_empty() {
                        return at;
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - count as u64;
                    at += count;
                    down.state = if left > 0 {
                        DownState::Body { left, to, flight }
                    } else {
                        DownState::Idle
                    };
                    self.pass_body(id, to, flight, rest.get(..count).unwrap_or_default(), net);
                    if left == 0 {
                        self.sent(flight);
                        self.unpace(id);
                    }
                }
                DownState::Steps { to, flight } => match self.step(id, rest) {
                    None => return at,
                    Some(Step::Body(count) | Step::Framing(count)) => {
                        at += count;
                        self.pass_body(id, to, flight, rest.get(..count).unwrap_or_default(), net);
                    }
                    Some(_) => {
                        if let Some(down) = self.downs.get_mut(id) {
                            down.state = DownState::Idle;
                        }
                        self.sent(flight);
                        self.unpace(id);
                    }
                },
                DownState::Idle => {
                    if self.holds_back(id, rest.len()) {
                        return at;
                    }
                    let Some(down) = self.downs.get(id) else { return at };
                    if down.generation != self.generation && down.parked_head.is_none() {
                        self.refresh(id);
                        continue;
                    }
                    let leaves = down.is_over(self.now);
                    if rest.is_empty() {
                        if leaves {
                            self.stop_reading(id);
                        }
                        return at;
                    }
                    if !leaves && !self.may_begin(id) {
                        return at;
                    }
                    let head = match self.downs.get_mut(id).and_then(|down| down.parked_head.take())
                    {
                        Some(head) => head,
                        None => match self.step(id, rest) {
                            Some(Step::Head(head)) => head,
                            _ => {
                                if leaves {
                                    self.stop_reading(id);
                                }
                                return at;
                            }
                        },
                    };
                    match self.dispatch(id, &head, rest) {
                        Passed::On { to, flight } => {
                            at += head.len;
                            self.begin_body(id, &head, to, flight);
                        }
                        Passed::Parked => {
                            if let Some(down) = self.downs.get_mut(id) {
                                down.parked_head = Some(head);
                                down.parked = true;
                            }
                            return at;
                        }
                    }
                }
            }
        }
    }

    fn begin_body(&mut self, id: DownId, head: &Head, to: Option<UpId>, flight: Option<FlightId>) {
        let Some(down) = self.downs.get_mut(id) else { return };
        if !matches!(down.state, DownState::Idle) {
            return;
        }
        match head.body {
            Body::None => return self.sent(flight),
            Body::Length(left) => down.state = DownState::Body { left, to, flight },
            Body::Steps => down.state = DownState::Steps { to, flight },
        }
        if let Some(flight) = flight {
            self.pace_body(id, flight);
        }
    }

    /// Runs the decoder; `None` where it needs more, or refused (which is dealt with here).
    pub(super) fn step(&mut self, id: DownId, buf: &[u8]) -> Option<Step> {
        let down = self.downs.get_mut(id)?;
        if buf.len() < down.need {
            return None;
        }
        let (decoder, metadata) = (down.decoder.as_mut()?, down.metadata.as_mut()?);
        match decoder.decode(buf, metadata) {
            Ok(Step::Need(need)) => {
                down.need = need;
                None
            }
            Ok(step) => {
                down.need = 0;
                (down.arrived, down.waited) = (self.now, 0);
                let dialect = match &step {
                    Step::Head(head) => head.dialect,
                    _ => down.track.dialect,
                };
                down.track = Track { dialect, ..Track::since(self.micros) };
                Some(step)
            }
            Err(error) => {
                self.reject(id, &error);
                None
            }
        }
    }

    /// Whether another message may begin; where not, the connection is parked.
    fn may_begin(&mut self, id: DownId) -> bool {
        let buffers = self.snapshot.buffers;
        let Some(down) = self.downs.get_mut(id) else { return false };
        down.parked =
            (down.blocked && down.out.len() > buffers.high) || down.in_flight >= buffers.in_flight;
        !down.parked
    }

    /// Whether the protocol is known now.
    fn detect(&mut self, id: DownId, prefix: &[u8]) -> bool {
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return false };
        let Some(listener) = snapshot.listeners.get(down.listener) else { return false };
        if let Some(only) = listener.only() {
            return self.recognised(id, only, prefix);
        }
        match detect(&listener.detectable, prefix) {
            Detection::Need(need) if need <= snapshot.limits.head => {
                down.need = need;
                false
            }
            Detection::Matched(protocol) => {
                down.need = 0;
                let found = snapshot
                    .protocols
                    .iter()
                    .position(|enabled| enabled.protocol.name() == protocol.name());
                found.is_some_and(|found| self.recognised(id, found, prefix))
            }
            Detection::Need(_) | Detection::Unmatched => self.fall_back(id, prefix),
        }
    }

    /// The protocol is known; whether its messages can be looked at now.
    fn recognised(&mut self, id: DownId, protocol: usize, prefix: &[u8]) -> bool {
        let snapshot = self.snapshot.clone();
        let Some(enabled) = snapshot.protocols.get(protocol) else { return false };
        match enabled.protocol.streams(prefix) {
            Probe::Yes { .. } => {
                self.hand_over(id, protocol, prefix);
                false
            }
            Probe::Maybe { need } => {
                if let Some(down) = self.downs.get_mut(id) {
                    down.need = need;
                }
                false
            }
            Probe::No => {
                self.speak(id, protocol);
                true
            }
        }
    }

    /// Does what the listener says of a connection that nothing recognises.
    pub(super) fn fall_back(&mut self, id: DownId, prefix: &[u8]) -> bool {
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return false };
        let Some(listener) = snapshot.listeners.get(down.listener) else { return false };
        down.need = 0;
        match listener.fallback {
            Fallback::Close => {
                // A protocol's mark is in its first bytes; more of them could be a password.
                tracing::info!(source = %down.peer.source, listener = %listener.name,
                    first = %prefix.get(..prefix.len().min(4)).unwrap_or_default().escape_ascii(),
                    "closed: no enabled protocol begins like this");
                self.counters.malformed += 1;
                self.close_down(id);
                false
            }
            Fallback::Protocol(protocol) => {
                self.speak(id, protocol);
                true
            }
            Fallback::Tcp => self.join_opaque(id),
        }
    }

    /// Answers bytes that the decoder refused, and ends the connection.
    fn reject(&mut self, id: DownId, error: &DecodeError) {
        self.counters.malformed += 1;
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return };
        tracing::debug!(source = %down.peer.source, %error, "refused");
        let fault =
            if error.kind == ErrorKind::TooLarge { Fault::TooLarge } else { Fault::Malformed };
        let body_of = match down.state {
            DownState::Body { flight, .. } | DownState::Steps { flight, .. } => flight,
            _ => None,
        };
        if let Some(flight) = body_of {
            // The request is already on its way and cannot be completed: it ends here.
            self.abort(id, flight, fault);
            return;
        }
        let session = matches!(down.state, DownState::Session(_));
        if let DownState::Session(up) = down.state {
            // Half a message of the server's may be out already: then nothing can be said.
            let silent = self.ups.get(up).is_some_and(|upstream| {
                !matches!(upstream.state, UpState::Idle) || !upstream.input.is_empty()
            });
            if let Some(down) = self.downs.get_mut(id) {
                if let Some(joined) = &mut down.joined {
                    joined.fault = Some(fault);
                }
                down.state = DownState::Idle;
                let dialogue = down.dialogue.take();
                self.counters.abandoned += u64::from(dialogue.is_some_and(|had| !had.begun));
            }
            self.close_up(up, Fault::UpstreamReset);
            if silent {
                self.stop_reading(id);
                return;
            }
        }
        let mut reply = self.spares.take();
        let Some(down) = self.downs.get_mut(id) else { return };
        if let Some(enabled) = down.protocol.and_then(|index| snapshot.protocols.get(index)) {
            enabled.protocol.reject(error, &mut reply);
            if !session {
                self.counters.requests += 1;
                self.counters.faults += 1;
                let status = enabled.protocol.reject_status(error);
                self.report_garbled(id, fault, Own { status, bytes: reply.len() });
            }
        }
        self.owe(id, reply, true);
        self.stop_reading(id);
    }

    /// No further message of this connection is looked at; it ends when what is
    /// owed is written.
    pub(super) fn stop_reading(&mut self, id: DownId) {
        self.unwait(id);
        let Some(down) = self.downs.get_mut(id) else { return };
        if !matches!(down.state, DownState::Closing { .. }) {
            down.state = DownState::Closing { shut: false };
            down.parked = false;
            down.parked_head = None;
            self.spares.give(std::mem::take(&mut down.input));
            self.actions.push(Action::Read(ConnId::Down(id)));
        }
        self.close_if_done(id);
    }

    /// Ends a connection that owes nothing more: shuts our end and waits a
    /// moment for the peer's.
    pub(super) fn close_if_done(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let DownState::Closing { shut } = down.state else { return };
        if !down.lanes.is_empty() || down.in_flight > 0 || !down.out.is_empty() {
            return;
        }
        if down.eof {
            self.close_down(id);
        } else if !shut {
            down.state = DownState::Closing { shut: true };
            down.blocked_since = self.now;
            self.actions.push(Action::Shut(ConnId::Down(id)));
            self.look_by(self.now + LINGER.as_millis() as u64);
        }
    }

    /// The deadline of a connection that lingers.
    pub(super) fn linger_deadline(down: &Downstream) -> u64 {
        down.blocked_since + LINGER.as_millis() as u64
    }

    /// The client will send no more: what it asked is still answered.
    pub(super) fn ended_down(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        down.eof = true;
        match down.state {
            DownState::Session(up) => {
                if let Some(upstream) = self.ups.get_mut(up) {
                    upstream.shut = true;
                    self.mark_up(up);
                } else {
                    self.close_down(id);
                }
            }
            DownState::Body { flight, .. } | DownState::Steps { flight, .. } => match flight {
                Some(flight) => self.abort(id, flight, Fault::Malformed),
                None => self.close_down(id),
            },
            DownState::Detecting => self.close_down(id),
            // A client that leaves while it waits for something to happen (a blocking
            // command) would take what happens with it into nowhere.
            _ if down
                .lanes
                .back()
                .and_then(|lane| lane.flight)
                .and_then(|flight| self.flights.get(flight))
                .is_some_and(|flight| flight.deadline == u64::MAX) =>
            {
                self.close_down(id);
            }
            DownState::Idle if down.parked => {}
            DownState::Idle | DownState::Closing { .. } => {
                self.stop_reading(id);
            }
        }
    }

    /// A request whose body cannot be completed: whoever got half of it is cut off.
    fn abort(&mut self, id: DownId, flight: FlightId, fault: Fault) {
        if let Some(down) = self.downs.get_mut(id) {
            down.state = DownState::Closing { shut: false };
        }
        if let Some(up) = self.flights.get(flight).map(|flight| flight.up) {
            self.fail(flight, fault);
            self.close_up(up, Fault::UpstreamReset);
        }
        if let Some(down) = self.downs.get_mut(id) {
            down.state = DownState::Idle;
        }
        self.stop_reading(id);
    }

    /// Forgets a downstream at once. Its requests in flight end as abandoned:
    /// shared upstreams go on, those that served it alone are closed.
    pub(super) fn close_down(&mut self, id: DownId) {
        self.unwait(id);
        let Some(mut down) = self.downs.remove(id) else { return };
        self.measure_departure(&down);
        self.actions.push(Action::Close(ConnId::Down(id)));
        self.drop_profile(down.profile, Party::Downstream);
        let waiting = down.out.len();
        down.out.consume(waiting, &mut self.spares);
        for up in down.holding_back.drain(..) {
            self.let_up(up);
        }
        if let DownState::Session(up) = down.state {
            self.counters.abandoned +=
                u64::from(down.dialogue.take().is_some_and(|had| !had.begun));
            if let Some(joined) = down.joined.take() {
                let facts = (down.listener, down.protocol);
                self.report_left(facts, joined, Ending::Abandoned);
            }
            self.close_up(up, Fault::UpstreamReset);
        }
        if let Some(up) = down.held {
            self.close_up(up, Fault::UpstreamReset);
        }
        if down.in_flight > 0 {
            self.abandon_flights(id, &mut down);
        }
        for lane in down.lanes.drain(..) {
            self.spares.give(lane.bytes);
        }
        self.spares.give(down.input);
    }
}
