//! `polyport run`: starts the proxy and waits for the word to stop, or for another process
//! to take over.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use polyport_codecs::Registry;
use rustix::process::{Pid, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::admin::{self, Admin, Hub, LogLevel, Operator, Sockets};
use crate::control::discovery::stage::Discovery;
use crate::control::files::{EVERY, Watched};
use crate::control::systemd::{self, News, Watchdog};
use crate::control::upgrade::{Inherited, Program, Upgrades, pid_file};
use crate::control::{Control, Refused};
use crate::observe::output::Outputs;
use crate::snapshot::Snapshot;
use crate::worker::{Given, Proxy, StartError};

/// How long whoever asked for an upgrade may take to hear that it was one.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

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
    log: LogLevel,
    pid: Option<PathBuf>,
) -> Result<ExitCode, StartError> {
    // Before there is a second thread.
    crate::observe::stacks::hold_back();
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
    let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
    let mut hang_up = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let user = runtime.block_on(async { signal(SignalKind::user_defined2()) })?;
    let watched = Watched::new(path.to_owned());
    let found = inherited.as_mut().map(Inherited::found).unwrap_or_default();
    let snapshot = found.apply(snapshot);
    let (mut discovery, snapshot) = runtime.block_on(Discovery::begin(snapshot));
    let snapshot = Arc::new(snapshot);
    // Before privileges are given up.
    let sockets = match &snapshot.admin {
        Some(settings) => {
            let had = settings.address.and_then(|at| inherited.as_mut()?.take(&admin_name(at)));
            let sockets = admin::bind(settings, had.map(Into::into))?;
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
    let proxy = Proxy::start_with(snapshot.clone(), tap, given)?;
    runtime.block_on(async { discovery.follow(proxy.control()) });
    proxy.control().read_from(path.to_owned(), registry.clone());
    for (listener, address) in snapshot.listeners.iter().zip(proxy.addresses()) {
        tracing::info!(listener = %listener.name, %address, workers = snapshot.workers, "listening");
    }
    let upgrades = Upgrades::new(program, proxy.control().clone(), pid.clone());
    if let Some(tcp) = sockets.as_ref().and_then(|sockets| sockets.tcp.as_ref())
        && let Some(address) = snapshot.admin.as_ref().and_then(|settings| settings.address)
    {
        upgrades.pass(&admin_name(address), tcp)?;
    }
    let operator = Operator::new(&proxy, path.display().to_string(), hub);
    let admin = Arc::new(Admin {
        operator: operator.with_upgrades(upgrades.clone()),
        registry: registry.clone(),
        log,
        write: snapshot.admin.as_ref().is_some_and(|settings| settings.write),
        started: std::time::SystemTime::now(),
        leaving: false.into(),
        unanswered: 0.into(),
    });
    // It answers until the end, so that who asks is told that the proxy is leaving.
    let mut answers = Box::pin(answering(sockets, admin.clone()));
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
            () = reopen(rotated, proxy.outputs()) => "the end of signals",
            () = &mut answers => "the end of the admin listener",
            () = reloads(proxy.control(), &mut hang_up, watched) => "the end of all signals",
        }
    });
    tracing::info!(signal = name, "stopping: clients are asked to leave; once more stops at once");
    admin.leaving.store(true, Ordering::Relaxed);
    let succeeded = upgrades.have_succeeded();
    if !succeeded {
        upgrades.abandon();
        systemd::tell(News::Stopping);
    }
    let control = proxy.control().clone();
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
                last_words(&admin).await;
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            name = stop.asked() => {
                tracing::warn!(signal = name, "stopped at once");
                Ok(ExitCode::FAILURE)
            }
            () = last_answers(answers, succeeded) => Ok(ExitCode::FAILURE),
            () = reloads_elsewhere(hang_up, control) => Ok(ExitCode::FAILURE),
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

/// Answers on until the process ends, or the one that took over answers alone; never ends.
async fn last_answers(answers: Pin<Box<impl Future<Output = ()>>>, succeeded: bool) {
    if succeeded {
        let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
        return std::future::pending().await;
    }
    answers.await;
}

/// Until all who asked for something are answered, whoever asked for an upgrade above all:
/// with nothing in flight the process would be gone before.
async fn last_words(admin: &Admin) {
    let until = tokio::time::Instant::now() + LAST_ANSWERS;
    while admin.unanswered.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Answers the admin API's clients; never ends.
async fn answering(sockets: Option<Sockets>, admin: Arc<Admin>) {
    match sockets {
        Some(sockets) => admin::serve(sockets, admin).await,
        None => std::future::pending().await,
    }
}

/// Reloads whenever somebody asks, or the file has changed; never ends.
async fn reloads(control: &Control, hang_up: &mut Signal, mut watched: Watched) {
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
        let _ = tokio::task::spawn_blocking(move || match control.reload() {
            // Here and now, as nobody may wait for this any more.
            Err(Refused::Replaced(heir)) => pass_on(heir),
            _ => systemd::tell(News::Ready),
        })
        .await;
    }
}

/// Has the process that took over read its config again. It tells what came of it.
fn pass_on(heir: u32) {
    tracing::info!(heir, "a reload was asked for: that is for the process that took over");
    let process = i32::try_from(heir).ok().and_then(Pid::from_raw);
    let sent =
        process.map_or(Ok(()), |process| kill_process(process, rustix::process::Signal::HUP));
    if let Err(error) = sent {
        tracing::warn!(heir, %error, "it cannot be asked to reload");
    }
}

/// The same for all who still ask this process, which has only its clients left; never ends.
async fn reloads_elsewhere(mut hang_up: Signal, control: Control) {
    while hang_up.recv().await.is_some() {
        let control = control.clone();
        let _ = tokio::task::spawn_blocking(move || control.heir().map(pass_on)).await;
    }
    std::future::pending().await
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
