//! Requests that wait for a connection of their own: where an endpoint has as many as it may
//! have, a request is parked on its client's connection, and the client stands in the
//! endpoint's queue until a connection is given back or closed. One that is free wakes one
//! that waits. A wait ends in one of four ways: with a connection; by its deadline or a
//! drain, answered natively; or with its client. Shared connections are given back by
//! nobody: where there are only those, one of them makes way.
//!
//! Other workers' connections count too where a cluster has a breaker, and no worker can
//! wake another. So one that waits looks again every few ms, and one that holds what others
//! wait for lets go of it now and then.

use std::time::Duration;

use polyport_codecs::{Fault, Head, Lease};

use super::Engine;
use super::pool::{EndpointState, Wanted};
use super::state::{DownId, UpId};
use crate::breaker::Breaker;

/// Those who wait for what other workers hold look again so often (ms).
pub(super) const LOOK: u64 = 10;

/// Idle connections that other workers may be waiting for are looked at so often (ms).
pub(super) const IDLE_LOOK: u64 = 250;

/// Where other workers wait and this one, too, each has its turn for so long (ms).
const YIELD: u64 = 100;

/// A client whose request stands in a queue.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    cluster: usize,
    endpoint: usize,
    /// Which target of its route was drawn for it.
    arm: usize,
    /// Since when, ms.
    since: u64,
    /// Until when, ms.
    deadline: u64,
    /// A connection was promised to it.
    woken: bool,
    /// It waits no longer, and this is why.
    verdict: Option<Fault>,
}

/// What waits for connections to one cluster, in this worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    /// Requests in the endpoints' queues.
    pub(super) queued: usize,
    /// Requests on connections that are being set up for others.
    pub(super) connecting: usize,
    /// Other workers go first until then, ms.
    yields_until: u64,
    /// Until then it is this worker's turn, though others wait too, ms; 0: not yet known.
    turn_until: u64,
}

impl Waits {
    pub(super) fn give_queued(&self, breaker: &Breaker, less: usize) {
        breaker.queued.fetch_sub(less, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether requests wait in other workers.
    fn others_wait(&self, breaker: &Breaker) -> bool {
        breaker.queued.load(std::sync::atomic::Ordering::Relaxed) > self.queued
    }
}

impl EndpointState {
    /// A pooled connection that nobody uses.
    fn idle(&self) -> Option<UpId> {
        self.pools.values().find_map(|pool| pool.idle.first().copied())
    }

    /// The connections that many share.
    fn shared(&self) -> impl Iterator<Item = UpId> {
        self.pools.values().flat_map(|pool| pool.shared.iter().flatten().copied())
    }
}

/// The shared connections of these endpoints, where all that they have are shared, or a
/// session's: then nobody gives one back. As long as there are others, those who need one of
/// their own take turns with them, so that what blocks does not take them all.
fn only_shared(states: &[EndpointState]) -> Option<impl Iterator<Item = UpId>> {
    let others =
        |state: &EndpointState| state.connections > state.sessions + state.shared().count();
    let any = states.iter().any(others);
    (!any).then(|| states.iter().flat_map(EndpointState::shared))
}

impl Engine {
    /// Requests now waiting for a connection.
    pub fn pending(&self) -> usize {
        self.waits.iter().map(|waits| waits.queued + waits.connecting).sum()
    }

    /// Where a request that has waited was to go: the position of its target, and the endpoint.
    /// An error where it waits no longer.
    pub(super) fn waited_for(&mut self, id: DownId) -> Option<Result<(usize, usize), Fault>> {
        let waiting = self.downs.get(id)?.waiting.as_ref()?;
        let place = (waiting.arm, waiting.endpoint);
        match waiting.verdict {
            None => Some(Ok(place)),
            Some(fault) => {
                self.unwait(id);
                Some(Err(fault))
            }
        }
    }

    /// Whether the request must wait, so that there is no use in looking for a connection.
    pub(super) fn must_wait(
        &self,
        id: DownId,
        cluster_at: usize,
        endpoint: usize,
        wanted: &Wanted,
    ) -> bool {
        let Some(state) = self.endpoints.get(cluster_at).and_then(|s| s.get(endpoint)) else {
            return false;
        };
        let room = self.has_room(cluster_at, endpoint);
        // Sessions last: there is little hope in waiting for the end of one.
        if (room && state.waiting.is_empty()) || wanted.lease == Lease::Session {
            return false;
        }
        let Some(cluster) = self.snapshot.clusters.get(cluster_at) else { return false };
        let pool = state.pools.get(&(wanted.protocol, wanted.profile, wanted.ends));
        if wanted.lease == Lease::Shared {
            let seat = id.index() % cluster.connections.max(1);
            if pool.is_some_and(|pool| pool.shared.get(seat).copied().flatten().is_some()) {
                return false;
            }
        }
        let waiting = self.downs.get(id).and_then(|down| down.waiting.as_ref());
        if !state.waiting.is_empty() && !waiting.is_some_and(|waiting| waiting.woken) {
            // Behind those who came before.
            return true;
        }
        let own = wanted.lease != Lease::Shared && pool.is_some_and(|pool| !pool.idle.is_empty());
        !room && !own && self.idle_to_close(cluster_at, endpoint).is_none()
    }

    /// Whether another connection to the endpoint may be opened.
    fn has_room(&self, cluster_at: usize, endpoint: usize) -> bool {
        let (Some(cluster), Some(state)) = (
            self.snapshot.clusters.get(cluster_at),
            self.endpoints.get(cluster_at).and_then(|states| states.get(endpoint)),
        ) else {
            return true;
        };
        state.connections < cluster.max_connections
            && !self.pressure.lacks_descriptors(cluster)
            && cluster.breaker.as_ref().is_none_or(|breaker| {
                breaker.has_room(endpoint)
                    && self.waits.get(cluster_at).is_none_or(|w| w.yields_until <= self.now)
            })
    }

    /// The endpoints whose connections stand in the way of a new one to this one: itself where
    /// it has as many as it may have, else all of its cluster.
    fn in_the_way(&self, cluster_at: usize, endpoint: usize) -> &[EndpointState] {
        let (Some(cluster), Some(states)) =
            (self.snapshot.clusters.get(cluster_at), self.endpoints.get(cluster_at))
        else {
            return &[];
        };
        let Some(own) = states.get(endpoint) else { return &[] };
        let counts = cluster.breaker.as_ref().and_then(|breaker| breaker.endpoints.get(endpoint));
        let full = own.connections >= cluster.max_connections
            || counts.is_some_and(|counts| counts.connections.is_full());
        if full { std::slice::from_ref(own) } else { states }
    }

    /// An idle connection whose end makes room for one to the endpoint.
    pub(super) fn idle_to_close(&self, cluster_at: usize, endpoint: usize) -> Option<UpId> {
        let own = self.endpoints.get(cluster_at)?.get(endpoint)?;
        let states = self.in_the_way(cluster_at, endpoint);
        let unused = |up: &UpId| self.ups.get(*up).is_some_and(|upstream| upstream.in_flight == 0);
        own.idle()
            .or_else(|| states.iter().find_map(EndpointState::idle))
            .or_else(|| only_shared(states)?.find(unused))
    }

    /// Where only connections that are shared and always busy stand in the way of a new one,
    /// one of them takes no more requests.
    fn make_way(&mut self, cluster_at: usize, endpoint: usize) {
        let states = self.in_the_way(cluster_at, endpoint);
        let shared = only_shared(states).and_then(|mut seats| seats.next());
        if let Some(shared) = shared {
            self.drain_up(shared);
        }
    }

    /// Puts the client into the queue, at its end; an error where there are too many.
    pub(super) fn wait(
        &mut self,
        id: DownId,
        cluster_at: usize,
        endpoint: usize,
        arm: usize,
    ) -> Result<(), Fault> {
        let snapshot = self.snapshot.clone();
        if let Some(waiting) = self.downs.get_mut(id).and_then(|down| down.waiting.as_mut()) {
            // It was woken in vain, or by something else.
            waiting.woken = false;
            return Ok(());
        }
        let breaker = snapshot.clusters.get(cluster_at).and_then(|c| c.breaker.as_deref());
        let Some(waits) = self.waits.get_mut(cluster_at) else { return Err(Fault::Overloaded) };
        let may = match breaker {
            Some(breaker) => breaker.pending.take(),
            None => waits.queued < crate::config::PENDING,
        };
        if !may {
            return Err(self.full(cluster_at, "pending"));
        }
        waits.queued += 1;
        if let Some(breaker) = breaker {
            breaker.queued.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.look_at_waits(self.now + LOOK);
        }
        let waiting = Waiting {
            cluster: cluster_at,
            endpoint,
            arm,
            since: self.now,
            deadline: u64::MAX,
            woken: false,
            verdict: None,
        };
        if let Some(down) = self.downs.get_mut(id) {
            down.waiting = Some(Box::new(waiting));
        }
        if let Some(state) = self.endpoints.get_mut(cluster_at).and_then(|s| s.get_mut(endpoint)) {
            state.waiting.push_back(id);
        }
        self.make_way(cluster_at, endpoint);
        Ok(())
    }

    /// How long a request that has begun to wait may do so: no longer than it might take.
    pub(super) fn bound_wait(&mut self, id: DownId, head: &Head, timeout: Option<Duration>) {
        let timeout = timeout.unwrap_or(self.snapshot.timeouts.request).as_millis() as u64;
        let Some(down) = self.downs.get_mut(id) else { return };
        let limit = super::patience::limit(down, head);
        let Some(waiting) = &mut down.waiting else { return };
        waiting.deadline = waiting.since.saturating_add(timeout).min(limit);
        let deadline = waiting.deadline;
        self.look_at_waits(deadline);
    }

    /// The client waits no more and has got nothing: what it was promised is the next one's.
    pub(super) fn unwait(&mut self, id: DownId) {
        if let Some(waiting) = self.leave_queue(id)
            && waiting.woken
        {
            self.freed(waiting.cluster, waiting.endpoint);
        }
    }

    /// The client has got its connection.
    pub(super) fn served(&mut self, id: DownId, lease: Lease) {
        let Some(waiting) = self.leave_queue(id) else { return };
        if let Some(down) = self.downs.get_mut(id) {
            down.waited = self.now.saturating_sub(waiting.since);
        }
        if lease == Lease::Shared {
            // Others may share it.
            self.freed(waiting.cluster, waiting.endpoint);
        }
    }

    fn leave_queue(&mut self, id: DownId) -> Option<Box<Waiting>> {
        let waiting = self.downs.get_mut(id)?.waiting.take()?;
        let states = self.endpoints.get_mut(waiting.cluster);
        if let Some(state) = states.and_then(|states| states.get_mut(waiting.endpoint))
            && let Some(at) = state.waiting.iter().position(|had| *had == id)
        {
            state.waiting.remove(at);
        }
        if let Some(waits) = self.waits.get_mut(waiting.cluster) {
            waits.queued = waits.queued.saturating_sub(1);
            let cluster = self.snapshot.clusters.get(waiting.cluster);
            if let Some(breaker) = cluster.and_then(|cluster| cluster.breaker.as_deref()) {
                breaker.pending.give(1);
                waits.give_queued(breaker, 1);
            }
        }
        Some(waiting)
    }

    /// A connection to the endpoint is idle, or there is room for one: whoever waits longest
    /// may have it.
    pub(super) fn freed(&mut self, cluster_at: usize, endpoint: usize) {
        let Some(waits) = self.waits.get(cluster_at) else { return };
        if waits.queued == 0 || waits.yields_until > self.now {
            return;
        }
        if self.wake_first(cluster_at, endpoint) {
            return;
        }
        let cluster = self.snapshot.clusters.get(cluster_at);
        if cluster.is_none_or(|cluster| cluster.breaker.is_none()) {
            return;
        }
        // The room may be the cluster's, for a connection to any endpoint; what is idle makes room.
        let since = |state: &super::pool::EndpointState| {
            let first = self.downs.get(*state.waiting.front()?)?;
            Some(first.waiting.as_ref()?.since)
        };
        let states = self.endpoints.get(cluster_at).map(Vec::as_slice).unwrap_or_default();
        let longest = (0..states.len())
            .filter_map(|at| Some((since(states.get(at)?)?, at)))
            .filter(|(_, at)| {
                self.has_room(cluster_at, *at) || self.idle_to_close(cluster_at, *at).is_some()
            })
            .min();
        if let Some((_, at)) = longest {
            self.wake_first(cluster_at, at);
        }
    }

    /// Wakes the first who is not awake; false where there is none.
    fn wake_first(&mut self, cluster_at: usize, endpoint: usize) -> bool {
        let Some(state) = self.endpoints.get(cluster_at).and_then(|s| s.get(endpoint)) else {
            return false;
        };
        for id in &state.waiting {
            if let Some(waiting) = self.downs.get_mut(*id).and_then(|down| down.waiting.as_mut())
                && !waiting.woken
            {
                waiting.woken = true;
                let id = *id;
                self.wake_down(id);
                return true;
            }
        }
        false
    }

    /// Whether a connection that an exchange has given back is to be closed, as other
    /// workers have waited for one for long enough.
    pub(super) fn yields(&mut self, cluster_at: usize, endpoint: usize) -> bool {
        let cluster = self.snapshot.clusters.get(cluster_at);
        let Some(breaker) = cluster.and_then(|cluster| cluster.breaker.clone()) else {
            return false;
        };
        let Some(waits) = self.waits.get_mut(cluster_at) else { return false };
        if breaker.has_room(endpoint) {
            return false;
        }
        if waits.others_wait(&breaker) {
            if waits.turn_until == 0 {
                waits.turn_until = self.now + YIELD;
            }
            if waits.turn_until <= self.now || waits.queued == 0 {
                (waits.turn_until, waits.yields_until) = (0, self.now + 2 * LOOK);
                self.look_at_waits(self.now + 2 * LOOK);
                return true;
            }
        }
        self.look_at_waits(self.now + IDLE_LOOK);
        false
    }

    /// Something about waits is to be looked at by then.
    pub(super) fn look_at_waits(&mut self, at: u64) {
        self.earliest_wait = self.earliest_wait.min(at);
    }

    /// Ends waits that are past their deadlines, and looks at what other workers have
    /// given back and what they wait for.
    pub(super) fn expire_queues(&mut self) {
        self.earliest_wait = u64::MAX;
        for cluster_at in 0..self.waits.len() {
            let Some(cluster) = self.snapshot.clusters.get(cluster_at) else { continue };
            let breaker = cluster.breaker.clone();
            let endpoints = cluster.endpoints.len();
            if self.waits.get(cluster_at).is_some_and(|waits| waits.queued > 0) {
                for endpoint in 0..endpoints {
                    self.expire_queue(cluster_at, endpoint);
                    // More than one may have been given back since.
                    let mut more = true;
                    while more && self.room_for_another(cluster_at, endpoint) {
                        more = self.wake_first(cluster_at, endpoint);
                    }
                }
                let next = if breaker.is_some() { LOOK } else { IDLE_LOOK };
                self.look_at_waits(self.now + next);
            }
            if let Some(breaker) = breaker {
                self.hand_on(cluster_at, endpoints, &breaker);
            }
        }
    }

    fn expire_queue(&mut self, cluster_at: usize, endpoint: usize) {
        let Some(state) = self.endpoints.get(cluster_at).and_then(|s| s.get(endpoint)) else {
            return;
        };
        let mut due: Vec<DownId> = Vec::new();
        let mut earliest = u64::MAX;
        for id in &state.waiting {
            match self.downs.get(*id).and_then(|down| down.waiting.as_ref()) {
                Some(waiting) if waiting.deadline <= self.now => due.push(*id),
                Some(waiting) => earliest = earliest.min(waiting.deadline),
                None => {}
            }
        }
        self.look_at_waits(earliest);
        for id in due {
            self.give_up_waiting(id, Fault::Timeout);
        }
    }

    /// The request waits no longer: it is answered with `fault`. False where it did not wait.
    pub(super) fn give_up_waiting(&mut self, id: DownId, fault: Fault) -> bool {
        let Some(waiting) = self.downs.get_mut(id).and_then(|down| down.waiting.as_mut()) else {
            return false;
        };
        waiting.verdict = Some(fault);
        self.wake_down(id);
        true
    }

    /// Whether there is room for one more than those who are awake already.
    fn room_for_another(&self, cluster_at: usize, endpoint: usize) -> bool {
        let (Some(cluster), Some(state)) = (
            self.snapshot.clusters.get(cluster_at),
            self.endpoints.get(cluster_at).and_then(|states| states.get(endpoint)),
        ) else {
            return false;
        };
        let awake = |id: &&DownId| {
            let waiting = self.downs.get(**id).and_then(|down| down.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.woken)
        };
        let awake = state.waiting.iter().take_while(awake).count();
        if awake == 0 && self.idle_to_close(cluster_at, endpoint).is_some() {
            return true;
        }
        let lacks = |gauge: &crate::breaker::Gauge| gauge.lacks_room(awake + 1);
        self.has_room(cluster_at, endpoint)
            && state.connections + awake < cluster.max_connections
            && cluster.breaker.as_ref().is_none_or(|breaker| {
                !lacks(&breaker.cluster.connections)
                    && breaker.endpoints.get(endpoint).is_none_or(|c| !lacks(&c.connections))
            })
    }

    /// Closes an idle connection of each endpoint where other workers wait for it.
    fn hand_on(&mut self, cluster_at: usize, endpoints: usize, breaker: &Breaker) {
        for endpoint in 0..endpoints {
            let Some(state) = self.endpoints.get(cluster_at).and_then(|s| s.get(endpoint)) else {
                continue;
            };
            let shared = || only_shared(std::slice::from_ref(state))?.next();
            let Some(gone) = state.idle().or_else(shared) else { continue };
            let Some(waits) = self.waits.get_mut(cluster_at) else { continue };
            let wanted = waits.queued == 0 && waits.others_wait(breaker);
            if wanted && !breaker.has_room(endpoint) {
                waits.yields_until = self.now + 2 * LOOK;
                // One that others share goes when they have been answered.
                self.drain_up(gone);
            }
            self.look_at_waits(self.now + IDLE_LOOK);
        }
    }
}
