//! The tools of nghttp2: a client, a load and a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::peers::program;
use crate::ports;
use crate::process::{Process, Running, run};

/// `nghttp`: what it printed, the colours taken out.
pub fn nghttp(arguments: &[&str]) -> String {
    let mut command = program("nghttp");
    command.args(["--timeout=30"]).args(arguments);
    let printed = run("nghttp", command);
    let mut plain = String::new();
    let mut pieces = printed.split('\u{1b}');
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// `h2load` against `url`, in the background.
pub fn h2load(url: &str, arguments: &[&str]) -> Running {
    let mut command = program("h2load");
    command.args(["--connection-inactivity-timeout=30"]).args(arguments).arg(url);
    Running::start("h2load", command)
}

/// Panics unless `report` is of an `h2load` run whose `requests` requests all got a 2xx.
pub fn assert_h2load_clean(report: &str, requests: u64) {
    let clean = format!(
        "{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout\n\
         status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx"
    );
    assert!(report.contains(&clean), "{report}");
}

/// An HTTP/2 server that echoes what is sent to it and ends each reply with the
/// trailer `x-sum: 42`.
pub struct Nghttpd {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl Nghttpd {
    /// Starts one; `/index.html` is `hello\n`.
    pub fn start() -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        std::fs::write(directory.path().join("index.html"), "hello\n").expect("a page");
        let mut command = program("nghttpd");
        command.args(["--no-tls", "-a", "127.0.0.1", "--trailer=x-sum: 42", "--echo-upload", "-d"]);
        command.arg(directory.path()).arg(address.port().to_string());
        let mut process = Process::start("nghttpd", command, directory.path());
        process.wait_for_port(address);
        Self { address, process, directory }
    }

    /// A page of its own.
    pub fn page(&self) -> PathBuf {
        self.directory.path().join("index.html")
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
