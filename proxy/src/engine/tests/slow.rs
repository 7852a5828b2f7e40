//! Clients that do not read what they asked for, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sim::{Plan, snapshot};
use super::toy::{self, Toy, id_of};
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Action, Engine, Net, Written};

/// Sockets: clients' take nothing, servers' take all.
#[derive(Default)]
struct Sockets {
    to_servers: BTreeMap<usize, Vec<u8>>,
}

impl Net for Sockets {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        match conn {
            ConnId::Down(_) => Written::Blocked,
            ConnId::Up(id) => {
                let taken = self.to_servers.entry(id.index()).or_default();
                taken.extend_from_slice(first);
                taken.extend_from_slice(second);
                Written::Bytes(first.len() + second.len())
            }
        }
    }
}

/// One client's requests, handed to servers; their connections and what each heard.
fn asked(protocol: &'static Toy, count: u64) -> (Engine, Sockets, Vec<(UpId, Vec<u8>)>) {
    let mut engine = Engine::new(Arc::new(snapshot(protocol, Plan::calm())), 1, None);
    let mut net = Sockets::default();
    let client = engine
        .accept(
            0,
            std::rc::Rc::new(crate::engine::Peer::plain(
                ([127, 0, 0, 1], 1000).into(),
                ([127, 0, 0, 1], 1).into(),
            )),
        )
        .expect("room");
    for id in 1..=count {
        engine.received(client, format!("{id:016x}:give me\n").as_bytes(), &mut net);
    }
    engine.flush(&mut net);
    let (mut at, mut ups) = (0, Vec::new());
    while let Some(action) = engine.next_action(&mut at) {
        if let Action::Connect(id, _) = action {
            engine.connected(id);
            ups.push(id);
        }
    }
    engine.flush(&mut net);
    let mut heard = |up: UpId| (up, net.to_servers.remove(&up.index()).expect("a request"));
    let ups = ups.into_iter().map(&mut heard).collect();
    (engine, net, ups)
}

#[test]
fn a_pooled_connection_is_read_though_the_last_reply_is_not_taken() {
    let (mut engine, mut net, ups) = asked(&toy::ALONE, 1);
    let up = ConnId::Up(ups[0].0);
    let head = format!("{:016x}=L2000\n", 1);
    engine.received(up, &[head.as_bytes(), &[b'x'; 400]].concat(), &mut net);
    engine.flush(&mut net);
    assert!(engine.wants_read(up) && engine.in_flight() == 1);
    // The last piece is the one that passes the bound.
    engine.received(up, &[b'x'; 1600], &mut net);
    engine.flush(&mut net);
    assert_eq!(engine.in_flight(), 0);
    assert!(engine.wants_read(up), "the next request's reply would never be seen");
}

#[test]
fn small_replies_do_not_pile_up_for_a_client_that_does_not_read() {
    let (mut engine, mut net, ups) = asked(&toy::CORRELATED, 8);
    let mut waiting = 0;
    for (up, heard) in ups {
        for line in heard.split_inclusive(|byte| *byte == b'\n') {
            if engine.wants_read(ConnId::Up(up)) {
                let reply = format!("{:016x}={}\n", id_of(line), "y".repeat(400));
                waiting += reply.len();
                engine.received(ConnId::Up(up), reply.as_bytes(), &mut net);
                engine.flush(&mut net);
            }
        }
    }
    // The bound is 1 KiB here, and each of the four connections may say one thing more.
    assert!((1024..1024 + 4 * 420).contains(&waiting), "{waiting} bytes wait");
}
