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
    pub(super) list: Vec<Set>,
    known: BTreeMap<(usize, Vec<usize>), usize>,
}

impl Sets {
    /// All endpoints of each cluster.
    pub(super) fn new(clusters: &[Cluster]) -> Self {
        let mut sets = Self { list: Vec::new(), known: BTreeMap::new() };
        for (cluster, settings) in clusters.iter().enumerate() {
            let endpoints: Vec<usize> = (0..settings.endpoints.len()).collect();
            sets.known.insert((cluster, endpoints.clone()), cluster);
            sets.list.push(Set { cluster, endpoints, table: None, fallback: None });
        }
        sets
    }

    /// The set of these endpoints. `keyed`: messages with a key of their protocol's own
    /// may come.
    pub(super) fn of(
        &mut self,
        clusters: &[Cluster],
        cluster: usize,
        endpoints: &[usize],
        keyed: bool,
    ) -> usize {
        let next = self.list.len();
        let at = *self.known.entry((cluster, endpoints.to_vec())).or_insert(next);
        let any = clusters.get(cluster).is_some_and(|cluster| cluster.eligibility.any_subset);
        if at == next {
            let fallback = any.then_some(cluster);
            self.list.push(Set { cluster, endpoints: endpoints.to_vec(), table: None, fallback });
        }
        // Where the whole cluster is a fallback, it needs a table too.
        for at in std::iter::once(at).chain(any.then_some(cluster)) {
            let (Some(set), Some(cluster)) = (self.list.get_mut(at), clusters.get(cluster)) else {
                continue;
            };
            let hashed = match cluster.balance {
                Balance::Hash(_) => true,
                Balance::Natural => keyed,
                _ => false,
            };
            let choice = set.endpoints.len() > 1 || set.fallback.is_some();
            if hashed && choice && set.table.is_none() {
                let endpoints: Vec<&Endpoint> =
                    set.endpoints.iter().filter_map(|at| cluster.endpoints.get(*at)).collect();
                set.table = Some(Set::table(&cluster.balance, &endpoints));
            }
        }
        at
    }
}
