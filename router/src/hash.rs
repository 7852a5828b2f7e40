//! Consistent choice by key. (Skeleton.)

/// A well-mixed 64-bit hash of a key, the same on every run and machine.
pub fn hash_key(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// A hash ring over named, weighted members.
#[derive(Debug, Clone)]
pub struct Ring {
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// A ring of `members` (name, weight).
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut points: Vec<(u64, usize)> = members
            .into_iter()
            .enumerate()
            .map(|(i, (name, _))| (hash_key(name.as_bytes()), i))
            .collect();
        points.sort_unstable();
        Self { points }
    }
    /// The members for a key's hash, nearest first, each once: the choice, then its fallbacks.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        self.points[at..].iter().chain(&self.points[..at]).map(|(_, member)| *member)
    }
}
