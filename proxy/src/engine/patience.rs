//! How long things may take: what a client said it waits for, what of that is left when its
//! request goes on, and how long a session may last.

use std::time::Duration;

use polyport_codecs::{Body, Head};

use super::Engine;
use super::state::{DownId, Downstream, UpId};
use crate::snapshot::{RouteTimes, Snapshot};

/// A client that waits for less than this (ms) says with its patience nothing of the endpoint.
pub(super) const SILENCE: u64 = 1_000;

/// How long a session may last.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// It ends then, ms; `u64::MAX`: never.
    pub until: u64,
    /// It ends when nothing has moved for so long, ms; `u64::MAX`: never.
    pub idle: u64,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self { until: u64::MAX, idle: u64::MAX }
    }
}

/// When the sender of this request stops waiting for its reply, ms; `u64::MAX`: it did not say.
pub(super) fn limit(down: &Downstream, head: &Head) -> u64 {
    match head.timeout {
        0 => u64::MAX,
        timeout => down.arrived.saturating_add(u64::from(timeout)),
    }
}

/// What the upstream is told of the client's patience, ms, where that is less than what
/// the client says: some of it is spent, or the request may take only `request`.
///
/// Where a body comes bit by bit, it may be one of a stream, which outlives `request` for as
/// long as it moves: then only what is spent counts.
pub(super) fn told(head: &Head, limit: u64, now: u64, request: u64) -> Option<u32> {
    if head.timeout == 0 {
        return None;
    }
    let bound = if head.body == Body::Steps { u64::MAX } else { request };
    let left = limit.saturating_sub(now).min(bound).max(1);
    u32::try_from(left).ok().filter(|left| *left < head.timeout)
}

/// The times that a route gives.
pub(super) fn times_of(config: &Snapshot, route: usize) -> RouteTimes {
    config.forward(route).map_or_else(RouteTimes::default, |forward| forward.times)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// A session begins: how long may it last?
    pub(super) fn begin_session(&mut self, id: DownId, times: RouteTimes) {
        let longest = times.or(&self.snapshot.timeouts).session;
        let Some(down) = self.downs.get_mut(id) else { return };
        down.session = SessionTimes {
            until: longest.map_or(u64::MAX, |longest| self.now.saturating_add(millis(longest))),
            idle: times.idle.map_or(u64::MAX, millis),
        };
        let first = down.session.until.min(self.now.saturating_add(down.session.idle));
        self.look_by(first);
    }

    /// When a session has to end for its age, or as nothing moves in it.
    pub(super) fn session_deadline(&self, down: &Downstream, up: UpId) -> u64 {
        let moved = self.ups.get(up).map_or(0, |up| up.last_active).max(down.last_read);
        down.session.until.min(moved.saturating_add(down.session.idle))
    }
}

#[cfg(test)]
mod tests {
    use polyport_codecs::Kind;

    use super::*;

    fn asks(timeout: u32, body: Body) -> Head {
        Head { timeout, body, ..Head::whole(Kind::Request, 1) }
    }

    #[test]
    fn the_upstream_is_told_what_is_left_where_that_is_less_than_the_client_says() {
        let now = 1_000;
        for (timeout, limit, request, body, due) in [
            (0, u64::MAX, 500, Body::None, None),
            // Nothing is spent, and the route has more patience than the client.
            (300, 1_300, 500, Body::None, None),
            (300, 1_200, 500, Body::None, Some(200)),
            (3_000, 4_000, 500, Body::None, Some(500)),
            (3_000, 4_000, 500, Body::Length(7), Some(500)),
            // A stream may last.
            (3_000, 4_000, 500, Body::Steps, None),
            (3_000, 3_900, 500, Body::Steps, Some(2_900)),
            (u32::MAX, u64::from(u32::MAX), 1 << 40, Body::None, Some(u32::MAX - 1_000)),
            (5, 900, 500, Body::None, Some(1)),
        ] {
            let head = asks(timeout, body);
            assert_eq!(told(&head, limit, now, request), due, "{timeout} {limit}");
        }
    }
}
