//! Cruelty to servers under load. A [`Story`] is one Polyport before three real servers
//! of one protocol, with clients that never stop asking ([`load`]); its methods kill,
//! pause, slow and flap servers, and wait for what must then become of the load.
//!
//! Nothing here is judged by how long it took, only by what came of it: waits end as soon
//! as what they wait for is there, and give up after [`PATIENCE`].

mod dialect;
mod load;
mod server;

use crate::figures::{Figures, figures};
use std::fmt::Write;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Config, PATIENCE, Proxy, direct, ports};
use dialect::Dialect;
pub use load::{Count, Load};
pub use server::Server;
use server::{Lane, Spawn};

/// So long must all go well before a load is said to be calm.
const CALM: Duration = Duration::from_millis(700);

/// What a protocol needs to be part of a story.
pub struct Kind {
    /// What to call it in a failure.
    pub name: &'static str,
    protocol: &'static str,
    spawn: Spawn,
    dialect: fn() -> Box<dyn Dialect>,
    clients: usize,
    /// Requests in flight on each connection.
    depth: usize,
    /// Further lines of the cluster's table.
    cluster: &'static str,
    /// Whether a connection is one endpoint's for good.
    session: bool,
}

impl Kind {
    /// One of its servers, outside of any story.
    pub fn server(&self) -> Server {
        Server::start(self.spawn)
    }

    /// Its clients, asking `to`, outside of any story; no answer may take longer than `limit`.
    pub fn load(&self, to: SocketAddr, limit: Duration) -> Load {
        Load::start(to, self.clients, self.depth, limit, self.dialect)
    }
}

/// Ordered, connections shared: `ECHO` to redis-server.
pub const REDIS: Kind = Kind {
    name: "redis",
    protocol: "redis",
    spawn: server::redis,
    dialect: || Box::new(dialect::Redis),
    clients: 6,
    depth: 4,
    cluster: "",
    session: false,
};

/// Ordered, a connection for each exchange: `GET` from node's HTTP server.
pub const HTTP: Kind = Kind {
    name: "http/1",
    protocol: "http",
    spawn: server::http,
    dialect: || Box::new(dialect::Http),
    clients: 8,
    depth: 1,
    cluster: "",
    session: false,
};

/// Correlated: calls of a Dubbo provider on node.
pub const DUBBO: Kind = Kind {
    name: "dubbo",
    protocol: "dubbo",
    spawn: server::dubbo,
    dialect: || Box::new(dialect::Dubbo),
    clients: 6,
    depth: 4,
    cluster: "",
    session: false,
};

/// Correlated: calls of an Apache Thrift server that answers in any order.
pub const THRIFT: Kind = Kind {
    name: "thrift",
    protocol: "thrift",
    spawn: server::thrift,
    dialect: || Box::new(dialect::Thrift),
    clients: 4,
    depth: 4,
    cluster: "",
    session: false,
};

/// A session: clients of mosquitto that hear what they say.
pub const MQTT: Kind = Kind {
    name: "mqtt",
    protocol: "mqtt",
    spawn: server::mosquitto,
    dialect: || Box::<dialect::Mqtt>::default(),
    // So many that every broker has some, wherever their names are hashed to.
    clients: 32,
    depth: 2,
    cluster: "",
    session: true,
};

/// Streams: `GET` from node's HTTP/2 server.
pub const HTTP2: Kind = Kind {
    name: "http/2",
    protocol: "http",
    spawn: server::http2,
    dialect: || Box::new(dialect::Http2::get()),
    clients: 4,
    depth: 4,
    cluster: "http2 = true",
    session: false,
};

/// Streams with bodies: unary calls of a grpcio server.
pub const GRPC: Kind = Kind {
    name: "grpc",
    protocol: "http",
    spawn: server::grpc,
    dialect: || Box::new(dialect::Http2::grpc()),
    clients: 4,
    depth: 4,
    cluster: "http2 = true",
    session: false,
};

/// What a story's config says besides the servers.
#[derive(Debug, Clone, Copy)]
pub struct Policies {
    /// Further lines of the cluster's table.
    pub cluster: &'static str,
    /// Further lines of the route's table.
    pub route: &'static str,
    /// The deadline of a request, as the route has it.
    pub timeout: Duration,
}

/// More than any request is late on a busy machine.
const SLACK: Duration = Duration::from_secs(15);

/// A load through Polyport to three servers.
pub struct Story {
    kind: &'static Kind,
    proxy: Proxy,
    admin: SocketAddr,
    servers: Vec<Server>,
    /// The way to the first of them.
    lane: Lane,
    load: Load,
}

impl Story {
    /// Starts all of it; the load is calm then. `None` where the proxy is taken out: all
    /// of this is about what it does.
    pub fn begin(kind: &'static Kind, policies: Policies) -> Option<Self> {
        if direct() {
            return None;
        }
        let servers: Vec<Server> = (0..3).map(|_| Server::start(kind.spawn)).collect();
        let lane = Lane::to(servers[0].address);
        let admin = ports::free();
        let mut section = format!("\n[admin]\naddress = \"{admin}\"\n");
        let ways = [lane.address, servers[1].address, servers[2].address];
        let ways: Vec<String> = ways.iter().map(|address| format!("\"{address}\"")).collect();
        let _ = write!(
            section,
            "\n[[cluster]]\nname = \"all\"\nendpoints = [{}]\n{}\n{}\n",
            ways.join(", "),
            kind.cluster,
            policies.cluster
        );
        let matches = format!("protocol = \"{}\"", kind.protocol);
        let timeout =
            format!("timeout = \"{}ms\"\n{}", policies.timeout.as_millis(), policies.route);
        let proxy =
            Config::busy().section(&section).route("all", &matches, "all", &timeout).start();
        // A session's requests wait for as long as it lives.
        let limit = if kind.session { PATIENCE } else { policies.timeout + SLACK };
        let address = proxy.address(kind.protocol);
        let load = Load::start(address, kind.clients, kind.depth, limit, kind.dialect);
        let mut story = Self { kind, proxy, admin, servers, lane, load };
        story.calm();
        // A deadline that is short beside the start of servers on a busy machine may be missed.
        if policies.timeout > SLACK {
            assert_eq!(story.load.count().errors(), 0, "{}: errors at the start", kind.name);
        }
        Some(story)
    }

    /// What became of the requests so far.
    pub fn count(&self) -> Count {
        self.load.count()
    }

    /// Waits until the load has run without an error for a while.
    pub fn calm(&mut self) {
        let (mut since, mut before) = (Instant::now(), self.load.count());
        self.wait("calm load", move |load| {
            let now = load.count();
            if now.errors() > before.errors() {
                (since, before) = (Instant::now(), now);
            }
            since.elapsed() > CALM && now.answered > before.answered + 50
        });
    }

    /// A server dies, is away for a while, and comes back.
    pub fn kill(&mut self) {
        self.servers[1].kill();
        sleep(Duration::from_millis(500));
        self.servers[1].restart();
    }

    /// A server dies and comes back again and again.
    pub fn flap(&mut self) {
        for _ in 0..3 {
            self.servers[1].kill();
            sleep(Duration::from_millis(50));
            self.servers[1].restart();
            sleep(Duration::from_millis(150));
        }
    }

    /// A server stands still until all that was asked before, and much that is asked
    /// meanwhile, has ended all the same.
    pub fn pause(&mut self) {
        self.servers[2].pause();
        self.outlive();
        self.servers[2].resume();
    }

    /// A session's server stands still, and its sessions with it.
    pub fn pause_for(&mut self, time: Duration) {
        self.servers[2].pause();
        sleep(time);
        self.servers[2].resume();
    }

    /// A server answers slower than the others by `delay`, for a while.
    pub fn slow(&mut self, delay: Duration, time: Duration) {
        self.lane.takes(delay / 2);
        sleep(time);
        self.lane.takes(Duration::ZERO);
    }

    /// A server answers later than anybody waits, until all that was asked before, and
    /// much that is asked meanwhile, has ended all the same.
    pub fn crawl(&mut self) {
        self.lane.takes(PATIENCE);
        self.outlive();
        self.lane.takes(Duration::ZERO);
    }

    /// Waits until all requests that are in flight a moment from now have ended.
    fn outlive(&mut self) {
        sleep(Duration::from_millis(300));
        let moment = Instant::now();
        self.wait("end of what was in flight", |load| load.past(moment));
    }

    fn wait(&mut self, what: &str, mut there: impl FnMut(&Load) -> bool) {
        let start = Instant::now();
        while !there(&self.load) {
            self.load.check();
            self.proxy.assert_alive();
            let count = self.load.count();
            assert!(start.elapsed() < PATIENCE, "{}: no {what}: {count:?}", self.kind.name);
            sleep(Duration::from_millis(10));
        }
    }

    /// The proxy's figures, by their names without `polyport_`.
    pub fn figures(&self) -> Figures {
        figures(self.admin)
    }

    /// Ends the load; every request has ended exactly once, in the clients' books and in
    /// the proxy's. What became of them, and the proxy's figures.
    pub fn end(mut self) -> (Count, Figures) {
        self.calm();
        let count = self.load.stop();
        count.assert_complete();
        let start = Instant::now();
        let mut figures = self.figures();
        while figures["requests_active"] > 0 && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20));
            figures = self.figures();
        }
        self.proxy.assert_alive();
        let name = self.kind.name;
        println!("{name}: {count:?}");
        assert_eq!(figures["requests_active"], 0, "{name}: {figures:?}");
        if !self.kind.session {
            let ended = figures["requests_answered_total"]
                + figures["requests_local_errors_total"]
                + figures["requests_abandoned_total"];
            assert_eq!(figures["requests_total"], ended, "{name}: {figures:?}");
            assert_eq!(figures["requests_total"], count.sent, "{name}: {figures:?}");
            // Every answer is the proxy's or a server's, and no client left before its own.
            assert_eq!(figures["requests_answered_total"], count.answered, "{name}: {figures:?}");
        }
        (count, figures)
    }
}
