//! `polyport run`: starts the proxy and waits for the word to stop.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use polyport_codecs::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin, Hub, LogLevel, Operator, Running, Sockets};
use crate::snapshot::Snapshot;
use crate::worker::{Proxy, StartError};

/// Runs the proxy until SIGTERM or SIGINT, then lets it finish what is in flight.
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
    let stop = runtime.block_on(async { Stop::new() })?;
    let hub = Arc::new(Hub::default());
    let tap = snapshot.admin.as_ref().map(|_| hub.tap());
    let proxy = Proxy::start_tapped(snapshot.clone(), tap)?;
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let admin = match &snapshot.admin {
        Some(settings) => {
            let running = Running {
                snapshot: snapshot.clone(),
                observer: proxy.observer(),
                path: path.display().to_string(),
                text: std::fs::read_to_string(path).unwrap_or_default(),
                hub: hub.clone(),
            };
            Some(serving(settings, Arc::new(running), hub, registry, log)?)
        }
        None => None,
    };
    let name = runtime.block_on(async {
        tokio::select! {
            name = stop.asked() => name,
            () = answering(admin) => "the end of the admin listener",
        }
    });
    tracing::info!(signal = name, "stopping: answering what is in flight");
    proxy.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Binds the admin API and says where it is.
///
/// # Errors
/// Where an address cannot be had.
pub(super) fn serving(
    settings: &admin::Settings,
    operator: Arc<dyn Operator>,
    hub: Arc<Hub>,
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
    Ok((sockets, Arc::new(Admin { operator, registry, hub, log, write, started })))
}

/// Answers the admin API's clients; never ends.
pub(super) async fn answering(admin: Option<(Sockets, Arc<Admin>)>) {
    match admin {
        Some((sockets, admin)) => admin::serve(sockets, admin).await,
        None => std::future::pending().await,
    }
}

/// The signals that ask a process to end.
pub(crate) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
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
    pub(crate) async fn asked(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
