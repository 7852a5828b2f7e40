//! Bandwidth caps: a connection that feeds a capped exchange is read no faster.
//!
//! What was read is charged to the connection; while it is ahead of its rate it is not
//! read, and the transport's own flow control slows its peer.

use super::Engine;
use super::state::{ConnId, DownId, DownState, FlightId, UpId};
use crate::engine::Action;

/// How far (µs) a connection may fall behind its rate and catch up: timers are coarser
/// than reads.
const SLACK: u64 = 50_000;

/// How fast a connection is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Bytes a second; 0: as fast as they come.
    rate: u64,
    /// When what was read would have been read at that rate, µs.
    paid_at: u64,
    /// It is not read until then.
    resting: bool,
}

impl Pace {
    pub(super) fn is_on(self) -> bool {
        self.rate > 0
    }

    pub(super) fn is_resting(self) -> bool {
        self.resting
    }

    /// So many bytes were read; when it may go on, ms.
    fn charge(&mut self, count: usize, now: u64) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let cost = (count as u64).saturating_mul(1_000_000) / self.rate;
        self.paid_at = self.paid_at.max(now.saturating_sub(SLACK)).saturating_add(cost);
        self.resting = self.paid_at > now;
        self.resting.then(|| self.paid_at.div_ceil(1000))
    }

    /// The most that should be read at once.
    fn room(self) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        usize::try_from(self.rate * SLACK / 1_000_000).unwrap_or(usize::MAX).max(1)
    }
}

impl Engine {
    fn pace_of(&mut self, conn: ConnId) -> Option<&mut Pace> {
        match conn {
            ConnId::Down(id) => self.downs.get_mut(id).map(|down| &mut down.pace),
            ConnId::Up(id) => self.ups.get_mut(id).map(|upstream| &mut upstream.pace),
        }
    }

    /// From now on this connection is read at so many bytes a second; 0: as fast as
    /// they come.
    pub(super) fn set_pace(&mut self, conn: ConnId, rate: u64) {
        let Some(pace) = self.pace_of(conn) else { return };
        let rested = pace.resting && rate == 0;
        if pace.rate != rate {
            *pace = Pace { rate, ..Pace::default() };
        }
        if rested {
            self.actions.push(Action::Read(conn));
        }
    }

    /// So many bytes were read from a connection.
    pub(super) fn charge(&mut self, conn: ConnId, count: usize) {
        let now = self.micros;
        if let Some(due) = self.pace_of(conn).and_then(|pace| pace.charge(count, now)) {
            self.wake_at(conn, due);
        }
    }

    /// Its rest may be over.
    pub(super) fn rested(&mut self, conn: ConnId) {
        let now = self.micros;
        if let Some(pace) = self.pace_of(conn)
            && pace.resting
            && pace.paid_at <= now
        {
            pace.resting = false;
            self.actions.push(Action::Read(conn));
        }
    }

    /// The most bytes that should be read from this connection at once; `None`: not any now.
    pub fn room(&self, conn: ConnId) -> Option<usize> {
        if !self.wants_read(conn) {
            return None;
        }
        match conn {
            ConnId::Down(id) => self.downs.get(id).map(|down| down.pace.room()),
            ConnId::Up(id) => self.ups.get(id).map(|upstream| upstream.pace.room()),
        }
    }

    /// The body of a request that may not go faster begins.
    pub(super) fn pace_body(&mut self, id: DownId, flight: FlightId) {
        let rate = self.flights.get(flight).map_or(0, |flight| flight.pace);
        if rate > 0 {
            self.set_pace(ConnId::Down(id), rate);
        }
    }

    /// A body is over, whatever became of its request.
    pub(super) fn unpace(&mut self, id: DownId) {
        if let Some(down) = self.downs.get(id)
            && down.pace.is_on()
            && matches!(down.state, DownState::Idle)
        {
            self.set_pace(ConnId::Down(id), 0);
        }
    }

    /// Both ends of a session may not go faster.
    pub(super) fn pace_session(&mut self, id: DownId, up: UpId, rate: u64) {
        if rate > 0 && self.downs.get(id).is_some_and(|d| matches!(d.state, DownState::Session(_)))
        {
            self.set_pace(ConnId::Down(id), rate);
            self.set_pace(ConnId::Up(up), rate);
            if let Some(dialogue) = self.downs.get_mut(id).and_then(|down| down.dialogue.as_mut()) {
                dialogue.pace = rate;
            }
        }
    }

    /// A message of a session's client may not go faster, nor what follows it until the
    /// next that a route is asked for.
    pub(super) fn pace_message(&mut self, id: DownId, rate: u64) {
        let Some(down) = self.downs.get(id) else { return };
        let own = down.dialogue.as_ref().map_or(0, |dialogue| dialogue.pace);
        let rate = if rate > 0 && own > 0 { rate.min(own) } else { rate.max(own) };
        if rate > 0 || down.pace.is_on() {
            self.set_pace(ConnId::Down(id), rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_keeps_to_its_rate_however_late_the_timers_are() {
        let mut pace = Pace { rate: 10_000, ..Pace::default() };
        let (mut now, mut read) = (1_000_000_u64, 0);
        while now < 11_000_000 {
            read += pace.room();
            let due = pace.charge(pace.room(), now).map_or(now, |due| due * 1000);
            // Timers ring up to 10 ms late.
            now = now.max(due).div_ceil(10_000) * 10_000 + 3;
        }
        assert!((95_000..=101_500).contains(&read), "{read} bytes in 10 s at 10,000 a second");
    }

    #[test]
    fn a_large_read_is_paid_for_before_the_next() {
        let mut pace = Pace { rate: 1000, ..Pace::default() };
        assert_eq!(pace.charge(2000, 5_000_000), Some(6950));
        assert!(pace.is_resting());
        assert_eq!(Pace::default().charge(1 << 20, 1), None);
    }
}
