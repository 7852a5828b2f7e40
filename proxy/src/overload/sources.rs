//! How many connections each source has: a table of fixed size that all workers share
//! without a lock, since one source's connections are spread over all of them.
//!
//! A place is one number: 40 bits of the source's hash and 24 bits of count. One whose
//! count is 0 is anybody's. A source that finds no free place among its neighbours is not
//! counted: a full table must not lock anybody out.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Places: 1 MiB.
const PLACES: usize = 1 << 17;

/// Neighbouring places that a source may be at.
const WINDOW: usize = 16;

/// The bits of the count.
const COUNT: u64 = (1 << 24) - 1;

/// Refusals are told at most so often (ms).
const TELL_EVERY: u64 = 10_000;

#[derive(Debug)]
struct Table {
    places: Box<[AtomicU64]>,
    /// Random, so that nobody can choose sources that crowd each other out.
    hasher: RandomState,
    refused: AtomicU64,
    /// What of that was told, and when, ms since `began`; 0: never.
    told: AtomicU64,
    told_at: AtomicU64,
    began: Instant,
}

/// The sources that have connections.
#[derive(Debug, Clone)]
pub struct Sources(Arc<Table>);

impl Default for Sources {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

/// A connection that was let in, for as long as any clone of this lives.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    _ticket: Option<Rc<Ticket>>,
}

/// Who a client is does not depend on how it was let in.
impl PartialEq for Admission {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Admission {}

#[derive(Debug)]
struct Ticket {
    sources: Sources,
    place: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(place) = self.sources.0.places.get(self.place) {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Sources {
    fn with_places(places: usize) -> Self {
        Self(Arc::new(Table {
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            refused: AtomicU64::new(0),
            told: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
            began: Instant::now(),
        }))
    }

    /// Connections that were refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Counts a connection; `None` where `source` has `most` already. Workers that race
    /// may let in one more each.
    pub fn admit(&self, source: IpAddr, prefix: u8, most: u32) -> Option<Admission> {
        let key = match source {
            IpAddr::V4(address) => u128::from(u32::from(address)) | 1 << 127,
            IpAddr::V6(address) => {
                u128::from(address)
                    & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
            }
        };
        let hash = self.0.hasher.hash_one((matches!(source, IpAddr::V4(_)), key));
        let tag = (hash << 24).max(1 << 24);
        let start = (hash >> 40) as usize % self.0.places.len().max(1);
        let window = || {
            let places = self.0.places.iter().enumerate();
            let (after, before) = (places.clone().skip(start), places.take(start));
            after.chain(before).take(WINDOW)
        };
        // Again where another worker changed the place that was found.
        for _ in 0..4 * WINDOW {
            let (mut own, mut free, mut count) = (None, None, 0);
            for (at, place) in window() {
                let had = place.load(Ordering::Relaxed);
                if had & COUNT == 0 {
                    free = free.or(Some((at, place, had)));
                } else if had & !COUNT == tag {
                    count += had & COUNT;
                    own = own.or(Some((at, place, had)));
                }
            }
            if count >= u64::from(most) {
                self.refuse(source);
                return None;
            }
            let (at, place, had, new) = match (own, free) {
                (Some((at, place, had)), _) if had & COUNT < COUNT => (at, place, had, had + 1),
                (_, Some((at, place, had))) => (at, place, had, tag | 1),
                _ => return Some(Admission::default()),
            };
            if place.compare_exchange(had, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let ticket = Ticket { sources: self.clone(), place: at };
                return Some(Admission { _ticket: Some(Rc::new(ticket)) });
            }
        }
        Some(Admission::default())
    }

    fn refuse(&self, source: IpAddr) {
        let table = &self.0;
        let refused = table.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(table.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let told_at = table.told_at.load(Ordering::Relaxed);
        let due = told_at == 0 || now.saturating_sub(told_at) >= TELL_EVERY;
        if due
            && table
                .told_at
                .compare_exchange(told_at, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let since = refused.saturating_sub(table.told.swap(refused, Ordering::Relaxed));
            tracing::warn!(%source, refused = since, "connections refused: their source has too many");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_source_has_so_many_and_gets_them_back() {
        let sources = Sources::with_places(64);
        let first = sources.admit(v4(1), 64, 2).expect("room");
        let _second = sources.admit(v4(1), 64, 2).expect("room");
        assert!(sources.admit(v4(1), 64, 2).is_none());
        assert!(sources.admit(v4(2), 64, 2).is_some(), "another source");
        let clone = first.clone();
        drop(first);
        assert!(sources.admit(v4(1), 64, 2).is_none(), "its streams still hold it");
        drop(clone);
        assert!(sources.admit(v4(1), 64, 2).is_some());
        assert_eq!(sources.refused(), 2);
    }

    #[test]
    fn a_network_is_one_source_of_version_6() {
        let sources = Sources::with_places(64);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let _one = sources.admit(address("2001:db8::1"), 64, 1).expect("room");
        assert!(sources.admit(address("2001:db8::ffff:2"), 64, 1).is_none());
        assert!(sources.admit(address("2001:db8:0:1::1"), 64, 1).is_some());
        assert!(sources.admit(address("2001:db8::ffff:2"), 128, 1).is_some());
    }

    #[test]
    fn a_full_table_locks_nobody_out_and_is_empty_again_when_all_have_left() {
        let sources = Sources::with_places(WINDOW);
        let all: Vec<_> = (0..200).map(|last| sources.admit(v4(last), 64, 1)).collect();
        assert!(all.iter().all(Option::is_some));
        drop(all);
        assert!(sources.0.places.iter().all(|place| place.load(Ordering::Relaxed) & COUNT == 0));
        let _held = sources.admit(v4(1), 64, 1).expect("room");
        assert!(sources.admit(v4(1), 64, 1).is_none());
    }

    #[test]
    fn threads_that_race_lose_no_count() {
        let sources = Sources::with_places(64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let sources = sources.clone();
                scope.spawn(move || {
                    for round in 0..2000u32 {
                        let held = sources.admit(v4((round % 5) as u8), 64, 1000);
                        assert!(held.is_some());
                    }
                });
            }
        });
        let left: u64 =
            sources.0.places.iter().map(|place| place.load(Ordering::Relaxed) & COUNT).sum();
        assert_eq!(left, 0);
    }
}
