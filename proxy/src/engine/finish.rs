//! The one place where a request ends, and how what is owed to a downstream is
//! written in its turn.

use polyport_codecs::{After, Fault, Lease};

use super::Engine;
use super::buffer::Spares;
use super::observe::Seen;
use super::pool::Party;
use super::report::{Ending, Own};
use super::state::{ConnId, DownId, DownState, Downstream, Flight, FlightId, Lane, UpId, UpMode};

impl Engine {
    /// Takes a request out of all books; the caller sees to its answer.
    pub(super) fn forget_flight(&mut self, id: FlightId) -> Option<Box<Flight>> {
        let mut flight = self.flights.remove(id)?;
        self.mirroring -= usize::from(flight.mirror);
        if let Some(kept) = flight.kept.take() {
            self.spare(kept);
        }
        if let Some(down) = self.downs.get_mut(flight.down) {
            down.in_flight = down.in_flight.saturating_sub(1);
        }
        self.count_out(flight.up);
        Some(flight)
    }

    /// All of a request was handed to its upstream connection.
    pub(super) fn sent(&mut self, id: Option<FlightId>) {
        let Some(id) = id else { return };
        let Some(flight) = self.flights.get_mut(id) else { return };
        let waits = flight.kept.as_ref().is_some_and(|kept| kept.waiting);
        let first = flight.kept.as_ref().is_none_or(|kept| !kept.whole);
        flight.sent = true;
        if !flight.replying && flight.deadline != u64::MAX {
            // The wait for the reply begins now.
            if first {
                flight.total = self.now.saturating_add(flight.timeout).min(flight.limit);
            }
            flight.deadline = match flight.per_try {
                0 => flight.total,
                // The time of a try begins with it.
                _ if waits => flight.total,
                each => self.now.saturating_add(each).min(flight.total),
            };
            self.earliest_flight = self.earliest_flight.min(flight.deadline);
        }
        let (down, oneway, mirror) = (flight.down, flight.oneway, flight.mirror);
        if first && flight.pace > 0 {
            self.set_pace(ConnId::Down(down), 0);
        }
        if first && self.flights.get(id).is_some_and(|flight| flight.kept.is_some()) {
            self.whole(id);
        }
        if oneway && !waits {
            self.counters.oneways += u64::from(!mirror);
            self.finish(id);
        }
    }

    /// The upstream's reply is over, or a one-way request is sent: the request ends well.
    pub(super) fn finish(&mut self, id: FlightId) {
        let Some(mut flight) = self.forget_flight(id) else { return };
        let mut ending = Ending::Sent;
        if !flight.oneway && !flight.mirror {
            if self.downs.get(flight.down).is_some() {
                self.counters.answered += 1;
                let outcome = flight.outcome.unwrap_or_default();
                ending = Ending::Replied { outcome, status: flight.track.status };
            } else {
                self.counters.abandoned += 1;
                ending = Ending::Abandoned;
            }
        }
        self.report_flight(&mut flight, ending, Own::default());
        if let (Some(outcome), Some(upstream)) = (flight.outcome, self.ups.get(flight.up)) {
            let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
            let took = self.micros.saturating_sub(flight.began);
            self.observe(cluster, endpoint, Seen::Reply(outcome), took);
        }
        self.settle_upstream(&flight);
        self.settle_profile(&flight);
        // A reply that came before the request was all there leaves the rest of it unread.
        let (down, lane, last) = (flight.down, flight.lane, flight.last || !flight.sent);
        let oneway = flight.oneway;
        self.empty(flight);
        if !oneway {
            self.end_lane(down, Some(lane), id, last);
        } else {
            self.wake_down(down);
        }
    }

    /// A request ends without the upstream's reply: it gets a native error,
    /// unless half of a reply is out already, which only the connection's end can end.
    pub(super) fn fail(&mut self, id: FlightId, fault: Fault) {
        // One that is to be tried again is all there, though it was sent to nobody yet.
        let kept = self.flights.get(id).and_then(|flight| flight.kept.as_ref());
        let whole = kept.is_some_and(|kept| kept.whole);
        let Some(mut flight) = self.forget_flight(id) else { return };
        let how = Ending::Failed { fault, cut: flight.replying };
        let up_alone = flight.lease != Lease::Shared;
        if flight.mirror {
            // Nobody waits for it.
        } else if self.downs.get(flight.down).is_none() {
            self.counters.abandoned += 1;
            self.report_flight(&mut flight, Ending::Abandoned, Own::default());
        } else if flight.replying {
            self.counters.faults += 1;
            self.report_flight(&mut flight, how, Own::default());
            self.close_down(flight.down);
        } else if flight.oneway {
            self.counters.faults += 1;
            self.report_flight(&mut flight, how, Own::default());
            self.wake_down(flight.down);
        } else {
            self.counters.faults += 1;
            let mut reply = self.spares.take();
            let to = self.parting(flight.down, flight.protocol, flight.reply_to);
            let after = self.local_reply(flight.protocol, to, &flight.note, fault, &mut reply);
            let status = self.fault_status(flight.protocol, flight.reply_to, fault);
            self.report_flight(&mut flight, how, Own { status, bytes: reply.len() });
            let last = flight.last || after == After::Close || !(flight.sent || whole);
            self.append_to_lane(flight.down, flight.lane, id, &reply);
            self.spares.give(reply);
            self.end_lane(flight.down, Some(flight.lane), id, last);
        }
        if let Some(down) = self.downs.get_mut(flight.down)
            && up_alone
        {
            // Only what would have given it back can be done without: in all other cases its
            // client has to learn that the state on it is lost.
            if down.held == Some(flight.up) && flight.lease == Lease::Release {
                down.held = None;
            }
            down.releasing &= flight.lease != Lease::Release;
        }
        let up = flight.up;
        self.empty(flight);
        // An upstream connection that was this request's alone has a reply of
        // unknown length to come, if any: it is of no further use.
        if up_alone && self.ups.get(up).is_some() {
            self.close_up(up, Fault::UpstreamReset);
        } else {
            self.close_up_if_drained(up);
        }
    }

    /// Keeps for reuse the memory of a request that has ended.
    pub(super) fn empty(&mut self, mut flight: Box<Flight>) {
        self.spares.give(std::mem::take(&mut flight.copy));
        self.spares.give(std::mem::take(&mut flight.edits));
        self.flights.recycle(flight);
    }

    /// The exchange is over: what becomes of its upstream connection.
    fn settle_upstream(&mut self, flight: &Flight) {
        let Some(upstream) = self.ups.get_mut(flight.up) else { return };
        match flight.lease {
            Lease::Shared => {
                upstream.used = true;
                if upstream.draining {
                    self.close_up_if_drained(flight.up);
                }
            }
            Lease::Hold => {}
            Lease::Release | Lease::Once | Lease::Profile => {
                if flight.lease == Lease::Release
                    && let Some(down) = self.downs.get_mut(flight.down)
                {
                    down.held = None;
                    down.releasing = false;
                }
                if flight.lease == Lease::Profile && flight.succeeded() {
                    // settle_profile releases it under its new profile.
                    return;
                }
                if matches!(upstream.mode, UpMode::Session(_)) {
                    return;
                }
                if flight.upstream_last || !flight.sent || !upstream.input.is_empty() {
                    self.close_up(flight.up, Fault::UpstreamReset);
                } else {
                    self.release(flight.up);
                }
            }
            Lease::Session => {}
        }
    }

    /// A request that changes the connection's state succeeded: the downstream's
    /// profile moves on, and the upstream connection's with it.
    fn settle_profile(&mut self, flight: &Flight) {
        if flight.lease != Lease::Profile || !flight.succeeded() {
            return;
        }
        let snapshot = self.snapshot.clone();
        let before = self.ups.get(flight.up).map(|upstream| upstream.profile);
        let before = before.or_else(|| self.downs.get(flight.down).map(|down| down.profile));
        let (Some(enabled), Some(before)) = (snapshot.protocols.get(flight.protocol), before)
        else {
            return;
        };
        let Some(entry) = self.profiles.get(before) else { return };
        let after = enabled.protocol.advance(&entry.profile, &flight.copy);
        let after = self.profile_index(after);
        if let Some(down) = self.downs.get_mut(flight.down) {
            let had = std::mem::replace(&mut down.profile, after);
            self.use_profile(after, Party::Downstream);
            self.drop_profile(had, Party::Downstream);
        }
        if let Some(upstream) = self.ups.get_mut(flight.up) {
            let had = std::mem::replace(&mut upstream.profile, after);
            self.use_profile(after, Party::Upstream);
            self.drop_profile(had, Party::Upstream);
            if flight.upstream_last {
                self.close_up(flight.up, Fault::UpstreamReset);
            } else {
                self.release(flight.up);
            }
        }
    }

    /// Appends to a reply, in its turn: to the wire where it is first, else to its lane.
    pub(super) fn append_to_lane(&mut self, id: DownId, lane: u64, flight: FlightId, bytes: &[u8]) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let (buffer, on_wire) = lane_buffer(down, lane, flight, &mut self.spares);
        buffer.extend_from_slice(bytes);
        if on_wire {
            self.mark_down(id);
        }
    }

    /// A reply is complete: its lane goes as soon as it is first.
    pub(super) fn end_lane(&mut self, id: DownId, lane: Option<u64>, flight: FlightId, last: bool) {
        let Some(down) = self.downs.get_mut(id) else { return };
        if let Some(at) = lane_at(down, lane.unwrap_or_default(), flight)
            && let Some(lane) = down.lanes.get_mut(at)
        {
            lane.flight = None;
            lane.last |= last;
            self.advance_lanes(id);
        } else if last {
            self.stop_reading(id);
        }
        self.wake_down(id);
    }

    /// Bytes that the proxy itself owes this downstream, after all that is owed before.
    pub(super) fn owe(&mut self, id: DownId, bytes: Vec<u8>, last: bool) {
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.lanes.is_empty() {
            down.out.tail(&mut self.spares).extend_from_slice(&bytes);
            self.spares.give(bytes);
            self.mark_down(id);
        } else {
            down.lanes.push_back(Lane { flight: None, bytes, last });
        }
    }

    /// Lets go of the lanes whose replies are complete, from the front.
    fn advance_lanes(&mut self, id: DownId) {
        let mut wrote = false;
        let mut stop = false;
        let Some(down) = self.downs.get_mut(id) else { return };
        while let Some(front) = down.lanes.front_mut() {
            if !front.bytes.is_empty() {
                let bytes = std::mem::take(&mut front.bytes);
                down.out.tail(&mut self.spares).extend_from_slice(&bytes);
                self.spares.give(bytes);
                wrote = true;
            }
            if front.flight.is_some() {
                break;
            }
            stop |= front.last;
            down.lanes.pop_front();
            down.lanes_gone += 1;
            if stop {
                break;
            }
        }
        if wrote {
            self.mark_down(id);
        }
        if stop {
            // Whatever was asked after a message that ends the connection is not answered.
            self.stop_reading(id);
            self.drop_lanes(id);
        }
    }

    fn drop_lanes(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let flights: Vec<FlightId> = down.lanes.drain(..).filter_map(|lane| lane.flight).collect();
        // All of them first: what ends with a connection would be answered.
        let flights: Vec<Box<Flight>> =
            flights.into_iter().filter_map(|flight| self.forget_flight(flight)).collect();
        for mut flight in flights {
            self.counters.abandoned += 1;
            self.report_flight(&mut flight, Ending::Abandoned, Own::default());
            if flight.lease != Lease::Shared {
                self.close_up(flight.up, Fault::UpstreamReset);
            }
        }
        self.close_if_done(id);
    }

    /// Something in flight has ended: the downstream may go on, or end.
    pub(super) fn wake_down(&mut self, id: DownId) {
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.parked && !down.resuming {
            down.resuming = true;
            self.resume.push(id);
        }
        if matches!(down.state, DownState::Closing { .. }) {
            self.close_if_done(id);
        }
    }

    /// The requests of a downstream that has left. Those on shared connections
    /// end when their replies come, or by their deadline.
    pub(super) fn abandon_flights(&mut self, _id: DownId, down: &mut Downstream) {
        let mut alone: Vec<UpId> = Vec::new();
        let mut note = |flight: Option<FlightId>| {
            if let Some(flight) = flight.and_then(|id| self.flights.get(id))
                && flight.lease != Lease::Shared
            {
                alone.push(flight.up);
            }
        };
        for lane in &down.lanes {
            note(lane.flight);
        }
        if let DownState::Body { flight, .. } | DownState::Steps { flight, .. } = down.state {
            note(flight);
        }
        for up in alone {
            self.close_up(up, Fault::UpstreamReset);
        }
    }
}

/// Where a reply is to be written now, and whether that is the wire.
pub(super) fn lane_buffer<'a>(
    down: &'a mut Downstream,
    lane: u64,
    flight: FlightId,
    spares: &mut Spares,
) -> (&'a mut Vec<u8>, bool) {
    let at = match lane_at(down, lane, flight) {
        Some(0) => return (down.out.tail(spares), true),
        None if down.lanes.is_empty() => return (down.out.tail(spares), true),
        Some(at) => at,
        None => {
            // A correlated reply behind one that is being streamed.
            down.lanes.push_back(Lane { flight: Some(flight), bytes: Vec::new(), last: false });
            down.lanes.len() - 1
        }
    };
    match down.lanes.get_mut(at) {
        Some(lane) => {
            if lane.bytes.capacity() == 0 {
                lane.bytes = spares.take();
            }
            (&mut lane.bytes, false)
        }
        None => (down.out.tail(spares), true),
    }
}

/// Where a flight's lane is now.
pub(super) fn lane_at(down: &Downstream, lane: u64, flight: FlightId) -> Option<usize> {
    let fits = |at: &usize| down.lanes.get(*at).is_some_and(|lane| lane.flight == Some(flight));
    let at = lane.checked_sub(down.lanes_gone).and_then(|at| usize::try_from(at).ok());
    // Correlated replies open their lane when they come, not when they are asked for.
    at.filter(fits).or_else(|| (0..down.lanes.len()).find(fits))
}
