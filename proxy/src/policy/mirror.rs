//! Copies of requests for another cluster, whose answers nobody gets.

use std::fmt;

use crate::snapshot::Target;

/// A route's copies.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where they go.
    pub target: Target,
    /// The cluster's name, to show.
    pub cluster: String,
    /// The share of requests that is copied, of `u64::MAX`.
    pub share: u64,
    /// Copies in flight by each worker above which none is made. Default 100.
    pub requests: usize,
    /// Bytes of a request above which it is not copied. Default 64 KiB.
    pub buffer: usize,
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.share as f64 / u64::MAX as f64 * 100_000.0).round() / 1000.0;
        write!(
            f,
            "{percent}% to cluster \"{}\", {} at once and {} bytes at most",
            self.cluster, self.requests, self.buffer
        )
    }
}
