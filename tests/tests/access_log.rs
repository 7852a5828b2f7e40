//! Access logs, with real clients of every protocol: each request has its line, whatever
//! becomes of the file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt;
use polyport_tests::load::Load;
use polyport_tests::mqtt::paho;
use polyport_tests::peers::{curl, dubbo, python, redis_cli};
use polyport_tests::process::run;
use polyport_tests::thrift::thrift;
use polyport_tests::{
    BoltServer, Config, DubboServer, GrpcServer, MosquittoServer, Nginx, PATIENCE, Proxy, Raw,
    RedisServer, ThriftServer, WebSockets, direct, ports,
};
use serde_json::Value;

/// A log of all, beside the config.
const ALL: &str = "[[access-log]]\nto = \"access.log\"\n";

fn beside(proxy: &Proxy, name: &str) -> PathBuf {
    proxy.config().with_file_name(name)
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// Waits until some line is as wanted.
fn line(path: &Path, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let lines = read(path);
        if let Some(found) = lines.iter().find(|line| wanted(line)) {
            return found.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "no line of {what}: {lines:#?}");
        sleep(Duration::from_millis(20));
    }
}

/// Ends the proxy, so that all its lines are written.
fn end(mut proxy: Proxy) -> Proxy {
    proxy.terminate();
    let status = proxy.wait().expect("a process");
    assert!(status.success(), "{status}");
    proxy
}

#[test]
fn every_protocol_has_its_lines() {
    if direct() {
        return;
    }
    let (redis, nginx, dubbos) = (RedisServer::start(), Nginx::start(), DubboServer::start());
    let thrifts = ThriftServer::start("threaded", &["framed/binary"]);
    let (bolts, mqtt, grpc) =
        (BoltServer::start(), MosquittoServer::start(), GrpcServer::start("one"));
    let sockets = WebSockets::start();
    let proxy = Config::new()
        .section(
            "[[access-log]]\nto = \"access.log\"\nmessages = true\n\
             keys = [\"method\", \"service\", \"key\", \"path\", \"topic\", \"client-id\"]\n",
        )
        .cluster("grpc", grpc.address, "http2 = true")
        .route("grpc", "service = { prefix = \"polyport.test.\" }", "grpc", "")
        .cluster("sockets", sockets.address, "")
        .route("sockets", "protocol = \"http\", path = \"/echo\"", "sockets", "")
        .cluster("thrift", thrifts.address(), "")
        .route("thrift", "protocol = \"thrift\"", "thrift", "")
        .all("redis", redis.address)
        .all("http", nginx.address)
        .all("dubbo", dubbos.address)
        .all("bolt", bolts.address)
        .all("mqtt", mqtt.address)
        .start();
    let (address, log) = (proxy.address("all"), beside(&proxy, "access.log"));
    let port = address.port().to_string();

    redis_cli(address, &["SET", "user:42", "0123456789"]);
    redis_cli(address, &["GET", "user:42"]);
    curl(&["-f", &format!("http://{address}/index.html")]);
    curl(&["-f", "--http2-prior-knowledge", &format!("http://{address}/index.html?two")]);
    curl(&[&format!("http://{address}/nowhere")]);
    dubbo(address, "load", &["1", "2", "4", "strict"]);
    bolt(address, "load", &["1", "2", "4", "strict"]);
    thrift("every_type", &[("framed/binary", address)], &[]);
    paho(address, "exchange", "3.1.1", &[]);
    python("grpc_stories.py", &["unary", &port]);
    python("websocket_stories.py", &["echo", &format!("ws://{address}")]);
    let proxy = end(proxy);

    let lines = read(&log);
    let find = |what: &str, wanted: &dyn Fn(&Value) -> bool| -> &Value {
        let found = lines.iter().find(|line| wanted(line));
        found.unwrap_or_else(|| panic!("no line of {what}: {lines:#?}"))
    };
    for line in &lines {
        for field in ["time", "listener", "connection", "source.ip", "protocol", "outcome"] {
            assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {line}");
        }
        assert_eq!(line["listener"], "edge");
        assert_eq!(line["source.ip"], "127.0.0.1");
        assert!(line["source.port"].as_u64().is_some_and(|port| port > 0), "{line}");
        let duration = line["duration"].as_f64().expect("a duration");
        assert!((0.0..300_000.0).contains(&duration), "{line}");
    }
    let get = find("GET", &|line| line["method"] == "get");
    assert_eq!((&get["protocol"], &get["route"]), (&"redis".into(), &"redis".into()), "{get}");
    assert_eq!((&get["key"], &get["kind"]), (&"user:42".into(), &"request".into()), "{get}");
    assert_eq!((&get["cluster"], &get["tries"]), (&"redis".into(), &1.into()), "{get}");
    assert_eq!(get["endpoint"], redis.address.to_string());
    assert_eq!(get["bytes-in"], "*2\r\n$3\r\nGET\r\n$7\r\nuser:42\r\n".len());
    assert_eq!(get["bytes-out"], "$10\r\n0123456789\r\n".len());
    assert!(get["upstream-duration"].as_f64() <= get["duration"].as_f64(), "{get}");

    let page = find("a page", &|line| line["path"] == "/index.html");
    assert_eq!((&page["status"], &page["outcome"]), (&200.into(), &"ok".into()), "{page}");
    assert!(page["bytes-out"].as_u64().is_some_and(|bytes| bytes > 100), "{page}");
    assert_eq!(lines.iter().filter(|line| line["path"] == "/index.html").count(), 2);
    let missing = find("what is not there", &|line| line["path"] == "/nowhere");
    assert_eq!((&missing["status"], &missing["outcome"]), (&404.into(), &"app-error".into()));

    for protocol in ["dubbo", "bolt", "thrift"] {
        let well = |line: &Value| line["protocol"] == protocol && line["outcome"] == "ok";
        let call = find(protocol, &well);
        assert_eq!(call["route"], protocol, "{call}");
        assert_eq!(call["kind"], "request", "{call}");
    }
    let session = find("MQTT", &|line| line["protocol"] == "mqtt" && line["kind"] == "session");
    assert!(session["bytes-in"].as_u64() > Some(20) && session["bytes-out"].as_u64() > Some(4));
    assert!(session["client-id"].is_string(), "{session}");
    let publish = find("a message", &|line| line["kind"] == "message" && line["topic"].is_string());
    assert_eq!((&publish["protocol"], &publish["outcome"]), (&"mqtt".into(), &"sent".into()));
    let call = find("gRPC", &|line| line["route"] == "grpc");
    assert_eq!(call["cluster"], "grpc", "{call}");
    let socket = find("WebSocket", &|line| line["route"] == "sockets");
    assert_eq!((&socket["kind"], &socket["status"]), (&"session".into(), &101.into()), "{socket}");
    drop(proxy);
}

#[test]
fn what_the_proxy_refuses_or_answers_is_told_with_its_reason() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let proxy = Config::new()
        .section(
            "[[access-log]]\nto = \"access.log\"\nkeys = [\"path\"]\n\
             [[access-log]]\nto = \"bad.log\"\nkeys = [\"path\"]\nsample = 0\n\
             [[access-log]]\nto = \"some.log\"\nkeys = [\"path\"]\n\
             match = { path = { prefix = \"/d\" }, status = { max = 404 } }\n\
             [[access-log]]\nto = \"plain.log\"\nformat = \"{protocol} {path} {status} {{{fault}}}\"\n",
        )
        .deny("denied", "path = \"/denied\"")
        .cluster("nobody", ports::free(), "")
        .route("dead", "path = \"/dead\"", "nobody", "")
        .cluster("web", nginx.address, "")
        .section(
            "[[route]]\nname = \"direct\"\nmatch = { protocol = \"http\", path = \"/direct\" }\n\
             respond = { status = 418, body = \"tea\" }\n\
             [[route]]\nname = \"pages\"\nmatch = { path = { prefix = \"/index\" } }\nto = \"web\"\n",
        )
        .start();
    let address = proxy.address("http");
    for path in ["denied", "dead", "direct", "nowhere", "index.html"] {
        curl(&[&format!("http://{address}/{path}")]);
    }
    let proxy = end(proxy);
    let of = |name: &str| -> BTreeMap<String, Value> {
        let lines = read(&beside(&proxy, name)).into_iter();
        lines.map(|line| (line["path"].as_str().expect("a path").to_owned(), line)).collect()
    };
    let all = of("access.log");
    let ends = |path: &str| {
        let line = &all[path];
        [&line["outcome"], &line["fault"], &line["status"]].map(ToString::to_string).join(" ")
    };
    assert_eq!(ends("/denied"), "\"fault\" \"denied\" 403");
    assert_eq!(ends("/dead"), "\"fault\" \"connect-failed\" 503");
    assert_eq!(ends("/direct"), "\"local\" null 418");
    assert_eq!(ends("/nowhere"), "\"fault\" \"no-route\" 404");
    assert_eq!(ends("/index.html"), "\"ok\" null 200");
    assert_eq!(all["/dead"]["cluster"], "nobody");
    assert_eq!(all["/denied"]["route"], "denied");
    let names = |name: &str| of(name).into_keys().collect::<Vec<_>>().join(" ");
    assert_eq!(names("bad.log"), "/dead /denied /nowhere");
    assert_eq!(names("some.log"), "/denied");
    let plain = fs::read_to_string(beside(&proxy, "plain.log")).expect("lines");
    assert!(plain.contains("http /denied 403 {denied}\n"), "{plain}");
    assert!(plain.contains("http /index.html 200 {-}\n"), "{plain}");
}

#[test]
fn no_secret_is_written_unless_it_is_revealed() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let keys = "[\"header.authorization\", \"header.cookie\", \"cookie.id\", \"query.token\", \
                \"header.x-api-key\", \"header.x-forwarded-for\", \"header.user-agent\"]";
    let proxy = Config::new()
        .section(&format!(
            "[[access-log]]\nto = \"hidden.log\"\nkeys = {keys}\n\
             [[access-log]]\nto = \"shown.log\"\nkeys = {keys}\nreveal = [\"header.x-api-key\"]\n\
             [[access-log]]\nto = \"plain.log\"\n\
             format = \"{{cookie.id}} {{header.authorization}} {{header.user-agent}} {{query.token}}\"\n",
        ))
        .all("http", nginx.address)
        .start();
    let mut headers = Vec::new();
    for header in [
        "Authorization: Basic s3cr3t-one",
        "Cookie: id=s3cr3t-two; theme=dark",
        "X-Api-Key: s3cr3t-three",
        "X-Forwarded-For: Bearer s3cr3t-four",
        "User-Agent: me\\\"é",
    ] {
        headers.extend(["-H", header]);
    }
    let url = format!("http://{}/index.html?token=s3cr3t-five", proxy.address("http"));
    curl(&[&headers[..], &[url.as_str()]].concat());
    let mut proxy = end(proxy);
    let text = |name: &str| fs::read_to_string(beside(&proxy, name)).expect("lines");
    let (hidden, shown, plain) = (text("hidden.log"), text("shown.log"), text("plain.log"));
    assert!(hidden.matches("\"***\"").count() == 6, "{hidden}");
    assert!(!hidden.contains("s3cr3t"), "{hidden}");
    assert_eq!(shown.matches("s3cr3t").count(), 1, "{shown}");
    assert!(shown.contains("\"header.x-api-key\":\"s3cr3t-three\""), "{shown}");
    assert_eq!(plain, "*** *** me\\\\\\\"é ***\n");
    let log = proxy.process().expect("a process").log();
    assert!(!log.contains("s3cr3t"), "{log}");
}

#[test]
fn rotation_under_load_loses_no_line_and_tears_none() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    // Nothing is to be dropped here, however slow the disk is.
    let mut proxy = Config::busy()
        .section("[[access-log]]\nto = \"access.log\"\nkeys = [\"method\"]\nbuffer = \"1GiB\"\n")
        .all("redis", redis.address)
        .start();
    let log = beside(&proxy, "access.log");
    let load = Load::redis(proxy.address("redis"), 4, 8);
    let mut moved = Vec::new();
    for round in 0..10 {
        // So that there is something in each.
        line(&log, "the load", |line| line["method"] == "echo");
        let away = log.with_extension(format!("log.{round}"));
        fs::rename(&log, &away).expect("moving the log");
        proxy.process().expect("a process").rotate();
        moved.push(away);
        let begun = Instant::now();
        while !log.exists() {
            assert!(begun.elapsed() < PATIENCE, "no new file");
            sleep(Duration::from_millis(5));
        }
    }
    let tally = load.stop();
    tally.assert_perfect();
    let proxy = end(proxy);
    moved.push(log);
    let mut lines = 0;
    for path in &moved {
        let text = fs::read_to_string(path).expect("lines");
        assert!(text.is_empty() || text.ends_with('\n'), "a torn line in {}", path.display());
        lines += read(path).iter().filter(|line| line["method"] == "echo").count() as u64;
    }
    assert_eq!(lines, tally.sent);
    drop(proxy);
}

#[test]
fn a_log_that_takes_nothing_disturbs_no_request() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let [stuck, unread] = ["stuck", "unread"].map(|name| folder.path().join(name));
    for fifo in [&stuck, &unread] {
        let mut command = Command::new("mkfifo");
        command.arg(fifo);
        run("mkfifo", command);
    }
    let log =
        |to: &str, buffer: &str| format!("[[access-log]]\nto = \"{to}\"\nbuffer = \"{buffer}\"\n");
    let (one, two) = (stuck.display().to_string(), unread.display().to_string());
    let mut proxy = Config::busy()
        .section(&log("/dev/full", "64KiB"))
        .section(&log(&one, "64KiB"))
        .section(&log(&two, "64KiB"))
        .section(ALL)
        .section("buffer = \"1GiB\"")
        .all("redis", redis.address)
        .start();
    let load = Load::redis(proxy.address("redis"), 4, 8);
    // It opens the pipe, and reads nothing for long.
    let mut reader = fs::File::open(&stuck).expect("a pipe");
    let complains = |process: &polyport_tests::process::Process| {
        process.log().contains("lines dropped, as the writer is behind")
            && process.log().contains("lines cannot be written")
    };
    proxy.process().expect("a process").wait_for("word of dropped lines", complains);
    let tally = load.stop();
    tally.assert_perfect();
    // What was read late is whole lines all the same.
    let mut some = vec![0; 32 << 10];
    reader.read_exact(&mut some).expect("lines");
    let text = String::from_utf8(some).expect("UTF-8");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    assert!(whole.lines().count() > 10, "{text}");
    assert!(whole.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    // And the log beside them lacks nothing, nor does the end wait for them.
    let begun = Instant::now();
    let proxy = end(proxy);
    assert!(begun.elapsed() < PATIENCE);
    let lines = read(&beside(&proxy, "access.log")).len() as u64;
    assert_eq!(lines, tally.sent);
}

#[test]
fn a_log_that_cannot_be_opened_is_said_at_the_start() {
    if direct() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("p.toml");
    let text = format!(
        "[[listener]]\naddress = \"{}\"\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n\
         [[route]]\nto = \"a\"\n[[access-log]]\nto = \"no/such/folder.log\"\n",
        ports::free()
    );
    fs::write(&config, text).expect("a config");
    let output = Command::new(polyport_tests::proxy::binary())
        .args(["run", "-c"])
        .arg(&config)
        .output()
        .expect("running it");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot write an access log to"), "{said}");
    assert!(said.contains("no/such/folder.log"), "{said}");
}

#[test]
fn a_reload_takes_logs_away_and_brings_others() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut proxy = Config::new()
        .section("[[access-log]]\nto = \"one.log\"\nkeys = [\"key\"]\n")
        .all("redis", redis.address)
        .start();
    let address = proxy.address("redis");
    let mut raw = Raw::say(address, "GET first\r\n");
    raw.until("\r\n");
    let first = line(&beside(&proxy, "one.log"), "the first", |line| line["key"] == "first");
    let text = fs::read_to_string(proxy.config()).expect("the config");
    // Further keys: a connection that was there before has to learn of them.
    let other = text
        .replace("one.log", "two.log")
        .replace("keys = [\"key\"]", "keys = [\"argc\", \"method\", \"key\"]");
    assert_ne!(text, other);
    fs::write(proxy.config(), other).expect("another config");
    proxy.process().expect("a process").hang_up();
    let reloaded = |process: &polyport_tests::process::Process| process.log().contains("reloaded");
    proxy.process().expect("a process").wait_for("word of the reload", reloaded);
    let two = beside(&proxy, "two.log");
    let begun = Instant::now();
    // Workers take the config up in their next turns.
    while read(&two).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "no line in the new log");
        raw.send("GET second\r\n");
        raw.until("\r\n");
        sleep(Duration::from_millis(50));
    }
    let second = line(&two, "the second", |line| line["key"] == "second");
    assert_eq!((&second["method"], &second["argc"]), (&"get".into(), &"2".into()), "{second}");
    assert_eq!(first["connection"], second["connection"]);
    let proxy = end(proxy);
    assert!(read(&beside(&proxy, "one.log")).iter().all(|line| line["method"].is_null()));
}

#[test]
fn lines_to_stdout_are_all_there_at_the_end() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let proxy = Config::new()
        .section("[[access-log]]\nto = \"stdout\"\nformat = \"line: {method} {source.ip}\"\n")
        .all("redis", redis.address)
        .start();
    let mut raw = Raw::connect(proxy.address("redis"));
    raw.send("PING\r\n".repeat(1000));
    raw.exactly("+PONG\r\n".len() * 1000);
    let mut proxy = end(proxy);
    let log = proxy.process().expect("a process").log();
    let lines = log.lines().filter(|line| *line == "line: ping 127.0.0.1").count();
    assert_eq!(lines, 1000, "{log}");
}

#[test]
fn bytes_that_are_no_request_have_a_line() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let proxy = Config::new().section(ALL).all("http", nginx.address).start();
    let log = beside(&proxy, "access.log");
    let mut client = Raw::say(proxy.address("http"), "GET / HTTP/1.1\r\nno colon here\r\n\r\n");
    let (head, _) = client.http_response();
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let line = line(&log, "what was refused", |line| line["protocol"] == "http");
    assert_eq!(line["outcome"], "fault", "{line}");
    assert_eq!(line["fault"], "malformed", "{line}");
    assert_eq!(line["status"], 400, "{line}");
    assert!(line["bytes-out"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
    assert!(line.get("route").is_none(), "{line}");
}
