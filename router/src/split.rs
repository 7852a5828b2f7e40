//! Weighted choice. (Skeleton.)

/// Weights compiled for choosing by a random number.
#[derive(Debug, Clone)]
pub struct Split {
    total: u64,
    bounds: Vec<u64>,
}

impl Split {
    /// Compiles `weights`; zero weights are never chosen. At least one must be positive.
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
    /// The index chosen by `point`, uniform over u64 (random, or a hash for stickiness).
    pub fn choose(&self, point: u64) -> usize {
        let at = ((u128::from(point) * u128::from(self.total)) >> 64) as u64;
        self.bounds.partition_point(|bound| *bound <= at)
    }
}
