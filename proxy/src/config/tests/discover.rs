//! What `discover` may say.

use std::time::Duration;

use super::*;
use crate::control::discovery::{Discover, Empty, Origin};

fn cluster(lines: &str) -> String {
    format!("[[cluster]]\nname = \"b\"\n{lines}\n[[route]]\nto = \"b\"\n")
}

fn discover(lines: &str) -> Discover {
    let text = format!("{HEAD}{}", cluster(&format!("discover = {lines}")));
    let never = |_: &str| panic!("a name was asked for while compiling");
    match compile_with(&text, "p.toml", &Registry::builtin(), &never) {
        Ok((snapshot, _)) => {
            let cluster = &snapshot.clusters[1];
            assert!(cluster.endpoints.is_empty());
            cluster.discover.as_deref().cloned().expect("a source")
        }
        Err(errors) => panic!("{errors:#?}"),
    }
}

#[test]
fn sources_mean_what_they_say() {
    let dns = discover("{ dns = \"orders.shop:20880\" }");
    let host = ("orders.shop".to_owned(), 20880);
    assert_eq!(dns.from, Origin::Dns { host: host.0, port: host.1, resolver: vec![] });
    assert_eq!((dns.every, dns.empty), (Duration::from_secs(5), Empty::Keep));

    let srv = discover(
        "{ srv = \"_dubbo._tcp.orders.shop\", every = \"1s\", resolver = [\"127.0.0.1:53\", \"[::1]:54\"], empty = \"believe\" }",
    );
    assert_eq!((srv.every, srv.empty), (Duration::from_secs(1), Empty::Believe));
    assert!(matches!(srv.from, Origin::Srv { resolver, .. } if resolver.len() == 2));

    let file = discover(
        "{ file = \"a.json\", labels = { v = \"2\" }, weight = 3, zone = \"z\", priority = 1 }",
    );
    assert_eq!(file.from, Origin::File("a.json".into()));
    assert_eq!(file.every, Duration::from_millis(500));
    assert_eq!((file.usual.weight, file.usual.priority), (3, 1));
    assert_eq!(file.usual.labels["v"], "2");
    assert_eq!(file.usual.zone.as_deref(), Some("z"));
}

#[test]
fn mistakes_in_discover_are_shown_where_they_stand() {
    for (lines, expected) in [
        (
            "",
            "6:1: [[cluster]] without `endpoints` [add endpoints = [\"127.0.0.1:6379\"], or discover]",
        ),
        ("discover = {}", "8:12: discover without `dns`, `srv` or `file` [add dns = "),
        ("discover = \"orders:80\"", "8:12: expected a table, [discover], found a string"),
        (
            "endpoints = [\"127.0.0.1:1\"]\ndiscover = { file = \"a\" }",
            "8:13: both `endpoints` and `discover` [remove one of them",
        ),
        ("discover = { dns = \"a:1\", file = \"a\" }", "8:34: both `dns` and `file`"),
        ("discover = { dns = \"orders\" }", "8:20: `orders` has no port [write \"orders:PORT\"]"),
        ("discover = { dns = \"orders:\" }", "8:20: `orders:` has no port [write \"orders:PORT\"]"),
        ("discover = { dns = \":80\" }", "8:20: there is no name"),
        (
            "discover = { dns = \"10.0.0.1:80\" }",
            "8:20: `10.0.0.1:80` is an address, and no name [write endpoints = [\"10.0.0.1:80\"]]",
        ),
        ("discover = { dns = \"a..b:80\" }", "8:20: `a..b` is no name: "),
        ("discover = { srv = \"orders\" }", "8:20: `orders` is no name of a service"),
        (
            "discover = { srv = \"_a._tcp.b\", weight = 2 }",
            "8:42: SRV records tell the weight [remove weight]",
        ),
        (
            "discover = { dns = \"a:1\", resolver = [\"127.0.0.1\"] }",
            "8:39: `127.0.0.1` is no address [write an IP address with its port: \"127.0.0.1:53\"]",
        ),
        ("discover = { dns = \"a:1\", resolver = [] }", "8:38: nobody to ask"),
        (
            "discover = { file = \"a\", resolver = [\"127.0.0.1:53\"] }",
            "8:37: a file asks no resolver",
        ),
        (
            "discover = { dns = \"a:1\", every = \"10ms\" }",
            "8:35: expected a duration from 100ms to 5m",
        ),
        (
            "discover = { dns = \"a:1\", empty = \"no\" }",
            "8:35: unknown empty `no` [there are \"keep\"",
        ),
        ("discover = { dns = \"a:1\", ttl = 5 }", "8:27: unknown key `ttl`"),
        (
            "discover = { file = \"none.toml\" }",
            "8:21: none.toml: No such file or directory (os error 2) [the proxy starts without",
        ),
    ] {
        let found = problems(&format!("{HEAD}{}", cluster(lines)));
        assert!(found.iter().any(|line| line.contains(expected)), "{lines}\n{found:#?}");
    }
}

#[test]
fn a_cluster_without_endpoints_so_far_may_have_all_that_others_have() {
    for more in [
        "balance = { hash = \"source.ip\" }",
        "balance = { maglev = \"source.ip\", bound = 1.5 }",
        "balance = \"ewma\"\nsubset-fallback = \"any\"",
        "locality = { min-local = 50 }",
        "breaker = { endpoint = { requests = 1 } }\noutlier = true\nhealth = \"5s\"",
    ] {
        let lines = format!("discover = {{ dns = \"a:1\" }}\n{more}");
        let text = format!(
            "zone = \"z\"\n{HEAD}{}[[route]]\nmatch = {{ path = \"/\" }}\nto = {{ cluster = \"b\", labels = {{ v = \"2\" }} }}\n",
            cluster(&lines)
        );
        let found = problems(&text);
        let wanted =
            |line: &&String| !line.contains("never chosen") && !line.contains("no route sends");
        assert_eq!(found.iter().filter(wanted).count(), 0, "{more}: {found:#?}");
    }
}
