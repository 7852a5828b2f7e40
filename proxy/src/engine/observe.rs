//! How requests fare at each endpoint: the one place that all who draw conclusions
//! from it hang on.

use polyport_codecs::Outcome;

use super::Engine;
use crate::health::outlier::{Event, Fared};
use crate::snapshot::Cluster;

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

impl Seen {
    /// What it tells of the endpoint; `None`: nothing, as of one that sheds load.
    fn fared(self, took: u64) -> Option<Fared> {
        match self {
            Self::Reply(Outcome::Ok | Outcome::AppError) => Some(Fared::Well(took)),
            Self::Reply(Outcome::Overloaded) => None,
            Self::Reply(Outcome::ServerError | Outcome::Unavailable | Outcome::Timeout)
            | Self::Reset
            | Self::Timeout
            | Self::Refused => Some(Fared::Badly),
        }
    }
}

impl Engine {
    /// An endpoint has dealt with a request that was sent to it `took` µs ago.
    pub(super) fn observe(&mut self, cluster: usize, endpoint: usize, seen: Seen, took: u64) {
        self.pace(cluster, endpoint, seen, took);
        self.measure_try(cluster, endpoint, seen, took);
        let Some(cluster) = self.snapshot.clusters.get(cluster) else { return };
        if let Some(outliers) = &cluster.outliers
            && let Some(fared) = seen.fared(took)
        {
            let mut tell = |event| tell(cluster, event);
            outliers.note(endpoint, fared, self.now, &cluster.health, &mut tell);
        }
    }
}

fn tell(cluster: &Cluster, event: Event) {
    let (Event::Ejected { endpoint, .. } | Event::Returned { endpoint }) = event;
    let Some(endpoint) = cluster.endpoints.get(endpoint) else { return };
    let (cluster, endpoint) = (&cluster.name, endpoint.address);
    match event {
        Event::Ejected { lasts, why, .. } => {
            tracing::warn!(%cluster, %endpoint, why, lasts_ms = lasts, "ejected: no new requests go there");
        }
        Event::Returned { .. } => tracing::info!(%cluster, %endpoint, "back from its ejection"),
    }
}
