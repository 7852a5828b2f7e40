//! What a worker does when another process takes over, or when it takes over itself.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use tokio::net::TcpStream;

use super::{Listening, Worker};
use crate::control::upgrade::{Moved, Takes};
use crate::engine::{Carried, Heir, Peer};
use crate::worker::command::Command;
use crate::worker::hands::Lent;
use crate::worker::wire::Wire;

impl Worker {
    /// Does what other threads asked for.
    pub(super) fn obey(&mut self) {
        for command in self.orders.take() {
            match command {
                Command::Ask(question) => question(&self.engine),
                Command::Reload(next) => self.reload(*next),
                Command::Answer(answered) => {
                    answered.fetch_add(1, Ordering::AcqRel);
                }
                Command::Lend(to) => self.lend(&to),
                Command::Leave { takes, to, done } => {
                    self.give_way(&takes, to);
                    drop(done);
                }
                Command::Stay => {
                    self.leaving = None;
                    self.engine.disown();
                }
                Command::Expect(more) => self.expects = more,
                Command::Adopt { listener, protocol, moved } => {
                    self.adopt(listener, protocol, *moved);
                }
            }
        }
    }

    fn lend(&self, to: &Sender<Lent>) {
        use std::os::fd::AsFd;
        for Listening { position, socket, .. } in self.listeners.iter().flatten() {
            let Some(listener) = self.snapshot.listeners.get(*position) else { continue };
            let again = socket.as_fd().try_clone_to_owned();
            match (socket.local_addr(), again) {
                (Ok(address), Ok(socket)) => {
                    // Nobody waits for it any more where this fails.
                    let _ = to.send(Lent { configured: listener.address, address, socket });
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, listener = %listener.name, "cannot lend a listener");
                }
            }
        }
    }

    fn give_way(&mut self, takes: &[Takes], to: Sender<Moved>) {
        let mut heir = Heir { takes: vec![Vec::new(); self.snapshot.listeners.len()] };
        let mut addresses = vec![None; self.snapshot.listeners.len()];
        for Listening { position, socket, .. } in self.listeners.iter().flatten() {
            let Ok(address) = socket.local_addr() else { continue };
            let Some(taken) = takes.iter().find(|takes| takes.address == address) else { continue };
            let named = taken.protocols.iter().filter_map(|name| {
                let mut enabled = self.snapshot.protocols.iter();
                enabled.position(|enabled| enabled.protocol.name() == name)
            });
            if let (Some(place), Some(known)) =
                (heir.takes.get_mut(*position), addresses.get_mut(*position))
            {
                *place = named.collect();
                *known = Some(address);
            }
        }
        self.leaving = Some((to, addresses));
        self.engine.relinquish(heir);
        if self.drain_until.is_none() {
            self.begin_drain();
        }
    }

    /// Whether connections may still come that are to be passed on.
    pub(super) fn awaits_more(&self) -> bool {
        self.expects && self.leaving.is_some()
    }

    /// Sends off the connections that can leave now.
    pub(super) fn part(&mut self) {
        while let Some(gone) = self.engine.next_departing() {
            let wire = self.sockets.take(gone.conn);
            let Some((to, addresses)) = &self.leaving else { continue };
            let facts = gone.facts;
            let address = addresses.get(facts.listener).copied().flatten();
            let (Some(Wire::Tcp(stream)), Some(listener)) = (wire, address) else {
                continue;
            };
            let enabled = facts.protocol.and_then(|at| self.snapshot.protocols.get(at));
            let socket = match stream.into_std() {
                Ok(stream) => stream.into(),
                Err(error) => {
                    tracing::warn!(%error, "a connection was closed that should have moved");
                    continue;
                }
            };
            // Where nobody takes it, it is closed as the new process has died.
            let _ = to.send(Moved {
                socket,
                listener,
                protocol: enabled.map(|enabled| enabled.protocol.name().to_owned()),
                source: facts.peer.source,
                local: facts.peer.local,
                profile: facts.profile,
                memory: facts.memory,
                bytes: facts.bytes,
            });
        }
    }

    fn adopt(&mut self, listener: usize, protocol: Option<usize>, moved: Moved) {
        let Moved { socket, source, local, profile, memory, bytes, .. } = moved;
        let stream = std::net::TcpStream::from(socket);
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was closed that should have moved");
                return;
            }
        };
        // It was let in already; it is only counted.
        let admission = self.load.overload().admit(&self.snapshot.overload, source.ip());
        let admission = admission.unwrap_or_default();
        let peer = Rc::new(Peer { admission, ..Peer::plain(source, local) });
        let facts = Carried { listener, protocol, peer, profile, memory, bytes };
        match self.engine.adopt(&facts) {
            Some(conn) => self.carry_on(conn, Wire::Tcp(stream), &facts.bytes),
            None => tracing::warn!(%source, "a connection was closed that should have moved"),
        }
    }
}
