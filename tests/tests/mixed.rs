//! All protocols on one port at once, and what may go wrong there.

use std::thread::sleep;
use std::time::Duration;

use polyport_tests::load::{Load, Tally};
use polyport_tests::peers::{
    assert_wrk_clean, curl, curl_command, dubbo_start, redis_benchmark, wrk,
};
use polyport_tests::process::Running;
use polyport_tests::stubs::{FORMS, tag};
use polyport_tests::{Backend, Config, DubboServer, Nginx, Proxy, Raw, RedisServer, direct};

struct All {
    redis: RedisServer,
    nginx: Nginx,
    dubbo: DubboServer,
    proxy: Proxy,
}

fn all(more: &str) -> All {
    let (redis, nginx, dubbo) = (RedisServer::start(), Nginx::start(), DubboServer::start());
    let proxy = Config::busy()
        .counted()
        .section(more)
        .all("redis", redis.address)
        .all("http", nginx.address)
        .all("dubbo", dubbo.address)
        .start();
    All { redis, nginx, dubbo, proxy }
}

#[test]
fn three_loads_at_once_through_one_port() {
    let mut all = all("");
    let url = format!("http://{}/index.html", all.proxy.address("http"));
    let web = wrk(&url, &["-t", "1", "-c", "16", "-d", "4s"]);
    let calls = dubbo_start(all.proxy.address("dubbo"), "load", &["4", "8", "16", "strict"]);
    // These check each reply against its request; the benchmarks beside them only count.
    let own = Load::redis(all.proxy.address("redis"), 4, 16);
    let pages = Load::http(all.proxy.address("http"), 2, 4, "/index.html", "hello\n");
    let benchmark = redis_benchmark(
        all.proxy.address("redis"),
        &["-t", "set,get", "-P", "16", "-c", "16", "-n", "100000", "-r", "1000", "-q"],
    );
    let report = benchmark.succeed();
    assert!(report.contains("GET: ") && !report.contains("rror"), "{report}");
    assert_wrk_clean(&web.succeed());
    Tally::read(&calls.succeed()).assert_perfect();
    own.stop().assert_perfect();
    pages.stop().assert_perfect();
    all.proxy.assert_alive();
}

/// Loads of all three, and `disturb` in their midst.
fn under_load(all: &mut All, disturb: impl FnOnce(&mut All)) -> (Tally, Tally, Tally) {
    let redis = Load::redis(all.proxy.address("redis"), 8, 16);
    let http = Load::http(all.proxy.address("http"), 8, 4, "/index.html", "hello\n");
    let dubbo = dubbo_start(all.proxy.address("dubbo"), "load", &["3", "8", "16"]);
    sleep(Duration::from_millis(800));
    disturb(all);
    sleep(Duration::from_millis(800));
    let tallies = (redis.stop(), http.stop(), Tally::read(&dubbo.succeed()));
    all.proxy.assert_alive();
    tallies
}

#[test]
fn redis_dies_and_nobody_else_notices() {
    let mut all = all("");
    let (redis, http, dubbo) = under_load(&mut all, |all| {
        all.redis.kill();
        sleep(Duration::from_millis(500));
        all.redis.restart();
    });
    redis.assert_complete();
    assert!(redis.failed + redis.lost > 0 || direct(), "the death went unnoticed: {redis:?}");
    http.assert_perfect();
    dubbo.assert_perfect();
}

#[test]
fn nginx_dies_and_nobody_else_notices() {
    let mut all = all("");
    let (redis, http, dubbo) = under_load(&mut all, |all| {
        all.nginx.kill();
        sleep(Duration::from_millis(500));
        all.nginx.restart();
    });
    http.assert_complete();
    assert!(http.failed + http.lost > 0 || direct(), "the death went unnoticed: {http:?}");
    redis.assert_perfect();
    dubbo.assert_perfect();
}

#[test]
fn a_dubbo_server_dies_and_nobody_else_notices() {
    let mut all = all("");
    let (redis, http, dubbo) = under_load(&mut all, |all| {
        all.dubbo.kill();
        sleep(Duration::from_millis(500));
        all.dubbo.restart();
    });
    dubbo.assert_complete();
    assert!(dubbo.failed + dubbo.lost > 0 || direct(), "the death went unnoticed: {dubbo:?}");
    redis.assert_perfect();
    http.assert_perfect();
}

#[test]
fn every_call_of_a_dead_server_ends() {
    let mut all = all("");
    // Calls that would take a minute, to a server that dies meanwhile.
    let waiting: Vec<Running> =
        (0..4).map(|_| dubbo_start(all.proxy.address("dubbo"), "slow", &["60000"])).collect();
    all.proxy.until_asked(4);
    all.dubbo.kill();
    for call in waiting {
        let (status, _, complaint) = call.finish();
        // Answered with an error, or cut; not left to its own timeout of 20 s.
        assert!(!status.success() && !complaint.contains("no reply"), "{status}: {complaint}");
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How each protocol refuses: Redis, HTTP/1, Dubbo, TLS (an alert), HTTP/2 (settings come
/// first), MQTT (CONNACK), Thrift (a frame, or a message by itself) and Bolt.
const REFUSALS: [&[u8]; 10] = [
    b"-",
    b"HTTP/1.",
    b"\xda\xbb",
    b"\x15\x03",
    b"\0\0",
    b"\x20",
    b"\x80\x01\0\x03",
    b"\x82\x61",
    b"\x01\0",
    b"\x02",
];

fn native(reply: &[u8]) -> bool {
    reply.is_empty() || REFUSALS.iter().any(|start| reply.starts_with(start))
}

/// What a port may hear from strangers.
fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = Vec::with_capacity(4096);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..4096 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.push((state >> 56) as u8);
    }
    let dubbo = |length: u32, body: &[u8]| {
        let mut frame = vec![0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body);
        frame
    };
    vec![
        ("noise", noise),
        ("zeros", vec![0; 1000]),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("MySQL's answer", b"\x20\0\0\x01\x85\xa2\x03\0".to_vec()),
        ("a PROXY header where none is read", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec()),
        ("an SSL 2 hello", b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10".to_vec()),
        ("a TLS record that no hello begins", b"\x16\x03\x01\x02\0\x02\0\x01\xfc".to_vec()),
        ("half a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec()),
        ("a TLS hello of rubbish", [&b"\x16\x03\x01\0\x20\x01\0\0\x1c"[..], &[0xff; 28]].concat()),
        ("half of HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\n".to_vec()),
        ("HTTP/2's preface and rubbish", [PREFACE, &[0xff; 64]].concat()),
        ("an MQTT packet before CONNECT", b"\x30\x05\0\x01tab".to_vec()),
        ("a broken MQTT CONNECT", b"\x10\x0c\0\x04MQTT\x09\xff\0\x3c\0\0".to_vec()),
        (
            "a Thrift frame beyond all limits",
            b"\0\xff\xff\xff\x80\x01\0\x01\xff\xff\xff\xff".to_vec(),
        ),
        ("a Bolt frame beyond all limits", [&b"\x01\x01\0\x01\x01"[..], &[0xff; 17]].concat()),
        ("a Dubbo frame beyond all limits", dubbo(u32::MAX, b"")),
        ("a Dubbo body that is no hessian", dubbo(8, &[0xff; 8])),
        ("a Dubbo body that ends early", dubbo(6, b"\x052.0.2")),
        ("a Dubbo string longer than its body", dubbo(4, b"S\xff\xffx")),
        ("a Redis array beyond all limits", b"*2147483647\r\n$4\r\nPING\r\n".to_vec()),
        ("a Redis bulk beyond all limits", b"*1\r\n$99999999999\r\n".to_vec()),
        ("a broken Redis command", b"*1\r\n$4\r\nPINGPONG\r\n".to_vec()),
        (
            "an HTTP head beyond all limits",
            [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 200_000]].concat(),
        ),
        ("a broken HTTP head", b"GET / HTTP/1.1\r\nHost a\r\n\r\n".to_vec()),
        ("an endless inline command", [b"SET k ".as_slice(), &[b'x'; 200_000]].concat()),
    ]
}

#[test]
fn strangers_are_answered_or_cut_and_disturb_nobody() {
    if direct() {
        return;
    }
    let mut all = all("");
    let address = all.proxy.address("http");
    let redis = Load::redis(address, 2, 16);
    let http = Load::http(address, 2, 4, "/index.html", "hello\n");
    let dubbo = dubbo_start(address, "load", &["4", "2", "16", "strict"]);
    sleep(Duration::from_millis(300));
    let before = all.proxy.peak_memory();
    for (what, bytes) in strangers() {
        for _ in 0..3 {
            let mut raw = Raw::connect(address);
            raw.try_send(&bytes);
            raw.finish();
            // The end of the connection must come, after a native error or without a word.
            let reply = raw.bytes_until_closed();
            assert!(native(&reply), "{what}: {}", reply.escape_ascii());
        }
    }
    redis.stop().assert_perfect();
    http.stop().assert_perfect();
    Tally::read(&dubbo.succeed()).assert_perfect();
    let grown = all.proxy.peak_memory() - before;
    assert!(grown < 30 << 20, "memory grew by {} KiB", grown >> 10);
    all.proxy.assert_alive();
}

/// A protocol that is known and has no rule is no stranger: it is refused in its own words.
#[test]
fn what_no_rule_serves_is_refused_in_its_own_words() {
    if direct() {
        return;
    }
    let mut proxy = Config::new().start();
    let address = proxy.address("edge");
    // Refusals that depend on the request's id or text are in the protocols' own tests.
    let due: [(&str, &[u8]); 7] = [
        ("redis", b"-"),
        ("http", b"HTTP/1.1 404 "),
        ("dubbo", b"\xda\xbb\x02\x3c"),
        ("thrift", b"\0\0\0\x38\x80\x01\0\x03"),
        ("bolt", b"\x01\0\0\x02"),
        ("tls", b"\x15\x03\x03\0\x02\x02\x70"),
        ("mqtt", b"\x20\x02\0\x03"),
    ];
    for (protocol, start) in due {
        let form = FORMS.iter().find(|form| form.protocol == protocol).expect("a form");
        let mut raw = Raw::say(address, (form.ask)(&tag(1)));
        raw.finish();
        let reply = raw.bytes_until_closed();
        assert!(reply.starts_with(start), "{protocol}: {}", reply.escape_ascii());
    }
    // HTTP/2: a stream with status 404, on a connection that goes on.
    let url = format!("http://{address}/");
    let page = ["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    assert_eq!(curl(&[&page[..], &[&url]].concat()), "2 404");
    proxy.assert_alive();
}

#[test]
fn half_messages_are_waited_for_within_bounds() {
    if direct() {
        return;
    }
    let mut all = all("[defaults]\nread-timeout = \"1s\"\n");
    let address = all.proxy.address("http");
    let redis = Load::redis(address, 2, 16);
    let before = all.proxy.peak_memory();
    // Beginnings without an end, a hundred of each; and an end that comes after all.
    let beginnings: [&[u8]; 10] = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"\x10\x20\0\x04MQTT\x04",
        b"\0\0\x01\0\x80\x01\0\x01\0\0\0\x04find",
        b"\x80\x01\0\x01\0\0\0\x04find\0\0\0\x01\x0b",
        b"\x01\x01\0\x01\x01\0\0\0\x01\x01\0\0",
        b"*2\r\n$3\r\nGET\r\n$5\r\nab",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\x01\0\0\0\x40\x052.0.2",
        b"POST /up/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbeginning",
    ];
    let waiting: Vec<Raw> =
        (0..400).map(|number| Raw::say(address, beginnings[number % beginnings.len()])).collect();
    let mut slow = Raw::connect(address);
    for byte in "*1\r\n$4\r\nPING\r\n".bytes() {
        slow.send([byte]);
        sleep(Duration::from_millis(50));
    }
    assert_eq!(slow.until("\r\n"), "+PONG\r\n");
    for mut raw in waiting {
        let reply = raw.bytes_until_closed();
        assert!(native(&reply) && !reply.starts_with(b"HTTP/1.1 2"), "{}", reply.escape_ascii());
    }
    redis.stop().assert_perfect();
    let grown = all.proxy.peak_memory() - before;
    assert!(grown < 30 << 20, "memory grew by {} KiB", grown >> 10);
    all.proxy.assert_alive();
}

#[test]
fn a_reader_that_does_not_read_costs_little() {
    if direct() {
        return;
    }
    let mut all = all("");
    let address = all.proxy.address("redis");
    let mut raw = Raw::connect(address);
    raw.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$1000000\r\n{}\r\n", "v".repeat(1_000_000)));
    assert_eq!(raw.until("\r\n"), "+OK\r\n");
    let before = all.proxy.peak_memory();
    // 400 MB of replies that nobody reads.
    for _ in 0..400 {
        if !raw.try_send("*2\r\n$3\r\nGET\r\n$1\r\nv\r\n") {
            break;
        }
    }
    // Meanwhile others are served by the same server.
    for _ in 0..20 {
        let mut other = Raw::say(address, "*1\r\n$4\r\nPING\r\n");
        assert_eq!(other.until("\r\n"), "+PONG\r\n");
        sleep(Duration::from_millis(50));
    }
    let grown = all.proxy.peak_memory() - before;
    assert!(grown < 60 << 20, "memory grew by {} KiB", grown >> 10);
    all.proxy.assert_alive();
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let (redis, backend, dubbo) = (RedisServer::start(), Backend::start(), DubboServer::start());
    let mut proxy = Config::busy()
        .counted()
        .all("redis", redis.address)
        .all("http", backend.address)
        .all("dubbo", dubbo.address)
        .start();
    let url = format!("http://{}/slow?ms=2500", proxy.address("http"));
    let page = Running::start("curl", curl_command(&[&url]));
    let call = dubbo_start(proxy.address("dubbo"), "slow", &["2000"]);
    let mut idle = Raw::say(proxy.address("redis"), "*1\r\n$4\r\nPING\r\n");
    assert_eq!(idle.until("\r\n"), "+PONG\r\n");
    proxy.until_asked(2);
    proxy.terminate();
    assert_eq!(page.succeed(), "slow");
    assert_eq!(call.succeed(), "finished\n");
    if let Some(status) = proxy.wait() {
        assert_eq!(status.code(), Some(0), "{status}");
        assert_eq!(idle.until_closed(), "");
        let refused = std::net::TcpStream::connect(proxy.address("http"));
        assert!(refused.is_err(), "still listening");
    }
}
