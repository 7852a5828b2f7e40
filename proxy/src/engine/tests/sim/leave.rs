//! Connections handed from engine to engine, at random moments, under random traffic.

use super::super::toy;
use super::*;
use crate::engine::{Carried, Heir};

/// An engine and what is connected to it.
struct Side {
    engine: Engine,
    world: World,
}

impl Side {
    fn new(snapshot: &Arc<Snapshot>, seed: u64) -> Self {
        let world = World { clients: Vec::new(), servers: BTreeMap::new() };
        Self { engine: Engine::new(snapshot.clone(), seed, None), world }
    }

    fn step(&mut self, now: u64, rng: &mut SmallRng, report: &mut Report, plan: Plan) {
        self.engine.tick(now * 1000);
        for at in 0..self.world.clients.len() {
            client_step(&mut self.world, at, &mut self.engine, rng, report, plan, 0);
        }
        let ups: Vec<usize> = self.world.servers.keys().copied().collect();
        for up in ups {
            server_step(&mut self.world, up, &mut self.engine, rng, plan);
        }
        self.engine.expire();
        settle(&mut self.engine, &mut self.world);
    }

    /// Whoever leaves goes to `heir`, with what it had; how many did.
    fn hand_to(&mut self, heir: &mut Self) -> usize {
        let mut moved = 0;
        while let Some(gone) = self.engine.next_departing() {
            let at = self.world.clients.iter().position(|client| client.conn == gone.conn);
            let mut client = self.world.clients.swap_remove(at.expect("a client"));
            let facts = Carried { profile: gone.facts.profile.clone(), ..gone.facts };
            client.conn = heir.engine.adopt(&facts).expect("room for it");
            let conn = client.conn;
            heir.world.clients.push(client);
            if !facts.bytes.is_empty() {
                heir.engine.received(conn, &facts.bytes, &mut heir.world);
            }
            settle(&mut heir.engine, &mut heir.world);
            moved += 1;
        }
        moved
    }
}

fn is_done(client: &Client) -> bool {
    client.pipe.peer_closed
        || (client.pipe.closed && client.pipe.to_peer.is_empty())
        || (client.script.is_empty() && client.waiting.is_empty())
}

/// Runs `plan` over engines that follow each other; what came of it, and how many moved.
fn relay(protocol: &'static Toy, seed: u64, plan: Plan) -> (Report, usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let snapshot = Arc::new(snapshot(protocol, plan));
    let mut report = Report::default();
    let mut sides = vec![Side::new(&snapshot, seed)];
    let in_order = protocol.exchange() != polyport_codecs::Exchange::Correlated;
    for client in 0..plan.clients {
        let address = ([127, 0, 0, 1], 1000).into();
        let peer = Rc::new(Peer::plain(address, address));
        let conn = sides[0].engine.accept(0, peer).expect("room");
        let client = new_client(conn, client, in_order, &mut rng, plan);
        sides[0].world.clients.push(client);
    }
    let (mut now, mut moved) = (0, 0);
    for round in 0..200_000 {
        now += rng.random_range(0..4);
        for side in &mut sides {
            side.step(now, &mut rng, &mut report, plan);
        }
        if rng.random_ratio(1, 40) && sides.len() < 6 {
            let last = sides.last_mut().expect("a side");
            last.engine.relinquish(Heir { takes: vec![vec![0]] });
            last.engine.drain(now + 100_000);
            settle(&mut last.engine, &mut last.world);
            let mut next = Side::new(&snapshot, seed + sides.len() as u64);
            next.engine.tick(now * 1000);
            sides.push(next);
        }
        for at in 1..sides.len() {
            let (olds, heirs) = sides.split_at_mut(at);
            moved += olds[at - 1].hand_to(&mut heirs[0]);
        }
        if sides.iter().all(|side| side.world.clients.iter().all(is_done)) {
            break;
        }
        assert!(round < 199_999, "seed {seed}: a request never ended; {report:?}");
    }
    for side in &mut sides {
        report.cut += side.world.clients.iter().map(|client| client.waiting.len()).sum::<usize>();
        side.engine.tick((now + 10_000_000) * 1000);
        side.engine.expire();
        side.engine.flush(&mut side.world);
        assert_eq!(side.engine.in_flight(), 0, "seed {seed}");
    }
    let (last, olds) = sides.split_last().expect("a side");
    assert!(olds.iter().all(|side| side.engine.is_drained()), "seed {seed}: somebody stayed");
    assert!(!last.engine.has_heir());
    (report, moved)
}

static ALL: [&Toy; 4] = [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE];

#[test]
fn what_is_handed_over_loses_nothing_and_is_answered_once() {
    for protocol in ALL {
        let mut moves = 0;
        for seed in 0..100 {
            let (report, moved) = relay(protocol, seed, Plan::calm());
            assert_eq!(report.errors, 0, "{} seed {seed}: {report:?}", protocol.name);
            assert_eq!(report.answered, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            moves += moved;
        }
        assert!(moves > 500, "{}: only {moves} moved", protocol.name);
    }
}

#[test]
fn what_is_handed_over_in_a_storm_ends_exactly_once() {
    for protocol in ALL {
        let mut answered = 0;
        for seed in 0..100 {
            let (report, _) = relay(protocol, seed, Plan::stormy());
            let ended = report.answered + report.errors + report.cut;
            assert_eq!(ended, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            answered += report.answered;
        }
        assert!(answered > 0, "{}", protocol.name);
    }
}
