//! How a cluster chooses among its endpoints.

use std::collections::BTreeMap;

use polyport_codecs::{Interest, Registry};
use toml::de::DeValue;

use super::diagnostic::suggest;
use super::matchers::known_key;
use super::reader::{Reader, Value};
use crate::snapshot::{Balance, Cluster, Eligibility, Endpoint, Hashing, Place, Set};

/// The ways to balance that have a name only.
const WAYS: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("least-request", Balance::LeastRequest),
    ("ewma", Balance::Ewma),
    ("random", Balance::Random),
];

/// `balance` of a cluster.
pub(super) fn read(
    section: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Balance {
    let Some(value) = section.get("balance") else { return Balance::Natural };
    match value.get_ref() {
        DeValue::String(way) => {
            if let Some((_, balance)) = WAYS.into_iter().find(|(name, _)| name == way) {
                return balance;
            }
            let names = WAYS.map(|(name, _)| name);
            let help = suggest(way, names).unwrap_or_else(|| {
                let names = names.join(", ");
                format!("there are {names}, {{ hash = \"key\" }} and {{ maglev = \"key\" }}")
            });
            let message = format!("unknown balance `{way}`");
            section.source.error(value.span(), message, Some(help));
        }
        DeValue::Table(table) => {
            let table = Reader::new(section.source, table, value.span(), "balance");
            if let Some(hashing) = hashing(&table, registry, interest) {
                return Balance::Hash(hashing);
            }
        }
        _ => section.wrong(value, "a way to balance, or { hash = \"key\" }"),
    }
    Balance::Natural
}

fn hashing(
    table: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Option<Hashing> {
    table.finish(&["hash", "maglev", "bound"]);
    if let (Some(_), Some(value)) = (table.get("hash"), table.get("maglev")) {
        let help = "remove one of them".to_owned();
        table.source.error(value.span(), "both `hash` and `maglev`".into(), Some(help));
        return None;
    }
    let maglev = table.get("maglev").is_some();
    let (key, span) = match maglev {
        true => table.string("maglev")?,
        false => table.required("hash", "\"key\"")?,
    };
    let bound = table.get("bound").and_then(|value| bound(table, value));
    known_key(table.source, registry, None, key, span).then(|| Hashing {
        slot: interest.add(key),
        key: key.into(),
        maglev,
        bound,
    })
}

/// In percent.
fn bound(table: &Reader<'_, '_>, value: &Value<'_>) -> Option<u32> {
    let number: Option<f64> = match value.get_ref() {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        other => super::reader::integer(other).map(|number| number as f64),
    };
    match number {
        Some(number) if (1.0..=100.0).contains(&number) => Some((number * 100.0).round() as u32),
        Some(_) => {
            let help = "1.25 lets nobody have more than 1.25 times its share".to_owned();
            let message = "expected a number from 1 to 100".to_owned();
            table.source.error(value.span(), message, Some(help));
            None
        }
        None => {
            table.wrong(value, "a number such as 1.25");
            None
        }
    }
}

/// Who of a cluster may be chosen at all; `zone` is ours.
pub(super) fn eligibility(
    section: &Reader<'_, '_>,
    endpoints: &[Endpoint],
    zone: Option<&str>,
) -> Eligibility {
    let mut all = Eligibility::default();
    if let Some(panic) = section.integer("panic", 0..=100) {
        all.rules.panic = panic as u8;
    }
    all.slow_start = section.duration("slow-start").unwrap_or_default();
    if let Some(locality) = section.section("locality", "locality") {
        locality.finish(&["min-local"]);
        if let Some(percent) = locality.integer("min-local", 1..=100) {
            all.rules.min_local = percent as u8;
        }
        let zoned = endpoints.iter().any(|endpoint| endpoint.place.zone.is_some());
        // What is found later may have its zone.
        let later = zone.is_some() && section.get("discover").is_some();
        if (zone.is_none() || !zoned) && !later {
            let (message, help) = match zone {
                None => (
                    "`locality` without knowing where we are",
                    "add zone = \"NAME\" at the top of the config",
                ),
                Some(_) => (
                    "`locality` of a cluster without zones",
                    "say where the endpoints are: { address = \"host:port\", zone = \"NAME\" }",
                ),
            };
            section.source.warn(locality.span.clone(), message.into(), Some(help.into()));
        }
    }
    all.rules.zoned = endpoints.iter().any(|endpoint| endpoint.place.local);
    all.any_subset = match section.string("subset-fallback") {
        None | Some(("none", _)) => false,
        Some(("any", _)) => true,
        Some((other, span)) => {
            let help = "there are \"none\" and \"any\"".to_owned();
            section.source.error(span, format!("unknown subset-fallback `{other}`"), Some(help));
            false
        }
    };
    all
}

/// Where an endpoint stands; `zone` is ours.
pub(super) fn place(endpoint: &Reader<'_, '_>, zone: Option<&str>) -> Place {
    let own = endpoint.string("zone").map(|(own, _)| own);
    Place {
        priority: endpoint.integer("priority", 0..=255).unwrap_or(0) as u8,
        zone: own.map(str::to_owned),
        local: own.is_some() && own == zone,
    }
}

/// The sets of endpoints that routes need, each once however many routes need it.
pub(super) struct Sets {
    list: Vec<Set>,
}

impl Sets {
    /// All endpoints of each cluster, laid over the sets that there were.
    pub(super) fn new(had: &[Set], clusters: &mut [Cluster]) -> Self {
        let mut sets = Self { list: had.to_vec() };
        for set in &mut sets.list {
            // Whether anybody still needs it, or its table, is to be seen.
            (set.asked, set.keyed, set.fallback) = (false, false, None);
        }
        for (at, cluster) in clusters.iter_mut().enumerate() {
            cluster.set = sets.find(at, &BTreeMap::new());
        }
        sets
    }

    fn find(&mut self, cluster: usize, labels: &BTreeMap<String, String>) -> usize {
        let known = |set: &Set| set.cluster == cluster && set.labels == *labels;
        self.list.iter().position(known).unwrap_or_else(|| {
            self.list.push(Set { cluster, labels: labels.clone(), ..Set::default() });
            self.list.len() - 1
        })
    }

    /// The set of the endpoints with these labels. `keyed`: messages with a key of their
    /// protocol's own may come.
    pub(super) fn of(
        &mut self,
        clusters: &[Cluster],
        cluster: usize,
        labels: &BTreeMap<String, String>,
        keyed: bool,
    ) -> usize {
        let at = self.find(cluster, labels);
        let settings = clusters.get(cluster);
        // Where the whole cluster is a fallback, it needs a table too.
        let any = settings.filter(|settings| settings.eligibility.any_subset);
        let any = any.map(|settings| settings.set).filter(|any| *any != at);
        for at in std::iter::once(at).chain(any) {
            if let Some(set) = self.list.get_mut(at) {
                set.asked = true;
                set.keyed |= keyed;
            }
        }
        if let Some(set) = self.list.get_mut(at) {
            set.fallback = any;
        }
        at
    }

    /// The sets with their endpoints and tables. `had`: those that there were, and the
    /// clusters they are of.
    pub(super) fn finish(mut self, clusters: &[Cluster], had: &[Set], of: &[Cluster]) -> Vec<Set> {
        for (at, set) in self.list.iter_mut().enumerate() {
            let before = had.get(at);
            let before = before.and_then(|before| Some((before, of.get(before.cluster)?)));
            if let Some(cluster) = clusters.get(set.cluster) {
                set.fill(cluster, before);
            }
        }
        self.list
    }
}
