//! Taking turns by weight, without bursts.

use super::eligible::Eligible;

/// Smooth weighted round-robin: each time everybody earns its weight, the richest is
/// chosen and pays for the round. 5:1:1 gives a a b a c a a, where counting would
/// give a a a a a b c. Linear in the members; constant where all weigh the same.
#[derive(Debug, Clone, Default)]
pub struct Smooth {
    /// What each entry of the set has earned.
    earned: Vec<i64>,
    next: usize,
}

impl Smooth {
    /// Begins anew: the set is another one.
    pub fn reset(&mut self) {
        self.earned.clear();
    }

    /// Whose turn it is among those that `skip` does not name.
    pub fn turn(&mut self, set: &Eligible, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let entries = set.entries();
        if set.is_even() {
            // Wrapping is a jump in the order, once in 2⁶⁴ turns.
            for _ in 0..entries.len() {
                let at = entries.get(self.next % entries.len())?.at;
                self.next = self.next.wrapping_add(1);
                if !skip(at) {
                    return Some(at);
                }
            }
            return None;
        }
        self.earned.resize(entries.len(), 0);
        let (mut best, mut total): (Option<(usize, i64)>, i64) = (None, 0);
        for (index, (entry, earned)) in entries.iter().zip(&mut self.earned).enumerate() {
            if skip(entry.at) {
                continue;
            }
            let weight = i64::try_from(entry.weight).unwrap_or(i64::MAX >> 16);
            total += weight;
            *earned += weight;
            if best.is_none_or(|(_, most)| *earned > most) {
                best = Some((index, *earned));
            }
        }
        let (index, _) = best?;
        *self.earned.get_mut(index)? -= total;
        entries.get(index).map(|entry| entry.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::levels::{Member, Rules};
    use super::*;

    fn set(weights: &[u32]) -> Eligible {
        let members: Vec<Member> =
            weights.iter().map(|weight| Member { weight: *weight, ..Member::default() }).collect();
        let mut set = Eligible::default();
        Rules::default().apply(&members, &mut set);
        set
    }

    fn turns(set: &Eligible, count: usize) -> String {
        let mut smooth = Smooth::default();
        let turn = |_| char::from(b'a' + smooth.turn(set, |_| false).expect("one") as u8);
        (0..count).map(turn).collect()
    }

    #[test]
    fn turns_are_interleaved_by_weight() {
        for (weights, due) in [
            (&[5, 1, 1][..], "aabacaaaabacaa"),
            (&[1, 1, 1], "abcabcabc"),
            (&[2, 1], "abaaba"),
            (&[3, 2], "ababaababa"),
            (&[7], "aaaa"),
        ] {
            assert_eq!(turns(&set(weights), due.len()), due, "{weights:?}");
        }
    }

    #[test]
    fn every_round_gives_exactly_the_weights_and_no_gap_is_long() {
        let weights = [10u32, 7, 3, 1, 29];
        let (set, total) = (set(&weights), 50usize);
        let mut smooth = Smooth::default();
        let mut last = [0usize; 5];
        for round in 0..4 {
            let mut counts = [0; 5];
            for n in 0..total {
                let at = smooth.turn(&set, |_| false).expect("one");
                counts[at] += 1;
                let (now, fair) = (round * total + n + 1, total / weights[at] as usize);
                assert!(now - last[at] <= 2 * fair + 2, "{at} waited {}", now - last[at]);
                last[at] = now;
            }
            assert_eq!(counts, weights);
        }
    }

    #[test]
    fn who_is_left_out_has_no_turn() {
        let mut smooth = Smooth::default();
        for set in [set(&[5, 1, 1]), set(&[1, 1, 1])] {
            smooth.reset();
            for _ in 0..10 {
                assert_ne!(smooth.turn(&set, |at| at == 0).expect("one"), 0);
            }
            assert_eq!(smooth.turn(&set, |_| true), None);
        }
        assert_eq!(smooth.turn(&Eligible::default(), |_| false), None);
    }
}
