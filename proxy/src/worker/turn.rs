//! One worker's loop: everything ready is read, then everything touched is written.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use super::ready::{Ready, ReadyList, Signal};
use super::sockets::{Got, Sockets};
use super::{Board, Stop};
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Action, Engine, Tap};
use crate::snapshot::Snapshot;

/// Bytes read from one connection in one turn, at most; so a busy one does not
/// keep the others waiting.
const READ: usize = 64 << 10;

/// Connections accepted from one listener in one turn, at most.
const ACCEPTS: usize = 64;

/// Timers are as coarse as this (ms).
const GRAIN: u64 = 10;

/// How long a listener rests when the system refuses a connection (no descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A worker: its engine, its sockets, its clock. One future; each poll is one turn.
pub(super) struct Worker {
    engine: Engine,
    sockets: Sockets,
    listeners: Vec<(TcpListener, Arc<Signal>, Waker)>,
    list: Arc<ReadyList>,
    ready: Vec<Ready>,
    /// To be looked at in the next turn although nothing will wake them.
    again: Vec<Ready>,
    scratch: Box<[u8]>,
    began: Instant,
    alarm: Pin<Box<Sleep>>,
    /// What the alarm is set to, ms since `began`.
    alarm_at: u64,
    stop: Arc<Stop>,
    stopping: Pin<Box<dyn Future<Output = ()>>>,
    /// When a drain is given up.
    drain_until: Option<u64>,
    drain: Duration,
    board: Arc<Board>,
}

impl Worker {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        listeners: Vec<std::net::TcpListener>,
        seed: u64,
        tap: Option<Tap>,
        board: Arc<Board>,
        stop: Arc<Stop>,
    ) -> io::Result<Self> {
        let list = Arc::new(ReadyList::default());
        let listeners = listeners
            .into_iter()
            .enumerate()
            .map(|(at, listener)| {
                let signal = Signal::new(&list, Ready::Listener(at));
                let waker = Waker::from(signal.clone());
                Ok((TcpListener::from_std(listener)?, signal, waker))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let again = (0..listeners.len()).map(Ready::Listener).collect();
        let waiting = stop.clone();
        Ok(Self {
            drain: snapshot.timeouts.drain,
            engine: Engine::new(snapshot, seed, tap),
            sockets: Sockets::default(),
            listeners,
            list,
            ready: Vec::new(),
            again,
            scratch: vec![0; READ].into_boxed_slice(),
            began: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
            alarm_at: u64::MAX,
            stopping: Box::pin(async move { waiting.notify.notified().await }),
            stop,
            drain_until: None,
            board,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTS {
            let Some((listener, signal, waker)) = self.listeners.get(at) else { return };
            signal.seen();
            match listener.poll_accept(&mut Context::from_waker(waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, source))) => {
                    // None: there are too many. Dropping the stream closes it.
                    if let Some(conn) = self.engine.accept(at, source) {
                        self.sockets.insert(conn, stream, &self.list, false);
                        self.read(conn);
                    }
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

    fn look_at(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.seen();
        if socket.connecting {
            match socket.connected() {
                Poll::Pending => return,
                Poll::Ready(result) => {
                    socket.connecting = false;
                    let ConnId::Up(up) = conn else { return };
                    if let Err(error) = result {
                        tracing::debug!(%error, "an endpoint refused");
                        self.sockets.remove(conn);
                        self.engine.connect_failed(up);
                        return;
                    }
                    self.engine.connected(up);
                }
            }
        }
        if self.engine.is_blocked(conn) {
            self.engine.writable(conn);
        }
        self.read(conn);
    }

    fn read(&mut self, conn: ConnId) {
        while self.engine.wants_read(conn) {
            let Some(socket) = self.sockets.get(conn) else { return };
            match socket.read(&mut self.scratch) {
                Got::Nothing => return,
                Got::Bytes(count) => {
                    let bytes = self.scratch.get(..count).unwrap_or_default();
                    self.engine.received(conn, bytes, &mut self.sockets);
                    if count == READ {
                        self.again.push(Ready::Conn(conn));
                        return;
                    }
                }
                Got::End => {
                    self.engine.ended(conn);
                    return;
                }
                Got::Broken => {
                    self.engine.broken(conn);
                    return;
                }
            }
        }
    }

    fn connect(&mut self, up: UpId, address: SocketAddr) {
        match begin_connect(address) {
            Ok(stream) => {
                let conn = ConnId::Up(up);
                self.sockets.insert(conn, stream, &self.list, true);
                self.again.push(Ready::Conn(conn));
            }
            Err(error) => {
                tracing::debug!(%error, %address, "an endpoint refused");
                self.engine.connect_failed(up);
            }
        }
    }

    fn act(&mut self) {
        let mut at = 0;
        while let Some(action) = self.engine.next_action(&mut at) {
            match action {
                Action::Connect(up, address) => self.connect(up, address),
                Action::Close(conn) => self.sockets.remove(conn),
                Action::Shut(conn) => {
                    if let Some(socket) = self.sockets.get(conn) {
                        socket.shut();
                    }
                }
                Action::Read(conn) => self.again.push(Ready::Conn(conn)),
            }
        }
    }

    fn set_alarm(&mut self, context: &mut Context<'_>) {
        let wanted = match self.drain_until {
            Some(until) => self.engine.next_deadline().min(until),
            None => self.engine.next_deadline(),
        };
        // An alarm that rings early costs one empty turn; it is only moved forward.
        if wanted < self.alarm_at {
            self.alarm_at = wanted.div_ceil(GRAIN) * GRAIN;
            self.alarm.as_mut().reset(self.began + Duration::from_millis(self.alarm_at));
        }
        while self.alarm_at != u64::MAX && self.alarm.as_mut().poll(context).is_ready() {
            self.alarm_at = u64::MAX;
            let wanted = self.engine.next_deadline().min(self.drain_until.unwrap_or(u64::MAX));
            if wanted != u64::MAX {
                let now = self.now();
                self.alarm_at = wanted.max(now + 1).div_ceil(GRAIN) * GRAIN;
                self.alarm.as_mut().reset(self.began + Duration::from_millis(self.alarm_at));
            }
        }
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let worker = self.get_mut();
        let mut ready = std::mem::take(&mut worker.ready);
        worker.list.take(&mut ready, context.waker());
        ready.append(&mut worker.again);
        worker.engine.tick(worker.now());
        for what in ready.drain(..) {
            match what {
                Ready::Conn(conn) => worker.look_at(conn),
                Ready::Listener(at) => worker.accept(at),
            }
        }
        worker.ready = ready;
        worker.engine.expire();
        if worker.drain_until.is_none()
            && (worker.stop.asked.load(Ordering::SeqCst)
                || worker.stopping.as_mut().poll(context).is_ready())
        {
            // Dropping the listeners turns new connections away at once.
            worker.listeners.clear();
            worker.drain_until = Some(worker.now() + worker.drain.as_millis() as u64);
            worker.engine.drain();
        }
        worker.engine.flush(&mut worker.sockets);
        worker.act();
        worker.engine.flush(&mut worker.sockets);
        worker.act();
        worker.board.publish(
            &worker.engine.counters(),
            worker.engine.downstreams(),
            worker.engine.upstreams(),
            worker.engine.in_flight(),
        );
        if let Some(until) = worker.drain_until
            && (worker.engine.is_drained() || worker.now() >= until)
        {
            return Poll::Ready(());
        }
        worker.set_alarm(context);
        if !worker.again.is_empty() || worker.engine.has_work() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        // EINPROGRESS: the socket becomes writable when it is decided.
        Err(error) if error.raw_os_error() == Some(115) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    TcpStream::from_std(socket.into())
}
