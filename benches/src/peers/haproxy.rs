//! HAProxy: one thread; TCP mode for Redis and Dubbo, which it does not read,
//! and HTTP mode with shared upstream connections for HTTP.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::process::Program;
use crate::{Result, Workload};

/// Starts it for one workload.
pub fn start(workload: Workload, site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let backend = site.backend(workload);
    let mode = match workload {
        Workload::Http => "mode http\n  http-reuse always",
        Workload::Redis | Workload::Dubbo => "mode tcp",
    };
    let config = format!(
        "global
  nbthread 1
  maxconn 8000
defaults
  {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend all
  bind {listen}
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
