//! Counting connections and requests: in the worker's own books and, where a cluster has a
//! breaker, in those that all workers share. Every change of a count is here.

use polyport_codecs::Fault;

use super::Engine;
use super::pending::IDLE_LOOK;
use super::state::{UpId, UpMode, UpPhase, Upstream};
use crate::breaker::Breaker;
use crate::snapshot::Snapshot;

impl Upstream {
    /// Requests on it that wait for it to be set up, but for the one that it is set up for.
    pub(super) fn pending(&self) -> usize {
        match self.phase {
            UpPhase::Connecting(_) => self.in_flight.saturating_sub(1),
            UpPhase::Ready => 0,
        }
    }
}

fn breaker_of(snapshot: &Snapshot, cluster: usize) -> Option<&Breaker> {
    snapshot.clusters.get(cluster)?.breaker.as_deref()
}

impl Engine {
    /// Counts a connection to be opened; false where there may be no more.
    pub(super) fn take_connection(&mut self, cluster: usize, endpoint: usize) -> bool {
        let snapshot = self.snapshot.clone();
        if let Some(breaker) = breaker_of(&snapshot, cluster)
            && !breaker.take_connection(endpoint)
        {
            return false;
        }
        if breaker_of(&snapshot, cluster).is_some() {
            // Others may come to wait for it.
            self.look_at_waits(self.now + IDLE_LOOK);
        }
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint)) {
            state.connections += 1;
            self.measure_endpoint(cluster, endpoint, |endpoint| {
                endpoint.connections.iter().for_each(|cell| cell.add(1));
            });
        }
        self.take_descriptor(cluster);
        true
    }

    /// A connection is closed, or not opened.
    pub(super) fn give_connection(&mut self, cluster: usize, endpoint: usize) {
        let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint)) else {
            return;
        };
        if state.connections > 0 {
            state.connections -= 1;
            if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
                breaker.give_connections(endpoint, 1);
            }
            self.measure_endpoint(cluster, endpoint, |endpoint| endpoint.connections[1].sub(1));
            self.give_descriptor(cluster);
        }
        self.freed(cluster, endpoint);
    }

    /// Whether a connection that no endpoint took, and what waits on it, may go to this one.
    pub(super) fn may_move(&self, cluster: usize, endpoint: usize, requests: usize) -> bool {
        breaker_of(&self.snapshot, cluster)
            .and_then(|breaker| breaker.endpoints.get(endpoint))
            .is_none_or(|counts| {
                !counts.connections.is_full() && !counts.requests.lacks_room(requests)
            })
    }

    /// A connection and what waits on it go to another endpoint of the cluster.
    pub(super) fn move_counts(&mut self, cluster: usize, from: usize, to: usize, requests: usize) {
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(to)) {
            state.connections += 1;
            self.measure_endpoint(cluster, to, |endpoint| {
                endpoint.connections.iter().for_each(|cell| cell.add(1));
            });
        }
        self.take_descriptor(cluster);
        if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
            breaker.cluster.connections.add(1);
            if let Some(counts) = breaker.endpoints.get(to) {
                counts.connections.add(1);
            }
        }
        self.add_requests(cluster, to, requests);
        self.give_requests(cluster, from, requests);
        self.give_connection(cluster, from);
    }

    /// Counts so many requests more, which were let in before.
    pub(super) fn add_requests(&mut self, cluster: usize, endpoint: usize, more: usize) {
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint)) {
            state.in_flight += more;
            if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
                breaker.add_requests(endpoint, more);
            }
            self.measure_endpoint(cluster, endpoint, |of| of.requests.add(more as u64));
        }
    }

    /// Counts so many requests less.
    pub(super) fn give_requests(&mut self, cluster: usize, endpoint: usize, less: usize) {
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint)) {
            let less = less.min(state.in_flight);
            state.in_flight -= less;
            if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
                breaker.give_requests(endpoint, less);
            }
            self.measure_endpoint(cluster, endpoint, |of| of.requests.sub(less as u64));
        }
    }

    /// How many requests wait for connections that are being set up for others has changed.
    #[inline]
    pub(super) fn shift_pending(&mut self, cluster: usize, before: usize, after: usize) {
        if before != after {
            self.pending_became(cluster, before, after);
        }
    }

    fn pending_became(&mut self, cluster: usize, before: usize, after: usize) {
        let Some(waits) = self.waits.get_mut(cluster) else { return };
        waits.connecting = (waits.connecting + after).saturating_sub(before);
        if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
            breaker.pending.add(after);
            breaker.pending.give(before);
        }
    }

    /// Whether an endpoint may have one more request, by this worker's bound and by all
    /// workers' together. A look only: [`Engine::count_in`] counts.
    pub(super) fn may_ask(&mut self, cluster_at: usize, endpoint: usize) -> Result<(), Fault> {
        if self.asks_too_much(cluster_at, endpoint) {
            return Err(self.full(cluster_at, "requests"));
        }
        Ok(())
    }

    #[inline]
    fn asks_too_much(&self, cluster_at: usize, endpoint: usize) -> bool {
        let Some(cluster) = self.snapshot.clusters.get(cluster_at) else { return false };
        let state = self.endpoints.get(cluster_at).and_then(|states| states.get(endpoint));
        let many = state.is_some_and(|state| state.in_flight >= cluster.max_requests);
        many || cluster.breaker.as_ref().is_some_and(|breaker| !breaker.may_ask(endpoint))
    }

    /// Counts a request that is about to go to this connection; the caller counts it on the
    /// connection itself. One on a connection `held` for its client is never refused:
    /// half a transaction is worse than one request too many.
    pub(super) fn count_in(&mut self, up: UpId, held: bool) -> Result<(), Fault> {
        let Some(upstream) = self.ups.get(up) else { return Ok(()) };
        let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
        let waits = matches!(upstream.phase, UpPhase::Connecting(_)) && upstream.in_flight > 0;
        if let Some(breaker) = breaker_of(&self.snapshot, cluster) {
            if held {
                breaker.add_requests(endpoint, 1);
            } else if !breaker.take_request(endpoint) {
                return Err(self.full(cluster, "requests"));
            }
            if waits && held {
                breaker.pending.add(1);
            } else if waits && !breaker.pending.take() {
                breaker.give_requests(endpoint, 1);
                return Err(self.full(cluster, "pending"));
            }
        }
        if waits && let Some(waits) = self.waits.get_mut(cluster) {
            waits.connecting += 1;
        }
        if let Some(state) = self.endpoints.get_mut(cluster).and_then(|s| s.get_mut(endpoint)) {
            state.in_flight += 1;
            self.measure_endpoint(cluster, endpoint, |endpoint| endpoint.requests.add(1));
        }
        Ok(())
    }

    /// A request is no longer on this connection; false where the connection is gone, and
    /// all that was on it is counted out.
    pub(super) fn count_out(&mut self, up: UpId) -> bool {
        let Some(upstream) = self.ups.get_mut(up) else { return false };
        let before = upstream.pending();
        upstream.in_flight = upstream.in_flight.saturating_sub(1);
        let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
        let after = upstream.pending();
        let unused = upstream.in_flight == 0 && upstream.mode == UpMode::Shared;
        self.give_requests(cluster, endpoint, 1);
        self.shift_pending(cluster, before, after);
        if unused {
            // It may make room for another one.
            self.freed(cluster, endpoint);
        }
        true
    }

    /// A bound is reached: what the request that met it gets. Its cluster's first
    /// refusal for a while is told.
    pub(super) fn full(&mut self, cluster: usize, what: &'static str) -> Fault {
        self.counters.overloaded += 1;
        self.measure_overflow(cluster, what);
        if let Some(cluster) = self.snapshot.clusters.get(cluster)
            && cluster.breaker.as_ref().is_some_and(|breaker| breaker.refuse(self.now))
        {
            tracing::warn!(cluster = %cluster.name, what, "requests are refused: a bound is reached");
        }
        Fault::Overloaded
    }
}

/// A worker that ends gives back all that it has counted.
impl Drop for Engine {
    fn drop(&mut self) {
        for (cluster, states) in self.endpoints.iter().enumerate() {
            let Some(breaker) = breaker_of(&self.snapshot, cluster) else { continue };
            for (endpoint, state) in states.iter().enumerate() {
                breaker.give_connections(endpoint, state.connections);
                breaker.give_requests(endpoint, state.in_flight);
            }
            if let Some(waits) = self.waits.get(cluster) {
                breaker.pending.give(waits.queued + waits.connecting);
                waits.give_queued(breaker, waits.queued);
            }
        }
    }
}
