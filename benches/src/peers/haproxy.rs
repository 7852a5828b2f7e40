//! HAProxy: one thread; HTTP mode with shared upstream connections for HTTP,
//! and TCP mode for all that it does not read.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::process::Program;
use crate::{Result, Workload};

/// Starts it for one workload.
pub fn start(workload: Workload, site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let backend = site.backend(workload);
    let mode = match workload {
        Workload::Http | Workload::Http2 => "mode http\n  http-reuse always",
        _ => "mode tcp",
    };
    let proto = if workload == Workload::Http2 { " proto h2" } else { "" };
    let config = format!(
        "global
  nbthread 1
  maxconn 9900
defaults
  {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend all
  bind {listen}{proto}
  default_backend backend
backend backend
  server one {backend}
"
    );
    let (dir, file) = site.config("haproxy", "haproxy.cfg", &config)?;
    // -db: stays in the foreground, one process.
    let args = ["-db".into(), "-f".into(), file.into_os_string()];
    site.launch("haproxy", &Program::named("haproxy"), args, &dir, listen)
}
