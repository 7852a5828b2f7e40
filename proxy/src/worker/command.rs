//! What other threads ask of one worker.
//!
//! A command is left in the worker's list and its name on the ready list, which wakes
//! the worker as a socket does. So a worker that is asked nothing looks at nothing:
//! the lock is taken by whoever sends, and by the worker when it was sent something.

use std::sync::{Arc, Mutex, PoisonError};

use super::ready::{Ready, ReadyList};
use crate::engine::Engine;
use crate::snapshot::Snapshot;

/// Something for a worker to do between two turns.
pub(crate) enum Command {
    /// Has the worker say something of its engine.
    Ask(Box<dyn FnOnce(&Engine) + Send>),
    /// Goes on with another config.
    Reload(Box<Next>),
}

/// Another config for a worker.
pub(crate) struct Next {
    /// The config.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The worker's own sockets of listeners that were not there, by position.
    pub(crate) listeners: Vec<(usize, std::net::TcpListener)>,
}

/// One worker's commands, in the order they were sent.
#[derive(Default)]
pub(crate) struct Commands {
    sent: Mutex<Vec<Command>>,
    list: Arc<ReadyList>,
}

impl Commands {
    /// Leaves a command and wakes the worker. One that has ended takes no more: what is
    /// sent to it is dropped with the list.
    pub(crate) fn send(&self, command: Command) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.list.push(Ready::Commands);
    }

    /// All that was sent and not taken yet.
    pub(super) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The worker's ready list, which exists before its thread does.
    pub(super) fn list(&self) -> &Arc<ReadyList> {
        &self.list
    }
}
