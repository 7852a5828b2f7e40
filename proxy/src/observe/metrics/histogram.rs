//! How long things took: counts in buckets, and who was in them.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::series::Cell;

/// Longest value of an exemplar, in characters: a standard lets a set have 128 with its names.
pub const EXEMPLAR: usize = 64;

/// Each bucket takes a new exemplar so often, ms.
const FRESH: u64 = 1_000;

/// One of those that a bucket counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The value of the key that exemplars are told by.
    pub value: String,
    /// How long it took, µs.
    pub took: u64,
    /// When it ended.
    pub at: SystemTime,
}

/// An exemplar, and when it was taken, ms.
type Shown = (u64, Exemplar);

/// A histogram that one thread writes and others read.
#[derive(Debug)]
pub struct Histogram {
    /// µs, rising.
    bounds: Arc<[u64]>,
    /// One a bound, and one for what is above all of them; not cumulative.
    counts: Box<[Cell]>,
    /// µs.
    sum: Cell,
    exemplars: Mutex<Box<[Option<Shown>]>>,
}

/// A histogram's figures, or several ones' together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// As its bounds, and one more for what is above all of them; not cumulative.
    pub counts: Vec<u64>,
    /// µs.
    pub sum: u64,
    /// The latest of each bucket.
    pub exemplars: Vec<Option<Exemplar>>,
}

impl Histogram {
    /// One with these bounds, in µs, rising; room for exemplars is made where they are `kept`.
    pub fn new(bounds: &Arc<[u64]>, kept: bool) -> Self {
        let room = if kept { bounds.len() + 1 } else { 0 };
        Self {
            bounds: bounds.clone(),
            counts: (0..=bounds.len()).map(|_| Cell::default()).collect(),
            sum: Cell::default(),
            exemplars: Mutex::new(vec![None; room].into()),
        }
    }

    /// Counts something that took so many µs; in which bucket.
    pub fn observe(&self, took: u64) -> usize {
        // Most are quick: the first bounds are soon found, and always by the same way.
        let at = self.bounds.iter().position(|bound| took <= *bound).unwrap_or(self.bounds.len());
        self.observe_in(at, took, b"", 0);
        at
    }

    /// The same, where the bucket is known. `told`: the exemplar's value, if there is one;
    /// `now`: ms.
    pub fn observe_in(&self, at: usize, took: u64, told: &[u8], now: u64) {
        if let Some(count) = self.counts.get(at) {
            count.add(1);
        }
        self.sum.add(took);
        if !told.is_empty() {
            self.show(at, took, told, now);
        }
    }

    /// Whoever reads exemplars does not keep the writer waiting: then there is none.
    fn show(&self, at: usize, took: u64, told: &[u8], now: u64) {
        let Ok(mut exemplars) = self.exemplars.try_lock() else { return };
        let Some(place) = exemplars.get_mut(at) else { return };
        if place.as_ref().is_some_and(|(then, _)| now.saturating_sub(*then) < FRESH) {
            return;
        }
        let value = String::from_utf8_lossy(told).chars().take(EXEMPLAR).collect();
        *place = Some((now, Exemplar { value, took, at: SystemTime::now() }));
    }
}

impl Taken {
    /// Adds a histogram's figures.
    pub fn add(&mut self, histogram: &Histogram) {
        let places = histogram.counts.len();
        self.counts.resize(self.counts.len().max(places), 0);
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.get();
        }
        self.sum += histogram.sum.get();
        let Ok(exemplars) = histogram.exemplars.lock() else { return };
        self.exemplars.resize(self.exemplars.len().max(exemplars.len()), None);
        for (had, (_, new)) in self
            .exemplars
            .iter_mut()
            .zip(exemplars.iter())
            .filter_map(|(had, new)| Some((had, new.as_ref()?)))
        {
            if had.as_ref().is_none_or(|had| had.at < new.at) {
                *had = Some(new.clone());
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_counted_in_the_first_bucket_whose_bound_it_does_not_pass(
            bounds in prop::collection::btree_set(1u64..1000, 1..12),
            took in prop::collection::vec(0u64..1200, 0..200),
        ) {
            let bounds: Arc<[u64]> = bounds.into_iter().collect();
            let histogram = Histogram::new(&bounds, false);
            for took in &took {
                histogram.observe(*took);
            }
            let mut taken = Taken::default();
            taken.add(&histogram);
            prop_assert_eq!(taken.sum, took.iter().sum::<u64>());
            let mut cumulative = 0;
            for (bound, count) in bounds.iter().chain([&u64::MAX]).zip(&taken.counts) {
                cumulative += count;
                let want = took.iter().filter(|took| *took <= bound).count() as u64;
                prop_assert_eq!(cumulative, want);
            }
        }
    }

    #[test]
    fn a_bucket_shows_one_of_its_own_and_changes_it_once_a_second() {
        let bounds: Arc<[u64]> = [10, 20].into();
        let histogram = Histogram::new(&bounds, true);
        let values = |histogram: &Histogram| {
            let mut taken = Taken::default();
            taken.add(histogram);
            taken.exemplars.into_iter().map(|e| e.map(|e| e.value)).collect::<Vec<_>>()
        };
        histogram.observe_in(0, 5, b"a", 0);
        histogram.observe_in(0, 6, b"b", 999);
        histogram.observe_in(2, 21, "ü".repeat(100).as_bytes(), 999);
        let long = Some("ü".repeat(EXEMPLAR));
        assert_eq!(values(&histogram), [Some("a".into()), None, long.clone()]);
        histogram.observe_in(0, 7, b"c\xff", 1000);
        assert_eq!(values(&histogram), [Some("c\u{fffd}".into()), None, long]);
        let none = Histogram::new(&bounds, false);
        none.observe_in(0, 5, b"a", 0);
        assert_eq!(values(&none), [None::<String>; 0]);
    }
}
