//! Rate limits: how often something may happen, counted by all workers together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A token bucket, kept as the one time at which it will be full again (GCRA), so
/// that taking a token is one atomic step.
#[derive(Debug)]
pub struct Limit {
    /// Microseconds that one token takes to come.
    interval: u64,
    /// Tokens that may be taken at once.
    burst: u64,
    /// When the bucket is full again, in microseconds.
    full_at: AtomicU64,
}

impl Limit {
    /// At most `count` in every `per` microseconds, and `burst` at once.
    pub fn new(count: u64, per: u64, burst: u64) -> Self {
        let interval = (per / count.max(1)).max(1);
        Self { interval, burst: burst.max(1), full_at: AtomicU64::new(0) }
    }

    /// Takes a token at `now`, in microseconds; false where there is none.
    pub fn take(&self, now: u64) -> bool {
        let room = self.interval.saturating_mul(self.burst);
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let after = full_at.max(now).saturating_add(self.interval);
            (after <= now.saturating_add(room)).then_some(after)
        });
        taken.is_ok()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one in {:?}, {} at once", Duration::from_micros(self.interval), self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_then_one_an_interval() {
        let limit = Limit::new(10, 1_000_000, 3);
        let now = 5_000_000;
        assert_eq!((0..5).filter(|_| limit.take(now)).count(), 3);
        assert!(!limit.take(now + 99_999));
        assert!(limit.take(now + 100_000));
        assert!(!limit.take(now + 100_001));
        assert_eq!((0..9).filter(|_| limit.take(now + 60_000_000)).count(), 3);
    }
}
