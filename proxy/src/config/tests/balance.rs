//! What a config may say of balance.

use std::time::Duration;

use polyport_codecs::Registry;

use super::problems;
use crate::config::compile;
use crate::snapshot::*;

const LISTENER: &str = "zone = \"a\"\n[[listener]]\naddress = \"127.0.0.1:7000\"\n";

fn snapshot(cluster: &str, routes: &str) -> Snapshot {
    let text = format!("{LISTENER}[[cluster]]\nname = \"c\"\n{cluster}\n{routes}");
    let compiled = compile(&text, "p.toml", &Registry::builtin());
    compiled.unwrap_or_else(|found| panic!("{text}\n{found:#?}")).0
}

const ALL: &str = "[[route]]\nto = \"c\"";

#[test]
fn every_balance_has_its_words() {
    for (text, shown) in [
        ("\"round-robin\"", "round-robin"),
        ("\"random\"", "random"),
        ("\"least-request\"", "least-request"),
        ("\"ewma\"", "ewma"),
        ("{ hash = \"source.ip\" }", "hash of source.ip"),
        ("{ maglev = \"cookie.sid\", bound = 1.25 }", "maglev of cookie.sid, bound 1.25"),
        ("{ hash = \"key.hashtag\", bound = 2 }", "hash of key.hashtag, bound 2"),
    ] {
        let cluster = format!("endpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nbalance = {text}");
        let all = snapshot(&cluster, ALL);
        assert_eq!(all.clusters[0].balance.to_string(), shown);
        let hashed = matches!(all.clusters[0].balance, Balance::Hash(_));
        assert_eq!(all.sets[0].table.is_some(), hashed, "{shown}");
    }
    // By nature, where a protocol that has a key of its own may come.
    let all = snapshot("endpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]", ALL);
    assert!(all.clusters[0].balance == Balance::Natural && all.sets[0].table.is_some());
}

#[test]
fn who_may_be_chosen_is_read() {
    let all = snapshot(
        "endpoints = [{ address = \"127.0.0.1:1\", zone = \"a\", priority = 3 }, { address = \"127.0.0.1:2\", zone = \"b\" }, \"127.0.0.1:3\"]\n\
         slow-start = \"30s\"\npanic = 0\nlocality = { min-local = 40 }\nsubset-fallback = \"any\"",
        ALL,
    );
    let cluster = &all.clusters[0];
    let (rules, slow_start) = (cluster.eligibility.rules, cluster.eligibility.slow_start);
    assert_eq!((rules.panic, rules.min_local, rules.zoned), (0, 40, true));
    assert!(slow_start == Duration::from_secs(30) && cluster.eligibility.any_subset);
    let places: Vec<_> =
        cluster.endpoints.iter().map(|e| (e.place.priority, e.place.local)).collect();
    assert_eq!(places, [(3, true), (0, false), (0, false)]);
}

#[test]
fn sets_are_shared_by_routes_and_fall_back_where_asked() {
    let endpoints = "endpoints = [{ address = \"127.0.0.1:1\", labels = { v = \"1\" } }, { address = \"127.0.0.1:2\", labels = { v = \"2\" } }, { address = \"127.0.0.1:3\", labels = { v = \"2\" } }]\nbalance = { hash = \"source.ip\" }";
    let two = "{ cluster = \"c\", labels = { v = \"2\" } }";
    let routes = format!(
        "[[route]]\nmatch = {{ method = \"a\" }}\nto = {two}\n[[route]]\nmatch = {{ method = \"b\" }}\nto = {two}\n{ALL}"
    );
    for fallback in ["none", "any"] {
        let all = snapshot(&format!("{endpoints}\nsubset-fallback = \"{fallback}\""), &routes);
        let sets: Vec<_> = all.sets.iter().map(|set| (&set.endpoints[..], set.fallback)).collect();
        let due = (fallback == "any").then_some(0);
        assert_eq!(sets, [(&[0, 1, 2][..], None), (&[1, 2], due)]);
        assert!(all.sets.iter().all(|set| set.table.is_some()));
    }
}

#[test]
fn mistakes_are_told() {
    let with = |line: &str| {
        format!("{LISTENER}[[cluster]]\nname = \"c\"\nendpoints = [\"127.0.0.1:1\"]\n{line}\n{ALL}")
    };
    for (line, due) in [
        ("balance = \"ewam\"", "7:11: unknown balance `ewam` [did you mean `ewma`?]"),
        ("balance = { hsah = \"key\" }", "unknown key `hsah` [did you mean `hash`?]"),
        ("balance = { bound = 2 }", "balance without `hash` [add hash = \"key\"]"),
        ("balance = { hash = \"key\", maglev = \"key\" }", "both `hash` and `maglev`"),
        ("balance = { maglev = \"nokey\" }", "no protocol has a key `nokey`"),
        ("balance = { hash = \"key\", bound = 0.5 }", "expected a number from 1 to 100"),
        ("balance = { hash = \"key\", bound = \"x\" }", "expected a number such as 1.25"),
        ("balance = 5", "expected a way to balance, or { hash = \"key\" }"),
        ("panic = 101", "expected a whole number from 0 to 100"),
        ("slow-start = 5", "expected a string"),
        ("subset-fallback = \"all\"", "unknown subset-fallback `all` [there are \"none\""),
        ("locality = { min-local = 0 }", "expected a whole number from 1 to 100"),
        ("locality = { min-local = 70 }", "`locality` of a cluster without zones"),
        ("locality = { }\nzone = \"a\"", "unknown key `zone`"),
    ] {
        let found = problems(&with(line));
        assert!(found.iter().any(|found| found.contains(due)), "{line}\n{found:#?}");
    }
    let nowhere = with("locality = {}").replace("zone = \"a\"\n", "");
    let found = problems(&nowhere);
    assert!(found[0].contains("`locality` without knowing where we are"), "{found:#?}");
    let priority =
        with("").replace("[\"127.0.0.1:1\"]", "[{ address = \"127.0.0.1:1\", priority = 256 }]");
    assert!(problems(&priority)[0].contains("expected a whole number from 0 to 255"));
}
