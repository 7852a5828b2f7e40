//! Rate limits: how often something may happen, counted by all workers together.

mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use polyport_codecs::{Slot, View};

use table::Table;

/// The sizes of a token bucket. A bucket itself is one number: the time at which it
/// will be full again (GCRA), so that taking a token is one atomic step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds that one token takes to come.
    interval: u64,
    /// Tokens that may be taken at once.
    burst: u64,
}

impl Rate {
    /// At most `count` in every `per` microseconds, and `burst` at once.
    pub fn new(count: u64, per: u64, burst: u64) -> Self {
        Self { interval: (per / count.max(1)).max(1), burst: burst.max(1) }
    }

    /// Takes a token out of `bucket` at `now`, in microseconds; false where there is none.
    fn take(self, bucket: &AtomicU64, now: u64) -> bool {
        let room = self.interval.saturating_mul(self.burst);
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let after = full_at.max(now).saturating_add(self.interval);
            (after <= now.saturating_add(room)).then_some(after)
        });
        taken.is_ok()
    }

    /// Gives a token back that was just taken.
    fn give_back(self, bucket: &AtomicU64) {
        let less = |full_at: u64| Some(full_at.saturating_sub(self.interval));
        // It always succeeds: there is always something less.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// One limit of a route: one bucket, or one for each value of some keys.
#[derive(Debug)]
pub struct Limit {
    rate: Rate,
    /// Of messages that have none of the keys; of all where none are asked for.
    bucket: Arc<AtomicU64>,
    by: Option<By>,
}

/// What a limit counts apart.
#[derive(Debug)]
struct By {
    /// The keys as the config writes them.
    names: String,
    slots: Box<[Slot]>,
    table: Arc<Table>,
    /// Of values that found no room in the table.
    overflow: Arc<AtomicU64>,
}

impl Limit {
    /// One bucket for all messages.
    pub fn new(rate: Rate) -> Self {
        Self { rate, bucket: Arc::default(), by: None }
    }

    /// A bucket for each value of these keys together, with room for about `values` of
    /// them at once (32 bytes each, taken now).
    pub fn by(rate: Rate, keys: &[(&str, Slot)], values: usize) -> Self {
        let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
        let by = By {
            names: names.join(" and "),
            slots: keys.iter().map(|(_, slot)| *slot).collect(),
            table: Arc::new(Table::new(values)),
            overflow: Arc::default(),
        };
        Self { by: Some(by), ..Self::new(rate) }
    }

    /// Counts on from where `old`, which the config says in the same words, stands.
    fn carry(&mut self, old: &Self) {
        self.bucket = old.bucket.clone();
        if let (Some(new), Some(old)) = (&mut self.by, &old.by) {
            new.table = old.table.clone();
            new.overflow = old.overflow.clone();
        }
    }

    /// What it counts apart.
    pub fn slots(&self) -> &[Slot] {
        self.by.as_ref().map_or(&[], |by| &by.slots)
    }

    /// The bucket that a message takes its token from.
    fn bucket(&self, view: &View<'_>, now: u64) -> &AtomicU64 {
        let Some(by) = &self.by else { return &self.bucket };
        let values = || by.slots.iter().map(|slot| view.get(*slot));
        if values().all(|value| value.is_none()) {
            return &self.bucket;
        }
        by.table.bucket(values(), now).unwrap_or(&by.overflow)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { interval, burst } = self.rate;
        write!(f, "one in {:?}, {burst} at once", Duration::from_micros(interval))?;
        match &self.by {
            Some(by) => write!(f, ", for each {}", by.names),
            None => Ok(()),
        }
    }
}

/// The limits of a route: a message needs a token of each.
#[derive(Debug, Default)]
pub struct Limits(pub Box<[Limit]>);

impl Limits {
    /// Counts on from where `old`, which the config says in the same words, stands: a
    /// reload refills no bucket.
    pub fn carry(&mut self, old: &Self) {
        for (new, old) in self.0.iter_mut().zip(&old.0) {
            new.carry(old);
        }
    }

    /// Takes a token of each limit at `now`, in microseconds; where one has none, those
    /// taken of the others are given back.
    ///
    /// # Errors
    /// The position of the limit that has none.
    pub fn take(&self, view: &View<'_>, now: u64) -> Result<(), usize> {
        take(&self.0, view, now).map_err(|left| self.0.len() - left)
    }
}

/// As [`Limits::take`]; the error counts from the end.
fn take(limits: &[Limit], view: &View<'_>, now: u64) -> Result<(), usize> {
    let Some((first, rest)) = limits.split_first() else { return Ok(()) };
    let bucket = first.bucket(view, now);
    if !first.rate.take(bucket, now) {
        return Err(limits.len());
    }
    let taken = take(rest, view, now);
    if taken.is_err() {
        first.rate.give_back(bucket);
    }
    taken
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.0.iter().enumerate() {
            write!(f, "{}{limit}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polyport_codecs::{Interest, Metadata};

    use super::*;

    fn limits(all: impl IntoIterator<Item = Limit>) -> Limits {
        Limits(all.into_iter().collect())
    }

    fn per_value(rate: Rate, values: usize) -> Limits {
        limits([Limit::by(rate, &[("tenant", Slot(0))], values)])
    }

    /// What a message with this `tenant` and `user` may.
    fn take(limits: &Limits, tenant: &str, user: &str, now: u64) -> Result<(), usize> {
        let mut metadata = Metadata::new(&Interest::of(["tenant", "user"]));
        for (slot, value) in [(Slot(0), tenant), (Slot(1), user)] {
            if !value.is_empty() {
                metadata.set_text(slot, value.as_bytes());
            }
        }
        limits.take(&metadata.view(b""), now)
    }

    fn passed(limits: &Limits, tenant: &str, tries: usize, now: u64) -> usize {
        (0..tries).filter(|_| take(limits, tenant, "", now).is_ok()).count()
    }

    #[test]
    fn a_burst_goes_then_one_an_interval() {
        let limit = limits([Limit::new(Rate::new(10, 1_000_000, 3))]);
        let now = 5_000_000;
        assert_eq!(passed(&limit, "", 5, now), 3);
        assert_eq!(passed(&limit, "", 1, now + 99_999), 0);
        assert_eq!(passed(&limit, "", 1, now + 100_000), 1);
        assert_eq!(passed(&limit, "", 1, now + 100_001), 0);
        assert_eq!(passed(&limit, "", 9, now + 60_000_000), 3);
    }

    #[test]
    fn each_value_has_its_own_bucket_and_those_without_share_one() {
        let limit = per_value(Rate::new(1, 1_000_000, 2), 100);
        let now = 1_000_000;
        for tenant in ["a", "b", ""] {
            assert_eq!(passed(&limit, tenant, 5, now), 2, "{tenant:?}");
        }
        assert_eq!(passed(&limit, "a", 5, now + 1_000_000), 1);
    }

    #[test]
    fn keys_are_joined_without_running_into_each_other() {
        let keys = [("tenant", Slot(0)), ("user", Slot(1))];
        let limit = limits([Limit::by(Rate::new(1, 1_000_000, 1), &keys, 100)]);
        for (tenant, user) in [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("", "")] {
            assert_eq!(take(&limit, tenant, user, 9), Ok(()), "{tenant} {user}");
            assert_eq!(take(&limit, tenant, user, 9), Err(0), "{tenant} {user}");
        }
    }

    #[test]
    fn all_limits_must_have_room_and_none_loses_a_token_to_anothers_refusal() {
        let all = Limit::new(Rate::new(1, 1_000_000, 10));
        let each = Limit::by(Rate::new(1, 1_000_000, 1), &[("tenant", Slot(0))], 100);
        let limit = limits([all, each]);
        assert_eq!(passed(&limit, "greedy", 50, 1), 1);
        assert_eq!(take(&limit, "greedy", "", 1), Err(1));
        let others = (0..50).filter(|n| take(&limit, &format!("t{n}"), "", 1).is_ok()).count();
        assert_eq!(others, 9);
        assert_eq!(take(&limit, "late", "", 1), Err(0));
        assert_eq!(
            limit.to_string(),
            "one in 1s, 10 at once; one in 1s, 1 at once, for each tenant"
        );
    }

    #[test]
    fn values_beyond_the_room_share_one_bucket_until_others_are_idle() {
        let limit = per_value(Rate::new(1, 1_000_000, 1), 1);
        // Far more values than there is room for: those in the table pass once, and
        // once altogether those that are not.
        let first = (0..10_000).filter(|n| take(&limit, &format!("v{n}"), "", 1).is_ok()).count();
        assert!((2..100).contains(&first), "{first} passed");
        // A second later all are idle, and their places free.
        assert_eq!(take(&limit, "new", "", 1_000_001), Ok(()));
        assert_eq!(take(&limit, "new", "", 1_000_001), Err(0));
    }

    #[test]
    fn threads_together_pass_what_one_would() {
        let limit = per_value(Rate::new(1, 3_600_000_000, 100), 1000);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let tries = (0..200).flat_map(|_| 0..10);
                        tries.filter(|n| take(&limit, &format!("v{n}"), "", 1).is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).sum()
        });
        // Each of the others may race for a value's first place, and each race moves a token.
        assert!(passed.abs_diff(10 * 100) <= 10 * 3, "{passed} passed");
    }
}
