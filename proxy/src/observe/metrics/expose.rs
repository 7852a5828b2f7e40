//! From all workers' figures to families with names and labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::{Histogram, Taken};
use super::series::{
    BOUNDS, CLASSES, Cell, ClusterSeries, DENIALS, EndpointSeries, FARED, FAULTS, Port, Requests,
    RouteSeries,
};
use super::text::{Family, Label, Sort, Value};
use super::{Metrics, lock, process};
use crate::control::Reloads;
use crate::snapshot::Snapshot;
use crate::worker::Totals;

/// A name as a label's: what it may not have is an underscore.
pub(super) fn label(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut label: String = name.chars().map(fits).collect();
    if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert(0, '_');
    }
    label
}

/// What all workers have under one set of labels.
type Group<T> = Vec<(Vec<Label>, Vec<Arc<T>>)>;

fn sum<T>(of: &[Arc<T>], cell: impl Fn(&T) -> &Cell) -> u64 {
    of.iter().map(|series| cell(series).get()).sum()
}

/// One figure each.
fn each<T>(
    (name, help, sort): (&'static str, &'static str, Sort),
    group: &Group<T>,
    cell: impl Fn(&T) -> &Cell,
) -> Family {
    let sample =
        |(labels, of): &(Vec<Label>, Vec<Arc<T>>)| (labels.clone(), Value::Whole(sum(of, &cell)));
    Family { name, help, sort, samples: group.iter().map(sample).collect() }
}

/// Several figures each, told apart by one more label; those that are 0 are left out, but
/// the first.
fn split<'a, T: 'a>(
    (name, help): (&'static str, &'static str),
    group: &Group<T>,
    (label, values): (&'static str, impl Iterator<Item = &'static str> + Clone),
    cells: impl Fn(&T) -> &[Cell],
    first: bool,
) -> Family {
    let mut samples = Vec::new();
    for (labels, of) in group {
        for (at, value) in values.clone().enumerate() {
            let places = of.iter().filter_map(|series| cells(series).get(at));
            let count: u64 = places.map(Cell::get).sum();
            if count > 0 || (first && at == 0) {
                let mut labels = labels.clone();
                labels.push((label, value.into()));
                samples.push((labels, Value::Whole(count)));
            }
        }
    }
    Family { name, help, sort: Sort::Counter, samples }
}

fn times<T>(
    (name, help): (&'static str, &'static str),
    group: &Group<T>,
    histogram: impl Fn(&T) -> &Histogram,
) -> Family {
    let sample = |(labels, of): &(Vec<Label>, Vec<Arc<T>>)| {
        let mut taken = Taken::default();
        for series in of {
            taken.add(histogram(series));
        }
        (labels.clone(), Value::Histogram(taken))
    };
    let samples = group.iter().map(sample).collect();
    Family { name, help, sort: Sort::Histogram, samples }
}

fn one(name: &'static str, help: &'static str, sort: Sort, value: u64) -> Family {
    Family { name, help, sort, samples: vec![(Vec::new(), Value::Whole(value))] }
}

const COUNTER: Sort = Sort::Counter;
const GAUGE: Sort = Sort::Gauge;

impl Metrics {
    /// All there is. `now`: the engines' clock, ms.
    pub(super) fn families(
        &self,
        snapshot: &Snapshot,
        totals: &Totals,
        reloads: &Reloads,
        now: u64,
    ) -> Vec<Family> {
        self.sweep(snapshot);
        let mut all = self.own(snapshot, totals, reloads);
        let (mut ports, mut routes, mut clusters, mut endpoints) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for tables in lock(&self.workers).iter() {
            let tables = lock(tables);
            gather(&mut ports, &tables.ports);
            gather(&mut routes, &tables.routes);
            gather(&mut clusters, &tables.clusters);
            gather(&mut endpoints, &tables.endpoints);
        }
        let two = |a, b| move |(x, y): (Arc<str>, Arc<str>)| vec![(a, x), (b, y)];
        all.extend(of_ports(&named(ports, |(listener, protocol, dialect)| {
            vec![("listener", listener), ("protocol", protocol), ("dialect", dialect)]
        })));
        all.extend(of_routes(&named(routes, |name| vec![("route", name)])));
        all.extend(of_clusters(&named(clusters, |name| vec![("cluster", name)])));
        all.extend(of_endpoints(&named(endpoints, two("cluster", "endpoint"))));
        all.extend(self.state(snapshot, now));
        all.extend(process::families());
        all
    }

    /// Of the proxy as a whole.
    fn own(&self, snapshot: &Snapshot, totals: &Totals, reloads: &Reloads) -> Vec<Family> {
        let counters = &totals.counters;
        let reload = |result: &str, count| (vec![("result", result.into())], Value::Whole(count));
        let well = u64::from(reloads.error.is_none());
        let names = lock(&self.admitted);
        let merged = [
            ("route", names.routes.merged.len()),
            ("cluster", names.clusters.merged.len()),
            ("endpoint", names.endpoints.merged.len()),
        ];
        let build = vec![("version", env!("CARGO_PKG_VERSION").into())];
        vec![
            Family {
                name: "polyport_build_info",
                help: "1, with the version as a label.",
                sort: GAUGE,
                samples: vec![(build, Value::Whole(1))],
            },
            one("polyport_workers", "Worker threads.", GAUGE, snapshot.workers as u64),
            Family {
                name: "polyport_config_reloads",
                help: "Configs read while running, by whether they were put in use.",
                sort: COUNTER,
                samples: vec![reload("success", reloads.done), reload("failure", reloads.refused)],
            },
            one(
                "polyport_config_last_reload_successful",
                "Whether the config read last is in use.",
                GAUGE,
                well,
            ),
            Family {
                name: "polyport_config_last_reload_success_timestamp_seconds",
                help: "When the config in use was put in use, since unix epoch.",
                sort: GAUGE,
                samples: vec![(Vec::new(), Value::Whole(reloads.last))],
            },
            one(
                "polyport_requests_resent",
                "Requests sent again because a pooled connection turned out dead.",
                COUNTER,
                counters.resent,
            ),
            one(
                "polyport_replies_late",
                "Replies that came after their request had ended.",
                COUNTER,
                counters.late,
            ),
            one(
                "polyport_protocol_errors",
                "Connections closed because their bytes broke the protocol.",
                COUNTER,
                counters.malformed,
            ),
            one(
                "polyport_requests_pending",
                "Requests that wait for a connection.",
                GAUGE,
                totals.pending,
            ),
            Family {
                name: "polyport_metrics_merged",
                help: "Names whose figures are told together as other, as there is no room left.",
                sort: GAUGE,
                samples: merged
                    .into_iter()
                    .map(|(kind, count)| (vec![("kind", kind.into())], Value::Whole(count as u64)))
                    .collect(),
            },
        ]
    }

    /// What clusters and endpoints are like now. Those without figures of their own are left
    /// out here: states cannot be added up.
    fn state(&self, snapshot: &Snapshot, now: u64) -> Vec<Family> {
        let (mut members, mut usable, mut open, mut pending) = (vec![], vec![], vec![], vec![]);
        let (mut healthy, mut ejected, mut ejections, mut failed) =
            (vec![], vec![], vec![], vec![]);
        let whole = |value: bool| Value::Whole(value.into());
        for cluster in snapshot.clusters.iter().filter(|cluster| !cluster.retired) {
            let name = self.admit_cluster(&cluster.name);
            if *name == *cluster.name {
                let labels: Vec<Label> = vec![("cluster", name)];
                let both = cluster.endpoints.iter().zip(cluster.health.iter());
                let here = both.filter(|(endpoint, _)| !endpoint.retired);
                let well = here.filter(|(_, health)| health.usable(now)).count();
                let all = cluster.endpoints.iter().filter(|endpoint| !endpoint.retired).count();
                let count = |count: usize| Value::Whole(count as u64);
                members.push((labels.clone(), count(all)));
                usable.push((labels.clone(), count(well)));
                if let Some(breaker) = &cluster.breaker {
                    open.push((labels.clone(), whole(breaker.is_open(now))));
                    pending.push((labels, count(breaker.pending.count())));
                }
            }
            let both = cluster.endpoints.iter().zip(cluster.health.iter());
            for (endpoint, health) in both.filter(|(endpoint, _)| !endpoint.retired) {
                let (name, address) = self.admit_endpoint(&cluster.name, endpoint.address);
                if *name != *cluster.name {
                    continue;
                }
                let labels: Vec<Label> = vec![("cluster", name), ("endpoint", address)];
                healthy.push((labels.clone(), whole(health.usable(now))));
                ejected.push((labels.clone(), whole(health.ejected(now))));
                ejections.push((labels.clone(), Value::Whole(health.ejections())));
                failed.push((labels, Value::Whole(health.checks_failed())));
            }
        }
        let family = |name, help, sort, samples| Family { name, help, sort, samples };
        vec![
            family("polyport_cluster_endpoints", "Endpoints of the cluster.", GAUGE, members),
            family(
                "polyport_cluster_endpoints_healthy",
                "Endpoints of the cluster that requests may go to.",
                GAUGE,
                usable,
            ),
            family(
                "polyport_cluster_breaker_open",
                "Whether the cluster's breaker has refused something in the last 10 s.",
                GAUGE,
                open,
            ),
            family(
                "polyport_cluster_breaker_pending",
                "Requests that wait for a connection, as the cluster's breaker counts them.",
                GAUGE,
                pending,
            ),
            family(
                "polyport_endpoint_healthy",
                "Whether requests may go to the endpoint.",
                GAUGE,
                healthy,
            ),
            family(
                "polyport_endpoint_ejected",
                "Whether the endpoint is passed over because requests to it fared badly.",
                GAUGE,
                ejected,
            ),
            family(
                "polyport_endpoint_ejections",
                "How often the endpoint was passed over because requests to it fared badly.",
                COUNTER,
                ejections,
            ),
            family(
                "polyport_endpoint_health_check_failures",
                "Health checks that the endpoint did not pass.",
                COUNTER,
                failed,
            ),
        ]
    }
}

fn gather<K: Clone + Ord, T>(into: &mut BTreeMap<K, Vec<Arc<T>>>, from: &BTreeMap<K, Arc<T>>) {
    for (key, series) in from {
        into.entry(key.clone()).or_default().push(series.clone());
    }
}

fn named<K, T>(of: BTreeMap<K, Vec<Arc<T>>>, labels: impl Fn(K) -> Vec<Label>) -> Group<T> {
    of.into_iter().map(|(key, series)| (labels(key), series)).collect()
}

/// How requests ended, and those with a fault.
fn of_requests<T>(
    group: &Group<T>,
    classes: (&'static str, &'static str),
    faults: (&'static str, &'static str),
    requests: impl Fn(&T) -> &Requests,
    first: bool,
) -> [Family; 2] {
    let names = FAULTS.iter().map(|(_, name)| *name);
    [
        split(classes, group, ("outcome", CLASSES.into_iter()), |of| &requests(of).classes, first),
        split(faults, group, ("fault", names), |of| &requests(of).faults, false),
    ]
}

fn of_ports(group: &Group<Port>) -> Vec<Family> {
    let mut all = Vec::from(of_requests(
        group,
        ("polyport_downstream_requests", "Requests of clients, by how they ended."),
        ("polyport_downstream_faults", "Requests that the proxy gave an error, by its reason."),
        |port| &port.requests,
        false,
    ));
    all.extend([
        split(
            ("polyport_downstream_session_messages", "Messages of clients within sessions."),
            group,
            ("result", ["passed", "refused"].into_iter()),
            |port| &port.messages,
            false,
        ),
        each(
            ("polyport_downstream_connections", "Connections of clients.", COUNTER),
            group,
            |port| &port.connections[0],
        ),
        each(
            ("polyport_downstream_connections_active", "Connections of clients now open.", GAUGE),
            group,
            |port| &port.connections[1],
        ),
        each(
            (
                "polyport_downstream_streams",
                "Streams of clients' connections that carry many.",
                COUNTER,
            ),
            group,
            |port| &port.streams[0],
        ),
        each(
            ("polyport_downstream_streams_active", "Such streams now open.", GAUGE),
            group,
            |port| &port.streams[1],
        ),
        each(
            ("polyport_downstream_sessions_active", "Sessions of clients now open.", GAUGE),
            group,
            |port| &port.sessions,
        ),
        each(
            ("polyport_downstream_received_bytes", "Bytes read from clients.", COUNTER),
            group,
            |port| &port.received,
        ),
        each(
            ("polyport_downstream_sent_bytes", "Bytes written to clients.", COUNTER),
            group,
            |p| &p.sent,
        ),
        times(
            (
                "polyport_downstream_request_duration_seconds",
                "From a request's head to its reply's end.",
            ),
            group,
            |port| &port.took,
        ),
    ]);
    all
}

fn of_routes(group: &Group<RouteSeries>) -> Vec<Family> {
    let mut all = Vec::from(of_requests(
        group,
        ("polyport_route_requests", "Requests that took the route, by how they ended."),
        ("polyport_route_faults", "Those of them that got an error, by its reason."),
        |route| &route.requests,
        true,
    ));
    all.extend([
        split(
            ("polyport_route_denied", "Messages that the route's rules refused, by the rule."),
            group,
            ("rule", DENIALS.into_iter()),
            |route| &route.denied,
            false,
        ),
        each(
            ("polyport_route_request_bytes", "Bytes of the route's requests.", COUNTER),
            group,
            |route| &route.request_bytes,
        ),
        each(
            ("polyport_route_response_bytes", "Bytes of the replies to them.", COUNTER),
            group,
            |route| &route.reply_bytes,
        ),
        times(
            (
                "polyport_route_request_duration_seconds",
                "From a request's head to its reply's end.",
            ),
            group,
            |route| &route.took,
        ),
    ]);
    all
}

fn of_clusters(group: &Group<ClusterSeries>) -> Vec<Family> {
    vec![
        times(
            (
                "polyport_cluster_request_duration_seconds",
                "From when a try was sent to an endpoint to its reply's end, or its loss.",
            ),
            group,
            |cluster| &cluster.took,
        ),
        each(
            ("polyport_cluster_retries", "Tries of requests after their first.", COUNTER),
            group,
            |cluster| &cluster.retries,
        ),
        each(
            (
                "polyport_cluster_retries_exhausted",
                "Tries that the cluster's retry budget did not allow.",
                COUNTER,
            ),
            group,
            |cluster| &cluster.unpaid,
        ),
        each(
            ("polyport_cluster_mirrored_requests", "Copies of requests sent for nobody.", COUNTER),
            group,
            |cluster| &cluster.mirrored,
        ),
        split(
            ("polyport_cluster_overflows", "Requests refused at a bound of the cluster."),
            group,
            ("bound", BOUNDS.into_iter()),
            |cluster| &cluster.overflows,
            true,
        ),
    ]
}

fn of_endpoints(group: &Group<EndpointSeries>) -> Vec<Family> {
    vec![
        split(
            ("polyport_endpoint_requests", "Tries at the endpoint, by how they fared."),
            group,
            ("outcome", FARED.into_iter()),
            |endpoint| &endpoint.fared,
            true,
        ),
        each(
            ("polyport_endpoint_requests_active", "Requests in flight to the endpoint.", GAUGE),
            group,
            |endpoint| &endpoint.requests,
        ),
        each(
            ("polyport_endpoint_sessions_active", "Sessions with the endpoint now open.", GAUGE),
            group,
            |endpoint| &endpoint.sessions,
        ),
        each(
            ("polyport_endpoint_connections", "Connections to the endpoint.", COUNTER),
            group,
            |endpoint| &endpoint.connections[0],
        ),
        each(
            (
                "polyport_endpoint_connections_active",
                "Connections to the endpoint now open or being set up.",
                GAUGE,
            ),
            group,
            |endpoint| &endpoint.connections[1],
        ),
        each(
            (
                "polyport_endpoint_connect_failures",
                "Connections to the endpoint that did not come about.",
                COUNTER,
            ),
            group,
            |endpoint| &endpoint.unconnected,
        ),
        each(
            ("polyport_endpoint_request_bytes", "Bytes of requests to the endpoint.", COUNTER),
            group,
            |endpoint| &endpoint.request_bytes,
        ),
        each(
            ("polyport_endpoint_response_bytes", "Bytes of the endpoint's replies.", COUNTER),
            group,
            |endpoint| &endpoint.reply_bytes,
        ),
    ]
}

/// What the overload manager says, by its own names.
pub(super) fn of_overload(figures: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<Family> {
    let known = |name| {
        Some(match name {
            "overload_level" => {
                ("polyport_overload_level", "What gives way now, from 0 (nothing) to 3.", GAUGE)
            }
            "overload_descriptors" => {
                ("polyport_overload_descriptors", "Descriptors of connections.", GAUGE)
            }
            "overload_descriptors_budget" => {
                ("polyport_overload_descriptors_budget", "How many there may be.", GAUGE)
            }
            "overload_memory_bytes" => {
                ("polyport_overload_memory_bytes", "Memory in use, as the budget has it.", GAUGE)
            }
            "overload_memory_budget_bytes" => {
                ("polyport_overload_memory_budget_bytes", "How much may be in use.", GAUGE)
            }
            "overload_buffered_bytes" => {
                ("polyport_overload_buffered_bytes", "Bytes that wait in buffers.", GAUGE)
            }
            "overload_accept_pauses_total" => {
                ("polyport_overload_accept_pauses", "How often nobody was accepted.", COUNTER)
            }
            "connections_refused_by_source_total" => (
                "polyport_connections_refused_by_source",
                "Connections reset because their source had too many.",
                COUNTER,
            ),
            _ => return None,
        })
    };
    let family = |(name, value)| known(name).map(|(name, help, sort)| one(name, help, sort, value));
    figures.into_iter().filter_map(family).collect()
}
