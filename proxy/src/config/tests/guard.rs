//! `limit`, `fault`, `only` and `[access]`: what they come to, and what is refused.

use super::*;
use crate::guard::{Audit, Guard, Wrong};
use crate::snapshot::Action;

fn compiled(text: &str) -> Snapshot {
    match compile(text, "conf/p.toml", &Registry::builtin()) {
        Ok((snapshot, warnings)) => {
            assert_eq!(warnings, []);
            snapshot
        }
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn guard(snapshot: &Snapshot) -> &Guard {
    match &snapshot.routes.routes()[0].then {
        Action::Forward(forward) => forward.guard.as_deref().expect("a guard"),
        _ => panic!("not sent on"),
    }
}

#[test]
fn all_of_it_is_read_and_said_in_words() {
    let snapshot = compiled(&format!(
        r#"{HEAD}[[route]]
match = {{ protocol = "http" }}
to = "a"
audit = false
only = {{ "source.ip" = ["10.0.0.0/8", "::1"], header.x-team = "shop" }}
limit = ["100/s", {{ rate = "5/m", burst = 2, by = ["header.tenant", "path"], values = 50 }}]
fault = [
  {{ delay = "100ms", percent = 10 }},
  {{ abort = "unavailable", percent = 0.5, match = {{ path = {{ prefix = "/a" }} }} }},
  {{ abort = 429 }},
  {{ reset = true, percent = 1 }},
  {{ bandwidth = "100KiB/s" }},
]
[access]
default = "deny"
audit = "denied.log"
"#
    ));
    let guard = guard(&snapshot);
    assert_eq!(
        guard.only.as_ref().map(ToString::to_string).as_deref(),
        Some("header.x-team is \"shop\" and source.ip is in 10.0.0.0/8, ::1/128")
    );
    assert_eq!(
        guard.limits.to_string(),
        "one in 10ms, 100 at once; one in 12s, 2 at once, for each header.tenant and path"
    );
    let faults: Vec<String> = guard.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "delay 100ms for 10%",
            "abort with unavailable for 0.5% where path is prefix \"/a\"",
            "abort with status 429 for 100%",
            "reset of the connection for 1%",
            "bandwidth of 102400 bytes a second for 100%",
        ]
    );
    assert!(matches!(guard.faults[4].what, Wrong::Bandwidth(102_400)));
    let access = &snapshot.access;
    assert!(access.deny && access.strict);
    assert_eq!(
        (&access.audit, &*access.silent),
        (&Audit::File("conf/denied.log".into()), &[true][..])
    );
}

#[test]
fn a_route_that_asks_nothing_has_no_guard() {
    let snapshot = compiled(&format!("{HEAD}[[route]]\nto = \"a\"\n"));
    match &snapshot.routes.routes()[0].then {
        Action::Forward(forward) => assert!(forward.guard.is_none()),
        _ => panic!("not sent on"),
    }
    let access = &snapshot.access;
    assert_eq!((access.deny, access.strict, &access.audit), (false, false, &Audit::Log));
    let off = compiled(&format!("{HEAD}[[route]]\nto = \"a\"\n[access]\naudit = false\n"));
    assert_eq!(off.access.audit, Audit::Off);
}

#[test]
fn mistakes_are_told_where_they_stand() {
    let route = "[[route]]\nmatch = { protocol = \"redis\" }\nto = \"a\"\n";
    let cases = [
        ("limit = { rate = \"1/s\", by = \"tenant\" }", "9:30: redis has no key `tenant`"),
        ("limit = { rate = \"1/s\", by = [] }", "9:30: a limit by no key"),
        ("limit = { rate = \"1/s\", by = 5 }", "9:30: expected a key, or an array of keys"),
        ("limit = { rate = \"1/s\", values = 5 }", "9:34: `values` of no key"),
        ("limit = []", "9:9: expected 1 to 8 limits, found 0"),
        (
            "fault = \"slow\"",
            "9:9: expected a fault: { delay = \"100ms\", percent = 10 }, found a string",
        ),
        (
            "fault = { percent = 5 }",
            "9:9: a fault that does nothing [a fault is one of delay, abort,",
        ),
        ("fault = { reset = false }", "9:9: a fault that does nothing [write reset = true]"),
        ("fault = { delay = \"1s\", reset = true }", "9:9: one fault is delay and reset"),
        ("fault = { delay = \"soon\" }", "9:19: `soon` is no duration"),
        (
            "fault = { abort = \"unavaliable\" }",
            "9:19: unknown fault `unavaliable` [did you mean `unavailable`?]",
        ),
        ("fault = { abort = \"x\" }", "[there are unavailable, overloaded, denied, timeout,"),
        (
            "fault = { abort = 503 }",
            "9:19: not every protocol of this route can answer with a status [let its match say protocol = \"http\", or name",
        ),
        ("fault = { abort = 42 }", "9:19: expected a status from 200 to 599"),
        (
            "fault = { bandwidth = \"100KiB\" }",
            "9:23: `100KiB` is no bandwidth [write a size a second",
        ),
        ("fault = { bandwidth = \"1B/s\" }", "9:23: `1B/s` is no bandwidth"),
        ("fault = { reset = true, percent = 101 }", "9:35: expected a number from 0 to 100"),
        (
            "fault = { reset = true, percent = \"5%\" }",
            "9:35: expected a number from 0 to 100, found a string",
        ),
        ("fault = { reset = true, match = { pth = \"x\" } }", "9:35: no protocol has a key `pth`"),
        ("only = { \"source.ip\" = \"here\" }", "9:24: `here` is no network"),
        ("only = \"me\"", "9:8: expected a table, [only], found a string"),
        (
            "[access]\ndefault = \"denny\"",
            "10:11: unknown default `denny` [there are \"allow\" and \"deny\"]",
        ),
        ("[access]\naudit = 5", "10:9: expected a file, or true or false, found a number"),
        ("[access]\ndefaults = \"deny\"", "10:1: unknown key `defaults` [did you mean `default`?]"),
    ];
    for (text, expected) in cases {
        let found = problems(&format!("{HEAD}{route}{text}"));
        assert!(found.iter().any(|line| line.contains(expected)), "{text}\n{found:#?}");
    }
    for key in ["fault = { reset = true }", "only = { \"source.ip\" = \"::1\" }", "limit = \"1/s\""]
    {
        let found = problems(&format!("{HEAD}[[route]]\ndeny = true\n{key}"));
        assert!(found[0].contains("a route that denies has no use for"), "{found:#?}");
    }
}
