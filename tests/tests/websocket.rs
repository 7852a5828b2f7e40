//! WebSocket through the proxy: over HTTP/1.1, over TLS, and over HTTP/2 by RFC 8441.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use polyport_tests::peers::{python, python_start};
use polyport_tests::{Authority, Config, Proxy, WebSockets, direct};

struct Edge {
    _server: WebSockets,
    proxy: Proxy,
}

/// A proxy before `server`; `lines` are further ones of the cluster's table.
fn edge(server: WebSockets, lines: &str) -> Edge {
    let proxy = Config::new()
        .cluster("web", server.address, lines)
        .route("web", "protocol = \"http\"", "web", "")
        .direct("http", server.address)
        .start();
    Edge { _server: server, proxy }
}

fn url(address: SocketAddr) -> String {
    format!("ws://{address}")
}

impl Edge {
    fn tell(&mut self, story: &str) -> String {
        let told = python("websocket_stories.py", &[story, &url(self.proxy.address("http"))]);
        self.proxy.assert_alive();
        told
    }

    /// The same, with a bound on how much the proxy's memory grows by it.
    fn flat(&mut self, story: &str) {
        self.tell("many");
        let (before, begun) = (self.proxy.peak_memory(), Instant::now());
        self.tell(story);
        println!("{story}: {:?}", begun.elapsed());
        let grown = self.proxy.peak_memory() - before;
        assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
    }
}

macro_rules! stories {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                edge(WebSockets::start(), "").tell(stringify!($name));
            }
        )+
    };
}

stories!(echo, early, many, ends, handshake, idle);

#[test]
fn a_reader_that_sleeps_costs_little() {
    edge(WebSockets::start(), "").flat("stalled_reader");
}

#[test]
fn a_server_that_sleeps_costs_little() {
    edge(WebSockets::start(), "").flat("stalled_server");
}

#[test]
fn over_tls() {
    let authority = Authority::new();
    let certificate = authority.server("ws.example.com");
    let (plain, secure) = (WebSockets::start(), WebSockets::secure(&certificate));
    let ca = authority.ca();
    let tls = format!("tls = {{ ca = \"{ca}\", server-name = \"ws.example.com\" }}");
    for (address, lines) in [(plain.address, ""), (secure.address, tls.as_str())] {
        let mut proxy = Config::new()
            .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
            .cluster("web", address, lines)
            .route("web", "protocol = \"http\"", "web", "")
            .direct("https", secure.address)
            .start();
        let wss = format!("wss://{}", proxy.address("https"));
        for story in ["echo", "many", "ends"] {
            python("websocket_stories.py", &[story, &wss, &ca, "ws.example.com"]);
        }
        if lines.is_empty() {
            let before = proxy.peak_memory();
            python("websocket_stories.py", &["stalled_reader", &wss, &ca, "ws.example.com"]);
            let grown = proxy.peak_memory() - before;
            assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
        }
        if !direct() {
            python("websocket_stories.py", &["echo", &url(proxy.address("https"))]);
        }
        proxy.assert_alive();
    }
}

#[test]
fn over_streams_of_http2() {
    // To a server of HTTP/1.1, which must be asked for an upgrade, and to one of HTTP/2.
    let old = || if direct() { WebSockets::both() } else { WebSockets::start() };
    for (server, lines) in [(old(), ""), (WebSockets::both(), "http2 = true")] {
        let edge = &mut edge(server, lines);
        for story in ["streamed", "streamed_subprotocol"] {
            edge.tell(story);
        }
        if !direct() {
            // hypercorn takes each of these for the end of the connection.
            edge.tell("streamed_refusals");
        }
    }
}

#[test]
fn over_streams_of_http2_in_tls() {
    let authority = Authority::new();
    let certificate = authority.server("ws.example.com");
    let (server, own) = (WebSockets::both(), WebSockets::both_secure(&certificate));
    for lines in ["", "http2 = true"] {
        let proxy = Config::new()
            .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
            .cluster("web", server.address, lines)
            .route("web", "protocol = \"http\"", "web", "")
            .direct("https", own.address)
            .start();
        let wss = format!("wss://{}", proxy.address("https"));
        python("websocket_stories.py", &["streamed", &wss, &authority.ca(), "ws.example.com"]);
    }
}

#[test]
fn each_side_speaks_its_own_version() {
    for (lines, spoken) in [("", "1.1\n"), ("http2 = true", "2\n")] {
        let edge = &mut edge(WebSockets::both(), lines);
        if direct() {
            assert_eq!(edge.tell("version"), "1.1\n");
            assert_eq!(edge.tell("streamed_version"), "2\n");
            continue;
        }
        assert_eq!(edge.tell("version"), spoken);
        assert_eq!(edge.tell("streamed_version"), spoken);
        edge.tell("echo");
    }
}

#[test]
fn handshakes_that_lead_nowhere_are_answered() {
    if direct() {
        return;
    }
    let mut server = WebSockets::start();
    let proxy = Config::new()
        .cluster("web", server.address, "")
        .route("web", "protocol = \"http\", path = \"/echo\"", "web", "")
        .start();
    let address = url(proxy.address("http"));
    python("websocket_stories.py", &["many", &address]);
    server.kill();
    for _ in 0..2 {
        python("websocket_stories.py", &["nowhere", &address, "502/503"]);
    }
    let proxy = Config::new()
        .cluster("web", server.address, "")
        .route("web", "protocol = \"http\", path = \"/elsewhere\"", "web", "")
        .start();
    python("websocket_stories.py", &["nowhere", &url(proxy.address("http")), "404"]);
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    if direct() {
        return;
    }
    let server = WebSockets::start();
    let mut proxy = Config::new()
        .section("[defaults]\ndrain-timeout = \"2s\"\n")
        .all("http", server.address)
        .start();
    let address = url(proxy.address("http"));
    let mut story = python_start("websocket_stories.py", &["held", &address]);
    story.wait_for("ready");
    let begun = Instant::now();
    proxy.terminate();
    story.succeed();
    assert!(proxy.wait().is_some() && begun.elapsed() < Duration::from_secs(10));
}
