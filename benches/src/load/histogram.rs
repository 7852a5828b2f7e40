//! Latencies in buckets of about 3 %.

use std::time::Duration;

const STEPS: u64 = 32;

/// Counts by duration, in buckets that widen with it.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = bucket(nanos);
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        self.total += 1;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// The duration that a share of `quantile` does not pass; zero where nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (self.total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return Duration::from_nanos(floor(at as u64 + 1));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (nanos >> shift)) as usize
}

/// The least duration of a bucket.
fn floor(at: u64) -> u64 {
    if at < STEPS {
        return at;
    }
    let shift = at / STEPS - 1;
    (at - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_line() {
        for at in 0..1000u64 {
            assert_eq!(bucket(floor(at)) as u64, at);
            assert_eq!(bucket(floor(at + 1) - 1) as u64, at);
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut all = Histogram::default();
        for micros in 1..=1000 {
            all.record(Duration::from_micros(micros));
        }
        let mut twice = Histogram::default();
        twice.merge(&all);
        twice.merge(&all);
        for of in [&all, &twice] {
            let half = of.quantile(0.5).as_micros();
            assert!((500..=520).contains(&half), "{half}");
            let most = of.quantile(0.99).as_micros();
            assert!((990..=1025).contains(&most), "{most}");
        }
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
