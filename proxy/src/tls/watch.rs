//! Certificates that change while the proxy runs.

use std::io;
use std::time::Duration;

use super::TlsError;
use crate::control::{Control, WeakControl};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Starts a thread that reads changed certificates again, for as long as the proxy is there.
///
/// # Errors
/// Where the thread cannot be started.
pub(crate) fn watch(control: &Control) -> io::Result<()> {
    let control = control.weak();
    std::thread::Builder::new().name("certificates".into()).spawn(move || look(&control))?;
    Ok(())
}

fn look(control: &WeakControl) {
    loop {
        std::thread::sleep(EVERY);
        let Some(control) = control.upgrade() else { return };
        control.tidy();
        let snapshot = control.snapshot();
        for listener in snapshot.listeners.iter().filter(|listener| !listener.retired) {
            if let Some(tls) = &listener.tls {
                tell("listener", &listener.name, tls.refresh());
            }
        }
        for cluster in snapshot.clusters.iter().filter(|cluster| !cluster.retired) {
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
