//! From an upstream's bytes to replies, and what becomes of a connection that ends.

use polyport_codecs::{Body, Exchange, Fault, Head, Hop, Kind, Lease, Outcome, Side, Step};

use super::finish::{lane_at, lane_buffer};
use super::observe::Seen;
use super::patience::times_of;
use super::pool::Party;
use super::report::{Ending, Joined, Own};
use super::state::{ConnId, DownState, Expected, FlightId, Lane, UpId, UpMode, UpPhase, UpState};
use super::{Action, Engine, Net};
use crate::edit::changes;
use crate::policy::retry::Ended;

/// The correlation id of our own probes: no flight has it, as its place would be the last of all.
const PROBE_ID: u64 = u64::MAX;

impl Engine {
    pub(super) fn received_up(&mut self, id: UpId, bytes: &[u8], net: &mut dyn Net) {
        let Some(upstream) = self.ups.get_mut(id) else { return };
        upstream.last_read = self.now;
        upstream.last_active = self.now;
        if upstream.pace.is_on() {
            self.charge(ConnId::Up(id), bytes.len());
        }
        let Some(upstream) = self.ups.get_mut(id) else { return };
        if upstream.input.is_empty() {
            let taken = self.run_up(id, bytes, net);
            let left = bytes.get(taken..).unwrap_or_default();
            if !left.is_empty()
                && let Some(upstream) = self.ups.get_mut(id)
            {
                upstream.input = self.spares.take();
                upstream.input.extend_from_slice(left);
            }
        } else {
            upstream.input.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut upstream.input);
            let taken = self.run_up(id, &input, net);
            match self.ups.get_mut(id) {
                Some(upstream) if taken < input.len() => {
                    input.drain(..taken);
                    upstream.input = input;
                }
                _ => self.spares.give(input),
            }
        }
    }

    fn run_up(&mut self, id: UpId, buf: &[u8], net: &mut dyn Net) -> usize {
        let mut at = 0;
        loop {
            let Some(upstream) = self.ups.get_mut(id) else { return buf.len() };
            let rest = buf.get(at..).unwrap_or_default();
            if let UpMode::Session(down) = upstream.mode
                && upstream.preamble_left == 0
            {
                if self.downs.get(down).is_some_and(|down| down.dialogue.is_some()) {
                    match self.converse_up(id, down, rest, net) {
                        Some(taken) => at += taken,
                        None => return at,
                    }
                    continue;
                }
                if !rest.is_empty() {
                    self.pass_joined(down, id, rest, net);
                }
                return buf.len();
            }
            match upstream.state {
                UpState::Body { left, to } => {
                    if rest.is_empty() {
                        return at;
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - count as u64;
                    at += count;
                    upstream.state =
                        if left > 0 { UpState::Body { left, to } } else { UpState::Idle };
                    self.pass_reply(id, to, rest.get(..count).unwrap_or_default(), net);
                    if left == 0
                        && let Some(to) = to
                    {
                        self.finish(to);
                    }
                }
                UpState::Steps { to } => match self.step_up(id, rest) {
                    None => return at,
                    Some(Step::Body(count)) => {
                        at += count;
                        self.pass_reply(id, to, rest.get(..count).unwrap_or_default(), net);
                    }
                    Some(Step::Framing(count)) => {
                        at += count;
                        let plain = to
                            .and_then(|to| self.flights.get(to))
                            .is_some_and(|flight| flight.plain_body);
                        if !plain {
                            self.pass_reply(id, to, rest.get(..count).unwrap_or_default(), net);
                        }
                    }
                    Some(_) => {
                        if let Some(upstream) = self.ups.get_mut(id) {
                            upstream.state = UpState::Idle;
                        }
                        if let Some(to) = to {
                            self.finish(to);
                        }
                    }
                },
                UpState::Idle => {
                    if rest.is_empty() {
                        return at;
                    }
                    let Some(Step::Head(head)) = self.step_up(id, rest) else { return at };
                    at += head.len;
                    let message = rest.get(..head.len).unwrap_or_default();
                    let to = self.reply(id, &head, message);
                    if let Some(upstream) = self.ups.get_mut(id) {
                        match head.body {
                            Body::None => {
                                if let Some(to) = to {
                                    self.finish(to);
                                }
                            }
                            Body::Length(left) => upstream.state = UpState::Body { left, to },
                            Body::Steps => upstream.state = UpState::Steps { to },
                        }
                    }
                }
            }
        }
    }

    /// Runs the decoder; `None` where it needs more, or refused (the connection is then gone).
    pub(super) fn step_up(&mut self, id: UpId, buf: &[u8]) -> Option<Step> {
        let upstream = self.ups.get_mut(id)?;
        if buf.len() < upstream.need {
            return None;
        }
        match upstream.decoder.as_mut()?.decode(buf, &mut self.no_metadata) {
            Ok(Step::Need(need)) => {
                upstream.need = need;
                None
            }
            Ok(step) => {
                upstream.need = 0;
                Some(step)
            }
            Err(error) => {
                self.counters.malformed += 1;
                if upstream.in_flight > 0 {
                    let cluster = self.snapshot.clusters.get(upstream.cluster);
                    let endpoint = cluster
                        .and_then(|cluster| cluster.endpoints.get(upstream.endpoint))
                        .map(|endpoint| endpoint.address);
                    let cluster = cluster.map_or("", |cluster| cluster.name.as_str());
                    tracing::warn!(cluster, ?endpoint, %error, "closed an upstream: its reply cannot be read");
                }
                self.close_up(id, Fault::Malformed);
                None
            }
        }
    }

    /// Deals with the head of what an upstream sends; the request that its body belongs to.
    fn reply(&mut self, id: UpId, head: &Head, message: &[u8]) -> Option<FlightId> {
        let snapshot = self.snapshot.clone();
        let upstream = self.ups.get_mut(id)?;
        let protocol = upstream.protocol?;
        let enabled = snapshot.protocols.get(protocol)?;
        let exchange = enabled.protocol.exchange();
        upstream.probed = 0;
        match head.kind {
            Kind::Response | Kind::Interim => {}
            Kind::Heartbeat => {
                let out = upstream.out.tail(&mut self.spares);
                enabled.protocol.answer(head, message, out);
                self.mark_up(id);
                return None;
            }
            Kind::GoAway => {
                self.drain_up(id);
                return None;
            }
            // Pushes to a shared connection are for nobody; probes' replies are ours.
            _ => return None,
        }
        if upstream.preamble_left > 0 && head.kind == Kind::Response {
            upstream.preamble_left -= 1;
            if head.outcome != Outcome::Ok {
                tracing::warn!(
                    protocol = enabled.protocol.name(),
                    "an upstream refuses the state that a client had built up"
                );
                self.close_up(id, Fault::Denied);
            }
            return None;
        }
        let to = if exchange == Exchange::Correlated && !upstream.ordered {
            let bits = enabled.protocol.id_bits();
            let found = self.flights.from_wire(head.reply_to.id, bits);
            match found {
                Some(found) if self.flights.get(found).is_some_and(|flight| flight.up == id) => {
                    found
                }
                _ => {
                    if head.reply_to.id != PROBE_ID {
                        self.counters.late += 1;
                        if !upstream.strayed {
                            upstream.strayed = true;
                            let cluster = snapshot.clusters.get(upstream.cluster);
                            tracing::warn!(
                                cluster = cluster.map_or("", |cluster| cluster.name.as_str()),
                                "a reply to no request in flight: it came too late, or its \
                                 server does not repeat ids and needs exchange = \"ordered\""
                            );
                        }
                    }
                    return None;
                }
            }
        } else {
            let next = if head.kind == Kind::Interim {
                upstream.expected.front().copied()
            } else {
                upstream.expected.pop_front()
            };
            match next {
                Some(Expected::Flight(flight)) => flight,
                Some(Expected::Probe) => return None,
                None => {
                    self.counters.malformed += 1;
                    tracing::debug!("closed an upstream: a reply that nobody asked for");
                    self.close_up(id, Fault::Malformed);
                    return None;
                }
            }
        };
        // One that was tried again elsewhere wants its reply from there.
        let Some(flight) = self.flights.get_mut(to).filter(|flight| flight.up == id) else {
            self.counters.late += 1;
            return None;
        };
        let interim = head.kind == Kind::Interim;
        if !interim && flight.kept.is_some() {
            let ended = Ended::Reply(head.outcome, head.status);
            if (head.outcome != Outcome::Ok || head.status != 0) && self.reply_again(id, to, ended)
            {
                return None;
            }
        }
        let flight = self.flights.get_mut(to)?;
        let mut replying_whole = false;
        if !interim {
            flight.outcome = Some(head.outcome);
            flight.track.status = head.status;
            flight.upstream_last |= head.last;
            flight.last |= flight.plain_body && head.body == Body::Steps;
            // A body that ends with the connection ends the downstream's too.
            replying_whole = head.body == Body::None;
            flight.replying |= !replying_whole;
            if flight.per_try > 0 {
                flight.deadline = flight.total;
            }
            if head.body == Body::Steps {
                // What comes bit by bit may pause.
                let patience = flight.stream;
                flight.timeout = flight.timeout.max(patience);
                flight.deadline =
                    flight.deadline.max(self.now.saturating_add(patience)).min(flight.limit);
            }
        }
        let session = head.lease == Lease::Session;
        let leaves = !interim
            && !session
            && self.downs.get(flight.down).is_some_and(|down| down.ends_with_reply());
        flight.last |= leaves;
        let hop = Hop {
            side: Side::Reply,
            id: (exchange == Exchange::Correlated).then_some(flight.reply_to.id),
            source: None,
            secure: false,
            request: flight.reply_to,
            close: !session && flight.last,
            plain_body: flight.plain_body,
            timeout: None,
        };
        flight.track.reply += message.len() as u64;
        let (down_id, lane, route) = (flight.down, flight.lane, flight.route);
        let generation = flight.generation;
        // An interim reply leaves them for the final one.
        let rendered = if interim { Vec::new() } else { std::mem::take(&mut flight.edits) };
        let config = self.config_of(generation);
        if let Some(down) = self.downs.get_mut(down_id) {
            if !replying_whole && !interim && exchange == Exchange::Correlated {
                // It holds the wire until it is over.
                if lane_at(down, lane, to).is_none() {
                    down.lanes.push_back(Lane { flight: Some(to), bytes: Vec::new(), last: false });
                }
            }
            let (buffer, on_wire) = lane_buffer(down, lane, to, &mut self.spares);
            let forward = config.forward(route).filter(|_| !interim);
            let edits = forward.and_then(|forward| forward.edits.as_ref());
            let edits = edits.map_or(&[][..], |edits| &edits.response);
            let start = buffer.len();
            let changed = if edits.is_empty() {
                enabled.protocol.relay(head, message, &hop, buffer);
                Ok(())
            } else {
                changes(edits, &rendered, |changes| {
                    enabled.protocol.rewrite(head, message, &hop, changes, buffer)
                })
            };
            if changed.is_err() {
                buffer.truncate(start);
            }
            if on_wire {
                self.mark_down(down_id);
            }
            if let Err(error) = changed {
                tracing::debug!(%error, "a reply cannot be changed as its route asks");
                self.spares.give(rendered);
                if let Some(flight) = self.flights.get_mut(to) {
                    flight.replying = false;
                }
                // It is not the request that is to blame.
                self.fail(to, Fault::Malformed);
                return None;
            }
            self.bound_whole(down_id, id);
        }
        self.spares.give(rendered);
        if interim {
            return None;
        }
        if session {
            self.become_session(id, to);
            return None;
        }
        Some(to)
    }

    /// The reply turns its exchange into a session (HTTP 101, CONNECT).
    fn become_session(&mut self, up: UpId, flight: FlightId) {
        let Some(mut flight) = self.forget_flight(flight) else { return };
        let times = times_of(&self.config_of(flight.generation), flight.route);
        self.begin_session(flight.down, times);
        if flight.mirror {
            // Nobody is there to join.
        } else if self.downs.get(flight.down).is_some() {
            self.counters.answered += 1;
            let told = std::mem::take(&mut flight.told);
            self.joined(flight.down, up, Joined::by(flight.track, told, flight.line.take()));
            self.report_opening(flight.down, Ending::Opened);
        } else {
            self.counters.abandoned += 1;
            self.report_flight(&mut flight, Ending::Abandoned, Own::default());
        }
        if let Some(upstream) = self.ups.get_mut(up) {
            upstream.mode = UpMode::Session(flight.down);
            upstream.draining = true;
        }
        self.count_session(up);
        let Some(down) = self.downs.get_mut(flight.down) else {
            self.close_up(up, Fault::UpstreamReset);
            return;
        };
        down.lanes.clear();
        down.state = DownState::Session(up);
        (down.parked_head, down.fate) = (None, None);
        if down.parked || !down.input.is_empty() {
            down.parked = true;
            self.wake_down(flight.down);
        }
        self.sew(flight.down, flight.protocol, flight.reply_to);
        self.pace_session(flight.down, up, flight.pace);
        self.empty(flight);
    }

    /// An upstream will send no more.
    pub(super) fn ended_up(&mut self, id: UpId) {
        let Some(upstream) = self.ups.get_mut(id) else { return };
        upstream.eof = true;
        if upstream.unwritten && upstream.in_flight > 0 {
            self.reconnect(id);
            return;
        }
        let ends_body = match (&mut upstream.decoder, upstream.state) {
            (Some(decoder), UpState::Steps { to }) => {
                decoder.eof(&upstream.input).unwrap_or(false).then_some(to)
            }
            _ => None,
        };
        if let Some(to) = ends_body {
            upstream.state = UpState::Idle;
            if let Some(to) = to {
                if let Some(flight) = self.flights.get_mut(to) {
                    flight.upstream_last = true;
                    flight.last |= flight.replying;
                }
                self.finish(to);
            }
        }
        self.close_up(id, Fault::UpstreamReset);
    }

    /// An idle connection ended just as requests were given to it. None of them was
    /// written, so a new connection may carry them, unasked.
    fn reconnect(&mut self, id: UpId) {
        let snapshot = self.snapshot.clone();
        let Some(upstream) = self.ups.get_mut(id) else { return };
        let Some(cluster) = snapshot.clusters.get(upstream.cluster) else { return };
        let Some(endpoint) = cluster.endpoints.get(upstream.endpoint) else { return };
        let Some(enabled) = upstream.protocol.and_then(|at| snapshot.protocols.get(at)) else {
            self.close_up(id, Fault::UpstreamReset);
            return;
        };
        let until = self.now + cluster.connect_timeout.as_millis() as u64;
        let before = upstream.pending();
        upstream.phase = UpPhase::Connecting(until);
        let (cluster_at, endpoint_at, after) =
            (upstream.cluster, upstream.endpoint, upstream.pending());
        (upstream.eof, upstream.blocked, upstream.used, upstream.probed) = (false, false, false, 0);
        (upstream.state, upstream.need) = (UpState::Idle, 0);
        upstream.input.clear();
        upstream.expected.retain(|expected| matches!(expected, Expected::Flight(_)));
        let mut decoder = enabled.framing.decoder(Side::Reply);
        if upstream.tell_decoder {
            for expected in &upstream.expected {
                if let Expected::Flight(flight) = expected
                    && let Some(flight) = self.flights.get(*flight)
                {
                    decoder.expect(flight.reply_to);
                }
            }
        }
        upstream.decoder = Some(decoder);
        if let Some(state) = self.profiles.get(upstream.profile)
            && state.profile.replies > 0
        {
            let waiting = upstream.out.pending().to_vec();
            upstream.out.consume(waiting.len(), &mut self.spares);
            let out = upstream.out.tail(&mut self.spares);
            out.extend_from_slice(&state.profile.preamble);
            out.extend_from_slice(&waiting);
            upstream.preamble_left = state.profile.replies;
        }
        self.counters.connects += 1;
        self.measure_endpoint(cluster_at, endpoint_at, |endpoint| endpoint.connections[0].add(1));
        self.shift_pending(cluster_at, before, after);
        self.actions.push(Action::Close(ConnId::Up(id)));
        self.actions.push(Action::Connect(id, endpoint.address));
        self.look_by(until);
    }

    /// Forgets an upstream connection at once; every request on it ends with `fault`.
    pub(super) fn close_up(&mut self, id: UpId, fault: Fault) {
        self.leave_pool(id);
        let Some(mut upstream) = self.ups.remove(id) else { return };
        self.actions.push(Action::Close(ConnId::Up(id)));
        self.shift_pending(upstream.cluster, upstream.pending(), 0);
        self.give_requests(upstream.cluster, upstream.endpoint, upstream.in_flight);
        self.give_connection(upstream.cluster, upstream.endpoint);
        if matches!(upstream.mode, UpMode::Session(_))
            && let Some(state) =
                self.endpoints.get_mut(upstream.cluster).and_then(|s| s.get_mut(upstream.endpoint))
        {
            state.sessions = state.sessions.saturating_sub(1);
            self.measure_endpoint(upstream.cluster, upstream.endpoint, |of| of.sessions.sub(1));
        }
        self.drop_profile(upstream.profile, Party::Upstream);
        let waiting = upstream.out.len();
        upstream.out.consume(waiting, &mut self.spares);
        self.spares.give(std::mem::take(&mut upstream.input));
        for down in upstream.holding_back.drain(..) {
            self.let_down(down);
        }
        match upstream.mode {
            UpMode::Session(down) => {
                self.take_leave(down, &upstream, fault);
                // Where its server closed it, it ended as sessions do.
                let why = (fault != Fault::UpstreamReset || !upstream.eof).then_some(fault);
                self.report_over(down, Ending::Abandoned, why);
                if let Some(joined) = self.downs.get_mut(down)
                    && matches!(joined.state, DownState::Session(_))
                {
                    joined.state = DownState::Closing { shut: false };
                    self.close_if_done(down);
                }
            }
            UpMode::Leased(down) => {
                if let Some(down) = self.downs.get_mut(down)
                    && down.held == Some(id)
                {
                    down.held = None;
                    down.releasing = false;
                    // State that the client had built up on it is gone: it has to learn that.
                    self.lose_held(&upstream);
                }
            }
            UpMode::Shared | UpMode::Idle => {}
        }
        if upstream.in_flight == 0 {
            return;
        }
        let id_of_up = id;
        let lost: Vec<FlightId> = if upstream.expected.is_empty() {
            self.flights.iter().filter(|(_, flight)| flight.up == id).map(|(key, _)| key).collect()
        } else {
            let current = match upstream.state {
                UpState::Body { to, .. } | UpState::Steps { to } => to,
                UpState::Idle => None,
            };
            let expected = upstream.expected.iter().filter_map(|expected| match expected {
                Expected::Flight(flight) => Some(*flight),
                Expected::Probe => None,
            });
            // One that was tried again elsewhere is not lost.
            let here = |id: &FlightId| self.flights.get(*id).is_some_and(|f| f.up == id_of_up);
            current.into_iter().chain(expected).filter(here).collect()
        };
        for flight in lost {
            // One that was tried twice here is lost once.
            let Some(state) = self.flights.get_mut(flight).filter(|flight| flight.up == id) else {
                continue;
            };
            state.track.at = Some((upstream.cluster, upstream.endpoint));
            if fault != Fault::ConnectFailed
                && let Some(lost) = self.flights.get(flight)
                && self.downs.get(lost.down).is_some()
            {
                let took = self.micros.saturating_sub(lost.began);
                self.observe(upstream.cluster, upstream.endpoint, Seen::Reset, took);
            }
            let ended = match fault {
                Fault::ConnectFailed => Ended::Unconnected,
                _ => Ended::Reset,
            };
            if !self.resend(flight, &upstream, fault)
                && !self.again(flight, ended, upstream.endpoint)
            {
                self.fail(flight, fault);
            }
        }
    }

    /// A connection whose state only one client had (a transaction, a watch) is
    /// lost: its later requests would silently run without that state, so the
    /// client's connection ends too, as it would without a proxy.
    fn lose_held(&mut self, upstream: &super::state::Upstream) {
        let UpMode::Leased(down) = upstream.mode else { return };
        let Some(state) = self.downs.get_mut(down) else { return };
        match state.lanes.back_mut() {
            Some(lane) => lane.last = true,
            None => self.stop_reading(down),
        }
    }

    /// Sends a request again on a fresh connection, where the reused one it was
    /// on was dead before it said a word.
    fn resend(&mut self, id: FlightId, dead: &super::state::Upstream, fault: Fault) -> bool {
        let Some(flight) = self.flights.get_mut(id) else { return false };
        if fault != Fault::UpstreamReset
            || !dead.used
            || flight.copy.is_empty()
            || flight.lease != Lease::Once
            || flight.replying
            || !flight.sent
            || !dead.input.is_empty()
            || self.downs.get(flight.down).is_none()
        {
            return false;
        }
        let copy = std::mem::take(&mut flight.copy);
        let (down, protocol, reply_to) = (flight.down, flight.protocol, flight.reply_to);
        let wanted = super::pool::Wanted {
            protocol: Some(protocol),
            profile: dead.profile,
            lease: Lease::Once,
            ends: dead.ends,
        };
        let Ok(up) = self.open(down, dead.cluster, dead.endpoint, wanted, dead.any_endpoint) else {
            return false;
        };
        if let Some(upstream) = self.ups.get_mut(up) {
            upstream.out.tail(&mut self.spares).extend_from_slice(&copy);
            upstream.in_flight += 1;
            if upstream.ordered {
                upstream.expected.push_back(Expected::Flight(id));
            }
            if upstream.tell_decoder
                && let Some(decoder) = &mut upstream.decoder
            {
                decoder.expect(reply_to);
            }
        }
        self.add_requests(dead.cluster, dead.endpoint, 1);
        if let Some(flight) = self.flights.get_mut(id) {
            flight.up = up;
            let pace = flight.pace;
            self.set_pace(ConnId::Up(up), pace);
        }
        self.spares.give(copy);
        self.counters.resent += 1;
        self.mark_up(up);
        true
    }

    /// Closes a connection that takes no new requests and has none left.
    pub(super) fn close_up_if_drained(&mut self, id: UpId) {
        if let Some(upstream) = self.ups.get(id)
            && upstream.draining
            && upstream.in_flight == 0
            && !matches!(upstream.mode, UpMode::Session(_))
        {
            self.close_up(id, Fault::UpstreamReset);
        }
    }

    /// Asks whether anybody is there, where the protocol can.
    pub(super) fn probe(&mut self, id: UpId) {
        let snapshot = self.snapshot.clone();
        let Some(upstream) = self.ups.get_mut(id) else { return };
        let Some(enabled) = upstream.protocol.and_then(|at| snapshot.protocols.get(at)) else {
            return;
        };
        if upstream.phase != UpPhase::Ready {
            return;
        }
        let out = upstream.out.tail(&mut self.spares);
        if enabled.protocol.heartbeat(PROBE_ID, out) {
            if upstream.ordered {
                upstream.expected.push_back(Expected::Probe);
            }
            upstream.probed = self.now.max(1);
            self.mark_up(id);
        }
    }
}
