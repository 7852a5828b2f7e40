//! Active checks: how often, how long, and how many decide. Pure: no clock, no socket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Codec, HealthCheck, Protocol};
use rand::Rng;

/// A cluster's `health`.
#[derive(Debug, Clone)]
pub struct Checks {
    /// From one check's start to the next one's. Default 5 s.
    pub every: Duration,
    /// Bound on a check, from the connection to the last answer. Default 1 s.
    pub timeout: Duration,
    /// So many failed checks in a row make an endpoint unusable. Default 3.
    pub unhealthy: u32,
    /// So many passed ones in a row make it usable again. Default 2.
    pub healthy: u32,
    /// Each pause is up to so many percent longer or shorter, so that checks of many
    /// endpoints, by many proxies, do not come all at once. Default 10.
    pub jitter: u32,
    /// What is asked; `None`: to be connected, TLS included.
    pub question: Option<Question>,
}

/// What a check asks in an endpoint's own protocol.
#[derive(Clone)]
pub struct Question {
    /// In words, for people.
    pub name: String,
    /// The protocol.
    pub protocol: &'static dyn Protocol,
    /// Reads its answers.
    pub codec: Arc<dyn Codec>,
    /// Says and judges.
    pub check: Arc<dyn HealthCheck>,
    /// It goes over a stream of a connection that carries many.
    pub streams: bool,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.name).finish()
    }
}

impl Checks {
    /// The time from a check's start to the next one's.
    pub fn pause(&self, rng: &mut impl Rng) -> Duration {
        let percent = rng.random_range(0..=2 * self.jitter.min(100));
        self.every * (100 + percent).saturating_sub(self.jitter.min(100)) / 100
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.question.as_ref().map_or("connection", |question| &question.name);
        write!(
            f,
            "{name} every {:?} (±{}%) within {:?}; unusable after {} failed, usable after {} passed",
            self.every, self.jitter, self.timeout, self.unhealthy, self.healthy
        )
    }
}

/// Where an endpoint stands with its checks. It begins as usable; the very first check
/// counts at once, later ones when enough in a row say the same.
#[derive(Debug, Default)]
pub struct Standing {
    failing: bool,
    known: bool,
    /// Checks in a row that say otherwise.
    against: u32,
}

impl Standing {
    /// Takes a check's result; what it changes, if it does: whether the endpoint is
    /// usable from now on.
    pub fn note(&mut self, well: bool, checks: &Checks) -> Option<bool> {
        let first = !std::mem::replace(&mut self.known, true);
        if well != self.failing {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if well { checks.healthy } else { checks.unhealthy };
        if !first && self.against < needed {
            return None;
        }
        self.failing = !well;
        self.against = 0;
        Some(well)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn checks(unhealthy: u32, healthy: u32, jitter: u32) -> Checks {
        let (every, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
        Checks { every, timeout, unhealthy, healthy, jitter, question: None }
    }

    /// What each of these results changes; `+` passed, `-` failed.
    fn changes(checks: &Checks, results: &str) -> Vec<Option<bool>> {
        let mut standing = Standing::default();
        results.chars().map(|result| standing.note(result == '+', checks)).collect()
    }

    #[test]
    fn the_first_check_counts_at_once() {
        let (up, down) = (Some(true), Some(false));
        assert_eq!(changes(&checks(3, 2, 0), "-"), [down]);
        assert_eq!(changes(&checks(3, 2, 0), "+"), [None]);
        assert_eq!(changes(&checks(3, 2, 0), "-++"), [down, None, up]);
        assert_eq!(changes(&checks(3, 1, 0), "-+"), [down, up]);
    }

    #[test]
    fn later_ones_count_when_enough_in_a_row_agree() {
        let (up, down, no) = (Some(true), Some(false), None);
        assert_eq!(changes(&checks(3, 2, 0), "+---"), [no, no, no, down]);
        assert_eq!(changes(&checks(3, 2, 0), "+--+--+---"), {
            let mut all = [no; 10];
            all[9] = down;
            all
        });
        assert_eq!(changes(&checks(1, 2, 0), "+-+-++"), [no, down, no, no, no, up]);
    }

    #[test]
    fn pauses_are_spread_by_the_jitter_and_no_further() {
        let mut rng = SmallRng::seed_from_u64(1);
        let checks = checks(3, 2, 20);
        let mut pauses: Vec<u128> = (0..1000).map(|_| checks.pause(&mut rng).as_millis()).collect();
        pauses.sort_unstable();
        assert_eq!((pauses[0], pauses[999]), (8000, 12_000));
        assert!(pauses[500] > 9_500 && pauses[500] < 10_500, "{}", pauses[500]);
        let steady = Checks { jitter: 0, ..checks };
        assert!((0..100).all(|_| steady.pause(&mut rng) == steady.every));
    }
}
