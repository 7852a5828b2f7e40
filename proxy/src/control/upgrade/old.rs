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

use tokio::sync::{Notify, oneshot};

use super::message::{Message, Moved, VERSION, receive, send};
use super::pid_file::{self, Outcome};
use super::{Takes, VARIABLE};
use crate::control::systemd::{News, tell};
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
    /// How long a new process may take until it is ready.
    patience: Duration,
    hands: Hands,
    /// Sockets that are no listener's.
    others: Mutex<Vec<(String, OwnedFd)>>,
    under_way: AtomicBool,
    failures: AtomicU64,
    succeeded: AtomicBool,
    successor: Notify,
    /// Sends connections to the process that took over.
    sender: Mutex<Option<JoinHandle<()>>>,
}

impl Upgrades {
    /// Upgrades of the proxy whose workers these are. A new process has `patience` to get
    /// ready; `pid_file` is told of the one that takes over, and of what came of each upgrade.
    pub fn new(
        program: Program,
        hands: Hands,
        pid_file: Option<PathBuf>,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            program,
            pid_file,
            patience,
            hands,
            others: Mutex::default(),
            under_way: AtomicBool::new(false),
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
                tracing::warn!("an upgrade is under way already");
                let _ = told.send(Err("an upgrade is under way already".to_owned()));
                return;
            }
            let came = inner.upgrade();
            // One that succeeded is the last.
            inner.under_way.store(came.is_ok(), Ordering::Release);
            inner.tell(&came);
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
        tracing::info!(%path, "upgrade: starting the new process");
        let (ours, theirs) = UnixStream::pair().map_err(|error| format!("no sockets: {error}"))?;
        let child = self.program.start(theirs.into());
        let mut child = child.map_err(|error| format!("cannot start {path}: {error}"))?;
        let began = Instant::now();
        let takes = self.introduce(&ours, began).and_then(|takes| {
            send(&ours, &Message::Go, b"", None)?;
            Ok(takes)
        });
        let takes = match takes {
            Ok(takes) => takes,
            Err(error) => {
                // It may have ended already; the exit status is worth more than our error then.
                let ended = wait_a_moment(&mut child);
                let _ = child.kill();
                let _ = child.wait();
                return Err(match (ended, error.kind()) {
                    (Some(status), _) => format!("the new process has ended: {status}"),
                    (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                        format!("the new process was not ready within {:?}", self.patience)
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

    /// Gives the new process all sockets and waits until it is ready; what it takes.
    fn introduce(&self, to: &UnixStream, began: Instant) -> io::Result<Vec<Takes>> {
        to.set_write_timeout(Some(self.patience))?;
        let lent = self.hands.lend();
        let others = lock(&self.others);
        let sockets = lent.len() + others.len();
        send(to, &Message::Hello { version: VERSION, sockets }, b"", None)?;
        for lent in &lent {
            let (configured, address) = (lent.configured, lent.address);
            send(to, &Message::Listener { configured, address }, b"", Some(lent.socket.as_fd()))?;
        }
        for (name, socket) in others.iter() {
            send(to, &Message::Other { name: name.clone() }, b"", Some(socket.as_fd()))?;
        }
        drop(others);
        let left = self.patience.saturating_sub(began.elapsed());
        to.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match receive(to)?.map(|heard| heard.message) {
            Some(Message::Ready { version: VERSION, listeners }) => Ok(listeners),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks otherwise")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Tells everybody what came of an upgrade.
    fn tell(&self, came: &Result<u32, String>) {
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
        if let Err(error) = named.and_then(|()| Outcome::now(came).write(path)) {
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
