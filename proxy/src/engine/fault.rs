//! Faults on purpose, and the wake-ups of whoever waits for a time of its own.
//!
//! What a message meets is drawn once, when its route is first asked ([`Fate`]), and
//! kept beside the message for as long as that waits. Delayed messages wait where all
//! messages wait that cannot go on: parked on their connection, with those behind them.

use std::cmp::Ordering;

use polyport_codecs::View;
use rand::Rng;

use super::state::{ConnId, DownId, Downstream};
use super::{Action, Engine};
use crate::guard::{Guard, Injected, When, Wrong};

/// What was decided of a message; it is not decided again while the message waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fate {
    /// It may not go on before, ms.
    pub until: u64,
    /// The fault of its route that ends it: position in [`Guard::faults`].
    pub ends: Option<usize>,
    /// Bytes a second of its body and of its reply; 0: as fast as they come.
    pub pace: u64,
}

/// Somebody to wake.
pub(super) struct Sleeper {
    /// When, ms.
    due: u64,
    conn: ConnId,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    /// The earliest is the greatest: the heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

/// Whether all that is asked holds; nothing asked always does.
pub(super) fn holds(when: Option<&When>, view: &View<'_>) -> bool {
    when.is_none_or(|when| when.holds(view))
}

impl Downstream {
    /// Its next message waits because of a fault on purpose.
    pub(super) fn is_delayed(&self, now: u64) -> bool {
        self.fate.is_some_and(|fate| fate.until > now)
    }
}

impl Engine {
    /// Draws what a message of this route meets.
    pub(super) fn draw(&mut self, id: DownId, guard: &Guard, view: &View<'_>) -> Fate {
        let mut fate = Fate::default();
        for (at, fault) in guard.faults.iter().enumerate() {
            if fault.per_million == 0 || !holds(fault.when.as_ref(), view) || !self.hits(fault) {
                continue;
            }
            match fault.what {
                Wrong::Delay(time) if fate.until == 0 => {
                    // Rounded up: it is never less than what was asked for.
                    let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    fate.until = self.micros.saturating_add(time).div_ceil(1000);
                }
                Wrong::Delay(_) => {}
                Wrong::Bandwidth(rate) if fate.pace == 0 || rate < fate.pace => fate.pace = rate,
                Wrong::Bandwidth(_) => {}
                Wrong::Abort(_) | Wrong::Respond(_) | Wrong::Reset => {
                    fate.ends = fate.ends.or(Some(at));
                }
            }
        }
        if fate.until > self.now {
            self.wake_at(ConnId::Down(id), fate.until);
        }
        fate
    }

    /// Whether chance has this fault meet the message.
    fn hits(&mut self, fault: &Injected) -> bool {
        self.rng.random_range(0..1_000_000) < fault.per_million
    }

    /// Looks again at a connection at `due`, ms.
    pub(super) fn wake_at(&mut self, conn: ConnId, due: u64) {
        self.sleepers.push(Sleeper { due, conn });
    }

    /// When the next sleeper is due, ms.
    pub(super) fn next_sleeper(&self) -> u64 {
        self.sleepers.peek().map_or(u64::MAX, |sleeper| sleeper.due)
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_sleepers(&mut self) {
        while self.next_sleeper() <= self.now {
            let Some(sleeper) = self.sleepers.pop() else { return };
            self.rested(sleeper.conn);
            if let ConnId::Down(id) = sleeper.conn {
                self.wake_down(id);
            }
        }
    }

    /// Ends a connection so that its client sees a reset.
    pub(super) fn reset_down(&mut self, id: DownId) {
        self.actions.push(Action::Reset(ConnId::Down(id)));
        self.close_down(id);
    }
}
