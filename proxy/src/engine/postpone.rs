//! Messages that wait for a time of their own without holding up those behind them,
//! where the protocol lets later ones overtake: each waits as a request in flight.

use polyport_codecs::{Body, Exchange, Head, Kind, Lease};

use super::choose::Chosen;
use super::dispatch::Passed;
use super::report::Track;
use super::state::{DownId, Flight};
use super::{Engine, patience};

/// Larger messages hold their connection up instead of being kept.
const POSTPONED: usize = 16 << 10;

impl Engine {
    /// Whether a delayed message may wait by itself.
    pub(super) fn may_postpone(
        &self,
        id: DownId,
        head: &Head,
        lease: Lease,
        protocol: usize,
    ) -> bool {
        self.exchange_of(Some(protocol)) == Some(Exchange::Correlated)
            && lease == Lease::Shared
            && head.body == Body::None
            && head.len <= POSTPONED
            && self.downs.get(id).and_then(|down| down.fate).is_some_and(|fate| {
                // Whatever else it meets, it meets where it stands.
                fate.ends.is_none() && fate.pace == 0
            })
    }

    /// Lets a message wait, as its fate says; it is launched when its time has come.
    pub(super) fn postpone(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        chosen: Chosen,
    ) -> Passed {
        const NOWHERE: Passed = Passed::On { to: None, flight: None };
        let snapshot = self.config_of_down(id);
        let line = self.take_line(false);
        let Chosen { lease, route, arm, timeout, edits, told, .. } = chosen;
        let (Some(down), Some(enabled)) =
            (self.downs.get_mut(id), snapshot.protocols.get(protocol))
        else {
            return NOWHERE;
        };
        let until = down.fate.take().map_or(self.now, |fate| fate.until);
        let limit = patience::limit(down, head);
        let times = snapshot.forward(route).and_then(|forward| forward.times.stream);
        let stream = times.unwrap_or(snapshot.timeouts.stream).as_millis() as u64;
        // Its own time begins when its wait is over.
        let request = timeout.unwrap_or(snapshot.timeouts.request).as_millis() as u64
            + until.saturating_sub(self.now);
        let deadline = self.now.saturating_add(request).min(limit);
        self.counters.requests += 1;
        down.in_flight += 1;
        if head.kind == Kind::Request {
            down.latest_id = head.reply_to.id;
        }
        down.alone = false;
        let (listener, track) = (down.listener, down.track);
        let plain_body = enabled.protocol.needs_plain_body(head.reply_to);
        let flight = Flight {
            lane: down.lanes_gone + down.lanes.len() as u64,
            started: self.now,
            began: self.micros,
            deadline,
            total: deadline,
            timeout: request,
            stream,
            limit,
            lease,
            edits: edits.1,
            generation: down.generation,
            route,
            arm,
            listener,
            track: Track { request: head.len as u64, ..track },
            told,
            line,
            ..Flight::begun(head, id, protocol, plain_body)
        };
        let flight = self.flights.insert(flight, head.noted(message));
        self.earliest_flight = self.earliest_flight.min(deadline);
        self.keep_waiting(flight, head, message, edits.0, until);
        Passed::On { to: None, flight: Some(flight) }
    }
}
