//! HTTP/1 through the proxy: curl, wrk and raw sockets against nginx and node.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polyport_tests::load::Load;
use polyport_tests::peers::{assert_wrk_clean, curl, curl_command, wrk};
use polyport_tests::{Backend, Config, Nginx, Proxy, Raw, direct};

const GIB: u64 = 1 << 30;

struct Web {
    nginx: Nginx,
    proxy: Proxy,
    url: String,
}

fn web() -> Web {
    let nginx = Nginx::start();
    let proxy = Config::new().all("http", nginx.address).start();
    let url = format!("http://{}", proxy.address("http"));
    Web { nginx, proxy, url }
}

struct Node {
    _backend: Backend,
    proxy: Proxy,
    url: String,
}

fn node() -> Node {
    let backend = Backend::start();
    let proxy = Config::new().all("http", backend.address).start();
    let url = format!("http://{}", proxy.address("http"));
    Node { _backend: backend, proxy, url }
}

/// A file of `len` bytes that costs no disk: holes, and a mark every so often
/// that tells one place from another.
fn sparse(path: &Path, len: u64) {
    let mut file = File::create(path).expect("a file");
    for at in (0..len - 64).step_by(8 << 20) {
        file.seek(SeekFrom::Start(at)).expect("seeking");
        write!(file, "here is byte {at}").expect("writing");
    }
    file.set_len(len).expect("the length");
}

#[test]
fn get_head_and_bodiless_answers() {
    let Web { url, .. } = &web();
    assert_eq!(curl(&[&format!("{url}/index.html")]), "hello\n");
    let head = curl(&["--head", &format!("{url}/index.html")]).to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 6"), "{head}");
    let codes = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects};"];
    // Each of these answers ends where it should, or the next one on the connection fails.
    let mut arguments = Vec::new();
    let urls = [format!("{url}/none"), format!("{url}/missing"), format!("{url}/index.html")];
    for url in urls.iter().chain(&urls) {
        arguments.extend(codes);
        arguments.push(url);
    }
    assert_eq!(curl(&arguments), "204 1;404 0;200 0;204 0;404 0;200 0;");
    let unchanged = curl(&[
        "-H",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("{url}/index.html"),
    ]);
    assert_eq!(unchanged, "304");
    // Several HEADs on one connection, where a body believed in would hang.
    let mut raw = Raw::connect(url.trim_start_matches("http://").parse().expect("an address"));
    for _ in 0..3 {
        raw.send("HEAD /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = raw.until("\r\n\r\n").to_lowercase();
        assert!(head.contains("content-length: 6"), "{head}");
    }
    raw.send("GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.http_response().1, "hello\n");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let Web { url, .. } = &web();
    let count = format!("{url}/count");
    let one: Vec<String> = curl(&[&count, &count, &count]).lines().map(str::to_owned).collect();
    let connection = one[0].split(' ').next().expect("a number").to_owned();
    for line in &one {
        assert!(line.starts_with(&format!("{connection} ")), "more than one connection: {one:?}");
    }
    if !direct() {
        // Other clients, one after another: the upstream connection is still the same.
        for _ in 0..3 {
            let line = curl(&[&count]);
            assert!(line.starts_with(&format!("{connection} ")), "{line:?} after {one:?}");
        }
    }
}

#[test]
fn bodies_of_unknown_length_both_ways() {
    let Web { nginx, url, .. } = &web();
    let want = std::fs::read(nginx.www().join("gzip.txt")).expect("the original");
    let page = format!("{url}/gzip.txt");
    let head = curl(&["-D", "-", "-o", "/dev/null", "-H", "Accept-Encoding: gzip", &page]);
    assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(curl(&["--compressed", &page]).as_bytes(), want);
    // curl sends a body from its input chunked, without asking for its length.
    let source = nginx.www().join("gzip.txt");
    for round in 0..3 {
        let up = format!("{url}/up/chunked{round}.txt");
        let mut command = curl_command(&["-f", "-T", "-", "-H", "Expect:", &up]);
        let child = command.stdin(File::open(&source).expect("a file")).status();
        assert!(child.expect("curl").success());
        let got = std::fs::read(nginx.www().join(format!("up/chunked{round}.txt")));
        assert_eq!(got.expect("the upload"), want);
    }
}

#[test]
fn a_gigabyte_down_is_streamed() {
    let Web { nginx, proxy, url } = &web();
    let path = nginx.www().join("big.bin");
    sparse(&path, GIB);
    curl(&[&format!("{url}/index.html")]);
    let (before, start) = (proxy.peak_memory(), Instant::now());
    let mut download = curl_command(&["-f", &format!("{url}/big.bin")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl");
    let same = Command::new("cmp")
        .arg("-")
        .arg(&path)
        .stdin(download.stdout.take().expect("a pipe"))
        .status()
        .expect("cmp");
    assert!(download.wait().expect("curl").success() && same.success());
    println!("1 GiB down in {:?}", start.elapsed());
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn a_gigabyte_up_is_streamed() {
    let Web { nginx, proxy, url } = &web();
    let source = nginx.www().join("source.bin");
    sparse(&source, GIB);
    curl(&[&format!("{url}/index.html")]);
    let (before, start) = (proxy.peak_memory(), Instant::now());
    let source = source.to_str().expect("a path");
    curl(&["-f", "-T", source, &format!("{url}/up/big.bin")]);
    println!("1 GiB up in {:?}", start.elapsed());
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
    let stored = nginx.www().join("up/big.bin");
    let same = Command::new("cmp").arg(source).arg(stored).status().expect("cmp");
    assert!(same.success());
}

#[test]
fn a_body_is_asked_for_before_it_is_sent() {
    let Node { proxy, url, .. } = &node();
    let mut raw = Raw::connect(proxy.address("http"));
    for round in 1..=3 {
        raw.send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        );
        assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 100"), "round {round}");
        raw.send("body");
        assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert_eq!(raw.until("0\r\n"), "4\r\nbody\r\n0\r\n");
        raw.until("\r\n\r\n");
    }
    assert_eq!(curl(&[&format!("{url}/continues")]), "3");
    // Refused: the body is never sent, and what is sent instead is not taken for it.
    let mut raw = Raw::connect(proxy.address("http"));
    raw.send(
        "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 417"));
    // A client that cannot wait sends its body at once, as curl does after a second.
    let mut raw = Raw::connect(proxy.address("http"));
    raw.send("POST /headers HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    assert!(raw.http_response().1.contains("\"body\":\"body\""));
    let body = "x".repeat(100_000);
    let echo = format!("{url}/echo");
    assert_eq!(curl(&["-H", "Expect: 100-continue", "--data-binary", &body, &echo]), body);
}

#[test]
fn trailers_pass_both_ways() {
    let Node { proxy, .. } = &node();
    let mut raw = Raw::connect(proxy.address("http"));
    for _ in 0..2 {
        raw.send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Sum: 42\r\n\r\n",
        );
        let head = raw.until("\r\n\r\n").to_lowercase();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut body = String::new();
        loop {
            let size = raw.until("\r\n");
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            body.push_str(&raw.exactly(size));
            assert_eq!(raw.exactly(2), "\r\n");
        }
        assert_eq!(body, "abcdefg");
        let trailers = raw.until("\r\n\r\n").to_lowercase();
        assert!(trailers.contains("x-length: 7\r\n"), "{trailers}");
        assert!(trailers.contains("x-echo-x-sum: 42\r\n"), "{trailers}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let Node { proxy, .. } = &node();
    let mut raw = Raw::connect(proxy.address("http"));
    let mut batch = String::new();
    for n in 1..=20 {
        // The first are the slowest.
        let target =
            if n <= 3 { format!("/slow?ms={}", 200 - 50 * n) } else { format!("/length?n={n}") };
        batch.push_str(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    batch.push_str("POST /headers HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    batch.push_str("HEAD /length?n=9 HTTP/1.1\r\nHost: a\r\n\r\n");
    batch.push_str("GET /length?n=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    raw.send(batch);
    for n in 1..=20 {
        let body = raw.http_response().1;
        assert_eq!(body, if n <= 3 { "slow".to_owned() } else { "x".repeat(n) });
    }
    assert!(raw.http_response().1.contains("\"body\":\"body\""));
    assert!(raw.until("\r\n\r\n").to_lowercase().contains("content-length: 9"));
    assert_eq!(raw.http_response().1, "xx");
    assert_eq!(raw.until_closed(), "");
}

#[test]
fn old_clients_and_old_servers() {
    let Node { proxy, .. } = &node();
    let address = proxy.address("http");
    // HTTP/1.0: the end of the body is the end of the connection.
    let mut raw = Raw::say(address, "GET /length?n=5 HTTP/1.0\r\n\r\n");
    let reply = raw.until_closed();
    assert!(reply.ends_with("\r\n\r\nxxxxx"), "{reply}");
    // What comes chunked cannot go so to a client of HTTP/1.0.
    let mut raw =
        Raw::say(address, "POST /echo HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let reply = raw.until_closed();
    assert!(reply.ends_with("\r\n\r\nbody"), "{reply}");
    assert!(!reply.to_lowercase().contains("transfer-encoding"), "{reply}");
    // A server that ends its bodies by closing: an HTTP/1.1 client still sees the end.
    let got = curl(&["-w", "|%{http_code}", &format!("http://{address}/old?n=70000")]);
    assert_eq!(got, format!("{}|200", "o".repeat(70_000)));
}

#[test]
fn interim_answers_and_upgrades() {
    let Node { proxy, .. } = &node();
    let address = proxy.address("http");
    let mut raw = Raw::say(address, "GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    let first = raw.until("\r\n\r\n");
    assert!(first.starts_with("HTTP/1.1 103") && first.contains("style.css"), "{first}");
    assert_eq!(raw.http_response().1, "early");
    // After 101 the bytes are the application's.
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst");
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    assert_eq!(raw.exactly(5), "first");
    for message in ["GET / HTTP/1.1\r\n\r\n", "\0\u{1}binary", "last"] {
        raw.send(message);
        assert_eq!(raw.exactly(message.len()), message);
    }
    raw.finish();
    assert_eq!(raw.until_closed(), "");
}

#[test]
fn hop_by_hop_headers_stop_here() {
    if direct() {
        return;
    }
    let Node { proxy, .. } = &node();
    let mut raw = Raw::say(
        proxy.address("http"),
        "GET /headers HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, X-Private\r\n\
         X-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: basic x\r\nX-Kept: 1\r\n\r\n",
    );
    let seen = raw.http_response().1.to_lowercase();
    assert!(seen.contains("x-kept") && seen.contains("shop.test"), "{seen}");
    for gone in ["x-private", "proxy-authorization", "timeout=5"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[test]
fn requests_are_routed_by_what_they_ask() {
    if direct() {
        return;
    }
    let (nginx, backend) = (Nginx::start(), Backend::start());
    let proxy = Config::new()
        .cluster("files", nginx.address, "")
        .cluster("node", backend.address, "")
        .route("header", "protocol = \"http\", \"header.x-to\" = \"node\"", "node", "")
        .route("host", "protocol = \"http\", host = \"node.test\"", "node", "")
        .route("path", "protocol = \"http\", path = { prefix = \"/len\" }", "node", "")
        .route("put", "protocol = \"http\", method = [\"PUT\", \"DELETE\"]", "files", "")
        .route("index", "protocol = \"http\", path = \"/index.html\"", "files", "")
        .start();
    let mut raw = Raw::connect(proxy.address("http"));
    let mut ask = |head: &str| {
        raw.send(format!("{head}\r\n\r\n"));
        raw.http_response()
    };
    assert_eq!(ask("GET /length?n=3 HTTP/1.1\r\nHost: a").1, "xxx");
    assert_eq!(ask("GET /index.html HTTP/1.1\r\nHost: a").1, "hello\n");
    let seen = ask("GET /headers HTTP/1.1\r\nHost: node.test").1;
    assert!(seen.contains("node.test"), "{seen}");
    let seen = ask("GET /headers HTTP/1.1\r\nHost: a\r\nX-To: node").1;
    assert!(seen.contains("x-to"), "{seen}");
    let status = ask("PUT /up/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0").0;
    assert!(status.starts_with("HTTP/1.1 201"), "{status}");
    // No route: an answer, and the connection goes on.
    let status = ask("GET /nowhere HTTP/1.1\r\nHost: a").0;
    assert!(status.starts_with("HTTP/1.1 404"), "{status}");
    assert_eq!(ask("GET /length?n=1 HTTP/1.1\r\nHost: a").1, "x");
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let Node { proxy, .. } = &node();
    if direct() {
        return;
    }
    let address = proxy.address("http");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        (
            "both lengths",
            format!(
                "{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef{smuggled}"),
        ),
        ("a list of lengths", format!("{post}Content-Length: 5, 6\r\n\r\nabcdef")),
        ("a signed length", format!("{post}Content-Length: +5\r\n\r\nabcde")),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\n")),
        ("a length beyond u64", format!("{post}Content-Length: 99999999999999999999\r\n\r\n")),
        ("an empty length", format!("{post}Content-Length: \r\n\r\n")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        (
            "chunked not last",
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunked twice",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("a space before the colon", format!("{post}Content-Length : 5\r\n\r\nabcde")),
        ("a folded line", format!("{post}X-A: 1\r\n Content-Length: 5\r\n\r\nabcde")),
        ("a bare CR", format!("{post}X-A: 1\rContent-Length: 5\r\n\r\nabcde")),
        ("a NUL", format!("{post}X-A: \0\r\n\r\n")),
        ("a line without a colon", format!("{post}nonsense\r\n\r\n")),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (
            "a chunk size with 0x",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n"),
        ),
        (
            "a chunk size beyond u64",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n"
            ),
        ),
        (
            "a lone LF after a chunk size",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than it says",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n"),
        ),
        (
            "a chunked body of HTTP/1.0",
            "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connect(address);
        raw.send(&bytes);
        let reply = raw.until_closed();
        // A body that breaks when its head is with the server already: no answer is possible but
        // an error or the end of the connection.
        let chunk = what.contains("chunk size") || what.contains("chunk longer");
        let refused = reply.starts_with("HTTP/1.1 400") || reply.starts_with("HTTP/1.1 501");
        let cut =
            chunk && (refused || reply.starts_with("HTTP/1.1 50") || !reply.contains("\r\n0\r\n"));
        assert!(refused || cut, "{what}: {reply:?}");
        assert_eq!(
            reply.matches("HTTP/1.1 ").count(),
            usize::from(!reply.is_empty()),
            "{what}: {reply:?}"
        );
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_own_status() {
    if direct() {
        return;
    }
    let Node { proxy, .. } = &node();
    let address = proxy.address("http");
    let cases = [
        ("414", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "u".repeat(9000))),
        ("431", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(150))),
        ("431", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "v".repeat(70_000))),
        ("505", "GET / HTTP/3.7\r\nHost: a\r\n\r\n".to_owned()),
    ];
    for (status, bytes) in cases {
        // A good request first: what the connection speaks is known then.
        let mut raw = Raw::say(address, "GET /length?n=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.http_response().1, "x");
        // The answer may come, and the connection go, before all of it is said.
        raw.try_send(&bytes);
        let reply = raw.until_closed();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {reply:?}");
    }
}

#[test]
fn no_server_is_502_or_503_and_late_is_504() {
    if direct() {
        return;
    }
    let mut backend = Backend::start();
    let proxy = Config::new()
        .cluster("node", backend.address, "")
        .route("node", "protocol = \"http\"", "node", "timeout = \"300ms\"")
        .start();
    let mut raw = Raw::say(proxy.address("http"), "GET /slow?ms=2000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = raw.http_response().0;
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    let ask = "GET /length?n=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut raw = Raw::say(proxy.address("http"), ask);
    assert_eq!(raw.http_response().1, "x");
    backend.kill();
    for _ in 0..3 {
        raw.send(ask);
        let head = raw.http_response().0;
        assert!(head.starts_with("HTTP/1.1 502") || head.starts_with("HTTP/1.1 503"), "{head}");
    }
}

#[test]
fn wrk_finds_no_error() {
    let nginx = Nginx::start();
    let proxy = Config::busy().all("http", nginx.address).start();
    let url = format!("http://{}/index.html", proxy.address("http"));
    assert_wrk_clean(&wrk(&url, &["-t", "2", "-c", "32", "-d", "2s"]).succeed());
}

#[test]
fn pipelines_under_load_get_every_answer() {
    let web = web();
    let load = Load::http(web.proxy.address("http"), 8, 16, "/index.html", "hello\n");
    std::thread::sleep(Duration::from_secs(1));
    load.stop().assert_perfect();
}
