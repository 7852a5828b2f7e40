//! Servers of WebSocket, in Python.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::certs::Certificate;
use crate::peers::python_command;
use crate::ports;
use crate::process::Process;

/// A running server.
pub struct WebSockets {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl WebSockets {
    /// One of the websockets package, over HTTP/1.1. See `websocket_server.py`.
    pub fn start() -> Self {
        Self::with("websocket_server.py", &[])
    }

    /// The same behind TLS.
    pub fn secure(certificate: &Certificate) -> Self {
        Self::with("websocket_server.py", &files(certificate))
    }

    /// One that takes WebSocket over HTTP/1.1 and HTTP/2. See `websocket_asgi.py`.
    pub fn both() -> Self {
        Self::with("websocket_asgi.py", &[])
    }

    /// The same behind TLS.
    pub fn both_secure(certificate: &Certificate) -> Self {
        Self::with("websocket_asgi.py", &files(certificate))
    }

    fn with(script: &str, more: &[String]) -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let port = address.port().to_string();
        let arguments: Vec<&str> =
            std::iter::once(port.as_str()).chain(more.iter().map(String::as_str)).collect();
        let command = python_command(script, &arguments);
        let mut process = Process::start("websocket-server", command, directory.path());
        process.wait_for("line saying it is ready", |process| process.log().contains("ready"));
        process.wait_for_port(address);
        Self { address, process, _directory: directory }
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

fn files(certificate: &Certificate) -> [String; 2] {
    [&certificate.cert, &certificate.key].map(|path| path.to_str().expect("a path").to_owned())
}
