//! What is known of endpoints' health, shared by all workers and by whoever checks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One endpoint's health. Times are the engines' clock: ms since the proxy started.
#[derive(Debug, Default)]
pub struct Health {
    /// Active checks say that it cannot be used.
    failing: AtomicBool,
    /// Passed over until then, because requests to it fared badly.
    ejected_until: AtomicU64,
    /// When it last became usable; 0: at the start.
    since: AtomicU64,
}

impl Health {
    /// Whether requests may go to it.
    pub fn usable(&self, now: u64) -> bool {
        !self.failing.load(Ordering::Relaxed) && self.ejected_until.load(Ordering::Relaxed) <= now
    }

    /// When it last became usable, ms; 0: it was at the start.
    pub fn usable_since(&self) -> u64 {
        let ejected_until = self.ejected_until.load(Ordering::Relaxed);
        self.since.load(Ordering::Relaxed).max(ejected_until)
    }

    /// What active checks have come to.
    pub fn checked(&self, well: bool, now: u64) {
        if self.failing.swap(!well, Ordering::Relaxed) && well {
            self.since.store(now, Ordering::Relaxed);
        }
    }

    /// Passes it over until then, ms.
    pub fn eject(&self, until: u64) {
        self.ejected_until.fetch_max(until, Ordering::Relaxed);
    }
}
