//! Weighted choice.

/// Weights compiled for choosing by a number.
#[derive(Debug, Clone)]
pub struct Split {
    total: u64,
    bounds: Vec<u64>,
}

impl Split {
    /// Compiles `weights`; those of 0 are never chosen. `None` where all are.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut total = 0u64;
        let bounds = weights
            .into_iter()
            .map(|weight| {
                total += u64::from(weight);
                total
            })
            .collect();
        (total > 0).then_some(Self { total, bounds })
    }

    /// The share of an index, from 0 to 1.
    pub fn share(&self, at: usize) -> f64 {
        let bound = |at: usize| self.bounds.get(at).copied().unwrap_or(0);
        let before = at.checked_sub(1).map_or(0, bound);
        bound(at).saturating_sub(before) as f64 / self.total as f64
    }

    /// The index chosen by `point`, uniform over `u64`: a random number, or a key's
    /// hash, which then always goes the same way.
    pub fn choose(&self, point: u64) -> usize {
        let at = ((u128::from(point) * u128::from(self.total)) >> 64) as u64;
        self.bounds.partition_point(|bound| *bound <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_key;

    #[test]
    fn arms_get_their_weights_share() {
        let split = Split::new([10, 0, 90]).expect("weights");
        let mut counts = [0; 3];
        for key in 0..10_000 {
            counts[split.choose(hash_key(format!("{key}").as_bytes()))] += 1;
        }
        assert!((850..1150).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
        assert_eq!(split.choose(0), 0);
        assert_eq!(split.choose(u64::MAX), 2);
        assert!(Split::new([0, 0]).is_none());
    }
}
