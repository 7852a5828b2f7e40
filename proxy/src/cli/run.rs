//! `polyport run`: starts the proxy and waits for the word to stop.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use polyport_codecs::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::admin::{self, Admin, Hub, LogLevel, Operator, Sockets};
use crate::control::Control;
use crate::control::files::{EVERY, Watched};
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
    let snapshot = Arc::new(snapshot);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first listener is bound, so that no signal finds its default action.
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let hang_up = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let watched = Watched::new(path.to_owned());
    let hub = Arc::new(Hub::default());
    let tap = snapshot.admin.as_ref().map(|_| hub.tap());
    let proxy = Proxy::start_tapped(snapshot.clone(), tap)?;
    proxy.control().read_from(path.to_owned(), registry.clone());
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let admin = match &snapshot.admin {
        Some(settings) => {
            let operator = Operator::new(&proxy, path.display().to_string(), hub);
            Some(serving(settings, operator, registry, log)?)
        }
        None => None,
    };
    let name = runtime.block_on(async {
        tokio::select! {
            name = stop.asked() => name,
            () = answering(admin) => "the end of the admin listener",
            () = reloads(proxy.control(), hang_up, watched) => "the end of all signals",
        }
    });
    tracing::info!(signal = name, "stopping: clients are asked to leave; once more stops at once");
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
        }
    })
}

/// Binds the admin API and says where it is.
///
/// # Errors
/// Where an address cannot be had.
pub(super) fn serving(
    settings: &admin::Settings,
    operator: Operator,
    registry: &Registry,
    log: LogLevel,
) -> io::Result<(Sockets, Arc<Admin>)> {
    let sockets = admin::bind(settings)?;
    if let Some(address) = sockets.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
        tracing::info!(%address, write = settings.write, "admin page at http://{address}/");
    }
    if let Some(path) = &settings.socket {
        tracing::info!(path = %path.display(), write = settings.write, "admin API");
    }
    let started = std::time::SystemTime::now();
    let (registry, write) = (registry.clone(), settings.write);
    Ok((sockets, Arc::new(Admin { operator, registry, log, write, started })))
}

/// Answers the admin API's clients; never ends.
pub(super) async fn answering(admin: Option<(Sockets, Arc<Admin>)>) {
    match admin {
        Some((sockets, admin)) => admin::serve(sockets, admin).await,
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
