//! Every config in examples/ runs before real servers, and does what its words say. Its
//! addresses are given to the servers of the test; those that no test needs lead nowhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt;
use polyport_tests::mqtt::mosquitto_pub;
use polyport_tests::peers::{curl, dubbo, program, python, python_start, redis_cli};
use polyport_tests::process::{Process, Running, finish, root, run};
use polyport_tests::proxy::binary;
use polyport_tests::thrift::thrift;
use polyport_tests::{
    BoltServer, DubboServer, MosquittoServer, Nginx, PATIENCE, Raw, RedisServer, ThriftServer,
    WebSockets, direct, ports,
};

/// An example at work.
struct Example {
    process: Process,
    places: BTreeMap<u16, SocketAddr>,
    folder: tempfile::TempDir,
}

impl Example {
    /// Starts `examples/NAME.toml`; `servers`: its ports, and who is really there.
    fn start(name: &str, servers: &[(u16, SocketAddr)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = format!("{name}.toml");
        let path = root().join("examples").join(&file);
        let text = std::fs::read_to_string(path).expect("the example");
        made_first(&text, folder.path());
        let mut places: BTreeMap<u16, SocketAddr> = servers.iter().copied().collect();
        let text = moved(&text, &mut places);
        let config = folder.path().join(file);
        std::fs::write(&config, text).expect("the config");
        let mut check = Command::new(binary());
        check.arg("check").arg("-c").arg(&config);
        let (status, _, complaint) = finish("polyport check", check);
        assert!(status.success() && complaint.is_empty(), "{name}: {complaint}");
        let mut command = Command::new(binary());
        command.args(["run", "--workers", "1", "-c"]).arg(config);
        let mut process = Process::start("polyport", command, folder.path());
        process.wait_for("line saying it is listening", |process| {
            process.log().lines().any(|line| line.contains("listening"))
        });
        Self { process, places, folder }
    }

    /// Where what the example has at `port` really is.
    fn at(&self, port: u16) -> SocketAddr {
        *self.places.get(&port).expect("an address of the example")
    }

    fn port(&self, port: u16) -> String {
        self.at(port).port().to_string()
    }

    /// `polyport call dubbo`: the port of the server that answered.
    fn dubbo(&self, port: u16, method: &str, more: &[&str]) -> String {
        let mut command = Command::new(binary());
        let address = self.at(port).to_string();
        command.args(["call", "dubbo", &address, "com.shop.Orders", method]).args(more);
        run("polyport call dubbo", command)
    }
}

/// Runs the openssl commands that an example says to run first.
fn made_first(text: &str, folder: &Path) {
    for line in text.lines().filter_map(|line| line.strip_prefix("#   openssl ")) {
        let mut command = program("openssl");
        command.args(line.split(' ')).current_dir(folder);
        run("openssl", command);
    }
}

/// The text with each loopback address put where it really is.
fn moved(text: &str, places: &mut BTreeMap<u16, SocketAddr>) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (port, rest) = part.split_at(digits);
        let place = places.entry(port.parse().expect("a port")).or_insert_with(ports::free);
        out += &format!("{place}{rest}");
    }
    out
}

/// Asks until the answer is right; a server may not be known to be well yet.
fn until<T: std::fmt::Debug>(what: &str, ask: impl Fn() -> T, right: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let got = ask();
        if right(&got) {
            return got;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {got:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn shop(name: &str) -> (SocketAddr, Running) {
    let address = ports::free();
    let mut server = python_start("shop_grpc.py", &["serve", &address.port().to_string(), name]);
    server.wait_for("ready");
    (address, server)
}

fn grpc(port: &str, service: &str, method: &str, metadata: &[&str]) -> String {
    let arguments = [&["call", port, service, method], metadata].concat();
    python("shop_grpc.py", &arguments).trim().to_owned()
}

#[test]
fn redis_pool() {
    if direct() {
        return;
    }
    let primary = RedisServer::start();
    let port = primary.address.port().to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port]);
    let mut example =
        Example::start("redis-pool", &[(6379, primary.address), (6380, replica.address)]);
    let pool = example.at(7379);
    assert_eq!(redis_cli(pool, &["set", "greeting", "hello"]).trim(), "OK");
    assert_eq!(redis_cli(primary.address, &["get", "greeting"]).trim(), "hello");
    // Replicas lag behind; then reads are theirs.
    let get = || redis_cli(pool, &["get", "greeting"]).trim().to_owned();
    until("the replica has it", get, |got| got == "hello");
    let reads = |server: &RedisServer| server.info("keyspace_hits");
    let before = reads(&replica);
    until(
        "reads go to the replica",
        || {
            get();
            reads(&replica)
        },
        |hits| *hits > before,
    );
    let before = reads(&primary);
    assert_eq!(redis_cli(pool, &["set", "fresh:1", "new"]).trim(), "OK");
    assert_eq!(redis_cli(pool, &["get", "fresh:1"]).trim(), "new");
    assert!(reads(&primary) > before, "what must be fresh is read from the primary");
    for denied in ["flushall", "keys"] {
        let arguments = if denied == "keys" { &["keys", "*"][..] } else { &["flushall"] };
        let said = redis_cli(pool, arguments);
        assert!(said.starts_with("NOPERM"), "{denied}: {said}");
    }
    assert_eq!(redis_cli(primary.address, &["exists", "greeting"]).trim(), "1");
    // A transaction keeps its connection.
    let mut client = Raw::say(pool, "MULTI\r\nSET a 1\r\nINCR a\r\nEXEC\r\n");
    client.until("*2\r\n+OK\r\n:2\r\n");
    // Without replicas the primary answers reads too.
    drop(replica);
    until("reads go on", get, |got| got == "hello");
    assert!(example.process.running());
}

#[test]
fn dubbo_canary() {
    if direct() {
        return;
    }
    let (one, two, canary) = (DubboServer::start(), DubboServer::start(), DubboServer::start());
    let servers = [(20880, one.address), (20881, two.address), (20890, canary.address)];
    let example = Example::start("dubbo-canary", &servers);
    // The ports of those that answered, by attachment.
    let who = |tags: &[&str]| -> Vec<u16> {
        let said = dubbo(example.at(7880), "who", &[&["com.shop.Orders"], tags].concat());
        said.lines().map(|line| line.parse().expect("a port")).collect()
    };
    let new = canary.address.port();
    assert_eq!(who(&["canary=always", "tenant=acme", "tenant=acme"]), [new; 3]);
    // Most users meet the old version, and one user always the same.
    let users: Vec<String> = (0..40).map(|user| format!("user=u{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let met = || -> Vec<bool> { who(&users).into_iter().map(|port| port == new).collect() };
    let first = met();
    assert!(first.iter().filter(|canary| **canary).count() < users.len() / 2, "{first:?}");
    assert_eq!(met(), first);
    // Its share goes to the others while it is gone.
    drop(canary);
    let answer = || {
        let mut command = Command::new(binary());
        let address = example.at(7880).to_string();
        command.args(["call", "dubbo", &address, "com.shop.Orders", "plain", "back"]);
        command.args(["--attach", "tenant=acme"]);
        finish("polyport call dubbo", command)
    };
    until("the others answer", answer, |(status, said, _)| {
        status.success() && said.contains("back")
    });
}

#[test]
fn mqtt_edge() {
    if direct() {
        return;
    }
    let brokers = [MosquittoServer::start(), MosquittoServer::start(), MosquittoServer::start()];
    let servers: Vec<(u16, SocketAddr)> =
        (1883..).zip(brokers.iter().map(|broker| broker.address)).collect();
    let example = Example::start("mqtt-edge", &servers);
    let edge = example.at(7883);
    let pump = ["-i", "pump-7", "-u", "pump"];
    // Retained, so that who asks the same broker later finds it; the client id finds the broker.
    mosquitto_pub(
        edge,
        &[&pump[..], &["-r", "-q", "1", "-t", "pumps/7/state", "-m", "on"]].concat(),
    );
    let heard = |topic: &str, user: &str| {
        let mut command = program("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &edge.port().to_string(), "-i", "pump-7"]);
        command.args(["-u", user, "-t", topic, "-C", "1", "-W", "5"]);
        finish("mosquitto_sub", command).1.trim().to_owned()
    };
    assert_eq!(heard("pumps/7/state", "pump"), "on");
    assert_eq!(heard("#", "pump"), "", "nobody hears everything");
    // Commands are the operator's: the pump's is dropped, the operator's is kept.
    let command = ["-r", "-q", "1", "-t", "pumps/7/command", "-m"];
    let pub_as = |user: &str, text: &str| {
        let mut publish = program("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-p", &edge.port().to_string(), "-i", "pump-7"]);
        publish.args(["-u", user]).args(command).arg(text);
        finish("mosquitto_pub", publish)
    };
    pub_as("pump", "explode");
    pub_as("operator", "stop");
    assert_eq!(heard("pumps/7/command", "operator"), "stop");
    let mut nameless = program("mosquitto_pub");
    nameless.args(["-h", "127.0.0.1", "-p", &edge.port().to_string(), "-t", "a", "-m", "b"]);
    assert!(!finish("mosquitto_pub", nameless).0.success(), "nobody without a name");
}

#[test]
fn grpc_gateway() {
    if direct() {
        return;
    }
    let (one, _one) = shop("one");
    let (two, _two) = shop("two");
    let (stock, _stock) = shop("stock");
    let example = Example::start("grpc-gateway", &[(50051, one), (50052, two), (50061, stock)]);
    let gate = example.port(7050);
    let orders = |method: &str, more: &[&str]| grpc(&gate, "shop.Orders", method, more);
    let first = until("orders", || orders("Find", &["x-debug=1"]), |said| !said.contains("UNAV"));
    assert_eq!(first, "one shop.Orders.Find orders False");
    assert!(orders("Find", &["x-tenant=acme"]).starts_with("two shop.Orders.Find"));
    assert!(orders("Search", &[]).starts_with("one shop.Orders.Search"));
    assert!(grpc(&gate, "shop.StockAudit", "List", &[]).starts_with("stock shop.StockAudit.List"));
    assert_eq!(grpc(&gate, "shop.Nothing", "Find", &[]), "UNIMPLEMENTED");
    assert_eq!(curl(&[&format!("http://127.0.0.1:{gate}/healthz")]), "fine\n");
}

#[test]
fn one_port() {
    if direct() {
        return;
    }
    let (redis, nginx, live) = (RedisServer::start(), Nginx::start(), WebSockets::start());
    let (stock, _stock) = shop("stock");
    let (broker, dubbo, payments) =
        (MosquittoServer::start(), DubboServer::start(), BoltServer::start());
    let goods = ThriftServer::start("threaded", &["framed/binary"]);
    let servers = [
        (6379, redis.address),
        (8080, nginx.address),
        (8081, nginx.address),
        (8090, live.address),
        (50051, stock),
        (1883, broker.address),
        (20880, dubbo.address),
        (12200, payments.address),
        (9090, goods.address()),
    ];
    let example = Example::start("one-port", &servers);
    let edge = example.at(7000);
    assert_eq!(redis_cli(edge, &["ping"]).trim(), "PONG");
    assert!(redis_cli(edge, &["flushall"]).starts_with("NOPERM"));
    assert!(curl(&[&format!("http://{edge}/who")]).contains("method=GET"));
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let hello = format!(
        "GET /live HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    );
    let answer = Raw::say(edge, hello).until("\r\n\r\n").to_lowercase();
    assert!(
        answer.starts_with("http/1.1 101") && answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    let said = grpc(&example.port(7000), "shop.Stock", "Count", &[]);
    assert!(said.starts_with("stock shop.Stock.Count"), "{said}");
    mosquitto_pub(edge, &["-q", "1", "-t", "hello", "-m", "world"]);
    assert!(example.dubbo(7000, "plain", &["back"]).contains("back"));
    bolt(edge, "echo", &[]);
    thrift("sizes", &[("framed/binary", edge)], &[]);
    let stats = curl(&[&format!("http://{}/stats", example.at(7001))]);
    assert!(stats.contains("polyport_downstream_connections_active"), "{stats}");
}

#[test]
fn polyport() {
    if direct() {
        return;
    }
    let (redis, nginx, dubbo) = (RedisServer::start(), Nginx::start(), DubboServer::start());
    let servers = [
        (6379, redis.address),
        (8080, nginx.address),
        (8081, nginx.address),
        (20880, dubbo.address),
        (20881, dubbo.address),
    ];
    let example = Example::start("polyport", &servers);
    let edge = example.at(7000);
    assert_eq!(redis_cli(edge, &["ping"]).trim(), "PONG");
    assert!(curl(&[&format!("http://{edge}/who")]).contains("method=GET"));
    assert!(example.dubbo(7000, "plain", &["back", "--attach", "tenant=acme"]).contains("back"));
}

#[test]
fn traffic() {
    if direct() {
        return;
    }
    let (redis, dubbo) = (RedisServer::start(), DubboServer::start());
    let servers = [
        (6379, redis.address),
        (6380, redis.address),
        (6381, redis.address),
        (20880, dubbo.address),
        (20881, dubbo.address),
        (20882, dubbo.address),
    ];
    let example = Example::start("traffic", &servers);
    assert_eq!(redis_cli(example.at(7000), &["ping"]).trim(), "PONG");
    // Reads are let through; writes from here are not, by `only`.
    let call = |method: &str| {
        let mut command = Command::new(binary());
        let address = example.at(7000).to_string();
        command.args(["call", "dubbo", &address, "com.shop.Orders", method, "x"]);
        let (status, said, complaint) = finish("polyport call dubbo", command);
        format!("{} {said}{complaint}", status.success())
    };
    let read = call("getOrder");
    assert!(!read.contains("denied"), "a read reaches the server: {read}");
    let write = call("plain");
    assert!(write.contains("polyport: denied"), "{write}");
}

#[test]
fn tls_edge() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let redis = RedisServer::start();
    // The web server of the example speaks TLS, by the example's own authority; here the
    // edge and its words on plain connections are enough.
    let example = Example::start("tls-edge", &[(8443, nginx.address), (6379, redis.address)]);
    let edge = example.at(7443);
    let said = curl(&["-i", "-H", "host: shop.example", &format!("http://{edge}/a")]);
    assert!(said.contains("308") && said.contains("location: https://shop.example/a"), "{said}");
    let ca = example.folder.path().join("edge.crt");
    let ca = ca.to_str().expect("a path");
    let to = format!("::{edge}");
    let said = curl(&["-i", "--cacert", ca, "--connect-to", &to, "https://shop.example/"]);
    assert!(said.contains(" 50"), "the web server that is there speaks no TLS: {said}");
    let refused = Raw::say(edge, "PING\r\n").until("\r\n");
    assert!(refused.starts_with('-'), "the cache is for the cart only: {refused}");
}
