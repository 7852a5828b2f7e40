//! Certificates that change while the proxy runs.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::TlsError;
use crate::snapshot::Snapshot;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Starts a thread that reads changed certificates again, until `snapshot` is
/// gone; none where there is nothing to watch.
///
/// # Errors
/// Where the thread cannot be started.
pub(crate) fn watch(snapshot: &Arc<Snapshot>) -> io::Result<()> {
    let any = snapshot.listeners.iter().any(|listener| listener.tls.is_some())
        || snapshot.clusters.iter().any(|cluster| cluster.tls.is_some());
    if any {
        let snapshot = Arc::downgrade(snapshot);
        std::thread::Builder::new().name("certificates".into()).spawn(move || look(&snapshot))?;
    }
    Ok(())
}

fn look(snapshot: &Weak<Snapshot>) {
    loop {
        std::thread::sleep(EVERY);
        let Some(snapshot) = snapshot.upgrade() else { return };
        for listener in &snapshot.listeners {
            if let Some(tls) = &listener.tls {
                tell("listener", &listener.name, tls.refresh());
            }
        }
        for cluster in &snapshot.clusters {
            if let Some(tls) = &cluster.tls {
                tell("cluster", &cluster.name, tls.refresh());
            }
        }
    }
}

fn tell(what: &str, name: &str, refreshed: Result<bool, TlsError>) {
    match refreshed {
        Ok(false) => {}
        Ok(true) => tracing::info!("{what} `{name}`: new certificates"),
        Err(error) => tracing::error!("{what} `{name}` keeps its old certificates: {error}"),
    }
}
