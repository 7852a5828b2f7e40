//! The endpoints that a message may find.

use polyport_router::hash_key;
use serde::Serialize;

use super::Message;
use super::decision::Fact;
use crate::snapshot::{Balance, Cluster, Eligibility, Hashing, Target};

/// An arm of a split, or a mirror's target.
#[derive(Debug, Serialize)]
pub(super) struct Arm {
    pub(super) cluster: String,
    /// Of all messages of the route, 0 to 1.
    pub(super) share: f64,
    /// Whether this message takes it; none: that is left to chance.
    pub(super) taken: Option<bool>,
    pub(super) balance: String,
    /// The key that the endpoint is found by.
    pub(super) by: Option<Fact>,
    /// What decides who may be chosen, where that is not as it is by default.
    pub(super) eligibility: Option<String>,
    /// The endpoint that was found takes no more than its share.
    pub(super) bounded: bool,
    /// Those that the labels leave.
    pub(super) endpoints: Vec<One>,
    /// Where they are found while the proxy runs.
    pub(super) discover: Option<String>,
    pub(super) breaker: Option<String>,
    pub(super) health: Option<String>,
    pub(super) outliers: Option<String>,
    pub(super) retry_budget: Option<String>,
}

/// An endpoint.
#[derive(Debug, Serialize)]
pub(super) struct One {
    pub(super) address: String,
    pub(super) weight: u32,
    pub(super) zone: Option<String>,
    pub(super) priority: u8,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    /// Of what the target gets while all are well, 0 to 1.
    pub(super) share: f64,
    /// While all are well, it is the one.
    pub(super) chosen: bool,
}

impl Arm {
    /// `budget`: the route tries again, so that the cluster's budget for that matters.
    pub(super) fn of(
        message: &Message<'_>,
        target: &Target,
        share: f64,
        taken: Option<bool>,
        budget: bool,
    ) -> Option<Self> {
        let cluster = message.snapshot.clusters.get(target.cluster)?;
        let eligibility = Eligibility { rules: cluster.rules(), ..cluster.eligibility };
        Some(Self {
            cluster: cluster.name.clone(),
            share,
            taken,
            balance: balance(message, cluster),
            by: cluster.balance.key(message.affinity()).map(|slot| Fact {
                key: message.key(slot),
                value: cluster
                    .balance
                    .value(message.affinity(), &message.view)
                    .map(|value| value.escape_ascii().to_string()),
            }),
            eligibility: Some(eligibility.to_string()).filter(|words| !words.is_empty()),
            bounded: matches!(cluster.balance, Balance::Hash(Hashing { bound: Some(_), .. })),
            endpoints: endpoints(message, target, cluster)?,
            discover: cluster.discover.as_ref().map(|discover| discover.from.to_string()),
            breaker: cluster.breaker.as_ref().map(ToString::to_string),
            health: cluster.checks.as_ref().map(ToString::to_string),
            outliers: cluster.outliers.as_ref().map(ToString::to_string),
            retry_budget: budget.then(|| cluster.retry_budget.to_string()),
        })
    }
}

/// How an endpoint is chosen, for messages of this protocol.
fn balance(message: &Message<'_>, cluster: &Cluster) -> String {
    match (&cluster.balance, message.protocol, message.affinity()) {
        (Balance::Natural, Some(_), Some(slot)) => format!("hash of {}", message.key(slot)),
        (Balance::Natural, Some(_), None) => Balance::RoundRobin.to_string(),
        (balance, ..) => balance.to_string(),
    }
}

fn endpoints(message: &Message<'_>, target: &Target, cluster: &Cluster) -> Option<Vec<One>> {
    let set = message.snapshot.sets.get(target.set)?;
    let eligible = set.when_well(cluster);
    let hash = cluster.balance.value(message.affinity(), &message.view).map(hash_key);
    let home = match (&set.endpoints[..], hash, &set.table) {
        ([_], ..) => Some(0),
        (_, Some(hash), Some(table)) => table.home(hash, &eligible, |_| false),
        _ => None,
    };
    let all = eligible.len().max(1) as f64;
    let one = |(at, endpoint): (usize, &usize)| {
        let endpoint = cluster.endpoints.get(*endpoint)?;
        Some(One {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            zone: endpoint.place.zone.clone(),
            priority: endpoint.place.priority,
            labels: endpoint.labels.clone(),
            share: eligible.relative(at) / all,
            chosen: home == Some(at),
        })
    };
    Some(set.endpoints.iter().enumerate().filter_map(one).collect())
}
