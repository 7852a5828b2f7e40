//! What gives way, and what does not, when the process runs out of something.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::sim::{Plan, snapshot};
use super::toy;
use crate::engine::state::ConnId;
use crate::engine::{Action, Engine, Net, Peer, Pressure, Written};

/// Takes all that is written, and remembers it.
#[derive(Default)]
struct Wires(Vec<(ConnId, Vec<u8>)>);

impl Net for Wires {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        self.0.push((conn, [first, second].concat()));
        Written::Bytes(first.len() + second.len())
    }
}

impl Wires {
    fn to(&self, conn: ConnId) -> String {
        let all = self.0.iter().filter(|(to, _)| *to == conn).flat_map(|(_, bytes)| bytes);
        String::from_utf8(all.copied().collect()).expect("text")
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new(Arc::new(snapshot(&toy::ALONE, Plan::calm())), 1, None);
    engine.tick(10_000_000);
    engine
}

fn client(engine: &mut Engine) -> ConnId {
    let address = ([127, 0, 0, 1], 1000).into();
    engine.accept(0, Rc::new(Peer::plain(address, address))).expect("room")
}

fn ask(engine: &mut Engine, wires: &mut Wires, conn: ConnId, id: u64) {
    engine.received(conn, format!("{id:016x}:hello\n").as_bytes(), wires);
    engine.flush(wires);
}

fn actions(engine: &mut Engine) -> VecDeque<Action> {
    let mut at = 0;
    std::iter::from_fn(|| engine.next_action(&mut at)).collect()
}

#[test]
fn the_longest_idle_go_first_and_none_that_is_in_use() {
    let (mut engine, mut wires) = (engine(), Wires::default());
    let busy = client(&mut engine);
    ask(&mut engine, &mut wires, busy, 1);
    let half = client(&mut engine);
    engine.received(half, b"00000", &mut wires);
    let old = client(&mut engine);
    engine.tick(10_500_000);
    let older_than_new = client(&mut engine);
    engine.tick(20_000_000);
    let new = client(&mut engine);
    actions(&mut engine);
    assert_eq!(engine.relieve(1), 1);
    assert_eq!(actions(&mut engine), [Action::Close(old)]);
    assert_eq!(engine.relieve(100), 1);
    assert_eq!(actions(&mut engine), [Action::Close(older_than_new)]);
    assert_eq!(engine.relieve(100), 0, "the others are in use, or were a moment ago");
    assert_eq!(engine.counters().relieved, 2);
    for conn in [busy, half, new] {
        engine.broken(conn);
    }
}

#[test]
fn new_requests_are_refused_and_those_in_flight_answered() {
    let (mut engine, mut wires) = (engine(), Wires::default());
    let (one, two) = (client(&mut engine), client(&mut engine));
    ask(&mut engine, &mut wires, one, 1);
    let Some(Action::Connect(up, _)) =
        actions(&mut engine).into_iter().find(|action| matches!(action, Action::Connect(..)))
    else {
        panic!("no connection is asked for");
    };
    engine.press(Pressure { shed: true, ..Pressure::default() });
    ask(&mut engine, &mut wires, two, 2);
    assert!(wires.to(two).contains("Overloaded"), "{:?}", wires.to(two));
    assert_eq!((engine.counters().shed, engine.in_flight()), (1, 1));
    engine.connected(up);
    engine.flush(&mut wires);
    let asked = wires.to(ConnId::Up(up));
    engine.received(ConnId::Up(up), asked.as_bytes(), &mut wires);
    engine.flush(&mut wires);
    assert!(wires.to(one).contains("hello"), "{:?}", wires.to(one));
    engine.press(Pressure::default());
    ask(&mut engine, &mut wires, two, 3);
    assert_eq!((engine.counters().shed, engine.counters().answered), (1, 1));
}

#[test]
fn requests_wait_where_no_descriptor_is_left_for_their_connection() {
    let (mut engine, mut wires) = (engine(), Wires::default());
    engine.press(Pressure { shed: false, connects: 2 });
    let clients: Vec<ConnId> = (1..=3)
        .map(|id| {
            let conn = client(&mut engine);
            ask(&mut engine, &mut wires, conn, id);
            conn
        })
        .collect();
    assert_eq!((engine.upstreams(), engine.in_flight(), engine.pending()), (2, 2, 1));
    let more = actions(&mut engine);
    assert_eq!(more.iter().filter(|action| matches!(action, Action::Connect(..))).count(), 2);
    // The end of one makes room for the one that waits, where it is to another endpoint too.
    engine.broken(clients[0]);
    engine.broken(clients[1]);
    engine.tick(10_300_000);
    engine.expire();
    engine.flush(&mut wires);
    assert_eq!((engine.in_flight(), engine.pending()), (1, 0));
}

#[test]
fn memory_is_weighed_and_spare_memory_given_back() {
    let (mut engine, mut wires) = (engine(), Wires::default());
    assert_eq!(engine.held(), 0);
    let conn = client(&mut engine);
    engine.received(conn, b"0000000000000001:L9000\n", &mut wires);
    engine.received(conn, &[b'x'; 8000], &mut wires);
    assert!(engine.held() >= 8000, "{}", engine.held());
    engine.broken(conn);
    engine.flush(&mut wires);
    engine.trim();
    assert!(engine.held() < 1000, "{}", engine.held());
}
