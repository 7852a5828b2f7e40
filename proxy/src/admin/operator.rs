//! What the admin API may see and do of a running proxy: its seam to the control plane.

use std::net::SocketAddr;
use std::sync::Arc;

use super::figures::Figures;
use super::tap::Hub;
use crate::snapshot::Snapshot;
use crate::worker::Observer;

/// A running proxy, as the admin API knows it. What changes it may block for long, and is
/// called off the control thread.
pub trait Operator: Send + Sync {
    /// What it runs now.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Its workers.
    fn observer(&self) -> &Observer;

    /// Its config as it was read, and where from.
    fn config(&self) -> (String, String);

    /// Its figures by protocol and route.
    fn figures(&self) -> Figures;

    /// All metrics in Prometheus's text format.
    fn metrics(&self) -> String;

    /// What the latest reload came to; `None` before the first.
    fn last_reload(&self) -> Option<String> {
        None
    }

    /// Reads the config again and takes it; what changed, in words.
    ///
    /// # Errors
    /// Why it goes on with what it has.
    fn reload(&self) -> Result<String, String> {
        Err("this proxy cannot reload its config".into())
    }

    /// Sends no new requests to an endpoint, or does again.
    ///
    /// # Errors
    /// Why that cannot be.
    fn set_drained(&self, _cluster: &str, _at: SocketAddr, _drained: bool) -> Result<(), String> {
        Err("this proxy cannot drain an endpoint".into())
    }

    /// Whether an endpoint, by position, was drained by hand.
    fn is_drained(&self, _cluster: usize, _endpoint: usize) -> bool {
        false
    }

    /// Hands over to a new process of the binary that is there now; what became of it.
    ///
    /// # Errors
    /// Why this process goes on.
    fn upgrade(&self) -> Result<String, String> {
        Err("this proxy cannot hand over to another process".into())
    }
}

/// A proxy that runs one config to its end.
pub struct Running {
    /// What it runs.
    pub snapshot: Arc<Snapshot>,
    /// Its workers.
    pub observer: Observer,
    /// Its config's file.
    pub path: String,
    /// What that said.
    pub text: String,
    /// Sees its messages.
    pub hub: Arc<Hub>,
}

impl Operator for Running {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn config(&self) -> (String, String) {
        (self.path.clone(), self.text.clone())
    }

    fn figures(&self) -> Figures {
        self.hub.meter().figures(self.observer.now())
    }

    fn metrics(&self) -> String {
        super::text::stats(&self.observer, &self.snapshot)
    }
}
