//! Another config while everything goes on.
//!
//! Positions mean the same in both configs ([`crate::carry`]), so what is known of clusters,
//! endpoints and connections stays as it is. Only what depends on the routes or on the keys
//! that they ask for belongs to one config: each connection and each request remembers under
//! which it began (its *generation*). A request keeps to that; a connection moves on with its
//! next message. So the change itself costs nothing per connection or request.

use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::Fault;

use super::Engine;
use super::balance::Chooser;
use super::peer::facts_of;
use super::pool::EndpointState;
use super::state::{DownId, UpId};
use crate::policy::retry::Purse;
use crate::snapshot::{Cluster, Snapshot};

/// A config in use, and how to count its users without atomics.
pub(super) type Config = Rc<Arc<Snapshot>>;

impl Engine {
    /// Goes on with `next`, which was compiled over the config that is in use.
    pub fn reload(&mut self, next: Arc<Snapshot>) {
        let had = std::mem::replace(&mut self.snapshot, Rc::new(next));
        let now = self.snapshot.clone();
        self.past.push((self.generation, had.clone()));
        self.generation = self.generation.wrapping_add(1);
        self.measure_reload();
        for (at, cluster) in now.clusters.iter().enumerate() {
            if self.endpoints.len() <= at {
                self.endpoints.push(Vec::new());
            }
            if let Some(states) = self.endpoints.get_mut(at) {
                let count = states.len().max(cluster.endpoints.len());
                states.resize_with(count, EndpointState::default);
            }
            let budget = had.clusters.get(at).map(|before| before.retry_budget);
            match self.purses.get_mut(at) {
                None => self.purses.push(Purse::new(cluster.retry_budget)),
                Some(purse) if budget != Some(cluster.retry_budget) => {
                    *purse = Purse::new(cluster.retry_budget);
                }
                Some(_) => {}
            }
        }
        self.waits.resize(now.clusters.len(), Default::default());
        self.rebook(&had, &now);
        self.choosers.resize_with(now.sets.len(), Chooser::default);
        for (at, chooser) in self.choosers.iter_mut().enumerate() {
            chooser.renew(same_choice(at, &had, &now));
        }
        self.changes += 1;
        self.recount_descriptors();
        self.vacate(&had, &now);
        self.reopen(&now);
        // Times may have become shorter.
        self.look_by(self.now);
        self.log_anew();
        self.forget_past();
    }

    /// The config under which something began.
    pub(super) fn config_of(&self, generation: u32) -> Config {
        if generation != self.generation
            && let Some((_, past)) = self.past.iter().find(|(had, _)| *had == generation)
        {
            return past.clone();
        }
        self.snapshot.clone()
    }

    /// The config that holds for a connection's current message.
    pub(super) fn config_of_down(&self, id: DownId) -> Config {
        self.config_of(self.downs.get(id).map_or(self.generation, |down| down.generation))
    }

    /// Has a connection go on under the config in use. It is between messages.
    pub(super) fn refresh(&mut self, id: DownId) {
        let snapshot = self.snapshot.clone();
        let generation = self.generation;
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.generation == generation || down.parked_head.is_some() {
            return;
        }
        down.generation = generation;
        down.let_in = None;
        down.need = 0;
        let mut metadata = facts_of(&snapshot, down.listener, &down.peer);
        if let Some(enabled) = down.protocol.and_then(|at| snapshot.protocols.get(at)) {
            if let Some(slot) = snapshot.facts.protocol {
                metadata.keep(slot, enabled.protocol.name().as_bytes());
            }
            if let Some(decoder) = &mut down.decoder
                && !enabled.codec.retarget(&mut **decoder)
            {
                *decoder = enabled.request_decoder(down.stream);
            }
        }
        down.metadata = Some(Box::new(metadata));
    }

    /// Lets go of configs that nothing belongs to any more.
    pub(super) fn forget_past(&mut self) {
        if self.past.is_empty() {
            return;
        }
        let parked = self.downs.iter().map(|(_, down)| down);
        let parked = parked.filter(|down| down.parked_head.is_some()).map(|down| down.generation);
        let used = self.flights.iter().map(|(_, flight)| flight.generation).chain(parked);
        let mut kept = vec![false; self.past.len()];
        for generation in used {
            if let Some(at) = self.past.iter().position(|(had, _)| *had == generation)
                && let Some(kept) = kept.get_mut(at)
            {
                *kept = true;
            }
        }
        let mut kept = kept.into_iter();
        self.past.retain(|_| kept.next().unwrap_or(false));
    }

    /// Counts in new breakers what was counted in those whose place they take.
    fn rebook(&mut self, had: &Snapshot, now: &Snapshot) {
        for (at, cluster) in now.clusters.iter().enumerate() {
            let old = had.clusters.get(at).and_then(|before| before.breaker.as_ref());
            let new = cluster.breaker.as_ref();
            let same = match (old, new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (old, new) => old.is_none() && new.is_none(),
            };
            if same {
                continue;
            }
            let (Some(states), Some(waits)) = (self.endpoints.get(at), self.waits.get(at)) else {
                continue;
            };
            for (endpoint, state) in states.iter().enumerate() {
                if let Some(old) = old {
                    old.give_connections(endpoint, state.connections);
                    old.give_requests(endpoint, state.in_flight);
                }
                if let Some(new) = new {
                    new.add_connections(endpoint, state.connections);
                    new.add_requests(endpoint, state.in_flight);
                }
            }
            let pending = waits.queued + waits.connecting;
            if let Some(old) = old {
                old.pending.give(pending);
                waits.give_queued(old, waits.queued);
            }
            if let Some(new) = new {
                new.pending.add(pending);
                new.queued.fetch_add(waits.queued, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// Ends connections to endpoints that take no more requests, or that were made in a way
    /// that is no longer wanted: each when what is in flight on it is answered. Who waits
    /// for one looks elsewhere.
    fn vacate(&mut self, had: &Snapshot, now: &Snapshot) {
        let fates: Vec<Vec<Fate>> =
            now.clusters.iter().enumerate().map(|(at, c)| fates(had.clusters.get(at), c)).collect();
        if fates.iter().flatten().all(|fate| *fate == Fate::Stays) {
            return;
        }
        let fate = |cluster: usize, endpoint: usize| {
            fates.get(cluster).and_then(|fates| fates.get(endpoint)).copied().unwrap_or(Fate::Stays)
        };
        let mut ups: Vec<(UpId, Fate)> = Vec::new();
        for (id, upstream) in self.ups.iter() {
            let fate = fate(upstream.cluster, upstream.endpoint);
            if fate != Fate::Stays {
                ups.push((id, fate));
            }
        }
        for (up, fate) in ups {
            match fate {
                Fate::Gone => self.close_up(up, Fault::UpstreamReset),
                _ => self.drain_up(up),
            }
        }
        let mut waiting: Vec<DownId> = Vec::new();
        for (cluster, states) in self.endpoints.iter_mut().enumerate() {
            for (endpoint, state) in states.iter_mut().enumerate() {
                match fate(cluster, endpoint) {
                    Fate::Stays | Fate::Renewed => continue,
                    Fate::Leaves => {}
                    Fate::Gone => {
                        state.pace = Default::default();
                        state.resting_until = 0;
                    }
                }
                waiting.extend(state.waiting.iter().copied());
            }
        }
        for down in waiting {
            self.unwait(down);
            self.wake_down(down);
        }
    }

    /// Listeners that are back take connections again; those that are no more are the shell's
    /// to drain.
    fn reopen(&mut self, now: &Snapshot) {
        for (left, listener) in self.left.iter_mut().zip(&now.listeners) {
            if !listener.retired {
                *left = None;
            }
        }
    }
}

/// What becomes of the connections to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Stays,
    /// They are of no more use, but others take their place.
    Renewed,
    /// It takes no more requests.
    Leaves,
    /// Its position is another endpoint's.
    Gone,
}

/// By endpoint.
fn fates(had: Option<&Cluster>, now: &Cluster) -> Vec<Fate> {
    let Some(had) = had else { return Vec::new() };
    let renewed = had.epoch != now.epoch;
    let both = had.endpoints.iter().zip(&now.endpoints);
    both.map(|(before, after)| match () {
        () if before.tenant != after.tenant => Fate::Gone,
        () if before.takes() && !after.takes() => Fate::Leaves,
        () if renewed => Fate::Renewed,
        () => Fate::Stays,
    })
    .collect()
}

/// Whether a set chooses as it did.
fn same_choice(at: usize, had: &Snapshot, now: &Snapshot) -> bool {
    let (Some(before), Some(after)) = (had.sets.get(at), now.sets.get(at)) else { return false };
    let clusters = (had.clusters.get(before.cluster), now.clusters.get(after.cluster));
    let (Some(old), Some(new)) = clusters else { return false };
    before.endpoints == after.endpoints
        && before.fallback == after.fallback
        && old.eligibility == new.eligibility
        && std::mem::discriminant(&old.balance) == std::mem::discriminant(&new.balance)
        && fates(Some(old), new).iter().all(|fate| *fate != Fate::Gone)
}
