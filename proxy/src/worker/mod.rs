//! The tokio shell: threads, sockets and a clock around the [`Engine`].
//!
//! [`Proxy::start`] binds every listener once per worker (SO_REUSEPORT) and
//! starts one thread each with a current-thread runtime. On it runs a single
//! future, [`turn::Worker`]: each poll is one turn over the connections that
//! became ready, so that everything ready now is read before anything is written.
//!
//! Read on: [`turn`] (the loop), [`sockets`] (reads and writes), [`ready`] (who
//! has to be looked at).

mod bind;
pub(crate) mod command;
pub(crate) mod dial;
mod greet;
pub(crate) mod hands;
pub(crate) mod inbox;
mod observer;
mod overload;
mod ready;
mod sockets;
mod turn;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use command::Commands;

pub use bind::Given;
pub(crate) use bind::bind;
pub use hands::Hands;

use crate::control::Control;
use crate::engine::{Counters, Tap};
use crate::guard::Audit;
use crate::health::watch::Watch;
use crate::observe::metrics::Metrics;
use crate::observe::output::{Outputs, Target};
use crate::overload::{Overload, memory};
use crate::privileges::{self, PrivilegeError};
use crate::snapshot::Snapshot;
pub use observer::Observer;

/// How long the last lines may take to be written, at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("cannot listen on {address} (listener `{name}`): {source}")]
    Listen {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The file for denials cannot be opened.
    #[error("cannot write denials to {path}: {source}")]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The process cannot become who the config says.
    #[error("{0}")]
    Privileges(#[from] PrivilegeError),
    /// An access log's file cannot be opened.
    #[error("cannot write an access log to {target:?}: {source}")]
    AccessLog {
        /// Where its lines go.
        target: Target,
        /// What the system says.
        source: io::Error,
    },
    /// A worker thread or its runtime could not be made.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// What one worker tells the outside, without locks: it alone writes.
#[derive(Default)]
pub(crate) struct Board {
    values: [AtomicU64; Counters::COUNT],
    /// Now open, in flight or waiting: downstreams, upstreams, requests, those that wait.
    now: [AtomicU64; 4],
}

impl Board {
    pub(crate) fn publish(
        &self,
        counters: &Counters,
        downs: usize,
        ups: usize,
        flights: usize,
        pending: usize,
    ) {
        for (place, value) in self.now.iter().zip([downs, ups, flights, pending]) {
            place.store(value as u64, Ordering::Relaxed);
        }
        for (place, value) in self.values.iter().zip(counters.values()) {
            place.store(value, Ordering::Relaxed);
        }
    }
}

/// What all workers have done and hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sums over all workers.
    pub counters: Counters,
    /// Downstream connections now open.
    pub downstreams: u64,
    /// Upstream connections now open.
    pub upstreams: u64,
    /// Requests now in flight.
    pub in_flight: u64,
    /// Requests now waiting for a connection.
    pub pending: u64,
}

/// Tells workers to stop.
#[derive(Default)]
pub(crate) struct Stop {
    asked: AtomicBool,
    notify: Notify,
}

/// A running proxy. Dropping it stops it at once; [`Proxy::stop`] lets it finish.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    workers: Vec<JoinHandle<()>>,
    boards: Vec<Arc<Board>>,
    stop: Arc<Stop>,
    /// Where lines for people go; written to the end after the workers have ended.
    outputs: Arc<Outputs>,
    control: Control,
    began: tokio::time::Instant,
    metrics: Arc<Metrics>,
    overload: Arc<Overload>,
    /// Looks at the memory for as long as the proxy is there.
    _memory: memory::Watch,
}

impl Proxy {
    /// Binds all listeners and starts all workers.
    ///
    /// # Errors
    /// Where an address cannot be had or a thread not started; nothing runs then.
    pub fn start(snapshot: Arc<Snapshot>) -> Result<Self, StartError> {
        Self::start_tapped(snapshot, None)
    }

    /// The same; `tap` sees every message as it is routed.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_tapped(snapshot: Arc<Snapshot>, tap: Option<Tap>) -> Result<Self, StartError> {
        Self::start_with(snapshot, tap, Vec::new())
    }

    /// The same; of its listeners' sockets, those in `given` are used, and others bound.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_with(
        snapshot: Arc<Snapshot>,
        tap: Option<Tap>,
        given: Vec<Given>,
    ) -> Result<Self, StartError> {
        let limit = privileges::raise_descriptors();
        let (addresses, sockets) = bind::bind_all(&snapshot, given)?;
        let stop = Arc::new(Stop::default());
        let began = tokio::time::Instant::now();
        let outputs = Arc::new(Outputs::default());
        let sink = match &snapshot.access.audit {
            Audit::File(path) => {
                let failed = |source| StartError::Audit { path: path.clone(), source };
                Some(crate::audit::file(path, &outputs).map_err(failed)?)
            }
            Audit::Log | Audit::Off => None,
        };
        let failed = |(target, source)| StartError::AccessLog { target, source };
        snapshot.access_logs.open(&outputs).map_err(failed)?;
        // All that root is needed for is open, and nobody was served yet.
        snapshot.identity.assume()?;
        let workers = snapshot.workers.max(1);
        let commands: Vec<Arc<Commands>> = (0..workers).map(|_| Arc::default()).collect();
        let watch = Watch::new(began);
        watch.begin(&snapshot)?;
        let overload = Arc::new(Overload::default());
        overload.start(&snapshot.overload, spare_descriptors(limit, &snapshot));
        let control = Control::new(
            snapshot.clone(),
            commands.clone(),
            watch,
            overload.clone(),
            outputs.clone(),
        );
        crate::tls::watch::watch(&control)?;
        let mut proxy = Self {
            addresses,
            workers: Vec::new(),
            boards: Vec::new(),
            stop,
            outputs,
            control,
            began,
            metrics: Metrics::new(snapshot.metrics.clone()),
            _memory: memory::Watch::start(overload.clone())?,
            overload,
        };
        for (at, (own, commands)) in sockets.into_iter().zip(commands).enumerate() {
            let board = Arc::new(Board::default());
            proxy.boards.push(board.clone());
            let (snapshot, stop, tap) = (snapshot.clone(), proxy.stop.clone(), tap.clone());
            let (sink, metrics) = (sink.clone(), proxy.metrics.clone());
            let overload = proxy.overload.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let seed = rand::RngCore::next_u64(
                &mut <rand::rngs::SmallRng as rand::SeedableRng>::from_os_rng(),
            );
            let thread =
                std::thread::Builder::new().name(format!("worker-{at}")).spawn(move || {
                    // Tasks of single connections run beside the loop, on its thread.
                    let tasks = tokio::task::LocalSet::new();
                    tasks.block_on(
                        &runtime,
                        tokio::task::unconstrained(async move {
                            match turn::Worker::new(
                                snapshot, own, seed, tap, board, commands, stop, began, overload,
                            ) {
                                Ok(mut worker) => {
                                    worker.measure(metrics);
                                    if let Some(sink) = sink {
                                        worker.audit_to(sink);
                                    }
                                    worker.number(at);
                                    worker.await;
                                }
                                Err(error) => tracing::error!(%error, "a worker could not start"),
                            }
                        }),
                    );
                })?;
            proxy.workers.push(thread);
        }
        Ok(proxy)
    }

    /// Where lines for people go: access logs, denials.
    pub fn outputs(&self) -> &Arc<Outputs> {
        &self.outputs
    }

    /// Where it listens, in the config's order; ports that the system chose are filled in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// What it runs now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot()
    }

    /// What changes it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// How near the process is to what it may use.
    pub fn overload(&self) -> &Overload {
        &self.overload
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The engines' clock: ms since it started.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What was done so far. Each worker's figures are as of its latest turn.
    pub fn totals(&self) -> Totals {
        observer::totals(&self.boards)
    }

    /// Looks at it from other threads.
    pub fn observer(&self) -> Observer {
        Observer {
            boards: self.boards.as_slice().into(),
            control: self.control.clone(),
            overload: self.overload.clone(),
            began: self.began,
        }
    }

    /// Takes no new connections, asks clients to leave and serves them until they do (no longer than the
    /// config's drain timeout) and returns when all workers have ended.
    pub fn stop(mut self) {
        self.ask_to_stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; there is nothing to wait for.
            let _ = worker.join();
        }
        self.outputs.finish(FLUSH);
    }

    /// Its workers, to be asked things by other threads.
    pub fn hands(&self) -> Hands {
        self.control.hands()
    }

    fn ask_to_stop(&self) {
        self.stop.asked.store(true, Ordering::SeqCst);
        for _ in &self.boards {
            self.stop.notify.notify_one();
        }
        self.stop.notify.notify_waiters();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// How many descriptors are left for connections; all that is to stay open is.
fn spare_descriptors(limit: usize, snapshot: &Snapshot) -> usize {
    let checked = snapshot.clusters.iter().filter(|cluster| cluster.checks.is_some());
    let checks = checked.map(|cluster| cluster.endpoints.len()).sum();
    privileges::spare_descriptors(limit, snapshot.workers.max(1), checks)
}
