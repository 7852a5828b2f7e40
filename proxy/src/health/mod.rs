//! What is known of endpoints' health, shared by all workers and by whoever checks.
//!
//! [`Health`] is what the choice of an endpoint looks at. Two sorts of evidence move it:
//! [`checks`] ask each endpoint by and by ([`watch`] is their thread, [`talk`] one such
//! question), and [`outlier`] draws conclusions from how requests fared.

pub mod checks;
pub mod outlier;
mod talk;
pub(crate) mod watch;

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
    /// Checks that it did not pass.
    checks_failed: AtomicU64,
    /// How often it was ejected.
    ejections: AtomicU64,
}

impl Health {
    /// Whether requests may go to it.
    pub fn usable(&self, now: u64) -> bool {
        !self.failing.load(Ordering::Relaxed) && !self.ejected(now)
    }

    /// Whether it is passed over because requests to it fared badly.
    pub fn ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
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

    /// One check was not passed; what follows from it is another matter.
    pub fn check_failed(&self) {
        self.checks_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Passes it over until then, ms.
    pub fn eject(&self, until: u64) {
        self.ejected_until.fetch_max(until, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that it did not pass, since the start.
    pub fn checks_failed(&self) -> u64 {
        self.checks_failed.load(Ordering::Relaxed)
    }

    /// How often it was ejected, since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }
}
