//! What the page draws: counters and histograms that only grow, so that whoever polls
//! takes differences.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::engine::Tapped;

/// Figures of everything that has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// By protocol.
    pub protocols: Vec<Series>,
    /// By route; what no route took has the name `""`.
    pub routes: Vec<Series>,
    /// Upper bounds of all latency histograms' buckets, µs; one more bucket is for what is
    /// above. Empty: latencies are not known.
    pub bounds_us: Vec<u64>,
    /// They are counted only while somebody asks for them.
    pub partial: bool,
}

/// Figures under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Messages.
    pub requests: u64,
    /// Those that failed or were refused.
    pub errors: u64,
    /// How many took how long, by bucket; empty where that is not known.
    pub latency: Vec<u64>,
}

/// Counts messages by protocol and route for as long as somebody asks: a stand-in for
/// series that the workers keep.
#[derive(Default)]
pub(super) struct Meter {
    /// Counts until then, ms of the engines' clock; 0: it does not. What a message pays for.
    until: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    protocols: BTreeMap<&'static str, (u64, u64)>,
    routes: BTreeMap<String, (u64, u64)>,
}

/// How long it goes on counting after it was last asked, ms.
const LASTS: u64 = 10_000;

impl Meter {
    /// A message was routed.
    pub(super) fn see(&self, tapped: &Tapped<'_>) {
        if self.until.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let bad = u64::from(tapped.fault.is_some());
        let add = |count: &mut (u64, u64)| *count = (count.0 + 1, count.1 + bad);
        add(counts.protocols.entry(tapped.protocol).or_default());
        let route = tapped.route.unwrap_or_default();
        match counts.routes.get_mut(route) {
            Some(count) => add(count),
            None => add(counts.routes.entry(route.to_owned()).or_default()),
        }
    }

    /// What was counted; goes on for ten seconds.
    pub(super) fn figures(&self, now: u64) -> Figures {
        self.until.store(now + LASTS, Ordering::Relaxed);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let series = |(name, (requests, errors)): (&str, &(u64, u64))| Series {
            name: name.to_owned(),
            requests: *requests,
            errors: *errors,
            latency: Vec::new(),
        };
        Figures {
            protocols: counts.protocols.iter().map(|(name, count)| series((name, count))).collect(),
            routes: counts.routes.iter().map(|(name, count)| series((name, count))).collect(),
            bounds_us: Vec::new(),
            partial: true,
        }
    }

    /// Stops where nobody has asked for a while.
    pub(super) fn rest(&self, now: u64) {
        if self.until.load(Ordering::Relaxed) < now {
            self.until.store(0, Ordering::Relaxed);
        }
    }
}
