//! What clients and configs keep secret is in no log, at its most talkative, and in no
//! figure: passwords, keys, tokens, whatever goes well or wrong with them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use polyport_tests::peers::{curl_command, redis_cli};
use polyport_tests::process::finish;
use polyport_tests::{
    Authority, Backend, Config, MosquittoServer, Raw, RedisServer, direct, ports,
};

/// Every secret has this in it, whole or cut.
const MARK: &str = "hunter2";

/// `hunter2` within what basic authorization makes of a user and it, at each of the three
/// offsets that it may have.
const MARK_BASE64: [&str; 3] = ["aHVudGVyM", "h1bnRlcj", "odW50ZXIy"];

/// MQTT's CONNECT with a user and a password.
fn connect(level: u8, password: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, 0b1100_0010, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    for text in ["c", "alice", password] {
        body.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        body.extend(text.as_bytes());
    }
    [&[0x10, u8::try_from(body.len()).expect("short")], &body[..]].concat()
}

/// A server that answers no protocol's question.
fn babbling() -> SocketAddr {
    let listener = TcpListener::bind(ports::free()).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut heard = [0; 1024];
                let _ = stream.read(&mut heard);
                let _ = stream.write_all(b"hunter2 is no reply of any protocol\r\n\r\n");
            });
        }
    });
    address
}

#[test]
fn no_log_line_and_no_figure_tells_a_secret() {
    if direct() {
        return;
    }
    let redis = RedisServer::with(&["--requirepass", "redis-hunter2"]);
    let (web, broker) = (Backend::start(), MosquittoServer::start());
    let authority = Authority::new();
    let certificate = authority.server("edge.test");
    let admin = ports::free();
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml());
    let secure = ports::free();
    let mut proxy = Config::busy()
        .under(&["env", "POLYPORT_LOG=trace", "NO_COLOR=1"])
        .section(&format!("[[listener]]\nname = \"tls\"\naddress = \"{secure}\"\n{tls}"))
        .section(&format!("[admin]\naddress = \"{admin}\""))
        .cluster("redis", redis.address, "health = { every = \"2s\", timeout = \"2s\", unhealthy = 10, protocol = \"redis\" }")
        .cluster("web", web.address, "health = { every = \"2s\", timeout = \"2s\", unhealthy = 10, protocol = \"http\", path = \"/slow?ms=1\" }")
        .cluster("mqtt", broker.address, "")
        .cluster("babbling", babbling(), "")
        .cluster("gone", ports::free(), "")
        .route("redis", "protocol = \"redis\"", "redis", "")
        .route("gone", "protocol = \"http\", path = \"/gone\"", "gone", "retry = { attempts = 2 }")
        .route("babble", "protocol = \"http\", path = \"/babble\"", "babbling", "")
        .route(
            "web",
            "protocol = \"http\"",
            "web",
            "request = { set = { \"header.x-config-token\" = \"config-hunter2\" } }",
        )
        .route("mqtt", "protocol = \"mqtt\"", "mqtt", "")
        .start();
    let address = proxy.address("http");

    // Redis: a right password, a wrong one, one in the midst of nonsense, and a state that
    // its server takes no more.
    let mut client = Raw::say(address, "AUTH redis-hunter2\r\nSET a hunter2\r\nGET a\r\n");
    assert_eq!(client.until("hunter2\r\n"), "+OK\r\n+OK\r\n$7\r\nhunter2\r\n");
    let mut wrong = Raw::say(address, "AUTH wrong-hunter2\r\n");
    assert!(wrong.until("\r\n").starts_with('-'));
    wrong.send("*2\r\n$4\r\nAUTH\r\n%hunter2\r\n");
    wrong.until_closed();
    let mut other = Raw::say(address, "HELLO 3 AUTH default redis-hunter2\r\n");
    other.until("modules");
    redis_cli(
        redis.address,
        &["-a", "redis-hunter2", "CONFIG", "SET", "requirepass", "new-hunter2"],
    );
    redis_cli(redis.address, &["-a", "new-hunter2", "CLIENT", "KILL", "TYPE", "normal"]);
    client.send("GET a\r\n");
    let _ = client.until_or_end("\r\n");

    // HTTP: as usual, refused as malformed, with no server, with one that babbles.
    let lines = "Host: a\r\nAuthorization: Bearer hunter2\r\nCookie: session=hunter2\r\n";
    for (path, status) in [("/slow?ms=1", "200"), ("/gone", "50"), ("/babble", "502")] {
        let request = format!("GET {path} HTTP/1.1\r\n{lines}\r\n");
        let (head, _) = Raw::say(address, request).http_response();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }
    let bad = format!("GET / HTTP/1.1\r\n{lines}hunter2 without a colon\r\n\r\n");
    assert!(Raw::say(address, bad).until_closed().starts_with("HTTP/1.1 400"));
    // What no protocol knows, and what belongs to one that is not enabled here.
    Raw::say(address, "\x01\x02\x03hunter2\r\n").until_closed();
    let mut unknown = Raw::say(address, "\u{7f}XX hunter2 hunter2 hunter2\r\n");
    unknown.finish();
    unknown.until_closed();

    // HTTP/2 over TLS, with all of it in fields.
    let (ca, url) = (authority.ca(), format!("https://edge.test:{}/", secure.port()));
    let resolve = format!("edge.test:{}:{}", secure.port(), secure.ip());
    for path in ["slow?ms=1", "gone"] {
        let url = format!("{url}{path}");
        let command = curl_command(&[
            "-sS",
            "--http2",
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "-u",
            "alice:hunter2",
            "-H",
            "cookie: session=hunter2",
            "-H",
            "x-key: hunter2",
            &url,
        ]);
        let (status, _, said) = finish("curl", command);
        assert!(status.success(), "{said}");
    }
    // And a handshake that fails.
    Raw::say(secure, "\x16\x03\x01\0\x20hunter2 and no hello at all, at all").until_closed();

    // MQTT: in both versions, and with half a password.
    for level in [4, 5] {
        let mut client = Raw::say(address, connect(level, "mqtt-hunter2"));
        assert_eq!(client.bytes(1), [0x20]);
    }
    let mut half = connect(4, "mqtt-hunter2");
    half.truncate(half.len() - 3);
    half[1] -= 3;
    Raw::say(address, half).until_closed();

    let figures = Raw::say(admin, "GET /stats HTTP/1.1\r\n\r\n").until_closed();
    let process = proxy.process().expect("a proxy");
    let begun = Instant::now();
    // All of it has been said, by whoever says anything.
    let talks = ["TRACE", "h2::", "no enabled protocol begins like this", "refused"];
    while !talks.iter().all(|word| process.log().contains(word)) {
        let missing: Vec<_> = talks.iter().filter(|word| !process.log().contains(**word)).collect();
        assert!(begun.elapsed() < Duration::from_secs(20), "{missing:?} in no line");
        std::thread::sleep(Duration::from_millis(50));
    }
    process.terminate();
    process.wait();
    let log = process.log();
    let key = std::fs::read_to_string(&certificate.key).expect("the key");
    let key: Vec<&str> =
        key.lines().filter(|line| line.len() > 30 && !line.contains('-')).collect();
    assert!(!key.is_empty());
    let secrets = [&[MARK, "104, 117, 110, 116, 101, 114"], &MARK_BASE64[..], &key[..]].concat();
    for secret in secrets {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret} in {found:#?}");
        assert!(!figures.contains(secret), "{secret} in {figures}");
    }
}
