//! What is said of messages under a config that has everything.

use polyport_codecs::{Head, Kind, Metadata, Registry};
use serde_json::Value;

use super::decision::Decision;
use super::{Message, facts};
use crate::config;
use crate::snapshot::Snapshot;

const EVERYTHING: &str = r#"
zone = "a"

[[listener]]
address = "127.0.0.1:7000"

[[cluster]]
name = "cache"
endpoints = [
    { address = "127.0.0.1:1", weight = 2, zone = "a" },
    { address = "127.0.0.1:2", zone = "b", labels = { version = "v2" } },
    { address = "127.0.0.1:3", priority = 1 },
]
balance = { maglev = "key", bound = 1.5 }
slow-start = "30s"
panic = 30
subset-fallback = "any"
breaker = { connections = 9 }
health = "5s"
outlier = true

[[cluster]]
name = "near"
endpoints = [{ address = "127.0.0.1:4", zone = "a" }, { address = "127.0.0.1:5", zone = "b" }]
balance = "random"

[[cluster]]
name = "heavy"
endpoints = ["127.0.0.1:6", { address = "127.0.0.1:7", weight = 3 }]

[[route]]
name = "writes"
match = { protocol = "redis", command = "set" }
deny = true

[[route]]
name = "reads"
match = { protocol = "redis", command = ["get", "mget"] }
to = [{ cluster = "cache", weight = 1 }, { cluster = "heavy", weight = 19 }]
sticky = "db"
only = { user = { not = "guest" } }
limit = [{ rate = "10/s", by = ["key", "user"] }, "1000/s"]
fault = { delay = "20ms", percent = 0.5, match = { key = { prefix = "slow:" } } }
retry = { attempts = 2, buffer = 100 }
mirror = { cluster = "near", percent = 12.5, buffer = 50 }
timeout = "800ms"

[[route]]
name = "labelled"
match = { protocol = "redis", command = "ttl" }
to = { cluster = "cache", labels = { version = "v2" } }

[[route]]
name = "one cache"
match = { protocol = "redis", command = "exists" }
to = "cache"

[[route]]
name = "nearby"
match = { protocol = "dubbo" }
to = "near"
retry = { idempotent = true }

[[route]]
name = "sessions"
match = { protocol = "mqtt" }
to = "heavy"

[[route]]
name = "pages"
match = { protocol = "http" }
to = "heavy"
"#;

fn snapshot(text: &str) -> Snapshot {
    let compiled = config::compile(text, "polyport.toml", &Registry::builtin());
    compiled.map(|(snapshot, _)| snapshot).expect("a config without mistakes")
}

/// The decision about a message of which this is known, in text and in JSON.
fn told(snapshot: &Snapshot, known: &str, head: Option<Head>) -> (String, Value) {
    let known: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
    let mut metadata = Metadata::new(&snapshot.interest);
    let registry = Registry::builtin();
    let protocol = facts(&known, snapshot, &registry, &mut metadata).expect("facts");
    let view = metadata.view(b"");
    let decision = Decision::of(&Message { snapshot, view, protocol, head });
    let json = serde_json::to_string(&decision).expect("JSON");
    (decision.to_string(), serde_json::from_str(&json).expect("JSON"))
}

fn text(snapshot: &Snapshot, known: &str) -> String {
    told(snapshot, known, None).0
}

#[test]
fn everything_that_is_configured_is_said() {
    let all = snapshot(EVERYTHING);
    let known = "protocol=redis command=get key=slow:7 db=";
    // A database that goes the rare way.
    let db = (0..100_000)
        .find(|db| told(&all, &format!("{known}{db}"), None).1["targets"][0]["taken"] == true);
    let (said, json) = told(&all, &format!("{known}{}", db.expect("one in twenty")), None);
    let said = said.replace(&format!("db = \"{}\"", db.expect("it")), "db = \"N\"");
    let expected = r#"route "reads"
  as command = "get" is one of "get", "mget"
  as protocol = "redis" is "redis"
  only where user is not "guest": it is
  limit one in 100ms, 10 at once, for each key and user: here of key = "slow:7" and user = absent
  limit one in 1ms, 1000 at once
  fault: delay 20ms for 0.5% where key is prefix "slow:": it is
  one of these, by db = "N":
    5% to cluster "cache" (maglev of key, bound 1.5, here "slow:7"; panic below 30% usable, slow start 30s, any endpoint where none with the labels is usable): this one
      127.0.0.1:1, weight 2, zone a
      127.0.0.1:2, zone b, version = v2: this one, while all are well and it is within its bound
      127.0.0.1:3, priority 1: nothing while the others are well
      breaker: 9 connections, any requests, 1024 pending; each endpoint any connections, any requests
      health: connection every 5s (±10%) within 1s; unusable after 3 failed, usable after 2 passed
      outliers: ejected after 5 failures in a row, for 30s to 300s, at most 50% at once
      retry budget: 20 retries per 100 requests, 1000 saved up
    95% to cluster "heavy"
  retry 2 more tries on connect-failure, reset, unavailable, after 25ms to 250ms, idempotent requests of up to 100 bytes: this message if its protocol says that it is, else only where no connection came about
  mirror 12.5% to cluster "near", 100 at once and 50 bytes at most
    127.0.0.1:4, zone a
    127.0.0.1:5, zone b: nothing while the others are well
  timeout 800ms, stream 300s
not chosen:
  "writes": command = "get" is not "set""#;
    assert_eq!(said, expected);
    assert_eq!(json["route"], "reads");
    assert_eq!(json["denied"], false);
    assert_eq!(json["limits"][0]["by"][0]["value"], "slow:7");
    assert_eq!(json["targets"][0]["endpoints"][1]["chosen"], true);
    assert_eq!(json["targets"][0]["endpoints"][2]["share"], 0.0);
    assert_eq!(json["targets"][1]["taken"], false);
    assert_eq!(json["mirror"]["target"]["endpoints"][0]["share"], 1.0);
    assert_eq!(json["not_chosen"][0]["route"], "writes");
}

#[test]
fn chance_is_called_chance_and_absence_absence() {
    let all = snapshot(EVERYTHING);
    let said = text(&all, "protocol=redis command=get");
    for line in [
        "  one of these, by chance as db is absent:\n",
        "(maglev of key, bound 1.5, here in turn as it is absent; ",
        ": here one that all without have together\n",
        ": it is not, so never this message\n",
        "    95% to cluster \"heavy\" (round-robin)\n",
        "      127.0.0.1:6: 25%\n",
        "      127.0.0.1:7, weight 3: 75%\n",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(!said.contains("this one"), "{said}");
    let said = text(&all, "protocol=dubbo");
    let expected = "route \"nearby\"\n  as protocol = \"dubbo\" is \"dubbo\"\n  \
        to cluster \"near\" (random; own zone first while 70% of it are usable)\n    \
        127.0.0.1:4, zone a\n    127.0.0.1:5, zone b: nothing while the others are well\n    \
        retry budget: 20 retries per 100 requests, 1000 saved up\n  \
        retry 1 more try on connect-failure, reset, unavailable, after 25ms to 250ms, \
        every request of up to 65536 bytes\n  timeout 15s, stream 300s\nnot chosen:\n";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn labels_leave_some_and_a_protocol_s_own_key_finds_one() {
    let all = snapshot(EVERYTHING);
    let said = text(&all, "protocol=redis command=ttl key=k");
    assert!(
        said.contains("where none with the labels is usable)\n    127.0.0.1:2, zone"),
        "{said}"
    );
    assert!(!said.contains("127.0.0.1:1"), "{said}");

    let mut homes = std::collections::BTreeSet::new();
    for client in 0..50 {
        let known = format!("protocol=mqtt packet=connect client-id=pump-{client}");
        let (said, json) = told(&all, &known, None);
        let here = format!("  to cluster \"heavy\" (hash of client-id, here \"pump-{client}\")\n");
        assert!(said.contains(&here), "{said}");
        let chosen = |at: usize| json["targets"][0]["endpoints"][at]["chosen"] == true;
        assert_ne!(chosen(0), chosen(1), "{json}");
        assert_eq!(said.matches(": this one, while all are well\n").count(), 1, "{said}");
        homes.insert(chosen(0));
    }
    assert_eq!(homes.len(), 2);
    // The broker gives the name: in turn.
    let said = text(&all, "protocol=mqtt client-id=");
    assert!(said.contains("(hash of client-id, here in turn as it is absent)"), "{said}");
    let said = text(&all, "protocol=http client-id=x");
    assert!(said.contains("  to cluster \"heavy\" (round-robin)\n"), "{said}");
}

#[test]
fn a_head_tells_what_may_be_repeated_and_how_long_it_takes() {
    let all = snapshot(EVERYTHING);
    let known = "protocol=redis command=get key=k";
    let plain = Head::whole(Kind::Request, 40);
    for (head, lines) in [
        (
            Head { idempotent: true, timeout: 300, ..plain },
            [
                ": this message may be\n",
                "50 bytes at most\n",
                "  timeout 800ms, stream 300s; its client waits 300ms\n",
            ],
        ),
        (
            Head { len: 60, ..plain },
            [
                ": this message only where no connection came about\n",
                "50 bytes at most: never this message\n",
                "  timeout 800ms, stream 300s\n",
            ],
        ),
        (
            Head { len: 101, ..plain },
            [
                ": never this message, as it is too large to be kept\n",
                "50 bytes at most: never this message\n",
                "  timeout 800ms, stream 300s\n",
            ],
        ),
        (
            Head { lease: polyport_codecs::Lease::Session, ..plain },
            [
                ": never this message, as it has a session or state of its own\n",
                "50 bytes at most: never this message\n",
                "  no timeout, as it may take as long as it likes; stream 300s\n",
            ],
        ),
    ] {
        let said = told(&all, known, Some(head)).0;
        for line in lines {
            assert!(said.contains(line), "{line} in {said}");
        }
    }
}

#[test]
fn what_goes_nowhere_is_said_in_a_line() {
    let all = snapshot(EVERYTHING);
    let said = text(&all, "protocol=redis command=set");
    let due = "route \"writes\"\n  as command = \"set\" is \"set\"\n  \
        as protocol = \"redis\" is \"redis\"\n  denied";
    assert_eq!(said, due);
    let said = text(&all, "protocol=redis command=get user=guest");
    assert!(said.contains("  only where user is not \"guest\": it is not: denied\nnot chosen"));
    let (said, json) = told(&all, "protocol=bolt", None);
    assert!(said.starts_with("no route matches: the message is answered with an error\n"));
    assert_eq!((&json["route"], &json["denied"]), (&Value::Null, &Value::Bool(false)));

    let heartbeat = Head::whole(Kind::Heartbeat, 16);
    let due = "no route is asked: the proxy answers the message itself";
    assert_eq!(told(&all, "protocol=dubbo", Some(heartbeat)).0, due);
    let due = "no route is asked: the message passes as it is within its session";
    assert_eq!(told(&all, "protocol=mqtt", Some(heartbeat)).0, due);

    let narrow = "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[route]]\n\
        match = { protocol = \"mqtt\", topic = \"a\" }\ndeny = true\n";
    let said = text(&snapshot(narrow), "protocol=mqtt topic=b");
    assert!(said.starts_with("no route matches: the message is answered with an error; within"));
    let closed = format!("{narrow}[access]\ndefault = \"deny\"\n");
    let (said, json) = told(&snapshot(&closed), "protocol=mqtt topic=b", None);
    assert!(said.starts_with("no route matches: denied, as [access] default is \"deny\"\n"));
    assert_eq!(json["denied"], true);
}

#[test]
fn long_lists_are_cut_but_never_the_chosen_one() {
    let endpoints: Vec<String> = (1..=200).map(|n| format!("\"127.0.0.1:{n}\"")).collect();
    let all = snapshot(&format!(
        "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\n\
         endpoints = [{}]\nbalance = {{ hash = \"key\" }}\n[[route]]\nto = \"a\"\n",
        endpoints.join(", ")
    ));
    for n in 0..20 {
        let (said, json) = told(&all, &format!("protocol=redis key=user:{n}"), None);
        assert!(said.lines().count() < 30, "{said}");
        assert_eq!(said.matches(": this one").count(), 1, "{said}");
        assert!(said.contains("\n    and 1"), "{said}");
        assert_eq!(json["targets"][0]["endpoints"].as_array().map(Vec::len), Some(200));
    }
}
