//! Choosing by a key's hash, and what keeps one hot key from drowning its member.

use super::eligible::Eligible;
use super::maglev::Maglev;
use crate::Ring;

/// A table from hashes to members.
#[derive(Debug, Clone)]
pub enum Keyed {
    /// Each member has many points on a circle; a key belongs to the next.
    Ring(Ring),
    /// Each member has its share of a table's slots.
    Maglev(Maglev),
}

impl Keyed {
    /// The member for a key's hash, the nearest that `fits`. Where the key's own does
    /// not, its keys spread over the others, and those of the others stay.
    pub fn find(&self, hash: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(ring) => ring.find(hash, fits),
            Self::Maglev(table) => table.find(hash, fits),
        }
    }

    /// The member of `set` for a key's hash, whatever anybody is doing: on the level that
    /// takes the key, but for those that `skip` names; of any level, where the key's own is
    /// skipped as a whole. `None` where nobody is left.
    pub fn home(
        &self,
        hash: u64,
        set: &Eligible,
        skip: impl Fn(usize) -> bool + Copy,
    ) -> Option<usize> {
        let level = set.level_of(hash);
        self.find(hash, |at| set.on_level(at, level) && !skip(at)).or_else(|| set.draw(hash, skip))
    }
}

/// Bounded loads: no member has more than so many times its share of all requests in
/// flight; keys beyond that go to the next one that has room. (Mirrokni et al., 2016.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    factor: f64,
    total: f64,
}

impl Bound {
    /// `percent` of a member's share, at least 100; `in_flight` at all members that a
    /// key may go to; `shares` their shares' sum.
    pub fn new(percent: u32, in_flight: usize, shares: f64) -> Self {
        let factor = f64::from(percent.max(100)) / 100.0;
        Self { factor, total: (in_flight as f64 + 1.0) / shares.max(f64::MIN_POSITIVE) }
    }

    /// Whether a member of that share has room for one more. The bounds of all
    /// members add up to more than what is in flight, so one always has.
    pub fn has_room(&self, in_flight: usize, share: f64) -> bool {
        (in_flight as f64) < (self.factor * self.total * share).ceil()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_key;

    const KEYS: usize = 100_000;

    fn tables(names: &[String], weight: impl Fn(usize) -> u32) -> [Keyed; 2] {
        let members = || names.iter().enumerate().map(|(at, name)| (name.as_str(), weight(at)));
        [Keyed::Ring(Ring::new(members())), Keyed::Maglev(Maglev::new(members()))]
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250)).collect()
    }

    fn key(n: usize) -> u64 {
        hash_key(format!("user:{n}").as_bytes())
    }

    fn homes(table: &Keyed, names: &[String], fits: impl Fn(usize) -> bool) -> Vec<String> {
        (0..KEYS).map(|n| names[table.find(key(n), &fits).expect("one")].clone()).collect()
    }

    /// How many per mille of keys have another home.
    fn moved(before: &[String], after: &[String]) -> usize {
        before.iter().zip(after).filter(|(one, two)| one != two).count() * 1000 / before.len()
    }

    /// The theoretical share of one in 100 is 10 ‰, and 20 ‰ more may move. A ring's
    /// members differ in size, which is why a member's own keys are counted, not 10 ‰.
    #[test]
    fn one_of_a_hundred_that_changes_moves_little_more_than_its_own_keys() {
        let all = names(100);
        for at in [0, 41, 99] {
            let mut fewer = all.clone();
            let gone = fewer.remove(at);
            let mut renamed = all.clone();
            renamed[at] = "10.9.9.9:80".into();
            let (whole, without) = (tables(&all, |_| 1), tables(&fewer, |_| 1));
            let other = tables(&renamed, |_| 1);
            for ((whole, without), other) in whole.iter().zip(&without).zip(&other) {
                let before = homes(whole, &all, |_| true);
                let own = before.iter().filter(|home| **home == gone).count() * 1000 / KEYS;
                assert!((5..=16).contains(&own), "a share of {own} per mille");
                let leaves = moved(&before, &homes(without, &fewer, |_| true));
                assert!((own..=own + 20).contains(&leaves), "{leaves} of {own} per mille");
                let comes = moved(&before, &homes(other, &renamed, |_| true));
                assert!((own..=2 * own + 20).contains(&comes), "{comes} of {own} per mille");
                // Unhealthy, not gone: nobody else's keys move at all.
                let after = homes(whole, &all, |member| member != at);
                for (one, two) in before.iter().zip(&after) {
                    assert!(one == two || *one == gone);
                }
                assert_eq!(moved(&before, &after), own);
            }
        }
    }

    #[test]
    fn the_keys_of_one_that_fell_ill_spread_over_the_others() {
        let all = names(10);
        for table in tables(&all, |_| 1) {
            let mut heirs = [0usize; 10];
            let mut orphans = 0;
            for n in 0..KEYS {
                if table.find(key(n), |_| true) == Some(3) {
                    heirs[table.find(key(n), |member| member != 3).expect("one")] += 1;
                    orphans += 1;
                }
            }
            assert_eq!(heirs[3], 0);
            for (at, count) in heirs.iter().enumerate().filter(|(at, _)| *at != 3) {
                assert!((orphans / 30..orphans / 4).contains(count), "{at}: {count} of {orphans}");
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        let all = names(4);
        for table in tables(&all, |at| [1, 2, 3, 4][at]) {
            let mut counts = [0usize; 4];
            for n in 0..KEYS {
                counts[table.find(key(n), |_| true).expect("one")] += 1;
            }
            for (count, due) in counts.iter().zip([10_000usize, 20_000, 30_000, 40_000]) {
                assert!(count.abs_diff(due) <= due / 8 + 1_000, "{counts:?}");
            }
        }
    }

    #[test]
    fn no_member_has_more_in_flight_than_its_bound() {
        let all = names(10);
        let shares = [1.0; 10];
        for (table, percent) in tables(&all, |_| 1).iter().zip([125, 150]) {
            let mut in_flight = [0usize; 10];
            // Nine keys of ten are one key.
            for n in 0..1_000usize {
                let bound = Bound::new(percent, in_flight.iter().sum(), 10.0);
                let hash = if n % 10 == 0 { key(n) } else { key(0) };
                let room = |at: usize| bound.has_room(in_flight[at], shares[at]);
                let at = table.find(hash, room).expect("one always has room");
                in_flight[at] += 1;
                let most = (percent as usize * (n + 1)).div_ceil(1000);
                assert!(in_flight.iter().all(|count| *count <= most), "{n}: {in_flight:?}");
            }
        }
    }

    #[test]
    fn bounds_follow_shares_and_an_idle_member_always_has_room() {
        let bound = Bound::new(125, 99, 4.0);
        assert!(bound.has_room(93, 3.0) && !bound.has_room(94, 3.0));
        assert!(bound.has_room(31, 1.0) && !bound.has_room(32, 1.0));
        assert!(Bound::new(100, 0, 100.0).has_room(0, 0.001));
    }
}
