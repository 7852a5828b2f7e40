//! Requests that are tried again, and requests that are copied: HTTP/1 and HTTP/2 servers
//! that fail in every way, and clients that see none of it.

use std::time::{Duration, Instant};

use polyport_tests::peers::{curl, curl_command};
use polyport_tests::{Config, Moody, Proxy, direct};

struct Two {
    servers: [Moody; 2],
    proxy: Proxy,
}

/// Two servers that take turns, and a route with these further lines.
fn two(http2: bool, more: &str) -> Two {
    let servers = [Moody::start(http2), Moody::start(http2)];
    let endpoints = format!("\"{}\", \"{}\"", servers[0].address, servers[1].address);
    let extra = if http2 { "http2 = true" } else { "" };
    let section = format!("[[cluster]]\nname = \"two\"\nendpoints = [{endpoints}]\n{extra}");
    let proxy =
        Config::new().section(&section).route("all", "protocol = \"http\"", "two", more).start();
    Two { servers, proxy }
}

impl Two {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address("http"))
    }

    /// Status and body.
    fn ask(&self, path: &str, more: &[&str]) -> (String, String) {
        let url = self.url(path);
        let all = [&["-w", "\n%{http_code}"], more, &[url.as_str()]].concat();
        let told = curl(&all);
        let (body, status) = told.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }

    /// How often each server, and both together, saw `key`.
    fn seen(&self, key: &str) -> (u64, u64) {
        let [one, two] = [self.servers[0].seen(key), self.servers[1].seen(key)];
        (one.max(two), one + two)
    }
}

#[test]
fn failures_of_every_named_sort_are_passed_over() {
    if direct() {
        return;
    }
    for http2 in [false, true] {
        let two = two(
            http2,
            "retry = { attempts = 3, on = [\"reset\", \"unavailable\", \"timeout\", \"409\", \"grpc-aborted\"], \
             per-try = \"2s\", backoff = \"1ms\" }",
        );
        // Each server fails once for each key: the third try is the one that counts.
        for (key, path) in [
            ("r", "/reset?n=1"),
            ("u", "/refuse?n=1&status=503"),
            ("c", "/refuse?n=1&status=409"),
            ("s", "/stall?n=1"),
        ] {
            let (status, body) = two.ask(&format!("{path}&key={key}"), &[]);
            assert_eq!((status.as_str(), two.seen(key)), ("200", (2, 3)), "{key}: {body}");
        }
        // What the route does not name is the client's to see.
        let (status, _) = two.ask("/refuse?n=1&status=500&key=e", &[]);
        assert_eq!((status.as_str(), two.seen("e")), ("500", (1, 1)));
        // POST may not be sent twice, but for the route's word.
        let (status, _) = two.ask("/refuse?n=1&status=503&key=p", &["-d", "body"]);
        assert_eq!((status.as_str(), two.seen("p")), ("503", (1, 1)));
        // PUT may, with its body.
        let put = ["-X", "PUT", "-d", "the body"];
        let (status, body) = two.ask("/refuse?n=1&status=503&key=b", &put);
        assert_eq!(status, "200");
        assert!(body.contains("\"body\":\"the body\""), "{body}");
        assert_eq!(two.seen("b"), (2, 3));
    }
}

#[test]
fn the_route_s_word_makes_every_request_safe() {
    if direct() {
        return;
    }
    let two = two(
        false,
        "retry = { attempts = 2, idempotent = true, backoff = \"1ms\", buffer = \"64KiB\" }\n\
         request = { set = { \"header.x-tenant\" = \"acme\" } }",
    );
    for (at, more) in [&["-d", "body"][..], &["-H", "Transfer-Encoding: chunked", "-d", "body"]]
        .iter()
        .enumerate()
    {
        for path in ["/refuse?status=503&n=1", "/reset?n=1"] {
            let key = format!("{at}{}", path.len());
            let (status, body) = two.ask(&format!("{path}&key={key}"), more);
            assert_eq!((status.as_str(), two.seen(&key)), ("200", (2, 3)), "{body}");
            // Changes of the route are made in each try.
            assert!(
                body.contains("\"body\":\"body\"") && body.contains("\"tenant\":\"acme\""),
                "{body}"
            );
        }
    }
    // What is larger than the buffer is not kept.
    let large = "x".repeat(70 << 10);
    let (status, _) = two.ask("/refuse?status=503&n=1&key=large", &["-d", &large]);
    assert_eq!((status.as_str(), two.seen("large")), ("503", (1, 1)));
}

#[test]
fn grpc_codes_are_conditions_too() {
    if direct() {
        return;
    }
    let two = two(
        true,
        "retry = { attempts = 2, on = [\"grpc-aborted\"], idempotent = true, backoff = \"1ms\" }",
    );
    let grpc = [
        "--http2-prior-knowledge",
        "-D",
        "-",
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        "-d",
        "",
    ];
    let (_, body) = two.ask("/grpc?n=1&status=10&key=a", &grpc);
    assert!(body.contains("\"count\":2"), "{body}");
    assert_eq!(two.seen("a"), (2, 3));
    let (_, head) = two.ask("/grpc?n=1&status=5&key=b", &grpc);
    assert!(head.contains("grpc-status: 5"), "{head}");
    assert_eq!(two.seen("b"), (1, 1));
}

#[test]
fn attempts_time_and_budget_are_bounds() {
    if direct() {
        return;
    }
    let two = two(
        false,
        "timeout = \"1500ms\"\nretry = { attempts = 4, on = [\"unavailable\", \"timeout\"], per-try = \"400ms\", backoff = \"1ms\" }",
    );
    let (status, _) = two.ask("/refuse?n=9&status=503&key=a", &[]);
    assert_eq!((status.as_str(), two.seen("a").1), ("503", 5));
    // The request's own time holds for all tries together.
    let start = Instant::now();
    let (status, _) = two.ask("/stall?n=9&key=t", &[]);
    let took = start.elapsed();
    assert_eq!(status, "504");
    assert!(took >= Duration::from_millis(1400), "{took:?}");
    let tries = two.seen("t").1;
    assert!((2..=4).contains(&tries), "{tries}");

    let poor = two_poor();
    // Three are paid for from what was saved; later requests have but themselves.
    let answers: Vec<u64> = (0..20)
        .map(|key| {
            let _ = poor.ask(&format!("/refuse?n=9&status=503&key={key}"), &[]);
            poor.seen(&key.to_string()).1
        })
        .collect();
    let retries: u64 = answers.iter().map(|tries| tries - 1).sum();
    // 3 saved, and 10 % of 20.
    assert!((4..=5).contains(&retries), "{answers:?}");
}

/// Two servers with a small budget.
fn two_poor() -> Two {
    let servers = [Moody::start(false), Moody::start(false)];
    let endpoints = format!("\"{}\", \"{}\"", servers[0].address, servers[1].address);
    let section = format!(
        "[[cluster]]\nname = \"two\"\nendpoints = [{endpoints}]\nretry-budget = {{ percent = 10, burst = 3 }}"
    );
    let more = "retry = { attempts = 1, backoff = \"1ms\" }";
    let proxy =
        Config::new().section(&section).route("all", "protocol = \"http\"", "two", more).start();
    Two { servers, proxy }
}

#[test]
fn a_dead_endpoint_costs_no_request() {
    if direct() {
        return;
    }
    for http2 in [false, true] {
        let mut two = two(http2, "retry = { attempts = 2, idempotent = true }");
        two.servers[0].kill();
        for _ in 0..20 {
            assert_eq!(two.ask("/late?n=0&key=k", &[]).0, "200");
            assert_eq!(two.ask("/late?n=0&key=k", &["-d", "body"]).0, "200");
        }
    }
}

#[test]
fn a_client_s_own_connection_outlives_the_tries() {
    if direct() {
        return;
    }
    let two = two(false, "retry = { attempts = 3, on = [\"reset\", \"unavailable\"] }");
    // One connection, several requests: each answer is of its own request.
    let urls: Vec<String> =
        (0..6).map(|key| two.url(&format!("/refuse?n=1&status=503&key=same{key}"))).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let told = curl(&[&["-w", "%{num_connects};"], &urls[..]].concat());
    assert_eq!(told.matches("\"count\":2").count(), 6, "{told}");
    assert!(told.contains("1;") && told.matches("0;").count() >= 5, "{told}");
}

#[test]
fn copies_go_elsewhere_and_are_nobody_s_concern() {
    if direct() {
        return;
    }
    let (main, mut shadow) = (Moody::start(false), Moody::start(false));
    let proxy = Config::new()
        .cluster("main", main.address, "")
        .cluster("shadow", shadow.address, "")
        .route(
            "some",
            "protocol = \"http\", \"header.x-some\" = \"yes\"",
            "main",
            "mirror = { cluster = \"shadow\", percent = 50 }",
        )
        .route("all", "protocol = \"http\"", "main", "mirror = \"shadow\"")
        .start();
    let url = |path: &str| format!("http://{}{path}", proxy.address("http"));
    let eventually = |what: &str, holds: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    for more in
        [&["-X", "GET"][..], &["-d", "body"], &["-H", "Transfer-Encoding: chunked", "-d", "body"]]
    {
        let told = curl(&[more, &[url("/late?n=0&key=a").as_str()]].concat());
        assert!(told.contains(&format!("\"port\":{}", main.address.port())), "{told}");
    }
    eventually("three copies", &|| shadow.seen("a") == 3);
    assert_eq!(main.seen("a"), 3);
    // A shadow that fails or stalls is not felt.
    for (key, path) in [("r", "/reset?n=1"), ("u", "/refuse?n=1&status=500"), ("s", "/stall?n=1")] {
        // The main server's bad time for this key is over before.
        let _ = curl_command(&["-m", "1", &format!("http://{}{path}&key={key}", main.address)])
            .status();
        assert!(curl(&[&url(&format!("{path}&key={key}"))]).contains("\"count\":2"));
        eventually("a copy", &|| shadow.seen(key) == 1);
    }
    let many: Vec<String> = (0..100).map(|_| url("/late?n=0&key=half")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let told = curl(&[&["-H", "x-some: yes"], &many[..]].concat());
    assert_eq!(told.matches("\"port\"").count(), 100);
    eventually("half of the copies", &|| (20..=80).contains(&shadow.seen("half")));
    shadow.kill();
    for _ in 0..10 {
        let ok = curl_command(&["-f", "-o", "/dev/null", &url("/late?n=0&key=b")]).status();
        assert!(ok.expect("curl").success());
    }
}
