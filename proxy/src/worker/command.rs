//! What other threads ask of one worker.
//!
//! A command is left in the worker's list and its name on the ready list, which wakes
//! the worker as a socket does. So a worker that is asked nothing looks at nothing:
//! the lock is taken by whoever sends, and by the worker when it was sent something.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use super::hands::Lent;
use super::ready::{Ready, ReadyList};
use crate::control::upgrade::{Moved, Takes};
use crate::engine::Engine;
use crate::lock::lock;
use crate::snapshot::Snapshot;

/// Something for a worker to do between two turns.
pub(crate) enum Command {
    /// Has the worker say something of its engine.
    Ask(Box<dyn FnOnce(&Engine) + Send>),
    /// Goes on with another config.
    Reload(Box<Next>),
    /// Say that it is alive, by adding one.
    Answer(Arc<AtomicUsize>),
    /// Lend its listening sockets to a process that may take over.
    Lend(Sender<Lent>),
    /// Accept no more: leave to another process what it takes, and drain the rest.
    Leave {
        /// What that process takes.
        takes: Arc<Vec<Takes>>,
        /// Where connections go.
        to: Sender<Moved>,
        /// Dropped when it accepts no more.
        done: Sender<()>,
    },
    /// Nobody takes over any more: keep what is left.
    Stay,
    /// Whether connections may still come from a process that this one took over from.
    Expect(bool),
    /// Take in a connection that another process had.
    Adopt {
        /// Index into the snapshot's listeners.
        listener: usize,
        /// Index into the snapshot's protocols; `None`: not known yet.
        protocol: Option<usize>,
        /// The connection.
        moved: Box<Moved>,
    },
}

/// Another config for a worker.
pub(crate) struct Next {
    /// The config.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The worker's own sockets of listeners that were not there, by position.
    pub(crate) listeners: Vec<(usize, std::net::TcpListener)>,
}

/// One worker's commands, in the order they were sent.
pub(crate) struct Commands {
    /// `None`: the worker has ended.
    sent: Mutex<Option<Vec<Command>>>,
    list: Arc<ReadyList>,
}

impl Default for Commands {
    /// Of a worker that is about to start.
    fn default() -> Self {
        Self { sent: Mutex::new(Some(Vec::new())), list: Arc::default() }
    }
}

impl Commands {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        lock(&self.sent)
    }

    /// Leaves a command and wakes the worker. Where it has ended, the command is dropped.
    pub(crate) fn send(&self, command: Command) {
        if let Some(sent) = &mut *self.lock() {
            sent.push(command);
            self.list.push(Ready::Commands);
        }
    }
}

/// The worker's end of its commands; when it is dropped, no more are taken.
pub(super) struct Orders(pub(super) Arc<Commands>);

impl Orders {
    /// All that was sent and not taken yet.
    pub(super) fn take(&self) -> Vec<Command> {
        self.0.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The worker's ready list, which exists before its thread does.
    pub(super) fn list(&self) -> &Arc<ReadyList> {
        &self.0.list
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let left = self.0.lock().take();
        // Not under the lock: what is dropped with a command is not ours.
        drop(left);
    }
}
