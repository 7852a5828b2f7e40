//! What stands before a route's clusters, step by step and in storms.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use polyport_codecs::{Exchange, Fault, Protocol, Slot};
use polyport_router::{Matcher, Predicate, Route, Table};

use super::sim::{Plan, simulate_with, snapshot};
use super::toy::{self, Toy};
use crate::audit::Line;
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Action, Engine, Net, Peer, Written};
use crate::guard::{Access, Guard, Injected, When, Wrong};
use crate::limit::{Limit, Limits, Rate};
use crate::snapshot::{Action as RouteAction, Snapshot};

fn injected(what: Wrong, percent: u32) -> Injected {
    Injected { what, per_million: percent * 10_000, when: None }
}

fn faults(all: impl IntoIterator<Item = Injected>) -> Guard {
    Guard { faults: all.into_iter().collect(), ..Guard::default() }
}

fn delay(ms: u64) -> Wrong {
    Wrong::Delay(Duration::from_millis(ms))
}

/// The one route of everything, with this before it.
fn guarded(protocol: &'static Toy, guard: Guard) -> Snapshot {
    guarding(snapshot(protocol, Plan::calm()), guard)
}

fn guarding(mut snapshot: Snapshot, guard: Guard) -> Snapshot {
    let mut routes: Vec<Route<RouteAction>> = snapshot.routes.routes().to_vec();
    if let RouteAction::Forward(forward) = &mut routes[0].then {
        forward.guard = Some(Arc::new(guard));
    }
    snapshot.routes = Table::compile(routes).into();
    snapshot
}

/// An engine, and what its sockets were given.
struct Bench {
    engine: Engine,
    sockets: Sockets,
    actions: Vec<Action>,
    told: Arc<Mutex<Vec<Line>>>,
}

#[derive(Default)]
struct Sockets(BTreeMap<(bool, usize), Vec<u8>>);

fn place(conn: ConnId) -> (bool, usize) {
    match conn {
        ConnId::Down(id) => (true, id.index()),
        ConnId::Up(id) => (false, id.index()),
    }
}

impl Net for Sockets {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        let taken = self.0.entry(place(conn)).or_default();
        taken.extend_from_slice(first);
        taken.extend_from_slice(second);
        Written::Bytes(first.len() + second.len())
    }
}

impl Bench {
    fn new(snapshot: Snapshot, seed: u64) -> Self {
        let mut engine = Engine::new(Arc::new(snapshot), seed, None);
        let told: Arc<Mutex<Vec<Line>>> = Arc::default();
        let lines = told.clone();
        engine.audit_to(Arc::new(move |line| {
            lines.lock().expect("lines").push(line);
            true
        }));
        Self { engine, sockets: Sockets::default(), actions: Vec::new(), told }
    }

    fn client(&mut self) -> ConnId {
        let address = ([127, 0, 0, 1], 1000).into();
        self.engine.accept(0, Rc::new(Peer::plain(address, address))).expect("room")
    }

    fn ask(&mut self, client: ConnId, id: u64) {
        self.engine.received(client, format!("{id:016x}:x\n").as_bytes(), &mut self.sockets);
        self.turn();
    }

    fn turn(&mut self) {
        self.engine.expire();
        self.engine.flush(&mut self.sockets);
        let mut at = 0;
        while let Some(action) = self.engine.next_action(&mut at) {
            if let Action::Connect(up, _) = action {
                self.engine.connected(up);
            }
            self.actions.push(action);
        }
        self.engine.flush(&mut self.sockets);
    }

    fn time(&mut self, ms: u64) {
        self.engine.tick(ms * 1000);
        self.turn();
    }

    /// What the servers were sent, as text.
    fn served(&self) -> String {
        let all = self.sockets.0.iter().filter(|((down, _), _)| !down);
        all.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    fn heard(&self, client: ConnId) -> String {
        let bytes = self.sockets.0.get(&place(client));
        String::from_utf8_lossy(bytes.map_or(&[][..], |bytes| bytes)).into_owned()
    }

    fn upstream(&self) -> UpId {
        let connect = |action: &Action| match action {
            Action::Connect(up, _) => Some(*up),
            _ => None,
        };
        self.actions.iter().find_map(connect).expect("a connection")
    }
}

#[test]
fn a_delayed_message_goes_when_its_time_has_come_and_holds_up_nobody_else() {
    for protocol in [&toy::CORRELATED, &toy::PIPELINED, &toy::ALONE] {
        let guard = Guard {
            limits: Limits([Limit::new(Rate::new(2, 3_600_000_000, 2))].into()),
            ..faults([injected(delay(20), 100)])
        };
        let mut bench = Bench::new(guarded(protocol, guard), 1);
        let (one, two) = (bench.client(), bench.client());
        bench.time(100);
        bench.ask(one, 1);
        assert_eq!(bench.engine.next_deadline(), 120, "the shell must ring in time");
        bench.time(110);
        bench.ask(two, 2);
        // To be looked at again changes nothing, and takes no second token.
        for ms in 111..120 {
            bench.engine.writable(one);
            bench.time(ms);
            assert_eq!(bench.served(), "", "{} ms", ms - 100);
        }
        bench.time(120);
        // Where later messages may overtake, one that waits does not hold up its connection.
        let overtakes = protocol.exchange() == Exchange::Correlated;
        assert_eq!(bench.engine.wants_read(two), overtakes, "{}", protocol.name);
        assert!(bench.engine.wants_read(one));
        assert_eq!(bench.served().matches(":x").count(), 1, "{}", protocol.name);
        bench.time(130);
        assert_eq!(bench.served().matches(":x").count(), 2, "{}", protocol.name);
        assert_eq!(bench.heard(one) + &bench.heard(two), "");
    }
}

#[test]
fn delayed_calls_of_one_connection_wait_side_by_side() {
    let guard = faults([injected(delay(200), 100)]);
    let mut bench = Bench::new(guarded(&toy::CORRELATED, guard), 1);
    let client = bench.client();
    bench.time(100);
    // As many as may be in flight on one connection.
    for id in 1..=8 {
        bench.ask(client, id);
    }
    bench.time(299);
    assert_eq!(bench.served(), "");
    bench.time(300);
    assert_eq!(bench.served().matches(":x").count(), 8);
    assert_eq!(bench.engine.in_flight(), 8);
    // Who leaves amid the wait is not served.
    let other = bench.client();
    bench.ask(other, 21);
    bench.engine.broken(other);
    bench.time(600);
    assert_eq!(bench.served().matches(":x").count(), 8);
    // What none of the servers answered ends by its own time, which begins after the wait.
    bench.time(10_000);
    assert_eq!(bench.engine.in_flight(), 0);
}

#[test]
fn an_aborted_message_is_answered_and_its_connection_goes_on() {
    let guard = faults([injected(delay(5), 100), injected(Wrong::Abort(Fault::Overloaded), 100)]);
    let mut bench = Bench::new(guarded(&toy::CORRELATED, guard), 1);
    let client = bench.client();
    bench.ask(client, 1);
    bench.ask(client, 2);
    bench.time(4);
    assert_eq!(bench.heard(client), "");
    bench.time(5);
    bench.time(10);
    assert_eq!(bench.heard(client), format!("{:016x}!Overloaded\n{:016x}!Overloaded\n", 1, 2));
    assert_eq!(bench.served(), "");
}

#[test]
fn a_reset_is_one() {
    let guard = faults([injected(Wrong::Reset, 100)]);
    let mut bench = Bench::new(guarded(&toy::ALONE, guard), 1);
    let client = bench.client();
    bench.ask(client, 1);
    assert_eq!(bench.actions, [Action::Reset(client), Action::Close(client)]);
    assert_eq!((bench.heard(client).as_str(), bench.engine.downstreams()), ("", 0));
}

#[test]
fn chance_hits_as_many_as_it_should_and_repeats_from_its_seed() {
    let run = |percent, seed| {
        let guard = faults([injected(Wrong::Abort(Fault::Denied), percent)]);
        let mut bench = Bench::new(guarded(&toy::CORRELATED, guard), seed);
        let client = bench.client();
        for id in 1..=2000 {
            bench.ask(client, id);
            // Whoever was let through is answered, so that nothing piles up.
            let asked: Vec<(usize, Vec<u8>)> = std::mem::take(&mut bench.sockets.0)
                .into_iter()
                .filter_map(|((down, at), bytes)| (!down).then_some((at, bytes)))
                .collect();
            for (at, bytes) in asked {
                let conn = bench.actions.iter().find_map(|action| match action {
                    Action::Connect(up, _) if up.index() == at => Some(ConnId::Up(*up)),
                    _ => None,
                });
                let reply = String::from_utf8_lossy(&bytes).replace(':', "=");
                let conn = conn.expect("a connection");
                bench.engine.received(conn, reply.as_bytes(), &mut bench.sockets);
            }
        }
        bench.engine.counters().faults
    };
    assert_eq!((run(0, 1), run(100, 1)), (0, 2000));
    for seed in 0..5 {
        let hit = run(30, seed);
        // Seven standard deviations.
        assert!((455..=745).contains(&hit), "{hit} of 2000");
        assert_eq!(hit, run(30, seed));
    }
}

#[test]
fn a_capped_body_is_read_at_its_pace() {
    let guard = faults([injected(Wrong::Bandwidth(10_000), 100)]);
    let mut bench = Bench::new(guarded(&toy::CORRELATED, guard), 1);
    let client = bench.client();
    bench.ask(client, 1);
    let up = ConnId::Up(bench.upstream());
    let id = bench.served()[..16].to_owned();
    let (mut now, mut left) = (0, format!("{id}=L20000\n{}", "x".repeat(20_000)));
    let mut turns = 0;
    while !left.is_empty() {
        if let Some(room) = bench.engine.room(up) {
            assert!(room <= 500, "{room} bytes at once");
            let rest = left.split_off(room.min(left.len()));
            bench.engine.received(up, left.as_bytes(), &mut bench.sockets);
            left = rest;
        }
        turns += 1;
        assert!(turns < 10_000, "it never ends");
        now = bench.engine.next_deadline().clamp(now + 1, now + 10);
        bench.time(now);
    }
    assert!((1900..2200).contains(&now), "20,000 bytes at 10,000 a second in {now} ms");
    assert_eq!((bench.heard(client).len(), bench.engine.in_flight()), (20_000 + 24, 0));
    // Another client's exchange has a connection and a pace of its own.
    let other = bench.client();
    bench.ask(other, 2);
    assert_eq!(bench.engine.room(other), Some(usize::MAX), "its request has no body");
}

#[test]
fn storms_with_faults_on_purpose_end_every_request_once() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        let (mut answered, mut failed) = (0, 0);
        for seed in 0..90 {
            let guard = faults([
                injected(delay(7), 20),
                injected(Wrong::Abort(Fault::NoHealthyEndpoint), 10),
                injected(Wrong::Reset, 1),
                injected(Wrong::Bandwidth(200_000), 10),
            ]);
            let plan = match seed % 3 {
                0 => Plan::calm(),
                1 => Plan::stormy(),
                _ => Plan::patched().copied(),
            };
            let world = guarding(snapshot(protocol, plan), guard);
            let report = simulate_with(world, protocol, seed, plan);
            let ended = report.answered + report.errors + report.cut;
            assert_eq!(ended, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            answered += report.answered;
            failed += report.errors;
        }
        assert!(answered > 1000 && failed > 100, "{}: {answered}, {failed}", protocol.name);
    }
}

fn reasons(bench: &Bench) -> Vec<String> {
    let lines = bench.told.lock().expect("lines");
    let text = |line: &Line, key: &str| {
        line.0.get(key).and_then(|value| value.as_str()).unwrap_or("-").to_owned()
    };
    lines.iter().map(|line| format!("{} {}", text(line, "route"), text(line, "reason"))).collect()
}

#[test]
fn every_sort_of_denial_is_told() {
    let only = When {
        predicates: [Predicate { slot: Slot(0), matcher: Matcher::Present }].into(),
        words: String::new(),
        fixed: false,
    };
    let guard = Guard { only: Some(only), ..Guard::default() };
    let mut bench = Bench::new(guarded(&toy::CORRELATED, guard), 1);
    let client = bench.client();
    bench.ask(client, 1);
    assert_eq!(bench.heard(client), format!("{:016x}!Denied\n", 1));
    assert_eq!(reasons(&bench), ["all only"]);

    let limits = Limits([Limit::new(Rate::new(1, 3_600_000_000, 1))].into());
    let mut bench = Bench::new(guarded(&toy::CORRELATED, Guard { limits, ..Guard::default() }), 1);
    let client = bench.client();
    bench.ask(client, 1);
    bench.ask(client, 2);
    assert_eq!(bench.heard(client), format!("{:016x}!Overloaded\n", 2));
    assert_eq!(reasons(&bench), ["all limit: one in 3600s, 1 at once"]);

    let mut denying = snapshot(&toy::CORRELATED, Plan::calm());
    denying.routes = Table::compile(vec![]).into();
    denying.access = Access { deny: true, strict: true, ..Access::default() }.into();
    let mut bench = Bench::new(denying, 1);
    let client = bench.client();
    bench.ask(client, 1);
    assert_eq!(bench.heard(client), format!("{:016x}!Denied\n", 1));
    assert_eq!(reasons(&bench), ["- default"]);
    let line = bench.told.lock().expect("lines")[0].clone();
    for (key, value) in
        [("listener", "edge"), ("source.ip", "127.0.0.1"), ("protocol", "correlated")]
    {
        assert_eq!(line.0[key], value);
    }
}

#[test]
fn a_flood_of_denials_is_counted_and_a_silent_route_says_nothing() {
    let route = Route { name: "no".into(), when: vec![], then: RouteAction::Deny };
    let mut denying = snapshot(&toy::CORRELATED, Plan::calm());
    denying.routes = Table::compile(vec![route]).into();
    let mut bench = Bench::new(denying, 1);
    let client = bench.client();
    bench.time(500);
    for id in 1..=2500 {
        bench.ask(client, id);
    }
    assert_eq!(reasons(&bench).len(), 1000);
    bench.time(1000);
    let lines = bench.told.lock().expect("lines").clone();
    assert_eq!((lines.len(), &lines[1000].0["suppressed"]), (1001, &1500.into()));

    let route = Route { name: "no".into(), when: vec![], then: RouteAction::Deny };
    let mut denying = snapshot(&toy::CORRELATED, Plan::calm());
    denying.routes = Table::compile(vec![route]).into();
    denying.access = Access { silent: [true].into(), ..Access::default() }.into();
    let mut bench = Bench::new(denying, 1);
    let client = bench.client();
    bench.ask(client, 1);
    assert_eq!(bench.heard(client), format!("{:016x}!Denied\n", 1));
    assert_eq!(reasons(&bench).len(), 0);
}
