//! `/stats`: one figure a line.

use std::fmt::Write as _;

use crate::engine::Counters;
use crate::snapshot::Snapshot;
use crate::worker::Observer;

/// One figure a line: its name, a space, its value. Then what is known of each endpoint,
/// with the cluster's name and the address as labels.
pub(super) fn stats(observer: &Observer, snapshot: &Snapshot) -> String {
    let totals = observer.totals();
    let now = [
        ("downstream_connections_active", totals.downstreams),
        ("upstream_connections_active", totals.upstreams),
        ("requests_active", totals.in_flight),
        ("requests_pending", totals.pending),
    ];
    let counted = Counters::NAMES.into_iter().zip(totals.counters.values());
    let line = |(name, value)| format!("polyport_{name} {value}\n");
    let mut lines: String =
        counted.chain(now).chain(observer.overload().figures()).map(line).collect();
    let now = observer.now();
    for cluster in snapshot.clusters.iter().filter(|cluster| !cluster.retired) {
        let all = cluster.endpoints.iter().zip(cluster.health.iter());
        for (endpoint, health) in all.filter(|(endpoint, _)| !endpoint.retired) {
            let figures = [
                ("usable", u64::from(health.usable(now))),
                ("ejections_total", health.ejections()),
                ("checks_failed_total", health.checks_failed()),
            ];
            for (name, value) in figures {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    lines,
                    "polyport_endpoint_{name}{{cluster={:?},endpoint=\"{}\"}} {value}",
                    cluster.name, endpoint.address
                );
            }
        }
    }
    lines
}
