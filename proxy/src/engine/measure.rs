//! What a worker counts for the outside. Where nobody measures, each of these costs one look
//! at an `Option`.

use std::sync::Arc;

use polyport_codecs::View;

use super::Engine;
use super::guard::Denied;
use super::observe::Seen;
use super::state::{DownId, Downstream};
use crate::observe::metrics::Metrics;
use crate::observe::metrics::series::{
    ClusterSeries, EndpointSeries, OPAQUE, Series, UNKNOWN, reply_at,
};
use crate::snapshot::Snapshot;

/// Bytes of an exemplar's value that are kept; its end is cut to characters later.
const EXEMPLAR: usize = 256;

impl Engine {
    /// Counts into `metrics` from now on; before any connection is accepted.
    pub fn measure(&mut self, metrics: Arc<Metrics>) {
        self.series = Some(Box::new(Series::new(metrics)));
    }

    /// Counts what an endpoint made of a try.
    pub(super) fn measure_try(&mut self, cluster: usize, endpoint: usize, seen: Seen, took: u64) {
        let Some(series) = &mut self.series else { return };
        let at = match seen {
            Seen::Reply(outcome) => reply_at(outcome),
            Seen::Timeout => 6,
            Seen::Reset => 7,
            Seen::Refused => {
                series.endpoint(&self.snapshot, (cluster, endpoint)).unconnected.add(1);
                return;
            }
        };
        series.fared(&self.snapshot, (cluster, endpoint), at, took);
    }

    /// Another config is in use.
    pub(super) fn measure_reload(&mut self) {
        if let Some(series) = &mut self.series {
            series.renew(&self.snapshot);
        }
    }

    /// Something about an endpoint has changed.
    pub(super) fn measure_endpoint(
        &mut self,
        cluster: usize,
        endpoint: usize,
        change: impl FnOnce(&EndpointSeries),
    ) {
        if let Some(series) = &mut self.series {
            change(series.endpoint(&self.snapshot, (cluster, endpoint)));
        }
    }

    /// Something about a cluster has changed.
    pub(super) fn measure_cluster(&mut self, cluster: usize, change: impl FnOnce(&ClusterSeries)) {
        if let Some(series) = &mut self.series {
            change(series.cluster(&self.snapshot, cluster));
        }
    }

    /// A bound of a cluster was met.
    pub(super) fn measure_overflow(&mut self, cluster: usize, what: &str) {
        if let Some(series) = &mut self.series {
            series.overflow(&self.snapshot, cluster, what);
        }
    }

    /// A rule of the route of this number refused a message.
    pub(super) fn measure_denial(&mut self, route: Option<usize>, why: Denied) {
        let (Some(series), Some(route)) = (&mut self.series, route) else { return };
        let at = match why {
            Denied::Rule => 0,
            Denied::Only => 1,
            Denied::Limit(_) => 2,
            Denied::Default => return,
        };
        series.denied(&self.snapshot, route, at);
    }

    /// A connection was accepted, or a stream.
    pub(super) fn measure_arrival(&mut self, id: DownId) {
        let Some(series) = &mut self.series else { return };
        let Some(down) = self.downs.get_mut(id) else { return };
        series.came(&self.snapshot, down.listener, down.stream);
        down.port = series.port_of(&self.snapshot, down.listener, UNKNOWN, false);
    }

    /// What a connection speaks is known: this protocol, or opaque bytes.
    pub(super) fn measure_speech(&mut self, id: DownId, protocol: Option<usize>) {
        let Some(series) = &mut self.series else { return };
        let Some(down) = self.downs.get_mut(id) else { return };
        down.opaque = protocol.is_none();
        let protocol = protocol.unwrap_or(OPAQUE);
        series.spoke(&self.snapshot, down.listener, protocol, down.stream);
        down.port = series.port_of(&self.snapshot, down.listener, protocol, down.stream);
    }

    /// A connection is gone.
    pub(super) fn measure_departure(&mut self, down: &Downstream) {
        if let Some(series) = &mut self.series {
            series.left(&self.snapshot, down.listener, kind(down), down.stream);
        }
    }

    /// A session of a client has begun.
    pub(super) fn measure_session(&mut self, id: DownId) {
        let Some(series) = &mut self.series else { return };
        let Some(down) = self.downs.get(id) else { return };
        let Some(joined) = &down.joined else { return };
        let dialect = joined.track.dialect;
        series.port(&self.snapshot, down.listener, kind(down), dialect).sessions.add(1);
    }

    /// The value that a message would be shown by.
    pub(super) fn exemplar(&mut self, config: &Snapshot, view: &View<'_>) -> Vec<u8> {
        let Some((_, slot)) = &config.metrics.exemplars else { return Vec::new() };
        if self.series.is_none() {
            return Vec::new();
        }
        let Some(value) = view.get(*slot).filter(|value| !value.is_empty()) else {
            return Vec::new();
        };
        let mut told = self.spares.take();
        told.extend_from_slice(value.get(..EXEMPLAR).unwrap_or(value));
        told
    }
}

impl Downstream {
    /// Bytes were read from the client.
    pub(super) fn measure_received(&self, bytes: usize) {
        if let Some(port) = &self.port {
            port.received.add(bytes as u64);
        }
    }

    /// Bytes were written to the client.
    pub(super) fn measure_sent(&self, bytes: usize) {
        if let Some(port) = &self.port {
            port.sent.add(bytes as u64);
        }
    }
}

fn kind(down: &Downstream) -> usize {
    match down.protocol {
        Some(protocol) => protocol,
        None if down.opaque => OPAQUE,
        None => UNKNOWN,
    }
}
