//! Who may be chosen now, and with what share.

/// A member that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its position in the set.
    pub at: usize,
    /// Its share, beside those of the others.
    pub weight: u64,
    /// Which level of priority it stands on, counted from the first that has a share.
    pub level: usize,
}

/// The members that may be chosen, with their shares; made by [`Rules::apply`](super::Rules::apply).
#[derive(Debug, Clone, Default)]
pub struct Eligible {
    entries: Vec<Entry>,
    /// Weights summed up to each entry, itself included.
    bounds: Vec<u64>,
    /// By position: the entry's index and 1; 0 where it may not be chosen.
    places: Vec<u32>,
    /// Shares of the levels summed up, of `u32::MAX`.
    levels: Vec<u32>,
    even: bool,
}

impl Eligible {
    pub(super) fn clear(&mut self, members: usize) {
        self.entries.clear();
        self.bounds.clear();
        self.levels.clear();
        self.places.clear();
        self.places.resize(members, 0);
        self.even = true;
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let before = self.bounds.last().copied().unwrap_or(0);
        self.even &= self.entries.first().is_none_or(|first| first.weight == entry.weight);
        self.bounds.push(before + entry.weight);
        self.entries.push(entry);
        if let Some(place) = self.places.get_mut(entry.at) {
            *place = self.entries.len() as u32;
        }
    }

    pub(super) fn push_level(&mut self, upto: f64) {
        self.levels.push((upto.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many may be chosen.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nobody may be chosen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that may be chosen have the same share.
    pub fn is_even(&self) -> bool {
        self.even
    }

    /// The positions that may be chosen.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().map(|entry| entry.at)
    }

    fn entry(&self, at: usize) -> Option<&Entry> {
        let place = self.places.get(at)?.checked_sub(1)?;
        self.entries.get(place as usize)
    }

    /// Whether the member at this position may be chosen.
    pub fn contains(&self, at: usize) -> bool {
        self.entry(at).is_some()
    }

    /// Whether it may be chosen, and stands on `level` (see [`level_of`](Self::level_of)).
    pub fn on_level(&self, at: usize, level: usize) -> bool {
        self.entry(at).is_some_and(|entry| entry.level == level)
    }

    /// The level that takes a key of this hash, where several have shares: the same
    /// key takes the same one for as long as the shares stay.
    pub fn level_of(&self, hash: u64) -> usize {
        if self.levels.len() < 2 {
            return 0;
        }
        // Other bits than those that find the member.
        let point = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        self.levels.iter().position(|upto| point < *upto).unwrap_or(self.levels.len() - 1)
    }

    /// The share of a member, 1 for the mean of all; 0 where it may not be chosen.
    pub fn relative(&self, at: usize) -> f64 {
        if self.even {
            return if self.contains(at) { 1.0 } else { 0.0 };
        }
        let total = self.bounds.last().copied().unwrap_or(1).max(1) as f64;
        self.entry(at).map_or(0.0, |entry| entry.weight as f64 * self.entries.len() as f64 / total)
    }

    /// One drawn by share; `point` is uniform over `u64`. Those that `skip` names are
    /// left out; `None` where nobody is left.
    pub fn draw(&self, point: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let first = self.find(scale(point, self.bounds.last().copied()?))?;
        if !skip(first.at) {
            return Some(first.at);
        }
        self.draw_left(point, skip)
    }

    /// Two different ones drawn by share; the second is missing where only one is left.
    pub fn pair(
        &self,
        one: u64,
        two: u64,
        skip: impl Fn(usize) -> bool,
    ) -> Option<(usize, Option<usize>)> {
        let first = self.draw(one, &skip)?;
        let place = self.places.get(first).copied()?.checked_sub(1)? as usize;
        let (start, end) = (
            place.checked_sub(1).and_then(|at| self.bounds.get(at)).copied().unwrap_or(0),
            self.bounds.get(place).copied()?,
        );
        let rest = self.bounds.last().copied()?.saturating_sub(end - start);
        if rest == 0 {
            return Some((first, None));
        }
        let point = scale(two, rest);
        let point = if point >= start { point + (end - start) } else { point };
        let second = self.find(point)?.at;
        if !skip(second) {
            return Some((first, Some(second)));
        }
        Some((first, self.draw_left(two, |at| at == first || skip(at))))
    }

    fn find(&self, point: u64) -> Option<&Entry> {
        self.entries.get(self.bounds.partition_point(|upto| *upto <= point))
    }

    /// The long way, where some are left out.
    fn draw_left(&self, point: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let left = || self.entries.iter().filter(|entry| !skip(entry.at));
        let total = left().map(|entry| entry.weight).sum();
        // Its high bits have led to one who is left out, and are no longer by chance.
        let point = point.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut point = scale(point, total);
        for entry in left() {
            match point.checked_sub(entry.weight) {
                Some(rest) => point = rest,
                None => return Some(entry.at),
            }
        }
        None
    }
}

/// From uniform over `u64` to uniform below `total`.
fn scale(point: u64, total: u64) -> u64 {
    ((u128::from(point) * u128::from(total)) >> 64) as u64
}

/// The one of two drawn by share whose `cost` is lower; the first drawn where they
/// cost the same, so that idle members get requests by their share.
///
/// Costs must grow with what a member is doing *for its share*
/// ([`Eligible::relative`]), since a member of twice the share is drawn twice as often.
pub fn less_busy(
    set: &Eligible,
    one: u64,
    two: u64,
    skip: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    match set.pair(one, two, skip)? {
        (first, Some(second)) if cost(second) < cost(first) => Some(second),
        (first, _) => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::super::levels::{Member, Rules};
    use super::*;
    use crate::hash_key;

    fn set(weights: &[u32]) -> Eligible {
        let members: Vec<Member> =
            weights.iter().map(|weight| Member { weight: *weight, ..Member::default() }).collect();
        let mut set = Eligible::default();
        Rules::default().apply(&members, &mut set);
        set
    }

    fn point(n: u64) -> u64 {
        hash_key(&n.to_le_bytes())
    }

    fn counts(members: usize, choose: impl Fn(u64) -> Option<usize>) -> Vec<usize> {
        let mut counts = vec![0; members];
        for n in 0..30_000 {
            counts[choose(n).expect("somebody")] += 1;
        }
        counts
    }

    fn near(counts: &[usize], due: &[usize]) {
        for (count, due) in counts.iter().zip(due) {
            assert!(count.abs_diff(*due) <= 500, "{counts:?}, not {due}");
        }
    }

    #[test]
    fn draws_follow_the_weights_and_leave_out_whom_they_are_told() {
        let set = set(&[5, 1, 4]);
        near(&counts(3, |n| set.draw(point(n), |_| false)), &[15_000, 3_000, 12_000]);
        near(&counts(3, |n| set.draw(point(n), |at| at == 0)), &[0, 6_000, 24_000]);
        assert_eq!(set.draw(0, |_| true), None);
        assert_eq!(Eligible::default().draw(7, |_| false), None);
    }

    #[test]
    fn two_drawn_are_never_the_same_one() {
        for weights in [&[1, 1, 1][..], &[5, 1, 4], &[1, 9]] {
            let set = set(weights);
            for n in 0..2_000 {
                for left_out in [usize::MAX, 0] {
                    let skip = |at: usize| at == left_out;
                    let pair = set.pair(point(n), point(n + 1_000_000), skip);
                    let (one, two) = pair.expect("somebody");
                    assert!(one != left_out && two != Some(left_out) && two != Some(one));
                    assert_eq!(two.is_none(), weights.len() == 2 && left_out == 0);
                }
            }
        }
        assert_eq!(set(&[3]).pair(1, 2, |_| false), Some((0, None)));
    }

    #[test]
    fn of_idle_members_each_gets_its_share_and_of_busy_ones_the_less_busy() {
        let set = set(&[2, 1, 1]);
        let idle = |n: u64| less_busy(&set, point(n), point(n + 1_000_000), |_| false, |_| 0.0);
        near(&counts(3, idle), &[15_000, 7_500, 7_500]);
        let busy = |n: u64| {
            let cost = |at: usize| if at == 1 { 1.0 } else { 0.0 };
            less_busy(&set, point(n), point(n + 1_000_000), |_| false, cost)
        };
        assert_eq!(counts(3, busy)[1], 0, "one of the other two is always drawn beside it");
    }

    #[test]
    fn in_flight_requests_settle_by_weight() {
        // Requests that never end: their numbers must come to stand as the weights do.
        let set = set(&[4, 2, 1, 1]);
        let mut in_flight = [0usize; 4];
        for n in 0..8_000 {
            let load = |at: usize| in_flight[at] as f64 / set.relative(at);
            let at = less_busy(&set, point(n), point(n + 1_000_000), |_| false, load);
            in_flight[at.expect("one")] += 1;
        }
        for (count, due) in in_flight.iter().zip([4_000usize, 2_000, 1_000, 1_000]) {
            assert!(count.abs_diff(due) <= 20, "{in_flight:?}");
        }
    }
}
