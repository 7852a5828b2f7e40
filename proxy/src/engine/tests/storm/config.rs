//! Configs with any of the policies in them, and the weather that they meet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::Fault;
use polyport_router::{Route, Split, Table};
use rand::Rng;
use rand::rngs::SmallRng;

use super::super::sim::{Plan, snapshot};
use super::super::toy::Toy;
use super::change::interest;
use crate::breaker::{Bounds, Breaker};
use crate::guard::{Guard, Injected, Wrong};
use crate::health::Health;
use crate::health::outlier::{Outliers, Rules, SuccessRate};
use crate::limit::{Limit, Limits, Rate};
use crate::policy::mirror::Mirror;
use crate::policy::retry::{Retry, RetryBudget};
use crate::snapshot::{Action as RouteAction, *};

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn chance(rng: &mut SmallRng, percent: u32) -> bool {
    rng.random_ratio(percent, 100)
}

/// What goes wrong around the engine; per mille of steps, or of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) resets: u32,
    pub(super) leaves: u32,
    pub(super) silences: u32,
    pub(super) refusals: u32,
    /// The longest that a server thinks, ms.
    pub(super) thinks: u64,
    pub(super) flaps: u32,
    pub(super) drain_at: Option<usize>,
    /// Another config comes; per mille of rounds.
    pub(super) changes: u32,
    /// Nothing happens that may cost a client its connection.
    pub(super) calm: bool,
    /// All are asked to leave, and have as much time as they like.
    pub(super) manners: bool,
    pub(super) mirrored: bool,
    /// Per mille of rounds in which the process runs out of something, or does no more.
    pub(super) presses: u32,
}

pub(super) fn weather(rng: &mut SmallRng) -> Weather {
    let calm = chance(rng, 40);
    let mut some = |percent, most: u32| if chance(rng, percent) { 1 + most } else { 0 };
    let (resets, leaves, silences) =
        if calm { (0, 0, 0) } else { (some(60, 5), some(40, 3), some(50, 20)) };
    let (refusals, flaps) = (some(50, 100), some(40, 20));
    Weather {
        resets,
        leaves,
        silences,
        refusals,
        thinks: if chance(rng, 50) { 150 } else { 1 },
        flaps,
        drain_at: (!calm && chance(rng, 20)).then(|| rng.random_range(1..400)),
        changes: if chance(rng, 50) { rng.random_range(1..20) } else { 0 },
        calm,
        manners: false,
        mirrored: false,
        presses: if chance(rng, 30) { 50 } else { 0 },
    }
}

/// A config with any of the policies in it.
pub(super) fn config(
    protocol: &'static Toy,
    rng: &mut SmallRng,
    weather: &mut Weather,
) -> Snapshot {
    let mut all = snapshot(protocol, Plan::calm());
    let (interest, port) = interest(rng);
    all.interest = interest;
    all.facts.source_port = Some(port);
    all.buffers.in_flight = if chance(rng, 30) { 2 } else { 8 };
    let first = all.clusters[0].clone();
    all.clusters.clear();
    all.sets.clear();
    let mut subsets = Vec::new();
    for at in 0..rng.random_range(1..=3) {
        let cluster = cluster(&first, at, port, rng, weather);
        let members: Vec<&Endpoint> = cluster.endpoints.iter().collect();
        let endpoints: Vec<usize> = (0..members.len()).collect();
        let table = matches!(cluster.balance, Balance::Hash(_))
            .then(|| Arc::new(Set::table(&cluster.balance, &members)));
        all.sets.push(Set { cluster: at, endpoints, table, asked: true, ..Set::default() });
        let table = matches!(cluster.balance, Balance::Hash(_))
            .then(|| Arc::new(Set::table(&cluster.balance, &members[..1])));
        let fallback = cluster.eligibility.any_subset.then_some(at);
        let labels = cluster.endpoints[0].labels.clone();
        let endpoints = vec![0];
        let keyed = false;
        subsets.push(Set { cluster: at, labels, keyed, endpoints, table, fallback, asked: true });
        all.clusters.push(cluster);
    }
    all.sets.append(&mut subsets);
    let target = |rng: &mut SmallRng| {
        let set = rng.random_range(0..all.sets.len());
        Target { cluster: all.sets[set].cluster, set }
    };
    let targets: Vec<Target> = (0..rng.random_range(1..=3)).map(|_| target(rng)).collect();
    let mirror = chance(rng, 40).then(|| {
        let (share, requests) = (u64::MAX / 2, if chance(rng, 50) { 2 } else { 100 });
        Arc::new(Mirror {
            target: target(rng),
            cluster: "copies".into(),
            share,
            requests,
            buffer: 8 << 10,
        })
    });
    weather.mirrored = mirror.is_some();
    let forward = Forward {
        split: Split::new(targets.iter().map(|_| rng.random_range(1..4))).expect("weights"),
        targets,
        sticky: chance(rng, 30).then_some(port),
        timeout: None,
        times: RouteTimes {
            session: Some(ms(if weather.calm { 600_000 } else { 5_000 })),
            ..RouteTimes::default()
        },
        edits: None,
        guard: chance(rng, 60).then(|| Arc::new(guard(port, rng, weather))),
        retry: chance(rng, 60).then(|| Arc::new(retry(rng))),
        mirror,
    };
    let (name, then) = ("all".into(), RouteAction::Forward(forward));
    all.routes = Table::compile(vec![Route { name, when: vec![], then }]).into();
    let (request, stream) = if weather.calm { (60_000, 120_000) } else { (500, 2_000) };
    (all.timeouts.request, all.timeouts.stream) = (ms(request), ms(stream));
    if weather.calm {
        (all.timeouts.read, all.timeouts.write) = (ms(600_000), ms(600_000));
        all.buffers.out_of_turn = 1 << 20;
    }
    all
}

pub(super) fn cluster(
    like: &Cluster,
    at: usize,
    port: polyport_codecs::Slot,
    rng: &mut SmallRng,
    weather: &Weather,
) -> Cluster {
    let count = rng.random_range(1..=3);
    let hashing = |rng: &mut SmallRng| {
        let bound = chance(rng, 50).then_some(125);
        Balance::Hash(Hashing {
            slot: port,
            key: "source.port".into(),
            maglev: chance(rng, 50),
            bound,
        })
    };
    let balance = match rng.random_range(0..7) {
        0 => Balance::Natural,
        1 => Balance::RoundRobin,
        2 => Balance::LeastRequest,
        3 => Balance::Ewma,
        4 => Balance::Random,
        _ => hashing(rng),
    };
    let endpoints: Vec<Endpoint> = (0..count)
        .map(|n| {
            let address = SocketAddr::from(([10, 0, 0, 1 + at as u8], 1 + n as u16));
            let place = Place { priority: u8::from(chance(rng, 30)), ..Place::default() };
            let label = (n == 0).then(|| ("first".to_owned(), "yes".to_owned()));
            let labels = label.into_iter().collect();
            Endpoint { address, host: n.to_string(), place, labels, ..like.endpoints[0].clone() }
        })
        .collect();
    let mut eligibility = Eligibility::default();
    eligibility.rules.panic = if chance(rng, 50) { 50 } else { 0 };
    eligibility.any_subset = chance(rng, 50);
    eligibility.slow_start = ms(if chance(rng, 30) { 200 } else { 0 });
    let few = |rng: &mut SmallRng, most| chance(rng, 40).then(|| rng.random_range(1..=most));
    let breaker = chance(rng, 40).then(|| {
        let cluster = Bounds { connections: few(rng, 4), requests: few(rng, 6) };
        let endpoint = Bounds { connections: few(rng, 2), requests: few(rng, 4) };
        let pending = if chance(rng, 50) { 2 } else { 100 };
        Arc::new(Breaker::new(cluster, pending, endpoint, count))
    });
    let rules = Rules {
        consecutive: 2,
        success_rate: Some(SuccessRate::Below(50.0)),
        latency: Some(3.0),
        every: ms(100),
        base: ms(50),
        max: ms(400),
        cap: 100,
        min_requests: 3,
        min_endpoints: 2,
    };
    Cluster {
        name: at.to_string(),
        set: at,
        health: (0..count).map(|_| Health::default()).collect(),
        endpoints,
        discover: None,
        balance,
        eligibility,
        connect_timeout: ms(if weather.calm { 60_000 } else { 100 }),
        connections: rng.random_range(1..=2),
        max_connections: if chance(rng, 50) { rng.random_range(1..=3) } else { 100 },
        max_requests: if chance(rng, 20) { 3 } else { 1000 },
        idle_timeout: ms(if chance(rng, 30) { 300 } else { 60_000 }),
        breaker,
        outliers: chance(rng, 40).then(|| Arc::new(Outliers::new(rules, count))),
        retry_budget: RetryBudget { percent: 20, burst: if chance(rng, 50) { 3 } else { 1000 } },
        ..like.clone()
    }
}

pub(super) fn guard(port: polyport_codecs::Slot, rng: &mut SmallRng, weather: &Weather) -> Guard {
    let mut faults = Vec::new();
    let mut add = |rng: &mut SmallRng, percent: u32, what| {
        if chance(rng, 50) {
            faults.push(Injected { what, per_million: percent * 10_000, when: None });
        }
    };
    let time = rng.random_range(1..300);
    add(rng, 20, Wrong::Delay(ms(time)));
    add(rng, 10, Wrong::Abort(Fault::NoHealthyEndpoint));
    let rate = rng.random_range(20_000..200_000);
    add(rng, 20, Wrong::Bandwidth(rate));
    if !weather.calm {
        add(rng, 2, Wrong::Reset);
    }
    let limits: Box<[Limit]> = if chance(rng, 30) {
        let rate = Rate::new(100, 1_000_000, 5);
        [Limit::by(rate, &[("source.port", port)], 16)].into()
    } else {
        [].into()
    };
    Guard { only: None, limits: Limits(limits), faults: faults.into() }
}

pub(super) fn retry(rng: &mut SmallRng) -> Retry {
    Retry {
        attempts: rng.random_range(1..5),
        on: if chance(rng, 70) { u8::MAX } else { 1 },
        per_try: chance(rng, 50).then(|| ms(rng.random_range(20..200))),
        backoff: ms(rng.random_range(0..40)),
        max_backoff: ms(rng.random_range(40..250)),
        buffer: if chance(rng, 50) { 1 << 10 } else { 64 << 10 },
        ..Retry::default()
    }
}
