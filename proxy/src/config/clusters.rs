//! `[[cluster]]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Interest, Registry};
use toml::de::DeValue;

use super::balance;
use super::outline::{Outline, said};
use super::reader::{Reader, Value};
use super::retry;
use super::settings::ClusterDefaults;
use super::transport;
use super::{Resolve, health};
use crate::carry;
use crate::health::Health;
use crate::health::outlier::Outliers;
use crate::snapshot::{Cluster, Endpoint, Place, Snapshot};

/// The clusters, and where each stands; those that the config has no longer stand nowhere.
pub(super) struct Clusters {
    pub(super) list: Vec<Cluster>,
    pub(super) spans: Vec<Option<Range<usize>>>,
}

impl Clusters {
    /// The position of the cluster of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|cluster| cluster.name == name && !cluster.retired)
    }

    /// The names there are.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.list.iter().filter(|cluster| !cluster.retired).map(|cluster| cluster.name.as_str())
    }
}

#[expect(clippy::too_many_arguments, reason = "all that a config says once")]
pub(super) fn read(
    root: &mut Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
    resolve: Resolve<'_>,
    defaults: &ClusterDefaults,
    zone: Option<&str>,
    outline: &mut Outline,
    before: Option<&Snapshot>,
) -> Clusters {
    let had = before.map_or(&[][..], |before| &before.clusters);
    let mut clusters =
        Clusters { list: had.iter().map(carry::retired).collect(), spans: vec![None; had.len()] };
    for section in root.sections("cluster", "[[cluster]]") {
        section.finish(&[
            "name",
            "endpoints",
            "discover",
            "balance",
            "locality",
            "slow-start",
            "panic",
            "subset-fallback",
            "exchange",
            "tls",
            "proxy-protocol",
            "http2",
            "connect-timeout",
            "connections",
            "max-connections",
            "max-requests",
            "idle-timeout",
            "heartbeat",
            "breaker",
            "health",
            "outlier",
            "retry-budget",
        ]);
        let Some((name, span)) = section.required("name", "\"orders\"") else { continue };
        if outline.clusters.insert(name.to_owned(), said(&section)).is_some() {
            section.source.error(span.clone(), format!("two clusters are called `{name}`"), None);
        }
        let live = had.iter().find(|had| had.name == name && !had.retired);
        let discover = super::discover::read(&section, zone).map(|discover| {
            // The same one goes on undisturbed.
            let same = live.and_then(|had| had.discover.as_ref()).filter(|had| ***had == discover);
            same.cloned().unwrap_or_else(|| Arc::new(discover))
        });
        let endpoints = match section.get("discover") {
            None => endpoints(&section, resolve, zone),
            // What was known stays until something better is.
            Some(_) => {
                let all = live.into_iter().flat_map(|had| &had.endpoints);
                all.filter(|endpoint| !endpoint.retired).cloned().collect()
            }
        };
        let eligibility = balance::eligibility(&section, &endpoints, zone);
        let http2 = section.boolean("http2").unwrap_or(false);
        if http2 && let Some((_, span)) = section.string("proxy-protocol") {
            let message = "a PROXY header names one client, and streams of many share a connection";
            let help = "remove http2 or proxy-protocol; x-forwarded-for names the client";
            section.source.error(span, message.into(), Some(help.into()));
        }
        let number = |key: &str, default: usize| {
            section.integer(key, 1..=1 << 20).map_or(default, |number| number as usize)
        };
        let duration = |key: &str, default: Duration| section.duration(key).unwrap_or(default);
        let cluster = Cluster {
            name: name.to_owned(),
            set: 0,
            epoch: 0,
            retired: false,
            health: endpoints.iter().map(|_| Health::default()).collect(),
            breaker: super::breaker::read(&section, endpoints.len()).map(Arc::new),
            checks: health::checks(&section, registry, http2),
            outliers: health::outlier(&section)
                .map(|rules| Arc::new(Outliers::new(rules, endpoints.len()))),
            endpoints,
            discover,
            balance: balance::read(&section, registry, interest),
            eligibility,
            connect_timeout: duration("connect-timeout", defaults.connect_timeout),
            connections: number("connections", 1),
            max_connections: number("max-connections", 4096),
            max_requests: number("max-requests", 65_536),
            idle_timeout: duration("idle-timeout", Duration::from_secs(60)),
            tls: transport::client(&section, http2),
            proxy_protocol: transport::proxy_version(&section),
            http2,
            ordered: ordered(&section),
            retry_budget: retry::budget(&section),
            heartbeat: duration("heartbeat", Duration::from_secs(15)),
        };
        match had.iter().position(|had| had.name == name) {
            Some(at) => {
                let words = |outline: &'_ Outline, key: &str| {
                    outline.of_cluster(name, key).map(str::to_owned)
                };
                let same = |key: &str| {
                    before.is_some_and(|b| words(&b.outline, key) == words(outline, key))
                };
                if let (Some(place), Some(had)) = (clusters.list.get_mut(at), had.get(at)) {
                    *place = carry::cluster(had, cluster, same);
                }
                if let Some(place) = clusters.spans.get_mut(at) {
                    *place = Some(span);
                }
            }
            None => {
                let endpoints = carry::endpoints(&[], cluster.endpoints);
                clusters.list.push(Cluster { endpoints, ..cluster });
                clusters.spans.push(Some(span));
            }
        }
    }
    clusters
}

fn endpoints(section: &Reader<'_, '_>, resolve: Resolve<'_>, zone: Option<&str>) -> Vec<Endpoint> {
    let example = "endpoints = [\"127.0.0.1:6379\"]";
    let Some(value) = section.get("endpoints") else {
        let message = "[[cluster]] without `endpoints`".to_owned();
        section.source.error(
            section.span.clone(),
            message,
            Some(format!("add {example}, or discover")),
        );
        return Vec::new();
    };
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, "an array of endpoints");
        return Vec::new();
    };
    if array.is_empty() {
        let message = "a cluster without endpoints".to_owned();
        section.source.error(value.span(), message, Some(format!("write {example}")));
    }
    let mut all = Vec::new();
    for value in array {
        all.extend(endpoint(section, value, resolve, zone));
    }
    all
}

fn endpoint(
    section: &Reader<'_, '_>,
    value: &Value<'_>,
    resolve: Resolve<'_>,
    zone: Option<&str>,
) -> Vec<Endpoint> {
    let (mut weight, mut labels, mut place) = (1, BTreeMap::new(), Place::default());
    let (text, span) = match value.get_ref() {
        DeValue::String(text) => (text.as_ref(), value.span()),
        DeValue::Table(table) => {
            let endpoint = Reader::new(section.source, table, value.span(), "an endpoint");
            endpoint.finish(&["address", "weight", "labels", "zone", "priority"]);
            place = balance::place(&endpoint, zone);
            weight = endpoint.integer("weight", 1..=10_000).unwrap_or(1) as u32;
            if let Some(section) = endpoint.section("labels", "labels") {
                for (key, _, value) in section.entries() {
                    match value.get_ref() {
                        DeValue::String(text) => {
                            labels.insert(key.to_owned(), text.to_string());
                        }
                        _ => section.wrong(value, "a string"),
                    }
                }
            }
            match endpoint.required("address", "\"127.0.0.1:6379\"") {
                Some(found) => found,
                None => return Vec::new(),
            }
        }
        _ => {
            section.wrong(value, "\"host:port\" or { address = \"host:port\" }");
            return Vec::new();
        }
    };
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let addresses = match text.parse::<SocketAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) if !text.contains(':') => {
            let help = Some(format!("write \"{text}:PORT\""));
            section.source.error(span, format!("`{text}` has no port"), help);
            return Vec::new();
        }
        Err(_) => resolve(text),
    };
    match addresses {
        Ok(addresses) if !addresses.is_empty() => addresses
            .into_iter()
            .map(|address| Endpoint {
                address,
                host: host.to_owned(),
                weight,
                labels: labels.clone(),
                place: place.clone(),
                drained: false,
                retired: false,
                tenant: 0,
            })
            .collect(),
        Ok(_) => {
            section.source.error(span, format!("`{text}` has no address"), None);
            Vec::new()
        }
        Err(error) => {
            section.source.error(span, format!("cannot find `{text}`: {error}"), None);
            Vec::new()
        }
    }
}

/// Whether replies come in request order although their protocol could tell them apart.
fn ordered(section: &Reader<'_, '_>) -> bool {
    match section.string("exchange") {
        None | Some(("natural", _)) => false,
        Some(("ordered", _)) => true,
        Some((other, span)) => {
            let help = "there are \"ordered\", for servers that do not repeat a request's id, and \"natural\"";
            section.source.error(span, format!("unknown exchange `{other}`"), Some(help.into()));
            false
        }
    }
}
