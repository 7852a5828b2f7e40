//! What `/metrics` tells: as much as clients counted, in both formats, to a real Prometheus,
//! and for every expression of the alert rules and the dashboard in `examples/monitoring`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt_start;
use polyport_tests::http2::{assert_h2load_clean, h2load};
use polyport_tests::load::{Load, Tally};
use polyport_tests::mqtt::paho;
use polyport_tests::peers::{Backend, curl, curl_command, dubbo_start, python};
use polyport_tests::process::finish;
use polyport_tests::prometheus::{Prometheus, example, promtool_check, promtool_check_metrics};
use polyport_tests::thrift::{WIRES, thrift};
use polyport_tests::{
    BoltServer, Config, DubboServer, GrpcServer, MosquittoServer, Nginx, PATIENCE, Proxy, Raw,
    RedisServer, ThriftServer, WebSockets, direct, ports,
};
use serde_json::Value;

const OPENMETRICS: &str = "Accept: application/openmetrics-text; version=1.0.0";

struct Edge {
    admin: SocketAddr,
    proxy: Proxy,
    _backend: Backend,
    _redis: RedisServer,
    _nginx: Nginx,
    _dubbo: DubboServer,
    _bolt: BoltServer,
    _thrift: ThriftServer,
    _mqtt: MosquittoServer,
    _grpc: GrpcServer,
    _websockets: WebSockets,
}

/// All protocols, and routes on which every sort of thing goes wrong.
fn edge() -> Edge {
    let (redis, nginx, dubbo) = (RedisServer::start(), Nginx::start(), DubboServer::start());
    let (bolt, mqtt, grpc) =
        (BoltServer::start(), MosquittoServer::start(), GrpcServer::start("one"));
    let (thrift, websockets) = (ThriftServer::start("threaded", &WIRES[..1]), WebSockets::start());
    let (admin, backend, dead) = (ports::free(), Backend::start(), ports::free());
    let (web, back) = (nginx.address, backend.address);
    let get = |path: &str| format!("protocol = \"http\", path = \"{path}\"");
    let two = format!(
        "\n[[cluster]]\nname = \"two\"\nendpoints = [\"{back}\", \"{dead}\"]\n\
         health = {{ every = \"200ms\" }}\noutlier = true\n"
    );
    let proxy = Config::busy()
        .section("[defaults]\nconnect-timeout = \"10s\"\ntimeout = \"30s\"")
        .section(&format!("[admin]\naddress = \"{admin}\""))
        .section("[metrics]\nexemplars = \"header.x-request-id\"")
        .section(&two)
        .cluster("web", web, "")
        .cluster("tight", back, "breaker = { requests = 1 }")
        .cluster("grpc", grpc.address, "http2 = true")
        .cluster("websockets", websockets.address, "")
        .cluster("thrift", thrift.address(), "")
        .deny("nobody flushes", "protocol = \"redis\", command = \"flushall\"")
        .route("grpc", "service = { prefix = \"polyport.test.\" }", "grpc", "")
        .route("websockets", &get("/echo"), "websockets", "")
        .route(&quoted(PAGES), &get("/index.html"), "web", "")
        .route("streams", &get("/none"), "web", "")
        .route("retried", &get("/retried"), "two", "retry = { attempts = 2 }\nmirror = \"two\"")
        .route("tight", &get("/slow"), "tight", "")
        .route("limited", &get("/who"), "web", "limit = { rate = \"1/h\", burst = 1 }")
        .route("thrift", "protocol = \"thrift\"", "thrift", "")
        .all("redis", redis.address)
        .all("dubbo", dubbo.address)
        .all("bolt", bolt.address)
        .all("mqtt", mqtt.address)
        .start();
    Edge {
        admin,
        proxy,
        _backend: backend,
        _redis: redis,
        _nginx: nginx,
        _dubbo: dubbo,
        _bolt: bolt,
        _thrift: thrift,
        _mqtt: mqtt,
        _grpc: grpc,
        _websockets: websockets,
    }
}

fn scrape(admin: SocketAddr, more: &[&str]) -> String {
    curl(&[&[format!("http://{admin}/metrics").as_str()], more].concat())
}

/// The sum of the samples that begin with `name` and have all of these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> u64 {
    let start = format!("{name}{{");
    let lines = text.lines().filter(|line| line.starts_with(&start));
    let wanted = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number"))
        .sum()
}

/// Waits until the figures are that: a worker's last reply may be counted a moment after its
/// client has read it.
fn until(admin: SocketAddr, name: &str, labels: &[&str], value: u64) -> String {
    let begun = Instant::now();
    loop {
        let text = scrape(admin, &[]);
        let now = sum(&text, name, labels);
        if now == value {
            return text;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} {labels:?} is {now}, not {value}:\n{text}");
        sleep(Duration::from_millis(100));
    }
}

/// As TOML and Prometheus write it within quotes.
fn quoted(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

fn escaped(route: &str) -> String {
    format!("route=\"{}\"", quoted(route))
}

/// A name that has to be escaped, as it is.
const PAGES: &str = "pages \"quoted\" \\";

#[test]
fn what_is_told_is_what_clients_counted() {
    if direct() {
        return;
    }
    let mut edge = edge();
    let (admin, address) = (edge.admin, edge.proxy.address("edge"));
    let (redis, http) =
        (Load::redis(address, 2, 8), Load::http(address, 2, 4, "/index.html", "hello\n"));
    let dubbo = dubbo_start(address, "load", &["2", "2", "4", "strict"]);
    let bolt = bolt_start(address, "load", &["2", "2", "4", "strict"]);
    let streams = h2load(&format!("http://{address}/none"), &["-n", "1000", "-c", "4", "-m", "8"]);
    python("grpc_stories.py", &["load", &address.port().to_string()]);
    python("websocket_stories.py", &["many", &format!("ws://{address}")]);
    paho(address, "many", "5.0", &["50"]);
    let thrift = Tally::read(&thrift("load", &[(WIRES[0], address)], &["1", "2", "4", "strict"]));
    let (dubbo, bolt) = (Tally::read(&dubbo.succeed()), Tally::read(&bolt.succeed()));
    assert_h2load_clean(&streams.succeed(), 1000);
    let (redis, http) = (redis.stop(), http.stop());
    for tally in [&redis, &http, &dubbo, &bolt, &thrift] {
        tally.assert_perfect();
    }
    assert!(!redis_refused(address).is_empty());

    let requests = "polyport_downstream_requests_total";
    for (protocol, tally) in
        [("redis", &redis), ("dubbo", &dubbo), ("bolt", &bolt), ("thrift", &thrift)]
    {
        let protocol = format!("protocol=\"{protocol}\"");
        until(admin, requests, &[&protocol, "outcome=\"ok\"", "listener=\"edge\""], tally.answered);
    }
    // What is all HTTP goes by its own names.
    for (dialect, outcome, count) in [
        ("http", "ok", http.answered),
        ("http2", "ok", 1000),
        ("grpc", "ok", 8 * 10 * 40),
        ("websocket", "session", 20),
    ] {
        let dialect = format!("dialect=\"{dialect}\"");
        let labels = ["protocol=\"http\"", &dialect];
        let outcome = format!("outcome=\"{outcome}\"");
        until(admin, requests, &[&labels[..], &[&outcome]].concat(), count);
        until(admin, "polyport_downstream_request_duration_seconds_count", &labels, count);
    }
    let held = held_socket(address);
    let told = curl(&[&format!("http://{admin}/api/connections")]);
    assert!(told.contains("\"dialect\":\"websocket\""), "{told}");
    until(admin, "polyport_downstream_sessions_active", &["dialect=\"websocket\""], 1);
    drop(held);
    let route = escaped(PAGES);
    let text = until(admin, "polyport_route_requests_total", &[&route], http.answered);
    let routed = |route: &str, outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        sum(&text, "polyport_route_requests_total", &[&escaped(route), &outcome])
    };
    assert_eq!(routed(PAGES, "ok"), http.answered);
    assert_eq!((routed("streams", "ok"), routed("grpc", "ok")), (1000, 8 * 10 * 40));
    assert!(routed("websockets", "session") > 0 && routed("mqtt", "session") > 0, "{text}");
    assert_eq!(routed("nobody flushes", "fault"), 1);
    assert_eq!(sum(&text, "polyport_route_denied_total", &["rule=\"deny\""]), 1);
    let messages = sum(&text, "polyport_downstream_session_messages_total", &["\"mqtt\""]);
    assert!(messages >= 2 * 3 * 50, "{messages}");
    // What is told of a thing in several ways agrees.
    let timed = "polyport_route_request_duration_seconds";
    for (route, count) in [(PAGES, http.answered), ("streams", 1000), ("redis", redis.answered)] {
        let route = escaped(route);
        assert_eq!(sum(&text, &format!("{timed}_count"), &[&route]), count, "{route}");
        assert_eq!(sum(&text, &format!("{timed}_bucket"), &[&route, "+Inf"]), count, "{route}");
    }
    for cluster in ["redis", "dubbo", "bolt", "thrift", "grpc"] {
        let tried =
            sum(&text, "polyport_endpoint_requests_total", &[&format!("cluster=\"{cluster}\"")]);
        let routed = sum(&text, "polyport_route_requests_total", &[&escaped(cluster)]);
        assert_eq!(tried, routed, "{cluster}");
    }
    // A reply is a value of some 40 bytes, and all of them went to the clients.
    let sent = sum(&text, "polyport_downstream_sent_bytes_total", &["protocol=\"redis\""]);
    let replied = sum(&text, "polyport_endpoint_response_bytes_total", &["cluster=\"redis\""]);
    assert!(replied > redis.answered && sent >= replied, "{sent} sent, {replied} replied");
    // Streams are none of the connections; when all have left, nothing is open.
    let streams = sum(&text, "polyport_downstream_streams_total", &["protocol=\"http\""]);
    assert!(streams >= 1000 + 3200, "{streams}");
    for what in ["connections", "streams", "sessions"] {
        until(admin, &format!("polyport_downstream_{what}_active"), &[], 0);
    }
    for what in ["requests", "sessions"] {
        until(admin, &format!("polyport_endpoint_{what}_active"), &[], 0);
    }
    promtool_check_metrics(&scrape(admin, &[]));
    let stats = curl(&[&format!("http://{admin}/stats")]);
    assert!(stats.contains("polyport_requests_total "), "{stats}");
    edge.proxy.assert_alive();
}

/// A WebSocket that says nothing.
fn held_socket(address: SocketAddr) -> Raw {
    let mut raw = Raw::say(
        address,
        "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    raw
}

/// What Redis says to a command that is denied.
fn redis_refused(address: SocketAddr) -> String {
    let said = polyport_tests::peers::redis_cli(address, &["FLUSHALL"]);
    assert!(said.contains("denied"), "{said}");
    said
}

/// Makes everything go wrong that a dashboard shows.
fn trouble(address: SocketAddr) {
    let get = |path: &str| {
        let url = format!("http://{address}{path}");
        finish(
            "curl",
            curl_command(&["-s", "-o", "/dev/null", "-H", "x-request-id: trace-7", &url]),
        )
    };
    get("/index.html");
    for path in ["/retried", "/retried", "/who", "/who", "/nowhere"] {
        get(path);
    }
    // Two at once where there is room for one.
    let slow = || {
        std::thread::spawn(move || {
            let url = format!("http://{address}/slow?ms=300");
            finish("curl", curl_command(&["-s", "-o", "/dev/null", &url]));
        })
    };
    for one in [slow(), slow(), slow()] {
        one.join().expect("a client");
    }
    redis_refused(address);
}

/// Every expression of the dashboard, with its variables filled in.
fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(example("dashboard.json")).expect("the dashboard");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(board["schemaVersion"], 39);
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut all = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title").to_owned();
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|of| place[of].as_u64().expect("a place"));
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}: {place}");
        assert!(places.insert((x, y)), "{title}: something is there");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$job", "polyport")
                .replace("$instance", ".*");
            assert!(!expression.contains('$'), "{expression}");
            all.push((title.clone(), expression));
        }
    }
    assert!(all.len() > 40, "{} expressions", all.len());
    all
}

/// The names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metric = |word: &&str| word.starts_with("polyport_") || word.starts_with("process_");
    words.filter(metric).map(str::to_owned).collect()
}

#[test]
fn a_real_prometheus_has_data_for_every_panel_and_every_alert() {
    if direct() {
        return;
    }
    promtool_check("rules", &example("alerts.yml"));
    promtool_check("config", &example("prometheus.yml"));
    let mut edge = edge();
    let (admin, address) = (edge.admin, edge.proxy.address("edge"));
    let prometheus = Prometheus::start(admin, &example("alerts.yml"));
    let (redis, http) =
        (Load::redis(address, 1, 4), Load::http(address, 1, 2, "/index.html", "hello\n"));
    paho(address, "many", "5.0", &["20"]);
    python("websocket_stories.py", &["many", &format!("ws://{address}")]);
    assert_h2load_clean(
        &h2load(&format!("http://{address}/none"), &["-n", "200", "-c", "2", "-m", "4"]).succeed(),
        200,
    );
    trouble(address);

    // Rates need two samples, and what went wrong once is in the first.
    let mut wanted = dashboard();
    let begun = Instant::now();
    loop {
        let missing = |(_, expression): &(String, String)| {
            let found = prometheus.query(expression);
            found.unwrap_or_else(|error| panic!("{expression}: {error}")).is_empty()
        };
        wanted.retain(missing);
        if wanted.is_empty() {
            break;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "no data for {wanted:#?}\n{}", scrape(admin, &[]));
        trouble(address);
        sleep(Duration::from_secs(1));
    }

    // Every rule was loaded and evaluated without an error, over metrics that there are.
    let begun = Instant::now();
    let rules = loop {
        let rules = prometheus.rules();
        if !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok") {
            break rules;
        }
        assert!(begun.elapsed() < PATIENCE, "rules that fail: {rules:#?}");
        sleep(Duration::from_millis(500));
    };
    assert!(rules.len() >= 15, "{rules:#?}");
    for rule in &rules {
        let expression = rule["query"].as_str().expect("an expression");
        for name in names(expression) {
            assert!(prometheus.value(&format!("count({name})")) > Some(0.0), "no {name}");
        }
    }
    // One of the endpoints is dead, and somebody is about to be told.
    let state = |name: &str| {
        let rules = prometheus.rules();
        let rule = rules.iter().find(|rule| rule["name"] == name).expect("the alert");
        rule["state"].as_str().expect("a state").to_owned()
    };
    assert_ne!(state("PolyportEndpointUnhealthy"), "inactive");
    assert_eq!(state("PolyportReloadFailed"), "inactive");
    assert_eq!(prometheus.value("up{job=\"polyport\"}"), Some(1.0));

    // Prometheus asks for OpenMetrics, and takes its exemplars.
    let exemplars = prometheus.exemplars("polyport_route_request_duration_seconds_bucket");
    let ours = |one: &Value| one["labels"]["header_x_request_id"] == "trace-7";
    assert!(exemplars.iter().any(ours), "{exemplars:#?}");
    let open = scrape(admin, &["-i", "-H", OPENMETRICS]);
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n"));
    promtool_check_metrics(&scrape(admin, &[]));
    for dialect in ["redis", "http", "http2", "websocket", "mqtt"] {
        let query = format!("sum(polyport_downstream_requests_total{{dialect=\"{dialect}\"}})");
        assert!(prometheus.value(&query) > Some(0.0), "{dialect}");
    }
    let told = prometheus.value("sum(polyport_route_requests_total{route=\"redis\"})");
    assert!(told > Some(0.0), "{told:?}");
    for load in [redis, http] {
        load.stop().assert_perfect();
    }
    edge.proxy.assert_alive();
}
