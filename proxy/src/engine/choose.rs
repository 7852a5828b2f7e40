//! Where a message goes: what its route says, the cluster, the endpoint, the connection.

use std::sync::Arc;

use polyport_codecs::{Exchange, Fault, Head, Kind, Lease, View};
use polyport_router::Route;
use rand::Rng;

use super::guard::{Denied, Stop};
use super::patience::times_of;
use super::pool::{NoConnection, Wanted};
use super::report::{Ending, Joined, Own, Track};
use super::state::{DownId, DownState, UpId, UpMode};
use super::{Engine, Tapped};
use crate::edit::{Reply, render};
use crate::snapshot::{Action as RouteAction, Forward, Snapshot};

/// Where a message goes.
pub(super) struct Chosen {
    pub up: UpId,
    /// What it asks of the connection, once its cluster has had its say.
    pub lease: Lease,
    /// The route's position; `usize::MAX`: none was asked.
    pub route: usize,
    /// Which of its targets.
    pub arm: usize,
    pub timeout: Option<std::time::Duration>,
    /// The values that its route's changes have, to the request and to its reply.
    pub edits: (Vec<u8>, Vec<u8>),
    /// Of its metadata, what those want who are told how it ends.
    pub told: Vec<u8>,
    /// Bytes a second of its body and its reply; 0: as fast as they come.
    pub pace: u64,
}

/// Why a message goes nowhere.
pub(super) enum Nowhere {
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

/// A message that is to be sent on.
struct Asked<'a> {
    id: DownId,
    head: &'a Head,
    lease: Lease,
    protocol: usize,
    /// With its position.
    route: (usize, &'a Route<RouteAction>),
}

impl Engine {
    /// Route, endpoint and connection of a message that came under this config.
    pub(super) fn choose(
        &mut self,
        snapshot: &Snapshot,
        id: DownId,
        head: &Head,
        buf: &[u8],
        lease: Lease,
        protocol: usize,
    ) -> Result<Chosen, Nowhere> {
        let Some(down) = self.downs.get_mut(id) else { return Err(Fault::ShuttingDown.into()) };
        let Some(metadata) = down.metadata.take() else {
            return Err(Fault::ShuttingDown.into());
        };
        let view = metadata.view(buf);
        let found = snapshot.routes.choose(&view);
        let number = found.and_then(|(at, _)| snapshot.route_id(at));
        down.track.route = number.unwrap_or(usize::MAX);
        let mut place = None;
        let chosen = match found {
            None => Err(self.unrouted(id, &view).into()),
            Some((at, route)) => match &route.then {
                RouteAction::Forward(forward) => {
                    let asked = Asked { id, head, lease, protocol, route: (at, route) };
                    self.aim(snapshot, &asked, forward, &view, &mut place).map(
                        |(up, lease, arm, pace)| {
                            let edits = self.rendered(forward, &view);
                            let timeout = forward.timeout;
                            let told = self.remember(snapshot, &view);
                            Chosen { up, lease, route: at, arm, timeout, edits, told, pace }
                        },
                    )
                }
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
            },
        };
        let waits = matches!(chosen, Err(Nowhere::Wait | Nowhere::Queue(_)));
        if !waits && (self.logger.is_some() || self.tap.is_some()) {
            let route = found.map(|(_, route)| route.name.as_str());
            if self.logger.is_some() {
                self.log_choice(id, false, route, &view);
            }
            let fault = match &chosen {
                Err(Nowhere::Fault(fault)) => Some(*fault),
                _ => None,
            };
            self.show(
                Some((protocol, head.dialect)),
                head.kind,
                route,
                place,
                fault,
                (snapshot, &view),
            );
        }
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = Some(metadata);
            if chosen.is_err() && !waits {
                down.fate = None;
            }
        }
        chosen
    }

    /// The connection of a message that its route sends on, what it asks of that, which of the
    /// route's targets it takes, and its pace. Nobody's connection: it waits for a time of its own.
    fn aim(
        &mut self,
        snapshot: &Snapshot,
        asked: &Asked<'_>,
        forward: &Forward,
        view: &View<'_>,
        place: &mut Option<(usize, usize)>,
    ) -> Result<(UpId, Lease, usize, u64), Nowhere> {
        let Asked { id, head, lease, protocol, route } = *asked;
        let pace = match self.pass_guard(id, route, forward, view) {
            Ok(pace) => pace,
            Err(Stop::Wait) if self.may_postpone(id, head, lease, protocol) => {
                let arm = self.arm_of(forward, view);
                let target = forward.targets.get(arm).map(|target| target.cluster);
                let cluster = target.and_then(|at| snapshot.clusters.get(at));
                if cluster.is_some_and(|c| c.ordered || c.proxy_protocol.is_some()) {
                    // It will need a connection of its own, for which it may
                    // have to queue with the others.
                    return Err(Nowhere::Wait);
                }
                return Ok((UpId::nobody(), lease, arm, 0));
            }
            Err(stop) => return Err(stop.into()),
        };
        let lease = match lease {
            // A pace is one exchange's, so its connection is too.
            Lease::Shared if pace > 0 => Lease::Once,
            lease => lease,
        };
        let profile = self.downs.get(id).map_or(0, |down| down.profile);
        let wanted = Wanted { protocol: Some(protocol), profile, lease, ends: None };
        let (up, lease, arm) = self.connection_for(snapshot, id, forward, view, wanted, place)?;
        Ok((up, lease, arm, pace))
    }

    /// The values that a route's changes have, to the request and to its reply.
    #[inline]
    fn rendered(&mut self, forward: &Forward, view: &View<'_>) -> (Vec<u8>, Vec<u8>) {
        let mut edits = (Vec::new(), Vec::new());
        if let Some(asked) = &forward.edits {
            if !asked.request.is_empty() {
                edits.0 = self.spares.take();
                render(&asked.request, view, &mut edits.0);
            }
            if !asked.response.is_empty() {
                edits.1 = self.spares.take();
                render(&asked.response, view, &mut edits.1);
            }
        }
        edits
    }

    /// Shows a message that was routed to the tap, if there is one. `protocol`: with the dialect.
    fn show(
        &self,
        protocol: Option<(usize, u8)>,
        kind: Kind,
        route: Option<&str>,
        place: Option<(usize, usize)>,
        fault: Option<Fault>,
        (snapshot, view): (&Snapshot, &View<'_>),
    ) {
        let Some(tap) = &self.tap else { return };
        let spoken =
            protocol.and_then(|(at, dialect)| Some((snapshot.protocols.get(at)?, dialect)));
        let endpoint = place.and_then(|(cluster, endpoint)| {
            self.snapshot.clusters.get(cluster)?.endpoints.get(endpoint)
        });
        tap(&Tapped {
            protocol: spoken.map_or("tcp", |(enabled, _)| enabled.protocol.name()),
            dialect: spoken.map_or("tcp", |(enabled, dialect)| enabled.protocol.dialect(dialect)),
            kind,
            route,
            cluster: place.map(|(cluster, _)| cluster),
            endpoint: endpoint.map(|endpoint| endpoint.address),
            fault,
            view: *view,
            snapshot,
        });
    }

    /// What stands before a route's clusters; the pace that its messages then have.
    fn pass_guard(
        &mut self,
        id: DownId,
        route: (usize, &Route<RouteAction>),
        forward: &Forward,
        view: &View<'_>,
    ) -> Result<u64, Stop> {
        match &forward.guard {
            None => Ok(0),
            Some(guard) => self.check(id, route, guard, view).map(|fate| fate.pace),
        }
    }

    /// Which of a route's targets a message takes.
    fn arm_of(&mut self, forward: &Forward, view: &View<'_>) -> usize {
        forward.arm(view).unwrap_or_else(|| forward.split.choose(self.rng.random()))
    }

    fn connection_for(
        &mut self,
        config: &Snapshot,
        id: DownId,
        forward: &Forward,
        view: &View<'_>,
        wanted: Wanted,
        place: &mut Option<(usize, usize)>,
    ) -> Result<(UpId, Lease, usize), Nowhere> {
        // What was decided before a wait is not decided again.
        let waited = self.waited_for(id).transpose()?;
        let arm = match waited {
            Some((arm, _)) => arm,
            None => self.arm_of(forward, view),
        };
        let target = forward.targets.get(arm).ok_or(Fault::NoHealthyEndpoint)?;
        let endpoint = match waited {
            Some((_, endpoint)) => endpoint,
            None => self.choose_endpoint(target, (config, view), wanted.protocol, &[])?,
        };
        let Some(down) = self.downs.get_mut(id) else { return Err(Fault::ShuttingDown.into()) };
        down.track.at = Some((target.cluster, endpoint));
        let cluster = self.snapshot.clusters.get(target.cluster).ok_or(Fault::NoHealthyEndpoint)?;
        *place = Some((target.cluster, endpoint));
        let told = cluster.proxy_protocol.is_some();
        let ends = told.then_some((down.peer.source, down.peer.local));
        let lease = match wanted.lease {
            // Its servers do not say which request a reply answers; or they take
            // a connection to be one client's.
            Lease::Shared if cluster.ordered || told => Lease::Once,
            lease => lease,
        };
        if lease != Lease::Shared
            && !down.lanes.is_empty()
            && matches!(self.exchange_of(wanted.protocol), Some(Exchange::Ordered { .. }))
        {
            // On a connection of its own it could overtake those before it.
            return Err(Nowhere::Wait);
        }
        let wanted = Wanted { lease, ends, ..wanted };
        let got = if self.must_wait(id, target.cluster, endpoint, &wanted) {
            self.may_ask(target.cluster, endpoint)
                .map_err(NoConnection::from)
                .and(Err(NoConnection::Full))
        } else {
            self.connection(id, target, endpoint, wanted)
        };
        let fault = match got {
            Ok(up) => {
                if waited.is_some() {
                    self.served(id, lease);
                }
                return Ok((up, lease, arm));
            }
            Err(NoConnection::Full) if lease != Lease::Session => {
                self.wait(id, target.cluster, endpoint, arm)?;
                return Err(Nowhere::Queue(forward.timeout));
            }
            Err(NoConnection::Full) => self.full(target.cluster, "connections"),
            Err(NoConnection::Fault(fault)) => fault,
        };
        self.unwait(id);
        Err(fault.into())
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
        let snapshot = self.config_of_down(id);
        let Some(down) = self.downs.get_mut(id) else { return false };
        let Some(mut metadata) = down.metadata.take() else { return false };
        if let Some(slot) = snapshot.facts.protocol {
            metadata.keep(slot, b"tcp");
        }
        metadata.clear();
        let view = metadata.view(b"");
        let found = snapshot.routes.choose(&view);
        let name = found.map(|(_, route)| route.name.as_str());
        let mut place = None;
        let wanted = Wanted { protocol: None, profile: 0, lease: Lease::Session, ends: None };
        let joined = match found.map(|(at, route)| (at, route, &route.then)) {
            Some((at, route, RouteAction::Forward(forward))) => self
                .pass_guard(id, (at, route), forward, &view)
                .map_err(Nowhere::from)
                .and_then(|pace| {
                    let to = self.connection_for(&snapshot, id, forward, &view, wanted, &mut place);
                    Ok((to?.0, pace))
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
        if self.logger.is_some() {
            self.log_choice(id, false, name, &view);
        }
        let fault = match &joined {
            Err(Nowhere::Fault(fault)) => Some(*fault),
            _ => None,
        };
        self.show(None, Kind::Oneway, name, place, fault, (&snapshot, &view));
        match joined {
            Ok((up, pace)) => {
                if let Some(upstream) = self.ups.get_mut(up) {
                    upstream.mode = UpMode::Session(id);
                    upstream.draining = true;
                }
                self.count_session(up);
                self.measure_speech(id, None);
                let line = self.take_line(true);
                if let Some(down) = self.downs.get_mut(id) {
                    down.metadata = Some(metadata);
                    down.state = DownState::Session(up);
                    down.fate = None;
                }
                self.pace_session(id, up, pace);
                let route = found.and_then(|(at, _)| snapshot.route_id(at));
                let route = route.unwrap_or(usize::MAX);
                if let Some(track) = self.downs.get(id).map(|down| down.track) {
                    let track = Track { route, ..track };
                    self.joined(id, up, Joined::by(track, Vec::new(), line));
                    self.report_opening(id, Ending::Opened);
                }
                let times = found.map(|(route, _)| times_of(&snapshot, route));
                self.begin_session(id, times.unwrap_or_default());
                true
            }
            Err(Nowhere::Reset) => {
                self.report_now(id, Kind::Oneway, 0, Ending::Reset, Own::default());
                self.reset_down(id);
                false
            }
            Err(nowhere) => {
                let fault = if let Nowhere::Fault(fault) = nowhere { fault } else { Fault::Denied };
                let how = Ending::Failed { fault, cut: false };
                self.report_now(id, Kind::Oneway, 0, how, Own::default());
                self.close_down(id);
                false
            }
        }
    }
}
