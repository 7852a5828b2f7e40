//! Which connection carries a request: the endpoint, then one of its connections.

use std::collections::VecDeque;
use std::net::SocketAddr;

use polyport_codecs::{Exchange, Fault, Lease, Side};
use polyport_router::balance::Pace;

use super::observe::Seen;
use super::pools::Pools;
use super::state::{ConnId, DownId, UpId, UpMode, UpPhase, UpState, Upstream};
use super::{Action, Engine};
use crate::snapshot::{Balance, Target};

/// After a refused connect, an endpoint is passed over for so long (ms), unless all are.
const REST: u64 = 500;

/// What a connection must be good for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// What is spoken; `None` for opaque bytes.
    pub protocol: Option<usize>,
    /// Index into the engine's profiles.
    pub profile: usize,
    /// Shared or alone.
    pub lease: Lease,
    /// What the endpoint was told of the client.
    pub ends: Ends,
}

/// The client's address and the one it connected to, where the endpoint is told.
type Ends = Option<(SocketAddr, SocketAddr)>;

/// What connections of one pool have in common: protocol, profile, client.
pub(super) type PoolKey = (Option<usize>, usize, Ends);

/// What a worker knows of an endpoint.
#[derive(Default)]
pub(super) struct EndpointState {
    pub(super) pools: Pools,
    /// Connections of any sort.
    pub connections: usize,
    /// Requests in flight, for the balance.
    pub in_flight: usize,
    /// Sessions, for the balance.
    pub sessions: usize,
    /// How long it takes, for the balance.
    pub pace: Pace,
    /// Refused a connection; passed over until then, ms.
    pub resting_until: u64,
    /// Whoever waits for a connection of its own, in order.
    pub waiting: VecDeque<DownId>,
}

/// Why a request has no connection.
pub(super) enum NoConnection {
    /// There may be no more of them just now. With several workers that may be so a moment
    /// after there was room: another worker took it.
    Full,
    /// It may have none.
    Fault(Fault),
}

impl From<Fault> for NoConnection {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Connections to one endpoint that speak one protocol and carry one profile.
#[derive(Default)]
pub(super) struct Pool {
    /// One seat a shared connection; a downstream always takes the same seat.
    pub(super) shared: Vec<Option<UpId>>,
    /// Connections that nobody uses, latest used last.
    pub(super) idle: Vec<UpId>,
}

impl Upstream {
    fn pool(&self) -> PoolKey {
        (self.protocol, self.profile, self.ends)
    }
}

impl Pool {
    fn seat(&mut self, seat: usize, up: UpId) {
        if self.shared.len() <= seat {
            self.shared.resize(seat + 1, None);
        }
        if let Some(place) = self.shared.get_mut(seat) {
            *place = Some(up);
        }
    }

    fn remove(&mut self, up: UpId) {
        for seat in &mut self.shared {
            if *seat == Some(up) {
                *seat = None;
            }
        }
        self.idle.retain(|had| *had != up);
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.iter().all(Option::is_none)
    }
}

/// A connection state that some connection has.
#[derive(Default)]
pub(super) struct ProfileState {
    pub profile: polyport_codecs::Profile,
    /// Downstreams that have it.
    pub downs: usize,
    /// Upstream connections that have it.
    pub ups: usize,
}

/// Who has a profile.
#[derive(Clone, Copy)]
pub(super) enum Party {
    Downstream,
    Upstream,
}

impl ProfileState {
    fn count(&mut self, party: Party) -> &mut usize {
        match party {
            Party::Downstream => &mut self.downs,
            Party::Upstream => &mut self.ups,
        }
    }
}

impl Engine {
    /// A connection to `endpoint` that is good for `wanted`, new if need be.
    pub(super) fn connection(
        &mut self,
        down: DownId,
        target: &Target,
        endpoint: usize,
        wanted: Wanted,
    ) -> Result<UpId, NoConnection> {
        self.may_ask(target.cluster, endpoint)?;
        let cluster = self.snapshot.clusters.get(target.cluster).ok_or(Fault::NoHealthyEndpoint)?;
        let any_endpoint = target.set == cluster.set
            && !matches!(cluster.balance, Balance::Hash(_))
            && wanted.lease != Lease::Session;
        let state = self
            .endpoints
            .get_mut(target.cluster)
            .and_then(|states| states.get_mut(endpoint))
            .ok_or(Fault::NoHealthyEndpoint)?;
        let key = (wanted.protocol, wanted.profile, wanted.ends);
        let pool = state.pools.of(key).ok_or(Fault::NoHealthyEndpoint)?;
        if wanted.lease == Lease::Shared {
            // The same downstream keeps to the same connection, so that its
            // requests stay in order.
            let seat = down.index() % cluster.connections.max(1);
            if let Some(up) = pool.shared.get(seat).copied().flatten()
                && let Some(upstream) = self.ups.get_mut(up)
            {
                upstream.any_endpoint &= any_endpoint;
                return Ok(up);
            }
        } else {
            while let Some(up) = pool.idle.pop() {
                if let Some(upstream) = self.ups.get_mut(up) {
                    upstream.mode = UpMode::Leased(down);
                    upstream.any_endpoint = any_endpoint;
                    return Ok(up);
                }
            }
        }
        let breaker = cluster.breaker.as_ref();
        if state.connections >= cluster.max_connections
            || self.pressure.lacks_descriptors(cluster)
            || breaker.is_some_and(|breaker| !breaker.has_room(endpoint))
        {
            // One that waits for another client's next request must go.
            match self.idle_to_close(target.cluster, endpoint) {
                Some(idle) => self.close_up(idle, Fault::UpstreamReset),
                None => return Err(NoConnection::Full),
            }
        }
        self.open(down, target.cluster, endpoint, wanted, any_endpoint)
    }

    pub(super) fn open(
        &mut self,
        down: DownId,
        cluster_at: usize,
        endpoint: usize,
        wanted: Wanted,
        any_endpoint: bool,
    ) -> Result<UpId, NoConnection> {
        let snapshot = self.snapshot.clone();
        let cluster = snapshot.clusters.get(cluster_at).ok_or(Fault::NoHealthyEndpoint)?;
        let address = cluster.endpoints.get(endpoint).ok_or(Fault::NoHealthyEndpoint)?.address;
        if !self.take_connection(cluster_at, endpoint) {
            return Err(NoConnection::Full);
        }
        let shared = wanted.lease == Lease::Shared;
        let seat = down.index() % cluster.connections.max(1);
        let decoder = wanted
            .protocol
            .and_then(|at| snapshot.protocols.get(at))
            .map(|enabled| enabled.framing.decoder(Side::Reply));
        let mut patience = cluster.connect_timeout.as_millis() as u64;
        if cluster.http2 {
            // It may wait for connections that many others wait for, each of which has its time.
            patience *= 5;
        }
        let until = self.now + patience;
        let mut upstream = Upstream {
            cluster: cluster_at,
            endpoint,
            protocol: wanted.protocol,
            ends: wanted.ends,
            profile: wanted.profile,
            mode: if shared { UpMode::Shared } else { UpMode::Leased(down) },
            seat,
            phase: UpPhase::Connecting(until),
            tell_decoder: decoder.as_ref().is_some_and(|decoder| decoder.wants_requests()),
            decoder,
            state: UpState::Idle,
            input: Vec::new(),
            need: 0,
            out: Default::default(),
            blocked: false,
            dirty: false,
            paused: false,
            pace: Default::default(),
            holding_back: Vec::new(),
            ordered: cluster.ordered
                || matches!(self.exchange_of(wanted.protocol), Some(Exchange::Ordered { .. })),
            expected: Default::default(),
            in_flight: 0,
            preamble_left: 0,
            draining: false,
            any_endpoint,
            attempts: 0,
            used: false,
            shut: false,
            eof: false,
            last_active: self.now,
            last_read: self.now,
            blocked_since: 0,
            probed: 0,
            strayed: false,
            unwritten: false,
        };
        if let Some(ProfileState { profile, .. }) = self.profiles.get(wanted.profile)
            && profile.replies > 0
        {
            upstream.preamble_left = profile.replies;
            upstream.out.tail(&mut self.spares).extend_from_slice(&profile.preamble);
        }
        self.counters.connects += 1;
        self.use_profile(wanted.profile, Party::Upstream);
        let up = self.ups.insert(Box::new(upstream));
        if let Some(state) = self.endpoints.get_mut(cluster_at).and_then(|s| s.get_mut(endpoint))
            && shared
            && let Some(pool) = state.pools.of((wanted.protocol, wanted.profile, wanted.ends))
        {
            pool.seat(seat, up);
        }
        self.actions.push(Action::Connect(up, address));
        self.look_by(until);
        Ok(up)
    }

    /// An exchange is over and its connection clean: others may have it.
    pub(super) fn release(&mut self, up: UpId) {
        let Some(upstream) = self.ups.get_mut(up) else { return };
        upstream.used = true;
        let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
        if upstream.draining || self.yields(cluster, endpoint) {
            self.close_up(up, Fault::UpstreamReset);
            return;
        }
        let Some(upstream) = self.ups.get_mut(up) else { return };
        upstream.mode = UpMode::Idle;
        upstream.last_active = self.now;
        // It was not read while a client was slow to take its reply. All of that is in
        // the client's buffer now; the next request must not wait for that client.
        self.let_up(up);
        self.set_pace(ConnId::Up(up), 0);
        let Some(upstream) = self.ups.get(up) else { return };
        let key = upstream.pool();
        let idle_timeout =
            self.snapshot.clusters.get(cluster).map_or(0, |c| c.idle_timeout.as_millis() as u64);
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint))
            && let Some(pool) = state.pools.of(key)
        {
            pool.idle.push(up);
        }
        self.freed(cluster, endpoint);
        self.look_by(self.now + idle_timeout);
    }

    /// Takes a connection out of the pool: no new request will find it.
    pub(super) fn leave_pool(&mut self, up: UpId) {
        let Some(upstream) = self.ups.get(up) else { return };
        let key = upstream.pool();
        if let Some(state) =
            self.endpoints.get_mut(upstream.cluster).and_then(|s| s.get_mut(upstream.endpoint))
            && let Some(pool) = state.pools.get_mut(&key)
        {
            pool.remove(up);
            if pool.is_empty() {
                state.pools.remove(&key);
            }
        }
    }

    /// No new requests on this connection; it closes when those on it have ended.
    pub(super) fn drain_up(&mut self, up: UpId) {
        let Some(upstream) = self.ups.get_mut(up) else { return };
        if matches!(upstream.mode, UpMode::Session(_)) {
            return;
        }
        upstream.draining = true;
        let idle = upstream.in_flight == 0 && !matches!(upstream.mode, UpMode::Leased(_));
        self.leave_pool(up);
        if idle {
            self.close_up(up, Fault::UpstreamReset);
        }
    }

    /// The connection stands: what waits on it can go.
    pub fn connected(&mut self, up: UpId) {
        if let Some(upstream) = self.ups.get_mut(up) {
            let (cluster, before) = (upstream.cluster, upstream.pending());
            upstream.phase = UpPhase::Ready;
            upstream.last_active = self.now;
            upstream.last_read = self.now;
            let heartbeat = self
                .snapshot
                .clusters
                .get(upstream.cluster)
                .map_or(u64::MAX, |c| c.heartbeat.min(c.idle_timeout).as_millis() as u64);
            self.look_by(self.now.saturating_add(heartbeat));
            self.shift_pending(cluster, before, 0);
            self.mark_up(up);
        }
    }

    /// The endpoint refused. Nothing was sent, so another endpoint may have all
    /// that waits; where there is none, each request is answered.
    pub fn connect_failed(&mut self, up: UpId) {
        let snapshot = self.snapshot.clone();
        let Some(upstream) = self.ups.get(up) else { return };
        let (cluster_at, endpoint) = (upstream.cluster, upstream.endpoint);
        self.observe(cluster_at, endpoint, Seen::Refused, 0);
        let Some(upstream) = self.ups.get(up) else { return };
        let Some(cluster) = snapshot.clusters.get(cluster_at) else { return };
        let shared = upstream.mode == UpMode::Shared;
        let again = upstream.any_endpoint
            // Nobody waits for it.
            && upstream.mode != UpMode::Idle
            && upstream.attempts + 1 < cluster.endpoints.len();
        self.changes += 1;
        let states = self.endpoints.get_mut(cluster_at);
        if let Some(state) = states.and_then(|states| states.get_mut(endpoint)) {
            state.resting_until = self.now + REST;
        }
        let waiting = upstream.in_flight;
        let other = if again { self.other_endpoint(cluster_at, endpoint, waiting) } else { None };
        let Some(other) = other else {
            self.close_up(up, Fault::ConnectFailed);
            return;
        };
        self.leave_pool(up);
        let until = self.now + cluster.connect_timeout.as_millis() as u64;
        let Some(upstream) = self.ups.get_mut(up) else { return };
        upstream.endpoint = other;
        upstream.attempts += 1;
        upstream.phase = UpPhase::Connecting(until);
        let (key, in_flight) = (upstream.pool(), upstream.in_flight);
        let seat = upstream.seat;
        self.move_counts(cluster_at, endpoint, other, in_flight);
        if let Some(state) = self.endpoints.get_mut(cluster_at).and_then(|s| s.get_mut(other))
            && shared
            && let Some(pool) = state.pools.of(key)
            && pool.shared.get(seat).copied().flatten().is_none()
        {
            pool.seat(seat, up);
        }
        if let Some(endpoint) = cluster.endpoints.get(other) {
            self.counters.connects += 1;
            self.actions.push(Action::Connect(up, endpoint.address));
        }
        self.look_by(until);
    }

    /// The place of `profile` in the engine's list, where it is put if it is new.
    /// Connection states are few: the search runs only when a client changes its own.
    pub(super) fn profile_index(&mut self, profile: polyport_codecs::Profile) -> usize {
        if let Some(at) = self.profiles.iter().position(|had| had.profile == profile) {
            return at;
        }
        let entry = ProfileState { profile, downs: 0, ups: 0 };
        // The first is the empty one, which is always there.
        let free = self.profiles.iter().skip(1).position(|had| had.downs + had.ups == 0);
        match free.and_then(|at| self.profiles.get_mut(at + 1).map(|place| (at + 1, place))) {
            Some((at, place)) => {
                *place = entry;
                at
            }
            None => {
                self.profiles.push(entry);
                self.profiles.len() - 1
            }
        }
    }

    /// A connection has this profile from now on.
    pub(super) fn use_profile(&mut self, at: usize, party: Party) {
        if let Some(entry) = self.profiles.get_mut(at) {
            *entry.count(party) += 1;
        }
    }

    /// A connection has it no longer. A profile that nobody has is forgotten.
    pub(super) fn drop_profile(&mut self, at: usize, party: Party) {
        if let Some(entry) = self.profiles.get_mut(at) {
            let count = entry.count(party);
            *count = count.saturating_sub(1);
            if entry.downs + entry.ups == 0 && at > 0 {
                entry.profile = polyport_codecs::Profile::default();
            }
        }
    }

    /// How messages pair on this connection; `None` for opaque bytes.
    pub(super) fn exchange_of(&self, protocol: Option<usize>) -> Option<Exchange> {
        Some(self.snapshot.protocols.get(protocol?)?.protocol.exchange())
    }
}
