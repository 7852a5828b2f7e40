//! All workers of a proxy, for those who command them from other threads.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::command::{Command, Commands};
use crate::control::upgrade::{Moved, Takes};

/// How long workers may take to do what they are asked. They turn many times a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listening socket on its way to another process.
pub(crate) struct Lent {
    /// The address that the config asks for.
    pub(crate) configured: SocketAddr,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The socket, once more.
    pub(crate) socket: OwnedFd,
}

/// All workers of a proxy; may be copied freely, and outlive them.
#[derive(Clone)]
pub struct Hands(pub(crate) Arc<[Arc<Commands>]>);

impl Hands {
    /// Asks every worker to add one to `answered` when it comes round; how many there are.
    pub fn feel(&self, answered: &Arc<AtomicUsize>) -> usize {
        for worker in self.0.iter() {
            worker.send(Command::Answer(answered.clone()));
        }
        self.0.len()
    }

    /// All sockets that they accept from.
    pub(crate) fn lend(&self) -> Vec<Lent> {
        let (to, lent) = channel();
        for worker in self.0.iter() {
            worker.send(Command::Lend(to.clone()));
        }
        drop(to);
        collect(&lent)
    }

    /// Has them accept no more and leave to another process what it takes; returns when they
    /// accept no more.
    pub(crate) fn leave(&self, takes: &Arc<Vec<Takes>>, to: &Sender<Moved>) {
        let (done, all) = channel();
        for worker in self.0.iter() {
            let (takes, to, done) = (takes.clone(), to.clone(), done.clone());
            worker.send(Command::Leave { takes, to, done });
        }
        drop(done);
        collect(&all);
    }

    /// Has them keep what has not left yet.
    pub(crate) fn stay(&self) {
        for worker in self.0.iter() {
            worker.send(Command::Stay);
        }
    }

    /// Tells them whether connections may still come from another process. One that leaves
    /// itself passes them on, and does not end before the last has come.
    pub(crate) fn expect(&self, more: bool) {
        for worker in self.0.iter() {
            worker.send(Command::Expect(more));
        }
    }

    /// Gives one of them a connection that another process had: the next for the next `turn`.
    pub(crate) fn adopt(
        &self,
        turn: usize,
        listener: usize,
        protocol: Option<usize>,
        moved: Moved,
    ) {
        let moved = Box::new(moved);
        if let Some(worker) = self.0.get(turn % self.0.len().max(1)) {
            worker.send(Command::Adopt { listener, protocol, moved });
        }
    }
}

/// What comes until all senders are gone, or time is over.
fn collect<T>(from: &Receiver<T>) -> Vec<T> {
    let until = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while let Ok(one) = from.recv_timeout(until.saturating_duration_since(Instant::now())) {
        all.push(one);
    }
    all
}
