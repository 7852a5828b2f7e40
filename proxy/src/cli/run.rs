//! `polyport run`: starts the proxy and waits for the word to stop, or for another process
//! to take over.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use polyport_codecs::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::control::Control;
use crate::control::discovery::stage::Discovery;
use crate::control::files::{EVERY, Watched};
use crate::control::systemd::{self, News, Watchdog};
use crate::control::upgrade::{Inherited, Program, Upgrades, pid_file};
use crate::snapshot::Snapshot;
use crate::worker::{Given, Proxy, StartError};

/// Runs the proxy until SIGTERM or SIGINT, then lets it finish what is in flight. `path`: the
/// config's file, which is read again on SIGHUP, and when it changes where it says so. It
/// keeps its process id in `pid`, if that is given.
///
/// # Errors
/// Where it cannot start.
pub(super) fn run(
    snapshot: Snapshot,
    path: &Path,
    registry: &Registry,
    pid: Option<PathBuf>,
) -> Result<ExitCode, StartError> {
    let program = Program::running()?;
    let mut inherited = Inherited::receive()?;
    let given = match &mut inherited {
        Some(inherited) => inherited.listeners(),
        None => {
            let sockets = systemd::sockets().into_iter();
            sockets.map(|socket| Given { configured: None, socket }).collect()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first listener is bound, so that no signal finds its default action.
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let hang_up = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let user = runtime.block_on(async { signal(SignalKind::user_defined2()) })?;
    let watched = Watched::new(path.to_owned());
    let (mut discovery, snapshot) = runtime.block_on(Discovery::begin(snapshot));
    let snapshot = Arc::new(snapshot);
    // Before privileges are given up.
    let admin = match snapshot.admin {
        Some(address) => {
            let had = inherited.as_mut().and_then(|had| had.take(&admin_name(address)));
            let socket = match had {
                Some(socket) => std::net::TcpListener::from(socket),
                None => std::net::TcpListener::bind(address)?,
            };
            socket.set_nonblocking(true)?;
            let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(socket) })?;
            tracing::info!(%address, "figures at http://{address}/stats");
            Some(listener)
        }
        None => None,
    };
    let proxy = Proxy::start_with(snapshot.clone(), None, given)?;
    runtime.block_on(async { discovery.follow(proxy.control()) });
    proxy.control().read_from(path.to_owned(), registry.clone());
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let patience = snapshot.timeouts.upgrade;
    let upgrades = Upgrades::new(program, proxy.hands(), pid.clone(), patience);
    if let (Some(listener), Some(address)) = (&admin, snapshot.admin) {
        upgrades.pass(&admin_name(address), listener)?;
    }
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
            () = upgrade(&upgrades, user) => "an upgrade",
            () = watchdog.watch(&hands) => "the end of the watchdog",
            () = super::admin::serve(admin, &proxy, &upgrades) => "the end of the admin listener",
            () = reloads(proxy.control(), hang_up, watched) => "the end of all signals",
        }
    });
    tracing::info!(signal = name, "stopping: clients are asked to leave; once more stops at once");
    if !upgrades.have_succeeded() {
        systemd::tell(News::Stopping);
    }
    let (done, stopped) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stop".into()).spawn(move || {
        proxy.stop();
        // What is on its way to another process arrives.
        upgrades.finish();
        let _ = done.send(());
    })?;
    let ended = runtime.block_on(async {
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
    });
    if let Some(path) = &pid {
        pid_file::remove(path);
    }
    ended
}

/// What the admin listener's socket is called on its way to another process.
fn admin_name(address: SocketAddr) -> String {
    format!("admin {address}")
}

/// Begins an upgrade whenever somebody asks; returns when one has succeeded.
async fn upgrade(upgrades: &Upgrades, mut user: Signal) {
    loop {
        tokio::select! {
            // What comes of it is told where it is known.
            Some(()) = user.recv() => drop(upgrades.begin()),
            () = upgrades.succeeded() => return,
        }
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
        systemd::tell(News::Reloading);
        let control = control.clone();
        // It may take a while, and names may have to be looked up. What came of it is told.
        let _ = tokio::task::spawn_blocking(move || control.reload()).await;
        systemd::tell(News::Ready);
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
