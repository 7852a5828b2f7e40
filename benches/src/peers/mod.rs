//! The proxies compared, each with one thread of traffic, pooled upstream
//! connections and no logs.

pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod polyport;
pub mod twemproxy;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::backend::Backends;
use crate::process::{Program, Server, free_address};
use crate::{Result, Workload};

/// A way from the client to the backend.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// This project's proxy.
    Polyport,
    /// The same with three endpoints, which are one server.
    Three,
    /// The same three, and every policy on, none with anything to do.
    Policies,
    /// twemproxy (`nutcracker`): Redis.
    Twemproxy,
    /// nginx, `proxy_pass`: HTTP, and MQTT as a stream.
    Nginx,
    /// HAProxy: in HTTP mode for HTTP, in TCP mode for all else.
    Haproxy,
    /// Envoy: its proxy filter of each protocol.
    Envoy,
    /// No proxy: what the load generator and the backend can do without.
    Direct,
}

impl Peer {
    /// Those that a run compares unless told otherwise.
    pub const DEFAULT: [Self; 5] =
        [Self::Polyport, Self::Twemproxy, Self::Nginx, Self::Haproxy, Self::Envoy];

    /// Its name in tables and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Polyport => "polyport",
            Self::Three => "three",
            Self::Policies => "policies",
            Self::Twemproxy => "twemproxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Direct => "direct",
        }
    }

    /// What it does for `workload`, as the table shows it; `None` where it does not carry it.
    pub const fn mode(self, workload: Workload) -> Option<&'static str> {
        Some(match (self, workload) {
            (Self::Polyport, _) => "polyport",
            (Self::Three, _) => "three endpoints",
            (Self::Policies, _) => "all policies",
            (Self::Twemproxy, Workload::Redis) => "twemproxy",
            (Self::Nginx, Workload::Http) => "nginx",
            (Self::Nginx, Workload::Http2) => "nginx http2",
            (Self::Nginx, Workload::Mqtt) => "nginx stream",
            (Self::Haproxy, Workload::Http) => "haproxy http",
            (Self::Haproxy, Workload::Http2) => "haproxy h2",
            (Self::Haproxy, _) => "haproxy tcp",
            (Self::Envoy, Workload::Redis) => "envoy redis_proxy",
            (Self::Envoy, Workload::Dubbo) => "envoy dubbo_proxy",
            (Self::Envoy, Workload::Thrift) => "envoy thrift_proxy",
            (Self::Envoy, Workload::Http) => "envoy http",
            (Self::Envoy, Workload::Http2) => "envoy http2",
            // The server behind speaks HTTP/1.1 only.
            (Self::Direct, Workload::Http2) => return None,
            (Self::Direct, _) => "direct",
            (Self::Twemproxy | Self::Nginx | Self::Envoy, _) => return None,
        })
    }
}

/// Where and how proxies are started.
#[derive(Debug)]
pub struct Site<'a> {
    /// The run's folder.
    pub dir: &'a Path,
    /// The core of the proxy.
    pub core: usize,
    /// What is behind it.
    pub backends: &'a Backends,
    /// Polyport's binary.
    pub polyport: &'a Path,
}

impl Site<'_> {
    /// The backend of `workload`.
    pub fn backend(&self, workload: Workload) -> SocketAddr {
        match workload {
            Workload::Redis => self.backends.redis,
            Workload::Dubbo => self.backends.dubbo,
            Workload::Thrift => self.backends.thrift,
            Workload::Bolt => self.backends.bolt,
            Workload::Mqtt => self.backends.mqtt,
            Workload::Http | Workload::Http2 => self.backends.http,
        }
    }

    /// Writes a config into a folder of the proxy's own; the folder and the file.
    fn config(&self, name: &str, file: &str, text: &str) -> Result<(PathBuf, PathBuf)> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(file);
        std::fs::write(&file, text)?;
        Ok((dir, file))
    }

    fn launch<const N: usize>(
        &self,
        name: &str,
        program: &Program,
        args: [OsString; N],
        dir: &Path,
        listen: SocketAddr,
    ) -> Result<Running> {
        let server = Server::start(name, program, &args, Some(self.core), dir)?.ready(listen)?;
        Ok(Running { address: listen, server: Some(server) })
    }
}

/// A proxy that listens.
#[derive(Debug)]
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// Its process; none where there is no proxy.
    pub server: Option<Server>,
}

/// Starts `peer` for `workload`.
pub fn start(peer: Peer, workload: Workload, site: &Site<'_>) -> Result<Running> {
    let listen = free_address()?;
    match peer {
        Peer::Polyport => polyport::start(workload, site, listen),
        Peer::Three => polyport::start_three(workload, site, listen, false),
        Peer::Policies => polyport::start_three(workload, site, listen, true),
        Peer::Twemproxy => twemproxy::start(site, listen),
        Peer::Nginx => nginx::start(workload, site, listen),
        Peer::Haproxy => haproxy::start(workload, site, listen),
        Peer::Envoy => envoy::start(workload, site, listen),
        Peer::Direct => Ok(Running { address: site.backend(workload), server: None }),
    }
}
