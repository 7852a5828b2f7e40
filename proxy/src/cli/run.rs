//! `polyport run`: starts the proxy and waits for the word to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::observe::output::Outputs;
use crate::snapshot::Snapshot;
use crate::worker::{Proxy, StartError};

/// Runs the proxy until SIGTERM or SIGINT, then lets it finish what is in flight.
///
/// # Errors
/// Where it cannot start.
pub(super) fn run(snapshot: Snapshot) -> Result<ExitCode, StartError> {
    let snapshot = Arc::new(snapshot);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first listener is bound, so that no signal finds its default action.
    let stop = runtime.block_on(async { Stop::new() })?;
    let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
    let proxy = Proxy::start(snapshot.clone())?;
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let admin = match snapshot.admin {
        Some(address) => {
            let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
            tracing::info!(%address, "figures at http://{address}/stats");
            Some(listener)
        }
        None => None,
    };
    let name = runtime.block_on(async {
        tokio::select! {
            name = stop.asked() => name,
            () = reopen(rotated, proxy.outputs()) => "the end of signals",
            () = super::admin::serve(admin, &proxy) => "the end of the admin listener",
        }
    });
    tracing::info!(signal = name, "stopping: answering what is in flight");
    proxy.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
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
