//! What is passed on, and what of it is not.

use super::*;

/// A response head, and what a downstream whose request had these notes is sent.
pub(super) fn relay_response(notes: u64, input: &str) -> (Head, String) {
    let (head, hop) = response_head(notes, input);
    let mut out = Vec::new();
    Http.relay(&head, &input.as_bytes()[..head.len], &hop, &mut out);
    (head, String::from_utf8(out).expect("text"))
}

/// The same with changes.
pub(super) fn rewrite_response(
    notes: u64,
    input: &str,
    changes: &[Change<'_>],
) -> Result<String, Unchangeable> {
    let (head, hop) = response_head(notes, input);
    let mut out = Vec::new();
    Http.rewrite(&head, &input.as_bytes()[..head.len], &hop, changes, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

fn response_head(notes: u64, input: &str) -> (Head, Hop) {
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    let mut decoder = codec.decoder(Side::Reply);
    let request = ReplyTo { id: 0, token: notes };
    decoder.expect(request);
    let step = decoder.decode(input.as_bytes(), &mut Metadata::default()).expect("fine");
    let Step::Head(head) = step else { panic!("{step:?}") };
    (head, Hop { request, ..Hop::neutral(Side::Reply) })
}

#[test]
fn cookies_of_several_fields_are_one_list() {
    let interest = Interest::of(["header.cookie", "cookie.b"]);
    let codec = Http.compile(&Limits::default(), &interest);
    let input = b"GET / HTTP/2.0\r\nhost: a\r\ncookie: a=1\r\ncookie: b=2\r\n\r\n";
    let all = assert_decoders_agree(&|| codec.stream_decoder(), &interest, input, &[]);
    assert_eq!((value(&all, 0, "header.cookie"), value(&all, 0, "cookie.b")), ("a=1; b=2", "2"));
}

#[test]
fn what_is_between_proxies_stays_there() {
    let (_, out) = relay_response(
        0,
        "HTTP/1.1 204 No\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nProxy-Connection: close\r\nKeep-Alive: 1\r\nX: y\r\n\r\n",
    );
    assert_eq!(out, "HTTP/1.1 204 No\r\nX: y\r\n\r\n");
}

#[test]
fn an_upgrade_is_passed_on_whatever_else_connection_names() {
    let out = relay_request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-Foo\r\nX-Foo: 1\r\nUpgrade: websocket\r\n\r\n",
    );
    assert!(out.contains("Upgrade: websocket\r\n") && !out.contains("X-Foo"), "{out}");
    let (_, out) = relay_response(
        note::UPGRADE,
        "HTTP/1.1 101 Switching\r\nConnection: upgrade, x-foo\r\nUpgrade: websocket\r\n\r\n",
    );
    assert!(out.contains("Upgrade: websocket\r\n"), "{out}");
}

#[test]
fn an_upgrade_to_http2_is_not_asked_of_the_upstream() {
    for upgrade in ["h2c", "websocket, H2C"] {
        let out = relay_request(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        assert!(!out.to_ascii_lowercase().contains("upgrade"), "{out}");
        assert!(!out.contains("HTTP2-Settings"), "{out}");
    }
}

#[test]
fn what_is_relayed_decodes_to_the_same_request() {
    for start in [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "PUT http://b/x HTTP/1.0\r\nContent-Length: 3\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding, host\r\nTransfer-Encoding: chunked\r\n",
        "CONNECT b:1 HTTP/1.1\r\nHost: b\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: b\r\n",
        "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n",
        "GET http://[::1]:80 HTTP/1.1\r\nHost: b\r\n",
    ] {
        let input = format!("{start}\r\n");
        let before = requests(input.as_bytes());
        let after = requests(relay_request(&input).as_bytes());
        let kind = |all: &Transcript| all.error.as_ref().map(|error| error.kind);
        // Bodies are not sent here, so that those that have one are cut short, alike.
        assert_eq!(kind(&before), kind(&after), "{start}");
        assert_eq!(before.messages[0].head.body, after.messages[0].head.body, "{start}");
        for key in ["method", "path", "host"] {
            let host_from_field = key == "host" && start.starts_with("CONNECT");
            assert!(host_from_field || value(&before, 0, key) == value(&after, 0, key), "{start}");
        }
    }
}

#[test]
fn an_authority_is_a_host_and_a_port() {
    for host in
        ["[]", "a:b", "a:1:2", "a:999999", "[::1", "[::1]x", "a\\b", "a\"b", "a\u{e9}", "a#b"]
    {
        for input in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("CONNECT {host} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            let status = requests(input.as_bytes()).error.map(|error| error.status);
            assert_eq!(status, Some(400), "{input:?}");
        }
    }
    let fragment = requests(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(fragment.error.map(|error| error.status), Some(400));
}

#[test]
fn rules_see_the_host_that_the_upstream_will_see() {
    let interest = Interest::of(["host", "header.host"]);
    let codec = Http.compile(&Limits::default(), &interest);
    let input = b"GET http://other/ HTTP/1.1\r\nHost: allowed\r\n\r\n";
    let all = transcript(codec.as_ref(), &interest, Side::Request, input, &[]);
    assert_eq!((value(&all, 0, "host"), value(&all, 0, "header.host")), ("other", "other"));
}

#[test]
fn chunks_from_http_10_are_the_last_of_their_connection() {
    let (head, _) = relay_response(
        0,
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert!(head.last);
}

#[test]
fn a_response_without_a_body_is_passed_on_without_framing() {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 5"] {
        for (notes, line) in [(0, "204 No"), (0, "103 Early"), (note::CONNECT, "200 OK")] {
            let (_, out) = relay_response(notes, &format!("HTTP/1.1 {line}\r\n{framing}\r\n\r\n"));
            assert_eq!(out.trim_end(), format!("HTTP/1.1 {line}"));
        }
    }
    let (_, head) = relay_response(note::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert!(head.contains("Content-Length: 5\r\n"), "HEAD tells the length: {head}");
}

#[test]
fn a_10_client_sees_no_interim_responses() {
    let (_, out) = relay_response(note::VERSION_10, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(out, "");
}

#[test]
fn chunk_extensions_are_bounded_together() {
    let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..100 {
        input.extend(format!("1;{}\r\nx\r\n", "a".repeat(200)).bytes());
    }
    assert_eq!(requests(&input).error.map(|error| error.status), Some(400));
    // Beside data they are as long as the data may be: a signature of each chunk, say.
    let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..300 {
        input.extend(format!("64;{}\r\n{}\r\n", "a".repeat(99), "x".repeat(100)).bytes());
    }
    let interest = Interest::nothing();
    let codec = Http.compile(&Limits::default(), &interest);
    assert_eq!(
        transcript(codec.as_ref(), &interest, Side::Request, &input, &[])
            .error
            .map(|error| error.status),
        Some(0)
    );
}

#[test]
fn what_is_too_large_is_so_at_every_split() {
    let long = "a".repeat(70_000);
    for input in [
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {long}\n\r\n"
        ),
    ] {
        let interest = Interest::nothing();
        let codec = Http.compile(&Limits::default(), &interest);
        let cuts: Vec<usize> = (0..input.len()).step_by(997).collect();
        let all =
            assert_splits_agree(codec.as_ref(), &interest, Side::Request, input.as_bytes(), &cuts);
        assert_eq!(all.error.map(|error| error.status), Some(431));
    }
}
