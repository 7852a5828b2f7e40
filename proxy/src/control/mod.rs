//! What changes a running proxy.
//!
//! [`Control`] is the one way in, for signals, the admin listener and sources of endpoints
//! alike: it makes another [`Snapshot`] out of the one in use, whole, before anything moves;
//! binds what has to be bound; and only then has every worker go on with it
//! ([`crate::engine::Engine::reload`]). What cannot be had changes nothing.

mod changes;
pub mod discovery;
pub(crate) mod files;
mod reload;
pub mod systemd;
pub mod upgrade;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use polyport_codecs::Registry;

pub use changes::Changes;
pub(crate) use reload::{with_drained, with_endpoints};

use crate::config::Diagnostic;
use crate::health::watch::Watch;
use crate::lock::lock;
use crate::observe::output::Outputs;
use crate::overload::Overload;
use crate::snapshot::{Cluster, Endpoint, Snapshot};
use crate::worker::Hands;
use crate::worker::command::{Command, Commands};

/// A hold on a running proxy; clones hold the same one.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    /// What runs. Held only to look or to replace.
    current: Mutex<Arc<Snapshot>>,
    /// One change after the other.
    changing: Mutex<Changing>,
    /// The process that has taken over from this one. Held by a reload and by an upgrade: one
    /// after the other, or the new process might miss what this one has read.
    heir: Mutex<Option<u32>>,
    commands: Vec<Arc<Commands>>,
    watch: Watch,
    overload: Arc<Overload>,
    /// Where access logs go.
    outputs: Arc<Outputs>,
    figures: Figures,
    last_error: Mutex<Option<String>>,
    /// Counts changes, for those who follow them.
    changed: tokio::sync::watch::Sender<u64>,
}

struct Changing {
    /// Where the config is read from.
    source: Option<Source>,
    /// Configs that workers may still use. The last to let go of one frees all of it, which
    /// takes time: that is not to be a worker.
    past: Vec<Arc<Snapshot>>,
}

/// A config file, and the protocols that it may speak of.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) registry: Registry,
}

#[derive(Default)]
struct Figures {
    done: AtomicU64,
    refused: AtomicU64,
    /// Seconds since 1970.
    last: AtomicU64,
    /// 1: the latest attempt was refused.
    failing: AtomicU64,
}

/// How reloads went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Configs taken, since the start.
    pub done: u64,
    /// Configs refused, since the start.
    pub refused: u64,
    /// When the config in use was taken, seconds since 1970.
    pub last: u64,
    /// Why the latest attempt was refused; `None`: it was not.
    pub error: Option<String>,
}

/// Why a change was refused. Nothing has changed then.
#[derive(Debug, Clone)]
pub enum Refused {
    /// The proxy was started without a config file.
    NoSource,
    /// The file cannot be read.
    Unreadable(String),
    /// The config has mistakes.
    Config(Vec<Diagnostic>),
    /// A new listener's address cannot be had.
    Listen(String),
    /// An access log's file cannot be opened.
    Log(String),
    /// There is no such cluster or endpoint.
    Unknown(String),
    /// The process of this id has taken over: it is the one to ask.
    Replaced(u32),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource => f.write_str("there is no config file to read again"),
            Self::Unreadable(why) | Self::Listen(why) | Self::Log(why) | Self::Unknown(why) => {
                f.write_str(why)
            }
            Self::Replaced(heir) => {
                write!(f, "process {heir} has taken over from this one: ask it")
            }
            Self::Config(errors) => {
                for (at, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if at == 0 { "" } else { "\n\n" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Refused {}

impl Control {
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        commands: Vec<Arc<Commands>>,
        watch: Watch,
        overload: Arc<Overload>,
        outputs: Arc<Outputs>,
    ) -> Self {
        let figures = Figures::default();
        figures.last.store(since_1970(), Ordering::Relaxed);
        Self(Arc::new(Shared {
            current: Mutex::new(snapshot),
            changing: Mutex::new(Changing { source: None, past: Vec::new() }),
            heir: Mutex::default(),
            commands,
            watch,
            overload,
            outputs,
            figures,
            last_error: Mutex::default(),
            changed: Default::default(),
        }))
    }

    /// What runs now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.0.current).clone()
    }

    /// How reloads went.
    pub fn reloads(&self) -> Reloads {
        let Figures { done, refused, last, failing } = &self.0.figures;
        let error = lock(&self.0.last_error).clone();
        Reloads {
            done: done.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            last: last.load(Ordering::Relaxed),
            error: error.filter(|_| failing.load(Ordering::Relaxed) == 1),
        }
    }

    /// Where [`Control::reload`] reads the config from.
    pub fn read_from(&self, path: PathBuf, registry: Registry) {
        lock(&self.0.changing).source = Some(Source { path, registry });
    }

    /// Reads the config file again and goes on with what it says. Takes as long as that
    /// takes, and an upgrade that is under way before it: call it where waiting is no harm.
    ///
    /// # Errors
    /// Where the config cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<Changes, Refused> {
        let heir = lock(&self.0.heir);
        if let Some(heir) = *heir {
            return Err(Refused::Replaced(heir));
        }
        let mut changing = lock(&self.0.changing);
        let done = self.read(&mut changing);
        let Figures { done: good, refused, last, failing } = &self.0.figures;
        match &done {
            Ok(changes) => {
                good.fetch_add(1, Ordering::Relaxed);
                last.store(since_1970(), Ordering::Relaxed);
                failing.store(0, Ordering::Relaxed);
                tracing::info!(%changes, "reloaded");
                for line in &changes.lines {
                    tracing::debug!("{line}");
                }
                for line in &changes.later {
                    tracing::warn!("{line}");
                }
            }
            Err(why) => {
                refused.fetch_add(1, Ordering::Relaxed);
                failing.store(1, Ordering::Relaxed);
                *lock(&self.0.last_error) = Some(why.to_string());
                tracing::error!("the config in use stays, as the new one cannot be used:\n{why}");
            }
        }
        done
    }

    /// For an upgrade: waits for a reload that runs, and has others wait while this is held.
    /// What is put there is the process that takes over; no reload is done here from then on.
    pub(crate) fn heir(&self) -> MutexGuard<'_, Option<u32>> {
        lock(&self.0.heir)
    }

    /// Gives a cluster these endpoints, in place of those that it has. What is under way
    /// to others ends in its own time.
    ///
    /// # Errors
    /// Where there is no such cluster.
    pub fn set_endpoints(&self, cluster: &str, endpoints: Vec<Endpoint>) -> Result<(), Refused> {
        let mut changing = lock(&self.0.changing);
        let next = reload::with_endpoints(&self.snapshot(), cluster, endpoints)?;
        self.swap(next, &mut changing)
    }

    /// The same for what a source has found, unless the cluster has another source, or none,
    /// by now.
    ///
    /// # Errors
    /// Where there is no such cluster with this source.
    pub(crate) fn set_found(
        &self,
        cluster: &str,
        source: &Arc<discovery::Discover>,
        endpoints: Vec<Endpoint>,
    ) -> Result<(), Refused> {
        let mut changing = lock(&self.0.changing);
        let current = self.snapshot();
        let asks = |had: &Cluster| {
            let same = had.discover.as_ref().is_some_and(|had| Arc::ptr_eq(had, source));
            had.name == cluster && !had.retired && same
        };
        if !current.clusters.iter().any(asks) {
            return Err(Refused::Unknown(format!("`{cluster}` asks this source no longer")));
        }
        let next = reload::with_endpoints(&current, cluster, endpoints)?;
        self.swap(next, &mut changing)
    }

    /// Tells when another config is in use; [`Control::snapshot`] is that or a later one.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Takes an endpoint out of its cluster, or back in: no new requests go there, those in
    /// flight end, sessions stay. It stays so over reloads, until it is taken back.
    ///
    /// # Errors
    /// Where there is no such cluster or endpoint.
    pub fn set_drained(
        &self,
        cluster: &str,
        endpoint: SocketAddr,
        drained: bool,
    ) -> Result<(), Refused> {
        let mut changing = lock(&self.0.changing);
        let next = reload::with_drained(&self.snapshot(), cluster, endpoint, drained)?;
        self.swap(next, &mut changing)?;
        tracing::info!(cluster, %endpoint, drained, "an operator's word");
        Ok(())
    }

    /// Sends every worker a command of its own.
    pub(crate) fn command_all(&self, mut command: impl FnMut(usize) -> Command) {
        for (at, worker) in self.0.commands.iter().enumerate() {
            worker.send(command(at));
        }
    }

    /// All workers, to be asked things.
    pub fn hands(&self) -> Hands {
        Hands(self.0.commands.clone().into())
    }

    /// A hold that keeps nothing alive.
    pub(crate) fn weak(&self) -> WeakControl {
        WeakControl(Arc::downgrade(&self.0))
    }

    /// Frees configs that nobody uses any more.
    pub(crate) fn tidy(&self) {
        if let Ok(mut changing) = self.0.changing.try_lock() {
            changing.past.retain(|past| Arc::strong_count(past) > 1);
        }
    }
}

/// A hold on a proxy that may have ended.
#[derive(Clone)]
pub(crate) struct WeakControl(Weak<Shared>);

impl WeakControl {
    /// The proxy, if it still runs.
    pub(crate) fn upgrade(&self) -> Option<Control> {
        self.0.upgrade().map(Control)
    }
}

fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
