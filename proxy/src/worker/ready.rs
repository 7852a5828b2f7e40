//! Which connections have to be looked at in the next turn.
//!
//! Every socket has a waker of its own that writes the connection's name on the
//! worker's list and wakes the worker's one future. So one poll of that future
//! sees everything that became ready since the last, and no connection needs a task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Wake, Waker};

use crate::engine::state::ConnId;
use crate::lock::lock;

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A connection.
    Conn(ConnId),
    /// The listener of this number.
    Listener(usize),
    /// Tasks have left something.
    Inbox,
    /// Another thread asks for something.
    Commands,
}

/// The worker's list. The runtime wakes on the worker's own thread, so its lock
/// is never contended.
#[derive(Default)]
pub(crate) struct ReadyList {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ready: Vec<Ready>,
    worker: Option<Waker>,
}

impl ReadyList {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Puts something on the list and wakes the worker.
    pub(crate) fn push(&self, ready: Ready) {
        let mut inner = self.lock();
        inner.ready.push(ready);
        if let Some(worker) = &inner.worker {
            worker.wake_by_ref();
        }
    }

    /// Swaps the list for an empty one; from now on `worker` is woken.
    pub(crate) fn take(&self, into: &mut Vec<Ready>, worker: &Waker) {
        let mut inner = self.lock();
        std::mem::swap(&mut inner.ready, into);
        match &mut inner.worker {
            Some(had) => had.clone_from(worker),
            none => *none = Some(worker.clone()),
        }
    }
}

/// Wakes the worker on behalf of one thing, which is on the list at most once.
pub(crate) struct Signal {
    list: Arc<ReadyList>,
    what: Ready,
    listed: AtomicBool,
}

impl Signal {
    pub(crate) fn new(list: &Arc<ReadyList>, what: Ready) -> Arc<Self> {
        Arc::new(Self { list: list.clone(), what, listed: AtomicBool::new(false) })
    }

    /// It is being looked at; from now on it may be listed again.
    pub(crate) fn seen(&self) {
        self.listed.store(false, Ordering::Release);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.list.push(self.what);
        }
    }
}
