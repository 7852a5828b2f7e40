//! Heads that a route changes.

use super::relayed::{relay_response, rewrite_response};
use super::*;
use crate::mutation::To;

fn set<'a>(key: &'a str, value: &'a str) -> Change<'a> {
    Change { key, to: To::Set(value.as_bytes()) }
}

fn append<'a>(key: &'a str, value: &'a str) -> Change<'a> {
    Change { key, to: To::Append(value.as_bytes()) }
}

fn remove(key: &str) -> Change<'_> {
    Change { key, to: To::Remove }
}

fn rewrite(input: &str, changes: &[Change<'_>]) -> Result<String, Unchangeable> {
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    let mut decoder = codec.decoder(Side::Request);
    let step = decoder.decode(input.as_bytes(), &mut Metadata::default()).expect("fine");
    let Step::Head(head) = step else { panic!("{step:?}") };
    let source = Some([192, 0, 2, 7].into());
    let hop = Hop { source, request: head.reply_to, ..Hop::neutral(Side::Request) };
    let mut out = Vec::new();
    Http.rewrite(&head, &input.as_bytes()[..head.len], &hop, changes, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

const FORWARDED: &str = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n";

#[test]
fn without_changes_a_head_is_relayed() {
    for input in [
        "GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: y\r\n\r\n",
        "GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(rewrite(input, &[]), Ok(relay_request(input)));
    }
}

#[test]
fn headers_are_set_appended_and_removed_and_the_rest_stays() {
    let fields = "Host: a\r\nX-Tenant: one\r\nAccept:  */*\r\nx-tenant: two\r\nCookie: c";
    let changed = |changes: &[Change<'_>]| {
        let out = rewrite(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n"), changes).expect("fine");
        let out = out.strip_prefix("GET / HTTP/1.1\r\n").expect("the start line");
        out.strip_suffix(FORWARDED).expect("ours").to_owned()
    };
    let kept = "Host: a\r\nAccept:  */*\r\nCookie: c\r\n";
    assert_eq!(changed(&[set("header.x-tenant", "three")]), format!("{kept}x-tenant: three\r\n"));
    assert_eq!(changed(&[remove("header.x-tenant"), remove("header.none")]), kept);
    assert_eq!(
        changed(&[append("header.x-tenant", " three ")]),
        format!("{fields}\r\nx-tenant: three\r\n")
    );
    // One after the other.
    assert_eq!(
        changed(&[
            append("header.x-tenant", "lost"),
            set("header.X-Tenant", "3"),
            append("header.x-tenant", "4"),
            set("header.gone", "5"),
            remove("header.gone"),
        ]),
        format!("{kept}X-Tenant: 3\r\nx-tenant: 4\r\n")
    );
}

#[test]
fn a_header_that_a_connection_names_is_still_a_routes_to_set() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-tenant\r\nX-Tenant: one\r\n\r\n";
    let out = rewrite(input, &[append("header.x-tenant", "two")]);
    assert_eq!(out, Ok(format!("GET / HTTP/1.1\r\nHost: a\r\nx-tenant: two\r\n{FORWARDED}")));
}

#[test]
fn a_path_is_set_and_the_query_stays_unless_it_is_set_too() {
    for (target, path, expected) in [
        ("/a", "/b", "/b"),
        ("/a?x=1?2", "/b", "/b?x=1?2"),
        ("/a?x=1", "/b?y", "/b?y"),
        ("/a?x=1", "/b?", "/b?"),
        ("http://h/a?x", "/b", "/b?x"),
        ("http://h", "/b", "/b"),
    ] {
        let input = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let out = rewrite(&input, &[set("path", "/lost?"), set("path", path)]).expect("fine");
        assert!(out.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{out}");
    }
    for path in ["", "b", "/a b", "/a#b", "/a\r\nx: y", "/é", "*", "http://a/"] {
        let input = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(rewrite(input, &[set("path", path)]).is_err(), "{path:?}");
    }
    for input in
        ["OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"]
    {
        assert!(rewrite(input, &[set("path", "/b")]).is_err(), "{input:?} has no path");
    }
}

#[test]
fn a_host_is_set_wherever_it_was() {
    for start in
        ["/a HTTP/1.1\r\nHost: a\r\n", "http://b:1/a HTTP/1.1\r\nHOST: a\r\n", "/a HTTP/1.0\r\n"]
    {
        let out = rewrite(&format!("GET {start}X: y\r\n\r\n"), &[set("host", "c:81")]);
        assert_eq!(out, Ok(format!("GET /a HTTP/1.1\r\nhost: c:81\r\nX: y\r\n{FORWARDED}")));
    }
    for host in ["", "a b", "a@b", "a/b", "a\r\nx: y", "[::1"] {
        let input = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(rewrite(input, &[set("host", host)]).is_err(), "{host:?}");
    }
    let connect = "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(rewrite(connect, &[set("host", "b")]).is_err());
}

#[test]
fn a_route_knows_better_than_the_proxy_whence_a_request_comes() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: stranger\r\n\r\n";
    let head = "GET / HTTP/1.1\r\nHost: a\r\n";
    let out = rewrite(
        input,
        &[set("header.x-forwarded-for", "10.0.0.1"), remove("header.x-forwarded-proto")],
    );
    assert_eq!(out, Ok(format!("{head}x-forwarded-for: 10.0.0.1\r\n\r\n")));
    let out = rewrite(input, &[append("header.x-forwarded-for", "10.0.0.1")]);
    assert_eq!(out, Ok(format!("{head}x-forwarded-for: 10.0.0.1\r\n{FORWARDED}")));
}

#[test]
fn what_frames_a_message_or_is_the_connections_is_not_to_be_changed() {
    let input = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    for name in [
        "content-length",
        "Transfer-Encoding",
        "trailer",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
        "host",
        "",
        "a b",
        "a:b",
        "a\r\nb",
    ] {
        let key = format!("header.{name}");
        assert!(Http.immutable(&key).is_some(), "{name:?}");
        for change in [set(&key, "1"), append(&key, "1"), remove(&key)] {
            assert!(rewrite(input, &[change]).is_err(), "{change:?}");
        }
    }
    for key in ["header.x", "header.cookie", "path", "host", "attachment.x"] {
        assert_eq!(Http.immutable(key), None);
    }
}

#[test]
fn no_value_makes_a_second_field_or_head() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x7f", "\r\n\r\nGET / HTTP/1.1"] {
        for change in [set("header.x", value), append("header.x", value)] {
            assert!(rewrite(input, &[change]).is_err(), "{value:?}");
        }
    }
    for change in [remove("path"), append("host", "b"), set("query.x", "1"), set("method", "PUT")] {
        assert!(rewrite(input, &[change]).is_err(), "{change:?}");
    }
}

#[test]
fn replies_are_changed_in_their_headers_only() {
    let reply = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 0\r\n\r\n";
    let changes = [
        remove("header.server"),
        append("header.set-cookie", "a=1"),
        append("header.set-cookie", "b=2"),
    ];
    let out = rewrite_response(0, reply, &changes);
    assert_eq!(
        out.as_deref(),
        Ok("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n")
    );
    for change in [set("path", "/b"), set("host", "b"), set("header.x", "a\nb"), set("status", "1")]
    {
        assert!(rewrite_response(0, reply, &[change]).is_err(), "{change:?}");
    }
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(rewrite_response(0, interim, &changes), Ok(relay_response(0, interim).1));
}

/// The fields of a head, names in lower case.
fn fields(head: &str) -> Vec<(String, String)> {
    let lines = head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let fields = lines.map(|line| line.split_once(':').expect("a colon"));
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn changes() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    proptest::collection::vec((0u8..3, "[x-y]-[a-bA-B]", "[ -~]{0,12}"), 0..6)
}

proptest! {
    #[test]
    fn a_rewritten_head_parses_and_has_exactly_the_wanted_fields(
        had in proptest::collection::vec(("[x-yX-Y]-[a-bA-B]", "[ -~]{0,12}"), 0..8),
        changes in changes(),
        path in proptest::option::of("/[a-z]{0,5}"),
        host in proptest::option::of("[a-z]{1,5}(:8[0-9]{1,3})?"),
        query in "(\\?[a-z=]{0,5})?",
        close in any::<bool>(),
    ) {
        let connection = if close { "Connection: close, x-a\r\n" } else { "" };
        let lines: String = had.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let input = format!("GET /old{query} HTTP/1.1\r\nHost: h\r\n{connection}{lines}\r\n");
        let mut want: Vec<(String, String)> = had
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .filter(|(name, _)| !(close && name == "x-a"))
            .collect();
        let mut keyed: Vec<(u8, String, &str)> = Vec::new();
        for (way, name, value) in &changes {
            let lower = name.to_ascii_lowercase();
            if *way != 1 {
                want.retain(|(had, _)| *had != lower);
            }
            if *way != 2 {
                want.push((lower, value.trim().to_owned()));
            }
            keyed.push((*way, format!("header.{name}"), value));
        }
        let mut all: Vec<Change<'_>> = keyed
            .iter()
            .map(|(way, key, value)| match way {
                0 => set(key, value),
                1 => append(key, value),
                _ => remove(key),
            })
            .collect();
        all.extend(path.as_deref().map(|path| set("path", path)));
        all.extend(host.as_deref().map(|host| set("host", host)));
        want.push(("host".to_owned(), host.clone().unwrap_or_else(|| "h".to_owned())));
        want.push(("x-forwarded-for".to_owned(), "192.0.2.7".to_owned()));
        want.push(("x-forwarded-proto".to_owned(), "http".to_owned()));
        let out = rewrite(&input, &all).expect("can be done");
        let path = path.unwrap_or_else(|| "/old".to_owned());
        let start = format!("GET {path}{query} HTTP/1.1\r\n");
        prop_assert!(out.starts_with(&start), "{}", out);
        let mut got = fields(&out);
        want.sort();
        got.sort();
        prop_assert_eq!(got, want);
        // One request, and nothing behind it.
        let again = requests(out.as_bytes());
        prop_assert_eq!((again.messages.len(), again.error, again.unread), (1, None, 0));
    }
}

/// A call of gRPC whose server is told that so many milliseconds are left.
fn told(fields: &str, timeout: u32, changes: &[Change<'_>]) -> String {
    let input = format!(
        "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n{fields}\r\n"
    );
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    let mut decoder = codec.decoder(Side::Request);
    let step = decoder.decode(input.as_bytes(), &mut Metadata::default()).expect("fine");
    let Step::Head(head) = step else { panic!("{step:?}") };
    let timeout = Some(timeout);
    let hop = Hop { timeout, request: head.reply_to, ..Hop::neutral(Side::Request) };
    let mut out = Vec::new();
    Http.rewrite(&head, &input.as_bytes()[..head.len], &hop, changes, &mut out).expect("changed");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_server_of_grpc_is_told_what_is_left_of_the_clients_time() {
    for (timeout, due) in
        [(1, "1m"), (2_500, "2500m"), (99_999_999, "99999999m"), (100_000_999, "100000S")]
    {
        for name in ["grpc-timeout", "Grpc-Timeout"] {
            let out = told(&format!("{name}: 1H\r\nX: y\r\n"), timeout, &[]);
            let expected = format!("X: y\r\ngrpc-timeout: {due}\r\n\r\n");
            assert!(out.ends_with(&expected) && !out.contains("1H"), "{out}");
        }
    }
    let out = told("grpc-timeout: 1H\r\n", 5, &[set("header.grpc-timeout", "7S")]);
    assert!(out.contains("grpc-timeout: 7S") && !out.contains("5m"), "{out}");
}
