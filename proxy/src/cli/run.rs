//! `polyport run`: starts the proxy and waits for the word to stop, or for another process
//! to take over.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::systemd::{self, News, Watchdog};
use crate::control::upgrade::{Inherited, Program, Upgrades, pid_file};
use crate::snapshot::Snapshot;
use crate::worker::{Given, Proxy, StartError};

/// Runs the proxy until SIGTERM or SIGINT, then lets it finish what is in flight. It keeps
/// its process id in `pid`, if that is given.
///
/// # Errors
/// Where it cannot start.
pub(super) fn run(snapshot: Snapshot, pid: Option<PathBuf>) -> Result<ExitCode, StartError> {
    let program = Program::running()?;
    let mut inherited = Inherited::receive()?;
    let given = match &mut inherited {
        Some(inherited) => inherited.listeners(),
        None => systemd::sockets()
            .into_iter()
            .map(|socket| Given { configured: None, socket })
            .collect(),
    };
    let snapshot = Arc::new(snapshot);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first listener is bound, so that no signal finds its default action.
    let (stop, mut upgrade) =
        runtime.block_on(async { io::Result::Ok((Stop::new()?, Upgrade::new()?)) })?;
    let proxy = Proxy::start_with(snapshot.clone(), None, given)?;
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let patience = snapshot.timeouts.upgrade;
    let upgrades = Upgrades::new(program, proxy.hands(), pid.clone(), patience);
    let admin = match snapshot.admin {
        Some(address) => {
            let name = format!("admin {address}");
            let socket = match inherited.as_mut().and_then(|had| had.take(&name)) {
                Some(socket) => std::net::TcpListener::from(socket),
                None => std::net::TcpListener::bind(address)?,
            };
            socket.set_nonblocking(true)?;
            upgrades.pass(&name, &socket)?;
            let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(socket) })?;
            tracing::info!(%address, "figures at http://{address}/stats");
            Some(listener)
        }
        None => None,
    };
    let mut watchdog = Watchdog::new(inherited.is_some());
    match inherited {
        Some(inherited) => inherited.take_over(&proxy, &snapshot)?,
        None => {
            if let Some(path) = &pid {
                pid_file::write(path, std::process::id())?;
            }
            systemd::tell(News::Ready);
        }
    }
    let hands = proxy.hands();
    let name = runtime.block_on(async {
        tokio::select! {
            name = stop.asked() => name,
            () = upgrade.serve(&upgrades) => "an upgrade",
            () = watchdog.watch(&hands) => "the end of the watchdog",
            () = super::admin::serve(admin, &proxy, &upgrades) => "the end of the admin listener",
        }
    });
    tracing::info!(signal = name, "stopping: answering what is in flight");
    if !upgrades.have_succeeded() {
        systemd::tell(News::Stopping);
    }
    proxy.stop();
    upgrades.finish();
    if let Some(path) = &pid {
        pid_file::remove(path);
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The signal that asks for an upgrade.
struct Upgrade(Signal);

impl Upgrade {
    /// Begins to listen for it; call it inside a runtime.
    fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined2())?))
    }

    /// Begins an upgrade at each; returns when one has succeeded.
    async fn serve(&mut self, upgrades: &Upgrades) {
        loop {
            tokio::select! {
                asked = self.0.recv() => {
                    if asked.is_none() {
                        // No signal comes any more.
                        return std::future::pending().await;
                    }
                    // What comes of it is told where it is known.
                    drop(upgrades.begin());
                }
                () = upgrades.succeeded() => return,
            }
        }
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
