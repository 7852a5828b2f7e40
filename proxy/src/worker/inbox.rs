//! What tasks beside the loop have ready for it: connections that were greeted,
//! streams that were opened, endpoints that were reached.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::ready::{Ready, ReadyList};
use super::wire::Wire;
use crate::engine::Peer;
use crate::engine::state::UpId;
use crate::streams::pipe::End;

/// Something for the loop to take up.
pub(crate) enum Arrival {
    /// A client's connection, of which these bytes were read already.
    Down { listener: usize, wire: Wire, bytes: Vec<u8>, peer: Rc<Peer> },
    /// A stream on a client's connection.
    Stream { listener: usize, protocol: usize, peer: Rc<Peer>, end: End },
    /// An endpoint's connection, or why there is none.
    Up { up: UpId, wire: io::Result<Wire> },
}

/// Arrivals, in order.
pub(crate) struct Inbox {
    arrivals: RefCell<Vec<Arrival>>,
    list: Arc<ReadyList>,
}

impl Inbox {
    pub(crate) fn new(list: Arc<ReadyList>) -> Rc<Self> {
        Rc::new(Self { arrivals: RefCell::default(), list })
    }

    /// Leaves something for the loop.
    pub(crate) fn push(&self, arrival: Arrival) {
        self.arrivals.borrow_mut().push(arrival);
        self.wake();
    }

    /// Has the loop turn.
    pub(crate) fn wake(&self) {
        self.list.push(Ready::Inbox);
    }

    /// Takes all there is, by swapping it for the empty `into`.
    pub(super) fn take(&self, into: &mut Vec<Arrival>) {
        std::mem::swap(&mut *self.arrivals.borrow_mut(), into);
    }
}
