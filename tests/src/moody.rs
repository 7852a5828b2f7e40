//! Servers that do not always serve. See `moody-server.js`.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::peers::curl;
use crate::ports;
use crate::process::Process;

/// A running server.
pub struct Moody {
    /// Where it listens.
    pub address: SocketAddr,
    http2: bool,
    process: Process,
    _directory: TempDir,
}

impl Moody {
    /// Starts one; `http2`: it speaks HTTP/2 and nothing else.
    pub fn start(http2: bool) -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let more: &[&str] = if http2 { &["h2"] } else { &[] };
        let process =
            crate::peers::serve_with("moody-server", "moody-server.js", address, more, &directory);
        Self { address, http2, process, _directory: directory }
    }

    /// How often requests about `key` came to it.
    pub fn seen(&self, key: &str) -> u64 {
        let version = if self.http2 { "--http2-prior-knowledge" } else { "--http1.1" };
        let told = curl(&[version, &format!("http://{}/seen?key={key}", self.address)]);
        let count = told.split_once("\"count\":").expect("a count").1;
        count
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .expect("a number")
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
