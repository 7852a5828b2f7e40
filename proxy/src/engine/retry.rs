//! Requests that are tried again: whether, when, and where they wait meanwhile.

use std::cmp::Reverse;

use polyport_codecs::{Fault, Head, Lease};
use rand::Rng;

use super::Engine;
use super::launch::Kept;
use super::observe::Seen;
use super::slab::Key;
use super::state::{FlightId, UpId};
use crate::policy::retry::{Again, Ended, Retry, keepable, size};

impl Engine {
    /// Keeps what it takes to send a request again, or to copy it, where its route
    /// asks for that. `edits`: the values of the route's changes to it.
    pub(super) fn keep(&mut self, id: FlightId, head: &Head, message: &[u8], edits: Vec<u8>) {
        let Some(flight) = self.flights.get(id) else { return };
        let snapshot = self.config_of(flight.generation);
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(forward) = snapshot.forward(flight.route) else {
            return self.spares.give(edits);
        };
        let retry = forward.retry.as_deref().filter(|_| !flight.oneway);
        let mirror = forward.mirror.as_deref().filter(|mirror| {
            mirror.share > 0
                && mirror.requests > self.mirroring
                && self.rng.random::<u64>() < mirror.share
        });
        let limit = retry.map_or(0, |retry| retry.buffer).max(mirror.map_or(0, |m| m.buffer));
        let size = size(head);
        if let (Some(_), Some(target)) = (retry, forward.targets.get(flight.arm))
            && let Some(purse) = self.purses.get_mut(target.cluster)
        {
            purse.earn();
        }
        if (retry.is_none() && mirror.is_none()) || size > limit as u64 || !keepable(flight.lease) {
            return self.spares.give(edits);
        }
        let mut kept = self.kept.pop().unwrap_or_default();
        kept.head = *head;
        kept.bytes.extend_from_slice(message);
        self.spares.give(std::mem::replace(&mut kept.edits, edits));
        kept.limit = limit;
        let again = retry.map(|retry| retry.again(head, flight.lease, size));
        kept.retry = again.is_some_and(Again::ever);
        kept.safe = again == Some(Again::Any);
        kept.mirror = mirror.is_some_and(|mirror| size <= mirror.buffer as u64);
        if let Some(down) = self.downs.get(flight.down) {
            kept.source = Some(down.peer.source.ip());
            kept.secure = down.peer.tls.is_some();
        }
        if let Some(each) = retry.and_then(|retry| retry.per_try)
            && flight.deadline != u64::MAX
        {
            flight.per_try = each.as_millis() as u64;
        }
        flight.kept = Some(kept);
    }

    /// Keeps a request that waits until then, ms, before its first try.
    pub(super) fn keep_waiting(
        &mut self,
        id: FlightId,
        head: &Head,
        message: &[u8],
        edits: Vec<u8>,
        until: u64,
    ) {
        let source = |engine: &Self| {
            let down = engine.downs.get(engine.flights.get(id)?.down)?;
            Some((down.peer.source.ip(), down.peer.tls.is_some()))
        };
        let source = source(self);
        let mut kept = self.kept.pop().unwrap_or_default();
        kept.edits = self.spares.take();
        kept.edits.extend_from_slice(&edits);
        self.keep(id, head, message, edits);
        let Some(flight) = self.flights.get_mut(id) else { return self.spare(kept) };
        match &mut flight.kept {
            Some(had) => {
                (had.waiting, had.due) = (true, until);
                self.spare(kept);
            }
            None => {
                kept.head = *head;
                kept.bytes.extend_from_slice(message);
                kept.limit = message.len();
                (kept.source, kept.secure) =
                    (source.map(|(ip, _)| ip), source.is_some_and(|s| s.1));
                (kept.waiting, kept.due) = (true, until);
                flight.kept = Some(kept);
            }
        }
    }

    /// A piece of a kept request's body. One that grows too large is let go.
    pub(super) fn keep_more(&mut self, id: FlightId, piece: &[u8]) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(kept) = &mut flight.kept else { return };
        if kept.bytes.len() + piece.len() <= kept.limit {
            kept.bytes.extend_from_slice(piece);
            return;
        }
        let waiting = kept.waiting;
        self.let_go(id);
        if waiting {
            // Its first half was lost with its connection.
            self.fail(id, Fault::UpstreamReset);
        }
    }

    /// Forgets what was kept of a request.
    pub(super) fn let_go(&mut self, id: FlightId) {
        if let Some(kept) = self.flights.get_mut(id).and_then(|flight| flight.kept.take()) {
            self.spare(kept);
        }
    }

    pub(super) fn spare(&mut self, mut kept: Box<Kept>) {
        // Together at most 16 MiB.
        const SPARE: usize = 4096;
        const SPARE_BYTES: usize = 4096;
        self.spares.give(std::mem::take(&mut kept.edits));
        // Small ones keep their memory: there may be more requests in flight than spares.
        if kept.bytes.capacity() > SPARE_BYTES {
            self.spares.give(std::mem::take(&mut kept.bytes));
        }
        if self.kept.len() < SPARE {
            kept.clear();
            self.kept.push(kept);
        }
    }

    /// Tries a request again, now or later, where its route wants that and it is safe.
    /// False: it has to end. `endpoint`: who let it down.
    pub(super) fn again(&mut self, id: FlightId, ended: Ended, endpoint: usize) -> bool {
        let Some(flight) = self.flights.get(id) else { return false };
        let snapshot = self.config_of(flight.generation);
        let Some(flight) = self.flights.get_mut(id) else { return false };
        let Some(kept) = flight.kept.as_mut().filter(|kept| kept.retry) else { return false };
        if flight.replying || self.downs.get(flight.down).is_none() {
            return false;
        }
        let Some(forward) = snapshot.forward(flight.route) else { return false };
        let (Some(retry), Some(target), Some(enabled)) = (
            forward.retry.as_deref(),
            forward.targets.get(flight.arm),
            snapshot.protocols.get(flight.protocol),
        ) else {
            return false;
        };
        if !may_try(retry, kept, ended, enabled.protocol.name()) {
            return false;
        }
        let due = self.now + retry.wait(kept.tries + 1, ended, self.rng.random());
        if due >= flight.total {
            return false;
        }
        if self.purses.get_mut(target.cluster).is_none_or(|purse| !purse.spend()) {
            self.measure_cluster(target.cluster, |cluster| cluster.unpaid.add(1));
            return false;
        }
        kept.tries += 1;
        flight.track.retries += 1;
        kept.tried.push(endpoint);
        kept.due = due;
        kept.waiting = true;
        let whole = kept.whole;
        flight.deadline = flight.total;
        flight.sent = false;
        self.counters.retried += 1;
        self.measure_cluster(target.cluster, |cluster| cluster.retries.add(1));
        self.detach(id);
        if whole && due <= self.now {
            self.launch(id);
        } else if whole {
            self.waiting.push(Reverse((due, id)));
        }
        true
    }

    /// A reply came; whether it is passed over, as its request is tried again.
    pub(super) fn reply_again(&mut self, up: UpId, id: FlightId, ended: Ended) -> bool {
        let Some(upstream) = self.ups.get(up) else { return false };
        let (cluster, endpoint) = (upstream.cluster, upstream.endpoint);
        let began = self.flights.get(id).map_or(self.micros, |flight| flight.began);
        let again = self.again(id, ended, endpoint);
        if again && let Ended::Reply(outcome, _) = ended {
            let took = self.micros.saturating_sub(began);
            self.observe(cluster, endpoint, Seen::Reply(outcome), took);
        }
        again
    }

    /// A request is no longer on the connection that it was given to.
    fn detach(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let up: UpId = std::mem::replace(&mut flight.up, Key::nobody());
        let alone = flight.lease != Lease::Shared;
        if self.count_out(up) {
            if alone {
                // It has a reply of unknown length to come, if any.
                self.close_up(up, Fault::UpstreamReset);
            } else {
                self.close_up_if_drained(up);
            }
        }
    }

    /// All of a request that waits to be tried again is there.
    pub(super) fn whole(&mut self, id: FlightId) {
        let Some(kept) = self.flights.get_mut(id).and_then(|flight| flight.kept.as_mut()) else {
            return;
        };
        kept.whole = true;
        let (waiting, due, mirror) = (kept.waiting, kept.due, kept.mirror);
        if std::mem::take(&mut kept.mirror) && mirror {
            self.mirror(id);
        }
        if waiting && due <= self.now {
            self.launch(id);
        } else if waiting {
            self.waiting.push(Reverse((due, id)));
        } else if let Some(flight) = self.flights.get(id)
            && flight.kept.as_ref().is_some_and(|kept| !kept.retry)
        {
            self.let_go(id);
        }
    }

    /// Launches the requests whose wait is over.
    pub(super) fn expire_waits(&mut self) {
        while let Some(Reverse((due, id))) = self.waiting.peek().copied() {
            if due > self.now {
                return;
            }
            self.waiting.pop();
            // It may have ended meanwhile, or wait for something else by now.
            let waits = self
                .flights
                .get(id)
                .and_then(|flight| flight.kept.as_ref())
                .is_some_and(|kept| kept.waiting && kept.due == due);
            if waits {
                self.launch(id);
            }
        }
    }
}

fn may_try(retry: &Retry, kept: &Kept, ended: Ended, protocol: &str) -> bool {
    kept.tries < retry.attempts
        && (kept.safe || ended == Ended::Unconnected)
        && retry.covers(ended, protocol)
}
