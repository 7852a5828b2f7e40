//! What each worker counts, where nobody else writes. Names are looked up when a worker
//! meets a route or an endpoint for the first time; after that its figures are found by
//! position.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use polyport_codecs::{DIALECTS, Fault, Outcome};

use super::histogram::Histogram;
use super::{Metrics, OTHER};
use crate::engine::report::{Ended, Ending};
use crate::lock::lock;
use crate::snapshot::Snapshot;

/// A figure that one thread writes and others read: no bus cycle is locked for it.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// So many less.
    pub fn sub(&self, less: u64) {
        self.0.store(self.get().saturating_sub(less), Ordering::Relaxed);
    }

    /// Ending many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The classes in which requests end, in the order of their figures.
pub const CLASSES: [&str; 12] = [
    "ok",
    "app-error",
    "server-error",
    "unavailable",
    "overloaded",
    "timeout",
    "one-way",
    "session",
    "fault",
    "local",
    "reset",
    "abandoned",
];

/// The faults, in the order of their figures.
pub const FAULTS: [(Fault, &str); 12] = [
    (Fault::NoRoute, "no-route"),
    (Fault::NoHealthyEndpoint, "no-healthy-endpoint"),
    (Fault::ConnectFailed, "connect-failed"),
    (Fault::UpstreamReset, "upstream-reset"),
    (Fault::Timeout, "timeout"),
    (Fault::TooLarge, "too-large"),
    (Fault::Malformed, "malformed"),
    (Fault::Overloaded, "overloaded"),
    (Fault::Denied, "denied"),
    (Fault::Unsupported, "unsupported"),
    (Fault::ShuttingDown, "shutting-down"),
    (Fault::Expired, "expired"),
];

/// Ending tries fared at an endpoint, in the order of their figures.
pub const FARED: [&str; 8] = [
    "ok",
    "app-error",
    "server-error",
    "unavailable",
    "overloaded",
    "timeout",
    "no-reply",
    "connection-lost",
];

/// Why rules refused messages, in the order of their figures.
pub const DENIALS: [&str; 3] = ["deny", "only", "limit"];

/// Which bounds of a cluster were met, in the order of their figures.
pub const BOUNDS: [&str; 3] = ["connections", "requests", "pending"];

/// Where a reply's outcome stands among [`CLASSES`], and among [`FARED`].
pub fn reply_at(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Ok => 0,
        Outcome::AppError => 1,
        Outcome::ServerError => 2,
        Outcome::Unavailable => 3,
        Outcome::Overloaded => 4,
        Outcome::Timeout => 5,
    }
}

fn fault_at(fault: Fault) -> usize {
    FAULTS.iter().position(|(had, _)| *had == fault).unwrap_or_default()
}

/// The class of a request that ended like this; `None`: it is none, or has not ended.
pub fn class(how: Ending) -> Option<usize> {
    Some(match how {
        Ending::Replied { outcome, .. } => reply_at(outcome),
        Ending::Sent => 6,
        Ending::Opened => 7,
        Ending::Failed { .. } => 8,
        Ending::Local => 9,
        Ending::Reset => 10,
        Ending::Abandoned => 11,
        Ending::Passed | Ending::Refused(_) | Ending::Over { .. } => return None,
    })
}

/// Adds where there is a place.
fn bump(cells: &[Cell], at: usize, more: u64) {
    if let Some(cell) = cells.get(at) {
        cell.add(more);
    }
}

/// Ending requests ended.
#[derive(Debug, Default)]
pub struct Requests {
    /// By [`CLASSES`].
    pub classes: [Cell; CLASSES.len()],
    /// Those with a fault, by [`FAULTS`].
    pub faults: [Cell; FAULTS.len()],
}

impl Requests {
    fn note(&self, class: usize, how: Ending) {
        bump(&self.classes, class, 1);
        if let Ending::Failed { fault, .. } = how {
            bump(&self.faults, fault_at(fault), 1);
        }
    }
}

/// Clients of one listener that speak one protocol, in one of its dialects: requests, messages
/// and sessions by what they are; connections, streams and bytes by what carries them.
#[derive(Debug)]
pub struct Port {
    /// Their requests.
    pub requests: Requests,
    /// Messages of their sessions that passed, and those that did not.
    pub messages: [Cell; 2],
    /// Connections accepted, and now open.
    pub connections: [Cell; 2],
    /// Streams of connections that carry many, opened and now open.
    pub streams: [Cell; 2],
    /// Sessions now open.
    pub sessions: Cell,
    /// Bytes read.
    pub received: Cell,
    /// Bytes written.
    pub sent: Cell,
    /// Requests, from head to end.
    pub took: Histogram,
}

impl Port {
    fn carried(&self, stream: bool) -> &[Cell; 2] {
        if stream { &self.streams } else { &self.connections }
    }
}

/// Messages of one route.
#[derive(Debug)]
pub struct RouteSeries {
    /// Ending they ended.
    pub requests: Requests,
    /// Refused, by [`DENIALS`].
    pub denied: [Cell; DENIALS.len()],
    /// Bytes of requests.
    pub request_bytes: Cell,
    /// Bytes of replies.
    pub reply_bytes: Cell,
    /// From head to end.
    pub took: Histogram,
}

/// What goes to one cluster.
#[derive(Debug)]
pub struct ClusterSeries {
    /// Tries after the first.
    pub retries: Cell,
    /// Tries that the budget did not allow.
    pub unpaid: Cell,
    /// Copies for nobody.
    pub mirrored: Cell,
    /// Refused at a bound, by [`BOUNDS`].
    pub overflows: [Cell; BOUNDS.len()],
    /// From when a try was sent to its end.
    pub took: Histogram,
}

/// What goes to one endpoint.
#[derive(Debug, Default)]
pub struct EndpointSeries {
    /// Ending tries fared, by [`FARED`].
    pub fared: [Cell; FARED.len()],
    /// Connections asked for, and those now open or being set up.
    pub connections: [Cell; 2],
    /// Connections that did not come about.
    pub unconnected: Cell,
    /// Requests in flight.
    pub requests: Cell,
    /// Sessions now open.
    pub sessions: Cell,
    /// Bytes of requests.
    pub request_bytes: Cell,
    /// Bytes of replies.
    pub reply_bytes: Cell,
}

/// Clients whose protocol is not yet known, or never was.
pub const UNKNOWN: usize = usize::MAX;
/// Clients whose bytes are opaque.
pub const OPAQUE: usize = usize::MAX - 1;

/// Listener, protocol and dialect.
pub type PortName = (Arc<str>, Arc<str>, Arc<str>);

/// All that one worker counts, by name. The worker locks it only when it meets a
/// name for the first time.
#[derive(Debug, Default)]
pub struct Tables {
    /// By listener, protocol and dialect.
    pub ports: BTreeMap<PortName, Arc<Port>>,
    /// By name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteSeries>>,
    /// By name.
    pub clusters: BTreeMap<Arc<str>, Arc<ClusterSeries>>,
    /// By cluster and address.
    pub endpoints: BTreeMap<(Arc<str>, Arc<str>), Arc<EndpointSeries>>,
}

/// A connection that has left the engine and still counts as open.
#[derive(Debug)]
pub struct Open(Arc<Port>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections[1].sub(1);
    }
}

struct Nobody {
    port: Port,
    route: RouteSeries,
    cluster: ClusterSeries,
    endpoint: EndpointSeries,
}

/// A worker's figures, as the worker sees them.
pub struct Series {
    metrics: Arc<Metrics>,
    tables: Arc<Mutex<Tables>>,
    /// For positions that nothing stands at.
    nobody: Nobody,
    /// By listener, then protocol and dialect: each protocol has [`DIALECTS`] places. The last
    /// two are [`OPAQUE`] and [`UNKNOWN`].
    ports: Vec<Vec<Option<Arc<Port>>>>,
    routes: Vec<Option<Arc<RouteSeries>>>,
    clusters: Vec<Option<Arc<ClusterSeries>>>,
    endpoints: Vec<Vec<Option<Arc<EndpointSeries>>>>,
}

/// The place in a list that grows.
fn place<T: Default>(list: &mut Vec<T>, at: usize) -> Option<&mut T> {
    if at >= list.len() {
        // Positions come from a config, which is in memory as well.
        list.resize_with(at.checked_add(1)?, T::default);
    }
    list.get_mut(at)
}

/// The place of a listener's figures of a protocol and dialect.
fn port_at(snapshot: &Snapshot, protocol: usize, dialect: u8) -> usize {
    let dialect = usize::from(dialect).min(DIALECTS - 1);
    let last = snapshot.protocols.len() * DIALECTS;
    match protocol {
        UNKNOWN => last + 1,
        OPAQUE => last,
        at => at.saturating_mul(DIALECTS).saturating_add(dialect),
    }
}

/// The dialect that a connection counts as, or a stream of one.
fn carrier(snapshot: &Snapshot, protocol: usize, stream: bool) -> u8 {
    let enabled = snapshot.protocols.get(protocol).filter(|_| stream);
    enabled.map_or(0, |enabled| enabled.protocol.stream_dialect())
}

impl Series {
    /// A new worker's, which `metrics` knows from then on.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let tables = metrics.worker();
        let (ports, routes, clusters, endpoints) = Default::default();
        let nobody = Nobody {
            port: metrics.new_port(),
            route: metrics.new_route(),
            cluster: metrics.new_cluster(),
            endpoint: EndpointSeries::default(),
        };
        Self { metrics, tables, nobody, ports, routes, clusters, endpoints }
    }

    /// Another config is in use: positions may mean others. Routes' numbers do not; of those
    /// that are gone the worker lets go.
    pub fn renew(&mut self, snapshot: &Snapshot) {
        self.ports.clear();
        self.clusters.clear();
        self.endpoints.clear();
        // There may be room now for those that there was none for.
        let other = self.tables().routes.get(OTHER).cloned();
        let mut routes = Vec::with_capacity(self.routes.len());
        for id in &snapshot.route_ids {
            let Some(known) = self.routes.get_mut(*id).and_then(Option::take) else { continue };
            if other.as_ref().is_some_and(|other| Arc::ptr_eq(other, &known)) {
                continue;
            }
            if let Some(place) = place(&mut routes, *id) {
                *place = Some(known);
            }
        }
        self.routes = routes;
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        lock(&self.tables)
    }

    /// The figures of a listener's clients of one protocol, in one of its dialects.
    #[inline]
    pub fn port(
        &mut self,
        snapshot: &Snapshot,
        listener: usize,
        protocol: usize,
        dialect: u8,
    ) -> &Port {
        let at = port_at(snapshot, protocol, dialect);
        let known = self.ports.get(listener).and_then(|ports| ports.get(at));
        if !known.is_some_and(Option::is_some) {
            self.meet_port(snapshot, listener, (protocol, dialect), at);
        }
        match self.ports.get(listener).and_then(|ports| ports.get(at)) {
            Some(Some(port)) => port,
            _ => &self.nobody.port,
        }
    }

    /// Those that a connection's own figures go to, or a stream's, to be kept.
    pub fn port_of(
        &mut self,
        snapshot: &Snapshot,
        listener: usize,
        protocol: usize,
        stream: bool,
    ) -> Option<Arc<Port>> {
        let dialect = carrier(snapshot, protocol, stream);
        self.port(snapshot, listener, protocol, dialect);
        self.ports.get(listener)?.get(port_at(snapshot, protocol, dialect))?.clone()
    }

    #[cold]
    fn meet_port(
        &mut self,
        snapshot: &Snapshot,
        listener: usize,
        (protocol, dialect): (usize, u8),
        at: usize,
    ) {
        let (name, dialect) = match protocol {
            UNKNOWN => ("unknown", "unknown"),
            OPAQUE => ("tcp", "tcp"),
            at => match snapshot.protocols.get(at).map(|enabled| enabled.protocol) {
                Some(protocol) => (protocol.name(), protocol.dialect(dialect)),
                None => ("unknown", "unknown"),
            },
        };
        let Some(settings) = snapshot.listeners.get(listener) else { return };
        let key = (Arc::from(settings.name.as_str()), Arc::from(name), Arc::from(dialect));
        let new = || Arc::new(self.metrics.new_port());
        let port = self.tables().ports.entry(key).or_insert_with(new).clone();
        let ports = place(&mut self.ports, listener);
        if let Some(place) = ports.and_then(|ports| place(ports, at)) {
            *place = Some(port);
        }
    }

    /// The figures of the route of this number.
    #[inline]
    pub fn route(&mut self, snapshot: &Snapshot, at: usize) -> &RouteSeries {
        if !self.routes.get(at).is_some_and(Option::is_some) {
            self.meet_route(snapshot, at);
        }
        match self.routes.get(at) {
            Some(Some(route)) => route,
            _ => &self.nobody.route,
        }
    }

    #[cold]
    fn meet_route(&mut self, snapshot: &Snapshot, at: usize) {
        let Some(name) = snapshot.known_routes.name(at) else { return };
        let name = self.metrics.admit_route(name);
        let new = || Arc::new(self.metrics.new_route());
        let route = self.tables().routes.entry(name).or_insert_with(new).clone();
        if let Some(place) = place(&mut self.routes, at) {
            *place = Some(route);
        }
    }

    /// The figures of the cluster at this position.
    #[inline]
    pub fn cluster(&mut self, snapshot: &Snapshot, at: usize) -> &ClusterSeries {
        if !self.clusters.get(at).is_some_and(Option::is_some) {
            self.meet_cluster(snapshot, at);
        }
        match self.clusters.get(at) {
            Some(Some(cluster)) => cluster,
            _ => &self.nobody.cluster,
        }
    }

    #[cold]
    fn meet_cluster(&mut self, snapshot: &Snapshot, at: usize) {
        let Some(cluster) = snapshot.clusters.get(at) else { return };
        let name = self.metrics.admit_cluster(&cluster.name);
        let new = || Arc::new(self.metrics.new_cluster());
        let cluster = self.tables().clusters.entry(name).or_insert_with(new).clone();
        if let Some(place) = place(&mut self.clusters, at) {
            *place = Some(cluster);
        }
    }

    /// The figures of a cluster's endpoint.
    #[inline]
    pub fn endpoint(
        &mut self,
        snapshot: &Snapshot,
        (cluster, at): (usize, usize),
    ) -> &EndpointSeries {
        let known = self.endpoints.get(cluster).and_then(|endpoints| endpoints.get(at));
        if !known.is_some_and(Option::is_some) {
            self.meet_endpoint(snapshot, cluster, at);
        }
        match self.endpoints.get(cluster).and_then(|endpoints| endpoints.get(at)) {
            Some(Some(endpoint)) => endpoint,
            _ => &self.nobody.endpoint,
        }
    }

    #[cold]
    fn meet_endpoint(&mut self, snapshot: &Snapshot, cluster_at: usize, at: usize) {
        let Some(cluster) = snapshot.clusters.get(cluster_at) else { return };
        let Some(endpoint) = cluster.endpoints.get(at) else { return };
        let key = self.metrics.admit_endpoint(&cluster.name, endpoint.address);
        let endpoint = self.tables().endpoints.entry(key).or_default().clone();
        let endpoints = place(&mut self.endpoints, cluster_at);
        if let Some(place) = endpoints.and_then(|endpoints| place(endpoints, at)) {
            *place = Some(endpoint);
        }
    }

    /// A message has ended, or a session. `now`: ms.
    pub fn ended(&mut self, snapshot: &Snapshot, ended: &Ended<'_>, now: u64) {
        let how = ended.how;
        let protocol = ended.protocol.unwrap_or(OPAQUE);
        let port = self.port(snapshot, ended.listener, protocol, ended.track.dialect);
        let class = class(how);
        match how {
            Ending::Passed => port.messages[0].add(1),
            Ending::Refused(_) => port.messages[1].add(1),
            Ending::Over { .. } => port.sessions.sub(1),
            _ => {}
        }
        if let Some(class) = class {
            port.requests.note(class, how);
        }
        let timed = matches!(
            how,
            Ending::Replied { .. } | Ending::Opened | Ending::Failed { .. } | Ending::Local
        );
        // All histograms have the same bounds.
        let bucket = timed.then(|| port.took.observe(ended.took));
        // The bytes of a session are counted when it is over, its opening's with them.
        let counts = !matches!(how, Ending::Opened | Ending::Passed | Ending::Refused(_));
        let Some(at) = ended.route() else { return };
        let route = self.route(snapshot, at);
        if let Some(class) = class {
            route.requests.note(class, how);
        }
        if let Some(bucket) = bucket {
            route.took.observe_in(bucket, ended.took, ended.told, now);
        }
        if counts {
            route.request_bytes.add(ended.track.request);
            route.reply_bytes.add(ended.track.reply);
            if let Some(at) = ended.track.at {
                let endpoint = self.endpoint(snapshot, at);
                endpoint.request_bytes.add(ended.track.request);
                endpoint.reply_bytes.add(ended.track.reply);
            }
        }
    }

    /// An endpoint has dealt with a try in so many µs; by [`FARED`].
    pub fn fared(&mut self, snapshot: &Snapshot, at: (usize, usize), fared: usize, took: u64) {
        bump(&self.endpoint(snapshot, at).fared, fared, 1);
        self.cluster(snapshot, at.0).took.observe(took);
    }

    /// A bound of a cluster was met.
    pub fn overflow(&mut self, snapshot: &Snapshot, cluster: usize, what: &str) {
        let at = BOUNDS.iter().position(|bound| *bound == what).unwrap_or_default();
        bump(&self.cluster(snapshot, cluster).overflows, at, 1);
    }

    /// A rule of a route refused a message; by [`DENIALS`].
    pub fn denied(&mut self, snapshot: &Snapshot, route: usize, why: usize) {
        bump(&self.route(snapshot, route).denied, why, 1);
    }

    /// A connection or a stream was accepted.
    pub fn came(&mut self, snapshot: &Snapshot, listener: usize, stream: bool) {
        let port = self.port(snapshot, listener, UNKNOWN, 0);
        port.carried(stream)[1].add(1);
    }

    /// Its protocol is known.
    pub fn spoke(&mut self, snapshot: &Snapshot, listener: usize, protocol: usize, stream: bool) {
        let port = self.port(snapshot, listener, UNKNOWN, 0);
        port.carried(stream)[1].sub(1);
        let dialect = carrier(snapshot, protocol, stream);
        let port = self.port(snapshot, listener, protocol, dialect);
        let cells = port.carried(stream);
        cells.iter().for_each(|cell| cell.add(1));
    }

    /// It is gone.
    pub fn left(&mut self, snapshot: &Snapshot, listener: usize, protocol: usize, stream: bool) {
        let dialect = carrier(snapshot, protocol, stream);
        let port = self.port(snapshot, listener, protocol, dialect);
        let cells = port.carried(stream);
        cells[1].sub(1);
        if protocol == UNKNOWN {
            cells[0].add(1);
        }
    }

    /// It carries streams: it leaves the engine, and stays open for as long as what is returned.
    pub fn handed(
        &mut self,
        snapshot: &Snapshot,
        listener: usize,
        protocol: usize,
    ) -> Option<Open> {
        self.port(snapshot, listener, UNKNOWN, 0).connections[1].sub(1);
        let port = self.port_of(snapshot, listener, protocol, true)?;
        port.connections.iter().for_each(|cell| cell.add(1));
        Some(Open(port))
    }
}
