//! One worker's loop: everything ready is read, then everything touched is written.

mod arrivals;
mod moving;
mod reaching;

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use super::bind::Own;
use super::command::{Commands, Next, Orders};
use super::inbox::{Arrival, Inbox};
use super::overload::Load;
use super::ready::{Ready, ReadyList, Signal};
use super::sockets::{Got, Sockets};
use super::wire::{Rewound, Wire};
use super::{Board, Stop};
use crate::audit::Sink;
use crate::control::upgrade::Moved;
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Action, Engine, Tap};
use crate::observe::metrics::Metrics;
use crate::overload::Overload;
use crate::snapshot::{Endpoint, Snapshot};
use crate::streams::{client, server};

/// Bytes read from one connection in one turn, at most; so a busy one does not
/// keep the others waiting.
const READ: usize = 64 << 10;

/// Timers are as coarse as this (ms).
const GRAIN: u64 = 10;

/// A worker: its engine, its sockets, its clock. One future; each poll is one turn.
pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) sockets: Sockets,
    /// By slot, which a socket keeps for as long as it is open.
    pub(super) listeners: Vec<Option<Listening>>,
    list: Arc<ReadyList>,
    ready: Vec<Ready>,
    /// To be looked at in the next turn although nothing will wake them.
    pub(super) again: Vec<Ready>,
    scratch: Box<[u8]>,
    began: Instant,
    alarm: Pin<Box<Sleep>>,
    /// What the alarm is set to, ms since `began`.
    alarm_at: u64,
    stop: Arc<Stop>,
    stopping: Pin<Box<dyn Future<Output = ()>>>,
    /// When the engine is told the time again, ms.
    wall_at: u64,
    /// When a drain is given up.
    drain_until: Option<u64>,
    board: Arc<Board>,
    orders: Orders,
    /// Where connections go that another process takes, and where each listener listened.
    leaving: Option<(Sender<Moved>, Vec<Option<SocketAddr>>)>,
    /// Connections may still come from a process that this one took over from.
    expects: bool,
    snapshot: Arc<Snapshot>,
    inbox: Rc<Inbox>,
    arrivals: Vec<Arrival>,
    /// Clients that are being greeted.
    pub(super) greeting: Rc<Cell<usize>>,
    /// Endpoints that are being reached, by tasks.
    dials: HashMap<UpId, AbortHandle>,
    pub(super) streams: server::Shared,
    pub(super) sessions: client::AllSessions,
    /// What the process runs out of.
    pub(super) load: Load,
}

/// An open listening socket.
pub(super) struct Listening {
    /// Index into the snapshot's listeners.
    position: usize,
    socket: TcpListener,
    signal: Arc<Signal>,
    waker: Waker,
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "what a worker is made of, in one place")]
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        listeners: Own,
        seed: u64,
        tap: Option<Tap>,
        board: Arc<Board>,
        commands: Arc<Commands>,
        stop: Arc<Stop>,
        began: Instant,
        overload: Arc<Overload>,
    ) -> io::Result<Self> {
        let orders = Orders(commands);
        let list = orders.list().clone();
        let waiting = stop.clone();
        let inbox = Inbox::new(list.clone());
        let streams = server::Shared {
            inbox: inbox.clone(),
            leaving: Rc::default(),
            open: Rc::default(),
            relief: Rc::new((Cell::new(0), Notify::new())),
            head: snapshot.limits.head,
            idle: snapshot.timeouts.idle,
            read: snapshot.timeouts.read,
        };
        let mut worker = Self {
            engine: Engine::new(snapshot.clone(), seed, tap),
            sockets: Sockets::default(),
            listeners: Vec::new(),
            load: Load::new(overload, &list),
            list,
            ready: Vec::new(),
            again: Vec::new(),
            scratch: vec![0; READ].into_boxed_slice(),
            began,
            alarm: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
            alarm_at: u64::MAX,
            stopping: Box::pin(async move { waiting.notify.notified().await }),
            stop,
            wall_at: 0,
            drain_until: None,
            board,
            orders,
            leaving: None,
            expects: false,
            snapshot,
            inbox,
            arrivals: Vec::new(),
            greeting: Rc::default(),
            dials: HashMap::new(),
            streams,
            sessions: Rc::default(),
        };
        for (position, socket) in listeners {
            worker.listen(position, socket)?;
        }
        Ok(worker)
    }

    /// Goes on with another config.
    fn reload(&mut self, next: Next) {
        let Next { snapshot, listeners } = next;
        // What came before the listener went is still served.
        let gone = |listening: &Listening| {
            snapshot.listeners.get(listening.position).is_none_or(|known| known.retired)
        };
        for slot in 0..self.listeners.len() {
            if self.listeners.get(slot).and_then(Option::as_ref).is_some_and(gone) {
                self.accept(slot, true);
                if let Some(place) = self.listeners.get_mut(slot) {
                    *place = None;
                }
            }
        }
        self.streams.head = snapshot.limits.head;
        self.streams.idle = snapshot.timeouts.idle;
        self.streams.read = snapshot.timeouts.read;
        self.engine.reload(snapshot.clone());
        self.wall_at = 0;
        self.set_wall();
        self.sessions.borrow_mut().retain(|(cluster, epoch, address), _| {
            snapshot.clusters.get(*cluster).is_some_and(|cluster| {
                let here = |endpoint: &Endpoint| endpoint.address == *address && !endpoint.retired;
                cluster.epoch == *epoch && cluster.endpoints.iter().any(here)
            })
        });
        let had = std::mem::replace(&mut self.snapshot, snapshot.clone());
        for (at, listener) in snapshot.listeners.iter().enumerate() {
            match had.listeners.get(at) {
                Some(before) if listener.retired && !before.retired => {
                    self.leave(Some(at));
                }
                Some(before) if !listener.retired && before.retired => {
                    self.streams.leaving.forget(at);
                }
                _ => {}
            }
        }
        if self.drain_until.is_none() {
            for (position, socket) in listeners {
                if let Err(error) = self.listen(position, socket) {
                    tracing::error!(%error, "a new listener cannot be used");
                }
            }
        }
    }

    /// What it does is counted there.
    pub(super) fn measure(&mut self, metrics: Arc<Metrics>) {
        self.engine.measure(metrics);
    }

    /// Tells it which worker it is.
    pub(super) fn number(&mut self, at: usize) {
        self.engine.set_worker(u16::try_from(at).unwrap_or(u16::MAX));
    }

    /// Denials are told there.
    pub(super) fn audit_to(&mut self, sink: Sink) {
        self.engine.audit_to(sink);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) -> u64 {
        self.micros() / 1000
    }

    /// Asks the clients of a listener, by its position, or all of them to go elsewhere; when
    /// those who do not are cut off, ms.
    fn leave(&mut self, listener: Option<usize>) -> u64 {
        let until = self.now() + self.snapshot.timeouts.drain.as_millis() as u64;
        match listener {
            Some(listener) => self.engine.drain_listener(listener, until),
            None => self.engine.drain(until),
        }
        self.streams.leaving.tell(listener, self.began + Duration::from_millis(until));
        until
    }

    /// Whether all clients of a worker that stops are gone, those that are being greeted, too.
    fn is_empty(&self) -> bool {
        self.engine.is_drained()
            && self.streams.open.get() == 0
            && self.greeting.get() == 0
            && !self.awaits_more()
    }

    /// Takes no more connections; those that are there leave in their time.
    fn begin_drain(&mut self) {
        // Dropping the listeners turns new connections away at once.
        self.listeners.clear();
        self.drain_until = Some(self.leave(None));
    }

    /// Takes up what tasks have ready.
    fn receive(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.inbox.take(&mut arrivals);
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::Down { listener, wire, bytes, peer } => {
                    self.take_in(listener, wire, &bytes, peer);
                }
                Arrival::Stream { listener, protocol, peer, end } => {
                    if let Some(conn) = self.engine.accept_stream(listener, peer, protocol) {
                        self.sockets.insert(conn, Wire::Stream(end), &self.list, false);
                        self.read(conn);
                    }
                }
                Arrival::Up { up, wire } => {
                    self.dials.remove(&up);
                    if !self.engine.is_connecting(up) {
                        // Given up meanwhile.
                        continue;
                    }
                    match wire {
                        Ok(wire) => {
                            let conn = ConnId::Up(up);
                            self.sockets.insert(conn, wire, &self.list, false);
                            self.engine.connected(up);
                            self.again.push(Ready::Conn(conn));
                        }
                        Err(error) => {
                            tracing::debug!(%error, "an endpoint was not reached");
                            self.engine.connect_failed(up);
                        }
                    }
                }
            }
        }
        self.arrivals = arrivals;
    }

    /// Connections that turned out to carry many streams leave the engine.
    fn hand_over(&mut self) {
        while let Some(handed) = self.engine.next_handed() {
            let Some(wire) = self.sockets.take(handed.conn) else { continue };
            let from = server::From {
                listener: handed.listener,
                protocol: handed.protocol,
                peer: handed.peer,
            };
            let wire = Rewound::new(handed.bytes, wire);
            let (open, serving) = (handed.open, server::serve(wire, from, self.streams.clone()));
            tokio::task::spawn_local(async move {
                let _open = open;
                serving.await;
            });
        }
    }

    fn look_at(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.seen();
        socket.pump();
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
        while let Some(room) = self.engine.room(conn) {
            let Some(socket) = self.sockets.get(conn) else { return };
            let room = room.min(self.scratch.len());
            match socket.read(self.scratch.get_mut(..room).unwrap_or_default()) {
                Got::Nothing => return,
                Got::Bytes(count) => {
                    let bytes = self.scratch.get(..count).unwrap_or_default();
                    self.engine.received(conn, bytes, &mut self.sockets);
                    // At once: its place in the engine may soon be another's.
                    self.hand_over();
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

    fn act(&mut self) {
        let mut at = 0;
        while let Some(action) = self.engine.next_action(&mut at) {
            match action {
                Action::Connect(up, address) => self.connect(up, address),
                Action::Close(conn) => {
                    if let ConnId::Up(up) = conn
                        && let Some(dial) = self.dials.remove(&up)
                    {
                        dial.abort();
                    }
                    self.sockets.remove(conn);
                }
                Action::Shut(conn) => {
                    if let Some(socket) = self.sockets.get(conn) {
                        socket.shut();
                    }
                }
                Action::Reset(conn) => {
                    if let Some(socket) = self.sockets.get(conn) {
                        socket.reset();
                    }
                    self.sockets.remove(conn);
                }
                Action::Read(conn) => self.again.push(Ready::Conn(conn)),
            }
        }
    }

    /// When to turn again though nothing happens, ms.
    fn wanted(&self) -> u64 {
        let until = self.drain_until.unwrap_or(u64::MAX);
        self.engine.next_deadline().min(until).min(self.load.next_look())
    }

    /// Tells the engine what time it is for people, now and then: their clocks are set.
    fn set_wall(&mut self) {
        const EVERY: u64 = 1_000;
        if self.engine.logs() && self.now() >= self.wall_at {
            self.wall_at = self.now() + EVERY;
            let now = crate::observe::text::now();
            self.engine.set_wall(now.saturating_sub(self.micros()));
        }
    }

    fn set_alarm(&mut self, context: &mut Context<'_>) {
        let wanted = self.wanted();
        // An alarm that rings early costs one empty turn; it is only moved forward.
        if wanted < self.alarm_at {
            self.alarm_at = wanted.div_ceil(GRAIN) * GRAIN;
            self.alarm.as_mut().reset(self.began + Duration::from_millis(self.alarm_at));
        }
        while self.alarm_at != u64::MAX && self.alarm.as_mut().poll(context).is_ready() {
            self.alarm_at = u64::MAX;
            let wanted = self.wanted();
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
        worker.engine.tick(worker.micros());
        worker.feel_load();
        worker.set_wall();
        for what in ready.drain(..) {
            match what {
                Ready::Conn(conn) => worker.look_at(conn),
                Ready::Listener(at) => worker.accept(at, false),
                Ready::Inbox => worker.receive(),
                Ready::Commands => worker.obey(),
            }
        }
        worker.ready = ready;
        worker.engine.expire();
        if worker.drain_until.is_none()
            && (worker.stop.asked.load(Ordering::SeqCst)
                || worker.stopping.as_mut().poll(context).is_ready())
        {
            worker.begin_drain();
        }
        worker.engine.flush(&mut worker.sockets);
        worker.act();
        worker.hand_over();
        worker.engine.flush(&mut worker.sockets);
        worker.act();
        if worker.leaving.is_some() {
            worker.part();
        }
        worker.account();
        worker.board.publish(
            &worker.engine.counters(),
            worker.engine.downstreams(),
            worker.engine.upstreams(),
            worker.engine.in_flight(),
            worker.engine.pending(),
        );
        if let Some(until) = worker.drain_until
            && (worker.is_empty() || worker.now() >= until)
        {
            worker.engine.end_logs();
            return Poll::Ready(());
        }
        worker.set_alarm(context);
        if !worker.again.is_empty() || worker.engine.has_work() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
