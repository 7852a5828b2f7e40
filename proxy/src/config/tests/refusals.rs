//! What no proxy could do is refused when the config is read: with its file and
//! line, the key, and what would work instead.

use polyport_codecs::{Mutable, Protocol, Side};

use super::*;

/// The ways in which a route changes a key.
const WAYS: [&str; 4] = ["set", "append", "remove", "replace-prefix"];

fn errors(text: &str) -> Vec<String> {
    let resolve = |_: &str| Err(std::io::Error::other("no such host"));
    match compile_with(text, "p.toml", &Registry::builtin(), &resolve) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

/// A config whose route for `protocol` changes `key`, on line 9.
fn changing(protocol: &str, side: Side, way: &str, key: &str) -> String {
    let section = if side == Side::Request { "request" } else { "response" };
    let change = match way {
        "remove" => format!("remove = [\"{key}\"]"),
        "replace-prefix" => format!("replace-prefix = {{ \"{key}\" = [\"/old/\", \"/new/\"] }}"),
        way => format!("{way} = {{ \"{key}\" = \"new\" }}"),
    };
    format!(
        "{HEAD}[[route]]\nmatch = {{ protocol = \"{protocol}\" }}\nto = \"a\"\n{section} = {{ {change} }}\n"
    )
}

/// A key of that sort.
fn key(mutable: &Mutable) -> String {
    if mutable.family { format!("{}x-name", mutable.name) } else { mutable.name.to_owned() }
}

fn able(mutable: &Mutable, side: Side, way: &str) -> bool {
    mutable.on(side)
        && (way != "append" || mutable.append)
        && (way != "remove" || mutable.remove)
        && (way != "replace-prefix" || side == Side::Request)
}

/// Every key that some protocol can change somehow, and one that none can.
fn candidates() -> Vec<String> {
    let registry = Registry::builtin();
    let mutable = registry.protocols().iter().flat_map(|protocol| protocol.mutable());
    let mut keys: Vec<String> = mutable.map(key).chain(["kind".to_owned()]).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What `protocol` says of changing `wanted`.
fn can(protocol: &dyn Protocol, side: Side, way: &str, wanted: &str) -> bool {
    let own = protocol.mutable().iter().find(|mutable| key(mutable) == wanted);
    own.is_some_and(|own| able(own, side, way)) && protocol.immutable(wanted).is_none()
}

#[test]
fn each_change_is_made_or_refused_with_what_would_work() {
    let (mut made, mut refused) = (0, 0);
    for protocol in Registry::builtin().protocols() {
        for side in [Side::Request, Side::Reply] {
            for (way, wanted) in
                WAYS.iter().flat_map(|way| candidates().into_iter().map(move |key| (*way, key)))
            {
                let name = protocol.name();
                let text = changing(name, side, way, &wanted);
                let found = errors(&text);
                if can(*protocol, side, way, &wanted) {
                    assert!(found.is_empty(), "{text}{found:#?}");
                    made += 1;
                    continue;
                }
                refused += 1;
                let [found] = &found[..] else { panic!("{text}{found:#?}") };
                assert!(found.contains("--> p.toml:9:"), "{text}{found}");
                assert!(found.contains("= help: "), "{text}{found}");
                if way == "replace-prefix" && side == Side::Reply {
                    // No reply has a prefix to replace, whatever its protocol.
                    assert!(found.contains("unknown key `replace-prefix`"), "{found}");
                    assert!(found.contains("set, append, remove"), "{found}");
                    continue;
                }
                assert!(found.contains(&format!("{name} ")), "{text}{found}");
                assert!(found.contains(&format!("`{wanted}`")), "{text}{found}");
                // What is said to work does work.
                let word = if side == Side::Request { "requests" } else { "replies" };
                let ours = protocol.mutable().iter().filter(|own| able(own, side, way));
                let mut instead = 0;
                for own in ours {
                    let shown = format!("`{}{}`", own.name, if own.family { "NAME" } else { "" });
                    assert!(found.contains(&shown), "{text}{found}");
                    assert_eq!(errors(&changing(name, side, way, &key(own))), [""; 0]);
                    instead += 1;
                }
                if instead == 0 {
                    let help = format!("nothing in {word} of {name} can be changed so; it can be");
                    assert!(found.contains(&help), "{text}{found}");
                }
            }
        }
    }
    assert!(made > 20 && refused > 100, "{made} made, {refused} refused");
}

#[test]
fn headers_that_are_the_proxy_s_own_are_refused() {
    let cases = [
        ("header.content-length", "it frames the body"),
        ("header.Transfer-Encoding", "it frames the body"),
        ("header.connection", "it is about one connection"),
        ("header.upgrade", "it is about one connection"),
        ("header.host", "change the key host instead"),
        ("header.a b", "letters, digits"),
    ];
    for (key, help) in cases {
        let found = errors(&changing("http", Side::Request, "set", key));
        let [found] = &found[..] else { panic!("{key}: {found:#?}") };
        assert!(found.contains(&format!("http cannot change `{key}`")), "{found}");
        assert!(found.contains("--> p.toml:9:") && found.contains(help), "{found}");
    }
}

#[test]
fn protocols_that_a_route_cannot_answer_itself_are_refused() {
    for protocol in Registry::builtin().protocols() {
        for answer in
            ["redirect = { to = \"https://{host}/\" }", "respond = { status = 204 }"].into_iter()
        {
            let name = protocol.name();
            let answer =
                if name == "http" { answer.to_owned() } else { answer.replace("{host}", "h") };
            let text = format!(
                "{HEAD}[[route]]\nmatch = {{ protocol = \"{name}\" }}\n{answer}\n[[route]]\nto = \"a\"\n"
            );
            let found = errors(&text);
            if name == "http" {
                assert!(found.is_empty(), "{text}{found:#?}");
                continue;
            }
            let [found] = &found[..] else { panic!("{text}{found:#?}") };
            assert!(found.contains(&format!("a route cannot answer {name} itself")), "{found}");
            assert!(found.contains("--> p.toml:8:"), "{found}");
            assert!(found.contains("a route can answer http itself; deny = true"), "{found}");
        }
    }
}

/// Problems of a config with `section` added, each on one line.
fn refused(section: &str, expected: &str) {
    let found = problems(&format!("{HEAD}{section}"));
    assert!(found.iter().any(|line| line.contains(expected)), "{section}\n{found:#?}");
}

#[test]
fn routes_that_contradict_themselves() {
    let set = "set = { header.a = \"b\" }";
    let http = "match = { protocol = \"http\" }";
    let cases = [
        (
            format!("[[route]]\nto = \"a\"\nrequest = {{ {set} }}"),
            "8:21: a route with `request` must say which protocol it is for [write protocol = one of",
        ),
        (
            format!("[[route]]\nto = \"a\"\nresponse = {{ {set} }}"),
            "8:22: a route with `response` must say which protocol",
        ),
        (
            "[[route]]\nrespond = { status = 200 }".into(),
            "7:11: a route with `respond` must say which protocol it is for [write protocol = \"http\" in its match]",
        ),
        (
            format!(
                "[[route]]\nmatch = {{ protocol = \"tcp\" }}\nto = \"a\"\nrequest = {{ {set} }}"
            ),
            "9:21: `request` on bytes that are not decoded [write protocol = one of",
        ),
        (
            "[[route]]\nmatch = { protocol = \"tcp\" }\nrespond = { status = 200 }".into(),
            "8:11: `respond` on bytes that are not decoded",
        ),
        (
            format!(
                "[[route]]\nmatch = {{ protocol = [\"http\", \"redis\"] }}\nto = \"a\"\nrequest = {{ {set} }}"
            ),
            "9:21: redis cannot change `header.a` [nothing in requests of redis can be changed so",
        ),
        (
            "[[route]]\nmatch = { protocol = [\"http\", \"redsi\"] }\nto = \"a\"".into(),
            "7:31: unknown protocol `redsi` [did you mean `redis`?]",
        ),
        (
            format!("[[route]]\n{http}\nto = \"a\"\nrespond = {{ status = 200 }}"),
            "8:6: a route that answers itself sends nowhere [remove this]",
        ),
        (
            format!("[[route]]\n{http}\nredirect = {{ to = \"/\" }}\nrespond = {{ status = 200 }}"),
            "9:11: a route either redirects or responds [remove one of them]",
        ),
        (
            format!("[[route]]\n{http}\ndeny = true\nrequest = {{ {set} }}"),
            "9:11: a route that denies has no use for `request` [remove this]",
        ),
        (
            format!("[[route]]\n{http}\nrespond = {{ status = 200 }}\nlimit = \"1/s\""),
            "9:9: a route that answers itself has no use for `limit`",
        ),
        (
            format!("[[route]]\n{http}\nredirect = {{ to = \"/\", status = 304 }}"),
            "304 is no redirect with a new place [there are 301, 302, 303, 307 and 308]",
        ),
        (
            format!("[[route]]\n{http}\nredirect = {{ status = 301 }}"),
            "redirect without `to` [add to = \"https://{host}{path}\"]",
        ),
        (
            format!("[[route]]\n{http}\nrespond = {{ status = 99 }}"),
            "expected a whole number from 200 to 599",
        ),
        (
            format!("[[route]]\n{http}\nrespond = {{ headers = {{ Content-Length = \"5\" }} }}"),
            "8:25: an answer cannot set `Content-Length` [it frames the body",
        ),
        (
            format!(
                "[[route]]\n{http}\nto = \"a\"\nrequest = {{ replace-prefix = {{ path = \"/x\" }} }}"
            ),
            "expected two strings: [\"/old/\", \"/new/\"], found a string",
        ),
    ];
    for (section, expected) in cases {
        refused(&section, expected);
    }
}

#[test]
fn templates_with_unknown_keys_or_half_a_pair_of_braces() {
    let cases = [
        ("{hots}", "http has no key `hots` [did you mean `host`?]"),
        ("{command}", "http has no key `command`"),
        ("{host", "a brace without its other half; write {{ or }} for a brace"),
        ("host}", "a brace without its other half"),
        ("{{host}", "a brace without its other half"),
    ];
    for (template, expected) in cases {
        let route = "[[route]]\nmatch = { protocol = \"http\" }\n";
        let text =
            format!("{route}to = \"a\"\nrequest = {{ set = {{ header.a = \"{template}\" }} }}");
        refused(&text, &format!("9:32: {expected}"));
        refused(
            &format!("{route}redirect = {{ to = \"{template}\" }}"),
            &format!("8:19: {expected}"),
        );
    }
    let fine = "{{{host}}}{path}{route}{source.ip}{header.any}";
    assert_eq!(
        errors(
            &changing("http", Side::Request, "set", "path")
                .replace("\"new\"", &format!("\"{fine}\""))
        ),
        [""; 0]
    );
}

#[test]
fn a_route_may_be_for_several_protocols_whatever_else_it_says() {
    for more in ["", "limit = { rate = \"1/s\", by = \"method\" }", "mirror = \"a\""] {
        let route = "[[route]]\nmatch = { protocol = [\"http\", \"redis\"] }\nto = \"a\"";
        assert_eq!(errors(&format!("{HEAD}{route}\n{more}\n")), [""; 0]);
    }
}

#[test]
fn limits_that_are_no_rates() {
    for rate in ["100", "x/s", "0/s", "1/d", "/s", "-1/s", "2000000000/s"] {
        let expected = format!(
            "8:9: `{rate}` is no rate [write a number and a time: \"100/s\", \"5/m\" or \"1000/h\"]"
        );
        refused(&format!("[[route]]\nto = \"a\"\nlimit = \"{rate}\""), &expected);
    }
    refused(
        "[[route]]\nto = \"a\"\nlimit = 5",
        "8:9: expected \"100/s\", or a table, found a number",
    );
    refused("[[route]]\nto = \"a\"\nlimit = { burst = 5 }", "a limit without `rate` [add rate");
    refused(
        "[[route]]\nto = \"a\"\nlimit = { rate = \"1/s\", burst = 0 }",
        "expected a whole number",
    );
}

#[test]
fn clusters_that_cannot_be_reached_so() {
    let cluster = "[[cluster]]\nname = \"b\"\nendpoints = [\"127.0.0.1:2\"]\n";
    let cases = [
        (
            "exchange = \"serial\"",
            "9:12: unknown exchange `serial` [there are \"ordered\", for servers that do not",
        ),
        (
            "http2 = true\nproxy-protocol = \"v2\"",
            "10:18: a PROXY header names one client, and streams of many share a connection [remove http2 or proxy-protocol",
        ),
        (
            "proxy-protocol = \"v3\"",
            "9:18: unknown proxy-protocol `v3` [there are \"v1\" and \"v2\"]",
        ),
        ("tls = { ca = \"missing.crt\" }", "9:7: missing.crt: "),
        ("tls = { cert = \"a.crt\" }", "9:16: `cert` and `key` go together [add the other]"),
        ("tls = { cert = \"a.crt\", key = \"a.key\" }", "9:7: a.crt: "),
        ("tls = { server-name = \"a b\" }", "9:23: `a b` is no server name"),
        ("tls = { name = \"x\" }", "9:9: unknown key `name`"),
    ];
    for (line, expected) in cases {
        refused(&format!("{cluster}{line}"), expected);
    }
}

#[test]
fn listeners_whose_tls_cannot_be() {
    let folder = std::env::temp_dir().join(format!("polyport-refusals-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let junk = folder.join("junk.pem");
    std::fs::write(&junk, "no certificate\n").expect("written");
    let junk = junk.display();
    let pair = "certificates = [{ cert = \"gone.crt\", key = \"gone.key\" }]";
    let cases = [
        ("tls = {}".to_owned(), "8:7: tls without a certificate [add certificates = ["),
        (format!("tls = {{ {pair} }}"), "8:7: gone.crt: "),
        (
            format!("tls = {{ certificates = [{{ cert = \"{junk}\", key = \"{junk}\" }}] }}"),
            "junk.pem: there is no certificate in it",
        ),
        (
            "tls = { certificates = [{ cert = \"x.crt\" }] }".into(),
            "8:25: a certificate without `key` [add key = \"server.key\"]",
        ),
        (
            format!("tls = {{ client-auth = \"required\", {pair} }}"),
            "8:23: client-auth without a client-ca to vouch for clients [add client-ca = \"ca.crt\"]",
        ),
        (
            format!("tls = {{ client-auth = \"maybe\", {pair} }}"),
            "8:23: unknown client-auth `maybe` [there are \"required\", \"optional\" and \"none\"]",
        ),
        ("proxy-protocol = \"maybe\"".into(), "8:18: unknown proxy-protocol `maybe`"),
    ];
    for (line, expected) in &cases {
        refused(&format!("[[listener]]\naddress = \"127.0.0.1:7002\"\n{line}"), expected);
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn breakers_and_times_that_cannot_be() {
    let cluster = "[[cluster]]\nname = \"b\"\nendpoints = [\"127.0.0.1:2\"]\n";
    let cases = [
        ("breaker = 5", "9:11: expected a table, [breaker], found a number"),
        (
            "breaker = { connection = 5 }",
            "9:13: unknown key `connection` [did you mean `connections`?]",
        ),
        ("breaker = { connections = 0 }", "9:27: expected a whole number from 1 to 1073741824"),
        ("breaker = { pending = -1 }", "9:23: expected a whole number from 0 to 1073741824"),
        (
            "breaker = { requests = \"many\" }",
            "9:24: expected a whole number from 1 to 1073741824, found a string",
        ),
        (
            "breaker = { endpoint = { pending = 5 } }",
            "9:26: unknown key `pending` [breaker.endpoint has connections, requests]",
        ),
    ];
    for (line, expected) in cases {
        refused(&format!("{cluster}{line}"), expected);
    }
    refused("[[route]]\nto = \"a\"\nsession-timeout = \"soon\"", "8:19: `soon` is no duration");
    refused(
        "[[route]]\ndeny = true\nidle-timeout = \"5s\"",
        "8:16: a route that denies has no use for `idle-timeout`",
    );
    refused("[defaults]\ndeadlines = \"yes\"", "7:13: expected true or false, found a string");
}

#[test]
fn overload_s_steps_have_an_order_and_networks_a_form() {
    let wrong =
        |section: &str| errors(&format!("{HEAD}[[route]]\nto = \"a\"\n{section}")).join("\n");
    let cases = [
        ("[overload]\nclose-idle = 97", "`stop-accepting` at 95 comes before `close-idle` at 97"),
        ("[overload]\nshed = 90", "`shed` at 90 comes before `stop-accepting` at 95"),
        ("[overload]\nper-source = 3\ntrusted = [\"10.0.0.0/33\"]", "`10.0.0.0/33` is no network"),
        ("[overload]\ntrusted = [\"10.0.0.1\"]", "`trusted` without `per-source`"),
        ("[overload]\nper-source-prefix = 48", "`per-source-prefix` without `per-source`"),
        ("[overload]\nper-source = 0", "expected a whole number from 1"),
        ("[overload]\nmemory = \"much\"", "this is no size"),
        ("[overload]\nmemry = 1", "did you mean `memory`?"),
    ];
    for (section, what) in cases {
        let said = wrong(section);
        assert!(said.contains(what), "{section}: {said}");
    }
    assert_eq!(wrong("[overload]\nper-source = 3\ntrusted = [\"10.0.0.1\", \"::1/64\"]"), "");
}

#[test]
fn findings_tell_no_secret() {
    let lines = [
        "request = { set = { \"header.authorization\" = \"Bearer hunter2{\" } }",
        "request = { set = { \"header.x-token\" = \"hunter2\", \"nonsense\" = \"hunter2\" } }",
        "password = \"hunter2\"",
        "password = \"hunter2",
        "secret = hunter2",
    ];
    for line in lines {
        let text =
            format!("{HEAD}[[route]]\nmatch = {{ protocol = \"http\" }}\nto = \"a\"\n{line}");
        let said = errors(&text).join("\n");
        assert!(!said.is_empty() && !said.contains("hunter2"), "{said}");
    }
}
