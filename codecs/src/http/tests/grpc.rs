//! gRPC: what its heads say, and what it is told.

use super::relayed::relay_response;
use super::*;

/// A request of gRPC as its stream's text, with these fields more.
fn call(path: &str, fields: &str) -> String {
    format!(
        "POST {path} HTTP/2.0\r\nhost: shop.example\r\ncontent-type: application/grpc+proto\r\nte: trailers\r\n{fields}\r\n"
    )
}

fn decoded(input: &str) -> Transcript {
    let interest = Interest::of(["service", "host", "method", "path", "grpc.method"]);
    let codec = Http.compile(&Limits::default(), &interest);
    let cuts: Vec<usize> = (0..input.len()).collect();
    assert_decoders_agree(&|| codec.stream_decoder(), &interest, input.as_bytes(), &cuts)
}

fn notes(input: &str) -> u64 {
    decoded(input).messages[0].head.reply_to.token
}

#[test]
fn a_calls_service_and_method_are_keys() {
    for (path, service, method) in [
        ("/com.shop.Orders/Find", "com.shop.Orders", "Find"),
        ("/Orders/Find?x=/y/z", "Orders", "Find"),
        ("/nested/Orders/Find", "nested/Orders", "Find"),
        ("http://other/Orders/Find", "Orders", "Find"),
        ("/Find", "shop.example", ""),
        ("//Find", "shop.example", ""),
        ("/Orders/", "shop.example", ""),
    ] {
        let all = decoded(&call(path, ""));
        assert_eq!(value(&all, 0, "service"), service, "{path}");
        assert_eq!(value(&all, 0, "grpc.method"), method, "{path}");
        assert_eq!(value(&all, 0, "method"), "POST");
    }
}

#[test]
fn only_grpcs_own_content_type_makes_a_call() {
    for (content, is) in [
        ("application/grpc", true),
        ("Application/gRPC+json", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/grpcx", false),
        ("application/json", false),
    ] {
        let input = format!("POST /S/m HTTP/1.1\r\nhost: a\r\ncontent-type: {content}\r\n\r\n");
        assert_eq!(notes(&input) & note::GRPC != 0, is, "{content}");
    }
}

#[test]
fn a_deadline_is_milliseconds_rounded_up() {
    for (value, millis) in [
        ("1S", 1000),
        ("250m", 250),
        ("5u", 1),
        ("1001u", 2),
        ("1n", 1),
        ("1000001n", 2),
        ("2M", 120_000),
        ("1H", 3_600_000),
        ("99999999m", 99_999_999),
        ("99999999H", u32::MAX),
        ("123456789m", 0),
        ("0S", 0),
        ("S", 0),
        ("", 0),
        ("1", 0),
        ("-1S", 0),
        ("1 S", 0),
        ("1s", 0),
        ("1.5S", 0),
    ] {
        let all = decoded(&call("/S/m", &format!("grpc-timeout: {value}\r\n")));
        assert_eq!(all.messages[0].head.timeout, millis, "{value:?}");
    }
    let plain = requests(b"GET / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 1S\r\n\r\n");
    assert_eq!(plain.messages[0].head.timeout, 0, "only a call has one");
}

#[test]
fn a_call_is_answered_with_trailers_only() {
    for (fault, status) in [
        (Fault::NoRoute, 12),
        (Fault::Denied, 7),
        (Fault::Timeout, 4),
        (Fault::Overloaded, 8),
        (Fault::TooLarge, 8),
        (Fault::NoHealthyEndpoint, 14),
        (Fault::ConnectFailed, 14),
        (Fault::UpstreamReset, 14),
        (Fault::ShuttingDown, 14),
        (Fault::Malformed, 13),
        (Fault::Unsupported, 12),
    ] {
        let to = ReplyTo { id: 0, token: notes(&call("/S/m", "")) };
        let mut out = Vec::new();
        let after = Http.local_reply(to, b"", fault, "50% of é\r\nx: y", &mut out);
        assert_eq!(after, After::Keep);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {status}\r\ngrpc-message: polyport: 50%25 of %C3%A9%0D%0Ax: y\r\ncontent-length: 0\r\n\r\n"
            )
        );
    }
    let to = ReplyTo { id: 0, token: note::GRPC | note::CLOSE };
    let mut out = Vec::new();
    assert_eq!(Http.local_reply(to, b"", Fault::Denied, "no", &mut out), After::Close);
    assert!(out.ends_with(b"connection: close\r\n\r\n"));
}

#[test]
fn a_status_without_a_body_decides_the_outcome() {
    for (status, outcome) in [
        ("0", Outcome::Ok),
        ("1", Outcome::AppError),
        ("2", Outcome::ServerError),
        ("4", Outcome::Timeout),
        ("5", Outcome::AppError),
        ("8", Outcome::Overloaded),
        ("13", Outcome::ServerError),
        ("14", Outcome::Unavailable),
        ("15", Outcome::ServerError),
        ("16", Outcome::AppError),
        ("what", Outcome::AppError),
    ] {
        let reply =
            format!("HTTP/1.1 200 OK\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(relay_response(note::GRPC, &reply).0.outcome, outcome, "{status}");
        assert_eq!(relay_response(0, &reply).0.outcome, Outcome::Ok, "nobody called");
    }
    let refused = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(relay_response(note::GRPC, refused).0.outcome, Outcome::Unavailable);
}

#[test]
fn that_a_caller_takes_trailers_is_passed_on() {
    let relayed = |te: &str, content: &str| {
        relay_request(&format!(
            "POST /S/m HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: {te}\r\nContent-Type: {content}\r\n\r\n"
        ))
    };
    let te = |out: &str| {
        let lines = out.lines().map(str::to_ascii_lowercase);
        lines.filter(|line| line.starts_with("te:")).collect::<Vec<_>>()
    };
    assert_eq!(te(&relayed("trailers", "application/grpc")), ["te: trailers"]);
    assert_eq!(te(&relayed("deflate, Trailers", "application/grpc")), ["te: trailers"]);
    assert!(te(&relayed("deflate", "application/grpc")).is_empty());
    assert!(te(&relayed("trailers", "text/plain")).is_empty(), "for one hop only");
}
