//! What the page draws: counters and histograms that only grow, so that whoever polls
//! takes differences.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::observe::metrics::Metrics;
use crate::observe::metrics::histogram::Taken;
use crate::observe::metrics::series::{CLASSES, Requests};

/// Figures of everything that has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// By protocol.
    pub protocols: Vec<Series>,
    /// The same by protocol and dialect; a protocol without dialects is its own.
    pub dialects: Vec<Series>,
    /// By route; what no route took has the name `""`.
    pub routes: Vec<Series>,
    /// Upper bounds of all latency histograms' buckets, µs; one more bucket is for what is
    /// above. Empty: latencies are not known.
    pub bounds_us: Vec<u64>,
}

/// Figures under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Of a dialect: whose.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Messages.
    pub requests: u64,
    /// Those that failed or were refused.
    pub errors: u64,
    /// How many took how long, by bucket; empty where that is not known.
    pub latency: Vec<u64>,
}

/// Classes of requests that went wrong, by their places in [`CLASSES`].
fn is_bad(class: usize) -> bool {
    let bad = ["server-error", "unavailable", "overloaded", "timeout", "fault"];
    CLASSES.get(class).is_some_and(|class| bad.contains(class))
}

impl Series {
    fn add(&mut self, requests: &Requests) {
        for (class, count) in requests.classes.iter().enumerate() {
            let count = count.get();
            self.requests += count;
            self.errors += if is_bad(class) { count } else { 0 };
        }
    }
}

impl Figures {
    /// What all workers have counted.
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let mut protocols: BTreeMap<Arc<str>, (Series, Taken)> = BTreeMap::new();
        let mut dialects: BTreeMap<(Arc<str>, Arc<str>), (Series, Taken)> = BTreeMap::new();
        let mut routes: BTreeMap<Arc<str>, (Series, Taken)> = BTreeMap::new();
        metrics.each(|tables| {
            for ((_, protocol, dialect), port) in &tables.ports {
                // Messages within sessions.
                let [passed, refused] = port.messages.each_ref().map(|count| count.get());
                let key = (protocol.clone(), dialect.clone());
                let (whole, part) = (protocols.entry(key.0.clone()), dialects.entry(key));
                for (series, took) in [whole.or_default(), part.or_default()] {
                    series.add(&port.requests);
                    series.requests += passed + refused;
                    series.errors += refused;
                    took.add(&port.took);
                }
            }
            for (route, counted) in &tables.routes {
                let (series, took) = routes.entry(route.clone()).or_default();
                series.add(&counted.requests);
                took.add(&counted.took);
            }
        });
        let named =
            |(name, series): (Arc<str>, Series)| Series { name: name.to_string(), ..series };
        let timed = |(name, (series, took)): (Arc<str>, (Series, Taken))| {
            named((name, Series { latency: took.counts, ..series }))
        };
        // One that nobody has spoken yet was perhaps only asked for.
        let spoken = |series: &Series| series.requests > 0;
        let of_protocol = |((protocol, name), counted): ((Arc<str>, Arc<str>), _)| Series {
            protocol: protocol.to_string(),
            ..timed((name, counted))
        };
        Self {
            protocols: protocols.into_iter().map(timed).filter(spoken).collect(),
            dialects: dialects.into_iter().map(of_protocol).filter(spoken).collect(),
            routes: routes.into_iter().map(timed).collect(),
            bounds_us: metrics.bounds().to_vec(),
        }
    }
}
