//! What a message costs in the engine alone, without I/O: sixteen clients ask, an upstream
//! answers at once, all replies go back. Without any policy, with each, and with all at once.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use polyport::config::compile;
use polyport::engine::state::{ConnId, UpId};
use polyport::engine::{Action, Engine, Net, Peer, Written};
use polyport::observe::metrics::Metrics;
use polyport::observe::output::Outputs;
use polyport_benches::Workload;
use polyport_benches::backend::{self, Serve};
use polyport_benches::load::dialect;
use polyport_benches::policies::{Place, config, known};
use polyport_codecs::Registry;

const CLIENTS: usize = 16;

/// Access logs, none of which is a policy.
const LOGS: [(&str, &str); 3] = [
    ("access log", "[[access-log]]\nto = \"/dev/null\"\nkeys = [\"method\", \"service\"]\n"),
    ("access log, 1% and errors", "[[access-log]]\nto = \"/dev/null\"\nsample = 1\n"),
    (
        "access log, 1% of all",
        "[[access-log]]\nto = \"/dev/null\"\nsample = 1\nerrors = \"sampled\"\n",
    ),
];

/// Time that passes with each round, µs.
const STEP: u64 = 100;

/// The other ends of all connections.
#[derive(Default)]
struct World {
    /// Of each upstream connection, what it was asked; by its index.
    asked: Vec<(Option<UpId>, Vec<u8>)>,
    /// Bytes that came back to clients.
    heard: usize,
}

impl Net for World {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        match conn {
            ConnId::Down(_) => self.heard += first.len() + second.len(),
            ConnId::Up(up) => {
                let asked = &mut self.asked[up.index()].1;
                asked.extend_from_slice(first);
                asked.extend_from_slice(second);
            }
        }
        Written::Bytes(first.len() + second.len())
    }
}

struct Bench {
    engine: Engine,
    world: World,
    clients: Vec<ConnId>,
    request: Vec<u8>,
    serve: Serve,
    reply: Vec<u8>,
    micros: u64,
}

impl Bench {
    fn new(
        workload: Workload,
        serve: Serve,
        policies: &[(Place, &str)],
        log: &str,
        measured: bool,
    ) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], 7).into();
        let text = config(address, &[(workload.name(), address)], policies);
        let text = text + log;
        let (snapshot, _) = compile(&text, "bench", &Registry::builtin()).expect("a good config");
        let metrics = Metrics::new(snapshot.metrics.clone());
        snapshot.access_logs.open(&Outputs::default()).expect("a place for lines");
        let mut engine = Engine::new(Arc::new(snapshot), 1, None);
        if measured {
            engine.measure(metrics);
        }
        let peer = Rc::new(Peer::plain(address, address));
        let clients = (0..CLIENTS).map(|_| engine.accept(0, peer.clone()).expect("room")).collect();
        let mut request = Vec::new();
        dialect(workload).request(0, 1, &mut request);
        let (world, reply) = (World::default(), Vec::new());
        let mut bench = Self { engine, world, clients, request, serve, reply, micros: 0 };
        // Connections are set up, and what is kept for reuse is there.
        (0..1000).for_each(|_| bench.round());
        assert_eq!(bench.engine.counters().answered, 1000 * CLIENTS as u64);
        assert_eq!(bench.engine.counters().faults, 0);
        bench
    }

    fn settle(&mut self) {
        loop {
            self.engine.flush(&mut self.world);
            let (mut at, mut any) = (0, false);
            while let Some(action) = self.engine.next_action(&mut at) {
                any = true;
                match action {
                    Action::Connect(up, _) => {
                        if self.world.asked.len() <= up.index() {
                            self.world.asked.resize(up.index() + 1, (None, Vec::new()));
                        }
                        self.world.asked[up.index()].0 = Some(up);
                        self.engine.connected(up);
                    }
                    Action::Read(_) => {}
                    other => panic!("nothing is amiss, and yet {other:?}"),
                }
            }
            if !any && !self.engine.has_work() {
                return;
            }
        }
    }

    /// A request of each client, and its reply.
    fn round(&mut self) {
        self.micros += STEP;
        self.engine.tick(self.micros);
        if self.engine.next_deadline() <= self.micros / 1000 {
            self.engine.expire();
        }
        for at in 0..self.clients.len() {
            self.engine.received(self.clients[at], &self.request, &mut self.world);
        }
        self.settle();
        for at in 0..self.world.asked.len() {
            let (Some(up), asked) = &mut self.world.asked[at] else { continue };
            let (up, mut used) = (*up, 0);
            while let Ok(len @ 1..) = (self.serve)(&asked[used..], &mut self.reply) {
                used += len;
            }
            asked.drain(..used);
            if !self.reply.is_empty() {
                self.engine.received(ConnId::Up(up), &self.reply, &mut self.world);
                self.reply.clear();
            }
        }
        self.settle();
        assert!(std::mem::take(&mut self.world.heard) > 0);
    }
}

fn workloads() -> [(Workload, Serve); 3] {
    [
        (Workload::Redis, backend::redis::serve),
        (Workload::Dubbo, backend::dubbo::serve),
        (Workload::Http, backend::http::serve),
    ]
}

fn all() -> Vec<(Place, &'static str)> {
    known(|text| compile(text, "bench", &Registry::builtin()).is_ok())
}

fn bench(c: &mut Criterion) {
    let all = all();
    let mut group = c.benchmark_group("engine, 16 messages");
    group.throughput(Throughput::Elements(CLIENTS as u64));
    for (workload, serve) in workloads() {
        let name = workload.name();
        for (what, policies) in [("no policy", &[][..]), ("all policies", &all)] {
            let mut bench = Bench::new(workload, serve, policies, "", true);
            group.bench_function(format!("{name}, {what}"), |b| b.iter(|| bench.round()));
        }
    }
    group.finish();
}

/// What each policy costs beside none. They take turns in slices so short that most are not
/// disturbed, and the best twentieth of each one's slices counts: so the ratios hold on
/// a busy machine too, where times do not.
fn ratios(_: &mut Criterion) {
    const SLICES: usize = 600;
    const ROUNDS: u32 = 20;
    let all = all();
    for (workload, serve) in workloads() {
        let mut sets = vec![
            ("no policy", Vec::new()),
            ("no policy, once more", Vec::new()),
            ("no metrics", Vec::new()),
        ];
        sets.extend(all.iter().map(|policy| (policy.1, vec![*policy])));
        sets.push(("all policies", all.clone()));
        let mut benches: Vec<_> = sets
            .iter()
            .map(|(name, policies)| {
                Bench::new(workload, serve, policies, "", *name != "no metrics")
            })
            .collect();
        for (name, log) in LOGS {
            sets.push((name, Vec::new()));
            benches.push(Bench::new(workload, serve, &[], log, true));
        }
        let mut slices = vec![Vec::with_capacity(SLICES); benches.len()];
        for _ in 0..SLICES {
            for (bench, slices) in benches.iter_mut().zip(&mut slices) {
                let start = Instant::now();
                (0..ROUNDS).for_each(|_| bench.round());
                slices.push(start.elapsed());
            }
        }
        let each = f64::from(ROUNDS) * CLIENTS as f64;
        let nanos = |mut slices: Vec<Duration>| {
            slices.sort();
            slices[SLICES / 20].as_secs_f64() * 1e9 / each
        };
        let nanos: Vec<f64> = slices.into_iter().map(nanos).collect();
        println!("{}: ns a message, and its ratio to no policy", workload.name());
        for ((name, _), took) in sets.iter().zip(&nanos) {
            println!("{took:8.0} {:6.3}  {name}", took / nanos[0]);
        }
    }
}

criterion_group!(benches, ratios, bench);
criterion_main!(benches);
