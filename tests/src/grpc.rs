//! A gRPC server of grpcio's. See `grpc_server.py`.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::certs::Certificate;
use crate::peers::python_command;
use crate::ports;
use crate::process::Process;

/// A running server.
pub struct GrpcServer {
    /// Where it listens.
    pub address: SocketAddr,
    arguments: Vec<String>,
    process: Process,
    directory: TempDir,
}

impl GrpcServer {
    /// Starts one that answers `Who` with `name`.
    pub fn start(name: &str) -> Self {
        Self::with(&[name])
    }

    /// One that speaks TLS.
    pub fn secure(name: &str, certificate: &Certificate) -> Self {
        let text = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
        Self::with(&[name, &text(&certificate.cert), &text(&certificate.key)])
    }

    fn with(more: &[&str]) -> Self {
        let address = ports::free();
        let port = address.port().to_string();
        let arguments = [&[port.as_str()], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let (process, directory) = spawn(&arguments);
        Self { address, arguments, process, directory }
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
        (self.process, self.directory) = spawn(&self.arguments);
    }
}

fn spawn(arguments: &[String]) -> (Process, TempDir) {
    // A log of its own each time: a former one's `ready` is not this one's.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let command = python_command("grpc_server.py", &arguments);
    let mut process = Process::start("grpc-server", command, directory.path());
    process.wait_for("line saying it is ready", |process| process.log().contains("ready"));
    (process, directory)
}
