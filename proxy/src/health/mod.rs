//! What is known of endpoints' health, shared by all workers and by whoever checks.
//!
//! [`Health`] is what the choice of an endpoint looks at. Two sorts of evidence move it:
//! [`checks`] ask each endpoint by and by ([`watch`] is their thread, [`talk`] one such
//! question), and [`outlier`] draws conclusions from how requests fared.

pub mod checks;
pub mod outlier;
mod talk;
pub(crate) mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One endpoint's health; a clone is the same endpoint's, so that it outlives a config.
/// Times are the engines' clock: ms since the proxy started.
#[derive(Debug, Default, Clone)]
pub struct Health(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// It is not among its cluster's endpoints any more, or was taken out by hand.
    away: AtomicBool,
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
        !self.0.failing.load(Ordering::Relaxed) && !self.ejected(now) && !self.is_away()
    }

    /// Whether it is none of its cluster's endpoints now.
    pub fn is_away(&self) -> bool {
        self.0.away.load(Ordering::Relaxed)
    }

    /// Takes it out of its cluster, or back in.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::Relaxed);
    }

    /// Whether both are of the same endpoint.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it is passed over because requests to it fared badly.
    pub fn ejected(&self, now: u64) -> bool {
        self.0.ejected_until.load(Ordering::Relaxed) > now
    }

    /// When it last became usable, ms; 0: it was at the start.
    pub fn usable_since(&self) -> u64 {
        let ejected_until = self.0.ejected_until.load(Ordering::Relaxed);
        self.0.since.load(Ordering::Relaxed).max(ejected_until)
    }

    /// What active checks have come to.
    pub fn checked(&self, well: bool, now: u64) {
        if self.0.failing.swap(!well, Ordering::Relaxed) && well {
            self.0.since.store(now, Ordering::Relaxed);
        }
    }

    /// One check was not passed; what follows from it is another matter.
    pub fn check_failed(&self) {
        self.0.checks_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Passes it over until then, ms.
    pub fn eject(&self, until: u64) {
        self.0.ejected_until.fetch_max(until, Ordering::Relaxed);
        self.0.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that it did not pass, since the start.
    pub fn checks_failed(&self) -> u64 {
        self.0.checks_failed.load(Ordering::Relaxed)
    }

    /// How often it was ejected, since the start.
    pub fn ejections(&self) -> u64 {
        self.0.ejections.load(Ordering::Relaxed)
    }
}
