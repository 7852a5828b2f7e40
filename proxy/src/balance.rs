//! How a cluster chooses among its endpoints, as the config says it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::Slot;
use polyport_router::Ring;
use polyport_router::balance::{Keyed, Maglev, Rules};

use crate::snapshot::Endpoint;

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

impl fmt::Display for Eligibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rules.panic {
            0 => f.write_str("no panic")?,
            panic => write!(f, "panic below {panic}% usable")?,
        }
        if self.rules.zoned {
            write!(f, ", own zone first while {}% of it are usable", self.rules.min_local)?;
        }
        if !self.slow_start.is_zero() {
            write!(f, ", slow start {:?}", self.slow_start)?;
        }
        if self.any_subset {
            f.write_str(", any endpoint where none with the labels is usable")?;
        }
        Ok(())
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
#[derive(Debug, Clone)]
pub struct Set {
    /// Index into the snapshot's clusters.
    pub cluster: usize,
    /// Indices into the cluster's endpoints.
    pub endpoints: Vec<usize>,
    /// From hashes to positions in `endpoints`, where messages may have a key.
    pub table: Option<Keyed>,
    /// The set to fall back to where nobody in this one can be used.
    pub fallback: Option<usize>,
}

impl Set {
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
        assert_eq!(Eligibility::default().to_string(), "panic below 50% usable");
    }
}
