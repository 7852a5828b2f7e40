mod answered;
mod grpc;
mod relayed;
mod rewritten;

use proptest::prelude::*;

use super::*;
use crate::frame::{Kind, Lease, Outcome, Step};
use crate::testing::{Transcript, assert_decoders_agree, assert_splits_agree, transcript};
use crate::{Body, Metadata};

const WANTED: [&str; 11] = [
    "dialect",
    "method",
    "path",
    "host",
    "http.version",
    "header.x-tenant",
    "query.page",
    "cookie.id",
    "service",
    "scheme",
    "status",
];

fn requests(input: &[u8]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Http.compile(&Limits::default(), &interest);
    let cuts: Vec<usize> = (0..input.len()).collect();
    assert_splits_agree(codec.as_ref(), &interest, Side::Request, input, &cuts)
}

fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

/// Decodes responses to requests of these notes.
fn responses(
    notes: &[u64],
    input: &[u8],
    step: usize,
) -> Result<Vec<(Head, Vec<u8>)>, DecodeError> {
    let interest = Interest::of(WANTED);
    let codec = Http.compile(&Limits::default(), &interest);
    let mut decoder = codec.decoder(Side::Reply);
    for token in notes {
        decoder.expect(ReplyTo { id: 0, token: *token });
    }
    let mut meta = Metadata::new(&interest);
    let mut all: Vec<(Head, Vec<u8>)> = Vec::new();
    let (mut at, mut have, mut inside) = (0, 0, false);
    while have < input.len() || inside {
        have = (have + step).min(input.len());
        loop {
            let buf = &input[at..have];
            if buf.is_empty() && !inside {
                break;
            }
            match decoder.decode(buf, &mut meta)? {
                Step::Need(_) => break,
                Step::Head(head) => {
                    at += head.len;
                    all.push((head, Vec::new()));
                    inside = head.body == Body::Steps;
                    if let Body::Length(len) = head.body {
                        all.last_mut().expect("one").1 = input[at..at + len as usize].to_vec();
                        at += len as usize;
                        have = have.max(at);
                    }
                }
                Step::Body(len) => {
                    all.last_mut().expect("one").1.extend_from_slice(&buf[..len]);
                    at += len;
                }
                Step::Framing(len) => at += len,
                Step::End => inside = false,
            }
        }
        if have == input.len() && inside {
            assert!(decoder.eof(&input[at..])?);
            inside = false;
        }
    }
    Ok(all)
}

fn relay_request(input: &str) -> String {
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    let mut decoder = codec.decoder(Side::Request);
    let step = decoder.decode(input.as_bytes(), &mut Metadata::default()).expect("fine");
    let Step::Head(head) = step else { panic!("{step:?}") };
    let hop = Hop {
        side: Side::Request,
        id: None,
        source: Some([192, 0, 2, 7].into()),
        secure: false,
        request: head.reply_to,
        close: false,
        plain_body: false,
        timeout: None,
    };
    let mut out = Vec::new();
    Http.relay(&head, &input.as_bytes()[..head.len], &hop, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn a_requests_facts_are_metadata() {
    let all = requests(
        b"GET http://Shop.Example:8080/a/b?page=%41+1&x HTTP/1.1\r\nHost: other\r\nX-Tenant: acme\r\nx-tenant: b\r\nCookie: a=1; id=42\r\n\r\n",
    );
    for (key, expected) in [
        ("method", "GET"),
        ("path", "/a/b"),
        ("host", "shop.example"),
        ("service", "shop.example"),
        ("http.version", "1.1"),
        ("header.x-tenant", "acme, b"),
        ("query.page", "A 1"),
        ("cookie.id", "42"),
        ("scheme", "http"),
    ] {
        assert_eq!(value(&all, 0, key), expected, "{key}");
    }
}

#[test]
fn pipelined_requests_and_their_bodies_are_told_apart() {
    let all = requests(
        b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(all.error, None);
    let paths: Vec<&str> = (0..3).map(|at| value(&all, at, "path")).collect();
    assert_eq!(paths, ["/a", "/b", "/c"]);
    assert_eq!(all.messages[1].framing, b"5;x=y\r\n\r\n0\r\nX-Sum: 1\r\n\r\n".len());
    assert!(all.messages.iter().all(|seen| seen.ended));
    assert!(all.messages[2].head.idempotent && !all.messages[1].head.idempotent);
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let cases: &[(&str, u16)] = &[
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 501),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET path HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ];
    for (input, status) in cases {
        let error = requests(input.as_bytes()).error;
        assert_eq!(error.as_ref().map(|e| e.status), Some(*status), "{input:?}: {error:?}");
    }
    for (chunks, why) in [
        ("+5\r\nhello\r\n0\r\n\r\n", "a sign"),
        ("0x5\r\nhello\r\n0\r\n\r\n", "a prefix"),
        ("5 \r\nhello\r\n0\r\n\r\n", "a space"),
        ("5\nhello\r\n0\r\n\r\n", "a bare LF"),
        ("5\r\nhelloXX0\r\n\r\n", "no CRLF behind the data"),
        ("1000000000000000\r\n", "sixteen digits"),
        ("5;\0\r\nhello\r\n0\r\n\r\n", "a NUL in an extension"),
        ("\r\nhello", "no size"),
        ("0\r\nbad trailer\r\n\r\n", "a trailer without a colon"),
        ("0\r\nContent-Length: 5\r\n\r\n", "a trailer that frames"),
        ("0\r\nhost: b\r\n\r\n", "a trailer that routes"),
    ] {
        let input =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let error = requests(input.as_bytes()).error;
        assert_eq!(error.map(|error| error.status), Some(400), "{why}");
    }
}

#[test]
fn a_declared_body_is_bounded_where_it_is_asked_for() {
    let input = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
    for (body, status) in [(1000, Some(413)), (1001, None)] {
        let limits = Limits { body, ..Limits::default() };
        let interest = Interest::nothing();
        let codec = Http.compile(&limits, &interest);
        let all = transcript(codec.as_ref(), &interest, Side::Request, input, &[]);
        assert_eq!(all.error.map(|error| error.status), status);
    }
}

#[test]
fn heads_are_bounded() {
    let long = |what: &str| match what {
        "line" => format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)),
        "head" => format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(70_000)),
        "count" => format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)),
        _ => format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;{}\r\nhello\r\n0\r\n\r\n",
            "a".repeat(300)
        ),
    };
    for (what, status) in [("line", 414), ("head", 431), ("count", 431), ("extension", 400)] {
        let interest = Interest::nothing();
        let codec = Http.compile(&Limits::default(), &interest);
        let input = long(what);
        let cuts: Vec<usize> = (0..input.len()).step_by(997).collect();
        let all =
            assert_splits_agree(codec.as_ref(), &interest, Side::Request, input.as_bytes(), &cuts);
        let error = all.error.expect("refused");
        assert_eq!(error.status, status, "{what}");
        let mut reply = Vec::new();
        Http.reject(&error, &mut reply);
        assert!(reply.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
    }
}

#[test]
fn a_responses_body_depends_on_its_request() {
    let length = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for step in [1, 7, 1000] {
        let all = responses(&[0], length, step).expect("fine");
        assert_eq!(all[0].1, b"hello");
        let all = responses(&[note::HEAD], &length[..length.len() - 5], step).expect("fine");
        assert_eq!(all[0].0.body, Body::None);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n";
        let all = responses(&[0, 0, 0], chunked, step).expect("fine");
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].1, b"abcde");
        let until_close = b"HTTP/1.0 200 OK\r\n\r\nall of it";
        let all = responses(&[0], until_close, step).expect("fine");
        assert_eq!(all[0].1, b"all of it");
        assert!(all[0].0.last);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        let all = responses(&[0], interim, step).expect("fine");
        assert_eq!((all[0].0.kind, all[1].0.kind), (Kind::Interim, Kind::Response));
        assert_eq!(all[1].0.outcome, Outcome::Unavailable);
    }
}

#[test]
fn a_switch_of_protocols_must_have_been_asked_for() {
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(responses(&[0], switch, 1000).is_err());
    let all = responses(&[note::UPGRADE], switch, 1000).expect("fine");
    assert_eq!(all[0].0.lease, Lease::Session);
    let tunnel = b"HTTP/1.1 200 OK\r\n\r\n";
    let all = responses(&[note::CONNECT], tunnel, 1000).expect("fine");
    assert_eq!(all[0].0.lease, Lease::Session);
    assert!(responses(&[], tunnel, 1000).is_err(), "nobody asked");
}

#[test]
fn fields_for_one_hop_are_not_passed_on() {
    let out = relay_request(
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nAccept: */*\r\nX-Forwarded-For: 6.6.6.6\r\nProxy-Authorization: x\r\n\r\n",
    );
    assert_eq!(
        out,
        "GET /a HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n"
    );
    let out = relay_request(
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert!(out.contains("Upgrade: websocket\r\n") && out.contains("connection: upgrade\r\n"));
    let out = relay_request("\r\nGET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(out.starts_with("GET /x?y HTTP/1.1\r\nhost: b:81\r\nx-forwarded-for"), "{out}");
    let out = relay_request("GET / HTTP/1.0\r\n\r\n");
    assert!(out.starts_with("GET / HTTP/1.0\r\n") && out.contains("connection: keep-alive"));
    let out = relay_request(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(out.contains("Content-Length: 3\r\n"), "framing stays: {out}");
}

#[test]
fn a_10_client_gets_a_reply_it_can_read() {
    let input =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nX: y\r\n\r\n";
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    let mut decoder = codec.decoder(Side::Reply);
    let request = ReplyTo { id: 0, token: note::VERSION_10 };
    decoder.expect(request);
    let Step::Head(head) = decoder.decode(input, &mut Metadata::default()).expect("fine") else {
        panic!("no head")
    };
    assert!(Http.needs_plain_body(request));
    let hop = Hop {
        side: Side::Reply,
        id: None,
        source: None,
        secure: false,
        request,
        close: true,
        plain_body: true,
        timeout: None,
    };
    let mut out = Vec::new();
    Http.relay(&head, input, &hop, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nX: y\r\nconnection: close\r\n\r\n");
}

#[test]
fn faults_have_their_status() {
    for (fault, status) in [
        (Fault::NoRoute, "404"),
        (Fault::Timeout, "504"),
        (Fault::UpstreamReset, "502"),
        (Fault::NoHealthyEndpoint, "503"),
        (Fault::Denied, "403"),
    ] {
        let mut out = Vec::new();
        let after = Http.local_reply(ReplyTo::default(), b"", fault, "because", &mut out);
        assert_eq!(after, After::Keep);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.ends_with("polyport: because\n"));
    }
}

#[test]
fn first_bytes_are_http_or_not() {
    let certain = Probe::Yes { confidence: crate::CERTAIN };
    for yes in [&b"GET / HTTP/1.1\r\n"[..], b"POST /", b"get HTTP/1.1".as_slice()] {
        if yes[0].is_ascii_uppercase() {
            assert_eq!(Http.probe(yes), certain, "{}", yes.escape_ascii());
        } else {
            assert_eq!(Http.probe(yes), Probe::No);
        }
    }
    for no in [&b"GET key\r\n"[..], b"\xda\xbb", b"*1\r\n$", b"PING\r\n", b"PRI * HTTP/2.0\r\nX"] {
        assert_eq!(Http.probe(no), Probe::No, "{}", no.escape_ascii());
    }
    assert!(matches!(Http.probe(b"GET /a"), Probe::Maybe { .. }));
}

#[test]
fn the_preface_of_http2_is_known_by_all_of_it() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for end in 0..preface.len() {
        let more = Probe::Maybe { need: end + 1 };
        assert_eq!((Http.streams(&preface[..end]), Http.probe(&preface[..end])), (more, more));
        let mut other = preface[..=end].to_vec();
        other[end] ^= 1;
        assert_eq!(Http.streams(&other), Probe::No, "{}", other.escape_ascii());
    }
    let certain = Probe::Yes { confidence: crate::CERTAIN };
    for rest in [&b""[..], b"\0\0\0\x04"] {
        let opening = [&preface[..], rest].concat();
        assert_eq!((Http.streams(&opening), Http.probe(&opening)), (certain, certain));
    }
    assert_eq!(Http.streams(b"GET / HTTP/1.1\r\n"), Probe::No);
    assert_eq!(Http.probe(b"PRI * HTTP/1.1\r\n"), certain, "a method of that name");
}

#[test]
fn a_stream_of_http2_comes_as_text_and_is_told_apart() {
    let input = b"POST /a?page=2 HTTP/2.0\r\nhost: Shop.Example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let interest = Interest::of(WANTED);
    let codec = Http.compile(&Limits::default(), &interest);
    let cuts: Vec<usize> = (0..input.len()).collect();
    let all = assert_decoders_agree(&|| codec.stream_decoder(), &interest, input, &cuts);
    assert_eq!(all.error, None);
    for (key, expected) in [
        ("http.version", "2"),
        ("path", "/a"),
        ("query.page", "2"),
        ("host", "shop.example"),
        ("scheme", "http"),
    ] {
        assert_eq!(value(&all, 0, key), expected, "{key}");
    }
    let head = all.messages[0].head;
    assert!(!head.last && !Http.needs_plain_body(head.reply_to));
    let mut out = Vec::new();
    Http.relay(&head, input, &Hop::neutral(Side::Request), &mut out);
    assert!(out.starts_with(b"POST /a?page=2 HTTP/1.1\r\nhost: "), "{}", out.escape_ascii());
    // Text that no proxy has written is not of a stream.
    assert_eq!(requests(input).error.map(|error| error.status), Some(505));
    // The rules are those of HTTP/1.1.
    for (wrong, status) in
        [(&b"GET / HTTP/2.0\r\n\r\n"[..], 400), (b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505)]
    {
        let all = assert_decoders_agree(&|| codec.stream_decoder(), &interest, wrong, &[]);
        assert_eq!(all.error.map(|error| error.status), Some(status));
    }
    let old = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let all = assert_decoders_agree(&|| codec.stream_decoder(), &interest, old, &[]);
    assert_eq!(value(&all, 0, "http.version"), "1.1");
}

#[test]
fn grpc_and_websockets_are_told_from_plain_requests() {
    let grpc = "content-type: application/grpc+proto\r\n";
    let socket = "connection: Upgrade\r\nupgrade: WebSocket\r\n";
    let other = "connection: upgrade\r\nupgrade: websocket, irc\r\n";
    let twice = "connection: upgrade\r\nupgrade: irc\r\nupgrade: websocket\r\n";
    let unasked = "upgrade: websocket\r\n";
    let cases = [
        ("1.1", "", "http"),
        ("2.0", "", "http2"),
        ("2.0", grpc, "grpc"),
        ("1.1", grpc, "http"),
        ("2.0", "content-type: application/grpc-web\r\n", "http2"),
        ("1.1", socket, "websocket"),
        ("2.0", socket, "websocket"),
        ("1.0", socket, "http"),
        ("1.1", other, "http"),
        ("1.1", twice, "http"),
        ("1.1", unasked, "http"),
    ];
    let interest = Interest::of(WANTED);
    let codec = Http.compile(&Limits::default(), &interest);
    for (version, fields, dialect) in cases {
        let input = format!("GET /a HTTP/{version}\r\nhost: a\r\n{fields}\r\n");
        let make = || codec.stream_decoder();
        let all = assert_decoders_agree(&make, &interest, input.as_bytes(), &[3, 20]);
        assert_eq!(value(&all, 0, "dialect"), dialect, "{input}");
        assert_eq!(Http.dialect(all.messages[0].head.dialect), dialect, "{input}");
    }
    assert_eq!(Http.dialect(Http.stream_dialect()), "http2");
    assert_eq!(Http.dialect(200), "http");
}

#[test]
fn the_first_dialect_of_a_protocol_is_the_protocol_itself() {
    let mut names = std::collections::BTreeSet::new();
    for protocol in crate::Registry::builtin().protocols() {
        let dialects = protocol.dialects();
        assert!(dialects.len() <= crate::DIALECTS, "{}", protocol.name());
        assert_eq!(dialects.first().copied().unwrap_or(protocol.name()), protocol.name());
        assert!(usize::from(protocol.stream_dialect()) <= dialects.len());
        names.insert(protocol.name());
        assert!(dialects.iter().skip(1).all(|name| names.insert(name)), "{dialects:?}");
    }
}

fn field_line() -> impl Strategy<Value = String> {
    ("[A-Za-z][A-Za-z0-9-]{0,12}", "[ -~]{0,30}")
        .prop_map(|(name, value)| format!("X-{name}: {value}\r\n"))
}

proptest! {
    #[test]
    fn any_split_of_any_requests_gives_the_same_messages(
        parts in proptest::collection::vec(
            (proptest::collection::vec(field_line(), 0..5), proptest::collection::vec(any::<u8>(), 0..80), 0u8..3),
            1..4),
        cuts in proptest::collection::vec(0usize..1500, 0..20),
    ) {
        let mut input = Vec::new();
        for (fields, body, way) in &parts {
            let framing = match way {
                0 => String::new(),
                1 => format!("Content-Length: {}\r\n", body.len()),
                _ => "Transfer-Encoding: chunked\r\n".to_owned(),
            };
            input.extend(format!("POST /x HTTP/1.1\r\nHost: h\r\n{}{framing}\r\n", fields.concat()).bytes());
            match way {
                0 => {}
                1 => input.extend_from_slice(body),
                _ => {
                    for piece in body.chunks(30) {
                        input.extend(format!("{:x}\r\n", piece.len()).bytes());
                        input.extend_from_slice(piece);
                        input.extend_from_slice(b"\r\n");
                    }
                    input.extend_from_slice(b"0\r\nT: v\r\n\r\n");
                }
            }
        }
        let interest = Interest::of(WANTED);
        let codec = Http.compile(&Limits::default(), &interest);
        let all = assert_splits_agree(codec.as_ref(), &interest, Side::Request, &input, &cuts);
        prop_assert_eq!(all.error, None);
        prop_assert_eq!(all.messages.len(), parts.len());
    }

    #[test]
    fn any_split_of_any_replies_gives_the_same_messages(
        parts in proptest::collection::vec(
            (proptest::collection::vec(field_line(), 0..4), proptest::collection::vec(any::<u8>(), 0..60), 0u8..5),
            1..5),
        until_close in any::<bool>(),
        cuts in proptest::collection::vec(0usize..1500, 0..20),
    ) {
        let mut input = Vec::new();
        let mut asked = Vec::new();
        for (fields, body, way) in &parts {
            asked.push(if *way == 4 { note::HEAD } else { 0 });
            let (status, framing) = match way {
                0 => ("204 None", String::new()),
                1 | 4 => ("200 OK", format!("Content-Length: {}\r\n", body.len())),
                2 => ("100 Wait\r\n\r\nHTTP/1.1 500 No", "Content-Length: 0\r\n".to_owned()),
                _ => ("200 OK", "Transfer-Encoding: chunked\r\n".to_owned()),
            };
            input.extend(format!("HTTP/1.1 {status}\r\n{}{framing}\r\n", fields.concat()).bytes());
            if *way == 1 {
                input.extend_from_slice(body);
            } else if *way == 3 {
                input.extend(format!("{:x}\r\n", body.len() + 1).bytes());
                input.extend_from_slice(body);
                input.extend_from_slice(b"!\r\n0\r\n\r\n");
            }
        }
        let mut count = parts.len() + parts.iter().filter(|(_, _, way)| *way == 2).count();
        if until_close {
            asked.push(0);
            input.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\nall the rest");
            count += 1;
        }
        let interest = Interest::of(WANTED);
        let codec = Http.compile(&Limits::default(), &interest);
        let make = || {
            let mut decoder = codec.decoder(Side::Reply);
            for token in &asked {
                decoder.expect(ReplyTo { id: 0, token: *token });
            }
            decoder
        };
        let all = assert_decoders_agree(&make, &interest, &input, &cuts);
        prop_assert_eq!((all.error, all.unread), (None, 0));
        prop_assert_eq!(all.messages.len(), count);
        prop_assert!(all.messages.iter().all(|seen| seen.ended));
    }

    #[test]
    fn no_bytes_make_it_panic(input in proptest::collection::vec(any::<u8>(), 0..200), text in "[GETPOS/: HTP1.0\r\na-z]{0,120}") {
        for input in [&input[..], text.as_bytes()] {
            let interest = Interest::of(WANTED);
            let codec = Http.compile(&Limits::default(), &interest);
            transcript(codec.as_ref(), &interest, Side::Request, input, &[3, 9]);
            Http.probe(input);
            let _ = responses(&[0, note::HEAD], input, 5);
        }
    }
}
