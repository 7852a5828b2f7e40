//! twemproxy: one thread by design, one pipelined connection to the server (its default).

use std::net::SocketAddr;

use super::{Running, Site};
use crate::Result;
use crate::process::{Program, free_address};

/// Starts it.
pub fn start(site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let backend = site.backends.redis;
    let config = format!(
        "pool:
  listen: {listen}
  hash: fnv1a_64
  distribution: ketama
  redis: true
  preconnect: true
  auto_eject_hosts: false
  timeout: 10000
  servers:
   - {backend}:1
"
    );
    let (dir, file) = site.config("twemproxy", "nutcracker.yml", &config)?;
    // It insists on a port for statistics; they are gathered every hour.
    let stats = free_address()?.port().to_string();
    let args = [
        "-c".into(),
        file.into_os_string(),
        "-v".into(),
        "0".into(),
        "-a".into(),
        "127.0.0.1".into(),
        "-s".into(),
        stats.into(),
        "-i".into(),
        "3600000".into(),
    ];
    site.launch("twemproxy", &Program::named("nutcracker"), args, &dir, listen)
}
