//! Circuit breakers: how many connections and requests a cluster may have at once,
//! counted by all workers together.
//!
//! Each worker keeps books of its own; what it books it books here as well, and what its
//! books hold when it ends it gives back. So nothing can be counted and forgotten.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Refusals that are closer together than this (ms) are of one opening.
const CLOSED_AFTER: u64 = 10_000;

/// Something counted, with a bound.
#[derive(Debug)]
pub struct Gauge {
    limit: usize,
    count: AtomicUsize,
}

impl Gauge {
    /// At most `limit`; `None`: counted without a bound.
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit: limit.unwrap_or(usize::MAX), count: AtomicUsize::new(0) }
    }

    /// Counts one more; false, and nothing counted, where the bound is reached.
    pub fn take(&self) -> bool {
        let one_more = |count: usize| (count < self.limit).then(|| count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Counts so many more, past the bound if need be: what was let in already.
    pub fn add(&self, more: usize) {
        self.count.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts so many less.
    pub fn give(&self, less: usize) {
        if less > 0 {
            let left = |count: usize| Some(count.saturating_sub(less));
            let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether so many more would pass the bound.
    pub fn lacks_room(&self, more: usize) -> bool {
        self.limit.saturating_sub(self.count()) < more
    }

    /// Whether the bound is reached.
    pub fn is_full(&self) -> bool {
        self.lacks_room(1)
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.limit == usize::MAX { f.write_str("any") } else { self.limit.fmt(f) }
    }
}

/// Bounds on connections and requests, of a cluster or of an endpoint; `None`: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Connections, whatever they do; streams of HTTP/2 count as such.
    pub connections: Option<usize>,
    /// Requests in flight. Sessions are connections and no requests.
    pub requests: Option<usize>,
}

/// A pair of counts.
#[derive(Debug)]
pub struct Counts {
    /// Connections, those being set up and those idle in a pool included.
    pub connections: Gauge,
    /// Requests in flight.
    pub requests: Gauge,
}

impl Counts {
    fn new(bounds: Bounds) -> Self {
        let Bounds { connections, requests } = bounds;
        Self { connections: Gauge::new(connections), requests: Gauge::new(requests) }
    }
}

/// A cluster's breaker.
#[derive(Debug)]
pub struct Breaker {
    /// Of the whole cluster.
    pub cluster: Counts,
    /// Of each endpoint, in the cluster's order.
    pub endpoints: Box<[Counts]>,
    /// What each endpoint may have.
    each: Bounds,
    /// Requests that wait for a connection: in a queue for one of their own, or on one that is
    /// being set up for another request.
    pub pending: Gauge,
    /// Of those the ones in queues.
    pub queued: AtomicUsize,
    /// When it last refused something, ms; 0: never.
    refused_at: AtomicU64,
}

impl Breaker {
    /// A breaker of a cluster with so many endpoints.
    pub fn new(cluster: Bounds, pending: usize, endpoint: Bounds, endpoints: usize) -> Self {
        Self {
            cluster: Counts::new(cluster),
            endpoints: (0..endpoints).map(|_| Counts::new(endpoint)).collect(),
            each: endpoint,
            pending: Gauge::new(Some(pending)),
            queued: AtomicUsize::new(0),
            refused_at: AtomicU64::new(0),
        }
    }

    /// One with the same bounds, for so many endpoints, that has counted nothing yet.
    #[must_use]
    pub fn sized(&self, endpoints: usize) -> Self {
        let limit = |gauge: &Gauge| Some(gauge.limit);
        let Counts { connections, requests } = &self.cluster;
        let bounds = Bounds { connections: limit(connections), requests: limit(requests) };
        Self::new(bounds, self.pending.limit, self.each, endpoints)
    }

    /// Counts a connection; false where there may be no more.
    pub fn take_connection(&self, endpoint: usize) -> bool {
        self.take(endpoint, |counts| &counts.connections)
    }

    /// Counts a request; false where there may be no more.
    pub fn take_request(&self, endpoint: usize) -> bool {
        self.take(endpoint, |counts| &counts.requests)
    }

    fn take(&self, endpoint: usize, gauge: impl Fn(&Counts) -> &Gauge) -> bool {
        if !gauge(&self.cluster).take() {
            return false;
        }
        if self.endpoints.get(endpoint).is_none_or(|counts| gauge(counts).take()) {
            return true;
        }
        gauge(&self.cluster).give(1);
        false
    }

    /// Counts so many connections less.
    pub fn give_connections(&self, endpoint: usize, less: usize) {
        self.cluster.connections.give(less);
        if let Some(counts) = self.endpoints.get(endpoint) {
            counts.connections.give(less);
        }
    }

    /// Counts so many requests less.
    pub fn give_requests(&self, endpoint: usize, less: usize) {
        self.cluster.requests.give(less);
        if let Some(counts) = self.endpoints.get(endpoint) {
            counts.requests.give(less);
        }
    }

    /// Counts so many connections more, which were let in before.
    pub fn add_connections(&self, endpoint: usize, more: usize) {
        self.cluster.connections.add(more);
        if let Some(counts) = self.endpoints.get(endpoint) {
            counts.connections.add(more);
        }
    }

    /// Counts so many requests more, which were let in before.
    pub fn add_requests(&self, endpoint: usize, more: usize) {
        self.cluster.requests.add(more);
        if let Some(counts) = self.endpoints.get(endpoint) {
            counts.requests.add(more);
        }
    }

    /// Whether another connection to this endpoint may be opened.
    pub fn has_room(&self, endpoint: usize) -> bool {
        !self.cluster.connections.is_full()
            && self.endpoints.get(endpoint).is_none_or(|counts| !counts.connections.is_full())
    }

    /// Whether another request may go to this endpoint.
    pub fn may_ask(&self, endpoint: usize) -> bool {
        !self.cluster.requests.is_full()
            && self.endpoints.get(endpoint).is_none_or(|counts| !counts.requests.is_full())
    }

    /// Whether something was refused of late. `now`: ms.
    pub fn is_open(&self, now: u64) -> bool {
        let at = self.refused_at.load(Ordering::Relaxed);
        at != 0 && now.saturating_sub(at) <= CLOSED_AFTER
    }

    /// Notes that something was refused at `now` (ms); true where that is the first for a
    /// while, so that it is worth a line in the log.
    pub fn refuse(&self, now: u64) -> bool {
        let now = now.max(1);
        let before = self.refused_at.swap(now, Ordering::Relaxed);
        before == 0 || now.saturating_sub(before) > CLOSED_AFTER
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, pending, endpoints, .. } = self;
        let (connections, requests) = (&cluster.connections, &cluster.requests);
        write!(f, "{connections} connections, {requests} requests, {pending} pending")?;
        match endpoints.first() {
            Some(Counts { connections, requests }) => {
                write!(f, "; each endpoint {connections} connections, {requests} requests")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_takes_no_more_than_its_bound_and_gives_no_more_than_it_took() {
        let gauge = Gauge::new(Some(2));
        assert_eq!([gauge.take(), gauge.take(), gauge.take()], [true, true, false]);
        gauge.add(1);
        assert_eq!(gauge.count(), 3);
        gauge.give(2);
        assert!(gauge.take() && gauge.is_full());
        gauge.give(5);
        assert_eq!(gauge.count(), 0);
        assert!(Gauge::new(Some(0)).is_full() && !Gauge::new(None).is_full());
    }

    #[test]
    fn many_threads_together_take_no_more_than_the_bound() {
        let gauge = Gauge::new(Some(1000));
        let took: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| gauge.take()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!((took, gauge.count()), (1000, 1000));
    }

    #[test]
    fn what_an_endpoint_refuses_the_cluster_does_not_count() {
        let two = Bounds { connections: Some(2), requests: Some(2) };
        let one = Bounds { connections: Some(1), requests: None };
        let breaker = Breaker::new(two, 5, one, 3);
        assert!(breaker.take_connection(0) && !breaker.take_connection(0));
        assert_eq!(breaker.cluster.connections.count(), 1);
        assert!(!breaker.has_room(0) && breaker.has_room(1));
        assert!(breaker.take_connection(1) && !breaker.take_connection(2));
        assert!(breaker.take_request(0) && breaker.take_request(0) && !breaker.may_ask(1));
        breaker.give_connections(0, 1);
        breaker.give_requests(0, 2);
        assert!(breaker.has_room(2) && breaker.may_ask(1));
        let words =
            "2 connections, 2 requests, 5 pending; each endpoint 1 connections, any requests";
        assert_eq!(breaker.to_string(), words);
    }

    #[test]
    fn an_opening_is_told_once() {
        let breaker = Breaker::new(Bounds::default(), 0, Bounds::default(), 1);
        let told = [0, 5, 9_000, 18_000, 29_000].map(|now| breaker.refuse(now));
        assert_eq!(told, [true, false, false, false, true]);
        assert_eq!([39_000, 39_001].map(|now| breaker.is_open(now)), [true, false]);
    }
}
