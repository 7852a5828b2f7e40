//! What a service manager and the proxy tell each other: sockets that it opened for us
//! (`LISTEN_FDS`), and how we are (`NOTIFY_SOCKET`). Without one, none of it does anything.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::worker::Hands;

/// The listening TCP sockets that the service manager opened for this process. Others
/// are left alone, with a line in the log.
pub fn sockets() -> Vec<TcpListener> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..given.len() {
        match given.take_tcp_listener(at) {
            Ok(socket) => sockets.extend(socket),
            Err(error) => tracing::warn!(%error, "a socket of the service manager's is no use"),
        }
    }
    sockets
}

/// Something that the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// All listeners are there.
    Ready,
    /// The config is being read again; [`News::Ready`] follows, whatever came of it.
    Reloading,
    /// It ends once what is in flight is answered.
    Stopping,
    /// Another process, of this id, takes over, and is ready.
    Successor(u32),
    /// It is alive.
    Alive,
}

/// Tells the service manager, if there is one.
pub fn tell(news: News) {
    let told = match news {
        News::Ready => sd_notify::notify(&[NotifyState::Ready]),
        News::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        News::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        News::Successor(pid) => sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::Ready]),
        News::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Tells the service manager that the proxy is alive as often as it wants to hear it, as
/// long as every worker answers.
pub struct Watchdog {
    every: Option<Duration>,
    /// How many workers have answered since they were last asked.
    answered: Arc<AtomicUsize>,
    asked: usize,
}

impl Watchdog {
    /// Asks how often it wants to hear. One that took over from another process is watched
    /// as that one was (`successor`): the variables still name its predecessor.
    pub fn new(successor: bool) -> Self {
        let every = if successor {
            let micros = std::env::var("WATCHDOG_USEC").ok();
            micros.and_then(|micros| micros.parse().ok()).map(Duration::from_micros)
        } else {
            sd_notify::watchdog_enabled()
        };
        Self { every, answered: Arc::default(), asked: 0 }
    }

    /// Never returns: says so twice in each interval.
    pub async fn watch(&mut self, workers: &Hands) {
        let Some(every) = self.every.filter(|every| !every.is_zero()) else {
            return std::future::pending().await;
        };
        loop {
            if self.answered.load(Ordering::Acquire) >= self.asked {
                tell(News::Alive);
                self.answered.store(0, Ordering::Release);
                self.asked = workers.feel(&self.answered);
            } else {
                // Each was asked once; it is waited for.
                tracing::warn!("a worker did not answer in time");
            }
            tokio::time::sleep(every / 2).await;
        }
    }
}
