//! Which endpoint a message goes to.
//!
//! Who may be chosen is worked out by [`polyport_router::balance`] once per change of
//! anyone's health and kept per set of endpoints ([`Chooser`]); at most once a ms is
//! looked whether anything changed. Choosing itself allocates nothing.

use polyport_codecs::{Fault, Outcome, View};
use polyport_router::balance::{Bound, Eligible, Member, Smooth, less_busy};
use polyport_router::hash_key;
use rand::Rng;

use super::Engine;
use super::observe::Seen;
use super::pool::EndpointState;
use super::state::UpId;
use crate::balance::Set;
use crate::snapshot::{Balance, Cluster, Snapshot, Target};

/// What one that fails a request is taken to need for it, µs, at least: an endpoint that
/// is quick to refuse must not look like a quick one.
const FAILED: u64 = 1_000_000;

/// So many endpoints are looked at per ms, to see whether any changed.
const LOOKED_AT: u64 = 256;

/// What a worker knows of a set of endpoints.
#[derive(Default)]
pub(super) struct Chooser {
    /// When its members were last looked at, ms and 1; 0: never.
    looked: u64,
    /// The engine's count of changes then.
    changes: u64,
    members: Vec<Member>,
    eligible: Eligible,
    /// How many of them can be used and did not refuse lately.
    available: usize,
    smooth: Smooth,
}

impl Chooser {
    /// Another config holds. `same`: the same endpoints are chosen among, in the same way.
    pub(super) fn renew(&mut self, same: bool) {
        if same {
            self.looked = self.looked.min(1);
        } else {
            *self = Self::default();
        }
    }

    /// Looks whether anything has changed, not too often, and works out who is eligible.
    fn look(
        &mut self,
        set: &Set,
        cluster: &Cluster,
        states: &[EndpointState],
        changes: u64,
        now: u64,
    ) {
        let pause = set.endpoints.len() as u64 / LOOKED_AT;
        if self.looked > now.saturating_sub(pause) && self.changes == changes {
            return;
        }
        let first = self.looked == 0;
        (self.looked, self.changes) = (now + 1, changes);
        self.members.resize(set.endpoints.len(), Member::default());
        let (mut changed, mut other) = (first, first);
        for (had, at) in self.members.iter_mut().zip(&set.endpoints) {
            let member = member(cluster, states, *at, now);
            changed |= *had != member;
            other |= (had.usable, had.resting) != (member.usable, member.resting);
            *had = member;
        }
        if changed {
            self.available = cluster.rules().apply(&self.members, &mut self.eligible);
        }
        if other {
            self.smooth.reset();
        }
    }

    /// Somebody who may be used although it is not its turn, as all who are eligible
    /// have been tried: of those whose health allows it, the first of the lowest priority.
    fn other(&self, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let others = self.members.iter().enumerate().filter(|(at, member)| {
            member.usable && !member.resting && member.weight > 0 && !skip(*at)
        });
        others.min_by_key(|(_, member)| (member.priority, !member.local)).map(|(at, _)| at)
    }
}

fn member(cluster: &Cluster, states: &[EndpointState], at: usize, now: u64) -> Member {
    let (Some(endpoint), Some(state)) = (cluster.endpoints.get(at), states.get(at)) else {
        return Member { weight: 0, ..Member::default() };
    };
    let health = cluster.health.get(at);
    let usable = health.is_none_or(|health| health.usable(now));
    let window = cluster.eligibility.slow_start.as_millis() as u64;
    let ramp = match health.map_or(0, |health| health.usable_since()) {
        // From the start: there is nobody warmer whom it could be spared by.
        0 => 100,
        _ if window == 0 || !usable => 100,
        since => (now.saturating_sub(since).saturating_mul(90) / window).min(90) as u8 + 10,
    };
    Member { usable, resting: state.resting_until > now, ramp, ..endpoint.member() }
}

impl Engine {
    /// The endpoint of `target` for this message, seen under this config; another than those in `avoid`, where
    /// there is one.
    ///
    /// # Errors
    /// [`Fault::NoHealthyEndpoint`] where nobody may be chosen.
    pub(super) fn choose_endpoint(
        &mut self,
        target: &Target,
        view: (&Snapshot, &View<'_>),
        protocol: Option<usize>,
        avoid: &[usize],
    ) -> Result<usize, Fault> {
        let (config, view) = view;
        let set = self.snapshot.sets.get(target.set).ok_or(Fault::NoHealthyEndpoint)?;
        if set.endpoints.len() == 1 && set.fallback.is_none() {
            // No key makes a difference.
            return self.choose_of(target.set, None, avoid).ok_or(Fault::NoHealthyEndpoint);
        }
        let cluster = config.clusters.get(target.cluster).ok_or(Fault::NoHealthyEndpoint)?;
        let enabled = protocol.and_then(|at| config.protocols.get(at));
        let natural = enabled.and_then(|enabled| enabled.affinity);
        let hash = cluster.balance.value(natural, view).map(hash_key);
        let set = self.snapshot.sets.get(target.set).ok_or(Fault::NoHealthyEndpoint)?;
        if let Some(fallback) = set.fallback {
            self.look_at(target.set);
            let set = self.snapshot.sets.get(target.set).ok_or(Fault::NoHealthyEndpoint)?;
            let chooser = self.choosers.get(target.set).ok_or(Fault::NoHealthyEndpoint)?;
            let mut members = chooser.members.iter().zip(&set.endpoints);
            let left = |(member, at): (&Member, &usize)| {
                member.usable && !member.resting && !avoid.contains(at)
            };
            if chooser.available == 0 || !avoid.is_empty() && !members.any(left) {
                return self.choose_of(fallback, hash, avoid).ok_or(Fault::NoHealthyEndpoint);
            }
        }
        self.choose_of(target.set, hash, avoid).ok_or(Fault::NoHealthyEndpoint)
    }

    /// Another endpoint of the cluster than `but`, for what it refused to take, that
    /// has room for one more connection and for so many more requests.
    pub(super) fn other_endpoint(
        &mut self,
        cluster: usize,
        but: usize,
        waiting: usize,
    ) -> Option<usize> {
        let snapshot = self.snapshot.clone();
        let most = snapshot.clusters.get(cluster)?.max_connections;
        let set = snapshot.clusters.get(cluster)?.set;
        let first = self.choose_of(set, None, &[but])?;
        let states = self.endpoints.get(cluster)?;
        let takes = |at: &usize| {
            let state = states.get(*at).filter(|_| *at != but);
            state.is_some_and(|s| s.resting_until <= self.now && s.connections < most)
                && self.may_move(cluster, *at, waiting)
        };
        let eligible = self.choosers.get(set)?.eligible.members();
        Some(first).into_iter().chain(eligible).find(takes)
    }

    fn look_at(&mut self, set_at: usize) -> Option<()> {
        let set = self.snapshot.sets.get(set_at)?;
        let cluster = self.snapshot.clusters.get(set.cluster)?;
        let states = self.endpoints.get(set.cluster)?;
        self.choosers.get_mut(set_at)?.look(set, cluster, states, self.changes, self.now);
        Some(())
    }

    /// The endpoint of a set for a message whose key has this hash, if it has one.
    fn choose_of(&mut self, set_at: usize, hash: Option<u64>, avoid: &[usize]) -> Option<usize> {
        let set = self.snapshot.sets.get(set_at)?;
        let cluster = self.snapshot.clusters.get(set.cluster)?;
        if let ([only], None) = (&set.endpoints[..], set.fallback) {
            // Alone, it is tried again at once: there is nothing better to do, unless a
            // check has told. Panic saves the few from being crushed, and here are none.
            let told = cluster.checks.is_some() || cluster.eligibility.rules.panic == 0;
            let usable = cluster.health.get(*only).is_none_or(|health| health.usable(self.now));
            return (usable || !told).then_some(*only);
        }
        self.look_at(set_at)?;
        let set = self.snapshot.sets.get(set_at)?;
        let cluster = self.snapshot.clusters.get(set.cluster)?;
        let states = self.endpoints.get(set.cluster)?;
        let chooser = self.choosers.get_mut(set_at)?;
        let skip = |at: usize| {
            !avoid.is_empty() && set.endpoints.get(at).is_some_and(|at| avoid.contains(at))
        };
        if !avoid.is_empty() && chooser.eligible.members().all(skip) {
            if let Some(at) = chooser.other(skip) {
                return set.endpoints.get(at).copied();
            }
            // Those tried before are better than nobody.
            return self.choose_of(set_at, hash, &[]);
        }
        let Chooser { eligible, smooth, .. } = chooser;
        let state = |at: usize| set.endpoints.get(at).and_then(|at| states.get(*at));
        let load = |at: usize| state(at).map_or(usize::MAX, EndpointState::load);
        let (rng, now) = (&mut self.rng, self.micros);
        let at = match (&cluster.balance, hash, &set.table) {
            (balance, Some(hash), Some(table)) => {
                let level = eligible.level_of(hash);
                let fits = |at: usize| eligible.on_level(at, level) && !skip(at);
                let bound = match balance {
                    Balance::Hash(hashing) => hashing.bound,
                    _ => None,
                };
                let own = table.home(hash, eligible, skip)?;
                match bound {
                    Some(bound) if load(own) > 0 => {
                        let (mut all, mut shares) = (0, 0.0);
                        for at in eligible.members().filter(|at| fits(*at)) {
                            all += load(at);
                            shares += eligible.relative(at);
                        }
                        let bound = Bound::new(bound, all, shares);
                        let room = |at: usize| bound.has_room(load(at), eligible.relative(at));
                        table.find(hash, |at| fits(at) && room(at)).unwrap_or(own)
                    }
                    _ => own,
                }
            }
            (Balance::Random, ..) => eligible.draw(rng.random(), skip)?,
            (Balance::LeastRequest, ..) => {
                let cost = |at: usize| load(at) as f64 / eligible.relative(at);
                less_busy(eligible, rng.random(), rng.random(), skip, cost)?
            }
            (Balance::Ewma, ..) => {
                let cost = |at: usize| {
                    let share = eligible.relative(at);
                    state(at).map_or(f64::MAX, |state| state.pace.cost(now, state.load(), share))
                };
                less_busy(eligible, rng.random(), rng.random(), skip, cost)?
            }
            (Balance::Natural | Balance::RoundRobin | Balance::Hash(_), ..) => {
                smooth.turn(eligible, skip)?
            }
        };
        set.endpoints.get(at).copied()
    }

    /// An upstream connection has become a session's, which is a load for as long as it lasts.
    pub(super) fn count_session(&mut self, up: UpId) {
        let Some(upstream) = self.ups.get(up) else { return };
        let states = self.endpoints.get_mut(upstream.cluster);
        if let Some(state) = states.and_then(|states| states.get_mut(upstream.endpoint)) {
            state.sessions += 1;
            let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
            self.measure_endpoint(cluster, endpoint, |endpoint| endpoint.sessions.add(1));
        }
    }

    /// Remembers how long an endpoint takes, where its cluster chooses by that.
    pub(super) fn pace(&mut self, cluster: usize, endpoint: usize, seen: Seen, took: u64) {
        let chosen_by = self.snapshot.clusters.get(cluster).map(|cluster| &cluster.balance);
        if chosen_by != Some(&Balance::Ewma) {
            return;
        }
        let took = match seen {
            Seen::Reply(Outcome::Ok | Outcome::AppError | Outcome::ServerError) => took,
            Seen::Reply(Outcome::Unavailable | Outcome::Overloaded | Outcome::Timeout)
            | Seen::Reset
            | Seen::Timeout
            | Seen::Refused => took.max(FAILED),
        };
        let states = self.endpoints.get_mut(cluster);
        if let Some(state) = states.and_then(|states| states.get_mut(endpoint)) {
            state.pace.observe(self.micros, took);
        }
    }
}

impl EndpointState {
    /// What it is doing for this worker: requests in flight, and sessions.
    fn load(&self) -> usize {
        self.in_flight + self.sessions
    }
}
