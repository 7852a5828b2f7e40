//! Messages that the config changes, redirects and answers, as curl and raw
//! sockets see it, node and nginx behind.

use std::net::SocketAddr;

use polyport_tests::peers::curl;
use polyport_tests::{Backend, Config, Nginx, Proxy, Raw, direct};

const RULES: &str = r#"
[[route]]
name = "changed"
match = { protocol = "http", path = { prefix = "/api/" } }
to = "node"
request = { set = { "header.x-tenant" = "{source.ip}", host = "inner.example.com" }, append = { "header.via" = "polyport" }, remove = ["header.cookie"], replace-prefix = { path = ["/api/", "/"] } }
response = { set = { "header.x-served-by" = "{route}" }, remove = ["header.content-type"] }

[[route]]
name = "files"
match = { protocol = "http", path = { prefix = "/files/" } }
to = "web"
request = { replace-prefix = { path = ["/files/", "/"] } }
response = { set = { "header.x-served-by" = "{route}" }, remove = ["header.server"] }

[[route]]
name = "templates"
match = { protocol = "http", path = "/headers", "query.page" = true }
to = "node"
request = { set = { "header.x-page" = "{query.page}", "header.x-from" = "{header.x-one}/{method}" } }
response = { set = { "header.x-page" = "{query.page}" } }

[[route]]
name = "moved"
match = { protocol = "http", path = "/old" }
redirect = { to = "https://{host}/new", status = 308 }

[[route]]
name = "elsewhere"
match = { protocol = "http", path = "/elsewhere" }
redirect = { to = "https://a.test/{query.next}", status = 302 }

[[route]]
name = "teapot"
match = { protocol = "http", path = "/tea" }
respond = { status = 418, body = "short and stout\n", content-type = "text/plain" }

[[route]]
name = "empty"
match = { protocol = "http", path = "/nothing" }
respond = { status = 204 }
"#;

struct Rules {
    _node: Backend,
    nginx: Nginx,
    _proxy: Proxy,
    address: SocketAddr,
}

/// Polyport with these rules; nothing where it is taken out, as no server changes messages.
fn rules() -> Option<Rules> {
    if direct() {
        return None;
    }
    let (node, nginx) = (Backend::start(), Nginx::start());
    let proxy = Config::new()
        .cluster("node", node.address, "")
        .cluster("web", nginx.address, "")
        .section(RULES)
        .route("other", "protocol = \"http\"", "node", "")
        .start();
    let address = proxy.address("http");
    Some(Rules { _node: node, nginx, _proxy: proxy, address })
}

/// The value of a header in `head`; `None` where it is not there, a panic where it is twice.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| {
        let (each, value) = line.split_once(':')?;
        each.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice: {head}");
    value
}

/// Asserts that `json`, which node tells of a request, has `parts`.
fn assert_has(json: &str, parts: &[&str]) {
    for part in parts {
        assert!(json.contains(part), "{part} is not in {json}");
    }
}

#[test]
fn node_tells_what_it_was_asked() {
    // What the other tests read, read where nothing is changed.
    let node = Backend::start();
    let mut raw = Raw::say(
        node.address,
        "GET /headers?a=%2F HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nVia: 1.1 y\r\nX-One: 1\r\n\r\n",
    );
    let (head, json) = raw.http_response();
    assert_eq!(header(&head, "content-type"), Some("text/plain"));
    assert_has(
        &json,
        &["\"url\":\"/headers?a=%2F\"", "\"via\":\"1.1 x, 1.1 y\"", "\"x-one\":\"1\""],
    );
}

#[test]
fn requests_are_changed_on_their_way() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let mut raw = Raw::connect(address);
    for _ in 0..3 {
        raw.send(
            "GET /api/headers?a=%2F&b=/api/ HTTP/1.1\r\nHost: outer.example.com\r\n\
             X-First: 1\r\nX-TENANT: forged\r\nx-tenant: forged again\r\nCookie: a=1\r\n\
             cookie: b=2\r\nVia: 1.1 before\r\nX-Last: 2\r\n\r\n",
        );
        let json = raw.http_response().1;
        assert_has(
            &json,
            &[
                "\"url\":\"/headers?a=%2F&b=/api/\"",
                "\"host\":\"inner.example.com\"",
                "\"x-tenant\":\"127.0.0.1\"",
                "\"via\":\"1.1 before, polyport\"",
                "\"x-first\":\"1\"",
                "\"x-last\":\"2\"",
            ],
        );
        let lower = json.to_lowercase();
        assert!(!lower.contains("cookie") && !lower.contains("forged"), "{json}");
        assert!(!lower.contains("outer.example.com"), "{json}");
        // What was not there is added, what is not there need not be removed.
        raw.send("GET /api/headers HTTP/1.1\r\nHost: outer.example.com\r\n\r\n");
        let json = raw.http_response().1;
        assert_has(&json, &["\"via\":\"polyport\"", "\"x-tenant\":\"127.0.0.1\""]);
        // Another route's requests on the same connection are left alone.
        raw.send("GET /headers HTTP/1.1\r\nHost: outer.example.com\r\nCookie: a=1\r\n\r\n");
        let json = raw.http_response().1;
        assert_has(&json, &["\"host\":\"outer.example.com\"", "\"cookie\":\"a=1\""]);
        assert!(!json.contains("polyport"), "{json}");
    }
}

#[test]
fn every_form_of_target_is_changed() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let cases = [
        (
            "GET http://outer.example.com/api/headers?x=1 HTTP/1.1\r\nHost: other.test",
            "/headers?x=1",
        ),
        ("GET /api/headers HTTP/1.1\r\nHost: outer.example.com:8080", "/headers"),
        ("GET /api/headers? HTTP/1.1\r\nHost: a", "/headers?"),
        ("GET /api/headers HTTP/1.0\r\nHost: a", "/headers"),
    ];
    for (ask, url) in cases {
        let mut raw = Raw::say(address, format!("{ask}\r\nConnection: close\r\n\r\n"));
        let json = raw.until_closed();
        let absolute = format!("\"url\":\"http://inner.example.com{url}\"");
        let found = json.contains(&format!("\"url\":\"{url}\"")) || json.contains(&absolute);
        assert!(found, "{ask}: {json}");
        assert_has(&json, &["\"host\":\"inner.example.com\""]);
    }
    // Percent signs are nobody's to tidy: nginx reads them as /who, and tells what it got.
    let mut raw = Raw::say(address, "GET /files/%77h%6F?a=%61 HTTP/1.1\r\nHost: a\r\n\r\n");
    let told = raw.http_response().1;
    assert!(told.contains("uri=/%77h%6F?a=%61\n"), "{told}");
}

#[test]
fn bodies_keep_their_bounds() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let body = "x".repeat(300_000);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &body).expect("a body");
    let data = format!("@{}", file.path().display());
    let url = format!("http://{address}/api/echo");
    for more in
        [["-H", "X-A: 1"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]]
    {
        let arguments = ["-f", "--data-binary", &data, &url];
        assert_eq!(curl(&[&more[..], &arguments].concat()), body, "{more:?}");
    }
    // Pipelined ones, with bodies between them, and trailers behind.
    let mut raw = Raw::connect(address);
    let post = "POST /api/headers HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let get = "GET /api/length?n=3 HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(format!("{post}{get}{post}{get}"));
    for _ in 0..2 {
        let (head, json) = raw.http_response();
        assert_eq!(header(&head, "x-served-by"), Some("changed"));
        assert_has(&json, &["\"body\":\"body\"", "\"x-tenant\":\"127.0.0.1\""]);
        assert_eq!(raw.http_response().1, "xxx");
    }
    raw.send(
        "POST /api/echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let head = raw.until("\r\n\r\n");
    assert_eq!(header(&head, "x-served-by"), Some("changed"));
    assert_eq!(raw.until("0\r\n"), "3\r\nabc\r\n0\r\n");
    assert!(raw.until("\r\n\r\n").to_lowercase().contains("x-echo-x-sum: 42"));
    // An interim answer is not the answer.
    raw.send("GET /api/early HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 103"));
    let (head, body) = raw.http_response();
    assert_eq!((header(&head, "x-served-by"), body.as_str()), (Some("changed"), "early"));
}

#[test]
fn replies_are_changed_on_their_way() {
    let Some(rules) = rules() else { return };
    let (address, nginx) = (rules.address, &rules.nginx);
    let mut raw = Raw::connect(address);
    let ask = |target: &str, more: &str| format!("{target} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let cases = [
        ("GET /files/index.html", "", "200"),
        ("HEAD /files/index.html", "", "200"),
        ("GET /files/none", "", "204"),
        ("GET /files/index.html", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n", "304"),
        ("GET /files/missing", "", "404"),
        ("GET /files/index.html", "Range: bytes=1-2\r\n", "206"),
    ];
    for (target, more, status) in cases {
        raw.send(ask(target, more));
        let head = raw.until("\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {head}");
        assert_eq!(header(&head, "x-served-by"), Some("files"), "{target}");
        assert_eq!(header(&head, "server"), None, "{target}");
        let bodiless = target.starts_with("HEAD") || status == "204" || status == "304";
        let length = header(&head, "content-length").and_then(|value| value.parse().ok());
        raw.exactly(if bodiless { 0 } else { length.expect("a length") });
    }
    // The other route takes away something else.
    raw.send(ask("GET /api/length?n=2", ""));
    let (head, body) = raw.http_response();
    assert_eq!((header(&head, "content-type"), body.as_str()), (None, "xx"));
    raw.send(ask("GET /length?n=2", ""));
    let head = raw.http_response().0;
    assert_eq!(header(&head, "content-type"), Some("text/plain"));
    assert_eq!(header(&head, "x-served-by"), None);
    // Chunked and compressed.
    let want = std::fs::read_to_string(nginx.www().join("gzip.txt")).expect("the original");
    let url = format!("http://{address}/files/gzip.txt");
    let got = curl(&["-f", "--compressed", "-w", "%header{x-served-by}|%header{server}|", &url]);
    assert_eq!(got, want + "files||");
}

#[test]
fn values_are_filled_in_and_cannot_break_out() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let mut raw = Raw::connect(address);
    raw.send("GET /headers?page=two%20words HTTP/1.1\r\nHost: a\r\nX-One: one\r\n\r\n");
    let (head, json) = raw.http_response();
    assert_has(&json, &["\"x-page\":\"two words\"", "\"x-from\":\"one/GET\""]);
    assert_eq!(header(&head, "x-page"), Some("two words"));
    // What is not there leaves nothing.
    raw.send("GET /headers?page=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(&raw.http_response().1, &["\"x-from\":\"/GET\""]);
    // A decoded value may hold what ends a line.
    for evil in
        ["a%0d%0aX-Injected:%20yes", "a%0aX-Injected:%20yes", "a%0d%0a%0d%0aGET%20/x", "a%00b"]
    {
        let mut raw = Raw::connect(address);
        raw.send(format!("GET /headers?page={evil} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = raw.http_response();
        let injected = |text: &str| {
            text.lines().any(|line| line.to_lowercase().starts_with("x-injected"))
                || text.to_lowercase().contains("\"x-injected\"")
        };
        assert!(!injected(&reply.0) && !injected(&reply.1), "{evil}: {reply:?}");
        assert!(!reply.0.contains('\0'), "{evil}: {reply:?}");
        // Nor is anybody else's reply on this connection.
        if raw.try_send("GET /length?n=4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") {
            let rest = raw.until_closed();
            assert!(rest.is_empty() || rest.ends_with("\r\n\r\nxxxx"), "{evil}: {rest:?}");
        }
        let url = format!("GET /elsewhere?next={evil} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = Raw::say(address, url).http_response().0;
        assert!(!injected(&head) && !head.contains('\0'), "{evil}: {head:?}");
    }
}

#[test]
fn what_has_moved_is_told_where() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let url = format!("http://{address}/old");
    let format = ["-o", "/dev/null", "-w", "%{http_code} %header{location}"];
    let told = curl(&[&format[..], &["-H", "Host: Shop.Example:8080", &url]].concat());
    assert_eq!(told, "308 https://shop.example/new");
    let mut raw = Raw::connect(address);
    for ask in [
        "GET /old HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "HEAD /old HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST /old HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\n\r\nGET /length",
        "POST /old HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /old?query HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        raw.send(ask);
        let head = raw.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 308 "), "{ask}: {head}");
        assert_eq!(header(&head, "location"), Some("https://a.test/new"), "{ask}");
        assert!(header(&head, "content-length").is_some(), "{ask}: {head}");
        let length: usize =
            header(&head, "content-length").map_or(0, |value| value.parse().expect("a length"));
        raw.exactly(if ask.starts_with("HEAD") { 0 } else { length });
    }
    // And the connection still serves.
    raw.send("GET /length?n=3 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(raw.http_response().1, "xxx");
    let next = format!("http://{address}/elsewhere?next=page");
    assert_eq!(curl(&[&format[..], &[&next]].concat()), "302 https://a.test/page");
}

#[test]
fn answers_of_the_configs_own() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let url = format!("http://{address}/tea");
    let told = curl(&["-w", "%{http_code} %{content_type} %header{content-length}", &url]);
    assert_eq!(told, "short and stout\n418 text/plain 16");
    let mut raw = Raw::connect(address);
    raw.send("HEAD /tea HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = raw.until("\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 418 ") && header(&head, "content-length") == Some("16"),
        "{head}"
    );
    // In their turn among pipelined ones, whose bodies are taken off the wire.
    raw.send(
        "GET /slow?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /tea HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwater\
         GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /length?n=2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(raw.http_response().1, "slow");
    assert_eq!(raw.http_response().1, "short and stout\n");
    let head = raw.until("\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 204 ") && header(&head, "content-length").is_none(),
        "{head}"
    );
    assert_eq!(raw.http_response().1, "xx");
    // A client of HTTP/1.0 gets it and the end.
    let reply = Raw::say(address, "GET /tea HTTP/1.0\r\n\r\n").until_closed();
    assert!(reply.ends_with("\r\n\r\nshort and stout\n"), "{reply}");
}

#[test]
fn pipelines_under_load_are_all_changed() {
    let Some(rules) = rules() else { return };
    let address = rules.address;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut raw = Raw::connect(address);
                for round in 0..50 {
                    let batch: String = (1..=10)
                        .map(|n| format!("GET /api/length?n={n} HTTP/1.1\r\nHost: a\r\nCookie: {round}\r\n\r\n"))
                        .collect();
                    raw.send(batch);
                    for n in 1..=10 {
                        let (head, body) = raw.http_response();
                        assert_eq!((header(&head, "x-served-by"), body.len()), (Some("changed"), n));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every reply changed");
    }
}
