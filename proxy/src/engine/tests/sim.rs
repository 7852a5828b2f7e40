//! The world around an engine: clients, servers, sockets and time, all from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Interest, Limits, Protocol};
use polyport_router::{Route, Split, Table};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::log;
use super::toy::{Toy, id_of};
use crate::breaker::{Bounds, Breaker};
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Action, Engine, Net, Peer, Written};
use crate::health::Health;
use crate::observe::metrics::Metrics;
use crate::policy::mirror::Mirror;
use crate::policy::retry::Retry;
use crate::snapshot::*;

mod leave;

#[derive(Clone, Copy)]
pub(super) struct Plan {
    clients: usize,
    requests: usize,
    /// Per mille of server steps that reset the connection, or refuse it.
    resets: u32,
    /// Per mille of client steps that leave early.
    leaves: u32,
    /// Per mille of requests that the server never answers.
    silences: u32,
    /// Bounds on connections so low that requests have to wait for each other, and a breaker.
    tight: bool,
    /// Per mille of requests that the server says it cannot serve now.
    refusals: u32,
    /// Whether requests are tried again.
    retry: bool,
    /// Whether all of them are copied.
    mirror: bool,
}

impl Plan {
    pub(super) fn calm() -> Self {
        Self {
            clients: 5,
            requests: 20,
            resets: 0,
            leaves: 0,
            silences: 0,
            refusals: 0,
            retry: false,
            mirror: false,
            tight: false,
        }
    }
    pub(super) fn stormy() -> Self {
        Self { resets: 6, leaves: 4, silences: 10, ..Self::calm() }
    }
    /// Servers fail in every way, and the proxy tries again.
    pub(super) fn patched() -> Self {
        Self { resets: 6, silences: 5, refusals: 50, retry: true, ..Self::calm() }
    }
    pub(super) fn copied(self) -> Self {
        Self { mirror: true, ..self }
    }
    pub(super) fn without_retry(self) -> Self {
        Self { retry: false, ..self }
    }
    pub(super) fn tight(self) -> Self {
        Self { tight: true, ..self }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) errors: usize,
    /// Asked on a connection that then ended without answering.
    pub(super) cut: usize,
    /// Some request had to wait for a connection.
    pub(super) waited: bool,
    pub(super) retried: u64,
    pub(super) mirrored: u64,
}

/// The peer's half of one connection.
#[derive(Default)]
struct Pipe {
    /// What the engine wrote and the peer has not looked at.
    to_peer: Vec<u8>,
    /// What the peer wrote and the engine has not read.
    to_engine: VecDeque<u8>,
    /// How many bytes the socket takes before it is full.
    room: usize,
    peer_closed: bool,
    closed: bool,
}

struct Client {
    conn: ConnId,
    pipe: Pipe,
    script: VecDeque<(u64, Vec<u8>)>,
    waiting: BTreeMap<u64, usize>,
    order: VecDeque<u64>,
    in_order: bool,
}

struct Server {
    pipe: Pipe,
    connecting: bool,
    /// It answers no more.
    mute: bool,
}

struct World {
    clients: Vec<Client>,
    servers: BTreeMap<usize, (UpId, Server)>,
}

impl World {
    fn pipe(&mut self, conn: ConnId) -> Option<&mut Pipe> {
        match conn {
            ConnId::Down(_) => {
                self.clients.iter_mut().find(|client| client.conn == conn).map(|c| &mut c.pipe)
            }
            ConnId::Up(id) => self
                .servers
                .get_mut(&id.index())
                .filter(|(had, _)| *had == id)
                .map(|(_, server)| &mut server.pipe),
        }
    }
}

impl Net for World {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        let Some(pipe) = self.pipe(conn) else { return Written::Failed };
        if pipe.peer_closed {
            return Written::Failed;
        }
        if pipe.room == 0 {
            return Written::Blocked;
        }
        let all = [first, second].concat();
        let count = all.len().min(pipe.room);
        pipe.room -= count;
        pipe.to_peer.extend_from_slice(&all[..count]);
        Written::Bytes(count)
    }
}

pub(super) fn snapshot(protocol: &'static Toy, plan: Plan) -> Snapshot {
    let (limits, interest) = (Limits::default(), Interest::nothing());
    let codec = protocol.compile(&limits, &interest);
    let address: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
    let endpoint = Endpoint {
        address,
        host: String::new(),
        weight: 1,
        labels: BTreeMap::new(),
        place: Place::default(),
        drained: false,
        retired: false,
        tenant: 0,
    };
    let forward = Forward {
        split: Split::new([1]).expect("a weight"),
        targets: vec![Target { cluster: 0, set: 0 }],
        sticky: None,
        timeout: None,
        times: RouteTimes::default(),
        edits: None,
        guard: None,
        retry: plan.retry.then(|| {
            let (attempts, per_try) = (8, Some(Duration::from_millis(200)));
            Arc::new(Retry { attempts, per_try, on: u8::MAX, ..Retry::default() })
        }),
        mirror: plan.mirror.then(|| {
            let target = Target { cluster: 0, set: 0 };
            let (share, requests, buffer) = (u64::MAX, 100, 64 << 10);
            Arc::new(Mirror { target, cluster: "all".into(), share, requests, buffer })
        }),
    };
    Snapshot {
        workers: 1,
        listeners: vec![Listener {
            name: "edge".into(),
            address,
            protocols: vec![0],
            detectable: vec![protocol],
            fallback: Fallback::Close,
            detect_timeout: Duration::from_secs(5),
            tls: None,
            proxy_protocol: ProxyHeader::None,
            retired: false,
        }],
        clusters: vec![Cluster {
            name: "all".into(),
            set: 0,
            epoch: 0,
            retired: false,
            endpoints: vec![endpoint.clone(), endpoint],
            discover: None,
            balance: Balance::RoundRobin,
            eligibility: Eligibility::default(),
            connect_timeout: Duration::from_secs(1),
            connections: 2,
            max_connections: 100,
            max_requests: 1000,
            tls: None,
            proxy_protocol: None,
            http2: false,
            ordered: protocol.ordered_servers,
            idle_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            breaker: None,
            retry_budget: Default::default(),
            health: (0..2).map(|_| Health::default()).collect(),
            checks: None,
            outliers: None,
        }],
        sets: vec![Set { endpoints: vec![0, 1], ..Set::default() }],
        routes: Table::compile(vec![Route {
            name: "all".into(),
            when: vec![],
            then: Action_::Forward(forward),
        }])
        .into(),
        interest,
        facts: Facts::default(),
        limits,
        timeouts: Timeouts {
            request: Duration::from_secs(2),
            stream: Duration::from_secs(20),
            session: None,
            idle: Duration::from_secs(3600),
            read: Duration::from_secs(10),
            write: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            upgrade: Duration::from_secs(30),
            quiet: Duration::from_secs(1),
        },
        buffers: Buffers { high: 512, out_of_turn: 1024, in_flight: 8, connections: 1000 },
        admin: None,
        access: Default::default(),
        metrics: Default::default(),
        text: "".into(),
        overload: Default::default(),
        identity: Default::default(),
        access_logs: Default::default(),
        outline: Default::default(),
        watch_config: false,
        route_ids: vec![0],
        known_routes: Arc::new(RouteNames::carried(None, ["all"].into_iter())),
        protocols: vec![Enabled { protocol, codec: codec.clone(), framing: codec, affinity: None }],
    }
}

use crate::snapshot::Action as Action_;

pub(super) fn simulate(protocol: &'static Toy, seed: u64, plan: Plan) -> Report {
    simulate_with(snapshot(protocol, plan), protocol, seed, plan)
}

pub(super) fn simulate_with(
    snapshot: Snapshot,
    protocol: &'static Toy,
    seed: u64,
    plan: Plan,
) -> Report {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut snapshot = snapshot;
    if plan.tight {
        let (connections, requests) = (Some(3), Some(1000));
        let breaker = Breaker::new(
            Bounds { connections, requests },
            64,
            Bounds { connections: Some(2), requests },
            2,
        );
        snapshot.clusters[0].breaker = Some(Arc::new(breaker));
        snapshot.clusters[0].connections = 1;
        snapshot.timeouts.request = Duration::from_secs(60);
    }
    let lines = log::of_all(&mut snapshot, seed);
    let snapshot = Arc::new(snapshot);
    let mut engine = Engine::new(snapshot.clone(), seed, None);
    let metrics = Metrics::new(snapshot.metrics.clone());
    engine.measure(metrics.clone());
    let mut world = World { clients: Vec::new(), servers: BTreeMap::new() };
    let mut report = Report::default();
    let in_order = protocol.exchange() != polyport_codecs::Exchange::Correlated;
    for client in 0..plan.clients {
        let address = ([127, 0, 0, 1], 1000).into();
        let conn = engine.accept(0, Rc::new(Peer::plain(address, address))).expect("room");
        world.clients.push(new_client(conn, client, in_order, &mut rng, plan));
    }
    let mut now = 0u64;
    let mut most_pending = 0;
    for round in 0..200_000 {
        now += rng.random_range(0..4);
        engine.tick(now * 1000);
        for at in 0..world.clients.len() {
            client_step(&mut world, at, &mut engine, &mut rng, &mut report, plan, round);
        }
        let ups: Vec<usize> = world.servers.keys().copied().collect();
        for up in ups {
            server_step(&mut world, up, &mut engine, &mut rng, plan);
        }
        engine.expire();
        settle(&mut engine, &mut world);
        let idle = world.clients.iter().all(|client| {
            client.pipe.peer_closed
                || (client.pipe.closed && client.pipe.to_peer.is_empty())
                || (client.script.is_empty() && client.waiting.is_empty())
        });
        if idle {
            break;
        }
        assert!(round < 199_999, "seed {seed}: a request never ended; {report:?}");
        most_pending = most_pending.max(engine.pending());
    }
    report.waited = most_pending > 0;
    for client in &world.clients {
        report.cut += client.waiting.len();
    }
    // Long after, nothing is left in any book.
    engine.tick((now + 10_000_000) * 1000);
    engine.expire();
    engine.flush(&mut world);
    assert_eq!(engine.in_flight(), 0, "seed {seed}");
    assert_eq!(engine.mirroring, 0, "seed {seed}");
    for state in engine.endpoints.iter().flatten() {
        assert_eq!(state.in_flight, 0, "seed {seed}");
    }
    report.retried = engine.counters().retried;
    report.mirrored = engine.counters().mirrored;
    all_is_measured(&engine, &metrics, seed);
    log::check(&mut engine, lines, seed);
    nothing_is_left(engine, &snapshot, &mut world, now + 10_000_000, &metrics);
    report
}

/// Every request has ended in one series of its listener and in one of its route, and
/// histograms hold what they should.
fn all_is_measured(engine: &Engine, metrics: &Metrics, seed: u64) {
    let counters = engine.counters();
    let ended = metrics.ended();
    let had = |class: &str| ended.listeners.get(class).copied().unwrap_or_default();
    let all: u64 = ended.listeners.values().sum();
    assert_eq!(all, counters.requests + counters.local, "seed {seed}: {ended:?}");
    assert_eq!(had("fault") + had("reset"), counters.faults, "seed {seed}: {ended:?}");
    assert_eq!(had("abandoned"), counters.abandoned, "seed {seed}: {ended:?}");
    assert_eq!(had("one-way"), counters.oneways, "seed {seed}: {ended:?}");
    let replied = ["ok", "app-error", "server-error", "unavailable", "overloaded", "timeout"];
    let replied: u64 = replied.iter().map(|class| had(class)).sum();
    assert_eq!(replied + had("session"), counters.answered, "seed {seed}: {ended:?}");
    // All of them were routed, but for those that came too late for it.
    assert!(ended.routes.values().sum::<u64>() <= all, "seed {seed}: {ended:?}");
    assert_eq!(ended.routes.get("ok"), ended.listeners.get("ok"), "seed {seed}: {ended:?}");
    assert_eq!(ended.retried, counters.retried, "seed {seed}");
    assert_eq!(ended.mirrored, counters.mirrored, "seed {seed}");
    assert_eq!(ended.connects, counters.connects, "seed {seed}");
}

/// Writes what is to be written and does what the engine asks, until it asks no more.
fn settle(engine: &mut Engine, world: &mut World) {
    loop {
        engine.flush(world);
        let mut at = 0;
        let mut any = false;
        while let Some(action) = engine.next_action(&mut at) {
            any = true;
            match action {
                Action::Connect(up, _) => {
                    let pipe = Pipe { room: 100, ..Pipe::default() };
                    let server = Server { pipe, connecting: true, mute: false };
                    world.servers.insert(up.index(), (up, server));
                }
                Action::Close(ConnId::Up(up)) => {
                    if world.servers.get(&up.index()).is_some_and(|(had, _)| *had == up) {
                        world.servers.remove(&up.index());
                    }
                }
                Action::Close(conn) | Action::Reset(conn) | Action::Shut(conn) => {
                    if let Some(pipe) = world.pipe(conn) {
                        pipe.closed = true;
                    }
                }
                Action::Read(_) => {}
            }
        }
        if !any && !engine.has_work() {
            break;
        }
    }
}

fn new_client(
    conn: ConnId,
    client: usize,
    in_order: bool,
    rng: &mut SmallRng,
    plan: Plan,
) -> Client {
    let script = (0..plan.requests as u64)
        .map(|n| {
            let id = (client as u64) << 32 | n;
            let mut bytes = format!("{id:016x}:hello {n}\n").into_bytes();
            if rng.random_ratio(1, 10) {
                let length: usize = rng.random_range(1..20_000);
                bytes = format!("{id:016x}:L{length}\n").into_bytes();
                bytes.resize(bytes.len() + length, b'x');
            }
            (id, bytes)
        })
        .collect();
    let pipe = Pipe { room: 100, ..Pipe::default() };
    let (waiting, order) = (BTreeMap::new(), VecDeque::new());
    Client { conn, pipe, script, waiting, order, in_order }
}

/// When all clients are gone and all deadlines past, nothing is counted that is not there;
/// and when the engine is gone, nothing at all.
fn nothing_is_left(
    mut engine: Engine,
    snapshot: &Snapshot,
    world: &mut World,
    now: u64,
    metrics: &Metrics,
) {
    for client in &world.clients {
        engine.broken(client.conn);
    }
    for later in 1..4 {
        engine.tick((now + later * 3_600_000) * 1000);
        engine.expire();
        engine.flush(world);
    }
    assert_eq!((engine.in_flight(), engine.pending(), engine.downstreams()), (0, 0, 0));
    assert_eq!(metrics.now_open(), [0, 0, 0, engine.upstreams() as u64, 0, 0]);
    let Some(breaker) = &snapshot.clusters[0].breaker else { return };
    let counts = || {
        let each = breaker.endpoints.iter();
        let sums = each.fold((0, 0), |(connections, requests), counts| {
            (connections + counts.connections.count(), requests + counts.requests.count())
        });
        let cluster = (breaker.cluster.connections.count(), breaker.cluster.requests.count());
        assert_eq!(cluster, sums);
        let queued = breaker.queued.load(std::sync::atomic::Ordering::Relaxed);
        (cluster.0, cluster.1, breaker.pending.count(), queued)
    };
    assert_eq!(counts(), (engine.upstreams(), 0, 0, 0));
    drop(engine);
    assert_eq!(counts(), (0, 0, 0, 0));
}

fn client_step(
    world: &mut World,
    at: usize,
    engine: &mut Engine,
    rng: &mut SmallRng,
    report: &mut Report,
    plan: Plan,
    round: usize,
) {
    let client = &mut world.clients[at];
    let conn = client.conn;
    if client.pipe.peer_closed {
        return;
    }
    // What it was sent.
    while let Some(end) = client.pipe.to_peer.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = client.pipe.to_peer.drain(..=end).collect();
        let id = id_of(&line);
        assert!(
            client.waiting.remove(&id).is_some(),
            "round {round}: an answer too many, to {id:x}"
        );
        if client.in_order {
            assert_eq!(client.order.pop_front(), Some(id), "an answer out of turn");
        }
        match line[16] {
            b'=' => report.answered += 1,
            _ => report.errors += 1,
        }
    }
    if client.pipe.closed {
        return;
    }
    if rng.random_ratio(plan.leaves, 1000) && plan.leaves > 0 {
        client.pipe.peer_closed = true;
        engine.broken(conn);
        return;
    }
    // What it asks.
    if client.pipe.to_engine.is_empty() && rng.random_ratio(1, 3) {
        for _ in 0..rng.random_range(1..6) {
            if let Some((id, bytes)) = client.script.pop_front() {
                report.asked += 1;
                client.waiting.insert(id, 1);
                client.order.push_back(id);
                client.pipe.to_engine.extend(bytes);
            }
        }
    }
    client.pipe.room = client.pipe.room.max(rng.random_range(1..3000));
    if engine.is_blocked(conn) {
        engine.writable(conn);
    }
    let count = rng.random_range(1..4000).min(client.pipe.to_engine.len());
    if count > 0 && engine.wants_read(conn) {
        let bytes: Vec<u8> = client.pipe.to_engine.drain(..count).collect();
        engine.received(conn, &bytes, world);
    }
}

fn server_step(world: &mut World, up: usize, engine: &mut Engine, rng: &mut SmallRng, plan: Plan) {
    let Some((id, server)) = world.servers.get_mut(&up) else { return };
    let id = *id;
    let conn = ConnId::Up(id);
    let reset = plan.resets > 0 && rng.random_ratio(plan.resets, 1000);
    if server.connecting {
        if !rng.random_ratio(1, 3) {
            return;
        }
        if reset {
            world.servers.remove(&up);
            engine.connect_failed(id);
        } else {
            server.connecting = false;
            engine.connected(id);
        }
        return;
    }
    if reset {
        world.servers.remove(&up);
        if rng.random() {
            engine.ended(conn)
        } else {
            engine.broken(conn)
        }
        return;
    }
    // It answers what it was asked, in order, when it has all of it.
    loop {
        let asked = &server.pipe.to_peer;
        let Some(end) = asked.iter().position(|byte| *byte == b'\n') else { break };
        let mut line = asked[..=end].to_vec();
        let mut body = 0;
        if line[17] == b'L' {
            let digits = std::str::from_utf8(&line[18..end]).expect("digits");
            body = digits.parse().expect("a length");
            line.splice(17.., b"had a body\n".iter().copied());
        }
        if asked.len() < end + 1 + body {
            break;
        }
        server.pipe.to_peer.drain(..end + 1 + body);
        line[16] = if rng.random_ratio(plan.refusals, 1000) { b'?' } else { b'=' };
        if plan.silences > 0 && rng.random_ratio(plan.silences, 1000) {
            // Where replies come in order, one left out would shift all others.
            server.mute = true;
        }
        if !server.mute {
            server.pipe.to_engine.extend(line);
        }
    }
    server.pipe.room = server.pipe.room.max(rng.random_range(1..3000));
    if engine.is_blocked(conn) {
        engine.writable(conn);
    }
    let Some((_, server)) = world.servers.get_mut(&up) else { return };
    let count = rng.random_range(1..400).min(server.pipe.to_engine.len());
    if count > 0 && engine.wants_read(conn) {
        let bytes: Vec<u8> = server.pipe.to_engine.drain(..count).collect();
        engine.received(conn, &bytes, world);
    }
}
