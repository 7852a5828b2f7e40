//! Outliers: endpoints to which requests fare badly are passed over for a while.
//!
//! All workers count into the same [`Tally`]s, with a few relaxed atomics a request. Too
//! many failures in a row eject at once; success rate and latency are looked at once an
//! interval, by whichever worker first finds it over. What is counted between the
//! workers' steps may be off by a request or two; no rule here needs it exact.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Health;

/// Endpoints whose mean latencies differ by less (µs) are not told apart: so much comes
/// from scheduling alone.
const NOISE: f64 = 1000.0;

/// A cluster's `outlier`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// So many failures in a row eject; 0: never. Default 5.
    pub consecutive: u32,
    /// Which success rates eject. Default: none.
    pub success_rate: Option<SuccessRate>,
    /// A mean latency of more than so many times the median of the others' ejects.
    pub latency: Option<f64>,
    /// How often success rates and latencies are looked at. Default 10 s.
    pub every: Duration,
    /// How long the first ejection lasts. Each further one lasts as much longer, and each
    /// interval without one takes that back again. Default 30 s.
    pub base: Duration,
    /// The longest ejection. Default 300 s.
    pub max: Duration,
    /// Percent of the endpoints that may be ejected at once; one always may, and all
    /// never. Default 50.
    pub cap: u32,
    /// Requests in an interval without which an endpoint's rate and latency say nothing.
    /// Default 50.
    pub min_requests: u64,
    /// Endpoints with so many requests without which they cannot be compared. Default 3.
    pub min_endpoints: usize,
}

/// Which success rates are too low.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SuccessRate {
    /// Below so many percent.
    Below(f64),
    /// So many standard deviations below the mean of all endpoints.
    Deviation(f64),
}

/// How a request fared, as far as it tells of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fared {
    /// It was served, in so many µs.
    Well(u64),
    /// The endpoint failed it.
    Badly,
}

/// What was counted of one endpoint. On a cache line of its own: workers write it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally {
    /// Failures since the last success.
    consecutive: AtomicU32,
    /// In this interval.
    good: AtomicU64,
    bad: AtomicU64,
    /// Sum over the good ones, µs.
    latency: AtomicU64,
    /// Ejections that count for the length of the next one.
    ejections: AtomicU32,
    /// It is out, and nobody has yet said that it is back.
    out: AtomicBool,
}

impl Tally {
    fn take_over(&self, old: &Self) {
        let short = [(&self.consecutive, &old.consecutive), (&self.ejections, &old.ejections)];
        for (new, old) in short {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let long = [(&self.good, &old.good), (&self.bad, &old.bad), (&self.latency, &old.latency)];
        for (new, old) in long {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.out.store(old.out.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A cluster's outlier detection.
#[derive(Debug)]
pub struct Outliers {
    rules: Rules,
    /// As the cluster's endpoints.
    tallies: Box<[Tally]>,
    /// When the interval is over, ms.
    until: AtomicU64,
    /// Somebody is about to eject: two at once could pass the cap.
    busy: AtomicBool,
}

/// Something that an operator wants to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This endpoint is out, for so long.
    Ejected {
        /// Its place in its cluster.
        endpoint: usize,
        /// ms.
        lasts: u64,
        /// In words.
        why: String,
    },
    /// This endpoint's time is over.
    Returned {
        /// Its place in its cluster.
        endpoint: usize,
    },
}

/// What an interval showed of one endpoint that can be compared.
struct Seen {
    endpoint: usize,
    /// Percent.
    rate: f64,
    /// Mean, µs; `None` where nothing went well.
    latency: Option<f64>,
}

impl Outliers {
    /// A detection for so many endpoints.
    pub fn new(rules: Rules, endpoints: usize) -> Self {
        Self {
            until: AtomicU64::new(millis(rules.every)),
            rules,
            tallies: (0..endpoints).map(|_| Tally::default()).collect(),
            busy: AtomicBool::new(false),
        }
    }

    /// The same for `rules` and so many endpoints, of which the first are those there were.
    #[must_use]
    pub fn carried(&self, rules: Rules, endpoints: usize) -> Self {
        let after = Self::new(rules, endpoints);
        after.until.store(self.until.load(Ordering::Relaxed), Ordering::Relaxed);
        for (new, old) in after.tallies.iter().zip(&self.tallies) {
            new.take_over(old);
        }
        after
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes note of a request at `now` (ms), and ejects where that is due. `health` is of
    /// the same endpoints. `tell` hears of what happens.
    pub fn note(
        &self,
        endpoint: usize,
        fared: Fared,
        now: u64,
        health: &[Health],
        tell: &mut dyn FnMut(Event),
    ) {
        let (Some(tally), Some(own)) = (self.tallies.get(endpoint), health.get(endpoint)) else {
            return;
        };
        // Requests that were on their way when it was ejected tell nothing new.
        if !own.ejected(now) {
            self.returned(endpoint, tally, tell);
            match fared {
                Fared::Well(took) => {
                    // Read first: a write would take the line from all other workers.
                    if tally.consecutive.load(Ordering::Relaxed) != 0 {
                        tally.consecutive.store(0, Ordering::Relaxed);
                    }
                    tally.good.fetch_add(1, Ordering::Relaxed);
                    if self.rules.latency.is_some() {
                        tally.latency.fetch_add(took, Ordering::Relaxed);
                    }
                }
                Fared::Badly => {
                    tally.bad.fetch_add(1, Ordering::Relaxed);
                    let run = tally.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                    if self.rules.consecutive > 0 && run >= self.rules.consecutive {
                        let why = || format!("{run} failures in a row");
                        self.eject(endpoint, now, health, why, tell);
                    }
                }
            }
        }
        let until = self.until.load(Ordering::Relaxed);
        if now >= until {
            let next = now.saturating_add(millis(self.rules.every));
            let mine =
                self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
            if mine.is_ok() {
                self.judge(now, health, tell);
            }
        }
    }

    fn returned(&self, endpoint: usize, tally: &Tally, tell: &mut dyn FnMut(Event)) {
        if tally.out.load(Ordering::Relaxed) && tally.out.swap(false, Ordering::Relaxed) {
            tell(Event::Returned { endpoint });
        }
    }

    /// An interval is over.
    fn judge(&self, now: u64, health: &[Health], tell: &mut dyn FnMut(Event)) {
        let mut seen = Vec::new();
        let mut good_ones = Vec::new();
        for (endpoint, (tally, own)) in self.tallies.iter().zip(health).enumerate() {
            let good = tally.good.swap(0, Ordering::Relaxed);
            let bad = tally.bad.swap(0, Ordering::Relaxed);
            let latency = tally.latency.swap(0, Ordering::Relaxed);
            if own.ejected(now) {
                continue;
            }
            self.returned(endpoint, tally, tell);
            if good > 0 {
                good_ones.push(endpoint);
            }
            if good + bad >= self.rules.min_requests.max(1) {
                let rate = 100.0 * good as f64 / (good + bad) as f64;
                let latency = (good > 0).then(|| latency as f64 / good as f64);
                seen.push(Seen { endpoint, rate, latency });
            }
        }
        for (endpoint, why) in self.by_rate(&seen).into_iter().chain(self.by_latency(&seen)) {
            self.eject(endpoint, now, health, || why, tell);
        }
        for endpoint in good_ones {
            let out = health.get(endpoint).is_none_or(|own| own.ejected(now));
            if let (false, Some(tally)) = (out, self.tallies.get(endpoint)) {
                let less = |count: u32| count.checked_sub(1);
                let _ = tally.ejections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    fn by_rate(&self, seen: &[Seen]) -> Vec<(usize, String)> {
        let least = match self.rules.success_rate {
            None => return Vec::new(),
            Some(SuccessRate::Below(percent)) => percent,
            Some(SuccessRate::Deviation(_)) if seen.len() < self.rules.min_endpoints => {
                return Vec::new();
            }
            Some(SuccessRate::Deviation(factor)) => {
                let count = seen.len().max(1) as f64;
                let mean = seen.iter().map(|one| one.rate).sum::<f64>() / count;
                let variance = seen.iter().map(|one| (one.rate - mean).powi(2)).sum::<f64>();
                mean - factor * (variance / count).sqrt()
            }
        };
        let mut low: Vec<&Seen> = seen.iter().filter(|one| one.rate < least).collect();
        // The worst first: the cap may not leave room for all.
        low.sort_by(|one, two| one.rate.total_cmp(&two.rate));
        let why = |one: &Seen| format!("a success rate of {:.1}%, below {least:.1}%", one.rate);
        low.into_iter().map(|one| (one.endpoint, why(one))).collect()
    }

    fn by_latency(&self, seen: &[Seen]) -> Vec<(usize, String)> {
        let Some(factor) = self.rules.latency else { return Vec::new() };
        let timed: Vec<(usize, f64)> =
            seen.iter().filter_map(|one| Some((one.endpoint, one.latency?))).collect();
        if timed.len() < self.rules.min_endpoints.max(2) {
            return Vec::new();
        }
        let mut slow = Vec::new();
        for &(endpoint, own) in &timed {
            let others = timed.iter().filter(|(other, _)| *other != endpoint);
            let Some(middle) = median(others.map(|(_, latency)| *latency).collect()) else {
                continue;
            };
            if own > factor * middle && own - middle > NOISE {
                slow.push((endpoint, own, middle));
            }
        }
        slow.sort_by(|(_, one, _), (_, two, _)| two.total_cmp(one));
        let why = |own: f64, middle: f64| {
            let (own, middle) = (own / 1000.0, middle / 1000.0);
            format!("a mean latency of {own:.1} ms, where the others have {middle:.1} ms")
        };
        slow.into_iter().map(|(endpoint, own, middle)| (endpoint, why(own, middle))).collect()
    }

    /// Ejects it, unless too many are out.
    fn eject(
        &self,
        endpoint: usize,
        now: u64,
        health: &[Health],
        why: impl FnOnce() -> String,
        tell: &mut dyn FnMut(Event),
    ) {
        // Whoever comes second is not kept waiting: the next failure comes soon enough.
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let lasts = self.try_eject(endpoint, now, health);
        self.busy.store(false, Ordering::Release);
        if let Some(lasts) = lasts {
            tell(Event::Ejected { endpoint, lasts, why: why() });
        }
    }

    fn try_eject(&self, endpoint: usize, now: u64, health: &[Health]) -> Option<u64> {
        let (tally, own) = (self.tallies.get(endpoint)?, health.get(endpoint)?);
        let out = health.iter().filter(|one| one.ejected(now) && !one.is_away()).count();
        let members = health.iter().filter(|one| !one.is_away()).count();
        let room = (members * self.rules.cap as usize / 100).max(1);
        let others = health.iter().enumerate();
        let left = others.filter(|(at, one)| *at != endpoint && one.usable(now)).count();
        if own.ejected(now) || out >= room || left == 0 {
            return None;
        }
        let times = tally.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let lasts = millis(self.rules.base).saturating_mul(u64::from(times));
        let lasts = lasts.min(millis(self.rules.max)).max(1);
        own.eject(now.saturating_add(lasts));
        tally.consecutive.store(0, Ordering::Relaxed);
        tally.out.store(true, Ordering::Relaxed);
        Some(lasts)
    }
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    let upper = all.get(middle)?;
    match all.get(middle.wrapping_sub(1)) {
        Some(lower) if all.len().is_multiple_of(2) => Some((lower + upper) / 2.0),
        _ => Some(*upper),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Outliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut signs = Vec::new();
        if self.consecutive > 0 {
            signs.push(format!("{} failures in a row", self.consecutive));
        }
        match self.success_rate {
            None => {}
            Some(SuccessRate::Below(percent)) => {
                signs.push(format!("a success rate below {percent}%"))
            }
            Some(SuccessRate::Deviation(factor)) => {
                signs.push(format!("a success rate {factor} standard deviations below the mean"));
            }
        }
        if let Some(factor) = self.latency {
            signs.push(format!("a latency above {factor} times the others'"));
        }
        write!(
            f,
            "ejected after {}, for {:?} to {:?}, at most {}% at once",
            signs.join(", or "),
            self.base,
            self.max,
            self.cap
        )
    }
}

#[cfg(test)]
mod tests;
