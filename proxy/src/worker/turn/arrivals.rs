//! How connections of clients come in: accepted, greeted where that is due, taken in.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::{Listening, Worker};
use crate::engine::Peer;
use crate::engine::state::ConnId;
use crate::overload::sources::Admission;
use crate::snapshot::ProxyHeader;
use crate::worker::greet::{Greeted, greet, greets};
use crate::worker::inbox::Arrival;
use crate::worker::ready::{Ready, Signal};
use crate::worker::wire::Wire;

/// Connections accepted from one listener in one turn, at most.
const ACCEPTS: usize = 64;

/// How long a listener rests when the system refuses a connection (no descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Worker {
    /// Accepts from one more socket.
    pub(super) fn listen(
        &mut self,
        position: usize,
        socket: std::net::TcpListener,
    ) -> io::Result<()> {
        let slot = self.listeners.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        let signal = Signal::new(&self.list, Ready::Listener(slot));
        let waker = Waker::from(signal.clone());
        let socket = TcpListener::from_std(socket)?;
        if let Some(place) = self.listeners.get_mut(slot) {
            *place = Some(Listening { position, socket, signal, waker });
        }
        self.again.push(Ready::Listener(slot));
        Ok(())
    }

    /// Accepts what waits; `last`: whatever the load, as nobody will later.
    pub(super) fn accept(&mut self, at: usize, last: bool) {
        for _ in 0..ACCEPTS {
            if !last && !self.may_accept() {
                // They wait in the kernel until `feel_load` lists the listeners again.
                return;
            }
            let Some(Some(Listening { position, socket, signal, waker })) = self.listeners.get(at)
            else {
                return;
            };
            let position = *position;
            signal.seen();
            match socket.poll_accept(&mut Context::from_waker(waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, source))) => {
                    // Small messages are batched here; the kernel must not wait for more.
                    let _ = stream.set_nodelay(true);
                    self.welcome(position, stream, source);
                }
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept");
                    let waker = waker.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(ACCEPT_REST).await;
                        waker.wake();
                    });
                    return;
                }
            }
        }
        self.again.push(Ready::Listener(at));
    }

    /// Takes a connection in, or first has a task peel off what comes before its messages.
    fn welcome(&mut self, at: usize, stream: TcpStream, source: SocketAddr) {
        let Some(listener) = self.snapshot.listeners.get(at) else { return };
        // Where a PROXY header may name it, the source is not known yet.
        let known = listener.proxy_protocol == ProxyHeader::None;
        let admitted = if known {
            self.load.overload().admit(&self.snapshot.overload, source.ip())
        } else {
            Some(Admission::default())
        };
        let Some(admission) = admitted else {
            // A reset leaves nothing behind in the kernel. Where that fails it is closed.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        };
        if !greets(listener) {
            let local = stream.local_addr().unwrap_or(listener.address);
            let peer = Rc::new(Peer { admission, ..Peer::plain(source, local) });
            self.take_in(at, Wire::Tcp(stream), &[], peer);
            return;
        }
        if self.greeting.get() + self.engine.downstreams() >= self.snapshot.buffers.connections {
            return;
        }
        self.greeting.set(self.greeting.get() + 1);
        let (snapshot, inbox) = (self.snapshot.clone(), self.inbox.clone());
        let greeting = self.greeting.clone();
        let overload = self.load.overload().clone();
        tokio::task::spawn_local(async move {
            if let Some(settings) = snapshot.listeners.get(at) {
                let admit = |source| match known {
                    true => Some(admission),
                    false => overload.admit(&snapshot.overload, source),
                };
                match greet(stream, source, settings, snapshot.timeouts.read, admit).await {
                    Ok(Greeted { wire, bytes, peer }) => {
                        inbox.push(Arrival::Down { listener: at, wire, bytes, peer });
                    }
                    Err(error) => tracing::debug!(%source, %error, "turned away"),
                }
            }
            greeting.set(greeting.get() - 1);
        });
    }

    /// Gives a connection to the engine. Where there are too many it is dropped, which closes it.
    pub(super) fn take_in(&mut self, at: usize, wire: Wire, bytes: &[u8], peer: Rc<Peer>) {
        if let Some(conn) = self.engine.accept(at, peer) {
            self.carry_on(conn, wire, bytes);
        }
    }

    /// Begins with a connection that the engine has taken in.
    pub(super) fn carry_on(&mut self, conn: ConnId, wire: Wire, bytes: &[u8]) {
        self.sockets.insert(conn, wire, &self.list, false);
        if !bytes.is_empty() {
            self.engine.received(conn, bytes, &mut self.sockets);
            self.hand_over();
        }
        self.read(conn);
    }
}
