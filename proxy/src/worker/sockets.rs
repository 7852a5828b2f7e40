//! The sockets of one worker, by connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::ready::{Ready, ReadyList, Signal};
use super::wire::Wire;
use crate::engine::state::ConnId;
use crate::engine::{Net, Written};

/// A socket, and how to learn that it is ready.
pub(super) struct Socket {
    conn: ConnId,
    wire: Wire,
    signal: Arc<Signal>,
    waker: Waker,
    /// An upstream's connect is under way.
    pub(super) connecting: bool,
    /// What was written is not all with the kernel yet (TLS).
    unflushed: bool,
    /// Our end is to be shut when it is.
    shutting: bool,
}

/// How long a closed connection may take to hand its last words to the kernel.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a read came to.
pub(super) enum Got {
    /// So many bytes; more may be there at once.
    Bytes(usize),
    /// The peer will send no more.
    End,
    /// Nothing now; the waker is set.
    Nothing,
    /// The connection is broken.
    Broken,
}

/// All sockets of a worker: two tables, as both sorts of connection count from 0.
#[derive(Default)]
pub(super) struct Sockets {
    downs: Vec<Option<Socket>>,
    ups: Vec<Option<Socket>>,
    /// How many clients' have a descriptor of their own.
    open: usize,
}

impl Sockets {
    fn table(&mut self, conn: ConnId) -> (&mut Vec<Option<Socket>>, usize) {
        match conn {
            ConnId::Down(id) => (&mut self.downs, id.index()),
            ConnId::Up(id) => (&mut self.ups, id.index()),
        }
    }

    /// How many descriptors clients' connections have.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The socket of `conn`; none where it was closed, even if its place was taken again.
    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let (table, index) = self.table(conn);
        table.get_mut(index)?.as_mut().filter(|socket| socket.conn == conn)
    }

    pub(super) fn insert(
        &mut self,
        conn: ConnId,
        wire: Wire,
        list: &Arc<ReadyList>,
        connecting: bool,
    ) {
        // Its place may still be another's that the engine has already forgotten.
        self.clear(conn);
        let signal = Signal::new(list, Ready::Conn(conn));
        let waker = Waker::from(signal.clone());
        let (table, index) = self.table(conn);
        if table.len() <= index {
            table.resize_with(index + 1, || None);
        }
        let own = is_own(conn, &wire);
        if let Some(place) = table.get_mut(index) {
            *place = Some(Socket {
                conn,
                wire,
                signal,
                waker,
                connecting,
                unflushed: false,
                shutting: false,
            });
            self.open += usize::from(own);
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        if self.get(conn).is_some() {
            self.clear(conn);
        }
    }

    fn clear(&mut self, conn: ConnId) {
        let (table, index) = self.table(conn);
        let socket = table.get_mut(index).and_then(Option::take);
        let own = socket.as_ref().is_some_and(|socket| is_own(conn, &socket.wire));
        self.open -= usize::from(own);
        if let Some(socket) = socket
            && socket.unflushed
        {
            // Last words that TLS still holds.
            let mut wire = socket.wire;
            tokio::task::spawn_local(tokio::time::timeout(LAST_WORDS, async move {
                let _ = wire.shutdown().await;
            }));
        }
    }

    /// Takes a connection's transport away from it.
    pub(super) fn take(&mut self, conn: ConnId) -> Option<Wire> {
        let (table, index) = self.table(conn);
        let place = table.get_mut(index)?;
        let wire = place.take_if(|socket| socket.conn == conn)?.wire;
        self.open -= usize::from(is_own(conn, &wire));
        Some(wire)
    }
}

/// Whether it is a client's and no stream.
fn is_own(conn: ConnId, wire: &Wire) -> bool {
    matches!(conn, ConnId::Down(_)) && wire.tcp().is_some()
}

impl Socket {
    pub(super) fn seen(&self) {
        self.signal.seen();
    }

    /// Reads what is there, without waiting.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        let mut context = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.wire).poll_read(&mut context, &mut buffer) {
            Poll::Pending => Got::Nothing,
            // TLS that ends without saying so; most clients do.
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && matches!(self.conn, ConnId::Down(_)) =>
            {
                Got::End
            }
            Poll::Ready(Err(_)) => Got::Broken,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Got::End,
            Poll::Ready(Ok(())) => Got::Bytes(buffer.filled().len()),
        }
    }

    /// Whether a connect under way has come to an end, and which.
    pub(super) fn connected(&mut self) -> Poll<io::Result<()>> {
        let mut context = Context::from_waker(&self.waker);
        let Wire::Tcp(stream) = &mut self.wire else { return Poll::Ready(Ok(())) };
        match stream.poll_write_ready(&mut context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(match stream.take_error() {
                Ok(None) => stream.peer_addr().map(drop),
                Ok(Some(error)) | Err(error) => Err(error),
            }),
        }
    }

    /// Has the peer see a reset when the connection is dropped.
    pub(super) fn reset(&mut self) {
        self.unflushed = false;
        if let Some(stream) = self.wire.tcp() {
            // Where that fails the connection is closed all the same.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    pub(super) fn shut(&mut self) {
        let mut context = Context::from_waker(&self.waker);
        // A peer that has gone already needs no notice.
        self.shutting = Pin::new(&mut self.wire).poll_shutdown(&mut context).is_pending();
    }

    /// Goes on with what TLS could not hand to the kernel.
    pub(super) fn pump(&mut self) {
        if self.unflushed {
            let mut context = Context::from_waker(&self.waker);
            self.unflushed = Pin::new(&mut self.wire).poll_flush(&mut context).is_pending();
        }
        if self.shutting && !self.unflushed {
            self.shut();
        }
    }

    fn write(&mut self, first: &[u8], second: &[u8]) -> Written {
        let mut context = Context::from_waker(&self.waker);
        let secure = matches!(self.wire, Wire::Tls(_));
        if secure && self.unflushed {
            // No more is encrypted than the kernel takes.
            match Pin::new(&mut self.wire).poll_flush(&mut context) {
                Poll::Pending => return Written::Blocked,
                Poll::Ready(Err(_)) => return Written::Failed,
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
        }
        let stream = Pin::new(&mut self.wire);
        let wrote = if second.is_empty() {
            stream.poll_write(&mut context, first)
        } else if first.is_empty() {
            stream.poll_write(&mut context, second)
        } else {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            stream.poll_write_vectored(&mut context, &parts)
        };
        if secure && matches!(wrote, Poll::Ready(Ok(_))) {
            self.unflushed = Pin::new(&mut self.wire).poll_flush(&mut context).is_pending();
        }
        match wrote {
            Poll::Pending => Written::Blocked,
            Poll::Ready(Ok(count)) => Written::Bytes(count),
            Poll::Ready(Err(_)) => Written::Failed,
        }
    }
}

impl Net for Sockets {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        let total = first.len() + second.len();
        let Some(socket) = self.get(conn) else { return Written::Failed };
        let written = socket.write(first, second);
        if let Written::Bytes(count) = written
            && count < total
        {
            // It took less than all: the next attempt finds it full and sets the waker.
            let (rest_first, rest_second) = match first.get(count..) {
                Some(rest) if !rest.is_empty() => (rest, second),
                _ => (second.get(count - first.len()..).unwrap_or_default(), &[][..]),
            };
            return match socket.write(rest_first, rest_second) {
                Written::Bytes(more) => Written::Bytes(count + more),
                _ => Written::Bytes(count),
            };
        }
        written
    }
}
