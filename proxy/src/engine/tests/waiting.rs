//! Requests that wait for connections, step by step, in one worker and in two.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::sim::{Plan, snapshot};
use super::toy::{self, Toy};
use crate::breaker::{Bounds, Breaker};
use crate::engine::state::{ConnId, DownId, UpId};
use crate::engine::{Action, Engine, Net, Peer, Written};
use crate::snapshot::Snapshot;

#[derive(Default)]
pub(super) struct Wires {
    downs: BTreeMap<usize, String>,
    pub(super) ups: BTreeMap<usize, String>,
}

impl Net for Wires {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        let wire = match conn {
            ConnId::Down(id) => self.downs.entry(id.index()).or_default(),
            ConnId::Up(id) => self.ups.entry(id.index()).or_default(),
        };
        for piece in [first, second] {
            wire.push_str(std::str::from_utf8(piece).expect("text"));
        }
        Written::Bytes(first.len() + second.len())
    }
}

/// A worker, its clients and its servers.
pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) net: Wires,
    pub(super) ups: Vec<UpId>,
    pub(super) closed: Vec<ConnId>,
    pub(super) now: u64,
}

impl Worker {
    pub(super) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let engine = Engine::new(snapshot.clone(), 1, None);
        Self { engine, net: Wires::default(), ups: Vec::new(), closed: Vec::new(), now: 0 }
    }

    /// A client that says this.
    pub(super) fn ask(&mut self, text: &str) -> ConnId {
        let peer = Peer::plain(([127, 0, 0, 1], 1000).into(), ([127, 0, 0, 1], 1).into());
        let client = self.engine.accept(0, Rc::new(peer)).expect("room");
        self.say(client, text);
        client
    }

    pub(super) fn say(&mut self, conn: ConnId, text: &str) {
        self.engine.received(conn, text.as_bytes(), &mut self.net);
        self.turn();
    }

    /// Does all there is to do; connections come about at once.
    pub(super) fn turn(&mut self) {
        loop {
            self.engine.flush(&mut self.net);
            let (mut at, mut any) = (0, false);
            while let Some(action) = self.engine.next_action(&mut at) {
                any = true;
                match action {
                    Action::Connect(up, _) => {
                        // The place of one that is closed may be taken again.
                        self.net.ups.remove(&up.index());
                        self.ups.push(up);
                        self.engine.connected(up);
                    }
                    Action::Close(conn) => self.closed.push(conn),
                    Action::Shut(_) | Action::Reset(_) | Action::Read(_) => {}
                }
            }
            if !any && !self.engine.has_work() {
                return;
            }
        }
    }

    /// Lets so many ms go by, and does what is due.
    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            self.engine.tick(self.now * 1000);
            if self.engine.next_deadline() <= self.now {
                self.engine.expire();
                self.turn();
            }
        }
    }

    /// All clients are to leave, and those who did not hear have had their time.
    pub(super) fn call_last(&mut self) {
        self.engine.drain(self.now + 10_000);
        let downs: Vec<DownId> = self.engine.downs.iter().map(|(id, _)| id).collect();
        for id in downs {
            let down = self.engine.downs.get_mut(id).expect("a client");
            if let Some(leaving) = &mut down.leaving {
                leaving.last_call = self.now;
            }
        }
        self.engine.earliest_leave = self.now;
        self.engine.expire_leaving();
        self.turn();
    }

    /// What the server on the so-many-th connection that was ever opened has heard.
    pub(super) fn heard(&mut self, nth: usize) -> String {
        self.net.ups.remove(&self.ups[nth].index()).unwrap_or_default()
    }

    /// What the client has got.
    pub(super) fn got(&mut self, conn: ConnId) -> String {
        let ConnId::Down(id) = conn else { return String::new() };
        self.net.downs.remove(&id.index()).unwrap_or_default()
    }

    /// The server on that connection answers the request of this id.
    pub(super) fn answer(&mut self, nth: usize, id: u64) {
        self.say(ConnId::Up(self.ups[nth]), &format!("{id:016x}=\n"));
    }
}

pub(super) fn line(id: u64) -> String {
    format!("{id:016x}:\n")
}

pub(super) fn one_connection(protocol: &'static Toy) -> Snapshot {
    let mut snapshot = snapshot(protocol, Plan::calm());
    snapshot.clusters[0].max_connections = 1;
    snapshot.clusters[0].endpoints.truncate(1);
    snapshot.clusters[0].health = [Default::default()].into();
    snapshot.sets[0].endpoints = vec![0];
    let crate::snapshot::Action::Forward(forward) = snapshot.routes.routes()[0].then.clone() else {
        panic!("a route that forwards")
    };
    let forward = forward;
    snapshot.routes = polyport_router::Table::compile(vec![polyport_router::Route {
        name: "all".into(),
        when: vec![],
        then: crate::snapshot::Action::Forward(forward),
    }])
    .into();
    snapshot
}

pub(super) fn alone() -> Worker {
    Worker::new(&Arc::new(one_connection(&toy::ALONE)))
}

fn with_breaker(cluster: Bounds, pending: usize) -> (Arc<Snapshot>, Arc<Breaker>) {
    let mut snapshot = one_connection(&toy::ALONE);
    snapshot.clusters[0].max_connections = 100;
    let breaker = Arc::new(Breaker::new(cluster, pending, Bounds::default(), 1));
    snapshot.clusters[0].breaker = Some(breaker.clone());
    (Arc::new(snapshot), breaker)
}

#[test]
fn those_who_wait_get_the_connection_one_after_the_other_in_their_order() {
    let mut worker = alone();
    let clients: Vec<ConnId> = (0..5).map(|id| worker.ask(&line(id))).collect();
    assert_eq!((worker.engine.pending(), worker.ups.len()), (4, 1));
    for id in 0..5 {
        assert_eq!(worker.heard(0), line(id), "one alone, and the next one in turn");
        worker.answer(0, id);
        assert_eq!(worker.got(clients[id as usize]), format!("{id:016x}=\n"));
    }
    assert_eq!((worker.engine.pending(), worker.ups.len()), (0, 1));
}

#[test]
fn who_comes_while_others_wait_stands_behind_them() {
    let mut worker = alone();
    worker.ask(&line(0));
    worker.ask(&line(1));
    // The reply and the newcomer are read in one turn.
    let reply = format!("{:016x}=\n", 0);
    worker.engine.received(ConnId::Up(worker.ups[0]), reply.as_bytes(), &mut worker.net);
    worker.heard(0);
    worker.ask(&line(2));
    assert_eq!(worker.heard(0), line(1));
    worker.answer(0, 1);
    assert_eq!(worker.heard(0), line(2));
}

#[test]
fn who_has_left_is_passed_over_and_a_promise_to_it_is_the_next_ones() {
    let mut worker = alone();
    let clients: Vec<ConnId> = (0..4).map(|id| worker.ask(&line(id))).collect();
    worker.engine.broken(clients[1]);
    assert_eq!(worker.engine.pending(), 2);
    // The second is woken, and is gone before it is looked at.
    let reply = format!("{:016x}=\n", 0);
    worker.engine.received(ConnId::Up(worker.ups[0]), reply.as_bytes(), &mut worker.net);
    worker.engine.broken(clients[2]);
    worker.heard(0);
    worker.turn();
    assert_eq!((worker.heard(0), worker.engine.pending()), (line(3), 0));
}

#[test]
fn a_connection_that_ends_makes_room_for_one_that_waits() {
    let mut worker = alone();
    let first = worker.ask(&line(0));
    worker.ask(&line(1));
    worker.engine.broken(ConnId::Up(worker.ups[0]));
    worker.turn();
    assert_eq!(worker.got(first), format!("{:016x}!UpstreamReset\n", 0));
    assert_eq!((worker.ups.len(), worker.heard(1)), (2, line(1)));
}

#[test]
fn a_wait_ends_by_the_requests_timeout_and_counts_towards_it() {
    let mut worker = alone();
    let first = worker.ask(&line(0));
    worker.pass(1_500);
    let second = worker.ask(&line(1));
    // The first has its two seconds, the second has waited for half a second then.
    worker.pass(600);
    assert_eq!(worker.got(first), format!("{:016x}!Timeout\n", 0));
    assert_eq!((worker.ups.len(), worker.heard(1)), (2, line(1)));
    worker.pass(1_350);
    assert_eq!(worker.got(second), "");
    worker.pass(100);
    assert_eq!(worker.got(second), format!("{:016x}!Timeout\n", 1));
    // One that never gets a connection is answered, too.
    worker.ask(&line(2));
    worker.pass(1);
    let waiting = worker.ask(&line(3));
    let (ups, _) = (worker.ups.len(), worker.pass(1_990));
    assert_eq!((worker.got(waiting), worker.ups.len()), (String::new(), ups));
    worker.engine.broken(waiting);
    assert_eq!(worker.engine.pending(), 0);
}

#[test]
fn a_client_that_waits_for_less_is_told_when_its_time_is_over() {
    let mut worker = alone();
    worker.ask(&line(0));
    let hasty = worker.ask(&format!("{:016x}:T100\n", 1));
    let patient = worker.ask(&format!("{:016x}:T5000\n", 2));
    worker.pass(110);
    assert_eq!(worker.got(hasty), format!("{:016x}!Timeout\n", 1));
    worker.heard(0);
    worker.answer(0, 0);
    // Two seconds are the route's, a tenth of a second is spent.
    assert_eq!(worker.heard(0), format!("{:016x}:T1890\n", 2));
    worker.pass(1_880);
    assert_eq!(worker.got(patient), "");
    worker.pass(20);
    assert_eq!(worker.got(patient), format!("{:016x}!Timeout\n", 2));
}

#[test]
fn what_is_behind_a_request_that_waits_waits_too_and_is_answered_after_it() {
    let mut worker = alone();
    worker.ask(&line(0));
    let client = worker.ask(&(line(1) + &line(2)));
    worker.heard(0);
    worker.answer(0, 0);
    worker.answer(0, 1);
    worker.answer(0, 2);
    assert_eq!(worker.got(client), format!("{:016x}=\n{:016x}=\n", 1, 2));
}

#[test]
fn no_more_may_wait_than_are_pending_at_most() {
    for (pending, refused) in [(0, 1), (2, 3)] {
        let bounds = Bounds { connections: Some(1), requests: None };
        let (snapshot, breaker) = with_breaker(bounds, pending);
        let mut worker = Worker::new(&snapshot);
        for id in 0..refused {
            let client = worker.ask(&line(id));
            assert_eq!(worker.got(client), "");
        }
        let client = worker.ask(&line(refused));
        assert_eq!(worker.got(client), format!("{refused:016x}!Overloaded\n"));
        assert_eq!(worker.engine.counters().overloaded, 1);
        assert_eq!(breaker.pending.count(), pending);
        drop(worker);
        assert_eq!((breaker.pending.count(), breaker.cluster.connections.count()), (0, 0));
    }
}

#[test]
fn who_joins_a_connection_that_is_being_set_up_is_pending() {
    let mut snapshot = one_connection(&toy::CORRELATED);
    snapshot.clusters[0].connections = 1;
    let breaker = Arc::new(Breaker::new(Bounds::default(), 2, Bounds::default(), 1));
    snapshot.clusters[0].breaker = Some(breaker.clone());
    let mut worker = Worker::new(&Arc::new(snapshot));
    let peer = Peer::plain(([127, 0, 0, 1], 1000).into(), ([127, 0, 0, 1], 1).into());
    let client = worker.engine.accept(0, Rc::new(peer)).expect("room");
    for id in 0..4 {
        worker.engine.received(client, line(id).as_bytes(), &mut worker.net);
    }
    // One for which it is set up, two that join it, and one too many.
    assert_eq!((breaker.pending.count(), breaker.cluster.requests.count()), (2, 3));
    worker.turn();
    assert_eq!(worker.got(client), format!("{:016x}!Overloaded\n", 3));
    assert_eq!((breaker.pending.count(), breaker.cluster.requests.count()), (0, 3));
}

#[test]
fn requests_of_two_workers_count_together() {
    let (snapshot, breaker) = with_breaker(Bounds { connections: None, requests: Some(3) }, 10);
    let (mut one, mut two) = (Worker::new(&snapshot), Worker::new(&snapshot));
    one.ask(&line(0));
    one.ask(&line(1));
    two.ask(&line(2));
    let refused = two.ask(&line(3));
    assert_eq!(two.got(refused), format!("{:016x}!Overloaded\n", 3));
    one.answer(0, 0);
    two.ask(&line(4));
    assert_eq!((two.ups.len(), breaker.cluster.requests.count()), (2, 3));
    drop(one);
    assert_eq!(breaker.cluster.requests.count(), 2);
}

#[test]
fn a_worker_lets_go_of_an_idle_connection_that_another_waits_for() {
    let (snapshot, breaker) = with_breaker(Bounds { connections: Some(1), requests: None }, 10);
    let (mut one, mut two) = (Worker::new(&snapshot), Worker::new(&snapshot));
    one.ask(&line(0));
    one.answer(0, 0);
    two.ask(&line(1));
    assert_eq!((two.ups.len(), breaker.pending.count()), (0, 1));
    for _ in 0..300 {
        one.pass(1);
        two.pass(1);
    }
    assert_eq!((two.ups.len(), breaker.pending.count()), (1, 0));
    assert_eq!(one.closed.len(), 1);
}

#[test]
fn of_two_workers_that_both_have_more_to_do_than_may_be_done_neither_starves() {
    let (snapshot, breaker) = with_breaker(Bounds { connections: Some(1), requests: None }, 1000);
    let mut workers = [Worker::new(&snapshot), Worker::new(&snapshot)];
    let mut done = [0, 0];
    let clients = workers
        .each_mut()
        .map(|worker| (0..30).map(|id| worker.ask(&line(id))).collect::<Vec<_>>());
    for _ in 0..1_500 {
        for ((worker, clients), done) in workers.iter_mut().zip(&clients).zip(&mut done) {
            worker.pass(1);
            // A server takes a millisecond for each; each client asks again at once.
            if let Some(nth) = worker.ups.len().checked_sub(1) {
                let heard = worker.heard(nth);
                if let Some(id) = heard.get(..16) {
                    let id = u64::from_str_radix(id, 16).expect("an id");
                    worker.answer(nth, id);
                    worker.say(clients[id as usize], &line(id));
                    *done += 1;
                }
            }
            assert!(breaker.cluster.connections.count() <= 1);
        }
    }
    let (least, most) = (done[0].min(done[1]), done[0].max(done[1]));
    assert!(least > 300 && most < 3 * least, "{done:?}");
}

#[test]
fn who_waits_when_the_proxy_is_to_stop_may_ask_elsewhere() {
    let mut worker = alone();
    let first = worker.ask(&line(0));
    let second = worker.ask(&line(1));
    worker.call_last();
    worker.turn();
    assert_eq!(worker.got(second), format!("{:016x}!ShuttingDown.\n", 1));
    worker.answer(0, 0);
    assert_eq!(worker.got(first), format!("{:016x}.\n", 0));
    worker.pass(1_100);
    assert!(worker.engine.is_drained());
}
