//! Everybody: every family of protocols at once on one port with one set of rules, in the
//! clear and under TLS. The clients are the ones people use; each checks what it hears, and
//! whatever goes wrong for one of them fails the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::bolt::bolt_start;
use crate::http2::{assert_h2load_clean, h2load};
use crate::load::{Load, Tally};
use crate::mqtt::{mqtt_js_command, paho_command};
use crate::peers::{assert_wrk_clean, curl, dubbo_start, python, redis_benchmark, redis_cli, wrk};
use crate::process::{Running, run};
use crate::thrift::{WIRES, thrift};
use crate::{
    Authority, BoltServer, Config, DubboServer, GrpcServer, Haproxy, MosquittoServer, Nginx, Proxy,
    RedisServer, ThriftServer, WebSockets,
};

/// What the certificate is for; it is for 127.0.0.1 as well.
const NAME: &str = "edge.test";

/// Polyport before a server of each protocol.
pub struct Edge {
    /// Where it listens.
    pub address: SocketAddr,
    /// Clients of it speak in the clear, and Polyport hears TLS behind a PROXY header.
    pub relay: Haproxy,
    /// Who vouches for its certificate: a file.
    pub ca: String,
    /// It.
    pub proxy: Proxy,
    _servers: Servers,
}

struct Servers {
    authority: Authority,
    redis: RedisServer,
    nginx: Nginx,
    dubbo: DubboServer,
    thrift: ThriftServer,
    bolt: BoltServer,
    mqtt: MosquittoServer,
    grpc: GrpcServer,
    websockets: WebSockets,
}

impl Servers {
    fn start() -> Self {
        Self {
            authority: Authority::new(),
            redis: RedisServer::start(),
            nginx: Nginx::start(),
            dubbo: DubboServer::start(),
            thrift: ThriftServer::start("threaded", &WIRES),
            bolt: BoltServer::start(),
            mqtt: MosquittoServer::start(),
            grpc: GrpcServer::start("one"),
            websockets: WebSockets::start(),
        }
    }
}

/// Starts it; `more` is added to its config.
pub fn edge(more: &str) -> Edge {
    let servers = Servers::start();
    let pair = servers.authority.issue("edge", "/CN=edge", &format!("DNS:{NAME},IP:127.0.0.1"));
    let mut config = Config::busy()
        // Two dozen clients and their servers share the machine's cores: an endpoint may take
        // a while to say that it is there.
        .section("[defaults]\nconnect-timeout = \"10s\"\ntimeout = \"30s\"")
        .section(more)
        .listener("proxy-protocol = \"optional\"")
        .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml()))
        .deny("nobody flushes", "protocol = \"redis\", command = [\"flushall\", \"flushdb\"]")
        .deny("nobody from there", "source.ip = { cidr = \"203.0.113.0/24\" }")
        .cluster("grpc", servers.grpc.address, "http2 = true")
        .route("grpc", "service = { prefix = \"polyport.test.\" }", "grpc", "")
        .cluster("websockets", servers.websockets.address, "")
        .route("websockets", "protocol = \"http\", path = \"/echo\"", "websockets", "");
    for &(wire, address) in &servers.thrift.wires {
        let (transport, encoding) = wire.split_once('/').expect("a transport and a protocol");
        let transport = if transport == "buffered" { "unframed" } else { transport };
        let matches = format!("transport = \"{transport}\", encoding = \"{encoding}\"");
        config = config.cluster(wire, address, "").route(wire, &matches, wire, "");
    }
    let proxy = config
        .all("redis", servers.redis.address)
        .all("http", servers.nginx.address)
        .all("dubbo", servers.dubbo.address)
        .all("bolt", servers.bolt.address)
        .all("mqtt", servers.mqtt.address)
        .start();
    let (address, ca) = (proxy.address("edge"), servers.authority.ca());
    let options = format!("ssl verify required ca-file {ca} verifyhost {NAME} send-proxy-v2");
    let relay = Haproxy::before(address, "", &options);
    Edge { address, relay, ca, proxy, _servers: servers }
}

/// One client at work until the end; how much it did.
struct Client {
    name: &'static str,
    thread: JoinHandle<u64>,
}

/// Clients at work until a time.
pub struct Clients {
    end: Instant,
    all: Vec<Client>,
}

impl Clients {
    /// None yet; those to come work for so long from now on.
    pub fn until(time: Duration) -> Self {
        Self { end: Instant::now() + time, all: Vec::new() }
    }

    /// When they stop.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// A client that goes on until the end by itself.
    pub fn lasting(&mut self, name: &'static str, client: Running, count: fn(&str) -> u64) {
        let end = self.end;
        let thread = spawn(move || {
            sleep(end.saturating_duration_since(Instant::now()));
            count(&client.succeed())
        });
        self.all.push(Client { name, thread });
    }

    /// A client that is told to stop at the end.
    pub fn stopped(&mut self, name: &'static str, load: Load) {
        let end = self.end;
        let thread = spawn(move || {
            sleep(end.saturating_duration_since(Instant::now()));
            perfect(load.stop())
        });
        self.all.push(Client { name, thread });
    }

    /// A client that does its part again and again; it says how much that was.
    pub fn rounds(&mut self, name: &'static str, part: impl Fn(usize) -> u64 + Send + 'static) {
        let end = self.end;
        let thread = spawn(move || {
            let rounds = (0..).take_while(|_| Instant::now() < end);
            rounds.map(part).sum()
        });
        self.all.push(Client { name, thread });
    }

    /// Waits for all of them; how much each did. Panics where one failed.
    pub fn finish(self) -> BTreeMap<&'static str, u64> {
        let (mut counts, mut failed) = (BTreeMap::new(), Vec::new());
        for client in self.all {
            match client.thread.join() {
                Ok(count) => *counts.entry(client.name).or_default() += count,
                Err(_) => failed.push(client.name),
            }
        }
        println!("{:<28} {:>12}", "client", "answers");
        counts.iter().for_each(|(name, count)| println!("{name:<28} {count:>12}"));
        // Each has said above why.
        assert!(failed.is_empty(), "failed: {failed:?}");
        counts
    }
}

fn perfect(tally: Tally) -> u64 {
    tally.assert_perfect();
    tally.answered
}

fn tallied(report: &str) -> u64 {
    perfect(Tally::read(report))
}

fn wrk_count(report: &str) -> u64 {
    assert_wrk_clean(report);
    let line = report.lines().find(|line| line.contains(" requests in "));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("how many requests")
}

fn benchmark(address: SocketAddr, tls: &[&str]) -> u64 {
    let words = ["-t", "set,get", "-P", "8", "-c", "8", "-n", "5000", "-r", "1000", "-q"];
    let report = redis_benchmark(address, &[&words[..], tls].concat()).succeed();
    assert!(report.contains("GET: ") && !report.contains("rror"), "{report}");
    10_000
}

fn h2load_round(scheme: &str, address: SocketAddr) -> u64 {
    let url = format!("{scheme}://{address}/index.html");
    assert_h2load_clean(&h2load(&url, &["-n", "1000", "-c", "4", "-m", "8"]).succeed(), 1000);
    1000
}

fn told_by(name: &str, command: Command, count: u64) -> u64 {
    run(name, command);
    count
}

/// A client of MQTT; `ca` where it is to use TLS.
fn mqtt_round(round: usize, address: SocketAddr, ca: Option<&str>) -> u64 {
    let version = ["3.1", "3.1.1", "5.0"][round % 3];
    // Each of two clients sends and hears so many messages at each QoS.
    told_by("paho", paho_command(address, "many", version, &["50"], ca), 2 * 3 * 50)
}

/// Stories of WebSocket, over HTTP/1.1 and on streams of HTTP/2, and how many messages
/// each sends and hears.
const SOCKETS: [(&str, u64); 2] = [("many", 20 * 200), ("streamed", 6 + 10 * 20)];

const THRIFT_ARGUMENTS: [&str; 4] = ["1", "2", "4", "strict"];

/// What redis-py does. The first reads what it has written in the same pipeline.
const STORIES: [&str; 6] = ["pipelines", "transactions", "watch", "pubsub", "blocking", "resp3"];

/// All that speak in the clear.
pub fn plain(clients: &mut Clients, address: SocketAddr, seconds: &str) {
    clear(clients, address, seconds, &STORIES);
}

/// The same where one client's pipelined commands may go different ways, so that one that
/// reads may overtake one that writes.
pub fn parted(clients: &mut Clients, address: SocketAddr, seconds: &str) {
    clear(clients, address, seconds, &STORIES[1..]);
}

fn clear(
    clients: &mut Clients,
    address: SocketAddr,
    seconds: &str,
    stories: &'static [&'static str],
) {
    let port = address.port().to_string();
    clients.stopped("redis", Load::redis(address, 2, 8));
    clients.rounds("redis, redis-benchmark", move |_| benchmark(address, &[]));
    let told = port.clone();
    clients.rounds("redis, redis-py stories", move |round| {
        python("redis_stories.py", &[stories[round % stories.len()], &told]);
        1
    });
    clients.stopped("http/1.1", Load::http(address, 2, 4, "/index.html", "hello\n"));
    let url = format!("http://{address}/index.html");
    let lasting = ["-t", "1", "-c", "4", "--timeout", "20s", "-d", seconds];
    clients.lasting("http/1.1, wrk", wrk(&url, &lasting), wrk_count);
    clients.rounds("http/2, h2load", move |_| h2load_round("http", address));
    clients.rounds("http/2, curl", move |_| {
        assert_eq!(curl(&["-f", "--http2-prior-knowledge", &url]), "hello\n");
        1
    });
    let load = [seconds, "2", "4", "strict"];
    clients.lasting("dubbo, dubbo-remoting", dubbo_start(address, "load", &load), tallied);
    clients.lasting("bolt, sofa-bolt-node", bolt_start(address, "load", &load), tallied);
    clients.rounds("thrift, Apache's", move |round| {
        let wire = [(WIRES[round % WIRES.len()], address)];
        tallied(&thrift("load", &wire, &THRIFT_ARGUMENTS))
    });
    clients.rounds("mqtt, paho", move |round| mqtt_round(round, address, None));
    // Thirty messages in each of three versions.
    clients.rounds("mqtt, MQTT.js", move |_| {
        told_by("mqtt.js", mqtt_js_command(address, "exchange", None), 90)
    });
    clients.rounds("grpc, grpcio", move |_| {
        python("grpc_stories.py", &["load", &port]);
        8 * 10 * 40
    });
    let url = format!("ws://{address}");
    clients.rounds("websocket", move |round| {
        let (story, messages) = SOCKETS[round % 2];
        python("websocket_stories.py", &[story, &url]);
        messages
    });
}

/// All that speak TLS, or behind a relay that does it for them.
pub fn secure(clients: &mut Clients, edge: &Edge, seconds: &str) {
    let (address, relay) = (edge.address, edge.relay.address);
    let port = address.port().to_string();
    let url = format!("https://{address}/index.html");
    let lasting = ["-t", "1", "-c", "4", "--timeout", "20s", "-d", seconds];
    clients.lasting("http/1.1, wrk, tls", wrk(&url, &lasting), wrk_count);
    clients.rounds("http/2, h2load, tls", move |_| h2load_round("https", address));
    let ca = edge.ca.clone();
    clients.rounds("http, curl, tls", move |round| {
        let version = ["--http1.1", "--http2"][round % 2];
        assert_eq!(curl(&["-f", version, "--cacert", &ca, &url]), "hello\n");
        1
    });
    let ca = edge.ca.clone();
    clients.rounds("redis, redis-benchmark, tls", move |_| {
        benchmark(address, &["--tls", "--cacert", &ca, "--sni", NAME])
    });
    let ca = edge.ca.clone();
    clients.rounds("redis, redis-cli, tls", move |round| {
        let value = format!("value-{round}");
        let words = ["--tls", "--cacert", &ca, "--sni", NAME, "-r", "200", "ECHO", &value];
        assert_eq!(redis_cli(address, &words), format!("{value}\n").repeat(200));
        200
    });
    let ca = edge.ca.clone();
    clients.rounds("mqtt, paho, tls", move |round| mqtt_round(round, address, Some(&ca)));
    let ca = edge.ca.clone();
    clients.rounds("mqtt, MQTT.js, tls", move |_| {
        told_by("mqtt.js", mqtt_js_command(address, "exchange", Some(&ca)), 90)
    });
    let ca = edge.ca.clone();
    clients.rounds("grpc, grpcio, tls", move |_| {
        python("grpc_stories.py", &["load", &port, &ca, NAME]);
        8 * 10 * 40
    });
    let (ca, url) = (edge.ca.clone(), format!("wss://{address}"));
    clients.rounds("websocket, tls", move |round| {
        let (story, messages) = SOCKETS[round % 2];
        python("websocket_stories.py", &[story, &url, &ca, NAME]);
        messages
    });
    // These clients know no TLS: HAProxy does it for them, and says who they are.
    let load = [seconds, "1", "4", "strict"];
    clients.lasting("dubbo, proxy and tls", dubbo_start(relay, "load", &load), tallied);
    clients.lasting("bolt, proxy and tls", bolt_start(relay, "load", &load), tallied);
    clients.rounds("thrift, proxy and tls", move |round| {
        let wire = [(WIRES[round % WIRES.len()], relay)];
        tallied(&thrift("load", &wire, &THRIFT_ARGUMENTS))
    });
    clients.stopped("redis, proxy and tls", Load::redis(relay, 1, 8));
    clients.stopped("http/1.1, proxy and tls", Load::http(relay, 1, 4, "/index.html", "hello\n"));
}
