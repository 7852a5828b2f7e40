//! What stands before a route's clusters: limits by value, who may come, denials and
//! their audit, faults on purpose.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use polyport_codecs::dubbo::call::{Call, decode_reply};
use polyport_tests::load::Tally;
use polyport_tests::mqtt::paho;
use polyport_tests::peers::{curl, dubbo, dubbo_start, redis_cli};
use polyport_tests::{
    Authority, Config, DubboServer, MosquittoServer, Nginx, PATIENCE, Proxy, Raw, RedisServer,
    direct,
};

/// The status of a GET with these further arguments.
fn status(proxy: &Proxy, path: &str, more: &[&str]) -> String {
    let url = format!("http://{}{path}", proxy.address("http"));
    curl(&[&["-o", "/dev/null", "-w", "%{http_code}"][..], more, &[&url]].concat())
}

/// How long that took beside.
fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = what();
    (done, start.elapsed())
}

/// So many GETs of each of `keys`, one after the other; the errors among the replies.
fn gets(raw: &mut Raw, keys: &[&str]) -> usize {
    let asked: String = keys.iter().map(|key| format!("GET {key}\r\n")).collect();
    raw.send(asked);
    let refused = |_: &&&str| match raw.until("\r\n").as_str() {
        "$-1\r\n" => false,
        other => {
            assert!(other.starts_with('-'), "{other:?}");
            true
        }
    };
    keys.iter().filter(refused).count()
}

/// The status of a reply to a call with this attachment.
fn call(raw: &mut Raw, id: u64, tenant: &str) -> u8 {
    let call = Call {
        id,
        interface: "com.polyport.Echo",
        method: "plain",
        arguments: &["x"],
        attachments: &[("tenant", tenant)],
        ..<_>::default()
    };
    let mut bytes = Vec::new();
    call.encode(&mut bytes);
    raw.send(bytes);
    let mut reply = raw.bytes(16);
    let length = u32::from_be_bytes(*reply[12..].first_chunk().expect("a length"));
    reply.extend(raw.bytes(length as usize));
    let reply = decode_reply(&reply).expect("a reply");
    assert_eq!(reply.id, id);
    reply.status
}

/// An MQTT 5.0 session of this client.
fn session(address: SocketAddr, client: &str) -> Raw {
    let mut connect = vec![0x10, 13 + client.len() as u8];
    connect.extend_from_slice(b"\0\x04MQTT\x05\x02\0\x3c\0");
    connect.extend_from_slice(&(client.len() as u16).to_be_bytes());
    connect.extend_from_slice(client.as_bytes());
    let mut raw = Raw::say(address, connect);
    assert_eq!(packet(&mut raw)[..4][0], 0x20, "CONNACK");
    raw
}

/// The next packet, which is a short one.
fn packet(raw: &mut Raw) -> Vec<u8> {
    let mut packet = raw.bytes(2);
    let more = raw.bytes(usize::from(packet[1]));
    packet.extend(more);
    packet
}

/// Publishes with QoS 1; the reason in the acknowledgement, 0 for success.
fn publish(raw: &mut Raw, id: u8, topic: &str, payload: &[u8]) -> u8 {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&[0, id, 0]);
    body.extend_from_slice(payload);
    let mut bytes = vec![0x32];
    let mut left = body.len();
    loop {
        let more = left > 127;
        bytes.push((left & 0x7f) as u8 | if more { 0x80 } else { 0 });
        left >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    raw.send(bytes);
    let ack = packet(raw);
    assert_eq!((ack[0], ack[3]), (0x40, id), "{ack:x?}");
    match ack.get(4) {
        // Nobody has subscribed to it.
        None | Some(0x10) => 0,
        Some(reason) => *reason,
    }
}

const PUBLISHES: &str = "protocol = \"mqtt\", packet = \"publish\"";

#[test]
fn each_value_has_its_own_limit_in_every_protocol() {
    if direct() {
        return;
    }
    let (redis, nginx) = (RedisServer::start(), Nginx::start());
    let (dubbo, broker) = (DubboServer::start(), MosquittoServer::start());
    let limit = |by: &str| format!("limit = {{ rate = \"1/h\", burst = 3, by = {by} }}");
    let mut proxy = Config::busy()
        .cluster("redis", redis.address, "")
        .cluster("http", nginx.address, "")
        .cluster("dubbo", dubbo.address, "")
        .cluster("mqtt", broker.address, "")
        .route(
            "redis",
            "protocol = \"redis\", command = \"get\"",
            "redis",
            &limit("\"key.hashtag\""),
        )
        .route(
            "http",
            "protocol = \"http\"",
            "http",
            &limit("[\"header.x-tenant\", \"header.x-user\"]"),
        )
        .route("dubbo", "protocol = \"dubbo\"", "dubbo", &limit("\"attachment.tenant\""))
        .route("publishes", PUBLISHES, "mqtt", &limit("\"client-id\""))
        .route("mqtt", "protocol = \"mqtt\"", "mqtt", "")
        .start();
    let address = proxy.address("http");

    // On several connections, which two workers serve.
    let mut refused = 0;
    for _ in 0..4 {
        refused += gets(&mut Raw::connect(address), &["{a}1", "{a}2", "{b}1"]);
    }
    assert_eq!(refused, 12 - 3 - 3);
    assert!(redis_cli(address, &["get", "{a}1"]).contains("BUSY"));
    assert_eq!(redis_cli(address, &["get", "{c}1"]), "\n");

    let get = |tenant: &str, user: &str| {
        let header = |name: &str, value: &str| format!("{name}: {value}");
        let (tenant, user) = (header("x-tenant", tenant), header("x-user", user));
        status(&proxy, "/index.html", &["-H", &tenant, "-H", &user])
    };
    for (tenant, user) in [("acme", "ann"), ("acme", "bob"), ("other", "ann")] {
        let seen: Vec<String> = (0..5).map(|_| get(tenant, user)).collect();
        assert_eq!(seen, ["200", "200", "200", "503", "503"], "{tenant} {user}");
    }
    // Messages without the keys are one value more.
    let seen: Vec<String> = (0..5).map(|_| status(&proxy, "/index.html", &[])).collect();
    assert_eq!(seen, ["200", "200", "200", "503", "503"]);

    let mut raw = Raw::connect(address);
    for tenant in ["acme", "other"] {
        let seen: Vec<u8> = (0..5).map(|id| call(&mut raw, id, tenant)).collect();
        assert_eq!(seen, [20, 20, 20, 100, 100], "{tenant}");
    }

    let (mut ann, mut bob) = (session(address, "ann"), session(address, "bob"));
    for raw in [&mut ann, &mut bob] {
        let seen: Vec<u8> = (1..=5).map(|id| publish(raw, id, "t", b"x")).collect();
        assert_eq!(seen[..3], [0, 0, 0]);
        assert!(seen[3..].iter().all(|reason| *reason >= 0x80), "{seen:x?}");
    }
    // The same client on a new connection is the same value; another is another.
    assert!(publish(&mut session(address, "ann"), 9, "t", b"x") >= 0x80);
    assert_eq!(publish(&mut session(address, "cat"), 9, "t", b"x"), 0);
    proxy.assert_alive();
}

#[test]
fn a_flood_of_values_neither_grows_memory_nor_passes_the_limit() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut proxy = Config::busy()
        .section("[access]\naudit = false\n")
        .cluster("redis", redis.address, "")
        .route(
            "redis",
            "protocol = \"redis\"",
            "redis",
            "limit = { rate = \"1/h\", by = \"key\", values = 100 }",
        )
        .start();
    let mut raw = Raw::connect(proxy.address("redis"));
    let before = proxy.peak_memory();
    let mut passed = 0;
    for round in 0..100 {
        let keys: Vec<String> = (0..500).map(|n| format!("k{}", round * 500 + n)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        passed += keys.len() - gets(&mut raw, &keys);
    }
    // Room for twice as many as asked for, and one bucket for all others.
    assert!((100..=201).contains(&passed), "{passed} passed");
    let grown = proxy.peak_memory() - before;
    assert!(grown < 8 << 20, "memory grew by {} KiB", grown >> 10);
    proxy.assert_alive();
}

#[test]
fn what_is_not_allowed_is_denied_within_sessions_too() {
    if direct() {
        return;
    }
    let (redis, nginx) = (RedisServer::start(), Nginx::start());
    let (dubbo, broker) = (DubboServer::start(), MosquittoServer::start());
    let directory = tempfile::tempdir().expect("a directory");
    let audit = directory.path().join("denied.log");
    let with = |default: &str| {
        Config::new()
            .section(&format!(
                "[access]\ndefault = \"{default}\"\naudit = \"{}\"\n",
                audit.display()
            ))
            .cluster("redis", redis.address, "")
            .cluster("http", nginx.address, "")
            .cluster("dubbo", dubbo.address, "")
            .cluster("mqtt", broker.address, "")
            .route(
                "gets",
                "protocol = \"redis\", command = [\"get\", \"multi\", \"exec\"]",
                "redis",
                "",
            )
            .route("pages", "protocol = \"http\", path = { prefix = \"/index\" }", "http", "")
            .route("acme", "protocol = \"dubbo\", attachment.tenant = \"acme\"", "dubbo", "")
            .route("sessions", "protocol = \"mqtt\", packet = \"connect\"", "mqtt", "")
            .route("own", "protocol = \"mqtt\", topic = { prefix = \"own/\" }", "mqtt", "")
            .start()
    };

    let allowing = with("allow");
    let mut raw = session(allowing.address("mqtt"), "c");
    assert_eq!((publish(&mut raw, 1, "own/x", b""), publish(&mut raw, 2, "other", b"")), (0, 0));
    assert_eq!(status(&allowing, "/count", &[]), "404");
    drop((raw, allowing));
    assert_eq!(std::fs::read_to_string(&audit).expect("the file"), "", "nothing was denied");

    let mut proxy = with("deny");
    let address = proxy.address("http");
    assert_eq!(status(&proxy, "/index.html", &[]), "200");
    assert_eq!(status(&proxy, "/count", &[]), "403");
    assert_eq!(redis_cli(address, &["get", "k"]), "\n");
    assert!(redis_cli(address, &["set", "k", "v"]).contains("NOPERM"));
    let mut raw = Raw::connect(address);
    assert_eq!(call(&mut raw, 1, "acme"), 20);
    assert_ne!(call(&mut raw, 2, "other"), 20);
    assert_eq!(call(&mut raw, 3, "acme"), 20);
    let mut raw = session(address, "c");
    assert_eq!(publish(&mut raw, 1, "own/x", b""), 0);
    assert_eq!(publish(&mut raw, 2, "other", b""), 0x87);
    // The session goes on; and so does one of a client that is not ours.
    assert_eq!(publish(&mut raw, 3, "own/y", b""), 0);

    // In a transaction as well, which is then not done without what was denied.
    let mut raw = Raw::connect(address);
    raw.send("MULTI\r\nGET k\r\nSET k v\r\nEXEC\r\n");
    let told = raw.until_closed();
    assert!(told.starts_with("+OK\r\n+QUEUED\r\n-NOPERM"), "{told}");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert_eq!(redis_cli(redis.address, &["get", "k"]), "\n");
    proxy.assert_alive();

    // All of that is told, in order, when the proxy has stopped.
    proxy.terminate();
    proxy.wait();
    let told = std::fs::read_to_string(&audit).expect("the file");
    let protocols: Vec<&str> = told
        .lines()
        .map(|line| {
            for field in ["\"reason\":\"default\"", "\"source.ip\":\"127.0.0.1\"", "\"time\":\"2"] {
                assert!(line.contains(field), "{field}: {line}");
            }
            assert!(line.starts_with('{') && line.ends_with('}') && !line.contains("\"route\""));
            let protocol = line.split_once("\"protocol\":\"").expect("a protocol").1;
            protocol.split_once('"').expect("its end").0
        })
        .collect();
    assert_eq!(protocols, ["http", "redis", "dubbo", "mqtt", "redis"], "{told}");
}

#[test]
fn networks_and_certificates_say_who_may_come() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let authority = Authority::new();
    let server = authority.issue("edge", "/CN=edge", "DNS:edge.test");
    let cart = authority.issue("cart", "/CN=cart/O=shop", "URI:spiffe://shop/cart").curl();
    let till = authority.issue("till", "/CN=till/O=shop", "URI:spiffe://shop/till").curl();
    let mut proxy = Config::new()
        .listener(&format!(
            "tls = {{ certificates = [{{ {} }}], client-ca = \"{}\", client-auth = \"optional\" }}",
            server.toml(),
            authority.ca()
        ))
        .cluster("web", nginx.address, "")
        .route(
            "carts",
            "protocol = \"http\", path = \"/index.html\", header.x-from = \"certificate\"",
            "web",
            "only = { \"tls.client.san\" = [\"spiffe://shop/cart\", \"spiffe://shop/admin\"] }",
        )
        .deny("not the till", "protocol = \"http\", \"tls.client.subject\" = { contains = \"CN=till\" }")
        .route(
            "seven",
            "protocol = \"http\", path = \"/seven\"",
            "web",
            "only = { \"source.ip\" = \"127.0.0.7\" }\nrequest = { set = { path = \"/index.html\" } }",
        )
        .route("net", "protocol = \"http\"", "web", "only = { \"source.ip\" = [\"10.0.0.0/8\", \"127.0.0.0/29\"] }")
        .start();
    let address = proxy.address("http");
    let https = |arguments: &[String], header: &str| {
        let mut command = vec!["-o", "/dev/null", "-w", "%{http_code}", "-k", "-H", header];
        command.extend(arguments.iter().map(String::as_str));
        let url = format!("https://{address}/index.html");
        curl(&[&command[..], &[&url]].concat())
    };
    let from = "x-from: certificate";
    assert_eq!(https(&cart, from), "200");
    assert_eq!(https(&till, from), "403");
    assert_eq!(https(&[], from), "403");
    assert_eq!(https(&till, "x-from: nowhere"), "403");
    assert_eq!(https(&cart, "x-from: nowhere"), "200");
    // Nobody is believed without a certificate, whatever it says.
    assert_eq!(status(&proxy, "/index.html", &["-H", from]), "403");

    assert_eq!(status(&proxy, "/seven", &["--interface", "127.0.0.7"]), "200");
    assert_eq!(status(&proxy, "/seven", &["--interface", "127.0.0.6"]), "403");
    assert_eq!(status(&proxy, "/index.html", &["--interface", "127.0.0.6"]), "200");
    assert_eq!(status(&proxy, "/index.html", &["--interface", "127.0.0.9"]), "403");

    // The log tells who was denied, by which rule, and why.
    let process = proxy.process().expect("a process");
    process
        .wait_for("all denials", |process| process.log().matches("polyport::audit").count() == 6);
    let log = process.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("polyport::audit")).collect();
    let due: [&[&str]; 6] = [
        &[
            "\"route\":\"carts\"",
            "\"reason\":\"only\"",
            "spiffe://shop/till",
            "CN=till",
            "/index.html",
        ],
        &["\"route\":\"carts\"", "\"reason\":\"only\""],
        &["\"route\":\"not the till\"", "\"reason\":\"deny\"", "CN=till"],
        &["\"route\":\"carts\"", "\"reason\":\"only\""],
        &["\"route\":\"seven\"", "127.0.0.6"],
        &["\"route\":\"net\"", "127.0.0.9"],
    ];
    for (line, due) in told.iter().zip(due) {
        for word in due {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    assert!(!told[1].contains("tls.client"), "{}", told[1]);
}

/// All four before real servers, with these lines in each route.
fn faulty(more: &str) -> (RedisServer, Nginx, DubboServer, MosquittoServer, Proxy) {
    let (redis, nginx) = (RedisServer::start(), Nginx::start());
    let (dubbo, broker) = (DubboServer::start(), MosquittoServer::start());
    let proxy = Config::new()
        .cluster("redis", redis.address, "")
        .cluster("http", nginx.address, "")
        .cluster("dubbo", dubbo.address, "")
        .cluster("mqtt", broker.address, "")
        .route("redis", "protocol = \"redis\"", "redis", more)
        .route("http", "protocol = \"http\"", "http", more)
        .route("dubbo", "protocol = \"dubbo\"", "dubbo", more)
        .route("publishes", PUBLISHES, "mqtt", more)
        .route("mqtt", "protocol = \"mqtt\"", "mqtt", "")
        .start();
    (redis, nginx, dubbo, broker, proxy)
}

#[test]
fn a_delay_is_waited_for_and_holds_up_nobody_else() {
    if direct() {
        return;
    }
    let (_redis, _nginx, _dubbo, _broker, mut proxy) = faulty("fault = { delay = \"400ms\" }");
    let address = proxy.address("http");
    let due = Duration::from_millis(400);
    let (code, took) = timed(|| status(&proxy, "/index.html", &[]));
    assert!(code == "200" && took >= due, "{code} {took:?}");
    let (errors, took) = timed(|| gets(&mut Raw::connect(address), &["a"]));
    assert!(errors == 0 && took >= due, "{took:?}");
    let (code, took) = timed(|| call(&mut Raw::connect(address), 1, "acme"));
    assert!(code == 20 && took >= due, "{took:?}");
    let mut raw = session(address, "c");
    let (code, took) = timed(|| publish(&mut raw, 1, "t", b"x"));
    assert!(code == 0 && took >= due, "{code} {took:?}");
    // A hundred at once wait together: not one after the other, which would take 40 s.
    let ((), took) = timed(|| {
        let mut all: Vec<Raw> = (0..100).map(|_| Raw::say(address, "GET a\r\n")).collect();
        for raw in &mut all {
            assert_eq!(raw.until("\r\n"), "$-1\r\n");
        }
    });
    assert!(took >= due && took < Duration::from_secs(20), "{took:?}");
    // Real clients are merely slow.
    dubbo(address, "echo", &[]);
    paho(address, "exchange", "5.0", &[]);
    proxy.assert_alive();
}

#[test]
fn chosen_messages_alone_are_delayed() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let mut proxy = Config::new()
        .cluster("web", nginx.address, "")
        .route(
            "web",
            "protocol = \"http\"",
            "web",
            "fault = [{ delay = \"1h\", match = { header.x-slow = true } }, { abort = 418, match = { path = \"/teapot\" } }, { abort = \"denied\", percent = 0 }]",
        )
        .start();
    let address = proxy.address("http");
    let mut slow = Raw::say(address, "GET /index.html HTTP/1.1\r\nHost: a\r\nX-Slow: 1\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(status(&proxy, "/index.html", &[]), "200");
    }
    assert_eq!(status(&proxy, "/teapot", &[]), "418");
    slow.assert_silent(Duration::from_millis(100));
    // It may leave while it waits.
    drop(slow);
    assert_eq!(status(&proxy, "/index.html", &[]), "200");
    proxy.assert_alive();
}

#[test]
fn an_abort_is_answered_in_every_protocols_own_words() {
    if direct() {
        return;
    }
    let (_redis, _nginx, _dubbo, _broker, mut proxy) = faulty("fault = { abort = \"overloaded\" }");
    let address = proxy.address("http");
    assert_eq!(status(&proxy, "/index.html", &[]), "503");
    assert_eq!(status(&proxy, "/index.html", &["--http2-prior-knowledge"]), "503");
    assert!(redis_cli(address, &["get", "a"]).contains("BUSY"));
    let mut raw = Raw::connect(address);
    assert_eq!([call(&mut raw, 1, "a"), call(&mut raw, 2, "a")], [100, 100]);
    let mut raw = session(address, "c");
    assert!(publish(&mut raw, 1, "t", b"x") >= 0x80 && publish(&mut raw, 2, "t", b"x") >= 0x80);
    proxy.assert_alive();
}

#[test]
fn some_of_a_hundred_are_aborted() {
    if direct() {
        return;
    }
    let (_redis, _nginx, _dubbo, _broker, mut proxy) =
        faulty("fault = { abort = \"unavailable\", percent = 30 }");
    let address = proxy.address("http");
    let calls = dubbo_start(address, "load", &["2", "2", "8"]);
    let mut raw = Raw::connect(address);
    let errors: usize = (0..20).map(|_| gets(&mut raw, &["a"; 100])).sum();
    // Seven standard deviations of 2000.
    assert!((455..=745).contains(&errors), "{errors} of 2000");
    let tally = Tally::read(&calls.succeed());
    tally.assert_complete();
    assert_eq!(tally.lost, 0);
    let share = tally.failed as f64 / tally.sent as f64;
    let spread = 7.0 * (0.21 / tally.sent as f64).sqrt();
    assert!((share - 0.3).abs() < spread, "{share} of {}", tally.sent);
    proxy.assert_alive();
}

/// What reading `address`' answer comes to.
fn ending(address: SocketAddr, ask: &[u8]) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(ask).expect("asking");
    stream.read(&mut [0; 100])
}

#[test]
fn a_reset_reaches_the_client_as_one() {
    if direct() {
        return;
    }
    let (_redis, _nginx, _dubbo, _broker, mut proxy) =
        faulty("fault = { reset = true, match = { source.port = { min = 1 } } }");
    let address = proxy.address("http");
    let mut asked = Vec::new();
    Call { id: 1, interface: "a.B", method: "c", ..<_>::default() }.encode(&mut asked);
    let all: [&[u8]; 3] = [b"GET a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &asked];
    for ask in all {
        let end = ending(address, ask);
        let kind = end.as_ref().err().map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{}: {end:?}", ask.escape_ascii());
    }
    let mut raw = session(address, "c");
    raw.send(b"\x30\x04\0\x01t\0");
    assert_eq!(raw.bytes_until_closed(), b"");
    proxy.assert_alive();
}

#[test]
fn bandwidth_is_capped_both_ways() {
    if direct() {
        return;
    }
    const RATE: f64 = 200.0 * 1024.0;
    let (redis, nginx, _dubbo, _broker, mut proxy) = faulty("fault = { bandwidth = \"200KiB/s\" }");
    let address = proxy.address("http");
    let path = nginx.www().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(400 << 10)).expect("a file");
    let seconds = |bytes: usize| Duration::from_secs_f64(bytes as f64 / RATE);

    let (code, took) = timed(|| status(&proxy, "/big.bin", &[]));
    assert!(code == "200" && took >= seconds(360 << 10), "{code}: down in {took:?}");
    // What was read together with its head need not wait.
    let upload = ["-T", path.to_str().expect("a path")];
    let (code, took) = timed(|| status(&proxy, "/up/big.bin", &upload));
    assert!(code.starts_with("20") && took >= seconds(280 << 10), "{code}: up in {took:?}");
    let stored = std::fs::metadata(nginx.www().join("up/big.bin")).expect("the upload").len();
    assert_eq!(stored, 400 << 10);

    let value = "v".repeat(400 << 10);
    let mut own = Raw::connect(redis.address);
    let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len());
    own.send(head + &value + "\r\n");
    assert_eq!(own.until("\r\n"), "+OK\r\n");
    let mut raw = Raw::connect(address);
    let (got, took) = timed(|| {
        raw.send("GET big\r\n");
        raw.until("\r\n");
        raw.exactly(value.len() + 2)
    });
    assert!(got.trim_end() == value && took >= seconds(360 << 10), "{took:?}");
    // The next one on the connection pays for itself only.
    let (errors, took) = timed(|| gets(&mut raw, &["a"; 10]));
    assert!(errors == 0 && took < Duration::from_secs(10), "{took:?}");

    // Two at once have a pace each.
    let downloads: Vec<_> = (0..2)
        .map(|_| {
            let url = format!("http://{address}/big.bin");
            let got = ["-o", "/dev/null", "-w", "%{size_download}"];
            std::thread::spawn(move || curl(&[&got[..], &[&url]].concat()))
        })
        .collect();
    for download in downloads {
        assert_eq!(download.join().expect("a download"), "409600");
    }

    // Within a session, what the client says on this route and nothing else.
    let mut raw = session(address, "c");
    let (reason, took) = timed(|| publish(&mut raw, 1, "t", value.as_bytes()));
    assert!(reason == 0 && took >= seconds(280 << 10), "{reason:x} {took:?}");
    let (reason, took) = timed(|| publish(&mut raw, 2, "t", b"x"));
    assert!(reason == 0 && took < Duration::from_secs(10), "{reason:x} {took:?}");
    proxy.assert_alive();
}

#[test]
fn explain_shows_what_stands_before_the_clusters() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("p.toml");
    let text = "[access]\ndefault = \"deny\"\n[[listener]]\naddress = \"127.0.0.1:7000\"\n\
        [[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n\
        [[route]]\nname = \"r\"\nmatch = { protocol = \"redis\", command = \"get\" }\nto = \"a\"\n\
        only = { \"source.ip\" = \"10.0.0.0/8\" }\n\
        limit = { rate = \"10/s\", by = \"key\" }\n\
        fault = { delay = \"20ms\", percent = 0.5 }\n";
    std::fs::write(&file, text).expect("a config");
    let explain = |more: &[&str]| {
        let mut command = Command::new(polyport_tests::proxy::binary());
        command.args(["explain", "-c"]).arg(&file).args(more);
        let output = command.output().expect("polyport");
        String::from_utf8(output.stdout).expect("text")
    };
    let known = ["protocol=redis", "command=get", "key=k"];
    let told = explain(&[&known[..], &["source.ip=10.1.2.3"]].concat());
    for line in [
        "  only where source.ip is in 10.0.0.0/8: it is\n",
        "  limit one in 100ms, 10 at once, for each key: here of key = \"k\"\n",
        "  fault: delay 20ms for 0.5%",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let told = explain(&[&known[..], &["source.ip=11.1.2.3"]].concat());
    assert!(told.contains("10.0.0.0/8: it is not: denied"), "{told}");
    let told = explain(&[&known[..], &["source.ip=11.1.2.3", "--json"]].concat());
    for field in [
        "\"denied\":true",
        "\"only\":{\"rule\":\"source.ip is in 10.0.0.0/8\",\"holds\":false}",
        "\"faults\":[{\"fault\":\"delay 20ms for 0.5%\",\"may\":null}]",
        "\"limit\":\"one in 100ms, 10 at once, for each key\",\"by\":[{\"key\":\"key\",",
    ] {
        assert!(told.contains(field), "{field}: {told}");
    }
    let told = explain(&["protocol=redis", "command=set"]);
    assert!(told.starts_with("no route matches: denied"), "{told}");
}
