//! Who writes when, and who is not read while whom.
//!
//! A turn appends to out-buffers and marks connections dirty; [`Engine::flush`]
//! at its end writes each once. Pieces too large to be worth copying are offered
//! to the socket at once, behind what already waits. Whoever feeds a buffer that
//! is over its bound and whose socket takes no more is not read until it has drained.

use polyport_codecs::Fault;

use super::finish::{lane_at, lane_buffer};
use super::state::{ConnId, DownId, FlightId, UpId, UpMode, UpPhase};
use super::{Action, Engine, Net, Written};

/// Pieces from here on go to the socket without being copied.
const DIRECT: usize = 8 << 10;

/// How long (ms) a client that does not read may hold back a connection on which
/// others may have requests as well, before it is cut.
pub(super) const SHARED_STALL: u64 = 2_000;

impl Engine {
    /// The connection has bytes to write at the end of this turn.
    pub(super) fn mark_down(&mut self, id: DownId) {
        if let Some(down) = self.downs.get_mut(id)
            && !down.dirty
        {
            down.dirty = true;
            self.dirty.push(ConnId::Down(id));
        }
    }

    /// The same of an upstream connection.
    pub(super) fn mark_up(&mut self, id: UpId) {
        if let Some(upstream) = self.ups.get_mut(id)
            && !upstream.dirty
        {
            upstream.dirty = true;
            self.dirty.push(ConnId::Up(id));
        }
    }

    /// Whether bytes of this connection are wanted now.
    pub fn wants_read(&self, conn: ConnId) -> bool {
        match conn {
            ConnId::Down(id) => self.downs.get(id).is_some_and(|down| {
                !down.parked && !down.read_paused && !down.eof && !down.pace.is_resting()
            }),
            ConnId::Up(id) => self.ups.get(id).is_some_and(|upstream| {
                !upstream.paused
                    && !upstream.eof
                    && upstream.phase == UpPhase::Ready
                    && !upstream.pace.is_resting()
            }),
        }
    }

    /// Whether this connection waits for its socket to take more.
    pub fn is_blocked(&self, conn: ConnId) -> bool {
        match conn {
            ConnId::Down(id) => self.downs.get(id).is_some_and(|down| down.blocked),
            ConnId::Up(id) => self.ups.get(id).is_some_and(|upstream| upstream.blocked),
        }
    }

    /// The socket may take more.
    pub fn writable(&mut self, conn: ConnId) {
        match conn {
            ConnId::Down(id) => self.mark_down(id),
            ConnId::Up(id) => self.mark_up(id),
        }
    }

    /// A piece of a request's body.
    pub(super) fn pass_body(
        &mut self,
        id: DownId,
        to: Option<UpId>,
        flight: Option<FlightId>,
        piece: &[u8],
        net: &mut dyn Net,
    ) {
        let flight_id = flight;
        // A body that moves is no reason to give up.
        if let Some(flight) = flight.and_then(|id| self.flights.get_mut(id)) {
            flight.deadline =
                flight.deadline.max(self.now.saturating_add(flight.stream)).min(flight.limit);
            flight.total = flight.total.max(flight.deadline);
            flight.track.request += piece.len() as u64;
            let kept = flight.kept.is_some();
            if let Some(id) = flight_id.filter(|_| kept) {
                self.keep_more(id, piece);
            }
            if let Some(to) = to {
                self.pass_up(id, to, piece, net);
            }
        }
    }

    /// Bytes for an upstream that serves `from` alone.
    pub(super) fn pass_up(&mut self, from: DownId, to: UpId, piece: &[u8], net: &mut dyn Net) {
        let high = self.snapshot.buffers.high;
        let Some(upstream) = self.ups.get_mut(to) else { return };
        upstream.last_active = self.now;
        let mut rest = piece;
        if piece.len() >= DIRECT && !upstream.blocked && upstream.phase == UpPhase::Ready {
            match net.write(ConnId::Up(to), upstream.out.pending(), piece) {
                Written::Bytes(count) => {
                    let waiting = upstream.out.len();
                    upstream.out.consume(count.min(waiting), &mut self.spares);
                    rest = piece.get(count.saturating_sub(waiting)..).unwrap_or_default();
                    upstream.blocked = !rest.is_empty();
                    upstream.unwritten &= count == 0;
                }
                Written::Blocked => upstream.blocked = true,
                Written::Failed => {
                    self.close_up(to, Fault::UpstreamReset);
                    return;
                }
            }
            if upstream.blocked {
                upstream.blocked_since = self.now;
            }
        }
        if rest.is_empty() {
            return;
        }
        upstream.out.tail(&mut self.spares).extend_from_slice(rest);
        if upstream.out.len() > high
            && (upstream.blocked || upstream.phase != UpPhase::Ready)
            && let Some(down) = self.downs.get_mut(from)
            && !down.read_paused
        {
            down.read_paused = true;
            upstream.holding_back.push(from);
        }
        self.mark_up(to);
    }

    /// A piece of a reply's body.
    pub(super) fn pass_reply(
        &mut self,
        from: UpId,
        to: Option<FlightId>,
        piece: &[u8],
        net: &mut dyn Net,
    ) {
        let Some(flight_id) = to else { return };
        let Some(flight) = self.flights.get_mut(flight_id) else { return };
        flight.deadline =
            flight.deadline.max(self.now.saturating_add(flight.timeout)).min(flight.limit);
        flight.track.reply += piece.len() as u64;
        let (down, lane) = (flight.down, flight.lane);
        self.pass_down(down, from, Some((lane, flight_id)), piece, net);
    }

    /// Bytes for a downstream: of a reply, in its turn, or of a session.
    pub(super) fn pass_down(
        &mut self,
        id: DownId,
        from: UpId,
        lane: Option<(u64, FlightId)>,
        piece: &[u8],
        net: &mut dyn Net,
    ) {
        let buffers = self.snapshot.buffers;
        let Some(down) = self.downs.get_mut(id) else { return };
        let first = match lane {
            None => {
                if let Some(joined) = &mut down.joined {
                    joined.track.reply += piece.len() as u64;
                }
                true
            }
            Some((lane, flight)) => down.lanes.is_empty() || lane_at(down, lane, flight) == Some(0),
        };
        let mut rest = piece;
        if first && piece.len() >= DIRECT && !down.blocked {
            match net.write(ConnId::Down(id), down.out.pending(), piece) {
                Written::Bytes(count) => {
                    down.measure_sent(count);
                    let waiting = down.out.len();
                    down.out.consume(count.min(waiting), &mut self.spares);
                    rest = piece.get(count.saturating_sub(waiting)..).unwrap_or_default();
                    down.blocked = !rest.is_empty();
                }
                Written::Blocked => down.blocked = true,
                Written::Failed => {
                    self.close_down(id);
                    return;
                }
            }
            if down.blocked {
                down.blocked_since = self.now;
                self.look_by(self.now + self.snapshot.timeouts.write.as_millis() as u64);
            }
        }
        if rest.is_empty() {
            return;
        }
        let Some(down) = self.downs.get_mut(id) else { return };
        let held = match lane {
            Some((lane, flight)) => {
                let (buffer, _) = lane_buffer(down, lane, flight, &mut self.spares);
                buffer.extend_from_slice(rest);
                buffer.len()
            }
            None => {
                down.out.tail(&mut self.spares).extend_from_slice(rest);
                down.out.len()
            }
        };
        let bound = if first { buffers.high } else { buffers.out_of_turn };
        if held > bound && (down.blocked || !first) {
            self.hold_back(id, from);
        }
        if first {
            self.mark_down(id);
        }
    }

    /// A reply was written in one piece for a downstream: many of them, each within its
    /// bound, must not pile up either.
    pub(super) fn bound_whole(&mut self, id: DownId, from: UpId) {
        if let Some(down) = self.downs.get(id)
            && down.blocked
            && down.out.len() + down.lanes.iter().map(|lane| lane.bytes.len()).sum::<usize>()
                > self.snapshot.buffers.out_of_turn
        {
            self.hold_back(id, from);
        }
    }

    /// An upstream is not read until this downstream has taken what it is owed.
    fn hold_back(&mut self, id: DownId, from: UpId) {
        let (Some(down), Some(upstream)) = (self.downs.get_mut(id), self.ups.get_mut(from)) else {
            return;
        };
        if upstream.paused {
            return;
        }
        upstream.paused = true;
        down.holding_back.push(from);
        let shared = upstream.mode == UpMode::Shared;
        if !down.blocked {
            down.blocked_since = self.now;
        }
        down.holds_shared |= shared;
        self.look_by(self.now + self.snapshot.timeouts.write.as_millis() as u64);
        if shared {
            // Others must not wait for this client to read: they get another
            // connection, and it gets little time.
            self.look_by(self.now + SHARED_STALL);
            self.drain_up(from);
        }
    }

    /// An upstream may be read again.
    pub(super) fn let_up(&mut self, id: UpId) {
        if let Some(upstream) = self.ups.get_mut(id)
            && upstream.paused
        {
            upstream.paused = false;
            self.actions.push(Action::Read(ConnId::Up(id)));
        }
    }

    /// A downstream may be read again.
    pub(super) fn let_down(&mut self, id: DownId) {
        if let Some(down) = self.downs.get_mut(id) {
            if down.read_paused {
                down.read_paused = false;
                self.actions.push(Action::Read(ConnId::Down(id)));
            }
            self.wake_down(id);
        }
    }

    /// The end of a turn: looks again at whoever may go on, and writes what waits.
    pub fn flush(&mut self, net: &mut dyn Net) {
        // Writing wakes the parked, and the woken write; each round is bounded
        // by what was marked in the one before.
        for _ in 0..64 {
            let mut resumed = std::mem::take(&mut self.resume);
            for id in resumed.drain(..) {
                if let Some(down) = self.downs.get_mut(id) {
                    down.resuming = false;
                    down.parked = false;
                    self.run_input(id, net);
                }
            }
            if self.resume.is_empty() {
                self.resume = resumed;
            }
            if self.dirty.is_empty() {
                if self.resume.is_empty() {
                    return;
                }
                continue;
            }
            let mut dirty = std::mem::take(&mut self.dirty);
            for conn in dirty.drain(..) {
                match conn {
                    ConnId::Down(id) => self.flush_down(id, net),
                    ConnId::Up(id) => self.flush_up(id, net),
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
            }
        }
    }

    /// Whether a turn ended with work undone, so that another must follow at once.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.resume.is_empty()
    }

    fn flush_down(&mut self, id: DownId, net: &mut dyn Net) {
        let high = self.snapshot.buffers.high;
        let Some(down) = self.downs.get_mut(id) else { return };
        down.dirty = false;
        if !down.out.is_empty() {
            let was_blocked = down.blocked;
            match net.write(ConnId::Down(id), down.out.pending(), &[]) {
                Written::Bytes(count) => {
                    down.measure_sent(count);
                    down.out.consume(count, &mut self.spares);
                    down.blocked = !down.out.is_empty();
                    if count > 0 {
                        down.blocked_since = self.now;
                    }
                }
                Written::Blocked => down.blocked = true,
                Written::Failed => {
                    self.close_down(id);
                    return;
                }
            }
            if down.blocked && !was_blocked {
                down.blocked_since = self.now;
                self.look_by(self.now + self.snapshot.timeouts.write.as_millis() as u64);
            }
        } else {
            down.blocked = false;
        }
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.out.len() <= high / 2 && !down.holding_back.is_empty() {
            let held = std::mem::take(&mut down.holding_back);
            down.holds_shared = false;
            for up in held {
                self.let_up(up);
            }
        }
        let Some(down) = self.downs.get_mut(id) else { return };
        if down.parked && down.out.len() <= high && !down.resuming {
            down.resuming = true;
            self.resume.push(id);
        }
        self.close_if_done(id);
    }

    fn flush_up(&mut self, id: UpId, net: &mut dyn Net) {
        let high = self.snapshot.buffers.high;
        let Some(upstream) = self.ups.get_mut(id) else { return };
        upstream.dirty = false;
        if upstream.phase != UpPhase::Ready {
            return;
        }
        if !upstream.out.is_empty() {
            let was_blocked = upstream.blocked;
            match net.write(ConnId::Up(id), upstream.out.pending(), &[]) {
                Written::Bytes(count) => {
                    upstream.out.consume(count, &mut self.spares);
                    upstream.blocked = !upstream.out.is_empty();
                    upstream.last_active = self.now;
                    if count > 0 {
                        upstream.blocked_since = self.now;
                        upstream.unwritten = false;
                    }
                }
                Written::Blocked => upstream.blocked = true,
                Written::Failed => {
                    self.close_up(id, Fault::UpstreamReset);
                    return;
                }
            }
            if upstream.blocked && !was_blocked {
                upstream.blocked_since = self.now;
                self.look_by(self.now + self.snapshot.timeouts.write.as_millis() as u64);
            }
        } else {
            upstream.blocked = false;
        }
        let Some(upstream) = self.ups.get_mut(id) else { return };
        if upstream.out.len() <= high / 2 && !upstream.holding_back.is_empty() {
            for down in std::mem::take(&mut upstream.holding_back) {
                self.let_down(down);
            }
        }
        let Some(upstream) = self.ups.get_mut(id) else { return };
        if upstream.shut && upstream.out.is_empty() {
            upstream.shut = false;
            self.actions.push(Action::Shut(ConnId::Up(id)));
        }
    }
}
