//! HAProxy, as the hop before Polyport or behind it.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::peers::program;
use crate::ports;
use crate::process::Process;

const SETTINGS: &str = "
global
    maxconn 4000
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
";

/// A running HAProxy with one frontend.
pub struct Haproxy {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Haproxy {
    /// One that passes bytes on to `server`; `options` follow the server's address,
    /// `bind` follows its own.
    pub fn before(server: SocketAddr, bind: &str, options: &str) -> Self {
        Self::start(|address| {
            format!(
                "listen relay\n    mode tcp\n    bind {address} {bind}\n    \
                 server next {server} {options}\n"
            )
        })
    }

    /// One that expects a PROXY header and answers each HTTP request with the address
    /// it names.
    pub fn telling() -> Self {
        Self::start(|address| {
            format!(
                "frontend telling\n    mode http\n    bind {address} accept-proxy\n    \
                 http-request return status 200 content-type text/plain lf-string \
                 \"%[src]:%[src_port] %[dst]:%[dst_port]\\n\"\n"
            )
        })
    }

    fn start(section: impl FnOnce(SocketAddr) -> String) -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, SETTINGS.to_owned() + &section(address)).expect("the config");
        let process = Self::spawn(&file, address, directory.path());
        Self { address, process, _directory: directory }
    }

    fn spawn(file: &Path, address: SocketAddr, directory: &Path) -> Process {
        let mut command = program("haproxy");
        command.args(["-db", "-f"]).arg(file);
        let mut process = Process::start("haproxy", command, directory);
        process.wait_for_port(address);
        process
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
