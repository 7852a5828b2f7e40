//! How slow a member is, by what it took lately.

/// A moving mean of latencies that believes bad news at once and good news slowly: a
/// peak counts in full, and fades with time, so that who was slow is tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// µs.
    mean: f64,
    /// When `mean` was right, µs; 0: nothing was ever seen.
    at: u64,
}

/// In so many µs a latency that is not seen again fades to 1/e.
const FADE: f64 = 10e6;

/// The cost, in µs, of who was never tried and is being tried: enough that nobody else
/// is sent there before that tells. (An hour; no request takes so long.)
const UNTRIED: f64 = 3.6e9;

impl Pace {
    /// A request took so long (µs); `now` in µs.
    pub fn observe(&mut self, now: u64, took: u64) {
        let (took, keep) = (took as f64, self.keep(now));
        let faded = self.mean * keep;
        self.mean = if self.at == 0 || took > faded { took } else { faded + took * (1.0 - keep) };
        self.at = now.max(1);
    }

    /// What one more request costs here: the mean, times those that would be in flight
    /// for a share of 1. Lower is better; who was never tried costs nothing until it is.
    pub fn cost(&self, now: u64, in_flight: usize, share: f64) -> f64 {
        let in_flight = in_flight as f64;
        if self.at == 0 {
            return in_flight * UNTRIED;
        }
        self.faded(now) * (1.0 + in_flight / share)
    }

    /// What is left of the mean, µs.
    pub fn faded(&self, now: u64) -> f64 {
        self.mean * self.keep(now)
    }

    fn keep(&self, now: u64) -> f64 {
        // As good as e^-x where it matters, and quicker: it is asked three times a message.
        let x = now.saturating_sub(self.at) as f64 * (1.0 / FADE);
        if x < 0.05 {
            return 1.0 - x * (1.0 - x * 0.5);
        }
        1.0 / (1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_peak_counts_in_full_and_fades_with_time() {
        let mut pace = Pace::default();
        pace.observe(SECOND, 1_000);
        pace.observe(2 * SECOND, 50_000);
        assert_eq!(pace.faded(2 * SECOND) as u64, 50_000);
        assert!(pace.faded(3 * SECOND) > 40_000.0);
        assert!(pace.faded(12 * SECOND) < 50_000.0 / 2.7);
        // One quick answer does not clear it; a minute does.
        pace.observe(3 * SECOND, 1_000);
        assert!(pace.faded(3 * SECOND) > 40_000.0);
        for second in 4..64 {
            pace.observe(second * SECOND, 1_000);
        }
        assert!((900.0..1_600.0).contains(&pace.faded(64 * SECOND)), "{pace:?}");
    }

    #[test]
    fn a_request_in_flight_costs_by_share() {
        let mut pace = Pace::default();
        pace.observe(SECOND, 1_000);
        assert_eq!(pace.cost(SECOND, 0, 1.0) as u64, 1_000);
        assert_eq!(pace.cost(SECOND, 4, 1.0) as u64, 5_000);
        assert_eq!(pace.cost(SECOND, 4, 2.0) as u64, 3_000);
    }

    #[test]
    fn who_was_never_tried_is_tried_once() {
        let (new, mut known) = (Pace::default(), Pace::default());
        known.observe(SECOND, 1_000);
        assert!(new.cost(SECOND, 0, 1.0) < known.cost(SECOND, 0, 1.0));
        assert!(new.cost(SECOND, 1, 1.0) > known.cost(SECOND, 100, 1.0));
    }
}
