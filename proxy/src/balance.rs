//! How a cluster chooses among its endpoints, as the config says it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Slot, View};
use polyport_router::Ring;
use polyport_router::balance::{Eligible, Keyed, Maglev, Member, Rules};

use crate::snapshot::{Cluster, Endpoint};

/// How an endpoint is chosen among those of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// What suits the protocol: by its own key where it has one (MQTT's client id), else in turn.
    Natural,
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two drawn by weight.
    LeastRequest,
    /// The one of two drawn by weight that promises the shorter wait.
    Ewma,
    /// Drawn by weight.
    Random,
    /// By a key's hash; round-robin for messages without the key.
    Hash(Hashing),
}

/// How a key's hash finds its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashing {
    /// The key.
    pub slot: Slot,
    /// Its name.
    pub key: Arc<str>,
    /// Through a table (Maglev), not a ring.
    pub maglev: bool,
    /// No endpoint gets more than so many percent of its share of the requests that this
    /// worker has in flight; keys beyond that go to the next. `None`: any number.
    pub bound: Option<u32>,
}

impl Balance {
    /// Whether its tables are Maglev's.
    fn tabled(&self) -> bool {
        matches!(self, Self::Hash(Hashing { maglev: true, .. }))
    }

    /// The key whose value finds a message's endpoint; `natural`: the one of its protocol's own.
    pub fn key(&self, natural: Option<Slot>) -> Option<Slot> {
        match self {
            Self::Hash(hashing) => Some(hashing.slot),
            Self::Natural => natural,
            _ => None,
        }
    }

    /// That key's value, where the message has one that says something.
    pub fn value<'a>(&self, natural: Option<Slot>, view: &View<'a>) -> Option<&'a [u8]> {
        let value = view.get(self.key(natural)?)?;
        // Clients that leave the choice of a name to their server send an empty one.
        (*self != Self::Natural || !value.is_empty()).then_some(value)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural => f.write_str("by the protocol's own key, else in turn"),
            Self::RoundRobin => f.write_str("round-robin"),
            Self::LeastRequest => f.write_str("least-request"),
            Self::Ewma => f.write_str("ewma"),
            Self::Random => f.write_str("random"),
            Self::Hash(Hashing { key, maglev, bound, .. }) => {
                write!(f, "{} of {key}", if *maglev { "maglev" } else { "hash" })?;
                match bound {
                    Some(bound) => write!(f, ", bound {}", f64::from(*bound) / 100.0),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What decides who may be chosen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Eligibility {
    /// Panic threshold and own zone. Keys' hashes take no notice of zones: a key must
    /// find the same endpoint from everywhere.
    pub rules: Rules,
    /// How long an endpoint that became usable warms up, from 10 % of its share. 0: not at all.
    pub slow_start: Duration,
    /// Where no usable endpoint has a target's labels, any endpoint will do.
    pub any_subset: bool,
}

/// Nothing is said of what is as it is by default.
impl fmt::Display for Eligibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match self.rules.panic {
            0 => words.push("no panic".to_owned()),
            panic if panic == Rules::default().panic => {}
            panic => words.push(format!("panic below {panic}% usable")),
        }
        if self.rules.zoned {
            words.push(format!("own zone first while {}% of it are usable", self.rules.min_local));
        }
        if !self.slow_start.is_zero() {
            words.push(format!("slow start {:?}", self.slow_start));
        }
        if self.any_subset {
            words.push("any endpoint where none with the labels is usable".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

/// Where an endpoint stands among its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Those of a lower number come first. Default 0.
    pub priority: u8,
    /// The zone it is in.
    pub zone: Option<String>,
    /// That is our zone.
    pub local: bool,
}

/// Endpoints of a cluster that messages are spread over: all of them, or those with
/// some labels. Workers keep what they know of a set by its index in
/// [`Snapshot::sets`](crate::snapshot::Snapshot::sets).
#[derive(Debug, Clone, Default)]
pub struct Set {
    /// Index into the snapshot's clusters.
    pub cluster: usize,
    /// The labels that its endpoints have.
    pub labels: BTreeMap<String, String>,
    /// Some route sends to it.
    pub asked: bool,
    /// Messages with a key of their protocol's own may come.
    pub keyed: bool,
    /// Indices into the cluster's endpoints: those that take requests.
    pub endpoints: Vec<usize>,
    /// From hashes to positions in `endpoints`, where messages may have a key.
    pub table: Option<Arc<Keyed>>,
    /// The set to fall back to where nobody in this one can be used.
    pub fallback: Option<usize>,
}

impl Set {
    /// Who may be chosen while all are well, by position in `endpoints`.
    pub fn when_well(&self, cluster: &Cluster) -> Eligible {
        let nobody = Member { weight: 0, ..Member::default() };
        let member = |at: &usize| cluster.endpoints.get(*at).map_or(nobody, Endpoint::member);
        let members: Vec<Member> = self.endpoints.iter().map(member).collect();
        let mut eligible = Eligible::default();
        cluster.rules().apply(&members, &mut eligible);
        eligible
    }

    /// Takes in the endpoints that its cluster now has for it, with the table that they
    /// need. `before`: the set as it was and its cluster then; a table over the same
    /// endpoints is used again.
    pub fn fill(&mut self, cluster: &Cluster, before: Option<(&Self, &Cluster)>) {
        let fits = |endpoint: &Endpoint| {
            let has = |(key, want)| endpoint.labels.get(key) == Some(want);
            endpoint.takes() && self.labels.iter().all(has)
        };
        let all = cluster.endpoints.iter().enumerate();
        self.endpoints = all.filter(|(_, one)| fits(one)).map(|(at, _)| at).collect();
        let hashed = self.asked
            && match cluster.balance {
                Balance::Hash(_) => true,
                Balance::Natural => self.keyed,
                _ => false,
            };
        let choice = self.endpoints.len() > 1 || self.fallback.is_some();
        if !hashed || !choice {
            self.table = None;
            return;
        }
        let members = self.members(cluster);
        let same = |(set, of): &(&Self, &Cluster)| {
            of.balance.tabled() == cluster.balance.tabled() && set.members(of) == members
        };
        let table = before.filter(same).and_then(|(set, _)| set.table.clone());
        self.table = table.or_else(|| {
            let endpoints: Vec<&Endpoint> =
                self.endpoints.iter().filter_map(|at| cluster.endpoints.get(*at)).collect();
            Some(Arc::new(Self::table(&cluster.balance, &endpoints)))
        });
    }

    /// What a table is made of: addresses with their weights.
    fn members(&self, cluster: &Cluster) -> Vec<(SocketAddr, u32)> {
        let found = self.endpoints.iter().filter_map(|at| cluster.endpoints.get(*at));
        found.map(|endpoint| (endpoint.address, endpoint.weight)).collect()
    }

    /// The table over `endpoints` that `balance` asks for.
    pub fn table(balance: &Balance, endpoints: &[&Endpoint]) -> Keyed {
        let names: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
        let weights = endpoints.iter().map(|endpoint| endpoint.weight);
        let members = names.iter().map(String::as_str).zip(weights);
        match balance {
            Balance::Hash(hashing) if hashing.maglev => Keyed::Maglev(Maglev::new(members)),
            _ => Keyed::Ring(Ring::new(members)),
        }
    }
}

impl Endpoint {
    /// It, as long as it is well.
    pub fn member(&self) -> Member {
        let Place { priority, local, .. } = self.place;
        Member { weight: self.weight, priority, local, ..Member::default() }
    }
}

impl Cluster {
    /// How health, priority and zone decide, for the way in which it balances.
    pub fn rules(&self) -> Rules {
        let mut rules = self.eligibility.rules;
        rules.zoned &= !matches!(self.balance, Balance::Hash(_));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_in_words_what_they_do() {
        let hashing = |maglev, bound| {
            Balance::Hash(Hashing { slot: Slot(0), key: "cookie.id".into(), maglev, bound })
        };
        for (balance, words) in [
            (Balance::LeastRequest, "least-request"),
            (hashing(false, None), "hash of cookie.id"),
            (hashing(true, Some(125)), "maglev of cookie.id, bound 1.25"),
        ] {
            assert_eq!(balance.to_string(), words);
        }
        let all = Eligibility {
            rules: Rules { panic: 0, min_local: 80, zoned: true },
            slow_start: Duration::from_secs(30),
            any_subset: true,
        };
        assert_eq!(
            all.to_string(),
            "no panic, own zone first while 80% of it are usable, slow start 30s, \
             any endpoint where none with the labels is usable"
        );
        assert_eq!(Eligibility::default().to_string(), "");
        let rules = Rules { panic: 30, ..Rules::default() };
        let calmer = Eligibility { rules, ..Eligibility::default() };
        assert_eq!(calmer.to_string(), "panic below 30% usable");
    }
}
