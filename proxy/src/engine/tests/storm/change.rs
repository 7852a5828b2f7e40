//! Another config in the midst of it all.

use std::collections::BTreeMap;
use std::sync::Arc;

use polyport_codecs::{Interest, Slot};
use polyport_router::{Route, Table};
use rand::Rng;
use rand::rngs::SmallRng;

use super::super::toy::Toy;
use super::config::{Weather, chance, config};
use crate::carry;
use crate::control::{with_drained, with_endpoints};
use crate::snapshot::{Action as RouteAction, *};

/// What an operator, a reload or a source of endpoints makes of `current`.
pub(super) fn change(
    current: &Snapshot,
    protocol: &'static Toy,
    rng: &mut SmallRng,
    weather: &mut Weather,
) -> Snapshot {
    let next = match rng.random_range(0..3) {
        0 => drained(current, rng),
        1 => endpoints(current, rng),
        _ => Some(config_over(current, protocol, rng, weather)),
    };
    let next = next.unwrap_or_else(|| current.clone());
    for cluster in &next.clusters {
        for (endpoint, health) in cluster.endpoints.iter().zip(cluster.health.iter()) {
            health.set_away(!endpoint.takes());
        }
    }
    next
}

fn live(current: &Snapshot, rng: &mut SmallRng) -> Option<usize> {
    let live: Vec<usize> =
        (0..current.clusters.len()).filter(|at| !current.clusters[*at].retired).collect();
    Some(live[rng.random_range(0..live.len())])
}

/// Takes an endpoint out, or back in; never the last one.
fn drained(current: &Snapshot, rng: &mut SmallRng) -> Option<Snapshot> {
    let cluster = &current.clusters[live(current, rng)?];
    let here: Vec<&Endpoint> = cluster.endpoints.iter().filter(|one| !one.retired).collect();
    let one = here[rng.random_range(0..here.len())];
    let left = here.iter().filter(|other| other.takes() && other.address != one.address).count();
    if !one.drained && left == 0 {
        return None;
    }
    with_drained(current, &cluster.name, one.address, !one.drained).ok()
}

/// Other endpoints: some stay, some go, some are new; some come back.
fn endpoints(current: &Snapshot, rng: &mut SmallRng) -> Option<Snapshot> {
    let cluster = &current.clusters[live(current, rng)?];
    let mut found: Vec<Endpoint> =
        cluster.endpoints.iter().filter(|_| chance(rng, 60)).cloned().collect();
    let new = Endpoint {
        address: ([10, 0, 9, 9], rng.random_range(1..200)).into(),
        labels: BTreeMap::new(),
        ..cluster.endpoints[0].clone()
    };
    if found.iter().all(|one| one.drained) || chance(rng, 30) {
        found.push(new);
    }
    for endpoint in &mut found {
        (endpoint.retired, endpoint.drained) = (false, false);
    }
    with_endpoints(current, &cluster.name, found).ok()
}

/// A config drawn anew, laid over the one in use as the compiler does it; the keys have
/// other slots.
fn config_over(
    current: &Snapshot,
    protocol: &'static Toy,
    rng: &mut SmallRng,
    weather: &mut Weather,
) -> Snapshot {
    let mirrored = weather.mirrored;
    let mut next = config(protocol, rng, weather);
    weather.mirrored |= mirrored;
    let found = std::mem::take(&mut next.clusters);
    let mut clusters: Vec<Cluster> = current.clusters.iter().map(carry::retired).collect();
    for new in found {
        match current.clusters.iter().position(|had| had.name == new.name) {
            Some(at) => {
                let same = chance(rng, 80);
                clusters[at] = carry::cluster(&current.clusters[at], new, |_| same);
            }
            None => clusters.push(new),
        }
    }
    let mut sets = current.sets.clone();
    let mut find = |set: &Set| {
        let known = |had: &Set| had.cluster == set.cluster && had.labels == set.labels;
        sets.iter().position(known).unwrap_or_else(|| {
            sets.push(set.clone());
            sets.len() - 1
        })
    };
    let places: Vec<usize> = next.sets.iter().map(&mut find).collect();
    for (at, cluster) in clusters.iter_mut().enumerate() {
        let whole = Set { cluster: at, ..Set::default() };
        cluster.set = find(&whole);
    }
    for (new, at) in next.sets.iter().zip(&places) {
        sets[*at].fallback = new.fallback.map(|whole| places[whole]);
    }
    for set in &mut sets {
        set.asked = true;
        let before = None;
        set.fill(&clusters[set.cluster], before);
    }
    let routes = next.routes.routes().iter().map(|route| {
        let mut then = route.then.clone();
        if let RouteAction::Forward(forward) = &mut then {
            for target in &mut forward.targets {
                target.set = places[target.set];
            }
            if let Some(mirror) = &mut forward.mirror {
                let mut moved = (**mirror).clone();
                moved.target.set = places[moved.target.set];
                *mirror = Arc::new(moved);
            }
        }
        Route { name: route.name.clone(), when: Vec::new(), then }
    });
    next.routes = Table::compile(routes.collect()).into();
    (next.clusters, next.sets) = (clusters, sets);
    next
}

/// The keys of a config, in an order of its own.
pub(super) fn interest(rng: &mut SmallRng) -> (Interest, Slot) {
    let others = ["other", "more"];
    let mut interest = Interest::of(&others[..rng.random_range(0..=others.len())]);
    let port = interest.add("source.port");
    (interest, port)
}
