//! `polyport run`: starts the proxy and waits for the word to stop.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use polyport_codecs::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::admin::{self, Admin, Hub, LogLevel, Operator, Sockets};
use crate::control::Control;
use crate::control::discovery::stage::Discovery;
use crate::control::files::{EVERY, Watched};
use crate::observe::output::Outputs;
use crate::snapshot::Snapshot;
use crate::worker::{Proxy, StartError};

/// Runs the proxy until SIGTERM or SIGINT, then lets it finish what is in flight. `path`: the
/// config's file, which is read again on SIGHUP, and when it changes where it says so.
///
/// # Errors
/// Where it cannot start.
pub(super) fn run(
    snapshot: Snapshot,
    path: &Path,
    registry: &Registry,
    log: LogLevel,
) -> Result<ExitCode, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first listener is bound, so that no signal finds its default action.
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
    let hang_up = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let watched = Watched::new(path.to_owned());
    let (mut discovery, snapshot) = runtime.block_on(Discovery::begin(snapshot));
    let snapshot = Arc::new(snapshot);
    // Before privileges are given up.
    let sockets = match &snapshot.admin {
        Some(settings) => {
            let sockets = admin::bind(settings)?;
            sockets.give_to(&snapshot.identity)?;
            let write = settings.write;
            if let Some(address) = sockets.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
                tracing::info!(%address, write, "admin page at http://{address}/");
            }
            if let Some(path) = &settings.socket {
                tracing::info!(path = %path.display(), write, "admin API");
            }
            Some(sockets)
        }
        None => None,
    };
    let hub = Arc::new(Hub::default());
    let tap = snapshot.admin.as_ref().map(|_| hub.tap());
    let proxy = Proxy::start_tapped(snapshot.clone(), tap)?;
    runtime.block_on(async { discovery.follow(proxy.control()) });
    proxy.control().read_from(path.to_owned(), registry.clone());
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let admin = Arc::new(Admin {
        operator: Operator::new(&proxy, path.display().to_string(), hub),
        registry: registry.clone(),
        log,
        write: snapshot.admin.as_ref().is_some_and(|settings| settings.write),
        started: std::time::SystemTime::now(),
        leaving: false.into(),
    });
    // It answers until the end, so that who asks is told that the proxy is leaving.
    let mut answers = pin!(answering(sockets, admin.clone()));
    let name = runtime.block_on(async {
        tokio::select! {
            name = stop.asked() => name,
            () = &mut answers => "the end of the admin listener",
            () = reopen(rotated, proxy.outputs()) => "the end of signals",
            () = reloads(proxy.control(), hang_up, watched) => "the end of all signals",
        }
    });
    tracing::info!(signal = name, "stopping: clients are asked to leave; once more stops at once");
    admin.leaving.store(true, Ordering::Relaxed);
    let (done, stopped) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stop".into()).spawn(move || {
        proxy.stop();
        let _ = done.send(());
    })?;
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            name = stop.asked() => {
                tracing::warn!(signal = name, "stopped at once");
                Ok(ExitCode::FAILURE)
            }
            () = &mut answers => Ok(ExitCode::FAILURE),
        }
    })
}

/// Answers the admin API's clients; never ends.
async fn answering(sockets: Option<Sockets>, admin: Arc<Admin>) {
    match sockets {
        Some(sockets) => admin::serve(sockets, admin).await,
        None => std::future::pending().await,
    }
}

/// Reloads whenever somebody asks, or the file has changed; never ends.
async fn reloads(control: &Control, mut hang_up: Signal, mut watched: Watched) {
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hang_up.recv() => {
                // It has been seen as it is now.
                watched.changed();
            }
            _ = looks.tick() => {
                if !control.snapshot().watch_config || !watched.changed() {
                    continue;
                }
            }
        }
        let control = control.clone();
        // It may take a while, and names may have to be looked up. What came of it is told.
        let _ = tokio::task::spawn_blocking(move || control.reload()).await;
    }
}

/// Opens the files of logs anew at each such signal, as they were moved away.
async fn reopen(mut rotated: tokio::signal::unix::Signal, outputs: &Outputs) {
    while rotated.recv().await.is_some() {
        tracing::info!(signal = "SIGUSR1", "opening the files of logs anew");
        outputs.reopen();
    }
}

/// The signals that ask a process to end.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Begins to listen for them; call it inside a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one; its name.
    pub(crate) async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
