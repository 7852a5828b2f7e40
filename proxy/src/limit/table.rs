//! Buckets by value, in a table of fixed size that all workers share without a lock.
//!
//! Open addressing: a value's hash names the first of [`WINDOW`] neighbouring places
//! that it may be at. A place is the hash and the bucket. A bucket that is full again is
//! as good as none, so its place is free for another value: nothing has to be cleaned up.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use polyport_router::hash_seeded;

/// Neighbouring places that a value may be at.
const WINDOW: usize = 16;

/// Sixteen bytes.
#[derive(Debug, Default)]
struct Place {
    /// The hash of the value whose bucket it is; 0: nobody's yet.
    tag: AtomicU64,
    /// When the bucket is full again, in microseconds.
    full_at: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Table {
    places: Box<[Place]>,
    /// Seeded, so that no client can choose values that crowd each other out.
    seed: u64,
}

impl Table {
    /// Room for about so many values at once: twice as many places, as windows fill
    /// unevenly.
    pub(super) fn new(values: usize) -> Self {
        let count = values.saturating_mul(2).max(WINDOW);
        Self {
            places: (0..count).map(|_| Place::default()).collect(),
            seed: RandomState::new().hash_one(0),
        }
    }

    /// The bucket of these values together at `now`, in microseconds; `None` where the
    /// places that it could have are all of busy values.
    ///
    /// Two workers that race for one place, or for the first place of one value, may cost or
    /// give a token; no race makes the table grow, wait or lose a busy bucket.
    pub(super) fn bucket<'v>(
        &self,
        values: impl Iterator<Item = Option<&'v [u8]>>,
        now: u64,
    ) -> Option<&AtomicU64> {
        // Each value's hash is the next one's seed, and tells none from an empty one.
        let tag = values.fold(self.seed, |seed, value| match value {
            Some(value) => hash_seeded(value, seed),
            None => hash_seeded(b"", !seed),
        });
        let tag = tag.max(1);
        let start = ((u128::from(tag) * self.places.len() as u128) >> 64) as usize;
        let (before, after) = self.places.split_at(start.min(self.places.len()));
        let window = || after.iter().chain(before).take(WINDOW);
        // Again where another worker took the place that was found.
        for _ in 0..WINDOW {
            if let Some(own) = window().find(|place| place.tag.load(Ordering::Relaxed) == tag) {
                return Some(&own.full_at);
            }
            let idle = window().find_map(|place| {
                let had = place.tag.load(Ordering::Relaxed);
                (place.full_at.load(Ordering::Relaxed) <= now).then_some((place, had))
            });
            let (place, had) = idle?;
            if place.tag.compare_exchange(had, tag, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(&place.full_at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(table: &Table, value: u32, now: u64) -> Option<&AtomicU64> {
        table.bucket([Some(&value.to_be_bytes()[..])].into_iter(), now)
    }

    #[test]
    fn a_busy_value_keeps_its_bucket_and_an_idle_one_gives_it_up() {
        let table = Table::new(8);
        let mut held = 0;
        for value in 0..1000 {
            if let Some(found) = bucket(&table, value, 10) {
                assert_eq!(found.swap(100, Ordering::Relaxed), 0, "another's bucket");
                held += 1;
            }
        }
        assert_eq!(held, table.places.len(), "every place is one value's");
        assert!(bucket(&table, 5000, 99).is_none());
        assert!(bucket(&table, 5000, 100).is_some());
    }

    #[test]
    fn the_values_it_was_made_for_nearly_all_find_room() {
        let table = Table::new(10_000);
        let crowded = (0..10_000)
            .filter(|value| match bucket(&table, *value, 1) {
                Some(found) => {
                    found.store(100, Ordering::Relaxed);
                    false
                }
                None => true,
            })
            .count();
        assert!(crowded < 20, "{crowded} of 10000 found no room");
    }

    #[test]
    fn threads_that_race_lose_no_token() {
        for round in 0..50 {
            let table = Table::new(64);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for value in 0..32 {
                            if let Some(found) = bucket(&table, value, 1) {
                                found.fetch_add(1000, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            let sum: u64 = table.places.iter().map(|p| p.full_at.load(Ordering::Relaxed)).sum();
            assert_eq!(sum, 4 * 32 * 1000, "round {round}: a token was lost");
        }
    }
}
