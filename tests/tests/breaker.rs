//! Bounds on connections and requests, waits for a connection, and how long things may take:
//! with servers of every way of exchange.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use polyport_codecs::dubbo::call::{Call, decode_reply};
use polyport_tests::bolt::bolt;
use polyport_tests::figures;
use polyport_tests::grpc::GrpcServer;
use polyport_tests::peers::{Backend, DubboServer, dubbo, python};
use polyport_tests::{
    BoltServer, Config, MosquittoServer, Proxy, Raw, RedisServer, WebSockets, direct, ports,
};

const GET: &str = "GET /slow?ms=20 HTTP/1.1\r\nHost: a\r\n\r\n";

/// Waits until the figure is that.
fn until(admin: SocketAddr, name: &str, value: u64) {
    figures::until(admin, &format!("{name} {value}"), |figures| figures[name] == value);
}

/// An HTTP server that answers no request before it is told to.
struct Held {
    address: SocketAddr,
    /// The connections, as they come, one for each request.
    came: Receiver<TcpStream>,
}

impl Held {
    fn start() -> Self {
        let listener = TcpListener::bind(ports::free()).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (come, came): (Sender<TcpStream>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if come.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, came }
    }

    fn next(&self) -> TcpStream {
        self.came.recv_timeout(Duration::from_secs(20)).expect("a connection")
    }
}

/// Answers the next request on that connection, when it comes.
fn answer(stream: &mut TcpStream) {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("a request"), 1, "no request");
        heard.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("answering");
}

fn limited(config: Config, address: SocketAddr, lines: &str, admin: SocketAddr) -> Proxy {
    config
        .cluster("web", address, lines)
        .route("web", "protocol = \"http\"", "web", "timeout = \"60s\"")
        .direct("http", address)
        .section(&format!("[admin]\naddress = \"{admin}\""))
        .start()
}

#[test]
fn twenty_clients_of_one_connection_are_all_answered_one_after_the_other() {
    if direct() {
        return;
    }
    let server = Backend::start();
    let admin = ports::free();
    let proxy = limited(Config::new(), server.address, "max-connections = 1", admin);
    let mut clients: Vec<Raw> = (0..20).map(|_| Raw::say(proxy.address("http"), GET)).collect();
    for client in &mut clients {
        let (head, body) = client.http_response();
        assert!(head.starts_with("HTTP/1.1 200") && body == "slow", "{head}");
    }
    until(admin, "requests_pending", 0);
    until(admin, "upstream_connections_total", 1);
}

#[test]
fn two_workers_share_one_connection_and_starve_nobody() {
    if direct() {
        return;
    }
    let server = Backend::start();
    let admin = ports::free();
    let breaker = "breaker = { connections = 1 }";
    let proxy = limited(Config::busy(), server.address, breaker, admin);
    let mut clients: Vec<Raw> = (0..20).map(|_| Raw::say(proxy.address("http"), GET)).collect();
    for client in &mut clients {
        let (head, _) = client.http_response();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    until(admin, "requests_pending", 0);
    until(admin, "requests_overloaded_total", 0);
}

#[test]
fn what_may_not_wait_is_refused_at_once() {
    if direct() {
        return;
    }
    for pending in [0, 2] {
        let server = Held::start();
        let admin = ports::free();
        let breaker = format!("breaker = {{ connections = 1, pending = {pending} }}");
        let proxy = limited(Config::new(), server.address, &breaker, admin);
        let address = proxy.address("http");
        let mut first = Raw::say(address, GET);
        let mut upstream = server.next();
        let mut waiting: Vec<Raw> = (0..pending).map(|_| Raw::say(address, GET)).collect();
        until(admin, "requests_pending", pending);
        for _ in 0..5 {
            let (head, _) = Raw::say(address, GET).http_response();
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        }
        until(admin, "requests_overloaded_total", 5);
        answer(&mut upstream);
        assert!(first.http_response().0.starts_with("HTTP/1.1 200"));
        for client in &mut waiting {
            answer(&mut upstream);
            assert!(client.http_response().0.starts_with("HTTP/1.1 200"));
        }
    }
}

#[test]
fn a_wait_ends_with_the_requests_time() {
    if direct() {
        return;
    }
    let server = Held::start();
    let proxy = Config::new()
        .cluster("web", server.address, "max-connections = 1")
        .route("slow", "path = \"/a\"", "web", "timeout = \"60s\"")
        .route("web", "path = \"/b\"", "web", "timeout = \"300ms\"")
        .start();
    let address = proxy.address("http");
    let mut first = Raw::say(address, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = server.next();
    let mut second = Raw::say(address, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(second.http_response().0.starts_with("HTTP/1.1 504"));
    answer(&mut upstream);
    assert!(first.http_response().0.starts_with("HTTP/1.1 200"));
}

#[test]
fn blocking_commands_wait_for_each_others_connection() {
    if direct() {
        return;
    }
    let server = RedisServer::start();
    let admin = ports::free();
    let proxy = Config::new()
        .cluster("redis", server.address, "max-connections = 2")
        .route("redis", "protocol = \"redis\"", "redis", "timeout = \"60s\"")
        .section(&format!("[admin]\naddress = \"{admin}\""))
        .start();
    let address = proxy.address("redis");
    // One connection is shared, the other is for whoever blocks.
    let mut other = Raw::say(address, "PING\r\n");
    assert_eq!(other.until("\r\n"), "+PONG\r\n");
    let mut blocked: Vec<Raw> = (0..5).map(|_| Raw::say(address, "BLPOP queue 0\r\n")).collect();
    until(admin, "requests_pending", 4);
    for at in 0..5 {
        other.send(format!("RPUSH queue v{at}\r\n"));
        // Whoever blocked first took it at once.
        assert_eq!(other.until("\r\n"), ":1\r\n");
        until(admin, "requests_pending", 3u64.saturating_sub(at));
    }
    let mut values: Vec<String> =
        blocked.iter_mut().map(|raw| raw.until("queue\r\n$2\r\n") + &raw.exactly(2)).collect();
    values.sort();
    let due: Vec<String> = (0..5).map(|at| format!("*2\r\n$5\r\nqueue\r\n$2\r\nv{at}")).collect();
    assert_eq!(values, due);
}

fn call(id: u64, method: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Call { id, interface: "com.polyport.Echo", method, ..Call::default() }.encode(&mut out);
    out
}

/// The status of the next reply.
fn status(raw: &mut Raw) -> u8 {
    let mut message = raw.bytes(16);
    let len = u32::from_be_bytes(message[12..].try_into().expect("four bytes"));
    message.extend(raw.bytes(len as usize));
    decode_reply(&message).expect("a reply").status
}

#[test]
fn requests_over_the_bound_get_dubbos_own_error() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let admin = ports::free();
    let proxy = Config::busy()
        .cluster("dubbo", server.address, "breaker = { requests = 2 }")
        .route("dubbo", "protocol = \"dubbo\"", "dubbo", "timeout = \"4s\"")
        .section(&format!("[admin]\naddress = \"{admin}\""))
        .start();
    let address = proxy.address("dubbo");
    let mut busy = Raw::say(address, [call(1, "hang"), call(2, "hang")].concat());
    until(admin, "requests_active", 2);
    // From whatever worker.
    let mut other = Raw::connect(address);
    for id in 3..6 {
        other.send(call(id, "stats"));
        assert_eq!(status(&mut other), 100);
    }
    assert_eq!([status(&mut busy), status(&mut busy)], [31, 31]);
    until(admin, "requests_active", 0);
    other.send(call(7, "stats"));
    assert_eq!(status(&mut other), 20);
}

/// CONNECT of client `c`, and what a broker says to it.
const CONNECT_311: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c";
const CONNECT_5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01c";

#[test]
fn a_session_too_many_is_refused_by_connack() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let proxy = Config::new()
        .cluster("mqtt", broker.address, "breaker = { endpoint = { connections = 1 } }")
        .route("mqtt", "protocol = \"mqtt\"", "mqtt", "")
        .start();
    let address = proxy.address("mqtt");
    let mut first = Raw::say(address, CONNECT_311);
    assert_eq!(first.bytes(4), b"\x20\x02\0\0");
    let mut second = Raw::say(address, CONNECT_311);
    assert_eq!(second.bytes(4), b"\x20\x02\0\x03");
    let refused = Raw::say(address, CONNECT_5).bytes_until_closed();
    assert_eq!((refused[0], refused[3]), (0x20, 0x97), "{refused:x?}");
    // Its place is free again when it has gone.
    drop(first);
    let begun = Instant::now();
    loop {
        let mut again = Raw::say(address, CONNECT_311);
        if again.bytes(4) == b"\x20\x02\0\0" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the place is never free");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn dubbos_servers_are_told_what_is_left_of_a_calls_time() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let proxy = Config::new()
        .cluster("dubbo", server.address, "")
        .route("dubbo", "protocol = \"dubbo\"", "dubbo", "timeout = \"30s\"")
        .section("[defaults]\ndeadlines = true")
        .start();
    dubbo(proxy.address("dubbo"), "patience", &["30000"]);
}

#[test]
fn bolts_servers_are_told_what_is_left_of_a_calls_time() {
    if direct() {
        return;
    }
    let server = BoltServer::start();
    let proxy = Config::new()
        .cluster("bolt", server.address, "")
        .route("bolt", "protocol = \"bolt\"", "bolt", "timeout = \"30s\"")
        .start();
    bolt(proxy.address("bolt"), "patience", &["30000"]);
}

#[test]
fn grpcs_servers_are_told_what_is_left_of_a_calls_time() {
    if direct() {
        return;
    }
    let server = GrpcServer::start("one");
    let proxy = Config::new()
        .cluster("grpc", server.address, "http2 = true\nmax-connections = 1")
        .route("grpc", "protocol = \"http\"", "grpc", "timeout = \"30s\"")
        .start();
    let port = proxy.address("http").port().to_string();
    python("grpc_stories.py", &["patience", &port]);
}

#[test]
fn a_session_of_mqtt_ends_when_its_time_is_over() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let proxy = Config::new()
        .cluster("mqtt", broker.address, "")
        .route("mqtt", "protocol = \"mqtt\"", "mqtt", "session-timeout = \"2s\"")
        .start();
    let begun = Instant::now();
    let mut five = Raw::say(proxy.address("mqtt"), CONNECT_5);
    let connack = five.bytes(2);
    five.bytes(connack[1].into());
    // DISCONNECT: maximum connect time.
    let words = five.bytes_until_closed();
    assert_eq!((words[0], words[2]), (0xe0, 0xa0), "{words:x?}");
    assert!(begun.elapsed() >= Duration::from_millis(1990));
    // Older versions have no words for it.
    let mut old = Raw::say(proxy.address("mqtt"), CONNECT_311);
    assert_eq!(old.bytes_until_closed(), b"\x20\x02\0\0");
}

const UPGRADE: &str = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_websocket_ends_when_its_time_is_over_or_nothing_moves_in_it() {
    if direct() {
        return;
    }
    let server = WebSockets::start();
    for (times, idle) in [("session-timeout = \"2s\"", false), ("idle-timeout = \"2s\"", true)] {
        let proxy = Config::new()
            .cluster("web", server.address, "")
            .route("web", "protocol = \"http\"", "web", times)
            .start();
        let mut raw = Raw::say(proxy.address("http"), UPGRADE);
        assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 101"));
        let begun = Instant::now();
        // Talk goes on for longer than it may where only silence is bounded.
        let mut turns = 0;
        while turns < 7 && raw.try_send(b"\x81\x85\0\0\0\0hello") {
            if raw.until_or_end("hello").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(400));
            turns += 1;
        }
        assert_eq!(turns == 7, idle, "{times}: {turns} turns in {:?}", begun.elapsed());
        raw.until_closed();
        assert!(begun.elapsed() >= Duration::from_millis(1900), "{times}");
    }
}
