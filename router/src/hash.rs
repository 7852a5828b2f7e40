//! Hashing keys, and choosing consistently by hash.

/// A well-mixed 64-bit hash of a key: the same on every run and machine, so
/// that all workers and all proxies send a key the same way.
pub fn hash_key(key: &[u8]) -> u64 {
    hash_seeded(key, 0)
}

/// The same with a seed of one's own: without knowing it nobody can find keys that collide.
pub fn hash_seeded(key: &[u8], seed: u64) -> u64 {
    // Eight bytes a round of multiply and fold (as wyhash and its kin do it).
    let mut hash =
        seed ^ 0x9e37_79b9_7f4a_7c15 ^ (key.len() as u64).wrapping_mul(0xa076_1d64_78bd_642f);
    let (chunks, rest) = key.as_chunks::<8>();
    for chunk in chunks {
        hash = fold(hash ^ u64::from_le_bytes(*chunk), 0xe703_7ed1_a0b4_28db);
    }
    let mut last = [0u8; 8];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    fold(fold(hash ^ u64::from_le_bytes(last), 0x8ebc_6af0_9c88_c6e3), 0x5899_65cc_7537_4cc3)
}

fn fold(one: u64, two: u64) -> u64 {
    let product = u128::from(one) * u128::from(two);
    (product as u64) ^ (product >> 64) as u64
}

/// Points of one unit of weight on a ring, as in ketama.
const POINTS: u32 = 160;

/// Most points on one ring, so that large weights cost no memory.
const MOST_POINTS: u32 = 1 << 18;

/// A hash ring over named, weighted members.
#[derive(Debug, Clone)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of `members` (name, weight), numbered in the order given. A member
    /// of weight 0 has no point.
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let members: Vec<(&str, u32)> = members.into_iter().collect();
        let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let each = (u64::from(MOST_POINTS) / total.max(1)).clamp(1, u64::from(POINTS)) as u32;
        let mut points = Vec::new();
        for (member, (name, weight)) in members.iter().enumerate() {
            for point in 0..weight.saturating_mul(each).min(MOST_POINTS) {
                points.push((hash_key(format!("{name}#{point}").as_bytes()), member as u32));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The member for a key's hash: of those that `fits` takes, the one whose point comes
    /// next. `None` where it takes nobody, which takes a look at every point.
    pub fn find(&self, hash: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(at);
        let members = after.iter().chain(before).map(|(_, member)| *member as usize);
        // Neighbours of one member are many; asking again costs more than comparing.
        let mut last = None;
        members.filter(|member| last.replace(*member) != Some(*member)).find(|at| fits(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // Frozen: changing them would move every key of every running proxy.
        for (key, hash) in [
            ("", 4751273896502391567u64),
            ("user:42", 12825425351859429608),
            ("a key of more than eight bytes", 13889425404956512059),
        ] {
            assert_eq!(hash_key(key.as_bytes()), hash, "{key}");
        }
        let distinct: std::collections::HashSet<u64> =
            (0..10_000).map(|n: u32| hash_key(format!("key:{n}").as_bytes())).collect();
        assert_eq!(distinct.len(), 10_000);
        assert_ne!(hash_key(b"a"), hash_key(b"a\0"));
    }

    #[test]
    fn a_member_that_leaves_moves_only_its_own_keys() {
        let names: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}:80")).collect();
        let all = Ring::new(names.iter().map(|name| (name.as_str(), 1)));
        let fewer = Ring::new(names.iter().take(99).map(|name| (name.as_str(), 1)));
        let (mut moved, keys) = (0, 20_000);
        for key in 0..keys {
            let hash = hash_key(format!("user:{key}").as_bytes());
            let (before, after) = (all.find(hash, |_| true), fewer.find(hash, |_| true));
            if before != after {
                assert_eq!(before, Some(99), "only keys of the one that left may move");
                moved += 1;
            }
        }
        assert!((keys / 200..keys / 50).contains(&moved), "{moved} of {keys}");
    }

    #[test]
    fn shares_follow_weights_and_who_does_not_fit_is_passed_over() {
        let ring = Ring::new([("a", 1), ("b", 3), ("c", 0)]);
        let mut counts = [0; 3];
        for key in 0..20_000 {
            let hash = hash_key(format!("k{key}").as_bytes());
            counts[ring.find(hash, |_| true).expect("one")] += 1;
        }
        assert!((13_500..16_500).contains(&counts[1]), "{counts:?}");
        assert_eq!(counts[2], 0);
        assert_eq!(ring.find(7, |at| at == 0), Some(0));
        assert_eq!(ring.find(u64::MAX, |at| at == 1), Some(1));
        assert_eq!(ring.find(7, |at| at == 2), None);
    }
}
