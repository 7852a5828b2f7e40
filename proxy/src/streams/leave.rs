//! Which connections that carry streams are to leave, and by when.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// Told once by a worker, asked by all such connections of its.
#[derive(Default)]
pub(crate) struct Leaving {
    all: Cell<Option<Instant>>,
    /// By listener.
    listeners: RefCell<Vec<(usize, Instant)>>,
    notify: Notify,
}

impl Leaving {
    /// Those of a listener, by its position, or all of them leave, and end at `until`.
    pub(crate) fn tell(&self, listener: Option<usize>, until: Instant) {
        match listener {
            Some(listener) => self.listeners.borrow_mut().push((listener, until)),
            None => self.all.set(Some(until)),
        }
        self.notify.notify_waiters();
    }

    /// The listener is back: connections that come to it stay.
    pub(crate) fn forget(&self, listener: usize) {
        self.listeners.borrow_mut().retain(|(had, _)| *had != listener);
    }

    /// When connections of this listener end; `None`: they stay.
    pub(crate) fn until(&self, listener: usize) -> Option<Instant> {
        let own = || {
            let listeners = self.listeners.borrow();
            listeners.iter().find(|(had, _)| *had == listener).map(|(_, until)| *until)
        };
        self.all.get().or_else(own)
    }

    /// Waits for the next word to anybody.
    pub(crate) fn told(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_word_to_one_listener_is_none_to_others_and_one_to_all_is_to_each() {
        let (leaving, first) = (Leaving::default(), Instant::now());
        leaving.tell(Some(1), first);
        assert_eq!((leaving.until(0), leaving.until(1)), (None, Some(first)));
        let second = first + Duration::from_secs(1);
        leaving.tell(None, second);
        assert_eq!((leaving.until(0), leaving.until(1)), (Some(second), Some(second)));
    }
}
