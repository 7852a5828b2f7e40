//! What the admin API sees and does of a running proxy: the one place where figures,
//! metrics, reload, drain and upgrade are joined to it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::figures::Figures;
use super::tap::Hub;
use crate::control::upgrade::Upgrades;
use crate::control::{Changes, Control, Reloads};
use crate::observe::metrics::{Format, Metrics, render};
use crate::snapshot::Snapshot;
use crate::worker::{Observer, Proxy};

/// A running proxy, as the admin API knows it. What changes it may take long, and is called
/// off the control thread.
pub struct Operator {
    control: Control,
    observer: Observer,
    path: String,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    upgrades: Option<Upgrades>,
}

impl Operator {
    /// Looks at `proxy`, whose config came from the file `path` and whose messages `hub` sees.
    pub fn new(proxy: &Proxy, path: String, hub: Arc<Hub>) -> Self {
        let (control, observer) = (proxy.control().clone(), proxy.observer());
        let metrics = proxy.metrics().clone();
        Self { control, observer, path, hub, metrics, upgrades: None }
    }

    /// Can hand over to another process, too.
    #[must_use]
    pub fn with_upgrades(mut self, upgrades: Upgrades) -> Self {
        self.upgrades = Some(upgrades);
        self
    }

    /// Upgrades that have failed.
    pub fn upgrade_failures(&self) -> u64 {
        self.upgrades.as_ref().map_or(0, Upgrades::failures)
    }

    /// What runs now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot()
    }

    /// The workers.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Where messages can be seen.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The config's file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How reloads went.
    pub fn reloads(&self) -> Reloads {
        self.control.reloads()
    }

    /// Figures by protocol and route.
    pub fn figures(&self) -> Figures {
        Figures::of(&self.metrics)
    }

    /// All metrics, for Prometheus.
    pub fn metrics(&self, format: Format) -> String {
        let Self { control, observer, metrics, .. } = self;
        render(metrics, control, observer, format)
    }

    /// Reads the config again and takes it.
    ///
    /// # Errors
    /// Why the proxy goes on with what it has.
    pub fn reload(&self) -> Result<Changes, String> {
        self.control.reload().map_err(|refused| refused.to_string())
    }

    /// Sends no new requests to an endpoint, or does again.
    ///
    /// # Errors
    /// Where there is no such cluster or endpoint.
    pub fn set_drained(&self, cluster: &str, at: SocketAddr, drained: bool) -> Result<(), String> {
        self.control.set_drained(cluster, at, drained).map_err(|refused| refused.to_string())
    }

    /// Hands over to a new process of the binary that is there now; what became of it.
    ///
    /// # Errors
    /// Why this process goes on.
    pub fn upgrade(&self) -> Result<String, String> {
        let Some(upgrades) = &self.upgrades else {
            return Err("this proxy cannot hand over to another process".into());
        };
        let gone = |_| Err("nothing came of it".to_owned());
        let pid = upgrades.begin().blocking_recv().unwrap_or_else(gone)?;
        Ok(format!("process {pid} has taken over"))
    }
}
