//! How many instructions a message costs in the engine alone: repeatable on a busy machine,
//! where times are not. Run under callgrind, which counts only what is in [`take`] and
//! [`settle`]:
//!
//! ```sh
//! cargo bench -p polyport-benches --bench count --no-run
//! valgrind --tool=callgrind --toggle-collect='count::take' --toggle-collect='count::settle' \
//!     target/release/deps/count-* redis 16
//! ```
//!
//! Divide what it collected by the number of messages that is printed. The config is the one
//! that `compare` uses: every protocol, one route and one endpoint each.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use polyport::config::compile;
use polyport::engine::state::{ConnId, UpId};
use polyport::engine::{Action, Engine, Net, Peer, Written};
use polyport::observe::metrics::Metrics;
use polyport_benches::Workload;
use polyport_benches::backend::{self, Serve};
use polyport_benches::load::dialect;
use polyport_codecs::Registry;

const CLIENTS: usize = 64;
const ROUNDS: usize = 200;

/// The other ends of all connections.
#[derive(Default)]
struct World {
    /// Of each upstream connection, what it was asked; by its index.
    asked: Vec<(Option<UpId>, Vec<u8>)>,
}

impl Net for World {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        if let ConnId::Up(up) = conn {
            let asked = &mut self.asked[up.index()].1;
            asked.extend_from_slice(first);
            asked.extend_from_slice(second);
        }
        Written::Bytes(first.len() + second.len())
    }
}

/// Bytes come from a connection.
#[inline(never)]
fn take(engine: &mut Engine, world: &mut World, conn: ConnId, bytes: &[u8]) {
    engine.received(conn, bytes, world);
}

/// A turn ends.
#[inline(never)]
fn settle(engine: &mut Engine, world: &mut World) {
    loop {
        engine.flush(world);
        let (mut at, mut any) = (0, false);
        while let Some(action) = engine.next_action(&mut at) {
            any = true;
            match action {
                Action::Connect(up, _) => {
                    if world.asked.len() <= up.index() {
                        world.asked.resize(up.index() + 1, (None, Vec::new()));
                    }
                    world.asked[up.index()].0 = Some(up);
                    engine.connected(up);
                }
                Action::Read(_) => {}
                other => panic!("nothing is amiss, and yet {other:?}"),
            }
        }
        if !any && !engine.has_work() {
            return;
        }
    }
}

fn config(workloads: &[(Workload, Serve)]) -> String {
    let mut config = String::from("workers = 1\n\n[[listener]]\naddress = \"127.0.0.1:7\"\n");
    for (workload, _) in workloads {
        let name = workload.name();
        config += &format!(
            "\n[[cluster]]\nname = \"{name}\"\nendpoints = [\"127.0.0.1:8\"]\n\n[[route]]\n\
             name = \"{name}\"\nmatch = {{ protocol = \"{name}\" }}\nto = \"{name}\"\n"
        );
    }
    config
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let workloads: [(Workload, Serve); 5] = [
        (Workload::Redis, backend::redis::serve),
        (Workload::Dubbo, backend::dubbo::serve),
        (Workload::Thrift, backend::thrift::serve),
        (Workload::Bolt, backend::bolt::serve),
        (Workload::Http, backend::http::serve),
    ];
    let name = args.next().unwrap_or_else(|| "redis".to_owned());
    let depth: usize = args.next().map_or(16, |depth| depth.parse().expect("a number"));
    let (workload, serve) =
        *workloads.iter().find(|(workload, _)| workload.name() == name).expect("a workload");

    let address: SocketAddr = ([127, 0, 0, 1], 7).into();
    let (snapshot, _) =
        compile(&config(&workloads), "count", &Registry::builtin()).expect("a good config");
    let metrics = Metrics::new(snapshot.metrics.clone());
    let mut engine = Engine::new(Arc::new(snapshot), 1, None);
    engine.measure(metrics);
    let mut world = World::default();
    let peer = Rc::new(Peer::plain(address, address));
    let clients: Vec<ConnId> =
        (0..CLIENTS).map(|_| engine.accept(0, peer.clone()).expect("room")).collect();
    let mut dialect = dialect(workload);
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let mut id = 0;
    for round in 0..ROUNDS {
        engine.tick(round as u64 * 100);
        for (at, client) in clients.iter().enumerate() {
            request.clear();
            for more in 0..depth {
                dialect.request(at, id + more as u64, &mut request);
            }
            take(&mut engine, &mut world, *client, &request);
        }
        id += depth as u64;
        settle(&mut engine, &mut world);
        for at in 0..world.asked.len() {
            let (Some(up), asked) = &mut world.asked[at] else { continue };
            let (up, mut used) = (*up, 0);
            while let Ok(len @ 1..) = serve(&asked[used..], &mut reply) {
                used += len;
            }
            asked.drain(..used);
            if !reply.is_empty() {
                take(&mut engine, &mut world, ConnId::Up(up), &reply);
                reply.clear();
            }
        }
        settle(&mut engine, &mut world);
    }
    assert_eq!(engine.counters().answered, (ROUNDS * CLIENTS * depth) as u64);
    println!("{} messages", ROUNDS * CLIENTS * depth);
}
