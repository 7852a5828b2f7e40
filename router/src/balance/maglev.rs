//! A hash table whose slots members share by weight.

use crate::hash_key;

/// Slots of a table of up to 655 members: a prime, so that every member's steps
/// reach all of them. More members get a table of a hundred slots each.
const SLOTS: usize = 65_537;

/// Most slots, so that many endpoints cost no memory without bound: 20 MB.
const MOST_SLOTS: usize = 5_000_011;

/// A Maglev table over named, weighted members: one look-up finds a key's member, shares
/// are closer to the weights than a ring's, and a member that comes or goes moves little
/// more than its own keys. (Eisenbud et al., NSDI 2016; members of more weight take their
/// turn in filling the table more often.)
#[derive(Debug, Clone)]
pub struct Maglev {
    slots: Vec<u32>,
}

impl Maglev {
    /// A table of `members` (name, weight), numbered in the order given. A member of
    /// weight 0 has no slot.
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        struct Filling {
            member: u32,
            weight: u64,
            owed: u64,
            at: usize,
            step: usize,
        }
        let members = members.into_iter().enumerate().filter(|(_, (_, weight))| *weight > 0);
        let mut filling: Vec<Filling> = members
            .map(|(member, (name, weight))| Filling {
                member: member as u32,
                weight: u64::from(weight),
                owed: 0,
                at: hash_key(name.as_bytes()) as usize,
                step: hash_key(format!("step of {name}").as_bytes()) as usize,
            })
            .collect();
        let heaviest = filling.iter().map(|member| member.weight).max().unwrap_or(1);
        let size = size_for(filling.len());
        for member in &mut filling {
            member.at %= size;
            member.step = member.step % (size - 1) + 1;
        }
        const FREE: u32 = u32::MAX;
        let mut slots = vec![FREE; if filling.is_empty() { 0 } else { size }];
        let mut left = slots.len();
        while left > 0 {
            for member in &mut filling {
                member.owed += member.weight;
                if member.owed < heaviest || left == 0 {
                    continue;
                }
                member.owed -= heaviest;
                while slots.get(member.at).is_some_and(|slot| *slot != FREE) {
                    member.at = (member.at + member.step) % size;
                }
                if let Some(slot) = slots.get_mut(member.at) {
                    *slot = member.member;
                    left -= 1;
                }
            }
        }
        Self { slots }
    }

    /// The member of a key's hash that `fits`: its own, or that of the first slot after
    /// it whose member does. `None` where nobody fits, which takes a look at every slot.
    pub fn find(&self, hash: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let at = ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize;
        let (before, after) = self.slots.split_at_checked(at)?;
        after.iter().chain(before).map(|member| *member as usize).find(|member| fits(*member))
    }
}

fn size_for(members: usize) -> usize {
    let least = members.saturating_mul(100);
    if least <= SLOTS {
        return SLOTS;
    }
    let prime =
        |n: &usize| (3..).step_by(2).take_while(|by| by * by <= *n).all(|by| !n.is_multiple_of(by));
    (least | 1..MOST_SLOTS).step_by(2).find(prime).unwrap_or(MOST_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_primes_that_grow_with_the_members() {
        assert_eq!(size_for(3), 65_537);
        assert_eq!(size_for(655), 65_537);
        assert_eq!(size_for(656), 65_609);
        assert_eq!(size_for(1_000_000), MOST_SLOTS);
    }

    #[test]
    fn slots_are_shared_by_weight_to_the_slot() {
        let table = Maglev::new([("a", 1), ("b", 3), ("c", 0), ("d", 4)]);
        let mut counts = [0usize; 4];
        for member in &table.slots {
            counts[*member as usize] += 1;
        }
        for (count, due) in counts.iter().zip([8_192usize, 24_576, 0, 32_768]) {
            assert!(count.abs_diff(due) <= 3, "{counts:?}");
        }
        assert!(Maglev::new([("a", 0)]).find(7, |_| true).is_none());
        assert!(table.find(u64::MAX, |_| true).is_some());
        assert!(table.find(7, |_| false).is_none());
    }
}
