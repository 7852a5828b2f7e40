//! A worker under load: it tells what it has open and holds, and does what the process's
//! level asks of it.

use std::sync::Arc;
use std::task::Waker;

use super::ready::{Ready, ReadyList, Signal};
use super::turn::Worker;
use crate::engine::Pressure;
use crate::overload::{Level, Overload};

/// Under load everything is looked at again after so long (ms).
const LOOK: u64 = 100;

/// Idle connections closed at one look for want of memory, and at most.
const CLOSED: usize = 64;
const CLOSED_AT_MOST: usize = 256;

/// What one worker knows of it.
pub(super) struct Load {
    overload: Arc<Overload>,
    /// Lists the worker's listeners' state when the level changes.
    signal: Arc<Signal>,
    /// Descriptors, as last told.
    open: usize,
    /// Bytes in buffers, as last told.
    held: u64,
    /// Listeners are not looked at.
    paused: bool,
    /// When to look again, ms; `u64::MAX`: when the level changes.
    look: u64,
}

impl Load {
    pub(super) fn new(overload: Arc<Overload>, list: &Arc<ReadyList>) -> Self {
        let signal = Signal::new(list, Ready::Inbox);
        overload.wake_on_change(Waker::from(signal.clone()));
        Self { overload, signal, open: 0, held: 0, paused: false, look: u64::MAX }
    }

    /// When the worker has to look again, ms.
    pub(super) fn next_look(&self) -> u64 {
        self.look
    }

    pub(super) fn overload(&self) -> &Arc<Overload> {
        &self.overload
    }
}

/// What a worker that ends had is no longer there.
impl Drop for Load {
    fn drop(&mut self) {
        self.overload.count(self.open, 0);
        self.overload.hold(self.held, 0);
    }
}

impl Worker {
    /// Tells how many descriptors this worker has.
    pub(super) fn account(&mut self) {
        let sessions =
            self.sessions.borrow().values().map(|sessions| sessions.open()).sum::<usize>();
        let clients = self.sockets.open() + self.greeting.get() + self.streams.open.get();
        let open = clients + self.engine.up_descriptors() + sessions;
        self.load.overload.count(self.load.open, open);
        self.load.open = open;
    }

    /// Whether a listener may be asked for one more connection.
    pub(super) fn may_accept(&mut self) -> bool {
        self.account();
        let level = self.press();
        self.load.paused = level >= Level::StopAccepting;
        if self.load.paused {
            self.load.look = self.load.look.min(self.now() + LOOK);
        }
        !self.load.paused
    }

    fn press(&mut self) -> Level {
        let level = self.load.overload.level();
        let connects = self.load.overload.spare();
        self.engine.press(Pressure { shed: level == Level::Shed, connects });
        level
    }

    /// Does what the level asks; at the begin of a turn.
    pub(super) fn feel_load(&mut self) {
        self.load.signal.seen();
        let level = self.press();
        if self.load.paused && level < Level::StopAccepting {
            self.load.paused = false;
            self.again.extend((0..self.listeners.len()).map(Ready::Listener));
        }
        let weighing = self.load.overload.is_weighing();
        if level == Level::Calm && !weighing {
            self.load.look = u64::MAX;
            return;
        }
        let now = self.now();
        if self.load.look != u64::MAX && now < self.load.look {
            return;
        }
        self.load.look = now + LOOK;
        if level >= Level::CloseIdle {
            let most = match self.load.overload.excess(self.load.open) {
                0 => CLOSED,
                excess => excess.min(CLOSED_AT_MOST),
            };
            self.engine.trim();
            let closed = self.engine.relieve(most);
            self.streams.relief.0.set(most - closed);
            self.streams.relief.1.notify_waiters();
        }
        if weighing {
            let held = self.engine.held() as u64;
            self.load.overload.hold(self.load.held, held);
            self.load.held = held;
        }
    }
}
