//! The admin API and its page: what they tell and do, whom they refuse, and how the page
//! looks in a real browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::everyone::{Clients, edge, plain};
use polyport_tests::peers::{curl, curl_command, python, redis_cli};
use polyport_tests::process::{Running, finish};
use polyport_tests::proxy::binary;
use polyport_tests::{Config, Nginx, PATIENCE, Proxy, RedisServer, direct, ports};
use serde_json::Value;

/// A value that nobody is to see.
const SECRET: &str = "open-sesame-42";

/// A route whose messages carry it, and one whose name a careless page would run.
const ROUTES: &str = r#"
[[route]]
name = "keyed"
match = { protocol = "http", path = "/keyed", header.x-api-key = { present = true } }
respond = { body = "fine\n" }
[[route]]
name = "<img src=x onerror=alert(1)>"
match = { protocol = "http", path = "/never" }
deny = true
"#;

struct Admin {
    address: SocketAddr,
    proxy: Proxy,
}

impl Admin {
    /// Before a config with an `[admin]` table of these further lines.
    fn start(config: Config, more: &str) -> Self {
        let address = ports::free();
        let table = format!("[admin]\naddress = \"{address}\"\nsocket = \"admin.sock\"\n{more}\n");
        Self { address, proxy: config.section(&table).start() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> Value {
        json(&curl(&["-f", &self.url(path)]))
    }

    /// Status and answer of a request with these options of curl.
    fn ask(&self, path: &str, options: &[&str]) -> (u16, Value) {
        let url = self.url(path);
        let text = curl(&[options, &["-w", "\n%{http_code}", &url]].concat());
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), json(body))
    }

    fn post(&self, path: &str) -> (u16, Value) {
        self.ask(path, &["-X", "POST", "-H", "x-polyport: 1"])
    }

    fn socket(&self) -> String {
        let folder = self.proxy.config().parent().expect("a folder").to_owned();
        folder.join("admin.sock").display().to_string()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn until(what: &str, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_runs_is_told_over_tcp_and_over_a_socket_of_its_owner_s() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut admin = Admin::start(Config::busy().section(ROUTES).all("redis", redis.address), "");
    let socket = admin.socket();
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let port = admin.proxy.address("redis").port().to_string();
    let held = waiting_for_nothing(&port);
    until("a request in flight", || {
        let told = admin.get("/api/connections");
        told["connections"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["in_flight"] == 1))
    });
    for ask in [&["-f"][..], &["-f", "--unix-socket", &socket]] {
        let get = |path: &str| json(&curl(&[ask, &[&admin.url(path)]].concat()));
        let info = get("/api/info");
        assert_eq!((&info["workers"], &info["write"]), (&2.into(), &false.into()));
        let clusters = get("/api/clusters");
        let endpoint = &clusters["clusters"][0]["endpoints"][0];
        assert_eq!(endpoint["address"], redis.address.to_string().as_str());
        assert_eq!(endpoint["usable"], true);
        assert!(endpoint["connections"].as_u64() >= Some(1), "{endpoint}");
        let told = get("/api/connections");
        let one = &told["connections"][0];
        assert_eq!((&one["protocol"], &one["listener"]), (&"redis".into(), &"edge".into()));
        let routes = get("/api/routes");
        assert_eq!(routes["routes"][2]["targets"][0]["cluster"], "redis");
        assert!(get("/api/config")["text"].as_str().is_some_and(|text| text.contains("[admin]")));
        let profile = get("/api/profile?seconds=1");
        let threads = profile["threads"].as_array().expect("threads");
        assert!(threads.iter().any(|one| one["name"] == "worker-1" && one["work"].is_object()));
        let explained = get("/api/explain?fact=protocol=redis&fact=command=get");
        assert_eq!(explained["decision"]["route"], "redis");
        for (path, word) in
            [("/ready", "ready"), ("/live", "live"), ("/stats", "polyport_requests_total ")]
        {
            let text = curl(&[ask, &[&admin.url(path)]].concat());
            assert!(text.contains(word), "{path}: {text}");
        }
    }
    drop(held);
    admin.proxy.terminate();
    assert!(admin.proxy.wait().is_some_and(|status| status.success()));
    assert!(!std::path::Path::new(&socket).exists(), "the socket's name is left behind");
}

/// A client whose request is in flight for long.
fn waiting_for_nothing(port: &str) -> Running {
    let mut command = Command::new("redis-cli");
    command.args(["-p", port, "blpop", "nothing", "30"]);
    Running::start("redis-cli", command)
}

#[test]
fn nothing_is_changed_without_leave_and_nothing_for_other_web_pages() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let reader = Admin::start(Config::new().all("redis", redis.address), "");
    let drain = format!("/api/clusters/redis/endpoints/{}/drain", redis.address);
    for path in [drain.as_str(), "/api/reload", "/api/upgrade"] {
        let (status, answer) = reader.post(path);
        assert_eq!(status, 403, "{path}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains("write = true")));
    }
    let writer = Admin::start(Config::new().all("redis", redis.address), "write = true");
    let refused: [(&str, &[&str]); 6] = [
        (&drain, &["-X", "POST"]),
        (&drain, &["-X", "POST", "-H", "content-type: text/plain", "-d", "x"]),
        (&drain, &["-X", "POST", "-H", "x-polyport: 1", "-H", "origin: http://evil.example"]),
        (&drain, &["-X", "POST", "-H", "x-polyport: 1", "-H", "host: evil.example"]),
        ("/api/config", &["-H", "host: evil.example"]),
        ("/api/config", &["-H", "sec-fetch-site: cross-site"]),
    ];
    for (path, options) in refused {
        let (status, answer) = writer.ask(path, options);
        assert_eq!(status, 403, "{path} {options:?}: {answer}");
    }
    assert_eq!(writer.ask("/api/reload", &["-X", "GET"]).0, 405);
    assert_eq!(writer.ask("/api/other", &[]).0, 404);
    let endpoint = &writer.get("/api/clusters")["clusters"][0]["endpoints"][0];
    assert_eq!(endpoint["drained"], false);
    let long = format!("x-long: {}", "x".repeat(70_000));
    let arguments = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &long, &writer.url("/api")];
    assert_eq!(curl(&arguments), "431");
}

#[test]
fn an_endpoint_is_drained_the_config_reloaded_and_the_log_louder() {
    if direct() {
        return;
    }
    let (one, two) = (RedisServer::start(), RedisServer::start());
    let both = format!(
        "\n[[cluster]]\nname = \"two\"\nendpoints = [\"{}\", \"{}\"]\n\
         [[route]]\nname = \"all\"\nmatch = {{ protocol = \"redis\" }}\nto = \"two\"\n",
        one.address, two.address
    );
    let mut admin = Admin::start(Config::new().section(&both), "write = true");
    let address = admin.proxy.address("redis");
    redis_cli(one.address, &["set", "who", "one"]);
    redis_cli(two.address, &["set", "who", "two"]);
    let heard = || {
        let words = redis_cli(address, &["-r", "20", "get", "who"]);
        (words.contains("one"), words.contains("two"))
    };
    assert_eq!(heard(), (true, true));
    let path = |verb| format!("/api/clusters/two/endpoints/{}/{verb}", one.address);
    assert_eq!(admin.post(&path("drain")).0, 200);
    until("the drain", || heard() == (false, true));
    assert_eq!(admin.get("/api/clusters")["clusters"][0]["endpoints"][0]["drained"], true);
    assert_eq!(admin.post(&path("undrain")).0, 200);
    until("both again", || heard() == (true, true));

    let file = admin.proxy.config();
    let text = std::fs::read_to_string(&file).expect("the config");
    std::fs::write(
        &file,
        format!(
            "{text}\n[[route]]\nname = \"late\"\nmatch = {{ protocol = \"mqtt\" }}\ndeny = true\n"
        ),
    )
    .expect("writing");
    let (status, answer) = admin.post("/api/reload");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["changes"]["added"], 1, "{answer}");
    assert_eq!(admin.get("/api/routes")["routes"][1]["name"], "late");
    assert!(admin.get("/api/config")["text"].as_str().is_some_and(|text| text.contains("late")));
    std::fs::write(&file, format!("{text}\nnonsense = 1\n")).expect("writing");
    let (status, answer) = admin.post("/api/reload");
    assert_eq!(status, 409);
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("nonsense")), "{answer}");
    assert!(admin.get("/api/info")["reloads"]["error"].is_string());
    assert_eq!(admin.get("/api/routes")["routes"][1]["name"], "late");

    let (status, answer) =
        admin.ask("/api/log-level", &["-X", "PUT", "-H", "x-polyport: 1", "-d", "warn"]);
    assert_eq!((status, &answer["level"]), (200, &"warn".into()));
    let lines = |admin: &mut Admin| admin.proxy.process().expect("a proxy").log().lines().count();
    let before = lines(&mut admin);
    assert_eq!(admin.post(&path("drain")).0, 200);
    assert_eq!(lines(&mut admin), before, "an info line, although only warnings are wanted");
    assert_eq!(
        admin.ask("/api/log-level", &["-X", "PUT", "-H", "x-polyport: 1", "-d", "info"]).0,
        200
    );
    assert_eq!(admin.post(&path("undrain")).0, 200);
    assert!(lines(&mut admin) > before);
}

#[test]
fn a_tap_shows_what_matches_without_secrets_and_no_faster_than_it_may() {
    if direct() {
        return;
    }
    let (redis, nginx) = (RedisServer::start(), Nginx::start());
    let config =
        Config::busy().section(ROUTES).all("redis", redis.address).all("http", nginx.address);
    let admin = Admin::start(config, "");
    let tap = |matches: &str| {
        let query = format!("match={matches}");
        let url = admin.url("/api/tap?seconds=30");
        let arguments = ["-N", "-G", "--max-time", "40", "--data-urlencode", &query, &url];
        Running::start("curl", curl_command(&arguments))
    };
    let mut keyed = tap("protocol = \"http\", path = \"/keyed\"");
    let mut all = tap("protocol = \"redis\"");
    // Both say at once how many matched.
    keyed.wait_for("event: status");
    all.wait_for("event: status");
    let url = format!("http://{}/keyed", admin.proxy.address("http"));
    curl(&["-f", "-H", &format!("X-Api-Key: {SECRET}"), &url]);
    curl(&["-f", &format!("http://{}/index.html", admin.proxy.address("http"))]);
    keyed.wait_for("\"path\":\"/keyed\"");
    keyed.wait_for("\"header.x-api-key\":\"***\"");
    let load = polyport_tests::peers::redis_benchmark(
        admin.proxy.address("redis"),
        &["-t", "get", "-P", "8", "-c", "4", "-n", "50000", "-q"],
    );
    load.succeed();
    let dropped = |text: &str| {
        let told = text.lines().filter_map(|line| line.strip_prefix("data: {\"dropped\":"));
        told.filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok()).max().unwrap_or(0)
    };
    // The next status tells how many were not shown.
    sleep(Duration::from_millis(1500));
    // A tap that nobody hears any more is closed; new ones find room.
    let (_, shown, _) = all.stop();
    assert!(dropped(&shown) > 1000, "{} dropped", dropped(&shown));
    assert!(shown.lines().filter(|line| line.starts_with("data: {\"at\"")).count() < 40_000);
    assert!(
        shown
            .lines()
            .filter(|line| line.starts_with("data: {\"at\""))
            .all(|line| line.contains("\"redis\""))
    );
    let (_, shown, _) = keyed.stop();
    assert!(!shown.contains(SECRET) && !shown.contains("index.html"), "{shown}");
    let (status, why) = admin.ask("/api/tap?match=header.x-other%3D%22a%22", &[]);
    assert_eq!(status, 400);
    assert!(why["error"].as_str().is_some_and(|why| why.contains("not decoded")), "{why}");
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_for_long() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut admin = Admin::start(Config::new().all("redis", redis.address), "");
    let mut silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(admin.address).expect("a connection")).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /re").expect("half a request");
    }
    until("an answer", || {
        let command = curl_command(&["--max-time", "5", &admin.url("/ready")]);
        let (status, said, _) = finish("curl", command);
        status.success() && said == "ready\n"
    });
    let mut first = silent.remove(0);
    first.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // Closed, with or without a word.
    let _ = first.read_to_end(&mut Vec::new());
    admin.proxy.assert_alive();
}

/// What is spoken by everybody, as people call it.
const EVERYTHING: &str = "redis,http,http2,grpc,websocket,dubbo,bolt,thrift,mqtt";

#[test]
fn the_page_shows_every_protocol_while_everybody_is_at_work() {
    if direct() {
        return;
    }
    let address = ports::free();
    let mut edge = edge(&format!("[admin]\naddress = \"{address}\"\nwrite = true\n{ROUTES}"));
    let seconds: u64 = 30;
    let mut clients = Clients::until(Duration::from_secs(seconds));
    plain(&mut clients, edge.address, &seconds.to_string());
    let keyed = format!("http://{}/keyed", edge.address);
    clients.rounds("keyed", move |_| {
        assert_eq!(curl(&["-f", "-H", &format!("X-Api-Key: {SECRET}"), &keyed]), "fine\n");
        sleep(Duration::from_millis(50));
        1
    });
    let url = format!("http://{address}/");
    python("admin_stories.py", &["shows", &url, EVERYTHING]);
    clients.finish();
    edge.proxy.assert_alive();
}

#[test]
fn the_page_taps_explains_changes_and_has_manners() {
    if direct() {
        return;
    }
    let (redis, nginx) = (RedisServer::start(), Nginx::start());
    let config = || {
        Config::busy()
            .section(ROUTES)
            .deny("nobody flushes", "protocol = \"redis\", command = [\"flushall\", \"flushdb\"]")
            .all("redis", redis.address)
            .all("http", nginx.address)
    };
    let writer = Admin::start(config(), "write = true");
    let url = writer.url("/");
    let mut clients = Clients::until(Duration::from_secs(45));
    let keyed = format!("http://{}/keyed", writer.proxy.address("http"));
    clients.rounds("keyed", move |_| {
        curl(&["-f", "-H", &format!("X-Api-Key: {SECRET}"), &keyed]);
        sleep(Duration::from_millis(50));
        1
    });
    let page = format!("http://{}/index.html", writer.proxy.address("http"));
    clients.rounds("others", move |_| {
        curl(&["-f", &page]);
        sleep(Duration::from_millis(50));
        1
    });
    python("admin_stories.py", &["taps", &url, SECRET]);
    // A laptop and a phone, in the light and in the dark.
    for (width, height) in [("1280", "800"), ("390", "844")] {
        for scheme in ["light", "dark"] {
            python("admin_stories.py", &["looks", &url, width, height, scheme, SECRET]);
        }
    }
    clients.finish();
    python("admin_stories.py", &["explains", &url]);
    python("admin_stories.py", &["changes", &url, "redis", &redis.address.to_string()]);
    python("admin_stories.py", &["manners", &url]);
    let reader = Admin::start(config(), "");
    python("admin_stories.py", &["reads_only", &reader.url("/")]);
}

#[test]
fn an_admin_table_says_where_and_only_there() {
    let folder = std::env::temp_dir().join(format!("polyport-admin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("polyport.toml");
    let cases = [
        ("[admin]\nwrite = true", "[admin] without `address` or `socket`"),
        ("[admin]\naddress = \"0.0.0.0:7001\"", "`0.0.0.0:7001` is no loopback address"),
        ("[admin]\nsocket = \"\"", "no path for a socket"),
        ("[admin]\nsocket = \"a\"\nwrites = true", "unknown key `writes`"),
    ];
    for (table, complaint) in cases {
        let text = format!("[[listener]]\naddress = \"127.0.0.1:7000\"\n{table}\n");
        std::fs::write(&file, text).expect("a config");
        let mut command = Command::new(binary());
        command.arg("check").arg("-c").arg(&file);
        let (status, _, said) = finish("polyport check", command);
        assert!(!status.success() && said.contains(complaint), "{table}: {said}");
    }
    std::fs::remove_dir_all(&folder).expect("removing");
}
