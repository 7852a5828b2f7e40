//! The process that is taken over from.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{Notify, oneshot};

use super::message::{Message, Moved, VERSION, receive, send};
use super::pid_file::{self, Outcome};
use super::{Takes, VARIABLE, found};
use crate::control::systemd::{News, tell};
use crate::control::{Control, Refused};
use crate::lock::lock;
use crate::worker::Hands;

/// What is started by an upgrade.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// What this process was started as. Ask early: later the file may be another's.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn running() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let exact = std::env::current_exe()?;
        // A link that was named is kept: an upgrade may have it point elsewhere.
        let named = arguments.next().map(PathBuf::from);
        let named = named.filter(|named| named.components().count() > 1);
        let named = named.and_then(|named| std::path::absolute(named).ok());
        let path = named.filter(|named| is_same(named, &exact)).unwrap_or(exact);
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Starts it; `stdin` is its way to this process.
    fn start(&self, stdin: OwnedFd) -> io::Result<Child> {
        Command::new(&self.path)
            .args(&self.arguments)
            .env(VARIABLE, "1")
            // These are for the process that was started with them.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .stdin(stdin)
            .spawn()
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.metadata().map(|about| (about.dev(), about.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

/// Upgrades of this process: a handle that may be copied freely.
#[derive(Clone)]
pub struct Upgrades(Arc<Inner>);

struct Inner {
    program: Program,
    pid_file: Option<PathBuf>,
    control: Control,
    hands: Hands,
    /// Sockets that are no listener's.
    others: Mutex<Vec<(String, OwnedFd)>>,
    under_way: AtomicBool,
    starting: Mutex<Starting>,
    failures: AtomicU64,
    succeeded: AtomicBool,
    successor: Notify,
    /// Sends connections to the process that took over.
    sender: Mutex<Option<JoinHandle<()>>>,
}

/// The new process, while it may still be ended for nothing.
#[derive(Default)]
struct Starting {
    child: Option<Pid>,
    /// This process stops: there are to be no others in its stead.
    stopped: bool,
}

impl Upgrades {
    /// Upgrades of this proxy. `pid_file` is told of the process that takes over, and of what
    /// came of each upgrade.
    pub fn new(program: Program, control: Control, pid_file: Option<PathBuf>) -> Self {
        let hands = control.hands();
        Self(Arc::new(Inner {
            program,
            pid_file,
            control,
            hands,
            others: Mutex::default(),
            under_way: AtomicBool::new(false),
            starting: Mutex::default(),
            failures: AtomicU64::new(0),
            succeeded: AtomicBool::new(false),
            successor: Notify::new(),
            sender: Mutex::default(),
        }))
    }

    /// Has `socket` handed over, too, by what its owner calls it.
    ///
    /// # Errors
    /// Where the system has no further descriptor for it.
    pub fn pass(&self, name: &str, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        lock(&self.0.others).push((name.to_owned(), socket));
        Ok(())
    }

    /// How many upgrades have failed.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Starts the new binary and hands over to it. The answer comes when it has taken over
    /// (its process id), or has not (why); then this process goes on as before.
    pub fn begin(&self) -> oneshot::Receiver<Result<u32, String>> {
        let (told, answer) = oneshot::channel();
        let inner = self.0.clone();
        let work = move || {
            if inner.under_way.swap(true, Ordering::AcqRel) {
                let why = "an upgrade is under way already: ask again once it has ended";
                tracing::warn!("{why}");
                let _ = told.send(Err(why.to_owned()));
                return;
            }
            // A reload that runs comes first; one that is asked for now waits.
            let mut heir = inner.control.heir();
            let came = match *heir {
                Some(heir) => Err(Refused::Replaced(heir).to_string()),
                None => {
                    let begun = Outcome::clock();
                    let came = inner.upgrade();
                    *heir = came.as_ref().ok().copied();
                    inner.tell(&came, begun);
                    came
                }
            };
            drop(heir);
            inner.under_way.store(false, Ordering::Release);
            if came.is_ok() {
                inner.succeeded.store(true, Ordering::Release);
                inner.successor.notify_one();
            }
            // Whoever asked may have gone.
            let _ = told.send(came);
        };
        if let Err(error) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(work) {
            tracing::error!(%error, "no upgrade: no thread for it");
        }
        answer
    }

    /// Whether another process has taken over.
    pub fn have_succeeded(&self) -> bool {
        self.0.succeeded.load(Ordering::Acquire)
    }

    /// Waits until another process has taken over.
    pub async fn succeeded(&self) {
        self.0.successor.notified().await;
    }

    /// This process was told to stop: a new one that is not in charge yet ends, and no other
    /// is started.
    pub fn abandon(&self) {
        let mut starting = lock(&self.0.starting);
        starting.stopped = true;
        if let Some(child) = starting.child {
            // Whoever waits for it says what came of it.
            let _ = kill_process(child, Signal::KILL);
        }
    }

    /// Waits until all connections that moved have been sent. Call it when the workers have
    /// ended.
    pub fn finish(&self) {
        let sender = lock(&self.0.sender).take();
        if let Some(sender) = sender {
            // One that panicked has said so.
            let _ = sender.join();
        }
    }
}

impl Inner {
    fn upgrade(&self) -> Result<u32, String> {
        let path = self.program.path.display();
        // As the config says it now.
        let patience = self.control.snapshot().timeouts.upgrade;
        tracing::info!(%path, "upgrade: starting the new process");
        let (ours, theirs) = UnixStream::pair().map_err(|error| format!("no sockets: {error}"))?;
        let child = self.program.start(theirs.into());
        let mut child = child.map_err(|error| format!("cannot start {path}: {error}"))?;
        let began = Instant::now();
        let stopped = || io::Error::other("it is not wanted, as this one stops");
        let takes = self.set_out(&child).then(|| self.introduce(&ours, began, patience));
        let takes = takes.unwrap_or_else(|| Err(stopped())).and_then(|takes| {
            // Not ended from here on, unless for a reason.
            let mut starting = lock(&self.starting);
            if starting.stopped {
                return Err(stopped());
            }
            send(&ours, &Message::Go, b"", None)?;
            starting.child = None;
            Ok(takes)
        });
        let takes = match takes {
            Ok(takes) => takes,
            Err(error) => {
                // Its number may be another's once it was waited for.
                lock(&self.starting).child = None;
                // It may have ended already; the exit status is worth more than our error then.
                let ended = wait_a_moment(&mut child);
                let _ = child.kill();
                let _ = child.wait();
                return Err(match (ended, error.kind()) {
                    (Some(status), _) => format!("the new process has ended: {status}"),
                    (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                        format!("the new process was not ready within {patience:?}")
                    }
                    (None, _) => format!("the new process: {error}"),
                });
            }
        };
        let (to, moves) = channel();
        self.hands.leave(&Arc::new(takes), &to);
        drop(to);
        // Nobody accepts from these here.
        lock(&self.others).clear();
        let hands = self.hands.clone();
        let sender = std::thread::Builder::new()
            .name("upgrade".to_owned())
            .spawn(move || hand_over(&ours, &moves, &hands));
        match sender {
            Ok(sender) => *lock(&self.sender) = Some(sender),
            // It serves already: what is here is drained.
            Err(error) => tracing::error!(%error, "connections cannot be handed over"),
        }
        Ok(child.id())
    }

    /// Whether the new process is still wanted.
    fn set_out(&self, child: &Child) -> bool {
        let mut starting = lock(&self.starting);
        starting.child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        !starting.stopped
    }

    /// Gives the new process all sockets, and what is known of endpoints, and waits until it
    /// is ready; what it takes.
    fn introduce(
        &self,
        to: &UnixStream,
        began: Instant,
        patience: Duration,
    ) -> io::Result<Vec<Takes>> {
        to.set_write_timeout(Some(patience))?;
        let lent = self.hands.lend();
        let others = lock(&self.others);
        let found = found::pack(&self.control.snapshot()).unwrap_or_else(|error| {
            // It finds them itself, with luck.
            tracing::warn!(%error, "upgrade: endpoints that were found are not handed over");
            None
        });
        let sockets = lent.len() + others.len() + usize::from(found.is_some());
        send(to, &Message::Hello { version: VERSION, sockets }, b"", None)?;
        for lent in &lent {
            let (configured, address) = (lent.configured, lent.address);
            send(to, &Message::Listener { configured, address }, b"", Some(lent.socket.as_fd()))?;
        }
        for (name, socket) in others.iter() {
            send(to, &Message::Other { name: name.clone() }, b"", Some(socket.as_fd()))?;
        }
        drop(others);
        if let Some(found) = found {
            let message = Message::Other { name: found::NAME.to_owned() };
            send(to, &message, b"", Some(found.as_fd()))?;
        }
        let left = patience.saturating_sub(began.elapsed());
        to.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match receive(to)?.map(|heard| heard.message) {
            Some(Message::Ready { version: VERSION, listeners }) => Ok(listeners),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks otherwise")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Tells everybody what came of an upgrade.
    fn tell(&self, came: &Result<u32, String>, begun: u128) {
        match came {
            Ok(pid) => {
                tracing::info!(pid, "upgrade: the new process has taken over");
                tell(News::Successor(*pid));
            }
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%why, "upgrade failed: this process goes on");
            }
        }
        let Some(path) = &self.pid_file else { return };
        let named = came.as_ref().map_or(Ok(()), |pid| pid_file::write(path, *pid));
        if let Err(error) = named.and_then(|()| Outcome::now(came, begun).write(path)) {
            tracing::error!(%error, path = %path.display(), "the pid file cannot be written");
        }
    }
}

/// Sends the connections that leave, until there are no more or nobody takes them.
fn hand_over(to: &UnixStream, moves: &Receiver<Moved>, hands: &Hands) {
    let mut moved = 0_usize;
    for connection in moves {
        if let Err(error) = connection.send(to) {
            tracing::error!(%error, "the new process takes no more connections");
            hands.stay();
            // What is under way has no way back.
            moves.iter().for_each(drop);
            break;
        }
        moved += 1;
    }
    tracing::info!(connections = moved, "all that could move has gone over");
}

/// How a child ended that closed its socket, where it ends soon.
fn wait_a_moment(child: &mut Child) -> Option<std::process::ExitStatus> {
    for _ in 0..50 {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
