//! HTTP/2 before the proxy, behind it, and on both sides: curl, nghttp, h2load
//! and clients made frame by frame; nginx, node and nghttpd.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use polyport_tests::http2::{Nghttpd, assert_h2load_clean, h2load, nghttp};
use polyport_tests::load::Load;
use polyport_tests::peers::{assert_wrk_clean, curl, curl_command, python, python_start, wrk};
use polyport_tests::{Authority, Backend, Config, Nginx, Proxy, Raw, direct, ports, relay};

/// What node serves; nginx serves the rest.
const NODE: &str = "[\"/echo\", \"/headers\", \"/slow\", \"/length\", \"/early\", \"/stall\", \
                    \"/cut\", \"/last\", \"/aborted\"]";

/// One combination of the versions that are spoken before the proxy and behind it.
struct Way {
    nginx: Nginx,
    node: Backend,
    proxy: Proxy,
    /// For curl.
    version: &'static str,
    says: &'static str,
}

const PRIOR: &str = "--http2-prior-knowledge";

fn way(client2: bool, server2: bool) -> Way {
    way_with(client2, server2, |config| config)
}

fn way_with(client2: bool, server2: bool, more: impl FnOnce(Config) -> Config) -> Way {
    let h2 = ports::free();
    let block = format!("server {{ listen {h2} http2; include locations.conf; }}");
    let nginx = Nginx::with("", &block);
    // Without the proxy the server speaks what the client speaks.
    let two = if direct() { client2 } else { server2 };
    let node = if two { Backend::http2() } else { Backend::start() };
    let web = if two { h2 } else { nginx.address };
    let lines = if server2 { "http2 = true" } else { "" };
    let proxy = more(Config::new())
        .cluster("node", node.address, lines)
        .cluster("web", web, lines)
        .route("node", &format!("protocol = \"http\", path = {NODE}"), "node", "")
        .route("web", "protocol = \"http\"", "web", "")
        .direct("node", node.address)
        .direct("web", web)
        .start();
    let (version, says) = if client2 { (PRIOR, "2") } else { ("--http1.1", "1.1") };
    Way { nginx, node, proxy, version, says }
}

/// Every combination with HTTP/2 in it.
const WAYS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

impl Way {
    fn url(&self, server: &str, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address(server))
    }

    fn curl(&self, arguments: &[&str]) -> String {
        curl(&[&[self.version], arguments].concat())
    }

    /// A story of `h2_stories.py`.
    fn tell(&mut self, story: &str, server: &str, more: &[&str]) -> String {
        let port = self.proxy.address(server).port().to_string();
        let told = python("h2_stories.py", &[&[story, port.as_str()], more].concat());
        self.proxy.assert_alive();
        told
    }
}

#[test]
fn pages_heads_and_bodiless_answers() {
    for (client2, server2) in WAYS {
        let way = way(client2, server2);
        let page = way.url("web", "/index.html");
        let told = way.curl(&["-f", "-w", "%{http_version}", &page]);
        assert_eq!(told, format!("hello\n{}", way.says));
        let told = way.curl(&["--head", &page]).to_lowercase();
        assert!(told.contains(" 200") && told.contains("content-length: 6"), "{told}");
        let codes = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects};"];
        let urls = [way.url("web", "/none"), way.url("web", "/missing"), page.clone()];
        if client2 {
            // This curl's own fault: it does not use such a connection twice.
            let told: String =
                urls.iter().map(|url| way.curl(&[&codes[..], &[url]].concat())).collect();
            assert_eq!(told, "204 1;404 1;200 1;");
        } else {
            let each = urls.iter().chain(&urls);
            let arguments: Vec<&str> =
                each.flat_map(|url| codes.into_iter().chain([url.as_str()])).collect();
            assert_eq!(way.curl(&arguments), "204 1;404 0;200 0;204 0;404 0;200 0;");
        }
        let since = ["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"];
        assert_eq!(way.curl(&[&since[..], &["-w", "%{http_code}", &page]].concat()), "304");
        assert_eq!(way.curl(&["-f", "-r", "1-2", &page]), "el");
        if !direct() {
            let spoken = if server2 { "protocol=HTTP/2.0\n" } else { "protocol=HTTP/1.1\n" };
            let told = way.curl(&["-f", "-H", "Host: shop.test:99", &way.url("web", "/who")]);
            assert!(told.contains(spoken) && told.contains("host=shop.test\n"), "{told}");
        }
    }
}

#[test]
fn bodies_of_unknown_length_both_ways() {
    for (client2, server2) in WAYS {
        let way = way(client2, server2);
        let source = way.nginx.www().join("gzip.txt");
        let want = std::fs::read_to_string(&source).expect("the original");
        assert_eq!(way.curl(&["-f", "--compressed", &way.url("web", "/gzip.txt")]), want);
        for round in 0..3 {
            let up = way.url("web", &format!("/up/{round}.txt"));
            let mut command = curl_command(&[way.version, "-f", "-T", "-", "-H", "Expect:", &up]);
            let child = command.stdin(File::open(&source).expect("a file")).status();
            assert!(child.expect("curl").success());
            let got = std::fs::read_to_string(way.nginx.www().join(format!("up/{round}.txt")));
            assert_eq!(got.expect("the upload"), want);
        }
        // Asked for first, as curl does with a body of this size.
        let data = format!("@{}", source.display());
        let expect = ["-H", "Expect: 100-continue", "--data-binary", &data];
        assert_eq!(way.curl(&[&expect[..], &[&way.url("node", "/echo")]].concat()), want);
    }
}

#[test]
fn a_hundred_megabytes_each_way_are_streamed() {
    const LEN: u64 = 100 << 20;
    for (client2, server2) in WAYS {
        let way = way(client2, server2);
        let path = way.nginx.www().join("big.bin");
        let random = Command::new("head").args(["-c", &LEN.to_string(), "/dev/urandom"]).output();
        std::fs::write(&path, random.expect("head").stdout).expect("a file");
        way.curl(&["-f", &way.url("web", "/index.html")]);
        let (before, start) = (way.proxy.peak_memory(), Instant::now());
        let mut download = curl_command(&[way.version, "-f", &way.url("web", "/big.bin")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        let pipe = download.stdout.take().expect("a pipe");
        let same = Command::new("cmp").arg("-").arg(&path).stdin(pipe).status().expect("cmp");
        assert!(download.wait().expect("curl").success() && same.success());
        println!("{client2} {server2}: 100 MiB down in {:?}", start.elapsed());
        let source = path.to_str().expect("a path");
        way.curl(&["-f", "-T", source, &way.url("web", "/up/big.bin")]);
        println!("{client2} {server2}: and up in {:?}", start.elapsed());
        let stored = way.nginx.www().join("up/big.bin");
        let same = Command::new("cmp").arg(&path).arg(stored).status().expect("cmp");
        assert!(same.success());
        let grown = way.proxy.peak_memory() - before;
        assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
    }
}

#[test]
fn loads_without_an_error() {
    for (client2, server2) in WAYS {
        let way = way(client2, server2);
        let url = way.url("web", "/index.html");
        if client2 {
            let load = h2load(&url, &["-n", "20000", "-c", "8", "-m", "32"]);
            assert_h2load_clean(&load.succeed(), 20_000);
        } else {
            assert_wrk_clean(&wrk(&url, &["-t", "2", "-c", "32", "-d", "2s"]).succeed());
            let load = Load::http(way.proxy.address("web"), 4, 16, "/index.html", "hello\n");
            sleep(Duration::from_secs(1));
            load.stop().assert_perfect();
        }
    }
}

#[test]
fn versions_share_one_port_and_one_load() {
    let way = way(true, false);
    if direct() {
        return;
    }
    let url = way.url("web", "/index.html");
    let one = wrk(&url, &["-t", "1", "-c", "8", "-d", "3s"]);
    let two = h2load(&url, &["-n", "20000", "-c", "4", "-m", "16"]);
    let big = way.url("web", "/gzip.txt");
    let large = h2load(&big, &["-n", "300", "-c", "3", "-m", "10"]);
    assert_h2load_clean(&two.succeed(), 20_000);
    assert_h2load_clean(&large.succeed(), 300);
    assert_wrk_clean(&one.succeed());
}

#[test]
fn connections_that_come_at_once_are_all_served() {
    for (client2, server2) in WAYS.into_iter().filter(|(client2, _)| *client2) {
        let way = way(client2, server2);
        let url = way.url("web", "/index.html");
        for _ in 0..10 {
            let load = h2load(&url, &["-n", "400", "-c", "100", "-m", "4"]);
            assert_h2load_clean(&load.succeed(), 400);
        }
    }
}

#[test]
fn readers_that_do_not_read_hold_up_nobody_else() {
    for server2 in [false, true] {
        let way = way(false, server2);
        let path = way.nginx.www().join("big.bin");
        File::create(&path).and_then(|file| file.set_len(50 << 20)).expect("a sparse file");
        // More than the windows of one connection to the server can hold together.
        let mut stalled: Vec<Raw> = (0..30)
            .map(|_| Raw::say(way.proxy.address("web"), "GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        for raw in &mut stalled {
            assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 200"));
        }
        for _ in 0..10 {
            let begun = Instant::now();
            let quick = ["-f", "--http1.1", "--max-time", "5", &way.url("web", "/gzip.txt")];
            assert_eq!(curl(&quick).len(), 420_000);
            println!("{server2}: answered after {:?}", begun.elapsed());
        }
    }
}

#[test]
fn upstream_streams_share_a_connection() {
    if direct() {
        return;
    }
    let way = way(false, true);
    let url = way.url("node", "/slow?ms=300");
    let begun = Instant::now();
    let threads: Vec<_> = (0..30)
        .map(|_| {
            let url = url.clone();
            spawn(move || assert_eq!(curl(&["-f", "--http1.1", &url]), "slow"))
        })
        .collect();
    for thread in threads {
        thread.join().expect("an answer");
    }
    println!("30 at once in {:?}", begun.elapsed());
    let count = way.url("web", "/count");
    let connections: std::collections::BTreeSet<String> = (0..10)
        .map(|_| curl(&["-f", "--http1.1", &count]))
        .map(|told| told.split(' ').next().expect("a number").to_owned())
        .collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
}

#[test]
fn trailers_before_and_behind_nghttp_and_nghttpd() {
    let server = Nghttpd::start();
    let proxy = Config::new()
        .cluster("web", server.address, "http2 = true")
        .route("web", "protocol = \"http\"", "web", "")
        .direct("http", server.address)
        .start();
    let url = format!("http://{}/index.html", proxy.address("http"));
    let page = server.page();
    let page = page.to_str().expect("a path");
    for _ in 0..3 {
        let told = nghttp(&["-v", "--trailer", "x-client: 7", "-d", page, &url]);
        assert!(told.contains("\nhello\n"), "no body: {told}");
        assert!(told.contains(") x-sum: 42"), "{told}");
    }
    // Several at once on one connection.
    let urls: Vec<String> = (0..20).map(|number| format!("{url}?{number}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let told = nghttp(&[&["-v"], &urls[..]].concat());
    assert_eq!(told.matches(") :status: 200").count(), 20, "{told}");
    assert_eq!(told.matches("hello\n").count(), 20, "{told}");
}

#[test]
fn trailers_pass_from_old_clients_to_new_servers() {
    let way = way(false, true);
    let mut raw = Raw::connect(way.proxy.address("node"));
    for _ in 0..2 {
        raw.send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 42\r\n\r\n",
        );
        let head = raw.until("\r\n\r\n").to_lowercase();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        raw.until("0\r\n");
        let trailers = raw.until("\r\n\r\n").to_lowercase();
        assert!(trailers.contains("x-length: 7\r\n"), "{trailers}");
        assert!(trailers.contains("x-echo-x-sum: 42\r\n"), "{trailers}");
    }
}

/// Stories for clients of HTTP/2, told with servers of either version behind.
macro_rules! stories {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                for server2 in [false, true] {
                    way(true, server2).tell(stringify!($name), "node", &[]);
                }
            }
        )+
    };
}

stories!(
    frames, many, bodies, trailers, fields, interim, given_up, torn, stalled, overdrawn, broken,
    unread,
);

#[test]
fn malformed_requests_end_their_stream_and_go_no_further() {
    for server2 in [false, true] {
        let mut way = way(true, server2);
        way.tell("refused", "node", &[]);
        // The same to a server that logs what it was asked.
        way.tell("smuggled", "web", &[]);
        let log = way.nginx.access_log();
        assert!(log.contains("/index.html") && !log.contains("smuggled"), "{log}");
    }
}

#[test]
fn heads_too_large_are_refused_and_the_connection_goes_on() {
    if direct() {
        return;
    }
    for server2 in [false, true] {
        let mut way = way(true, server2);
        way.tell("large", "node", &[]);
    }
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    if direct() {
        return;
    }
    way(true, false).tell("refused_streams", "node", &[]);
}

#[test]
fn floods_end_and_cost_little() {
    let kinds = [
        "rapid_reset",
        "made_to_reset",
        "settings",
        "empty_settings",
        "pings",
        "priorities",
        "continuations",
        "empty_continuations",
        "empty_data",
        "table_bomb",
    ];
    for server2 in [false, true] {
        let mut way = way(true, server2);
        way.tell("frames", "node", &[]);
        let before = way.proxy.peak_memory();
        let url = way.url("web", "/index.html");
        let mut borne = Vec::new();
        for kind in kinds {
            // node works on 400 000 of these for half a minute.
            if direct() && kind == "priorities" {
                continue;
            }
            // Others are served meanwhile.
            let other = h2load(&url, &["-n", "50", "-c", "1", "-m", "1"]);
            let begun = Instant::now();
            let port = way.proxy.address("node").port().to_string();
            let (status, told, why) =
                python_start("h2_stories.py", &["flood", &port, kind]).finish();
            println!("{kind}: {:?} {told}", begun.elapsed());
            if !status.success() {
                borne.push((kind, why));
            }
            assert_h2load_clean(&other.succeed(), 50);
        }
        way.proxy.assert_alive();
        assert!(borne.is_empty(), "{borne:#?}");
        let grown = way.proxy.peak_memory() - before;
        assert!(grown < 32 << 20, "memory grew by {} KiB", grown >> 10);
    }
}

#[test]
fn half_a_beginning_holds_up_nobody_and_ends() {
    if direct() {
        return;
    }
    let hasty = "[defaults]\nread-timeout = \"5s\"\nidle-timeout = \"3s\"";
    let way = way_with(true, false, |config| config.section(hasty));
    let address = way.proxy.address("web");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // HEADERS of a POST without its end, of a block without its end, and half a frame.
    let post = b"\0\0\x04\x01\x04\0\0\0\x01\x83\x86\x84\x41";
    let block = b"\0\0\x01\x01\0\0\0\0\x01\x83";
    let starts: [Vec<u8>; 6] = [
        preface[..4].to_vec(),
        preface[..20].to_vec(),
        preface.to_vec(),
        [&preface[..], settings].concat(),
        [&preface[..], settings, block].concat(),
        [&preface[..], settings, &post[..10]].concat(),
    ];
    let half: Vec<Raw> = (0..120).map(|number| Raw::say(address, &starts[number % 6])).collect();
    for _ in 0..3 {
        assert_eq!(way.curl(&["-f", &way.url("web", "/index.html")]), "hello\n");
    }
    for mut raw in half {
        raw.until_closed();
    }
}

#[test]
fn what_nobody_reads_is_not_kept() {
    for server2 in [false, true] {
        let mut way = way(true, server2);
        let path = way.nginx.www().join("big.bin");
        File::create(&path).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
        way.tell("frames", "node", &[]);
        let before = way.proxy.peak_memory();
        // Twenty downloads of 100 MB on one connection, which reads 64 KB, waits, reads more.
        way.tell("hoarded", "web", &["/big.bin"]);
        let grown = way.proxy.peak_memory() - before;
        assert!(grown < 48 << 20, "memory grew by {} KiB", grown >> 10);
        // And uploads that the server does not read.
        let before = way.proxy.peak_memory();
        print!("{}", way.tell("swallowed", "node", &[]));
        let grown = way.proxy.peak_memory() - before;
        assert!(grown < 32 << 20, "memory grew by {} KiB", grown >> 10);
    }
}

#[test]
fn a_download_read_slowly_by_an_old_client_is_not_kept() {
    let way = way(false, true);
    let path = way.nginx.www().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(300 << 20)).expect("a sparse file");
    way.curl(&["-f", &way.url("web", "/index.html")]);
    let before = way.proxy.peak_memory();
    let mut raw = Raw::say(way.proxy.address("web"), "GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = raw.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Others share its connection to the server and are not held up.
    for _ in 0..10 {
        assert_eq!(way.curl(&["-f", &way.url("web", "/index.html")]), "hello\n");
        sleep(Duration::from_millis(100));
    }
    let grown = way.proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn servers_that_say_goaway_cost_nobody_an_answer() {
    if direct() {
        return;
    }
    way(true, true).tell("last", "node", &[]);
    let way = way(false, true);
    let mut raw = Raw::connect(way.proxy.address("node"));
    for _ in 0..50 {
        raw.send(
            "GET /last HTTP/1.1\r\nHost: a\r\n\r\nGET /length?n=3 HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        assert_eq!(raw.http_response().1, "last");
        assert_eq!(raw.http_response().1, "xxx");
    }
}

#[test]
fn sigterm_says_goaway_and_answers_what_is_in_flight() {
    if direct() {
        return;
    }
    for server2 in [false, true] {
        let mut way = way(true, server2);
        let port = way.proxy.address("node").port().to_string();
        let story = python_start("h2_stories.py", &["draining", &port]);
        sleep(Duration::from_millis(1200));
        way.proxy.terminate();
        story.succeed();
        assert_eq!(way.proxy.wait().and_then(|status| status.code()), Some(0));
    }
}

#[test]
fn errors_are_native() {
    if direct() {
        return;
    }
    for (client2, server2) in WAYS {
        let node = if server2 { Backend::http2() } else { Backend::start() };
        let lines = if server2 { "http2 = true" } else { "" };
        let mut node = node;
        let proxy = Config::new()
            .cluster("node", node.address, lines)
            .route(
                "node",
                "protocol = \"http\", path = { prefix = \"/\" }, \"header.x-none\" = false",
                "node",
                "timeout = \"400ms\"",
            )
            .start();
        let version = if client2 { PRIOR } else { "--http1.1" };
        let url = |path: &str| format!("http://{}{path}", proxy.address("http"));
        let code = |more: &[&str]| {
            curl(&[&[version, "-o", "/dev/null", "-w", "%{http_code}"], more].concat())
        };
        assert_eq!(code(&["-H", "X-None: 1", &url("/length?n=1")]), "404");
        assert_eq!(code(&[&url("/slow?ms=3000")]), "504");
        assert_eq!(code(&[&url("/length?n=1")]), "200");
        // Torn before its head or after it: never taken for whole.
        let cut = curl_command(&[version, "-f", "-o", "/dev/null", &url("/cut?n=5000")]).status();
        assert!(!cut.expect("curl").success());
        node.kill();
        for _ in 0..3 {
            let got = code(&[&url("/length?n=1")]);
            assert!(got == "502" || got == "503", "{got}");
        }
    }
}

#[test]
fn rules_know_the_version() {
    if direct() {
        return;
    }
    let way = way_with(true, false, |config| {
        config
            .section(
                "[[route]]\nname = \"two\"\nmatch = { protocol = \"http\", path = \"/version\", \
                 \"http.version\" = \"2\" }\nrespond = { status = 200, body = \"two\" }\n",
            )
            .section(
                "[[route]]\nname = \"crumbs\"\nmatch = { protocol = \"http\", path = \"/cookie\", \
                 \"cookie.b\" = \"2\" }\nrespond = { status = 200, body = \"crumbs\" }\n",
            )
            .section(
                "[[route]]\nname = \"host\"\nmatch = { protocol = \"http\", path = \"/host\", \
                 host = \"shop.test\", \"query.q\" = \"a b\" }\nrespond = { status = 200, body = \"shop\" }\n",
            )
    });
    let url = |path: &str| way.url("web", path);
    assert_eq!(way.curl(&["-f", &url("/version")]), "two");
    assert_eq!(
        curl(&["--http1.1", "-o", "/dev/null", "-w", "%{http_code}", &url("/version")]),
        "404"
    );
    let crumbs = ["-f", "-H", "Cookie: a=1", "-H", "Cookie: b=2", &url("/cookie")];
    assert_eq!(way.curl(&crumbs), "crumbs");
    assert_eq!(way.curl(&["-f", "-H", "Host: Shop.Test:80", &url("/host?q=a%20b")]), "shop");
}

#[test]
fn messages_are_changed_in_every_version() {
    if direct() {
        return;
    }
    for (client2, server2) in WAYS {
        let node = if server2 { Backend::http2() } else { Backend::start() };
        let proxy = Config::new()
            .cluster("node", node.address, if server2 { "http2 = true" } else { "" })
            .route(
                "changed",
                "protocol = \"http\", path = { prefix = \"/api/\" }",
                "node",
                "request = { set = { \"header.x-tenant\" = \"{source.ip}\", host = \"inner.example.com\" }, append = { \"header.via\" = \"polyport\" }, remove = [\"header.cookie\"], replace-prefix = { path = [\"/api/\", \"/\"] } }\n\
                 response = { set = { \"header.x-served-by\" = \"{route}\" }, remove = [\"header.content-type\"] }",
            )
            .section("[[route]]\nname = \"moved\"\nmatch = { protocol = \"http\", path = \"/old\" }\nredirect = { to = \"https://{host}/new\", status = 308 }\n")
            .start();
        let version = if client2 { PRIOR } else { "--http1.1" };
        let url = |path: &str| format!("http://{}{path}", proxy.address("http"));
        let headers =
            ["-f", version, "-H", "Cookie: a=1", "-H", "X-Tenant: forged", "-H", "Via: 2 x"];
        let told = curl(&[&headers[..], &["-i", &url("/api/headers?a=1")]].concat());
        let parts = [
            "/headers?a=1",
            "inner.example.com",
            "\"127.0.0.1\"",
            "2 x, polyport",
            "x-served-by: changed",
        ];
        for part in parts {
            assert!(told.contains(part), "{version}: {part} is not in {told}");
        }
        let lower = told.to_lowercase();
        assert!(!lower.contains("cookie") && !lower.contains("forged"), "{told}");
        assert!(!lower.contains("content-type: "), "{told}");
        let body = "b".repeat(200_000);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &body).expect("a body");
        let data = format!("@{}", file.path().display());
        assert_eq!(curl(&["-f", version, "--data-binary", &data, &url("/api/echo")]), body);
        let moved =
            ["-o", "/dev/null", "-w", "%{http_code} %header{location}", "-H", "Host: a.test"];
        let told = curl(&[&[version], &moved[..], &[&url("/old")]].concat());
        assert_eq!(told, "308 https://a.test/new");
    }
}

#[test]
fn an_upgrade_in_the_clear_is_taken_or_left_alone() {
    let way = way(false, false);
    // Without prior knowledge curl asks for `h2c` and takes either answer.
    for _ in 0..2 {
        assert_eq!(curl(&["-f", "--http2", &way.url("web", "/index.html")]), "hello\n");
    }
    // node's own way with an upgrade it has not heard of is to hang up.
    if !direct() {
        let told = curl(&["-f", "--http2", &way.url("node", "/headers")]).to_lowercase();
        assert!(!told.contains("h2c") && !told.contains("http2-settings"), "{told}");
        let body = "x".repeat(100_000);
        let echo = ["-f", "--http2", "--data-binary", &body, &way.url("node", "/echo")];
        assert_eq!(curl(&echo), body);
    }
}

/// TLS on the listener, and an nginx with the same certificate in its place.
struct Secure {
    authority: Authority,
    nginx: Nginx,
    node: Backend,
    proxy: Proxy,
}

impl Secure {
    fn start(server2: bool) -> Self {
        let (authority, own) = (Authority::new(), ports::free());
        let certificate = authority.server("a.example.com");
        let inner = ports::free();
        let ssl = certificate.nginx("");
        let block = format!(
            "server {{ listen {own} ssl http2; {ssl} include locations.conf;
              location /length {{ proxy_pass http://NODE; }} location /echo {{ proxy_pass http://NODE; }} }}
             server {{ listen {inner} ssl http2; {ssl} include locations.conf; }}"
        );
        let node = Backend::start();
        let nginx = Nginx::with("", &block.replace("NODE", &node.address.to_string()));
        let (web, lines) = if server2 {
            let ca = authority.ca();
            let tls = format!("tls = {{ ca = \"{ca}\", server-name = \"a.example.com\" }}");
            (inner, format!("http2 = true\n{tls}"))
        } else {
            (nginx.address, String::new())
        };
        let proxy = Config::new()
            .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
            .cluster("node", node.address, "")
            .cluster("web", web, &lines)
            .route("node", &format!("protocol = \"http\", path = {NODE}"), "node", "")
            .route("web", "protocol = \"http\"", "web", "")
            .direct("https", own)
            .start();
        Self { authority, nginx, node, proxy }
    }

    fn address(&self) -> SocketAddr {
        self.proxy.address("https")
    }

    fn curl(&self, address: SocketAddr, more: &[&str], path: &str) -> String {
        let to = format!("::{address}");
        let url = format!("https://a.example.com{path}");
        let ca = self.authority.ca();
        curl(&[&["-f", "--cacert", &ca, "--connect-to", &to], more, &[&url]].concat())
    }
}

#[test]
fn alpn_chooses_the_version() {
    for server2 in [false, true] {
        let secure = Secure::start(server2);
        let version = ["-w", "%{http_version}"];
        for address in [secure.address(), relay::bytewise(secure.address())] {
            let told = secure.curl(address, &[&["--http2"], &version[..]].concat(), "/index.html");
            assert_eq!(told, "hello\n2");
            let told =
                secure.curl(address, &[&["--http1.1"], &version[..]].concat(), "/index.html");
            assert_eq!(told, "hello\n1.1");
            let told =
                secure.curl(address, &[&["--no-alpn"], &version[..]].concat(), "/index.html");
            assert_eq!(told, "hello\n1.1");
        }
        let told = secure.curl(secure.address(), &["--http2"], "/who");
        let spoken =
            if server2 || direct() { "protocol=HTTP/2.0\n" } else { "protocol=HTTP/1.1\n" };
        assert!(told.contains(spoken), "{told}");
        if server2 && !direct() {
            assert!(told.contains("sni=a.example.com\n"), "{told}");
        }
        let port = secure.address().port().to_string();
        let ca = secure.authority.ca();
        python("h2_stories.py", &["secure", &port, &ca, "a.example.com"]);
        let url = format!("https://{}/index.html", secure.address());
        let load = h2load(&url, &["-n", "10000", "-c", "8", "-m", "32"]);
        assert_h2load_clean(&load.succeed(), 10_000);
    }
}

#[test]
fn a_hundred_megabytes_over_tls_are_streamed() {
    const LEN: u64 = 100 << 20;
    for server2 in [false, true] {
        let secure = Secure::start(server2);
        let path = secure.nginx.www().join("big.bin");
        File::create(&path).and_then(|file| file.set_len(LEN)).expect("a sparse file");
        let address = secure.address();
        assert_eq!(secure.curl(address, &[], "/index.html"), "hello\n");
        let before = secure.proxy.peak_memory();
        let size = ["-o", "/dev/null", "-w", "%{size_download}"];
        assert_eq!(secure.curl(address, &size, "/big.bin"), LEN.to_string());
        let source = path.to_str().expect("a path");
        secure.curl(address, &["-T", source], "/up/big.bin");
        let stored = std::fs::metadata(secure.nginx.www().join("up/big.bin")).expect("the upload");
        assert_eq!(stored.len(), LEN);
        let grown = secure.proxy.peak_memory() - before;
        assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
        let _ = &secure.node;
    }
}

#[test]
fn frames_may_come_byte_by_byte() {
    for server2 in [false, true] {
        let way = way(true, server2);
        let slow = relay::bytewise(way.proxy.address("node"));
        let body = "x".repeat(20_000);
        let url = format!("http://{slow}/echo");
        assert_eq!(way.curl(&["-f", "--data-binary", &body, &url]), body);
        let slow = relay::bytewise(way.proxy.address("web"));
        assert_eq!(way.curl(&["-f", &format!("http://{slow}/index.html")]), "hello\n");
    }
}

#[test]
fn a_server_that_dies_fails_what_is_in_flight_and_comes_back() {
    if direct() {
        return;
    }
    let mut way = way_with(true, true, Config::counted);
    let url = way.url("web", "/index.html");
    assert_eq!(way.curl(&["-f", &url]), "hello\n");
    let load = h2load(&url, &["-D", "3", "-c", "4", "-m", "8"]);
    way.proxy.until_answered(200);
    way.nginx.kill();
    sleep(Duration::from_millis(500));
    way.nginx.restart();
    // Some failed, by a status of their own, or by a reset where half of an answer was
    // out; the clients' connections held.
    let report = load.succeed();
    let cut = report.split(" failed, ").nth(1).and_then(|rest| rest.split(' ').next());
    let cut: u32 = cut.and_then(|count| count.parse().ok()).expect("a count");
    assert!(cut <= 32 && report.contains(" 0 timeout"), "{report}");
    let begun = Instant::now();
    while way.curl(&["-w", "%{http_code}", "-o", "/dev/null", &url]) != "200" {
        assert!(begun.elapsed() < Duration::from_secs(15), "it does not come back");
        sleep(Duration::from_millis(100));
    }
    way.proxy.assert_alive();
    let _ = &way.node;
}
