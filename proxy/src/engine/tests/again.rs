//! Where a request goes that is sent once more.

use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::{Interest, Metadata};

use super::balance::config;
use super::toy::{self, Toy};
use super::waiting::{Worker, line};
use crate::engine::Peer;
use crate::engine::state::ConnId;
use crate::policy::retry::Retry;
use crate::snapshot::{Action, Balance, Hashing, Snapshot, Target};

const ENDPOINTS: usize = 16;

/// Many endpoints, chosen by the hash of this fact; four listeners; what fails is tried again.
fn hashed(protocol: &'static Toy, fact: &str) -> Snapshot {
    let interest = Interest::of([fact]);
    let slot = interest.slot(fact).expect("a slot");
    let hashing = Hashing { slot, key: fact.into(), maglev: false, bound: None };
    let mut all = config(ENDPOINTS, Balance::Hash(hashing));
    let mut routes = all.routes.routes().to_vec();
    if let Action::Forward(forward) = &mut routes[0].then {
        forward.retry = Some(Arc::new(Retry { attempts: 3, on: u8::MAX, ..Retry::default() }));
    }
    all.routes = polyport_router::Table::compile(routes).into();
    let edge = all.listeners[0].clone();
    let named = |name: &str| crate::snapshot::Listener { name: name.into(), ..edge.clone() };
    all.listeners = ["north", "east", "south", "west"].map(named).into();
    (all.protocols[0].protocol, all.interest) = (protocol, interest);
    match fact {
        "listener" => all.facts.listener = Some(slot),
        "source.ip" => all.facts.source_ip = Some(slot),
        _ => all.facts.protocol = Some(slot),
    }
    all
}

/// A request to a listener, and one more try of it: its two endpoints, and those that this
/// value of the fact leads to.
fn twice(protocol: &'static Toy, fact: &str, listener: usize, value: &str) -> [[usize; 2]; 2] {
    let mut worker = Worker::new(&Arc::new(hashed(protocol, fact)));
    let peer = Peer::plain(([127, 0, 0, 1], 1000).into(), ([127, 0, 0, 1], 1).into());
    let client = worker.engine.accept(listener, Rc::new(peer)).expect("room");
    worker.say(client, &line(1));
    let at = |worker: &Worker, nth: usize| {
        worker.engine.ups.get(worker.ups[nth]).expect("a connection").endpoint
    };
    let (first, heard) = (at(&worker, 0), worker.heard(0));
    worker.say(ConnId::Up(worker.ups[0]), &heard.replace(':', "?"));
    worker.pass(100);
    assert_eq!((worker.ups.len(), worker.engine.counters().retried), (2, 1));
    let went = [first, at(&worker, 1)];
    let config = worker.engine.snapshot.clone();
    let mut metadata = Metadata::new(&config.interest);
    metadata.keep(config.interest.slot(fact).expect("a slot"), value.as_bytes());
    let target = Target { cluster: 0, set: 0 };
    let mut choose = |avoid: &[usize]| {
        let view = metadata.view(b"");
        worker.engine.choose_endpoint(&target, (&config, &view), Some(0), avoid).expect("one")
    };
    let first = choose(&[]);
    [went, [first, choose(&[first])]]
}

#[test]
fn one_more_try_is_hashed_by_what_the_proxy_itself_knows_of_a_connection() {
    let mut seen = Vec::new();
    for (at, name) in ["north", "east", "south", "west"].into_iter().enumerate() {
        let [went, due] = twice(&toy::CORRELATED, "listener", at, name);
        assert_eq!(went, due, "{name}");
        seen.push(went);
    }
    seen.dedup();
    assert!(seen.len() > 1, "all go the same way: {seen:?}");
    for protocol in [&toy::CORRELATED, &toy::PIPELINED, &toy::ALONE] {
        let [went, due] = twice(protocol, "protocol", 0, protocol.name);
        assert_eq!(went, due, "{}", protocol.name);
    }
    let [went, due] = twice(&toy::CORRELATED, "source.ip", 0, "127.0.0.1");
    assert_eq!(went, due);
}
