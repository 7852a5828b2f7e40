//! What the proxy answers itself as a route says.

use super::*;

fn respond(notes: u64, answer: &Answer<'_>) -> (After, String) {
    let mut out = Vec::new();
    let after = Http.respond(ReplyTo { id: 0, token: notes }, answer, &mut out).expect("answers");
    (after, String::from_utf8(out).expect("text"))
}

#[test]
fn whoever_is_to_leave_is_told_by_any_answer() {
    for token in [0, note::GRPC, note::HEAD, note::VERSION_10] {
        let to = Http.last(ReplyTo { id: 0, token });
        let mut out = Vec::new();
        assert_eq!(Http.local_reply(to, b"", Fault::NoRoute, "why", &mut out), After::Close);
        let answer = Answer { status: 200, headers: &[], body: b"fine" };
        assert_eq!(Http.respond(to, &answer, &mut out), Some(After::Close));
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.matches("\r\nconnection: close\r\n").count(), 2, "{text}");
    }
}

#[test]
fn an_answer_is_a_whole_response() {
    let answer = Answer { status: 403, headers: &[("x-why", b" no ")], body: b"no\n" };
    let head =
        "HTTP/1.1 403 Forbidden\r\nx-why: no\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n";
    for (notes, more, body, after) in [
        (0, "", "no\n", After::Keep),
        (note::HEAD, "", "", After::Keep),
        (note::CLOSE, "connection: close\r\n", "no\n", After::Close),
        (note::VERSION_10, "connection: keep-alive\r\n", "no\n", After::Keep),
        (note::VERSION_10 | note::CLOSE, "connection: close\r\n", "no\n", After::Close),
        (note::CONNECT, "", "no\n", After::Keep),
    ] {
        assert_eq!(respond(notes, &answer), (after, format!("{head}{more}\r\n{body}")));
    }
}

#[test]
fn an_answer_has_a_type_only_with_a_body_and_only_once() {
    let headers: &[(&str, &[u8])] = &[("Content-Type", b"text/html")];
    let answer = Answer { status: 200, headers, body: b"<p>" };
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\ncontent-length: 3\r\n\r\n<p>";
    assert_eq!(respond(0, &answer).1, expected);
    let answer = Answer { status: 299, headers: &[], body: b"" };
    assert_eq!(respond(0, &answer).1, "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn statuses_without_a_body_have_none() {
    let headers: &[(&str, &[u8])] = &[("location", b"/x")];
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let answer = Answer { status, headers, body: b"lost" };
        assert_eq!(respond(0, &answer).1, format!("HTTP/1.1 {line}\r\nlocation: /x\r\n\r\n"));
    }
    // A tunnel that nobody keeps open.
    let answer = Answer { status: 200, headers, body: b"lost" };
    let expected = "HTTP/1.1 200 OK\r\nlocation: /x\r\nconnection: close\r\n\r\n";
    assert_eq!(respond(note::CONNECT, &answer), (After::Close, expected.to_owned()));
}

#[test]
fn an_answers_headers_cannot_break_it() {
    let headers: &[(&str, &[u8])] = &[
        ("content-length", b"9"),
        ("Transfer-Encoding", b"chunked"),
        ("connection", b"close"),
        ("x", b"a\r\nb: c"),
        ("a b", b"c"),
        ("", b"c"),
        ("y", b"z"),
    ];
    for (status, line) in
        [(200, "200 OK"), (0, "500 Internal"), (101, "500 Internal"), (600, "500 Internal")]
    {
        let (_, out) = respond(0, &Answer { status, headers, body: b"" });
        assert!(out.starts_with(&format!("HTTP/1.1 {line}")), "{out}");
        assert!(out.ends_with("\r\ny: z\r\ncontent-length: 0\r\n\r\n"), "{out}");
        assert_eq!(out.lines().count(), 4, "{out}");
    }
}

#[test]
fn an_answer_decodes_as_a_response() {
    for notes in [0, note::HEAD, note::CLOSE, note::VERSION_10, note::CONNECT] {
        for status in [200, 204, 304, 404, 418, 599] {
            let answer = Answer { status, headers: &[("a", b"b")], body: b"body" };
            let (_, out) = respond(notes, &answer);
            let all = responses(&[notes], out.as_bytes(), 3).expect("a response");
            assert_eq!(all.len(), 1, "{out}");
            let body = if out.ends_with("body") { &b"body"[..] } else { b"" };
            assert_eq!(all[0].1, body, "{out}");
        }
    }
}
