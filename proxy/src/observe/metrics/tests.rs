#![allow(clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::series::Series;
use super::*;
use crate::config::compile;
use crate::engine::report::{Ended, Ending, Own, Track};
use crate::snapshot::Snapshot;

/// What has ended, by class.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) listeners: BTreeMap<&'static str, u64>,
    pub(crate) routes: BTreeMap<&'static str, u64>,
    pub(crate) retried: u64,
    pub(crate) mirrored: u64,
    pub(crate) connects: u64,
}

impl Metrics {
    /// Sums over all workers.
    pub(crate) fn ended(&self) -> Counted {
        let mut counted = Counted::default();
        for tables in lock(&self.workers).iter() {
            let tables = lock(tables);
            for port in tables.ports.values() {
                for (class, count) in CLASSES.iter().zip(&port.requests.classes) {
                    *counted.listeners.entry(class).or_default() += count.get();
                }
            }
            for route in tables.routes.values() {
                for (class, count) in CLASSES.iter().zip(&route.requests.classes) {
                    *counted.routes.entry(class).or_default() += count.get();
                }
            }
            for cluster in tables.clusters.values() {
                counted.retried += cluster.retries.get();
                counted.mirrored += cluster.mirrored.get();
            }
            for endpoint in tables.endpoints.values() {
                counted.connects += endpoint.connections[0].get();
            }
        }
        counted
    }

    /// Connections, streams and sessions of clients; connections, requests and sessions of
    /// endpoints: what is there now.
    pub(crate) fn now_open(&self) -> [u64; 6] {
        let mut open = [0; 6];
        for tables in lock(&self.workers).iter() {
            let tables = lock(tables);
            for port in tables.ports.values() {
                open[0] += port.connections[1].get();
                open[1] += port.streams[1].get();
                open[2] += port.sessions.get();
            }
            for endpoint in tables.endpoints.values() {
                open[3] += endpoint.connections[1].get();
                open[4] += endpoint.requests.get();
                open[5] += endpoint.sessions.get();
            }
        }
        open
    }
}

fn snapshot(routes: usize, more: &str) -> Snapshot {
    let mut text = format!(
        "{more}\n[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:7000\"\n\
         [[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n"
    );
    for at in 0..routes {
        text +=
            &format!("[[route]]\nname = \"r{at}\"\nmatch = {{ path = \"/{at}\" }}\nto = \"a\"\n");
    }
    let registry = polyport_codecs::Registry::builtin();
    compile(&text, "test.toml", &registry).expect("a good config").0
}

fn ended(route: Option<usize>, how: Ending, took: u64) -> Ended<'static> {
    Ended {
        listener: 0,
        protocol: Some(0),
        kind: polyport_codecs::Kind::Request,
        how,
        track: Track {
            route: route.unwrap_or(usize::MAX),
            at: Some((0, 1)),
            request: 10,
            reply: 100,
            ..Track::since(0)
        },
        took,
        upstream: took,
        own: Own::default(),
        told: b"id-1",
    }
}

fn text(metrics: &Metrics, snapshot: &Snapshot, format: Format) -> String {
    let families = metrics.families(snapshot, &Default::default(), &Default::default(), 0);
    text::write(&families, &metrics.settings.buckets, "id", format)
}

fn hows() -> impl Strategy<Value = Ending> {
    let outcome = prop_oneof![
        Just(polyport_codecs::Outcome::Ok),
        Just(polyport_codecs::Outcome::AppError),
        Just(polyport_codecs::Outcome::Timeout)
    ];
    prop_oneof![
        outcome.prop_map(|outcome| Ending::Replied { outcome, status: 0 }),
        Just(Ending::Sent),
        Just(Ending::Local),
        Just(Ending::Abandoned),
        Just(Ending::Passed),
        Just(Ending::Failed { fault: polyport_codecs::Fault::NoRoute, cut: false }),
    ]
}

proptest! {
    #[test]
    fn what_workers_count_apart_is_told_together(
        all in prop::collection::vec((0usize..3, 0usize..4, hows(), 0u64..20_000_000), 0..200),
    ) {
        let snapshot = snapshot(4, "");
        let metrics = Metrics::new(Settings::default());
        let mut workers: Vec<Series> = (0..3).map(|_| Series::new(metrics.clone())).collect();
        for (worker, route, how, took) in &all {
            workers[*worker].ended(&snapshot, &ended(Some(*route), *how, *took), 0);
        }
        let told = text(&metrics, &snapshot, Format::Prometheus);
        let sum = |start: &str| -> u64 {
            let lines = told.lines().filter(|line| line.starts_with(start));
            lines.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("whole")).sum()
        };
        let requests = all.iter().filter(|(_, _, how, _)| *how != Ending::Passed).count() as u64;
        prop_assert_eq!(sum("polyport_downstream_requests_total{"), requests);
        prop_assert_eq!(sum("polyport_route_requests_total{"), requests);
        let passed = all.len() as u64 - requests;
        prop_assert_eq!(sum("polyport_downstream_session_messages_total{"), passed);
        prop_assert_eq!(sum("polyport_route_request_bytes_total{"), 10 * requests);
        prop_assert_eq!(sum("polyport_endpoint_response_bytes_total{"), 100 * requests);
        let timed = all.iter().filter(|(_, _, how, _)| {
            matches!(how, Ending::Replied { .. } | Ending::Failed { .. } | Ending::Local)
        });
        prop_assert_eq!(sum("polyport_route_request_duration_seconds_count{"), timed.count() as u64);
    }
}

#[test]
fn dialects_are_told_apart_and_are_together_their_protocol() {
    let snapshot = snapshot(1, "");
    let http = snapshot.protocols.iter().position(|one| !one.protocol.dialects().is_empty());
    let protocol = snapshot.protocols[http.expect("one with dialects")].protocol;
    let metrics = Metrics::new(Settings::default());
    let mut series = Series::new(metrics.clone());
    let how = Ending::Replied { outcome: polyport_codecs::Outcome::Ok, status: 0 };
    let of = |dialect: u8| {
        let one = ended(None, how, 7);
        Ended { protocol: http, track: Track { dialect, ..one.track }, ..one }
    };
    let count = protocol.dialects().len();
    for dialect in 0..count as u8 {
        for _ in 0..=dialect {
            series.ended(&snapshot, &of(dialect), 0);
        }
    }
    // A number that is no dialect's is not another protocol's either.
    series.ended(&snapshot, &of(200), 0);
    let mut open = series.handed(&snapshot, 0, http.expect("one"));
    series.came(&snapshot, 0, true);
    series.spoke(&snapshot, 0, http.expect("one"), true);
    let told = text(&metrics, &snapshot, Format::Prometheus);
    let name = protocol.name();
    for (at, dialect) in protocol.dialects().iter().enumerate() {
        let labels = format!("listener=\"edge\",protocol=\"{name}\",dialect=\"{dialect}\"");
        let extra = u64::from(at == 0);
        for (metric, more) in
            [("requests_total", ",outcome=\"ok\""), ("request_duration_seconds_count", "")]
        {
            let line = format!("polyport_downstream_{metric}{{{labels}{more}}} ");
            assert!(told.contains(&format!("{line}{}\n", at as u64 + 1 + extra)), "{line}: {told}");
        }
        let carries = u64::from(at == usize::from(protocol.stream_dialect()));
        for metric in ["connections_active", "streams_active", "streams_total"] {
            let line = format!("polyport_downstream_{metric}{{{labels}}} ");
            assert!(told.contains(&format!("{line}{carries}\n")), "{line}: {told}");
        }
    }
    let figures = crate::admin::figures::Figures::of(&metrics);
    assert_eq!(figures.dialects.len(), count);
    assert_eq!(figures.protocols.len(), 1);
    let parts = figures.dialects.iter();
    assert!(parts.clone().all(|one| one.protocol == name && one.latency[0] == one.requests));
    assert_eq!(parts.map(|one| one.requests).sum::<u64>(), figures.protocols[0].requests);
    open.take();
    series.left(&snapshot, 0, http.expect("one"), true);
    assert_eq!(metrics.now_open()[..2], [0, 0]);
}

#[test]
fn routes_beyond_the_bound_are_told_together_and_how_many_they_are() {
    let snapshot = snapshot(100, "");
    let settings = Settings { series: 1000, ..Settings::default() };
    let metrics = Metrics::new(settings);
    let mut series = Series::new(metrics.clone());
    let how = Ending::Replied { outcome: polyport_codecs::Outcome::Ok, status: 0 };
    for _ in 0..2 {
        for route in 0..100 {
            series.ended(&snapshot, &ended(Some(route), how, 5), 0);
        }
    }
    let told = text(&metrics, &snapshot, Format::Prometheus);
    let own = 1000 / metrics.route_cost();
    let merged = format!("polyport_metrics_merged{{kind=\"route\"}} {}\n", 100 - own);
    assert!(told.contains(&merged), "{told}");
    let other = format!(
        "polyport_route_requests_total{{route=\"other\",outcome=\"ok\"}} {}\n",
        2 * (100 - own)
    );
    assert!(told.contains(&other), "{told}");
    assert!(told.contains("polyport_route_requests_total{route=\"r0\",outcome=\"ok\"} 2\n"));
    let lines = told.lines().filter(|line| line.starts_with("polyport_route")).count();
    assert!(lines <= 1000 + metrics.route_cost(), "{lines} lines");
}

#[test]
fn what_a_config_no_longer_names_makes_room() {
    let before = snapshot(30, "");
    let after = snapshot(3, "");
    let metrics = Metrics::new(Settings { series: 100, ..Settings::default() });
    let mut series = Series::new(metrics.clone());
    for route in (0..30).rev() {
        series.ended(&before, &ended(Some(route), Ending::Sent, 5), 0);
    }
    let told = text(&metrics, &before, Format::Prometheus);
    assert!(told.contains("{route=\"r29\",outcome=\"one-way\"} 1\n"), "{told}");
    assert!(told.contains("polyport_metrics_merged{kind=\"route\"} 27\n"), "{told}");
    // As long as a worker counts there, nothing is dropped.
    assert!(text(&metrics, &after, Format::Prometheus).contains("r29"));
    series.renew(&after);
    let told = text(&metrics, &after, Format::Prometheus);
    assert!(!told.contains("r29"), "{told}");
    series.ended(&after, &ended(Some(1), Ending::Sent, 5), 0);
    let told = text(&metrics, &after, Format::Prometheus);
    assert!(told.contains("{route=\"r1\",outcome=\"one-way\"} 1\n"), "{told}");
    // What was merged before is now either named or gone; the rest of it stays merged.
    assert!(told.contains("polyport_metrics_merged{kind=\"route\"} 2\n"), "{told}");
}

#[test]
fn reloads_are_told() {
    let snapshot = snapshot(1, "");
    let metrics = Metrics::new(Settings::default());
    let told = |reloads: &crate::control::Reloads| {
        let families = metrics.families(&snapshot, &Default::default(), reloads, 0);
        text::write(&families, &metrics.settings.buckets, "id", Format::OpenMetrics)
    };
    let mut reloads = crate::control::Reloads { done: 3, refused: 2, last: 5, error: None };
    assert!(told(&reloads).contains("polyport_config_last_reload_successful 1\n"));
    reloads.error = Some("wrong".into());
    let told = told(&reloads);
    assert!(told.contains("polyport_config_last_reload_successful 0\n"), "{told}");
    assert!(told.contains("polyport_config_reloads_total{result=\"success\"} 3\n"), "{told}");
    assert!(told.contains("polyport_config_reloads_total{result=\"failure\"} 2\n"), "{told}");
}

#[test]
fn exemplars_are_told_in_openmetrics_only() {
    let snapshot = snapshot(1, "");
    let settings =
        Settings { exemplars: Some(("header.x".into(), Slot(0))), ..Settings::default() };
    let metrics = Metrics::new(settings);
    let mut series = Series::new(metrics.clone());
    let how = Ending::Replied { outcome: polyport_codecs::Outcome::Ok, status: 0 };
    series.ended(&snapshot, &ended(Some(0), how, 700), 0);
    let bucket = "polyport_route_request_duration_seconds_bucket{route=\"r0\",le=\"0.001\"} 1";
    let told = text(&metrics, &snapshot, Format::OpenMetrics);
    assert!(told.contains(&format!("{bucket} # {{id=\"id-1\"}} 0.0007 ")), "{told}");
    assert!(told.ends_with("# EOF\n"));
    let told = text(&metrics, &snapshot, Format::Prometheus);
    assert!(told.contains(&format!("{bucket}\n")), "{told}");
}
