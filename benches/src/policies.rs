//! Polyport's config for measuring what its traffic policies cost: three endpoints, and either
//! nothing else or every policy at once, none of which ever has anything to do.

use std::fmt::Write;
use std::net::SocketAddr;

/// Where a policy stands in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a cluster's table.
    Cluster,
    /// In a route's table.
    Route,
}

/// A policy, as it is written. `CLUSTER` stands for the cluster's own name.
#[derive(Debug)]
pub struct Policy {
    /// What to call it.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// Ways to write it, the one that asks for most first: the first that a build knows is taken.
    pub ways: &'static [&'static str],
}

/// All that cost something with each message.
pub const ALL: &[Policy] = &[
    Policy {
        name: "balance",
        place: Place::Cluster,
        ways: &["balance = \"ewma\"", "balance = \"least-request\""],
    },
    Policy {
        name: "outlier",
        place: Place::Cluster,
        ways: &[
            "outlier = { consecutive = 1000, success-rate = 1, latency = 1000, every = \"10s\" }",
            "outlier = { consecutive = 1000, every = \"10s\" }",
            "outlier = { consecutive = 1000 }",
        ],
    },
    Policy {
        name: "breaker",
        place: Place::Cluster,
        ways: &[
            "breaker = { connections = 10000, pending = 10000, requests = 100000, endpoint = { connections = 10000, requests = 100000 } }",
        ],
    },
    Policy { name: "slow start", place: Place::Cluster, ways: &["slow-start = \"30s\""] },
    Policy {
        name: "retry",
        place: Place::Route,
        ways: &[
            "retry = { attempts = 2, on = [\"connect-failure\", \"reset\", \"timeout\", \"unavailable\", \"overloaded\"], per-try = \"5s\", idempotent = true }",
        ],
    },
    Policy {
        name: "mirror",
        place: Place::Route,
        ways: &["mirror = { cluster = \"CLUSTER\", percent = 0 }"],
    },
    Policy {
        name: "only",
        place: Place::Route,
        ways: &["only = { \"source.ip\" = \"127.0.0.0/8\" }"],
    },
    Policy {
        name: "fault",
        place: Place::Route,
        ways: &["fault = { delay = \"100ms\", percent = 0 }"],
    },
    Policy {
        name: "limit",
        place: Place::Route,
        ways: &[
            "limit = { rate = \"100000000/s\", by = \"source.ip\" }",
            "limit = { rate = \"100000000/s\" }",
        ],
    },
];

/// Which of all policies a build knows, as it writes them: `check` tells whether it takes
/// a config. Those that it does not are named on stderr.
pub fn known(check: impl Fn(&str) -> bool) -> Vec<(Place, &'static str)> {
    let (listen, to) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
    let mut known = Vec::new();
    for policy in ALL {
        let way = policy.ways.iter().map(|way| (policy.place, *way));
        match way.clone().find(|way| check(&config(listen, &[("redis", to)], &[*way]))) {
            Some(way) => known.push(way),
            None => eprintln!("left out, this build does not know it: {}", policy.name),
        }
    }
    known
}

/// A config with a route and a cluster of three endpoints, which are one server, for each
/// protocol, and these policies.
pub fn config(
    listen: SocketAddr,
    protocols: &[(&str, SocketAddr)],
    policies: &[(Place, &str)],
) -> String {
    let mut config = format!("workers = 1\n\n[[listener]]\naddress = \"{listen}\"\n");
    for (name, to) in protocols {
        let lines = |place: Place| {
            let lines = policies.iter().filter(|policy| policy.0 == place);
            lines.map(|policy| policy.1.replace("CLUSTER", name) + "\n").collect::<String>()
        };
        // Writing to a String cannot fail.
        let _ = write!(
            config,
            r#"
[[cluster]]
name = "{name}"
endpoints = ["{to}", "{to}", "{to}"]
{}
[[route]]
name = "{name}"
match = {{ protocol = "{name}" }}
to = "{name}"
{}"#,
            lines(Place::Cluster),
            lines(Place::Route),
        );
    }
    config
}
