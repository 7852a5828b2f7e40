//! What a config may say, and what is said of one that may not.

mod access_log;
mod balance;
mod discover;
mod guard;
mod refusals;

use super::*;

fn problems(text: &str) -> Vec<String> {
    let resolve = |_: &str| Err(std::io::Error::other("no such host"));
    let found = match compile_with(text, "p.toml", &Registry::builtin(), &resolve) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    let show = |d: &Diagnostic| {
        format!("{}:{}: {} [{}]", d.line, d.column, d.message, d.help.as_deref().unwrap_or(""))
    };
    found.iter().map(show).collect()
}

const HEAD: &str = "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n";

#[test]
fn the_design_s_example_compiles() {
    let text = r#"
[[listener]]
address = "0.0.0.0:7000"
[[cluster]]
name = "orders"
endpoints = ["10.0.0.1:20880", { address = "10.0.0.2:20880", weight = 2, labels = { version = "v2" } }]
balance = "least-request"
[[route]]
name  = "canary for one tenant"
match = { protocol = "dubbo", interface = { prefix = "com.shop." }, "attachment.tenant" = "acme" }
to    = [{ cluster = "orders", labels = { version = "v2" }, weight = 10 }, { cluster = "orders", weight = 90 }]
timeout = "800ms"
[[route]]
match = { source.ip = ["10.0.0.0/8"], attachment.x = { not = "y" }, size = { max = 100 }, path = { any = [{ prefix = "/a" }, "b"] } }
to = "orders"
"#;
    let (snapshot, warnings) = compile(text, "p.toml", &Registry::builtin()).expect("fine");
    assert_eq!(warnings, []);
    assert_eq!(snapshot.routes.routes()[1].when.len(), 4);
    let names: Vec<&str> = snapshot.interest.names().collect();
    assert!(names.contains(&"attachment.tenant") && names.contains(&"source.ip"), "{names:?}");
}

#[test]
fn mistakes_are_shown_where_they_stand_with_what_to_write() {
    let cases: &[(&str, &str)] = &[
        (
            "[[route]]\nto = \"a\"\ntiemout = \"1s\"",
            "8:1: unknown key `tiemout` [did you mean `timeout`?]",
        ),
        ("[[route]]\nto = \"b\"", "7:6: no cluster is called `b` [did you mean `a`?]"),
        (
            "[[route]]\nname = \"x\"",
            "7:8: [[route]] without `to` [add to = \"CLUSTER\", or deny = true]",
        ),
        (
            "[[route]]\nto = \"a\"\ntimeout = \"5\"",
            "8:11: `5` is no duration [write a number with its unit: \"800ms\", \"5s\", \"1m\" or \"2h\"]",
        ),
        (
            "[[route]]\nmatch = { protocol = \"redis\", interface = \"x\" }\nto = \"a\"",
            "7:31: redis has no key `interface` [it has protocol, kind, method, size, command, subcommand, key, key.hashtag, argc, db, user]",
        ),
        (
            "[[route]]\nmatch = { protcol = \"redis\" }\nto = \"a\"",
            "7:11: no protocol has a key `protcol` [did you mean `protocol`?]",
        ),
        (
            "[[route]]\nmatch = { protocol = \"redsi\" }\nto = \"a\"",
            "7:22: unknown protocol `redsi` [did you mean `redis`?]",
        ),
        (
            "[[route]]\nmatch = { path = { prefx = \"/\" } }\nto = \"a\"",
            "7:20: unknown key `prefx` [did you mean `prefix`?]",
        ),
        (
            "[[route]]\nmatch = { path = { regex = \"(\" } }\nto = \"a\"",
            "7:28: this is no regular expression",
        ),
        (
            "[[route]]\nmatch = { source.ip = \"nowhere\" }\nto = \"a\"",
            "7:23: `nowhere` is no network",
        ),
        (
            "[[route]]\nto = [{ cluster = \"a\", weight = 0 }]",
            "7:6: no share of this route is above 0",
        ),
        (
            "[[route]]\nto = { cluster = \"a\", labels = { v = \"2\" } }",
            "no endpoint of `a` has these labels",
        ),
        (
            "[[route]]\nto = 5",
            "7:6: expected a cluster's name, or { cluster = \"name\" }, found a number",
        ),
        ("[[cluster]]\nname = \"a\"\nendpoints = []", "two clusters are called `a`"),
        ("[[cluster]]\nname = \"b\"\nendpoints = [\"nohost\"]", "8:14: `nohost` has no port"),
        (
            "[[cluster]]\nname = \"b\"\nendpoints = [\"nohost:1\"]",
            "8:14: cannot find `nohost:1`: no such host",
        ),
        (
            "[[cluster]]\nname = \"b\"\nbalance = \"fastest\"\nendpoints = [\"127.0.0.1:1\"]",
            "8:11: unknown balance `fastest`",
        ),
        ("[[listener]]\naddress = \"127.0.0.1:7000\"", "two listeners on 127.0.0.1:7000"),
        ("[[listener]]\naddress = \"7000\"", "7:11: `7000` is no address"),
        ("[limits]\nhead = \"many\"", "7:8: this is no size"),
        ("[admin]\naddress = \"0.0.0.0:1\"", "7:11: `0.0.0.0:1` is no loopback address"),
        (
            "[[route]]\nto = \"a\"\nretry = { on = [\"resett\"] }",
            "8:17: unknown condition `resett` [did you mean `reset`?]",
        ),
        (
            "[[route]]\nto = \"a\"\nretry = { on = [\"99\"] }",
            "8:17: unknown condition `99` [there are connect-failure, reset",
        ),
        ("[[route]]\nto = \"a\"\nretry = { on = [] }", "8:9: retry on nothing"),
        ("[[route]]\nto = \"a\"\nretry = { attempts = 11 }", "a whole number from 1 to 10"),
        ("[[route]]\nto = \"a\"\nretry = { buffer = \"1GiB\" }", "8:20: more than 16MiB"),
        (
            "[[route]]\nto = \"a\"\nretry = { backoff = \"2s\", max-backoff = \"1s\" }",
            "8:41: max-backoff is shorter than backoff",
        ),
        ("[[route]]\nto = \"a\"\nmirror = \"b\"", "8:10: no cluster is called `b`"),
        (
            "[[route]]\nto = \"a\"\nmirror = { cluster = \"a\", percent = 101 }",
            "8:37: expected a number from 0 to 100, found a number",
        ),
        ("[[route]]\ndeny = true\nretry = {}", "a route that denies has no use for `retry`"),
        ("nonsense = = 3", "6:12: "),
    ];
    for (text, expected) in cases {
        let found = problems(&format!("{HEAD}{text}"));
        assert!(found.iter().any(|line| line.contains(expected)), "{text}\n{found:#?}");
    }
}

#[test]
fn breakers_and_times_mean_what_they_say() {
    let text = format!(
        "{HEAD}[[cluster]]\nname = \"b\"\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
         breaker = {{ connections = 7, pending = 0, endpoint = {{ requests = 3 }} }}\n\
         [defaults]\nsession-timeout = \"1h\"\ndeadlines = true\n\
         [[route]]\nmatch = {{ path = \"/\" }}\nto = \"b\"\nstream-timeout = \"2s\"\nidle-timeout = \"3s\"\n\
         [[route]]\nto = \"a\"\nsession-timeout = \"1m\"\n"
    );
    let (snapshot, _) = compile(&text, "p.toml", &Registry::builtin()).expect("fine");
    let [a, b] = &snapshot.clusters[..] else { panic!("two clusters") };
    assert!(a.breaker.is_none());
    let breaker = b.breaker.as_ref().expect("a breaker");
    assert_eq!(breaker.endpoints.len(), 2);
    let words = "7 connections, any requests, 0 pending; each endpoint any connections, 3 requests";
    assert_eq!(breaker.to_string(), words);
    assert!(snapshot.interest.slot("attachment.timeout").is_some());
    let times = |at: usize| match &snapshot.routes.routes()[at].then {
        crate::snapshot::Action::Forward(forward) => forward.times.or(&snapshot.timeouts),
        _ => panic!("a route that forwards"),
    };
    assert_eq!(times(0).to_string(), "stream 2s, session 3600s, idle session 3s");
    assert_eq!(times(1).to_string(), "stream 300s, session 60s");
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let found = problems(&format!("{HEAD}[[route]]\nto = \"x\"\n[[route]]\nto = \"y\"\nz = 1"));
    let lines: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["7", "9", "10"], "{found:#?}");
}

#[test]
fn a_route_that_is_never_chosen_is_a_warning() {
    let found = problems(&format!(
        "{HEAD}[[route]]\nname = \"all\"\nto = \"a\"\n[[route]]\nmatch = {{ path = \"/\" }}\nto = \"a\""
    ));
    assert_eq!(
        found,
        ["9:1: this route is never chosen: `all` matches first [move it up, or narrow the other]"]
    );
}

#[test]
fn a_finding_is_drawn_below_its_line() {
    let Err(errors) =
        compile(&format!("{HEAD}[[route]]\nto = \"b\""), "p.toml", &Registry::builtin())
    else {
        panic!("compiled")
    };
    let drawn = "error: no cluster is called `b`\n --> p.toml:7:6\n  |\n7 | to = \"b\"\n  |      ^^^\n  = help: did you mean `a`?";
    assert_eq!(errors[0].to_string(), drawn);
}
