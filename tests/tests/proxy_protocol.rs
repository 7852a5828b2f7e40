//! The PROXY protocol before the proxy and behind it: HAProxy and curl write the
//! header, nginx and HAProxy read it, raw sockets where bytes matter. Where the
//! proxy is taken out, an nginx that reads the header stands in for it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

use polyport_tests::peers::{curl, redis_cli};
use polyport_tests::{
    Authority, Backend, Config, Haproxy, Nginx, Proxy, Raw, RedisServer, direct, ports, relay,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2; `first` is version and command, `family` family and transport.
fn v2(first: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let len = u16::try_from(addresses.len()).expect("a short header");
    [SIGNATURE, &[first, family], &len.to_be_bytes(), addresses].concat()
}

fn addresses4(source: [u8; 4], port: u16) -> Vec<u8> {
    [&source[..], &[127, 0, 0, 1], &port.to_be_bytes(), &443u16.to_be_bytes()].concat()
}

fn addresses6(source: Ipv6Addr, port: u16) -> Vec<u8> {
    let to = Ipv6Addr::LOCALHOST.octets();
    [&source.octets()[..], &to, &port.to_be_bytes(), &443u16.to_be_bytes()].concat()
}

struct Edge {
    proxy: Proxy,
    nginx: Nginx,
}

/// A listener with `proxy-protocol = MODE`; nginx behind it.
fn edge(mode: &str) -> Edge {
    let own = ports::free();
    let block = format!("server {{ listen {own} proxy_protocol; include locations.conf; }}");
    let nginx = Nginx::with("", &block);
    let proxy = Config::new()
        .listener(&format!("proxy-protocol = \"{mode}\""))
        .cluster("web", nginx.address, "")
        .route("web", "protocol = \"http\"", "web", "")
        .direct("http", own)
        .start();
    Edge { proxy, nginx }
}

/// The client's address as the server was told: by the proxy in `x-forwarded-for`, or by
/// the header itself where the server reads it.
fn seen(told: &str) -> String {
    let key = if direct() { "proxied=" } else { "forwarded=" };
    let line = told.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {told:?}")).to_owned()
}

const WHO: &str = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn haproxy_in_front_tells_who_asks() {
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 check check-send-proxy inter 100"]
    {
        let Edge { proxy, .. } = &mut edge("required");
        let front = Haproxy::before(proxy.address("http"), "", options);
        for client in ["127.0.0.2", "127.0.0.3"] {
            let url = format!("http://{}/who", front.address);
            let told = curl(&["-f", "--interface", client, &url, &url]);
            assert_eq!(seen(&told), client, "{options}: {told}");
        }
        // Its health checks open connections that say LOCAL and no more.
        sleep(Duration::from_millis(400));
        proxy.assert_alive();
    }
}

#[test]
fn curl_writes_the_header_itself() {
    let Edge { proxy, .. } = &edge("optional");
    let url = format!("http://{}/who", proxy.address("http"));
    let told = curl(&["-f", "--haproxy-protocol", "--interface", "127.0.0.7", &url, &url]);
    assert_eq!(seen(&told), "127.0.0.7", "{told}");
}

#[test]
fn every_form_of_the_header_is_read() {
    let Edge { proxy, .. } = &edge("required");
    // Without an address of the client's, the connection's own holds; nginx leaves it out.
    let own = if direct() { "" } else { "127.0.0.1" };
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    let tlv = b"\x04\x00\x03abc\x05\x00\x02id";
    let long_tlv = [&b"\x04\x02\x00"[..], &[0; 512]].concat();
    let unix = [0; 216];
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("v1 TCP4", b"PROXY TCP4 192.0.2.1 127.0.0.1 56324 443\r\n".to_vec(), "192.0.2.1"),
        ("v1 TCP6", b"PROXY TCP6 2001:db8::5 ::1 56324 443\r\n".to_vec(), "2001:db8::5"),
        (
            "v1 TCP6 at its longest",
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        ("v1 UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec(), own),
        ("v1 UNKNOWN and more", b"PROXY UNKNOWN ff:: ff:: 1 2\r\n".to_vec(), own),
        ("v2 TCP4", v2(0x21, 0x11, &addresses4([192, 0, 2, 9], 4711)), "192.0.2.9"),
        ("v2 TCP6", v2(0x21, 0x21, &addresses6(six, 4711)), "2001:db8::5"),
        (
            "v2 with more behind the addresses",
            v2(0x21, 0x11, &[&addresses4([192, 0, 2, 9], 1)[..], tlv].concat()),
            "192.0.2.9",
        ),
        (
            "v2 with much more",
            v2(0x21, 0x11, &[&addresses4([192, 0, 2, 9], 1)[..], &long_tlv].concat()),
            "192.0.2.9",
        ),
        ("v2 LOCAL", v2(0x20, 0x00, &[]), own),
        ("v2 LOCAL with addresses", v2(0x20, 0x11, &addresses4([192, 0, 2, 9], 1)), own),
        ("v2 of a family unheard of", v2(0x21, 0x31, &unix), own),
    ];
    let address = proxy.address("http");
    // nginx wants the header in one piece.
    let slow = if direct() { address } else { relay::bytewise(address) };
    for (what, header, source) in &cases {
        for address in [address, slow] {
            let mut raw = Raw::say(address, [&header[..], WHO.as_bytes()].concat());
            for _ in 0..2 {
                let (head, told) = raw.http_response();
                assert!(head.starts_with("HTTP/1.1 200"), "{what}: {head}");
                if !(direct() && what.contains("LOCAL with")) {
                    assert_eq!(seen(&told), *source, "{what}: {told}");
                }
                raw.send(WHO);
            }
        }
    }
}

#[test]
fn what_is_no_header_is_closed_unanswered() {
    if direct() {
        return;
    }
    let cases: [(&str, Vec<u8>); 18] = [
        ("no CRLF", [&b"PROXY TCP4 192.0.2.1 "[..], &[b'1'; 120]].concat()),
        ("LF alone", b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\n".to_vec()),
        ("lower case", b"PROXY tcp4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec()),
        ("an unknown transport", b"PROXY UDP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec()),
        ("no address", b"PROXY TCP4 192.0.2 127.0.0.1 1 2\r\n".to_vec()),
        ("the other family", b"PROXY TCP4 2001:db8::5 ::1 1 2\r\n".to_vec()),
        ("the other family again", b"PROXY TCP6 192.0.2.1 127.0.0.1 1 2\r\n".to_vec()),
        ("a port too large", b"PROXY TCP4 192.0.2.1 127.0.0.1 65536 2\r\n".to_vec()),
        ("a signed port", b"PROXY TCP4 192.0.2.1 127.0.0.1 +1 2\r\n".to_vec()),
        ("a field less", b"PROXY TCP4 192.0.2.1 127.0.0.1 1\r\n".to_vec()),
        ("a field more", b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2 3\r\n".to_vec()),
        ("two blanks", b"PROXY  TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec()),
        ("a NUL", b"PROXY TCP4 192.0.2.1\0 127.0.0.1 1 2\r\n".to_vec()),
        ("a version unheard of", v2(0x31, 0x11, &addresses4([192, 0, 2, 9], 1))),
        ("a command unheard of", v2(0x22, 0x11, &addresses4([192, 0, 2, 9], 1))),
        ("too short for IPv4", v2(0x21, 0x11, &[192, 0, 2, 9, 127, 0, 0, 1, 0, 1, 1])),
        ("too short for IPv6", v2(0x21, 0x21, &addresses4([192, 0, 2, 9], 1))),
        ("half a signature", b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0".to_vec()),
    ];
    for mode in ["required", "optional"] {
        let Edge { proxy, nginx } = &mut edge(mode);
        for (what, header) in &cases {
            let mut raw = Raw::say(proxy.address("http"), header);
            raw.try_send(WHO);
            let reply = raw.until_closed();
            // Where it is optional, what is no header may be taken for bad HTTP.
            let refused = reply.is_empty() || mode == "optional" && reply.starts_with("HTTP/1.1 4");
            assert!(refused, "{mode}: {what}: {reply:?}");
        }
        assert_eq!(nginx.access_log(), "", "{mode}: a request got through");
        // Cut in its midst.
        for header in [&b"PROXY TCP4 192.0"[..], &SIGNATURE[..8], &v2(0x21, 0x11, &[1; 12])[..20]] {
            let mut raw = Raw::say(proxy.address("http"), header);
            raw.finish();
            assert_eq!(raw.until_closed(), "");
        }
        proxy.assert_alive();
    }
}

#[test]
fn nobody_comes_without_where_it_is_required() {
    let Edge { proxy, .. } = &edge("required");
    for bytes in [WHO, "*1\r\n$4\r\nPING\r\n", "\u{16}\u{3}\u{1}\0\u{5}hello", "PROX"] {
        let mut raw = Raw::say(proxy.address("http"), bytes);
        raw.finish();
        assert_eq!(raw.until_closed(), "", "{bytes:?}");
    }
}

#[test]
fn both_come_in_where_it_is_optional() {
    if direct() {
        return;
    }
    let (nginx, redis) = (Nginx::start(), RedisServer::start());
    let proxy = Config::new()
        .listener("proxy-protocol = \"optional\"")
        .all("http", nginx.address)
        .all("redis", redis.address)
        .start();
    let address = proxy.address("http");
    for _ in 0..2 {
        let told = Raw::say(address, WHO).http_response().1;
        assert_eq!(seen(&told), "127.0.0.1");
        let header = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n";
        let told = Raw::say(address, header.to_owned() + WHO).http_response().1;
        assert_eq!(seen(&told), "192.0.2.1");
        // What begins as the first bytes of a header do, and is none.
        let mut raw = Raw::say(address, "PROPFIND /who HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(raw.http_response().0.starts_with("HTTP/1.1 "));
        let ping = b"*1\r\n$4\r\nPING\r\n";
        let header = v2(0x21, 0x11, &addresses4([192, 0, 2, 9], 1));
        let mut raw = Raw::say(address, [&header[..], ping].concat());
        assert_eq!(raw.until("\r\n"), "+PONG\r\n");
        assert_eq!(redis_cli(address, &["PING"]), "PONG\n");
    }
}

#[test]
fn strangers_are_not_believed() {
    if direct() {
        return;
    }
    // Where nothing is said of it, a header is a bad request.
    let nginx = Nginx::start();
    let proxy = Config::new().all("http", nginx.address).start();
    let header = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n";
    for header in [header.as_bytes(), &v2(0x21, 0x11, &addresses4([192, 0, 2, 1], 1))] {
        let mut raw = Raw::say(proxy.address("http"), [header, WHO.as_bytes()].concat());
        let reply = raw.until_closed();
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply:?}");
    }
    // Nor is a second one behind the first, nor one amid the connection.
    let Edge { proxy, nginx: other } = &edge("optional");
    for start in ["PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n".to_owned(), WHO.to_owned()] {
        let mut raw = Raw::say(proxy.address("http"), start + header + WHO);
        let reply = raw.until_closed();
        assert!(!reply.contains("forwarded=192.0.2.1"), "{reply:?}");
    }
    assert_eq!(nginx.access_log(), "");
    assert!(other.access_log().lines().count() <= 1, "{}", other.access_log());
}

#[test]
fn rules_use_the_address_that_the_header_names() {
    if direct() {
        return;
    }
    let (nginx, node) = (Nginx::start(), Backend::start());
    let proxy = Config::new()
        .listener("proxy-protocol = \"optional\"")
        .cluster("web", nginx.address, "")
        .cluster("node", node.address, "")
        .route("one", "protocol = \"http\", \"source.ip\" = \"192.0.2.1\"", "node", "")
        .route(
            "net",
            "protocol = \"http\", \"source.ip\" = { cidr = \"198.51.100.0/24\" }",
            "node",
            "",
        )
        .route(
            "six",
            "protocol = \"http\", \"source.ip\" = { cidr = \"2001:db8::/32\" }",
            "node",
            "",
        )
        .route("other", "protocol = \"http\"", "web", "")
        .start();
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    let cases: [(Vec<u8>, bool); 7] = [
        (Vec::new(), false),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(), true),
        (b"PROXY TCP4 192.0.2.2 127.0.0.1 1 2\r\n".to_vec(), false),
        (v2(0x21, 0x11, &addresses4([198, 51, 100, 77], 1)), true),
        (v2(0x20, 0x11, &addresses4([198, 51, 100, 77], 1)), false),
        (v2(0x21, 0x21, &addresses6(six, 1)), true),
        (b"PROXY TCP6 2001:db9::5 ::1 56324 443\r\n".to_vec(), false),
    ];
    for (header, to_node) in cases {
        let ask = b"GET /length?n=2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut raw = Raw::say(proxy.address("http"), [&header[..], ask].concat());
        let (head, body) = raw.http_response();
        assert_eq!(body == "xx", to_node, "{header:?}: {head}");
    }
}

#[test]
fn the_header_comes_before_tls() {
    let authority = Authority::new();
    let certificate = authority.server("a.example.com");
    let own = ports::free();
    let block = format!(
        "server {{ listen {own} ssl proxy_protocol; {} include locations.conf; }}",
        certificate.nginx("")
    );
    let nginx = Nginx::with("", &block);
    let proxy = Config::new()
        .listener("proxy-protocol = \"required\"")
        .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
        .cluster("web", nginx.address, "")
        .route("web", "protocol = \"http\", \"tls.sni\" = \"a.example.com\"", "web", "")
        .direct("https", own)
        .start();
    let address = proxy.address("https");
    for options in ["send-proxy", "send-proxy-v2"] {
        // nginx wants the header in one piece.
        let slow = if direct() { address } else { relay::bytewise(address) };
        for address in [address, slow] {
            let front = Haproxy::before(address, "", options);
            let (to, ca) = (format!("::{}", front.address), authority.ca());
            let secure = ["-f", "--http1.1", "--cacert", &ca, "--connect-to", &to];
            let url = "https://a.example.com/who";
            let told = curl(&[&secure[..], &["--interface", "127.0.0.4", url]].concat());
            assert_eq!(seen(&told), "127.0.0.4", "{told}");
        }
    }
    let to = format!("::{address}");
    let told = curl(&[
        "-f",
        "--http1.1",
        "--haproxy-protocol",
        "--interface",
        "127.0.0.5",
        "--cacert",
        &authority.ca(),
        "--connect-to",
        &to,
        "https://a.example.com/who",
    ]);
    assert_eq!(seen(&told), "127.0.0.5", "{told}");
}

#[test]
fn a_header_that_does_not_end_holds_up_nobody() {
    if direct() {
        return;
    }
    let Edge { proxy, .. } = &mut edge("required");
    let address = proxy.address("http");
    let starts: [&[u8]; 4] =
        [b"", b"PROXY TCP4 1", &SIGNATURE[..5], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff1234"];
    let half: Vec<Raw> = (0..200).map(|number| Raw::say(address, starts[number % 4])).collect();
    for _ in 0..3 {
        let header = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n";
        let told = Raw::say(address, header.to_owned() + WHO).http_response().1;
        assert_eq!(seen(&told), "192.0.2.1");
    }
    for mut raw in half {
        assert_eq!(raw.until_closed(), "");
    }
    proxy.assert_alive();
}

/// An nginx that reads the header; `listen` is what follows the address, `more` what
/// else its block says.
fn reading_nginx(listen: &str, more: &str) -> (Nginx, SocketAddr) {
    let own = ports::free();
    let block = format!(
        "server {{ listen {own} {listen} proxy_protocol; {more} include locations.conf; }}"
    );
    (Nginx::with("", &block), own)
}

#[test]
fn upstreams_are_told_who_asks() {
    let (_nginx, address) = reading_nginx("", "");
    for version in ["v1", "v2"] {
        let proxy = Config::new()
            .cluster("web", address, &format!("proxy-protocol = \"{version}\""))
            .route("web", "protocol = \"http\"", "web", "")
            .direct("http", address)
            .start();
        let url = format!("http://{}/who", proxy.address("http"));
        // One after another: a connection opened for one must not carry another's requests.
        for client in ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.4"] {
            let mut arguments = vec!["-f", "--interface", client, &url, &url, &url];
            if direct() {
                arguments.push("--haproxy-protocol");
            }
            let told = curl(&arguments);
            let expected = format!("proxied={client}");
            assert_eq!(
                told.lines().filter(|line| **line == expected).count(),
                3,
                "{version}: {told}"
            );
        }
        // All at once, and still each with its own.
        let threads: Vec<_> = (10..20)
            .map(|last| {
                let url = url.clone();
                spawn(move || {
                    let client = format!("127.0.0.{last}");
                    let option = if direct() { "--haproxy-protocol" } else { "--fail" };
                    let told = curl(&["-f", option, "--interface", &client, &url, &url, &url]);
                    let expected = format!("proxied={client}");
                    assert_eq!(told.lines().filter(|line| **line == expected).count(), 3, "{told}");
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("its own address");
        }
    }
}

#[test]
fn haproxy_behind_reads_the_header() {
    let telling = Haproxy::telling();
    for version in ["v1", "v2"] {
        let proxy = Config::new()
            .cluster("web", telling.address, &format!("proxy-protocol = \"{version}\""))
            .route("web", "protocol = \"http\"", "web", "")
            .direct("http", telling.address)
            .start();
        let address = proxy.address("http");
        let option = if direct() { "--haproxy-protocol" } else { "--fail" };
        let url = format!("http://{address}/");
        let told = curl(&["-w", "%{local_port}", option, "--interface", "127.0.0.6", &url]);
        let (line, port) = told.split_once('\n').expect("a line and a port");
        // Where the connection came from and where it went: the client's side of it.
        assert_eq!(line, format!("127.0.0.6:{port} {address}"), "{version}");
    }
}

#[test]
fn redis_goes_with_a_header_too() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let reading = Haproxy::before(redis.address, "accept-proxy", "");
    let proxy = Config::new()
        .cluster("redis", reading.address, "proxy-protocol = \"v2\"")
        .route("redis", "protocol = \"redis\"", "redis", "")
        .start();
    let address = proxy.address("redis");
    assert_eq!(redis_cli(address, &["SET", "key", "value"]), "OK\n");
    assert_eq!(redis_cli(address, &["GET", "key"]), "value\n");
    let mut raw = Raw::connect(address);
    raw.send("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(1000));
    for number in 1..=1000 {
        assert_eq!(raw.until("\r\n"), format!(":{number}\r\n"));
    }
}

/// A server that keeps all it reads until the request's end, answers, and hands it over.
fn keeping() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(ports::free()).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = channel();
    spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
            // The signature of version 2 has an empty line in it as well.
            let ended = |read: &[u8]| {
                let at = read.windows(5).position(|window| window == b"GET /");
                at.is_some_and(|at| read[at..].windows(4).any(|window| window == b"\r\n\r\n"))
            };
            while !ended(&read) {
                match stream.read(&mut chunk) {
                    Ok(len @ 1..) => read.extend_from_slice(&chunk[..len]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if sender.send(read).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn the_header_is_exactly_what_the_specification_says() {
    if direct() {
        return;
    }
    let (address, received) = keeping();
    let ask = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for version in ["v1", "v2"] {
        let proxy = Config::new()
            .listener("proxy-protocol = \"optional\"")
            .cluster("web", address, &format!("proxy-protocol = \"{version}\""))
            .route("web", "protocol = \"http\"", "web", "")
            .start();
        let edge = proxy.address("http");
        let port = edge.port();
        let v1 = version == "v1";
        let cases: [(&str, String, Vec<u8>); 2] = [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n",
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n".to_owned(),
                v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0x01, 0xbb]),
            ),
            (
                "PROXY TCP6 2001:db8::5 2001:db8::6 5000 443\r\n",
                "PROXY TCP6 2001:db8::5 2001:db8::6 5000 443\r\n".to_owned(),
                v2(
                    0x21,
                    0x21,
                    &[
                        &Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5).octets()[..],
                        &Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6).octets()[..],
                        &[0x13, 0x88, 0x01, 0xbb],
                    ]
                    .concat(),
                ),
            ),
        ];
        // What came in goes on, in the version asked for.
        for (header, text, bytes) in &cases {
            let mut raw = Raw::say(edge, format!("{header}{ask}"));
            raw.http_response();
            let got = received.recv_timeout(Duration::from_secs(10)).expect("a request");
            let wanted = if v1 { text.as_bytes() } else { bytes };
            assert!(got.starts_with(wanted), "{version}: {:?}", String::from_utf8_lossy(&got));
            assert!(got[wanted.len()..].starts_with(b"GET / HTTP/1.1\r\n"), "{version}");
        }
        // And what came without goes with the connection's own.
        let mut raw = Raw::say(edge, ask);
        raw.http_response();
        let got = received.recv_timeout(Duration::from_secs(10)).expect("a request");
        if v1 {
            let text = String::from_utf8_lossy(&got).into_owned();
            let line = text.split_once("\r\n").expect("a line").0;
            assert!(line.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{line}");
            assert!(line.ends_with(&format!(" {port}")), "{line}");
        } else {
            let head = v2(0x21, 0x11, &[0; 12]);
            assert_eq!(got.get(..16), head.get(..16), "{got:?}");
            let local = Ipv4Addr::LOCALHOST.octets();
            assert_eq!(got.get(16..24), Some(&[local, local].concat()[..]), "{got:?}");
            assert_eq!(got.get(26..28), Some(&port.to_be_bytes()[..]), "{got:?}");
        }
    }
}

#[test]
fn the_header_goes_before_tls_upstream() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let certificate = authority.server("backend.example.com").nginx("");
    let (_nginx, address) = reading_nginx("ssl", &certificate);
    let more = format!(
        "proxy-protocol = \"v2\"\ntls = {{ ca = \"{}\", server-name = \"backend.example.com\" }}",
        authority.ca()
    );
    let proxy = Config::new()
        .cluster("web", address, &more)
        .route("web", "protocol = \"http\"", "web", "")
        .start();
    let url = format!("http://{}/who", proxy.address("http"));
    for client in ["127.0.0.2", "127.0.0.3"] {
        let told = curl(&["-f", "--interface", client, &url]);
        assert!(told.contains(&format!("proxied={client}\n")), "{told}");
        assert!(told.contains("sni=backend.example.com\n"), "{told}");
    }
}
