//! Sends a kept request: once more to its own cluster, or as a copy to another one.

use std::cmp::Reverse;
use std::net::IpAddr;

use polyport_codecs::{Exchange, Fault, Head, Hop, Kind, Lease, Metadata, Side, Step};

use super::Engine;
use super::patience;
use super::peer::facts_of;
use super::pending::LOOK;
use super::pool::{NoConnection, Wanted};
use super::report::{Ending, Own};
use super::slab::Key;
use super::state::{ConnId, Expected, Flight, FlightId, UpId};
use crate::edit::changes;
use crate::snapshot::Target;

/// A request, kept so that it can be sent again.
pub struct Kept {
    /// Its head.
    pub head: Head,
    /// Head and body, as its sender wrote them.
    pub bytes: Vec<u8>,
    /// The values that the route's changes to it have.
    pub edits: Vec<u8>,
    /// More bytes than this are not kept.
    pub limit: usize,
    /// All of it is there.
    pub whole: bool,
    /// It may be tried again.
    pub retry: bool,
    /// Sending it twice has the effect of sending it once.
    pub safe: bool,
    /// It is to be copied once it is whole.
    pub mirror: bool,
    /// Tries after the first.
    pub tries: u32,
    /// Endpoints that let it down.
    pub tried: Vec<usize>,
    /// It is on no connection, and is to be launched when it is whole and `due` has come, ms.
    pub waiting: bool,
    /// See `waiting`.
    pub due: u64,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The client came over TLS.
    pub secure: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            head: Head::whole(Kind::Request, 0),
            bytes: Vec::new(),
            edits: Vec::new(),
            limit: 0,
            whole: false,
            retry: false,
            safe: false,
            mirror: false,
            tries: 0,
            tried: Vec::new(),
            waiting: false,
            due: 0,
            source: None,
            secure: false,
        }
    }
}

impl Kept {
    /// Makes it ready for the next request; its lists keep their memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.tried.clear();
        (self.limit, self.tries, self.due) = (0, 0, 0);
        (self.whole, self.retry, self.safe, self.mirror) = (false, false, false, false);
        self.waiting = false;
    }
}

impl Engine {
    /// Gives a kept request to a connection.
    pub(super) fn launch(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get(id) else { return };
        let snapshot = self.config_of(flight.generation);
        let Some(flight) = self.flights.get_mut(id) else { return };
        if !flight.mirror && self.downs.get(flight.down).is_none() {
            if let Some(mut flight) = self.forget_flight(id) {
                self.report_flight(&mut flight, Ending::Abandoned, Own::default());
            }
            self.counters.abandoned += 1;
            return;
        }
        let Some(mut kept) = flight.kept.take() else { return };
        kept.waiting = false;
        let (route, arm, mirror) = (flight.route, flight.arm, flight.mirror);
        let target = snapshot.forward(route).and_then(|forward| match &forward.mirror {
            Some(copy) if mirror => Some(&copy.target),
            _ => forward.targets.get(arm),
        });
        let done = match target {
            Some(target) => self.launch_to(id, target, &kept),
            None => Err(Fault::NoRoute),
        };
        if done == Ok(false) {
            (kept.waiting, kept.due) = (true, self.now + LOOK);
            self.waiting.push(Reverse((kept.due, id)));
        }
        match self.flights.get_mut(id) {
            Some(flight) => flight.kept = Some(kept),
            None => self.spare(kept),
        }
        match done {
            Ok(true) => self.sent(Some(id)),
            Ok(false) => {}
            Err(fault) => self.fail(id, fault),
        }
    }

    /// Gives a kept request to a connection; false where it has to wait for one. A first try
    /// has to, like those that were not delayed; retries would add to the load.
    fn launch_to(&mut self, id: FlightId, target: &Target, kept: &Kept) -> Result<bool, Fault> {
        let snapshot = self.snapshot.clone();
        let flight = self.flights.get(id).ok_or(Fault::ShuttingDown)?;
        let (down, protocol, mirror) = (flight.down, flight.protocol, flight.mirror);
        let lease = flight.lease;
        let cluster = snapshot.clusters.get(target.cluster).ok_or(Fault::NoHealthyEndpoint)?;
        let endpoint = self.endpoint_again(id, target, kept)?;
        let told = cluster.proxy_protocol.is_some();
        let ends = match self.downs.get(down) {
            Some(down) if told => Some((down.peer.source, down.peer.local)),
            _ => None,
        };
        let lease = if cluster.ordered || told { Lease::Once } else { lease };
        let profile = self.downs.get(down).map_or(0, |down| down.profile);
        let wanted = Wanted { protocol: Some(protocol), profile, lease, ends };
        let waits = !mirror && kept.tries == 0;
        if waits && self.must_wait(down, target.cluster, endpoint, &wanted) {
            return Ok(false);
        }
        let up = match self.connection(down, target, endpoint, wanted) {
            Ok(up) => up,
            Err(NoConnection::Full) if waits => return Ok(false),
            Err(NoConnection::Full) => return Err(self.full(target.cluster, "connections")),
            Err(NoConnection::Fault(fault)) => return Err(fault),
        };
        let full = self
            .ups
            .get(up)
            .is_none_or(|upstream| upstream.out.len() > snapshot.buffers.high && upstream.blocked);
        if mirror && full {
            self.unlease(up);
            return Err(Fault::Overloaded);
        }
        if let Some(flight) = self.flights.get_mut(id) {
            flight.lease = lease;
        }
        self.write_kept(id, up, kept).map(|()| true)
    }

    /// The endpoint for one more try: another one than before, if there is one.
    fn endpoint_again(
        &mut self,
        id: FlightId,
        target: &Target,
        kept: &Kept,
    ) -> Result<usize, Fault> {
        let snapshot = self.snapshot.clone();
        let flight = self.flights.get(id).ok_or(Fault::ShuttingDown)?;
        let protocol = flight.protocol;
        if snapshot.sets.get(target.set).is_none_or(|set| set.table.is_none()) {
            let empty = std::mem::take(&mut self.no_metadata);
            let found = self.choose_endpoint(
                target,
                (&snapshot, &empty.view(b"")),
                Some(protocol),
                &kept.tried,
            );
            self.no_metadata = empty;
            return found;
        }
        // Its keys are needed again, and rarely: it is read again.
        let enabled = snapshot.protocols.get(protocol).ok_or(Fault::ShuttingDown)?;
        let (mut metadata, stream) = match self.downs.get(flight.down) {
            Some(down) => (facts_of(&snapshot, down.listener, &down.peer), down.stream),
            None => (Metadata::new(&snapshot.interest), false),
        };
        if let Some(slot) = snapshot.facts.protocol {
            metadata.keep(slot, enabled.protocol.name().as_bytes());
        }
        let mut decoder = enabled.request_decoder(stream);
        if !matches!(decoder.decode(&kept.bytes, &mut metadata), Ok(Step::Head(_))) {
            metadata.clear();
        }
        let view = metadata.view(&kept.bytes);
        self.choose_endpoint(target, (&snapshot, &view), Some(protocol), &kept.tried)
    }

    fn write_kept(&mut self, id: FlightId, up: UpId, kept: &Kept) -> Result<(), Fault> {
        let snapshot = self.snapshot.clone();
        if let Err(fault) = self.count_in(up, false) {
            self.unlease(up);
            return Err(fault);
        }
        let generation = self.flights.get(id).ok_or(Fault::ShuttingDown)?.generation;
        let config = self.config_of(generation);
        let flight = self.flights.get_mut(id).ok_or(Fault::ShuttingDown)?;
        let upstream = self.ups.get_mut(up).ok_or(Fault::UpstreamReset)?;
        let enabled = snapshot.protocols.get(flight.protocol).ok_or(Fault::ShuttingDown)?;
        let left = flight.total.saturating_sub(self.now);
        let correlated = enabled.protocol.exchange() == Exchange::Correlated && !upstream.ordered;
        let hop = Hop {
            id: correlated.then(|| id.to_wire(enabled.protocol.id_bits())),
            source: kept.source,
            secure: kept.secure,
            request: kept.head.reply_to,
            timeout: patience::told(&kept.head, flight.limit, self.now, left),
            ..Hop::neutral(Side::Request)
        };
        let (head, body) = kept.bytes.split_at(kept.head.len.min(kept.bytes.len()));
        let asked = config.forward(flight.route).and_then(|forward| forward.edits.as_ref());
        let asked = asked.map_or(&[][..], |edits| &edits.request);
        if upstream.in_flight == 0 {
            upstream.unwritten = upstream.out.is_empty();
        }
        upstream.in_flight += 1;
        let out = upstream.out.tail(&mut self.spares);
        let start = out.len();
        let changed = if asked.is_empty() {
            enabled.protocol.relay(&kept.head, head, &hop, out);
            Ok(())
        } else {
            changes(asked, &kept.edits, |changes| {
                enabled.protocol.rewrite(&kept.head, head, &hop, changes, out)
            })
        };
        if changed.is_err() {
            out.truncate(start);
            self.count_out(up);
            self.unlease(up);
            return Err(Fault::Unsupported);
        }
        out.extend_from_slice(body);
        upstream.last_active = self.now;
        flight.up = up;
        flight.track.at = Some((upstream.cluster, upstream.endpoint));
        flight.began = self.micros;
        if let Some(line) = &mut flight.line {
            line.given.get_or_insert(self.micros);
        }
        let pace = flight.pace;
        if upstream.tell_decoder
            && let Some(decoder) = &mut upstream.decoder
        {
            decoder.expect(kept.head.reply_to);
        }
        if upstream.ordered && !flight.oneway {
            upstream.expected.push_back(Expected::Flight(id));
        }
        if pace > 0 {
            self.set_pace(ConnId::Up(up), pace);
        }
        self.mark_up(up);
        Ok(())
    }

    /// Sends a copy of a whole request where its route's copies go. What becomes of it is
    /// nobody's concern, and it costs nobody anything but time: where it cannot go
    /// at once, it does not.
    pub(super) fn mirror(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get(id) else { return };
        let Some(original) = &flight.kept else { return };
        let mut kept = self.kept.pop().unwrap_or_default();
        kept.head = original.head;
        (kept.source, kept.secure) = (original.source, original.secure);
        kept.bytes.extend_from_slice(&original.bytes);
        kept.edits = self.spares.take();
        kept.edits.extend_from_slice(&original.edits);
        kept.whole = true;
        let deadline = self.now.saturating_add(flight.timeout);
        let (route, config) = (flight.route, self.config_of(flight.generation));
        let copy = Flight {
            down: Key::nobody(),
            up: Key::nobody(),
            lane: u64::MAX,
            kept: Some(kept),
            copy: Vec::new(),
            edits: Vec::new(),
            note: Vec::new(),
            told: Vec::new(),
            started: self.now,
            began: self.micros,
            deadline,
            total: deadline,
            per_try: 0,
            limit: u64::MAX,
            sent: false,
            replying: false,
            last: false,
            upstream_last: false,
            outcome: None,
            mirror: true,
            line: None,
            pace: 0,
            ..**flight
        };
        self.earliest_flight = self.earliest_flight.min(deadline);
        let copy = self.flights.insert(copy, b"");
        self.mirroring += 1;
        self.counters.mirrored += 1;
        if let Some(to) = config.forward(route).and_then(|forward| forward.mirror.as_ref()) {
            let cluster = to.target.cluster;
            self.measure_cluster(cluster, |cluster| cluster.mirrored.add(1));
        }
        self.launch(copy);
    }
}
