//! Figures for Prometheus.
//!
//! Each worker counts into figures that it alone writes ([`series`]); whoever scrapes adds
//! them up ([`expose`]) and writes them as [`text`]. The names of what is counted are
//! admitted once each, up to a bound; what comes later is counted together as `other`.

mod expose;
pub mod histogram;
mod process;
pub mod series;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use polyport_codecs::Slot;

use histogram::Histogram;
use series::{CLASSES, ClusterSeries, FARED, Port, RouteSeries, Tables};
pub use text::Format;

use crate::control::Control;
use crate::lock::lock;
use crate::snapshot::Snapshot;
use crate::worker::Observer;

/// What is counted together because there is no room for its name.
pub const OTHER: &str = "other";

/// Config section `[metrics]`. It counts as it is when the proxy starts, but for `exemplars`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Upper bounds of the histograms' buckets, in seconds, rising.
    pub buckets: Vec<f64>,
    /// The key whose value tells exemplars, and its slot.
    pub exemplars: Option<(String, Slot)>,
    /// About so many time series may be about routes, and as many about clusters and endpoints.
    pub series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let buckets = vec![
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        Self { buckets, exemplars: None, series: 10_000 }
    }
}

/// All figures of a proxy.
#[derive(Debug)]
pub struct Metrics {
    settings: Settings,
    /// The histograms' bounds, µs.
    bounds: Arc<[u64]>,
    workers: Mutex<Vec<Arc<Mutex<Tables>>>>,
    admitted: Mutex<Names>,
}

/// Names that have figures of their own, and those that have not.
#[derive(Debug, Default)]
struct Names {
    routes: Kind<Arc<str>>,
    clusters: Kind<Arc<str>>,
    endpoints: Kind<(Arc<str>, Arc<str>)>,
}

#[derive(Debug)]
struct Kind<K> {
    own: HashSet<K>,
    /// Bounded as the others are: beyond that they are counted no more.
    merged: HashSet<K>,
}

impl<K> Default for Kind<K> {
    fn default() -> Self {
        Self { own: HashSet::new(), merged: HashSet::new() }
    }
}

/// Names that are remembered as merged, at most.
const MERGED: usize = 100_000;

impl<K: Clone + Eq + std::hash::Hash> Kind<K> {
    /// Whether this one has figures of its own; `room`: whether there is room for another.
    fn admit(&mut self, key: &K, room: impl FnOnce(usize) -> bool) -> bool {
        if self.own.contains(key) {
            return true;
        }
        if room(self.own.len()) {
            self.merged.remove(key);
            return self.own.insert(key.clone());
        }
        if self.merged.len() < MERGED {
            self.merged.insert(key.clone());
        }
        false
    }

    fn size(&self) -> usize {
        self.own.len() + self.merged.len()
    }

    /// Forgets the names that are neither `named` nor `held`.
    fn keep(&mut self, held: &HashSet<K>, named: impl Fn(&K) -> bool) {
        self.own.retain(|key| named(key) || held.contains(key));
        self.merged.retain(|key| named(key));
    }
}

impl Metrics {
    /// Those of a proxy that has just started.
    pub fn new(settings: Settings) -> Arc<Self> {
        let micros = |seconds: &f64| (seconds * 1e6).round() as u64;
        let metrics = Self {
            bounds: settings.buckets.iter().map(micros).collect(),
            settings,
            workers: Mutex::default(),
            admitted: Mutex::default(),
        };
        Arc::new(metrics)
    }

    /// The histograms' bounds, µs, rising.
    pub fn bounds(&self) -> &[u64] {
        &self.bounds
    }

    /// Shows what each worker has counted.
    pub(crate) fn each(&self, mut look: impl FnMut(&Tables)) {
        for tables in lock(&self.workers).iter() {
            look(&lock(tables));
        }
    }

    /// The figures of one more worker.
    fn worker(&self) -> Arc<Mutex<Tables>> {
        let tables = Arc::<Mutex<Tables>>::default();
        lock(&self.workers).push(tables.clone());
        tables
    }

    fn new_port(&self) -> Port {
        Port {
            requests: Default::default(),
            messages: Default::default(),
            connections: Default::default(),
            streams: Default::default(),
            sessions: Default::default(),
            received: Default::default(),
            sent: Default::default(),
            took: Histogram::new(&self.bounds, false),
        }
    }

    fn new_route(&self) -> RouteSeries {
        RouteSeries {
            requests: Default::default(),
            denied: Default::default(),
            request_bytes: Default::default(),
            reply_bytes: Default::default(),
            took: Histogram::new(&self.bounds, self.settings.exemplars.is_some()),
        }
    }

    fn new_cluster(&self) -> ClusterSeries {
        ClusterSeries {
            retries: Default::default(),
            unpaid: Default::default(),
            mirrored: Default::default(),
            overflows: Default::default(),
            took: Histogram::new(&self.bounds, false),
        }
    }

    /// Time series that a route may have.
    fn route_cost(&self) -> usize {
        self.bounds.len() + 3 + CLASSES.len() + 2
    }

    fn cluster_cost(&self) -> usize {
        self.bounds.len() + 3 + 10
    }

    const ENDPOINT_COST: usize = FARED.len() + 11;

    /// The name that a route's figures have.
    fn admit_route(&self, name: &str) -> Arc<str> {
        let name = Arc::from(name);
        let room = |had: usize| (had + 1) * self.route_cost() <= self.settings.series;
        if lock(&self.admitted).routes.admit(&name, room) { name } else { OTHER.into() }
    }

    /// The name that a cluster's figures have.
    fn admit_cluster(&self, name: &str) -> Arc<str> {
        let name = Arc::from(name);
        let mut names = lock(&self.admitted);
        let endpoints = names.endpoints.own.len() * Self::ENDPOINT_COST;
        let room = |had: usize| (had + 1) * self.cluster_cost() + endpoints <= self.settings.series;
        if names.clusters.admit(&name, room) { name } else { OTHER.into() }
    }

    /// The names that an endpoint's figures have: its cluster's and its own.
    fn admit_endpoint(&self, cluster: &str, address: SocketAddr) -> (Arc<str>, Arc<str>) {
        let key = (Arc::from(cluster), Arc::from(address.to_string().as_str()));
        let mut names = lock(&self.admitted);
        let clusters = names.clusters.own.len() * self.cluster_cost();
        let room = |had: usize| (had + 1) * Self::ENDPOINT_COST + clusters <= self.settings.series;
        if names.endpoints.admit(&key, room) { key } else { (OTHER.into(), OTHER.into()) }
    }
}

impl Metrics {
    /// Drops what the config no longer names and no worker counts into any more.
    fn sweep(&self, snapshot: &Snapshot) {
        let mut names = lock(&self.admitted);
        let (routes, endpoints) = (names.routes.size(), names.endpoints.size());
        let clusters = names.clusters.size();
        let known = snapshot.clusters.iter().map(|cluster| cluster.endpoints.len()).sum::<usize>();
        // Nothing is gone as long as there are no more names than the config has.
        if routes <= snapshot.routes.routes().len()
            && clusters <= snapshot.clusters.len()
            && endpoints <= known
        {
            return;
        }
        let has_route: HashSet<&str> =
            snapshot.routes.routes().iter().map(|route| route.name.as_str()).collect();
        let mut has_endpoint: HashSet<(&str, String)> = HashSet::new();
        let mut has_cluster: HashSet<&str> = HashSet::new();
        for cluster in &snapshot.clusters {
            has_cluster.insert(&cluster.name);
            let addresses = cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string());
            has_endpoint.extend(addresses.map(|address| (cluster.name.as_str(), address)));
        }
        let route = |name: &Arc<str>| **name == *OTHER || has_route.contains(&**name);
        let cluster = |name: &Arc<str>| **name == *OTHER || has_cluster.contains(&**name);
        let endpoint = |(of, address): &(Arc<str>, Arc<str>)| {
            **of == *OTHER || has_endpoint.contains(&(&**of, address.to_string()))
        };
        let mut held = Names::default();
        for tables in lock(&self.workers).iter() {
            let mut tables = lock(tables);
            let Tables { routes, clusters, endpoints, .. } = &mut *tables;
            settle(routes, &mut held.routes.own, route);
            settle(clusters, &mut held.clusters.own, cluster);
            settle(endpoints, &mut held.endpoints.own, endpoint);
        }
        names.routes.keep(&held.routes.own, route);
        names.clusters.keep(&held.clusters.own, cluster);
        names.endpoints.keep(&held.endpoints.own, endpoint);
    }
}

/// Drops what is not named and nobody else holds; the others that are not named are `held`.
fn settle<K: Clone + Ord + std::hash::Hash, T>(
    of: &mut BTreeMap<K, Arc<T>>,
    held: &mut HashSet<K>,
    named: impl Fn(&K) -> bool,
) {
    of.retain(|key, series| {
        let stays = named(key) || Arc::strong_count(series) > 1;
        if stays && !named(key) {
            held.insert(key.clone());
        }
        stays
    });
}

/// All figures of a proxy as a text. Costs nothing where nobody asks.
pub fn render(metrics: &Metrics, control: &Control, seen: &Observer, format: Format) -> String {
    let snapshot = control.snapshot();
    let mut families = metrics.families(&snapshot, &seen.totals(), &control.reloads(), seen.now());
    families.extend(expose::of_overload(seen.overload().figures()));
    let key = metrics.settings.exemplars.as_ref().map_or("", |(key, _)| key.as_str());
    text::write(&families, &metrics.settings.buckets, &expose::label(key), format)
}
