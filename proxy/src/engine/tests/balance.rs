//! Which endpoint is chosen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Fault, Interest, Metadata, Slot};

use super::sim::{Plan, snapshot};
use super::toy;
use crate::engine::Engine;
use crate::engine::observe::Seen;
use crate::health::Health;
use crate::snapshot::*;

/// A config of one cluster of `count` endpoints.
pub(super) fn config(count: usize, balance: Balance) -> Snapshot {
    let mut all = snapshot(&toy::CORRELATED, Plan::calm());
    let cluster = &mut all.clusters[0];
    let one = cluster.endpoints[0].clone();
    let at = |n: usize| SocketAddr::from(([10, 0, 0, 1], n as u16));
    cluster.endpoints = (0..count)
        .map(|n| Endpoint { address: at(n), host: n.to_string(), ..one.clone() })
        .collect();
    cluster.health = (0..count).map(|_| Health::default()).collect();
    cluster.balance = balance;
    let all_of_them: Vec<usize> = (0..count).collect();
    let cluster = &all.clusters[0];
    let members: Vec<&Endpoint> = cluster.endpoints.iter().collect();
    let table = Some(Arc::new(Set::table(&cluster.balance, &members)));
    all.sets = vec![Set { cluster: 0, endpoints: all_of_them, table, ..Set::default() }];
    if let Action::Forward(forward) = &all.routes.routes()[0].then {
        let mut forward = forward.clone();
        forward.targets = vec![Target { cluster: 0, set: 0 }];
        all.routes = polyport_router::Table::compile(vec![polyport_router::Route {
            name: "all".into(),
            when: vec![],
            then: Action::Forward(forward),
        }])
        .into();
    }
    all
}

/// An engine that is asked for endpoints and nothing else.
struct Asked {
    engine: Engine,
    health: Arc<[Health]>,
    targets: Vec<Target>,
    metadata: Metadata,
}

impl Asked {
    fn new(snapshot: Snapshot) -> Self {
        let health = snapshot.clusters[0].health.clone();
        let sets = snapshot.sets.iter().enumerate();
        let targets = sets.map(|(set, _)| Target { cluster: 0, set }).collect();
        let metadata = Metadata::new(&Interest::of(["key"]));
        let mut engine = Engine::new(Arc::new(snapshot), 1, None);
        engine.tick(1_000_000);
        Self { engine, health, targets, metadata }
    }

    fn of(&mut self, set: usize, avoid: &[usize]) -> Result<usize, Fault> {
        let view = self.metadata.view(b"");
        let config = self.engine.snapshot.clone();
        self.engine.choose_endpoint(&self.targets[set], (&config, &view), Some(0), avoid)
    }

    fn keyed(&mut self, key: &str, avoid: &[usize]) -> Result<usize, Fault> {
        self.metadata.set_text(Slot(0), key.as_bytes());
        let chosen = self.of(0, avoid);
        self.metadata.clear();
        chosen
    }

    fn counts(&mut self, choices: usize) -> Vec<usize> {
        let mut counts = vec![0; self.health.len()];
        for _ in 0..choices {
            counts[self.of(0, &[]).expect("an endpoint")] += 1;
        }
        counts
    }

    fn pass(&mut self, ms: u64) {
        let now = self.engine.now + ms;
        self.engine.tick(now * 1000);
    }
}

fn hash(maglev: bool, bound: Option<u32>) -> Balance {
    Balance::Hash(Hashing { slot: Slot(0), key: "key".into(), maglev, bound })
}

fn every_balance() -> Vec<Balance> {
    vec![
        Balance::Natural,
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Ewma,
        Balance::Random,
        hash(false, None),
        hash(true, Some(125)),
    ]
}

#[test]
fn the_only_endpoint_is_used_whatever_is_known_of_it() {
    for balance in every_balance() {
        let mut asked = Asked::new(config(1, balance));
        asked.engine.endpoints[0][0].resting_until = u64::MAX;
        asked.health[0].checked(false, 0);
        assert_eq!((asked.of(0, &[]), asked.keyed("k", &[0])), (Ok(0), Ok(0)));
    }
    let mut strict = config(1, Balance::RoundRobin);
    strict.clusters[0].eligibility.rules.panic = 0;
    let mut asked = Asked::new(strict);
    assert_eq!(asked.of(0, &[0]), Ok(0));
    asked.health[0].checked(false, 0);
    assert_eq!(asked.of(0, &[]), Err(Fault::NoHealthyEndpoint));
    assert_eq!(asked.of(0, &[0]), Err(Fault::NoHealthyEndpoint));
}

#[test]
fn whom_health_rules_out_is_not_chosen_until_it_is_well() {
    for balance in every_balance() {
        let mut asked = Asked::new(config(4, balance.clone()));
        asked.counts(10);
        asked.health[1].checked(false, 0);
        asked.health[2].eject(1_500);
        asked.pass(1);
        for n in 0..200 {
            let one = [asked.of(0, &[]), asked.keyed(&n.to_string(), &[])];
            assert!(one.iter().all(|at| matches!(at, Ok(0 | 3))), "{balance}: {one:?}");
        }
        asked.pass(1_000);
        let counts = asked.counts(400);
        assert!(counts[1] == 0 && counts[2] > 50, "{balance}: {counts:?}");
    }
}

#[test]
fn nobody_usable_is_an_error_only_without_panic() {
    for balance in every_balance() {
        let mut all = config(3, balance.clone());
        let mut calm = Asked::new(config(3, balance));
        all.clusters[0].eligibility.rules.panic = 0;
        let mut strict = Asked::new(all);
        for asked in [&mut calm, &mut strict] {
            for health in asked.health.iter() {
                health.checked(false, 0);
            }
        }
        assert!(calm.keyed("k", &[]).is_ok() && calm.counts(300).iter().all(|count| *count > 50));
        for avoid in [&[][..], &[0], &[0, 1, 2]] {
            assert_eq!(strict.of(0, avoid), Err(Fault::NoHealthyEndpoint));
            assert_eq!(strict.keyed("k", avoid), Err(Fault::NoHealthyEndpoint));
        }
    }
}

#[test]
fn who_refused_rests_at_once_and_not_for_long() {
    for balance in every_balance() {
        let mut asked = Asked::new(config(2, balance.clone()));
        asked.counts(5);
        // In the same ms as a choice before it.
        asked.engine.endpoints[0][1].resting_until = asked.engine.now + 500;
        asked.engine.changes += 1;
        assert_eq!(asked.counts(50), [50, 0], "{balance}");
        asked.pass(500);
        assert!(asked.counts(50)[1] > 5, "{balance}");
    }
}

#[test]
fn a_retry_goes_to_another_endpoint_as_long_as_there_is_one() {
    for balance in every_balance() {
        let mut asked = Asked::new(config(3, balance.clone()));
        for n in 0..100 {
            let key = n.to_string();
            let first = asked.keyed(&key, &[]).expect("one");
            let second = asked.keyed(&key, &[first]).expect("another");
            let third = asked.keyed(&key, &[first, second]).expect("the last");
            assert!(first != second && third != first && third != second, "{balance}");
            assert!(asked.keyed(&key, &[0, 1, 2]).is_ok(), "{balance}");
            assert!(asked.of(0, &[0, 1, 2]).is_ok(), "{balance}");
            // A retry to one that is ill is worse than one to the same again.
            asked.health[1].checked(n % 2 == 0, 0);
            asked.pass(1);
            let left = asked.of(0, &[0, 2]).expect("one");
            assert_eq!(left == 1, n % 2 == 0, "{balance}");
            asked.health[1].checked(true, 0);
            asked.pass(1);
        }
    }
}

#[test]
fn a_retry_may_leave_its_priority_where_all_of_it_was_tried() {
    let mut all = config(3, Balance::LeastRequest);
    all.clusters[0].endpoints[1].place.priority = 1;
    all.clusters[0].endpoints[2].place.priority = 2;
    let mut asked = Asked::new(all);
    assert_eq!(asked.counts(20), [20, 0, 0]);
    assert_eq!((asked.of(0, &[0]), asked.of(0, &[0, 1])), (Ok(1), Ok(2)));
}

#[test]
fn a_set_without_usable_endpoints_falls_back_where_it_may() {
    let subset = |fallback| {
        let mut all = config(4, hash(false, None));
        let (endpoints, table) = (vec![2, 3], all.sets[0].table.clone());
        let members: Vec<&Endpoint> = all.clusters[0].endpoints[2..].iter().collect();
        let own = Set::table(&all.clusters[0].balance, &members);
        assert!(table.is_some());
        all.sets.push(Set {
            cluster: 0,
            endpoints,
            table: Some(Arc::new(own)),
            fallback,
            ..Set::default()
        });
        Asked::new(all)
    };
    let (mut alone, mut falls) = (subset(None), subset(Some(0)));
    for asked in [&mut alone, &mut falls] {
        assert!((0..20).all(|_| matches!(asked.of(1, &[]), Ok(2 | 3))));
        asked.health[2].checked(false, 0);
        asked.pass(1);
        assert!((0..20).all(|_| asked.of(1, &[]) == Ok(3)));
        asked.health[3].checked(false, 0);
        asked.pass(1);
    }
    assert!((0..20).all(|_| matches!(alone.of(1, &[]), Ok(2 | 3))), "in panic");
    assert!((0..20).all(|_| matches!(falls.of(1, &[]), Ok(0 | 1))));
    falls.health[2].checked(true, 0);
    falls.pass(1);
    assert_eq!(falls.of(1, &[]), Ok(2));
    assert!(matches!(falls.of(1, &[2]), Ok(0 | 1)), "another than before");
}

#[test]
fn who_comes_back_warms_up() {
    let mut all = config(2, Balance::RoundRobin);
    all.clusters[0].eligibility.slow_start = Duration::from_secs(10);
    let mut asked = Asked::new(all);
    assert_eq!(asked.counts(100), [50, 50], "from the start there is nobody warmer");
    let ill = |asked: &mut Asked| {
        asked.health[1].checked(false, asked.engine.now);
        asked.pass(1);
        assert_eq!(asked.counts(100), [100, 0]);
        asked.health[1].checked(true, asked.engine.now);
        asked.pass(1);
    };
    ill(&mut asked);
    for due in [9, 22, 32, 39, 44, 50, 50] {
        let counts = asked.counts(100);
        assert!(counts[1].abs_diff(due) <= 2, "{counts:?}, not {due}");
        asked.pass(2_000);
    }
}

#[test]
fn a_key_stays_and_a_hot_one_overflows_where_loads_are_bounded() {
    for maglev in [false, true] {
        let mut asked = Asked::new(config(4, hash(maglev, None)));
        let home = asked.keyed("hot", &[]).expect("one");
        asked.engine.endpoints[0][home].in_flight = 1000;
        assert!((0..50).all(|_| asked.keyed("hot", &[]) == Ok(home)));

        let mut asked = Asked::new(config(4, hash(maglev, Some(150))));
        for n in 1..=100usize {
            let at = asked.keyed("hot", &[]).expect("one");
            asked.engine.endpoints[0][at].in_flight += 1;
            let most = asked.engine.endpoints[0].iter().map(|state| state.in_flight).max();
            assert!(most.expect("four") <= (n * 150).div_ceil(400), "{n}");
        }
        // Without the key: in turn.
        assert_eq!(asked.counts(40), [10, 10, 10, 10]);
    }
}

#[test]
fn sessions_are_a_load_too() {
    let mut asked = Asked::new(config(2, Balance::LeastRequest));
    asked.engine.endpoints[0][0].sessions = 3;
    assert_eq!(asked.counts(50), [0, 50]);
}

#[test]
fn who_fails_fast_does_not_look_quick() {
    for seen in [Seen::Reset, Seen::Refused, Seen::Timeout] {
        let mut asked = Asked::new(config(2, Balance::Ewma));
        asked.engine.observe(0, 0, Seen::Reply(polyport_codecs::Outcome::Ok), 20_000);
        asked.engine.observe(0, 1, seen, 10);
        assert_eq!(asked.counts(50), [50, 0], "{seen:?}");
    }
    let mut asked = Asked::new(config(2, Balance::Ewma));
    for took in [900, 20_000] {
        asked.engine.observe(0, 0, Seen::Reply(polyport_codecs::Outcome::Ok), took);
        asked.engine.observe(0, 1, Seen::Reply(polyport_codecs::Outcome::Ok), 1_000);
    }
    assert_eq!(asked.counts(50), [0, 50]);
}

#[test]
fn what_is_foretold_of_a_key_is_what_becomes_of_it_while_all_are_well() {
    for balance in every_balance() {
        for layout in 0..4 {
            let mut all = config(6, balance.clone());
            for (at, endpoint) in all.clusters[0].endpoints.iter_mut().enumerate() {
                endpoint.weight = if layout == 1 { at as u32 + 1 } else { 1 };
                endpoint.place.priority = if layout == 2 { (at / 3) as u8 } else { 0 };
                endpoint.place.local = layout == 3 && at % 2 == 0;
            }
            all.clusters[0].eligibility.rules.zoned = layout == 3;
            let members: Vec<&Endpoint> = all.clusters[0].endpoints.iter().collect();
            all.sets[0].table = Some(Arc::new(Set::table(&balance, &members)));
            all.protocols[0].affinity = Some(Slot(0));
            let (set, cluster) = (all.sets[0].clone(), all.clusters[0].clone());
            let eligible = set.when_well(&cluster);
            let mut asked = Asked::new(all);
            for n in 0..100 {
                let key = format!("user:{n}");
                let mut metadata = Metadata::new(&Interest::of(["key"]));
                metadata.set_text(Slot(0), key.as_bytes());
                let value = cluster.balance.value(Some(Slot(0)), &metadata.view(b""));
                let keyed = matches!(balance, Balance::Hash(_) | Balance::Natural);
                assert_eq!(value, keyed.then_some(key.as_bytes()));
                let found = asked.keyed(&key, &[]).expect("an endpoint");
                if let (Some(value), Some(table)) = (value, &set.table) {
                    let home = table.home(polyport_router::hash_key(value), &eligible, |_| false);
                    assert_eq!(home, Some(found), "{balance} {layout} {key}");
                }
                assert!(eligible.contains(found), "{balance} {layout}: {found}");
            }
            // Shares add up to one, and who has none is not eligible.
            let shares: f64 = (0..6).map(|at| eligible.relative(at)).sum();
            assert!((shares - eligible.len() as f64).abs() < 1e-6, "{balance} {layout}");
            let zoned = layout == 3 && !matches!(balance, Balance::Hash(_));
            assert_eq!(eligible.len(), if layout == 2 || zoned { 3 } else { 6 });
        }
    }
}
