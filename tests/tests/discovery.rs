//! Endpoints that come and go while the proxy runs, told by files and by DNS. No request
//! fails because of it, and no endpoint is lost because a source is in trouble.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt_start;
use polyport_tests::load::{Load, Tally};
use polyport_tests::peers::{dubbo_start, python, redis_cli};
use polyport_tests::process::{Running, finish};
use polyport_tests::proxy::binary;
use polyport_tests::thrift::thrift_start;
use polyport_tests::{
    BoltServer, Config, Dnsmasq, DubboServer, GrpcServer, MosquittoServer, Nginx, PATIENCE, Proxy,
    Raw, RedisServer, ThriftServer, direct, ports,
};
use tempfile::TempDir;

/// Waits until `there` is true.
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < PATIENCE, "no {what}");
        sleep(Duration::from_millis(20));
    }
}

fn log(proxy: &mut Proxy) -> String {
    proxy.process().expect("a proxy").log()
}

/// Runs `change` and waits until the log has all of these words after it.
fn told(proxy: &mut Proxy, words: &[String], change: impl FnOnce()) {
    let before = log(proxy).len();
    change();
    for word in words {
        until(word, || log(proxy).get(before..).is_some_and(|new| new.contains(word)));
    }
}

/// Files of endpoints, one a cluster.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.toml"))
    }

    /// Replaces the file as a whole, as careful writers do.
    fn write(&self, name: &str, endpoints: &[SocketAddr]) {
        let all: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
        self.say(name, &format!("endpoints = [{}]\n", all.join(", ")));
    }

    fn say(&self, name: &str, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.path(name)).expect("a file");
    }

    fn cluster(&self, name: &str, more: &str) -> String {
        let path = self.path(name);
        format!(
            "[[cluster]]\nname = \"{name}\"\ndiscover = {{ file = \"{}\", every = \"100ms\" }}\n{more}\n",
            path.display()
        )
    }
}

/// All of a protocol to the cluster of its name.
fn routed(config: Config, protocols: &[&str]) -> Config {
    protocols.iter().fold(config, |config, protocol| {
        let matches = match *protocol {
            // It is HTTP, too.
            "grpc" => "service = { prefix = \"polyport.test.\" }".to_owned(),
            protocol => format!("protocol = \"{protocol}\""),
        };
        config.route(protocol, &matches, protocol, "")
    })
}

/// What a cluster says beside where its endpoints are.
fn transport(name: &str) -> &'static str {
    if name == "grpc" { "http2 = true" } else { "" }
}

/// Clients of all whose endpoints come and go, except those of MQTT, which have sessions.
struct Crowd {
    redis: Load,
    http: Load,
    /// Those of other clients' libraries, which go on for so many seconds.
    others: Vec<(&'static str, Running)>,
    grpc: JoinHandle<u32>,
    stop: Arc<AtomicBool>,
}

const SECONDS: &str = "15";

impl Crowd {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (asked, port) = (Arc::clone(&stop), address.port().to_string());
        let words = [SECONDS, "2", "4", "strict"];
        let wire = [(WIRE, address)];
        Self {
            redis: Load::redis(address, 4, 8),
            http: Load::http(address, 4, 4, "/index.html", "hello\n"),
            others: vec![
                ("dubbo", dubbo_start(address, "load", &words)),
                ("bolt", bolt_start(address, "load", &words)),
                ("thrift", thrift_start("load", &wire, &words)),
            ],
            grpc: spawn(move || {
                let mut rounds = 0;
                while !asked.load(Ordering::Relaxed) {
                    // It checks every answer.
                    python("grpc_stories.py", &["load", &port]);
                    rounds += 1;
                }
                rounds
            }),
            stop,
        }
    }

    /// Ends it; nothing went wrong for anybody.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.redis.stop().assert_perfect();
        self.http.stop().assert_perfect();
        for (name, client) in self.others {
            println!("{name}");
            Tally::read(&client.succeed()).assert_perfect();
        }
        assert!(self.grpc.join().expect("calls that all went well") > 0);
    }
}

const WIRE: &str = "framed/binary";

/// A session with a broker that must last, with a word at a time that must arrive.
struct Session {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Session {
    /// Begins one; it is there once this returns.
    fn begin(proxy: SocketAddr, client: &str) -> Self {
        let mut connect = b"\x10\0\0\x04MQTT\x04\x02\0\x3c\0".to_vec();
        connect.push(client.len() as u8);
        connect.extend_from_slice(client.as_bytes());
        connect[1] = (connect.len() - 2) as u8;
        let mut raw = Raw::say(proxy, &connect);
        assert_eq!(raw.bytes(4), b"\x20\x02\0\0", "CONNACK");
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (asked, arrived) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                let count = arrived.load(Ordering::Relaxed);
                let [high, low] = (count as u16 % 60_000 + 1).to_be_bytes();
                raw.send([0x32, 6, 0, 1, b't', high, low, b'x']);
                assert_eq!(raw.bytes(4), [0x40, 2, high, low], "PUBACK");
                arrived.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2));
            }
        });
        Self { stop, count, thread }
    }

    /// Ends it, after some more words; it has been there all the time.
    fn end(self) {
        let before = self.count.load(Ordering::Relaxed);
        until("further words of a session", || {
            self.thread.is_finished() || self.count.load(Ordering::Relaxed) > before + 10
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a session that lasted");
    }
}

/// A session with `broker`, as soon as new ones begin there: workers hear of a change one
/// after the other, each when it gets to it.
fn at_last(proxy: SocketAddr, broker: &MosquittoServer) -> Session {
    for number in 0..1000 {
        let client = format!("new-{number}");
        let session = Session::begin(proxy, &client);
        if broker.process().log().contains(&format!("as {client} ")) {
            return session;
        }
        session.end();
    }
    panic!("no session begins with {}", broker.address);
}

/// Nobody is connected to it but who asks.
fn is_left(server: &RedisServer) -> bool {
    server.info("connected_clients") == 1
}

#[test]
fn endpoints_come_and_go_in_files_under_load() {
    if direct() {
        return;
    }
    let redis = [RedisServer::start(), RedisServer::start()];
    let http = [Nginx::start(), Nginx::start()];
    let dubbo = [DubboServer::start(), DubboServer::start()];
    let mqtt = [MosquittoServer::start(), MosquittoServer::start()];
    let bolt = [BoltServer::start(), BoltServer::start()];
    let thrift = [(); 2].map(|()| ThriftServer::start("threaded", &[WIRE]));
    let grpc = ["one", "two"].map(GrpcServer::start);
    let files = Files::new();
    let all: [(&str, [SocketAddr; 2]); 7] = [
        ("grpc", [grpc[0].address, grpc[1].address]),
        ("redis", [redis[0].address, redis[1].address]),
        ("http", [http[0].address, http[1].address]),
        ("dubbo", [dubbo[0].address, dubbo[1].address]),
        ("mqtt", [mqtt[0].address, mqtt[1].address]),
        ("bolt", [bolt[0].address, bolt[1].address]),
        ("thrift", [thrift[0].address(), thrift[1].address()]),
    ];
    let mut config = Config::busy();
    for (name, addresses) in &all {
        files.write(name, &addresses[..1]);
        config = config.section(&files.cluster(name, transport(name)));
    }
    let mut proxy = routed(config, &all.map(|(name, _)| name)).start();
    let address = proxy.address("redis");
    assert!(log(&mut proxy).contains("endpoints changed"), "found before it listens");

    let crowd = Crowd::start(address);
    let first = Session::begin(address, "first");
    // It waits at the first server until that is gone, and is answered there.
    let mut waiting = Raw::say(address, "*3\r\n$5\r\nBLPOP\r\n$1\r\nw\r\n$2\r\n50\r\n");
    until("wait", || redis[0].info("blocked_clients") == 1);

    // One comes and then the other goes, back and forth.
    let (mut stays, mut second) = (0, None);
    for _ in 0..4 {
        let comes = 1 - stays;
        let words = |word: &str, at: usize| -> Vec<String> {
            all.iter().map(|(_, addresses)| format!("{word} {}", addresses[at])).collect()
        };
        told(&mut proxy, &words("came", comes), || {
            for (name, addresses) in &all {
                files.write(name, addresses);
            }
        });
        sleep(Duration::from_millis(200));
        told(&mut proxy, &words("went", stays), || {
            for (name, addresses) in &all {
                files.write(name, &[addresses[comes]]);
            }
        });
        if second.is_none() {
            // The request in flight goes on where it is; so does the session.
            assert_eq!(redis[0].info("blocked_clients"), 1);
            redis_cli(redis[0].address, &["LPUSH", "w", "done"]);
            assert!(waiting.until("done").starts_with("*2"));
            drop(std::mem::replace(&mut waiting, Raw::connect(address)));
            // A new session finds the new broker.
            second = Some(at_last(address, &mqtt[1]));
        }
        until("end of the connections to one that is gone", || is_left(&redis[stays]));
        stays = comes;
    }
    crowd.end();
    first.end();
    second.expect("a session").end();
    proxy.assert_alive();
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// A Redis server at several loopback addresses, one port for all.
fn everywhere() -> RedisServer {
    RedisServer::with(&["--bind", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"])
}

/// At which of its addresses a server has connections.
fn reached(server: &RedisServer) -> Vec<u8> {
    let list = redis_cli(server.address, &["CLIENT", "LIST"]);
    let port = format!(":{} ", server.address.port());
    // Who asks is at the first.
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    let mut found: Vec<u8> = others
        .filter_map(|line| line.split_once("laddr=127.0.0.")?.1.split_once(&port)?.0.parse().ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn dns(name: &str, what: &str, dnsmasq: &Dnsmasq, more: &str) -> String {
    format!(
        "[[cluster]]\nname = \"{name}\"\ndiscover = {{ {what}, every = \"100ms\", resolver = [\"{}\"] }}\n{more}\n",
        dnsmasq.address
    )
}

#[test]
fn endpoints_come_and_go_in_dns_under_load() {
    if direct() {
        return;
    }
    let redis = everywhere();
    let port = redis.address.port();
    let elsewhere = ports::free().port();
    let listen: String =
        (1..=4).map(|last| format!("listen 127.0.0.{last}:{elsewhere};\n")).collect();
    let _nginx = Nginx::with(&listen, "");
    let dubbo = [DubboServer::start(), DubboServer::start()];
    let mqtt = [MosquittoServer::start(), MosquittoServer::start()];
    let bolt = [BoltServer::start(), BoltServer::start()];
    let thrift = [(); 2].map(|()| ThriftServer::start("threaded", &[WIRE]));
    let grpc = ["one", "two"].map(GrpcServer::start);
    // Each at two ports of one host.
    let served: [(&str, [SocketAddr; 2]); 5] = [
        ("_dubbo._tcp.test", [dubbo[0].address, dubbo[1].address]),
        ("_mqtt._tcp.test", [mqtt[0].address, mqtt[1].address]),
        ("_bolt._tcp.test", [bolt[0].address, bolt[1].address]),
        ("_thrift._tcp.test", [thrift[0].address(), thrift[1].address()]),
        ("_grpc._tcp.test", [grpc[0].address, grpc[1].address]),
    ];
    let mut server = Dnsmasq::start(&[]);
    let hosts = |lasts: &[u8]| -> Vec<(&str, IpAddr)> {
        let both =
            lasts.iter().flat_map(|last| [("redis.test", ip(*last)), ("web.test", ip(*last))]);
        both.chain([("here.test", ip(1))]).collect()
    };
    let services = |at: &[usize]| -> Vec<(&str, &str, u16, u16, u16)> {
        let all = at.iter().flat_map(|at| {
            served.iter().map(|(name, addresses)| (*name, "here.test", addresses[*at].port(), 0, 1))
        });
        all.collect()
    };
    server.hosts(&hosts(&[2]));
    server.services(&services(&[0]));
    let mut config = Config::busy()
        .section(&dns("redis", &format!("dns = \"redis.test:{port}\""), &server, ""))
        .section(&dns("http", &format!("dns = \"web.test:{elsewhere}\""), &server, ""));
    for name in ["dubbo", "mqtt", "bolt", "thrift", "grpc"] {
        let what = format!("srv = \"_{name}._tcp.test\"");
        config = config.section(&dns(name, &what, &server, transport(name)));
    }
    let names = ["grpc", "redis", "http", "dubbo", "mqtt", "bolt", "thrift"];
    let mut proxy = routed(config, &names).start();
    let address = proxy.address("redis");
    let crowd = Crowd::start(address);
    let session = Session::begin(address, "lasting");
    until("connection to the first address", || reached(&redis) == [2]);

    let found = |word: &str, last: u8| {
        [port, elsewhere].map(|port| format!("{word} 127.0.0.{last}:{port}"))
    };
    let steps: [(&[u8], &str, u8); 4] =
        [(&[2, 3], "came", 3), (&[3], "went", 2), (&[3, 4], "came", 4), (&[4], "went", 3)];
    for (lasts, word, last) in steps {
        told(&mut proxy, &found(word, last), || server.hosts(&hosts(lasts)));
        if let [only] = lasts {
            until("end of connections elsewhere", || reached(&redis) == [*only]);
        } else {
            sleep(Duration::from_millis(200));
        }
    }
    let both =
        |word: &str, at: usize| served.map(|(_, addresses)| format!("{word} {}", addresses[at]));
    told(&mut proxy, &both("came", 1), || server.services(&services(&[0, 1])));
    told(&mut proxy, &both("went", 0), || server.services(&services(&[1])));
    at_last(address, &mqtt[1]).end();

    crowd.end();
    session.end();
    proxy.assert_alive();
}

#[test]
fn a_name_server_that_dies_takes_nothing_with_it() {
    if direct() {
        return;
    }
    let redis = everywhere();
    let mut server = Dnsmasq::start(&[("redis.test", ip(2))]);
    let what = format!("dns = \"redis.test:{}\"", redis.address.port());
    let config = Config::new().section(&dns("redis", &what, &server, ""));
    let mut proxy = routed(config, &["redis"]).start();
    let load = Load::redis(proxy.address("redis"), 2, 4);
    told(&mut proxy, &["the last ones stay".to_owned()], || server.kill());
    // A new config, too, goes on with what was found.
    let file = proxy.config();
    let text = fs::read_to_string(&file).expect("the config");
    fs::write(&file, format!("{text}\n[[route]]\nname = \"more\"\nto = \"redis\"\n"))
        .expect("the config");
    let before = log(&mut proxy).len();
    proxy.process().expect("a proxy").hang_up();
    until("reload", || log(&mut proxy).get(before..).is_some_and(|new| new.contains("reloaded")));
    assert_eq!(redis_cli(proxy.address("redis"), &["PING"]).trim(), "PONG");
    assert_eq!(reached(&redis), [2]);
    // It comes back without the name: that is no reason either.
    told(&mut proxy, &["there is no such name".to_owned()], || {
        server.hosts_when_back(&[("other.test", ip(3))]);
    });
    assert_eq!(redis_cli(proxy.address("redis"), &["PING"]).trim(), "PONG");
    // It has the name again, elsewhere.
    let words = [format!("came 127.0.0.3:{}", redis.address.port()), "source is back".to_owned()];
    told(&mut proxy, &words, || server.hosts(&[("redis.test", ip(3))]));
    until("end of connections elsewhere", || reached(&redis) == [3]);
    load.stop().assert_perfect();
}

#[test]
fn a_file_that_breaks_or_vanishes_takes_nothing_with_it() {
    if direct() {
        return;
    }
    let (redis, files) = ([RedisServer::start(), RedisServer::start()], Files::new());
    files.write("redis", &[redis[0].address]);
    let config = Config::new().section(&files.cluster("redis", ""));
    let mut proxy = routed(config, &["redis"]).start();
    let load = Load::redis(proxy.address("redis"), 2, 4);
    told(&mut proxy, &["redis.toml: line 2: ".to_owned()], || {
        files.say("redis", "endpoints = [\n  rubbish,\n]\n");
    });
    told(&mut proxy, &["No such file".to_owned()], || {
        fs::remove_file(files.path("redis")).expect("the file");
    });
    told(&mut proxy, &["names no endpoint".to_owned()], || files.write("redis", &[]));
    assert_eq!(redis_cli(proxy.address("redis"), &["PING"]).trim(), "PONG");
    assert!(!log(&mut proxy).contains("went"), "{}", log(&mut proxy));
    told(&mut proxy, &[format!("came {}", redis[1].address), "source is back".to_owned()], || {
        files.write("redis", &[redis[1].address]);
    });
    until("end of the connections to one that is gone", || is_left(&redis[0]));
    load.stop().assert_perfect();
}

#[test]
fn srv_priorities_say_who_comes_first() {
    if direct() {
        return;
    }
    let mut redis = [RedisServer::start(), RedisServer::start()];
    for (at, server) in redis.iter().enumerate() {
        redis_cli(server.address, &["SET", "who", &at.to_string()]);
    }
    let ports = [0, 1].map(|at: usize| redis[at].address.port());
    let services = |first: usize| {
        [
            ("_redis._tcp.test", "here.test", ports[first], 10, 1),
            ("_redis._tcp.test", "here.test", ports[1 - first], 20, 1),
        ]
    };
    let mut server = Dnsmasq::start(&[("here.test", ip(1))]);
    server.services(&services(0));
    let health = "health = { every = \"200ms\", protocol = \"redis\" }";
    let config =
        Config::new().section(&dns("redis", "srv = \"_redis._tcp.test\"", &server, health));
    let mut proxy = routed(config, &["redis"]).start();
    let who = |proxy: &Proxy| redis_cli(proxy.address("redis"), &["GET", "who"]).trim().to_owned();
    for _ in 0..10 {
        assert_eq!(who(&proxy), "0");
    }
    told(&mut proxy, &["changed ".to_owned()], || server.services(&services(1)));
    until("turn to the other", || who(&proxy) == "1");
    for _ in 0..10 {
        assert_eq!(who(&proxy), "1");
    }
    // The second serves where the first is not well.
    redis[1].kill();
    until("turn to the one that is well", || who(&proxy) == "0");
}

#[test]
fn without_any_endpoints_requests_are_refused_until_there_are() {
    if direct() {
        return;
    }
    let (redis, files) = (RedisServer::start(), Files::new());
    let more = [
        "discover.empty = \"believe\"",
        "balance = { maglev = \"key\" }",
        "breaker = { requests = 100, endpoint = { requests = 50 } }",
        "outlier = true",
        "health = \"1s\"",
    ];
    let cluster = format!(
        "[[cluster]]\nname = \"redis\"\ndiscover.file = \"{}\"\ndiscover.every = \"100ms\"\n{}\n",
        files.path("redis").display(),
        more.join("\n")
    );
    let mut proxy = routed(Config::new().section(&cluster), &["redis"]).start();
    assert!(log(&mut proxy).contains("starting without its endpoints"));
    let mut raw = Raw::connect(proxy.address("redis"));
    let mut answered = || {
        raw.send("*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
        let answer = raw.until("\r\n");
        assert!(answer == "$-1\r\n" || answer.contains("endpoint"), "{answer}");
        answer == "$-1\r\n"
    };
    assert!(!answered());
    files.write("redis", &[redis.address]);
    until("answer", &mut answered);
    // Nobody at all, where that is believed; and somebody again.
    files.write("redis", &[]);
    until("refusal", || !answered());
    files.write("redis", &[redis.address]);
    until("answer", &mut answered);
}

fn polyport(verb: &str, file: &Path, more: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(binary());
    command.arg(verb).arg("-c").arg(file).args(more);
    let (status, said, complaint) = finish("polyport", command);
    (status.success(), said, complaint)
}

#[test]
fn check_and_explain_ask_nobody() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("polyport.toml");
    // Nobody answers there, and nobody is to be asked.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a socket");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\ndiscover = {{ dns = \"a.test:1\", resolver = [\"{}\"] }}\nbalance = {{ hash = \"source.ip\" }}\n[[route]]\nname = \"all\"\nto = \"a\"\n",
        silent.local_addr().expect("an address")
    );
    fs::write(&file, text).expect("the config");
    let (fine, said, complaint) = polyport("check", &file, &[]);
    assert!(fine && complaint.is_empty() && said.contains(": fine. "), "{said}{complaint}");
    let (fine, said, complaint) =
        polyport("explain", &file, &["protocol=redis", "source.ip=1.2.3.4"]);
    assert!(
        fine && said.contains("endpoints, found while running: dns a.test:1"),
        "{said}{complaint}"
    );
    assert!(silent.recv(&mut [0; 1]).is_err(), "it was asked");

    fs::write(folder.path().join("a.json"), "{\"endpoints\": [\n5]}").expect("a file");
    let text = fs::read_to_string(&file).expect("the config");
    let from = text.find("{ dns").expect("a source")..text.find("] }").expect("its end") + 3;
    let text = [&text[..from.start], "{ file = \"a.json\" }", &text[from.end..]].concat();
    fs::write(&file, text).expect("the config");
    let (fine, _, complaint) = polyport("check", &file, &[]);
    assert!(fine && complaint.contains("a.json: line 2: invalid type"), "{complaint}");
}
