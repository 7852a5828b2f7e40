//! What gives way when the process runs out of memory or descriptors. The shell says how
//! bad it is; what is idle, and how a request is refused, is known here.

use polyport_codecs::{Fault, Head};

use super::Engine;
use super::state::{DownId, DownState, Downstream, UpId, UpMode, UpPhase};
use crate::snapshot::Cluster;

/// A connection on which something came within this time (ms) is not idle.
const LATELY: u64 = 1_000;

/// What the shell says of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// New requests are refused.
    pub shed: bool,
    /// So many connections to endpoints may be opened before it says more.
    pub connects: usize,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { shed: false, connects: usize::MAX }
    }
}

impl Pressure {
    /// Whether no connection to this cluster may be opened.
    pub(super) fn lacks_descriptors(&self, cluster: &Cluster) -> bool {
        self.connects == 0 && !cluster.http2
    }
}

impl Downstream {
    /// Whether nobody misses anything when it is closed now.
    fn is_idle(&self) -> bool {
        matches!(self.state, DownState::Idle | DownState::Detecting)
            && !self.stream
            && self.in_flight == 0
            && self.lanes.is_empty()
            && self.input.is_empty()
            && self.out.is_empty()
            && self.held.is_none()
            && self.waiting.is_none()
            && self.parked_head.is_none()
            && !self.pace.is_resting()
    }
}

impl Engine {
    /// Says how the process fares.
    pub fn press(&mut self, pressure: Pressure) {
        self.pressure = pressure;
    }

    /// Descriptors that connections to endpoints have, or are about to have.
    pub fn up_descriptors(&self) -> usize {
        self.up_descriptors
    }

    /// A connection to this cluster is to be opened. Streams take no descriptor.
    pub(super) fn take_descriptor(&mut self, cluster: usize) {
        if self.snapshot.clusters.get(cluster).is_some_and(|cluster| !cluster.http2) {
            self.up_descriptors += 1;
            self.pressure.connects = self.pressure.connects.saturating_sub(1);
        }
    }

    /// Counts anew, as other clusters may carry streams now: what is closed later is taken
    /// for what the config says by then.
    pub(super) fn recount_descriptors(&mut self) {
        let snapshot = self.snapshot.clone();
        let own = |cluster: usize| snapshot.clusters.get(cluster).is_some_and(|c| !c.http2);
        self.up_descriptors = self.ups.iter().filter(|(_, up)| own(up.cluster)).count();
    }

    /// One is to be closed.
    pub(super) fn give_descriptor(&mut self, cluster: usize) {
        if self.snapshot.clusters.get(cluster).is_some_and(|cluster| !cluster.http2) {
            self.up_descriptors = self.up_descriptors.saturating_sub(1);
            self.pressure.connects = self.pressure.connects.saturating_add(1);
        }
    }

    /// Refuses a request that the process has no memory for.
    pub(super) fn shed(&mut self, id: DownId, protocol: usize, head: &Head, message: &[u8]) {
        if let Some(down) = self.downs.get_mut(id) {
            down.fate = None;
        }
        self.unwait(id);
        self.counters.shed += 1;
        self.turn_away(id, protocol, head, message, Fault::Overloaded);
    }

    /// Closes up to `most` idle connections of clients, those first that have been idle
    /// longest, and as many pooled ones to endpoints; how many clients' were closed.
    pub fn relieve(&mut self, most: usize) -> usize {
        let before = self.now.saturating_sub(LATELY);
        let mut ups: Vec<(u64, UpId)> = self
            .ups
            .iter()
            .filter(|(_, upstream)| {
                upstream.mode == UpMode::Idle
                    && upstream.phase == UpPhase::Ready
                    && upstream.in_flight == 0
                    && upstream.last_active <= before
            })
            .map(|(id, upstream)| (upstream.last_active, id))
            .collect();
        for (_, id) in oldest(&mut ups, most) {
            self.close_up(*id, Fault::UpstreamReset);
            self.counters.relieved_up += 1;
        }
        let mut downs: Vec<(u64, DownId)> = self
            .downs
            .iter()
            .filter(|(_, down)| down.last_read <= before && down.is_idle())
            .map(|(id, down)| (down.last_read, id))
            .collect();
        let closed = oldest(&mut downs, most);
        for (_, id) in closed.iter() {
            self.close_down(*id);
        }
        self.counters.relieved += closed.len() as u64;
        closed.len()
    }

    /// Gives back what memory is kept for later use.
    pub fn trim(&mut self) {
        self.spares.clear();
        self.kept = Vec::new();
        self.flights.trim();
    }

    /// Bytes of memory that buffers have, of connections, of requests and spare ones. Looks
    /// at every connection.
    pub fn held(&self) -> usize {
        let downs = self.downs.iter().map(|(_, down)| {
            let lanes: usize = down.lanes.iter().map(|lane| lane.bytes.capacity()).sum();
            down.input.capacity() + down.out.capacity() + lanes
        });
        let ups = self.ups.iter().map(|(_, up)| up.input.capacity() + up.out.capacity());
        let flights = self.flights.iter().map(|(_, flight)| {
            let kept = flight.kept.as_ref().map_or(0, |kept| kept.bytes.capacity());
            flight.copy.capacity() + flight.edits.capacity() + flight.note.capacity() + kept
        });
        self.spares.capacity() + downs.sum::<usize>() + ups.sum::<usize>() + flights.sum::<usize>()
    }
}

/// The `most` that have the earliest times.
fn oldest<T>(all: &mut [(u64, T)], most: usize) -> &[(u64, T)] {
    if most < all.len() && most > 0 {
        all.select_nth_unstable_by_key(most - 1, |(since, _)| *since);
    }
    all.get(..most.min(all.len())).unwrap_or_default()
}
