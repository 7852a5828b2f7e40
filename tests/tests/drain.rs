//! SIGTERM, seen by clients of every protocol: who keeps to what its protocol says fails
//! in nothing, and of nobody's requests is one done and not answered.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use polyport_tests::mqtt::paho_command;
use polyport_tests::peers::{dubbo_start, python_start};
use polyport_tests::process::Running;
use polyport_tests::stubs::{self, FORMS, Form};
use polyport_tests::{
    Backend, Config, DubboServer, GrpcServer, MosquittoServer, Proxy, Raw, RedisServer, WebSockets,
    direct, ports,
};

fn drains(config: Config, quiet: &str, timeout: &str) -> Config {
    config.section(&format!("[defaults]\ndrain-quiet = \"{quiet}\"\ndrain-timeout = \"{timeout}\""))
}

fn ends_well(proxy: &mut Proxy) {
    assert_eq!(proxy.wait().and_then(|status| status.code()), Some(0));
}

/// What a server was asked.
type Seen = Arc<Mutex<Vec<u8>>>;

/// Stands before a server, and remembers what passes to it.
fn watched(server: SocketAddr) -> (SocketAddr, Seen) {
    let address = ports::free();
    let listener = TcpListener::bind(address).expect("a free port");
    let seen = Seen::default();
    let kept = seen.clone();
    spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else { return };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (seen, mut bytes) = (kept.clone(), [0; 4096]);
            spawn(move || {
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    seen.lock().unwrap().extend_from_slice(&bytes[..len]);
                    if to.write_all(&bytes[..len]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
            let (mut from, mut to) = (server, client);
            spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    (address, seen)
}

/// Asks one thing after the other, now and then after a pause, until the connection
/// ends; what was answered. Panics over half a reply.
fn until_it_ends(address: SocketAddr, form: &Form, number: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(25))).expect("a timeout");
    let mut answered = Vec::new();
    for serial in 0..10_000 {
        let tag = stubs::tag(number * 10_000 + serial);
        if stream.write_all(&(form.ask)(&tag)).is_err() {
            return answered;
        }
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        while got.is_empty() || !(form.hear)(&tag, &got) {
            match stream.read(&mut chunk) {
                Ok(len @ 1..) => got.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("{}: neither answered nor closed", form.name);
                }
                _ => {
                    let half = got.escape_ascii();
                    assert!(got.is_empty(), "{}: half a reply: {half}", form.name);
                    return answered;
                }
            }
        }
        answered.push(tag);
        sleep(Duration::from_millis(if serial % 7 == number as u64 as usize % 7 {
            130
        } else {
            3
        }));
    }
    panic!("{}: it never ended", form.name);
}

#[test]
fn whatever_is_done_is_answered_in_protocols_that_have_no_words_for_leaving() {
    if direct() {
        return;
    }
    // A session goes on for as long as there is time, HTTP/2 and Dubbo have words.
    let without =
        |form: &&Form| !matches!(form.protocol, "mqtt" | "tls" | "dubbo") && form.name != "http 2";
    for protocol in ["redis", "http", "thrift", "bolt"] {
        let (server, seen) = watched(stubs::serve(protocol));
        let mut proxy = drains(Config::busy().all(protocol, server), "60ms", "20s").start();
        let address = proxy.address(protocol);
        let clients: Vec<_> = FORMS
            .iter()
            .filter(without)
            .filter(|form| form.protocol == protocol)
            .flat_map(|form| (0..4).map(move |_| form))
            .enumerate()
            .map(|(number, form)| spawn(move || until_it_ends(address, form, number)))
            .collect();
        sleep(Duration::from_millis(500));
        proxy.terminate();
        let mut answered = BTreeSet::new();
        for client in clients {
            match client.join() {
                Ok(tags) => answered.extend(tags),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        ends_well(&mut proxy);
        let seen = seen.lock().unwrap();
        let asked: BTreeSet<String> = seen
            .windows(9)
            .filter(|tag| tag.starts_with(b"tag") && tag[3..].iter().all(u8::is_ascii_digit))
            .map(|tag| String::from_utf8_lossy(tag).into_owned())
            .collect();
        assert!(answered.len() > 20, "{protocol}: {} answers show nothing", answered.len());
        let lost: Vec<_> = asked.difference(&answered).collect();
        assert!(lost.is_empty(), "{protocol}: done, and nobody learned: {lost:?}");
    }
}

#[test]
fn an_http_client_learns_it_from_the_next_reply() {
    if direct() {
        return;
    }
    let node = Backend::start();
    let mut proxy = drains(Config::new().all("http", node.address), "10s", "30s").start();
    let ask = "GET /length?n=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut raw = Raw::say(proxy.address("http"), ask);
    let (head, _) = raw.http_response();
    assert!(!head.to_lowercase().contains("connection: close"), "{head}");
    let slow = "GET /slow?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut busy = Raw::say(proxy.address("http"), slow);
    sleep(Duration::from_millis(500));
    proxy.terminate();
    refuses(&proxy);
    // The second is what nobody looks at.
    raw.send([ask, ask].concat());
    for raw in [&mut raw, &mut busy] {
        let (head, _) = raw.http_response();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.to_lowercase().contains("connection: close"), "{head}");
        assert_eq!(raw.until_closed(), "");
    }
    ends_well(&mut proxy);
}

#[test]
fn an_http_client_learns_it_from_answers_of_the_proxys_own_too() {
    if direct() {
        return;
    }
    let (node, dead) = (Backend::start(), ports::free());
    let route = |name: &str, path: &str, does: &str| {
        format!(
            "\n[[route]]\nname = \"{name}\"\nmatch = {{ protocol = \"http\", path = \"{path}\" }}\n{does}\n"
        )
    };
    let forbidden = route("forbidden", "/forbidden", "deny = true");
    let fine = route("fine", "/fine", "respond = { body = \"fine\" }");
    let moved = route(
        "moved",
        "/moved",
        "respond = { status = 308, headers = { location = \"https://a/\" } }",
    );
    let limited =
        route("limited", "/limited", "limit = { rate = \"1/h\", burst = 1 }\nto = \"node\"");
    let config = Config::new()
        .section(&[forbidden, fine, moved, limited].concat())
        .cluster("node", node.address, "")
        .cluster("dead", dead, "")
        .route("dead", "path = \"/dead\"", "dead", "")
        .route("alive", "path = \"/length\"", "node", "");
    let mut proxy = drains(config, "20s", "60s").start();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let says_so = |head: &str| head.to_lowercase().contains("\r\nconnection: close\r\n");
    let cases = [
        ("/nowhere", "404"),
        ("/forbidden", "403"),
        ("/fine", "200"),
        ("/moved", "308"),
        ("/limited", "503"),
        ("/dead", "503"),
        ("/length?n=1", "200"),
    ];
    let mut clients: Vec<_> = cases
        .iter()
        .map(|(path, status)| {
            let mut raw = Raw::say(proxy.address("http"), ask(path));
            let (head, _) = raw.http_response();
            assert!(!says_so(&head), "{head}");
            (raw, *path, *status)
        })
        .collect();
    proxy.terminate();
    refuses(&proxy);
    for (raw, path, status) in &mut clients {
        // The second is what nobody looks at.
        raw.send([ask(path), ask(path)].concat());
        let (head, _) = raw.http_response();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(says_so(&head), "{path}: {head}");
        assert_eq!(raw.until_closed(), "", "{path}");
    }
    ends_well(&mut proxy);
}

/// Waits until the proxy takes no new connections.
fn refuses(proxy: &Proxy) {
    let start = Instant::now();
    while TcpStream::connect(proxy.address("any")).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "still listening");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn redis_is_served_until_it_rests_and_a_transaction_is_finished() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut proxy = drains(Config::new().all("redis", redis.address), "700ms", "40s").start();
    let address = proxy.address("redis");
    let mut raw = Raw::say(address, "PING\r\n");
    assert_eq!(raw.until("\r\n"), "+PONG\r\n");
    let mut begun = Raw::say(address, "MULTI\r\nSET k v\r\n");
    assert_eq!(begun.until("+QUEUED\r\n"), "+OK\r\n+QUEUED\r\n");
    proxy.terminate();
    refuses(&proxy);
    for _ in 0..20 {
        raw.send("PING\r\n");
        assert_eq!(raw.until("\r\n"), "+PONG\r\n");
        sleep(Duration::from_millis(50));
    }
    assert_eq!(raw.until_closed(), "");
    // Longer than it takes to be quiet.
    sleep(Duration::from_millis(1000));
    begun.send("EXEC\r\n");
    assert_eq!(begun.until_closed(), "*1\r\n+OK\r\n");
    ends_well(&mut proxy);
}

#[test]
fn dubbo_says_read_only_and_no_call_fails() {
    if direct() {
        return;
    }
    for story in ["leaving", "leavingCompat"] {
        let server = DubboServer::start();
        let mut proxy = Config::new().all("dubbo", server.address).start();
        let mut calls = dubbo_start(proxy.address("dubbo"), story, &[]);
        calls.wait_for("ready");
        proxy.terminate();
        calls.succeed();
        ends_well(&mut proxy);
    }
}

#[test]
fn grpc_calls_go_elsewhere_and_none_fails() {
    if direct() {
        return;
    }
    let server = GrpcServer::start("one");
    let start = || {
        Config::busy()
            .cluster("grpc", server.address, "http2 = true")
            .route("grpc", "protocol = \"http\"", "grpc", "")
            .start()
    };
    let (mut first, second) = (start(), start());
    let port = |proxy: &Proxy| proxy.address("http").port().to_string();
    let mut calls = python_start("grpc_stories.py", &["leaving", &port(&first), &port(&second)]);
    calls.wait_for("ready");
    first.terminate();
    calls.succeed();
    ends_well(&mut first);
}

#[test]
fn mqtt_clients_are_told_one_by_one() {
    if direct() {
        return;
    }
    for version in ["5.0", "3.1.1"] {
        let broker = MosquittoServer::start();
        let mut proxy = drains(Config::new().all("mqtt", broker.address), "1s", "10s").start();
        let command = paho_command(proxy.address("mqtt"), "leaving", version, &[], None);
        let mut clients = Running::start("mqtt_stories.py", command);
        clients.wait_for("ready");
        proxy.terminate();
        clients.succeed();
        ends_well(&mut proxy);
    }
}

#[test]
fn websockets_are_closed_with_a_word_over_either_version() {
    if direct() {
        return;
    }
    let server = WebSockets::start();
    let config = Config::busy().all("http", server.address);
    let mut proxy = drains(config, "1s", "16s").start();
    let url = format!("ws://{}", proxy.address("http"));
    let mut clients = python_start("websocket_stories.py", &["leaving", &url]);
    clients.wait_for("ready");
    proxy.terminate();
    clients.succeed();
    ends_well(&mut proxy);
}

#[test]
fn whoever_does_not_hear_is_refused_after_the_last_call() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut proxy = drains(Config::new().all("redis", redis.address), "10s", "4s").start();
    let mut raw = Raw::say(proxy.address("redis"), "PING\r\n");
    assert_eq!(raw.until("\r\n"), "+PONG\r\n");
    proxy.terminate();
    let start = Instant::now();
    while raw.try_send("PING\r\n") {
        match raw.until_or_end("\r\n") {
            Ok(reply) => assert!(reply == "+PONG\r\n" || reply.starts_with('-'), "{reply}"),
            Err(rest) => {
                assert_eq!(rest, "");
                break;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(30), "served for ever");
        sleep(Duration::from_millis(1));
    }
    ends_well(&mut proxy);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    if direct() {
        return;
    }
    let node = Backend::start();
    let mut proxy = drains(Config::new().all("http", node.address), "1s", "300s").start();
    let ask = "GET /slow?ms=200000 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut raw = Raw::say(proxy.address("http"), ask);
    sleep(Duration::from_millis(500));
    proxy.terminate();
    refuses(&proxy);
    proxy.assert_alive();
    proxy.terminate();
    assert_eq!(proxy.wait().and_then(|status| status.code()), Some(1));
    assert_eq!(raw.until_closed(), "");
}
