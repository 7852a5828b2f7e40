//! Health: servers that are stopped in their tracks, say that they are ill, or answer
//! badly, and where requests go meanwhile. A stopped process still takes connections, by
//! its kernel: only a check that waits for an answer sees it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt;
use polyport_tests::mqtt::mosquitto_pub;
use polyport_tests::peers::{curl, curl_command, dubbo, python, redis_cli};
use polyport_tests::process::{Process, finish};
use polyport_tests::thrift::thrift;
use polyport_tests::{
    Authority, Backend, BoltServer, Config, DubboServer, GrpcServer, MosquittoServer, Nginx,
    PATIENCE, Proxy, RedisServer, ThriftServer, direct, ports,
};

/// Checks that a busy machine passes where all is well.
const OFTEN: &str = "every = \"1s\", timeout = \"1s\", unhealthy = 2, healthy = 1";

/// A proxy with one cluster, and its figures.
struct Watched {
    proxy: Proxy,
    admin: SocketAddr,
}

impl Watched {
    /// All of `protocol` in turn to `endpoints`; `more` are further lines of the cluster.
    fn start(protocol: &'static str, endpoints: &[SocketAddr], more: &str) -> Self {
        let admin = ports::free();
        let mut text = format!("[admin]\naddress = \"{admin}\"\n");
        let _ = write!(
            text,
            "[[cluster]]\nname = \"all\"\nbalance = \"round-robin\"\nendpoints = {:?}\n{more}\n",
            endpoints.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        let matches = format!("protocol = \"{protocol}\"");
        let proxy = Config::new().section(&text).route("all", &matches, "all", "").start();
        Self { proxy, admin }
    }

    fn address(&self) -> SocketAddr {
        self.proxy.address("")
    }

    fn port(&self) -> String {
        self.address().port().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// A figure of an endpoint: `usable`, `ejections_total`, `checks_failed_total`.
    fn figure(&self, name: &str, endpoint: SocketAddr) -> u64 {
        let stats = curl(&[&format!("http://{}/stats", self.admin)]);
        let start = format!("polyport_endpoint_{name}{{cluster=\"all\",endpoint=\"{endpoint}\"}} ");
        let value = stats.lines().find_map(|line| line.strip_prefix(&start));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{start}\n{stats}"))
    }

    fn wait_for(&self, name: &str, endpoint: SocketAddr, value: u64) {
        let start = Instant::now();
        while self.figure(name, endpoint) != value {
            assert!(start.elapsed() < PATIENCE, "{name} of {endpoint} never becomes {value}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// Of two servers, the second is stopped: its checks fail, `ask` goes through each time;
/// then it goes on, and is used again.
fn one_stops(
    watched: &Watched,
    well: SocketAddr,
    stopped: (SocketAddr, &Process),
    ask: impl Fn(&Watched),
) {
    let (address, process) = stopped;
    ask(watched);
    watched.wait_for("usable", well, 1);
    watched.wait_for("usable", address, 1);
    process.pause();
    watched.wait_for("usable", address, 0);
    assert!(watched.figure("checks_failed_total", address) >= 2);
    for _ in 0..6 {
        // Any that went to the stopped one would wait for its timeout, in vain.
        ask(watched);
    }
    process.resume();
    watched.wait_for("usable", address, 1);
    ask(watched);
}

#[test]
fn a_redis_that_stops_is_passed_over_until_it_goes_on() {
    if direct() {
        return;
    }
    let (one, two) = (RedisServer::start(), RedisServer::start());
    for (server, name) in [(&one, "one"), (&two, "two")] {
        redis_cli(server.address, &["SET", "name", name]);
    }
    let lines = format!("health = {{ protocol = \"redis\", {OFTEN} }}");
    let watched = Watched::start("redis", &[one.address, two.address], &lines);
    let name = || redis_cli(watched.address(), &["GET", "name"]);
    one_stops(&watched, one.address, (two.address, two.process()), |_| {
        name();
    });
    // Both are used again, in turn.
    let start = Instant::now();
    while name() != "two\n" {
        assert!(start.elapsed() < PATIENCE, "it never comes back");
    }
    // While one is out, all go to the other.
    two.process().pause();
    watched.wait_for("usable", two.address, 0);
    for _ in 0..10 {
        assert_eq!(name(), "one\n");
    }
    two.process().resume();
    // The checks share one connection, and each is answered.
    watched.wait_for("usable", two.address, 1);
    let before = one.info("total_connections_received");
    sleep(Duration::from_secs(6));
    // That of INFO itself, and some room.
    assert!(one.info("total_connections_received") <= before + 3, "a connection for each check");
}

#[test]
fn the_only_endpoint_fails_and_requests_are_told_so() {
    if direct() {
        return;
    }
    let server = RedisServer::start();
    let lines = format!("health = {{ protocol = \"redis\", {OFTEN} }}");
    let watched = Watched::start("redis", &[server.address], &lines);
    assert_eq!(redis_cli(watched.address(), &["PING"]), "PONG\n");
    server.process().pause();
    watched.wait_for("usable", server.address, 0);
    let told = redis_cli(watched.address(), &["GET", "name"]);
    assert!(told.starts_with("CLUSTERDOWN"), "{told}");
    server.process().resume();
    watched.wait_for("usable", server.address, 1);
    assert_eq!(redis_cli(watched.address(), &["PING"]), "PONG\n");
}

#[test]
fn a_redis_with_a_password_is_well() {
    if direct() {
        return;
    }
    let server = RedisServer::with(&["--requirepass", "secret"]);
    let nobody = ports::free();
    let lines = format!("health = {{ protocol = \"redis\", {OFTEN} }}");
    let watched = Watched::start("redis", &[server.address, nobody], &lines);
    watched.wait_for("usable", nobody, 0);
    watched.wait_for("checks_failed_total", nobody, 3);
    watched.wait_for("usable", server.address, 1);
}

#[test]
fn a_server_that_hangs_up_on_idle_checks_is_well() {
    if direct() {
        return;
    }
    let server = RedisServer::with(&["--timeout", "1"]);
    let lines = "health = { protocol = \"redis\", every = \"2s\", timeout = \"2s\", jitter = 0 }";
    let watched = Watched::start("redis", &[server.address], lines);
    sleep(Duration::from_secs(9));
    // One may have come too late on a busy machine.
    assert!(watched.figure("checks_failed_total", server.address) <= 1);
}

#[test]
fn the_very_first_check_counts_at_once() {
    if direct() {
        return;
    }
    let (nginx, nobody) = (Nginx::start(), ports::free());
    let lines = "health = { every = \"10m\", timeout = \"5s\", unhealthy = 1000 }";
    let watched = Watched::start("http", &[nginx.address, nobody], lines);
    watched.wait_for("usable", nobody, 0);
    watched.wait_for("usable", nginx.address, 1);
    assert_eq!(watched.figure("checks_failed_total", nobody), 1);
    assert_eq!(curl(&[&watched.url("/index.html")]), "hello\n");
}

#[test]
fn a_page_and_its_status_decide() {
    if direct() {
        return;
    }
    let (one, two) = (Nginx::start(), Nginx::start());
    for (server, name) in [(&one, "one"), (&two, "two")] {
        std::fs::write(server.www().join("name"), name).expect("a page");
    }
    let page = |server: &Nginx| server.www().join("healthz");
    std::fs::write(page(&one), "").expect("a page");
    let lines = format!(
        "health = {{ protocol = \"http\", path = \"/healthz\", status = [200, \"300-399\"], {OFTEN} }}"
    );
    let watched = Watched::start("http", &[one.address, two.address], &lines);
    watched.wait_for("usable", two.address, 0);
    for _ in 0..6 {
        assert_eq!(curl(&[&watched.url("/name")]), "one");
    }
    std::fs::write(page(&two), "").expect("a page");
    watched.wait_for("usable", two.address, 1);
    std::fs::remove_file(page(&one)).expect("no page");
    watched.wait_for("usable", one.address, 0);
    for _ in 0..6 {
        assert_eq!(curl(&[&watched.url("/name")]), "two");
    }
    assert!(one.access_log().contains("GET /healthz 200"), "{}", one.access_log());
}

#[test]
fn a_check_greets_as_the_cluster_does() {
    if direct() {
        return;
    }
    // Over TLS with a PROXY header before it, a page is had no other way.
    let authority = Authority::new();
    let own = ports::free();
    let certificate = authority.server("localhost");
    let block = format!(
        "server {{ listen {own} ssl proxy_protocol; {} include locations.conf; }}",
        certificate.nginx("")
    );
    let (nginx, plain) = (Nginx::with("", &block), Nginx::start());
    let lines = format!(
        "proxy-protocol = \"v2\"\ntls = {{ ca = \"{}\", server-name = \"localhost\" }}\n\
         health = {{ protocol = \"http\", path = \"/index.html\", status = 200, {OFTEN} }}",
        authority.ca()
    );
    let watched = Watched::start("http", &[own, plain.address], &lines);
    watched.wait_for("usable", plain.address, 0);
    watched.wait_for("checks_failed_total", plain.address, 3);
    watched.wait_for("usable", own, 1);
    assert_eq!(curl(&[&watched.url("/index.html")]), "hello\n");
    drop(nginx);
}

#[test]
fn a_connection_check_shakes_hands() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let own = ports::free();
    let certificate = authority.server("localhost");
    let block =
        format!("server {{ listen {own} ssl; {} include locations.conf; }}", certificate.nginx(""));
    let (nginx, plain) = (Nginx::with("", &block), Nginx::start());
    let lines = format!(
        "tls = {{ ca = \"{}\", server-name = \"localhost\" }}\nhealth = {{ {OFTEN} }}",
        authority.ca()
    );
    let watched = Watched::start("http", &[own, plain.address], &lines);
    watched.wait_for("usable", plain.address, 0);
    watched.wait_for("usable", own, 1);
    assert_eq!(curl(&[&watched.url("/index.html")]), "hello\n");
    drop(nginx);
}

#[test]
fn a_broker_that_stops_is_passed_over() {
    if direct() {
        return;
    }
    let (one, two) = (MosquittoServer::start(), MosquittoServer::start());
    let lines = format!("health = {{ protocol = \"mqtt\", {OFTEN} }}");
    let watched = Watched::start("mqtt", &[one.address, two.address], &lines);
    one_stops(&watched, one.address, (two.address, two.process()), |watched| {
        mosquitto_pub(watched.address(), &["-q", "1", "-t", "a/b", "-m", "hello"]);
    });
    // It is told of the end of each check, as it likes.
    let log = one.process().log();
    assert!(log.contains("disconnected") && !log.contains("rotocol error"), "{log}");
}

#[test]
fn a_dubbo_server_that_stops_is_passed_over() {
    if direct() {
        return;
    }
    let (one, two) = (DubboServer::start(), DubboServer::start());
    let lines = format!("health = {{ protocol = \"dubbo\", {OFTEN} }}");
    let watched = Watched::start("dubbo", &[one.address, two.address], &lines);
    one_stops(&watched, one.address, (two.address, two.process()), |watched| {
        dubbo(watched.address(), "echo", &[]);
    });
}

#[test]
fn a_bolt_server_that_stops_is_passed_over() {
    if direct() {
        return;
    }
    let (one, two) = (BoltServer::start(), BoltServer::start());
    let lines = format!("health = {{ protocol = \"bolt\", {OFTEN} }}");
    let watched = Watched::start("bolt", &[one.address, two.address], &lines);
    one_stops(&watched, one.address, (two.address, two.process()), |watched| {
        bolt(watched.address(), "echo", &[]);
    });
}

#[test]
fn a_thrift_server_that_stops_is_passed_over() {
    if direct() {
        return;
    }
    for (wire, method, transport, encoding) in [
        // One that is there; and one that is not, which is an answer, too.
        ("framed/binary", "nothing", "framed", "binary"),
        ("buffered/compact", "nonesuch", "unframed", "compact"),
    ] {
        let wires = [wire];
        let (one, two) =
            (ThriftServer::start("threaded", &wires), ThriftServer::start("threaded", &wires));
        let lines = format!(
            "health = {{ protocol = \"thrift\", method = \"{method}\", transport = \"{transport}\", encoding = \"{encoding}\", {OFTEN} }}"
        );
        let watched = Watched::start("thrift", &[one.address(), two.address()], &lines);
        one_stops(&watched, one.address(), (two.address(), two.process()), |watched| {
            thrift("exceptions", &[(wire, watched.address())], &[]);
        });
    }
}

#[test]
fn a_grpc_service_says_whether_it_serves() {
    if direct() {
        return;
    }
    let (one, two) = (GrpcServer::start("one"), GrpcServer::start("two"));
    let lines = format!(
        "http2 = true\nhealth = {{ protocol = \"grpc\", service = \"polyport.test.Echo\", {OFTEN} }}"
    );
    let watched = Watched::start("http", &[one.address, two.address], &lines);
    let who = |port: &str| python("grpc_stories.py", &["who", port]);
    let tell = |server: &GrpcServer, what: &str| {
        let port = server.address.port().to_string();
        python("grpc_stories.py", &["who", &port, "polyport.test.Echo", what]);
    };
    watched.wait_for("usable", two.address, 1);
    tell(&two, "Ail");
    watched.wait_for("usable", two.address, 0);
    for _ in 0..4 {
        assert_eq!(who(&watched.port()), "one\n");
    }
    tell(&two, "Recover");
    watched.wait_for("usable", two.address, 1);
    one_stops(&watched, one.address, (two.address, two.process()), |watched| {
        who(&watched.port());
    });
}

#[test]
fn a_service_that_a_grpc_server_does_not_know_is_not_served() {
    if direct() {
        return;
    }
    let server = GrpcServer::start("one");
    let lines = format!(
        "http2 = true\nhealth = {{ protocol = \"grpc\", service = \"no.such.Service\", {OFTEN} }}"
    );
    let watched = Watched::start("http", &[server.address], &lines);
    watched.wait_for("usable", server.address, 0);
    let lines = format!("http2 = true\nhealth = {{ protocol = \"grpc\", {OFTEN} }}");
    let watched = Watched::start("http", &[server.address], &lines);
    sleep(Duration::from_millis(2500));
    watched.wait_for("usable", server.address, 1);
    assert_eq!(watched.figure("ejections_total", server.address), 0);
}

#[test]
fn a_page_is_asked_for_over_http2_where_the_cluster_speaks_it() {
    if direct() {
        return;
    }
    let server = Backend::http2();
    let lines =
        format!("http2 = true\nhealth = {{ protocol = \"http\", path = \"/mood\", {OFTEN} }}");
    let watched = Watched::start("http", &[server.address], &lines);
    let set = |status: &str| {
        let url = format!("http://{}/mood?to={status}", server.address);
        curl(&["--http2-prior-knowledge", &url]);
    };
    set("500");
    watched.wait_for("usable", server.address, 0);
    set("200");
    watched.wait_for("usable", server.address, 1);
}

/// The status of `/mood`, as clients of the proxy see it.
fn mood(watched: &Watched) -> String {
    let mut command = curl_command(&["--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.arg(watched.url("/mood"));
    finish("curl", command).1
}

fn set_mood(backend: &Backend, status: u16) {
    curl(&[&format!("http://{}/mood?to={status}", backend.address)]);
}

#[test]
fn a_server_that_fails_requests_is_ejected() {
    if direct() {
        return;
    }
    let (one, two) = (Backend::start(), Backend::start());
    set_mood(&two, 500);
    let lines = "outlier = { consecutive = 3, base = \"10m\", max = \"10m\" }";
    let watched = Watched::start("http", &[one.address, two.address], lines);
    let statuses: Vec<String> = (0..20).map(|_| mood(&watched)).collect();
    let failed = statuses.iter().filter(|status| *status == "500").count();
    assert_eq!(failed, 3, "{statuses:?}");
    assert_eq!(watched.figure("usable", two.address), 0);
    assert_eq!(watched.figure("ejections_total", two.address), 1);
    // The last one stays, whatever it does.
    set_mood(&one, 500);
    assert!((0..10).all(|_| mood(&watched) == "500"));
    assert_eq!(watched.figure("ejections_total", one.address), 0);
    set_mood(&one, 200);
    assert_eq!(mood(&watched), "200");
}

#[test]
fn errors_of_the_application_and_overload_eject_nobody() {
    if direct() {
        return;
    }
    let (one, two) = (Backend::start(), Backend::start());
    let watched =
        Watched::start("http", &[one.address, two.address], "outlier = { consecutive = 2 }");
    for status in [404, 429] {
        set_mood(&two, status);
        assert!((0..10).map(|_| mood(&watched)).any(|seen| seen == status.to_string()));
    }
    assert_eq!(watched.figure("ejections_total", two.address), 0);
}

#[test]
fn an_ejected_server_comes_back_and_stays_where_it_is_cured() {
    if direct() {
        return;
    }
    let (one, two) = (Backend::start(), Backend::start());
    set_mood(&two, 503);
    let lines = "outlier = { consecutive = 2, base = \"5s\" }";
    let mut watched = Watched::start("http", &[one.address, two.address], lines);
    while watched.figure("ejections_total", two.address) == 0 {
        mood(&watched);
    }
    // Not errors of the server's, and told from the other's answers.
    set_mood(&two, 404);
    let start = Instant::now();
    while mood(&watched) != "404" {
        assert!(start.elapsed() < PATIENCE, "it never comes back");
        sleep(Duration::from_millis(20));
    }
    assert_eq!(watched.figure("ejections_total", two.address), 1);
    let log = watched.proxy.process().expect("a proxy").log();
    assert!(
        log.contains("ejected: no new requests") && log.contains("2 failures in a row"),
        "{log}"
    );
    assert!(log.contains("back from its ejection"), "{log}");
}

#[test]
fn a_server_that_is_killed_is_ejected() {
    if direct() {
        return;
    }
    let (one, mut two) = (Backend::start(), Backend::start());
    let lines = "outlier = { consecutive = 2, base = \"10m\", max = \"10m\" }";
    let watched = Watched::start("http", &[one.address, two.address], lines);
    assert!((0..4).all(|_| mood(&watched) == "200"));
    two.kill();
    let start = Instant::now();
    while watched.figure("ejections_total", two.address) == 0 {
        assert!(start.elapsed() < PATIENCE, "it is never ejected");
        mood(&watched);
        sleep(Duration::from_millis(20));
    }
    assert_eq!(watched.figure("usable", two.address), 0);
    assert!((0..10).all(|_| mood(&watched) == "200"));
}

#[test]
fn a_dubbo_server_that_stops_is_ejected_for_its_silence() {
    if direct() {
        return;
    }
    let (one, two) = (DubboServer::start(), DubboServer::start());
    let lines = "outlier = { consecutive = 2, base = \"10m\", max = \"10m\" }\n[defaults]\ntimeout = \"2s\"\n";
    let watched = Watched::start("dubbo", &[one.address, two.address], lines);
    dubbo(watched.address(), "echo", &[]);
    two.process().pause();
    let start = Instant::now();
    while watched.figure("ejections_total", two.address) == 0 {
        assert!(start.elapsed() < PATIENCE, "it is never ejected");
        // Some of its calls are answered with an error: Dubbo's own, for a timeout.
        let port = watched.port();
        drop(polyport_tests::peers::node_start("dubbo-client.js", &[&port, "echo"]).finish());
    }
    for _ in 0..4 {
        dubbo(watched.address(), "echo", &[]);
    }
    two.process().resume();
}
