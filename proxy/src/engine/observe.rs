//! How requests fare at each endpoint: the one place that all who draw conclusions
//! from it hang on.

use polyport_codecs::Outcome;

use super::Engine;

/// What an endpoint made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It answered.
    Reply(Outcome),
    /// Its connection ended before the reply did, or what it said broke the protocol.
    Reset,
    /// It did not answer in time.
    Timeout,
    /// It took no connection.
    Refused,
}

impl Engine {
    /// An endpoint has dealt with a request that was sent to it `took` µs ago.
    pub(super) fn observe(&mut self, cluster: usize, endpoint: usize, seen: Seen, took: u64) {
        self.pace(cluster, endpoint, seen, took);
    }
}
