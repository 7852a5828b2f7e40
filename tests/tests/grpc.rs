//! gRPC through the proxy: grpcio on both ends, and calls made frame by frame.

use std::time::{Duration, Instant};

use polyport_tests::peers::{python, python_start};
use polyport_tests::{Authority, Config, GrpcServer, Proxy, direct};

struct Edge {
    server: GrpcServer,
    proxy: Proxy,
}

fn edge(more: &str) -> Edge {
    let server = GrpcServer::start("one");
    let proxy = Config::new()
        .cluster("grpc", server.address, "http2 = true")
        .route(
            "grpc",
            "protocol = \"http\", service = { prefix = \"polyport.test.\" }",
            "grpc",
            more,
        )
        .direct("grpc", server.address)
        .start();
    Edge { server, proxy }
}

fn tell(proxy: &mut Proxy, story: &str, more: &[&str]) -> String {
    let port = proxy.address("grpc").port().to_string();
    let told = python("grpc_stories.py", &[&[story, port.as_str()], more].concat());
    proxy.assert_alive();
    told
}

macro_rules! stories {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                tell(&mut edge("").proxy, stringify!($name), &[]);
            }
        )+
    };
}

stories!(unary, slow_and_fast, streams, metadata, statuses, given_up, load, compressed, timeouts);

/// 200 MB, one end of which sleeps: what has not gone on must not have been taken.
fn flat(story: &str) {
    let Edge { proxy, .. } = &mut edge("");
    tell(proxy, "unary", &[]);
    let (before, begun) = (proxy.peak_memory(), Instant::now());
    print!("{}", tell(proxy, story, &[]));
    println!("{story}: {:?}", begun.elapsed());
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn a_reader_that_sleeps_costs_little() {
    flat("stalled_reader");
}

#[test]
fn a_server_that_sleeps_costs_little() {
    flat("stalled_server");
}

#[test]
fn a_talk_whose_client_sleeps_costs_little() {
    flat("stalled_both");
}

#[test]
fn calls_are_routed_by_service_method_and_metadata() {
    if direct() {
        return;
    }
    let (one, two, three) =
        (GrpcServer::start("one"), GrpcServer::start("two"), GrpcServer::start("three"));
    let proxy = &mut Config::new()
        .cluster("one", one.address, "http2 = true")
        .cluster("two", two.address, "http2 = true")
        .cluster("three", three.address, "http2 = true")
        .route("tenant", "protocol = \"http\", \"header.x-tenant\" = \"acme\"", "three", "")
        .route(
            "method",
            "protocol = \"http\", service = \"polyport.test.Other\", \"grpc.method\" = \"Unary\"",
            "one",
            "",
        )
        .route("other", "protocol = \"http\", service = \"polyport.test.Other\"", "two", "")
        .route("echo", "protocol = \"http\", service = \"polyport.test.Echo\", \"grpc.method\" = [\"Who\", \"Slow\"]", "one", "")
        .direct("grpc", one.address)
        .start();
    let (echo, other) = ("polyport.test.Echo", "polyport.test.Other");
    assert_eq!(tell(proxy, "who", &[echo]), "one\n");
    assert_eq!(tell(proxy, "who", &[other]), "two\n");
    assert_eq!(tell(proxy, "who", &[other, "Who", "x-tenant", "acme"]), "three\n");
    assert_eq!(tell(proxy, "who", &[other, "Who", "x-tenant", "other"]), "two\n");
    tell(proxy, "refused", &[echo, "Unary", "UNIMPLEMENTED", "UNAVAILABLE"]);
}

#[test]
fn calls_nobody_routes_end_with_trailers_only() {
    if direct() {
        return;
    }
    let Edge { proxy, .. } = &mut edge("");
    tell(proxy, "refused", &["nowhere.Service", "Method", "UNIMPLEMENTED", "UNAVAILABLE"]);
}

#[test]
fn no_server_is_unavailable() {
    if direct() {
        return;
    }
    let Edge { proxy, server } = &mut edge("");
    tell(proxy, "who", &[]);
    server.kill();
    tell(proxy, "refused", &["polyport.test.Echo", "Unary", "UNAVAILABLE"]);
    server.restart();
    let begun = Instant::now();
    loop {
        let port = proxy.address("grpc").port().to_string();
        let (status, ..) = python_start("grpc_stories.py", &["who", &port]).finish();
        if status.success() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come back");
    }
}

#[test]
fn a_server_that_dies_amid_calls_is_unavailable() {
    // Directly as well: what grpcio makes of a death is what it must make of it here.
    let Edge { proxy, server } = &mut edge("");
    let port = proxy.address("grpc").port().to_string();
    let mut story = python_start("grpc_stories.py", &["dying", &port]);
    story.wait_for("kill");
    server.kill();
    story.wait_for("restart");
    server.restart();
    story.succeed();
    proxy.assert_alive();
}

#[test]
fn a_routes_own_timeout_is_a_deadline() {
    if direct() {
        return;
    }
    tell(&mut edge("timeout = \"500ms\"").proxy, "route_timeout", &[]);
}

#[test]
fn a_stream_outlives_the_routes_timeout_while_it_moves() {
    if direct() {
        return;
    }
    tell(&mut edge("timeout = \"1s\"").proxy, "lasting", &[]);
}

#[test]
fn sigterm_lets_calls_finish() {
    if direct() {
        return;
    }
    let Edge { proxy, .. } = &mut edge("");
    let port = proxy.address("grpc").port().to_string();
    let mut story = python_start("grpc_stories.py", &["draining", &port]);
    story.wait_for("ready");
    std::thread::sleep(Duration::from_millis(300));
    proxy.terminate();
    story.succeed();
    assert_eq!(proxy.wait().and_then(|status| status.code()), Some(0));
}

#[test]
fn metadata_is_changed_on_its_way() {
    if direct() {
        return;
    }
    let more = "request = { set = { \"header.x-set-by-proxy\" = \"{source.ip}\" } }\n\
                response = { set = { \"header.x-served-by\" = \"{route}\" } }";
    tell(&mut edge(more).proxy, "changed", &[]);
}

#[test]
fn tls_on_either_side() {
    let authority = Authority::new();
    let certificate = authority.server("grpc.example.com");
    let listener = format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml());
    let (plain, secure) = (GrpcServer::start("plain"), GrpcServer::secure("secure", &certificate));
    let ca = authority.ca();
    let tls =
        format!("http2 = true\ntls = {{ ca = \"{ca}\", server-name = \"grpc.example.com\" }}");
    for (address, lines) in [(plain.address, "http2 = true"), (secure.address, tls.as_str())] {
        let proxy = &mut Config::new()
            .listener(&listener)
            .cluster("grpc", address, lines)
            .route("grpc", "protocol = \"http\"", "grpc", "")
            .direct("grpc", secure.address)
            .start();
        tell(proxy, "secure", &[&ca, "grpc.example.com"]);
        if !direct() {
            // Without TLS on the same port.
            tell(proxy, "streams", &[]);
        }
    }
}
