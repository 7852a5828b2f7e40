//! SOFARPC's own server and client, by an implementation of SOFABolt that is not ours.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::peers::{node_start, serve};
use crate::ports;
use crate::process::{Process, Running};

/// A SOFARPC server with an implementation of SOFABolt that is not ours. See `bolt-server.js`.
pub struct BoltServer {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl BoltServer {
    /// Starts one.
    pub fn start() -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let process = serve("bolt-server", "bolt-server.js", address, &directory);
        Self { address, process, directory }
    }

    /// Its process, to be sent signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        // A log of its own, so that the first one's `ready` is not taken for this one's.
        let directory = tempfile::tempdir().expect("a directory");
        self.process = serve("bolt-server", "bolt-server.js", self.address, &directory);
        self.directory = directory;
    }
}

/// A story of `bolt-client.js` against `address`.
pub fn bolt(address: SocketAddr, story: &str, arguments: &[&str]) -> String {
    bolt_start(address, story, arguments).succeed()
}

/// The same, going on in the background.
pub fn bolt_start(address: SocketAddr, story: &str, arguments: &[&str]) -> Running {
    let port = address.port().to_string();
    let mut all = vec![port.as_str(), story];
    all.extend_from_slice(arguments);
    node_start("bolt-client.js", &all)
}
