//! From a request's head to an upstream connection: order, route, endpoint, connection.

use std::net::SocketAddr;
use std::sync::Arc;

use polyport_codecs::{
    After, Answer, Body, Exchange, Fault, Head, Hop, Kind, Lease, ReplyTo, Side,
};
use polyport_router::Route;
use rand::Rng;

use super::guard::{Denied, Stop};
use super::patience;
use super::pool::Wanted;
use super::state::{
    ConnId, Dialogue, DownId, DownState, Expected, Flight, FlightId, Lane, UpId, UpMode,
};
use super::{Engine, Tapped};
use crate::edit::{Reply, changes, render};
use crate::snapshot::{Action as RouteAction, Forward};

/// What became of a head.
pub(super) enum Passed {
    /// It is dealt with; its body goes to `to`, or nowhere.
    On { to: Option<UpId>, flight: Option<FlightId> },
    /// It has to wait, with its bytes.
    Parked,
}

/// Where a message goes.
struct Chosen {
    up: UpId,
    /// What it asks of the connection, once its cluster has had its say.
    lease: Lease,
    /// The route's position; `usize::MAX`: none was asked.
    route: usize,
    /// Which of its targets.
    arm: usize,
    timeout: Option<std::time::Duration>,
    /// The values that its route's changes have, to the request and to its reply.
    edits: (Vec<u8>, Vec<u8>),
    /// Bytes a second of its body and its reply; 0: as fast as they come.
    pace: u64,
}

/// Why a message goes nowhere.
enum Nowhere {
    /// With a native error.
    Fault(Fault),
    /// With an answer of the route's own, already rendered: status, headers, body.
    Answer(Arc<Reply>, Vec<u8>),
    /// Its connection is reset.
    Reset,
    /// Not yet.
    Wait,
    /// Not before it gets a connection; it waits no longer than its route's timeout.
    Queue(Option<std::time::Duration>),
}

impl From<Stop> for Nowhere {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(fault) => Self::Fault(fault),
            Stop::Answer(reply) => Self::Answer(reply, Vec::new()),
            Stop::Reset => Self::Reset,
            Stop::Wait => Self::Wait,
        }
    }
}

impl From<Fault> for Nowhere {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Requests up to this size are kept while they are first on a reused
/// connection, to be sent again if that turns out dead.
const COPY_LIMIT: usize = 16 << 10;

const NOWHERE: Passed = Passed::On { to: None, flight: None };

impl Engine {
    /// Sends a message on its way. `buf` begins with its head.
    pub(super) fn dispatch(&mut self, id: DownId, head: &Head, buf: &[u8]) -> Passed {
        let message = buf.get(..head.len).unwrap_or_default();
        match head.kind {
            Kind::Request | Kind::Oneway => self.forward(id, head, message, buf),
            Kind::Heartbeat | Kind::Local => {
                self.counters.local += 1;
                let mut reply = self.spares.take();
                let enabled = self.downs.get(id).and_then(|down| down.protocol);
                if let Some(enabled) = enabled.and_then(|at| self.snapshot.protocols.get(at)) {
                    enabled.protocol.answer(head, message, &mut reply);
                }
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
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return NOWHERE };
        let Some(protocol) = down.protocol else { return NOWHERE };
        let Some(enabled) = snapshot.protocols.get(protocol) else { return NOWHERE };
        let exchange = enabled.protocol.exchange();
        let asked = effective_lease(head, exchange);
        let lease = asked;
        let ordered = matches!(exchange, Exchange::Ordered { .. });
        let on_held = down.held.is_some() && !down.releasing;
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
            self.counters.faults += 1;
            self.refuse(id, protocol, head, message, Fault::Timeout);
            return NOWHERE;
        }
        let held = down.held.filter(|_| on_held);
        let Chosen { up, lease, route, arm, timeout, edits, pace } = if let Some(up) = held {
            if let Err(fault) = self.permit_held(id, buf) {
                self.counters.faults += 1;
                self.refuse(id, protocol, head, message, fault);
                // What was begun on the held connection must not be completed without
                // this message: it ends with the client's connection.
                self.stop_reading(id);
                return NOWHERE;
            }
            let edits = (Vec::new(), Vec::new());
            Chosen { up, lease, route: usize::MAX, arm: 0, timeout: None, edits, pace: 0 }
        } else {
            match self.choose(id, head, buf, lease, protocol) {
                Ok(chosen) => chosen,
                Err(Nowhere::Wait) => return Passed::Parked,
                Err(Nowhere::Queue(timeout)) => {
                    self.bound_wait(id, head, timeout);
                    return Passed::Parked;
                }
                Err(Nowhere::Reset) => {
                    self.counters.faults += 1;
                    self.reset_down(id);
                    return NOWHERE;
                }
                Err(Nowhere::Answer(reply, values)) => {
                    self.counters.local += 1;
                    self.answer(id, protocol, head, &reply, &values);
                    self.spares.give(values);
                    return NOWHERE;
                }
                Err(Nowhere::Fault(fault)) => {
                    self.counters.faults += 1;
                    self.refuse(id, protocol, head, message, fault);
                    return NOWHERE;
                }
            }
        };

        let Some(upstream) = self.ups.get_mut(up) else { return NOWHERE };
        if upstream.blocked && upstream.out.len() > snapshot.buffers.high {
            upstream.holding_back.push(id);
            self.unlease(up);
            self.spares.give(edits.0);
            self.spares.give(edits.1);
            return Passed::Parked;
        }
        if let Err(fault) = self.count_in(up, route == usize::MAX) {
            self.spares.give(edits.0);
            self.spares.give(edits.1);
            self.counters.faults += 1;
            self.unlease(up);
            if let Some(down) = self.downs.get_mut(id) {
                down.fate = None;
            }
            self.refuse(id, protocol, head, message, fault);
            return NOWHERE;
        }
        let times = self.times_of(route);
        self.counters.requests += 1;
        if pace > 0 {
            self.set_pace(ConnId::Up(up), pace);
        }
        let (Some(down), Some(upstream)) = (self.downs.get_mut(id), self.ups.get_mut(up)) else {
            return NOWHERE;
        };
        down.fate = None;
        let oneway = head.kind == Kind::Oneway;
        let by_route = timeout.is_some();
        let request = timeout.unwrap_or(snapshot.timeouts.request).as_millis() as u64;
        let request = request.saturating_sub(down.waited).max(1);
        let stream = times.stream.unwrap_or(snapshot.timeouts.stream).as_millis() as u64;
        let may_wait = may_wait(head, asked, exchange);
        let limit = patience::limit(down, head);
        // The time of a request runs from when all of it is there; until then
        // its body has to move.
        let first = match head.body {
            Body::None => request,
            _ => stream,
        };
        let deadline = if may_wait { u64::MAX } else { self.now.saturating_add(first).min(limit) };
        let reused = upstream.used;
        let mut note = Vec::new();
        if head.note.1 > 0 {
            note = self.spares.take();
            note.extend_from_slice(head.noted(message));
        }
        let flight = self.flights.insert(Flight {
            down: id,
            up,
            reply_to: head.reply_to,
            protocol,
            lane: down.lanes_gone + down.lanes.len() as u64,
            started: self.now,
            deadline,
            total: deadline,
            per_try: 0,
            timeout: request,
            stream,
            limit,
            lease,
            oneway,
            sent: false,
            replying: false,
            last: head.last,
            upstream_last: false,
            outcome: None,
            began: self.micros,
            pace,
            plain_body: enabled.protocol.needs_plain_body(head.reply_to),
            copy: Vec::new(),
            edits: edits.1,
            note,
            route,
            arm,
            kept: None,
            mirror: false,
        });
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
            timeout: patience::told(head, limit, self.now, request, by_route),
        };
        let out = upstream.out.tail(&mut self.spares);
        let start = out.len();
        let forward = snapshot.forward(route);
        let keeps =
            forward.is_some_and(|forward| forward.retry.is_some() || forward.mirror.is_some());
        let asked = forward.and_then(|forward| forward.edits.as_ref());
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
            self.forget_flight(flight);
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
            self.forget_flight(flight);
            self.begin_session(id, times);
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

    /// Route, endpoint and connection of a message.
    fn choose(
        &mut self,
        id: DownId,
        head: &Head,
        buf: &[u8],
        lease: Lease,
        protocol: usize,
    ) -> Result<Chosen, Nowhere> {
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return Err(Fault::ShuttingDown.into()) };
        let profile = down.profile;
        let Some(metadata) = down.metadata.take() else {
            return Err(Fault::ShuttingDown.into());
        };
        let view = metadata.view(buf);
        let found = snapshot.routes.choose(&view);
        let mut tapped = Tapped {
            protocol: snapshot.protocols.get(protocol).map_or("tcp", |e| e.protocol.name()),
            kind: head.kind,
            route: found.map(|(_, route)| route.name.as_str()),
            cluster: None,
            endpoint: None,
            fault: None,
            view,
        };
        let chosen = match found {
            None => Err(self.unrouted(id, &view).into()),
            Some((at, route)) => match &route.then {
                RouteAction::Deny => {
                    self.denied(id, found, Denied::Rule, &view);
                    Err(Fault::Denied.into())
                }
                RouteAction::Respond(reply) => {
                    let mut values = self.spares.take();
                    for (_, template) in &reply.headers {
                        let start = values.len();
                        values.extend_from_slice(&[0; 4]);
                        template.render(&view, &mut values);
                        let len = (values.len() - start - 4) as u32;
                        if let Some(place) = values.get_mut(start..start + 4) {
                            place.copy_from_slice(&len.to_ne_bytes());
                        }
                    }
                    Err(Nowhere::Answer(reply.clone(), values))
                }
                RouteAction::Forward(forward) => self
                    .pass_guard(id, (at, route), forward, &view)
                    .map_err(Nowhere::from)
                    .and_then(|pace| {
                        let lease = match lease {
                            // A pace is one exchange's, so its connection is too.
                            Lease::Shared if pace > 0 => Lease::Once,
                            lease => lease,
                        };
                        let wanted =
                            Wanted { protocol: Some(protocol), profile, lease, ends: None };
                        let (up, lease, arm) =
                            self.connection_for(id, forward, &view, wanted, &mut tapped)?;
                        Ok((up, lease, arm, pace))
                    })
                    .map(|(up, lease, arm, pace)| {
                        let mut edits = (Vec::new(), Vec::new());
                        if let Some(asked) = &forward.edits {
                            if !asked.request.is_empty() {
                                edits.0 = self.spares.take();
                                render(&asked.request, &view, &mut edits.0);
                            }
                            if !asked.response.is_empty() {
                                edits.1 = self.spares.take();
                                render(&asked.response, &view, &mut edits.1);
                            }
                        }
                        let timeout = forward.timeout;
                        Chosen { up, lease, route: at, arm, timeout, edits, pace }
                    }),
            },
        };
        if let Some(tap) = &self.tap
            && !matches!(chosen, Err(Nowhere::Wait | Nowhere::Queue(_)))
        {
            tapped.fault = match &chosen {
                Err(Nowhere::Fault(fault)) => Some(*fault),
                _ => None,
            };
            tap(&tapped);
        }
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = Some(metadata);
            if !matches!(chosen, Ok(_) | Err(Nowhere::Wait | Nowhere::Queue(_))) {
                down.fate = None;
            }
        }
        chosen
    }

    /// What stands before a route's clusters; the pace that its messages then have.
    fn pass_guard(
        &mut self,
        id: DownId,
        route: (usize, &Route<RouteAction>),
        forward: &Forward,
        view: &polyport_codecs::View<'_>,
    ) -> Result<u64, Stop> {
        match &forward.guard {
            None => Ok(0),
            Some(guard) => self.check(id, route, guard, view).map(|fate| fate.pace),
        }
    }

    fn connection_for(
        &mut self,
        id: DownId,
        forward: &Forward,
        view: &polyport_codecs::View<'_>,
        wanted: Wanted,
        tapped: &mut Tapped<'_>,
    ) -> Result<(UpId, Lease, usize), Nowhere> {
        // What was decided before a wait is not decided again.
        let waited = self.waited_for(id).transpose()?;
        let snapshot = self.snapshot.clone();
        let arm = match (waited, forward.arm(view)) {
            (Some((arm, _)), _) | (None, Some(arm)) => arm,
            (None, None) => forward.split.choose(self.rng.random()),
        };
        let target = forward.targets.get(arm).ok_or(Fault::NoHealthyEndpoint)?;
        let endpoint = match waited {
            Some((_, endpoint)) => endpoint,
            None => self.choose_endpoint(target, view, wanted.protocol, &[])?,
        };
        if let Some(cluster) = snapshot.clusters.get(target.cluster) {
            let address: Option<SocketAddr> =
                cluster.endpoints.get(endpoint).map(|endpoint| endpoint.address);
            tapped.endpoint = address;
            tapped.cluster = Some(target.cluster);
        }
        let cluster = snapshot.clusters.get(target.cluster).ok_or(Fault::NoHealthyEndpoint)?;
        let told = cluster.proxy_protocol.is_some();
        let ends =
            self.downs.get(id).filter(|_| told).map(|down| (down.peer.source, down.peer.local));
        let lease = match wanted.lease {
            // Its servers do not say which request a reply answers; or they take
            // a connection to be one client's.
            Lease::Shared if cluster.ordered || told => Lease::Once,
            lease => lease,
        };
        let wanted = Wanted { lease, ends, ..wanted };
        if self.must_wait(id, target.cluster, endpoint, &wanted) {
            self.may_ask(target.cluster, endpoint).inspect_err(|_| self.unwait(id))?;
            self.wait(id, target.cluster, endpoint, arm)?;
            return Err(Nowhere::Queue(forward.timeout));
        }
        match self.connection(id, target, endpoint, wanted) {
            Ok(up) => {
                self.served(id, lease);
                Ok((up, lease, arm))
            }
            Err(fault) => {
                self.unwait(id);
                Err(fault.into())
            }
        }
    }

    /// Gives back a connection that was leased and then not used.
    pub(super) fn unlease(&mut self, up: UpId) {
        if let Some(upstream) = self.ups.get(up)
            && matches!(upstream.mode, UpMode::Leased(_))
            && upstream.in_flight == 0
        {
            self.release(up);
        }
    }

    /// Joins an unrecognised connection to an upstream by the route for it.
    pub(super) fn join_opaque(&mut self, id: DownId) -> bool {
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return false };
        let Some(mut metadata) = down.metadata.take() else { return false };
        if let Some(slot) = snapshot.facts.protocol {
            metadata.keep(slot, b"tcp");
        }
        metadata.clear();
        let view = metadata.view(b"");
        let found = snapshot.routes.choose(&view);
        let mut tapped = Tapped {
            protocol: "tcp",
            kind: Kind::Oneway,
            route: found.map(|(_, route)| route.name.as_str()),
            cluster: None,
            endpoint: None,
            fault: None,
            view,
        };
        let wanted = Wanted { protocol: None, profile: 0, lease: Lease::Session, ends: None };
        let joined = match found.map(|(at, route)| (at, route, &route.then)) {
            Some((at, route, RouteAction::Forward(forward))) => self
                .pass_guard(id, (at, route), forward, &view)
                .map_err(Nowhere::from)
                .and_then(|pace| {
                    let (up, ..) = self.connection_for(id, forward, &view, wanted, &mut tapped)?;
                    Ok((up, pace))
                }),
            Some((_, _, RouteAction::Deny)) => {
                self.denied(id, found, Denied::Rule, &view);
                Err(Fault::Denied.into())
            }
            Some((_, _, RouteAction::Respond(_))) => Err(Fault::Denied.into()),
            None => Err(self.unrouted(id, &view).into()),
        };
        if matches!(joined, Err(Nowhere::Wait)) {
            if let Some(down) = self.downs.get_mut(id) {
                down.metadata = Some(metadata);
                down.parked = true;
            }
            return false;
        }
        if let Some(tap) = &self.tap {
            tapped.fault = match &joined {
                Err(Nowhere::Fault(fault)) => Some(*fault),
                _ => None,
            };
            tap(&tapped);
        }
        match joined {
            Ok((up, pace)) => {
                if let Some(upstream) = self.ups.get_mut(up) {
                    upstream.mode = UpMode::Session(id);
                    upstream.draining = true;
                }
                self.count_session(up);
                if let Some(down) = self.downs.get_mut(id) {
                    down.metadata = Some(metadata);
                    down.state = DownState::Session(up);
                    down.fate = None;
                }
                self.pace_session(id, up, pace);
                let times = found.map(|(route, _)| self.times_of(route));
                self.begin_session(id, times.unwrap_or_default());
                true
            }
            Err(Nowhere::Reset) => {
                self.reset_down(id);
                false
            }
            Err(_) => {
                self.close_down(id);
                false
            }
        }
    }

    /// Answers a message as its route says.
    fn answer(&mut self, id: DownId, protocol: usize, head: &Head, reply: &Reply, values: &[u8]) {
        let snapshot = self.snapshot.clone();
        let Some(enabled) = snapshot.protocols.get(protocol) else { return };
        let mut rest = values;
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(reply.headers.len());
        for (name, _) in &reply.headers {
            let Some((len, after)) = rest.split_first_chunk::<4>() else { break };
            let (value, after) = after.split_at(after.len().min(u32::from_ne_bytes(*len) as usize));
            headers.push((name, value));
            rest = after;
        }
        let answer = Answer { status: reply.status, headers: &headers, body: &reply.body };
        let mut out = self.spares.take();
        let after = enabled.protocol.respond(head.reply_to, &answer, &mut out);
        let close = after != Some(After::Keep) || head.last;
        self.owe(id, out, close);
        if close {
            self.stop_reading(id);
        }
    }

    /// Answers a message with a native error. The caller counts it.
    pub(super) fn refuse(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        fault: Fault,
    ) {
        if head.kind == Kind::Oneway {
            return;
        }
        let mut reply = self.spares.take();
        let after =
            self.local_reply(protocol, head.reply_to, head.noted(message), fault, &mut reply);
        let close = after == After::Close || head.last || fault == Fault::ShuttingDown;
        self.owe(id, reply, close);
        if close {
            self.stop_reading(id);
        }
    }

    pub(super) fn local_reply(
        &self,
        protocol: usize,
        to: ReplyTo,
        note: &[u8],
        fault: Fault,
        reply: &mut Vec<u8>,
    ) -> After {
        match self.snapshot.protocols.get(protocol) {
            Some(enabled) => enabled.protocol.local_reply(to, note, fault, fault.as_str(), reply),
            None => After::Close,
        }
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
