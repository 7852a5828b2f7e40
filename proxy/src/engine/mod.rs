//! The engine: every exchange of one worker, without I/O.
//!
//! In come accepted connections, bytes read, bytes' ends and the time; out go
//! bytes to write ([`Net::write`]) and [`Action`]s: connect, shut, close, read
//! again. It knows three ways of exchanging messages and no protocol:
//! *correlated* and *shared ordered* requests of many downstreams are appended
//! to one upstream connection and written together; *exclusive ordered* ones take
//! a pooled connection each; a *session* joins two connections. Time and
//! randomness are given to it, so a run can be repeated from its seed.
//!
//! Read on, along a request's way: [`downstream`] (bytes to heads), [`dispatch`]
//! (heads to an upstream connection), [`balance`] (which endpoint), [`pool`] (which
//! connection), [`upstream`]
//! (replies), [`finish`] (the one place where a request ends), [`flow`] (who is
//! not read while whom), [`sweep`] (deadlines), [`leave`] (who is to go elsewhere). Beside
//! it: [`guard`] (who may pass), [`fault`] and [`pace`] (what goes wrong on purpose),
//! [`overload`] (what gives way).

mod balance;
mod breaker;
pub mod buffer;
mod choose;
mod counters;
mod depart;
mod dispatch;
mod downstream;
mod fault;
mod finish;
mod flights;
mod flow;
mod guard;
mod launch;
mod leave;
pub mod listing;
mod local;
mod log;
mod measure;
mod observe;
mod overload;
mod pace;
mod patience;
mod peer;
mod pending;
mod pool;
mod pools;
mod postpone;
mod reload;
pub mod report;
mod retry;
mod seam;
mod session;
pub mod slab;
pub mod state;
mod sweep;
mod upstream;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::{Fault, Kind, Metadata, View};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::observe::metrics::series::Series;
use crate::policy::retry::Purse;
use crate::snapshot::Snapshot;
pub use counters::Counters;
pub use depart::{Carried, Departing, Heir};
pub(crate) use dispatch::{effective_lease, may_wait};
pub use overload::Pressure;
pub use peer::{Handed, Peer, TlsFacts, Way};

use balance::Chooser;
use buffer::Spares;
use fault::Sleeper;
use flights::Flights;
use guard::Auditor;
use launch::Kept;
use log::Logger;
use pending::Waits;
use pool::{EndpointState, ProfileState};
use slab::Slab;
use state::{ConnId, DownId, Downstream, FlightId, UpId, Upstream};

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many bytes went; perhaps not all.
    Bytes(usize),
    /// None can go now; [`Engine::writable`] is called when some can.
    Blocked,
    /// The connection is broken.
    Failed,
}

/// The sockets, as the engine sees them.
pub trait Net {
    /// Writes `first`, then `second`, as far as the connection takes them.
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written;
}

/// What the engine asks of the shell, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Set up a connection; [`Engine::connected`] or [`Engine::connect_failed`] follows.
    Connect(UpId, SocketAddr),
    /// Shut our end for writing.
    Shut(ConnId),
    /// Close so that the peer sees a reset; [`Action::Close`] follows.
    Reset(ConnId),
    /// Close and forget; nothing more is said of this connection.
    Close(ConnId),
    /// Read again, since [`Engine::wants_read`] may have changed.
    Read(ConnId),
}

/// One routed message, as a tap sees it.
pub struct Tapped<'a> {
    /// Its protocol.
    pub protocol: &'static str,
    /// Which of its dialects it is; where it has none, the protocol's name.
    pub dialect: &'static str,
    /// Request or one-way.
    pub kind: Kind,
    /// Its route's name; `None` where none matched.
    pub route: Option<&'a str>,
    /// Where it went: index into the snapshot's clusters.
    pub cluster: Option<usize>,
    /// Where exactly.
    pub endpoint: Option<SocketAddr>,
    /// Why it went nowhere.
    pub fault: Option<Fault>,
    /// Its metadata.
    pub view: View<'a>,
    /// The config that it was routed by.
    pub snapshot: &'a Snapshot,
}

/// Sees every message as it is routed; must be quick.
pub type Tap = Arc<dyn Fn(&Tapped<'_>) + Send + Sync>;

/// All exchanges of one worker.
pub struct Engine {
    /// Counted per worker, so that looking things up while `self` changes costs no atomic.
    snapshot: reload::Config,
    /// How often another config took the place of the one before.
    generation: u32,
    /// Earlier configs that something in flight belongs to, by generation.
    past: Vec<(u32, reload::Config)>,
    /// ms.
    now: u64,
    /// µs, for what is too short for ms.
    micros: u64,
    rng: SmallRng,
    downs: Slab<Box<Downstream>>,
    ups: Slab<Box<Upstream>>,
    flights: Flights,
    /// By cluster, then endpoint.
    endpoints: Vec<Vec<EndpointState>>,
    /// Of each set of endpoints, who may be chosen.
    choosers: Vec<Chooser>,
    /// How often this worker has learned something that changes who may be chosen.
    changes: u64,
    /// Of each cluster, what waits for connections to it.
    waits: Vec<Waits>,
    profiles: Vec<ProfileState>,
    dirty: Vec<ConnId>,
    resume: Vec<DownId>,
    handed: Vec<Handed>,
    /// Who waits for a time of its own.
    sleepers: BinaryHeap<Sleeper>,
    auditor: Auditor,
    /// Access logs; `None`: there are none.
    logger: Option<Box<Logger>>,
    /// Its number, for access logs.
    worker: u16,
    actions: Vec<Action>,
    spares: Spares,
    /// For replies, of which nobody asks any key.
    no_metadata: Metadata,
    /// No request in flight times out before this, ms.
    earliest_flight: u64,
    /// No connection has a deadline before this, ms.
    earliest_conn: u64,
    /// Nothing about waits for connections is to be looked at before this, ms.
    earliest_wait: u64,
    /// Requests that wait to be tried again, by when.
    waiting: BinaryHeap<Reverse<(u64, FlightId)>>,
    /// By cluster: what retries may still cost.
    purses: Vec<Purse>,
    /// Copies of requests in flight.
    mirroring: usize,
    /// For reuse.
    #[expect(clippy::vec_box, reason = "flights hold the boxes")]
    kept: Vec<Box<Kept>>,
    /// Who takes the connections that can leave.
    heir: Option<Heir>,
    /// Connections that may be able to leave now.
    leavers: Vec<DownId>,
    /// All connections leave.
    draining: Option<leave::Times>,
    /// By listener: its connections leave.
    left: Vec<Option<leave::Times>>,
    /// No leaving connection has anything due before this, ms.
    earliest_leave: u64,
    pressure: Pressure,
    /// Of connections to endpoints, open or about to be.
    up_descriptors: usize,
    counters: Counters,
    tap: Option<Tap>,
    /// What is counted for the outside, by whom and what it concerns.
    series: Option<Box<Series>>,
}

impl Engine {
    /// An engine for one worker. `seed` decides every random choice it will make.
    pub fn new(snapshot: Arc<Snapshot>, seed: u64, tap: Option<Tap>) -> Self {
        let endpoints = snapshot
            .clusters
            .iter()
            .map(|cluster| cluster.endpoints.iter().map(|_| EndpointState::default()).collect())
            .collect();
        let mut engine = Self {
            now: 0,
            micros: 0,
            rng: SmallRng::seed_from_u64(seed),
            downs: Slab::default(),
            ups: Slab::default(),
            flights: Flights::default(),
            endpoints,
            choosers: snapshot.sets.iter().map(|_| Chooser::default()).collect(),
            changes: 0,
            waits: vec![Waits::default(); snapshot.clusters.len()],
            profiles: vec![ProfileState::default()],
            dirty: Vec::new(),
            resume: Vec::new(),
            handed: Vec::new(),
            sleepers: BinaryHeap::new(),
            auditor: Auditor::new(&snapshot.access.audit),
            logger: None,
            worker: 0,
            actions: Vec::new(),
            spares: Spares::default(),
            no_metadata: Metadata::default(),
            earliest_flight: u64::MAX,
            earliest_conn: u64::MAX,
            earliest_wait: u64::MAX,
            waiting: BinaryHeap::new(),
            purses: snapshot.clusters.iter().map(|c| Purse::new(c.retry_budget)).collect(),
            mirroring: 0,
            kept: Vec::new(),
            heir: None,
            leavers: Vec::new(),
            draining: None,
            left: Vec::new(),
            earliest_leave: u64::MAX,
            pressure: Pressure::default(),
            up_descriptors: 0,
            counters: Counters::default(),
            tap,
            series: None,
            snapshot: Rc::new(snapshot),
            generation: 0,
            past: Vec::new(),
        };
        engine.log_anew();
        engine
    }

    /// Tells the time: µs since the proxy started, never less than before.
    pub fn tick(&mut self, micros: u64) {
        self.micros = self.micros.max(micros);
        self.now = self.micros / 1000;
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Downstream connections now open.
    pub fn downstreams(&self) -> usize {
        self.downs.len()
    }

    /// Upstream connections now open or being set up.
    pub fn upstreams(&self) -> usize {
        self.ups.len()
    }

    /// Requests now in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Bytes were read from a connection.
    pub fn received(&mut self, conn: ConnId, bytes: &[u8], net: &mut dyn Net) {
        match conn {
            ConnId::Down(id) => self.received_down(id, bytes, net),
            ConnId::Up(id) => self.received_up(id, bytes, net),
        }
    }

    /// A connection's peer will send no more.
    pub fn ended(&mut self, conn: ConnId) {
        match conn {
            ConnId::Down(id) => self.ended_down(id),
            ConnId::Up(id) => self.ended_up(id),
        }
    }

    /// A connection broke.
    pub fn broken(&mut self, conn: ConnId) {
        match conn {
            ConnId::Down(id) => self.close_down(id),
            ConnId::Up(id) => self.close_up(id, Fault::UpstreamReset),
        }
    }

    /// Takes the next thing to do.
    pub fn next_action(&mut self, at: &mut usize) -> Option<Action> {
        let action = self.actions.get(*at).copied();
        if action.is_some() {
            *at += 1;
        } else {
            self.actions.clear();
            *at = 0;
        }
        action
    }
}

#[cfg(test)]
mod tests;
