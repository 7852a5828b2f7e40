//! Apache Thrift's servers and clients.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::peers::python_command;
use crate::ports;
use crate::process::{Process, Running, run};

/// The forms of Thrift that are detected, as `thrift_wires.py` names them.
pub const WIRES: [&str; 6] = [
    "framed/binary",
    "framed/compact",
    "buffered/binary",
    "buffered/compact",
    "header/binary",
    "header/compact",
];

/// Thrift servers in one process, a port for each form. See `thrift_server.py`.
pub struct ThriftServer {
    /// Each form, and where it is served.
    pub wires: Vec<(&'static str, SocketAddr)>,
    mode: &'static str,
    process: Process,
    directory: TempDir,
}

impl ThriftServer {
    /// Starts one for these forms, in a mode of `thrift_server.py`.
    pub fn start(mode: &'static str, wires: &[&'static str]) -> Self {
        let wires: Vec<_> = wires.iter().map(|&wire| (wire, ports::free())).collect();
        let directory = tempfile::tempdir().expect("a directory");
        let process = Self::spawn(mode, &wires, &directory);
        Self { wires, mode, process, directory }
    }

    fn spawn(mode: &str, wires: &[(&'static str, SocketAddr)], directory: &TempDir) -> Process {
        let ports: Vec<String> = wires
            .iter()
            .map(|(wire, address)| format!("{mode}:{wire}={}", address.port()))
            .collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let command = python_command("thrift_server.py", &ports);
        let mut process = Process::start("thrift-server", command, directory.path());
        process.wait_for("lines saying it is ready", |process| {
            process.log().matches("ready").count() == ports.len()
        });
        process
    }

    /// Where the first of its forms is served.
    pub fn address(&self) -> SocketAddr {
        self.wires[0].1
    }

    /// The same as text, without the host.
    pub fn port(&self) -> String {
        self.address().port().to_string()
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
        self.process = Self::spawn(self.mode, &self.wires, &directory);
        self.directory = directory;
    }
}

/// A story of `thrift_stories.py`, told in each of the forms.
pub fn thrift(story: &str, wires: &[(&str, SocketAddr)], arguments: &[&str]) -> String {
    run(story, thrift_command(story, wires, arguments))
}

/// The same, going on in the background.
pub fn thrift_start(story: &str, wires: &[(&str, SocketAddr)], arguments: &[&str]) -> Running {
    Running::start(story, thrift_command(story, wires, arguments))
}

fn thrift_command(story: &str, wires: &[(&str, SocketAddr)], arguments: &[&str]) -> Command {
    let wires: Vec<String> =
        wires.iter().map(|(wire, address)| format!("{wire}={}", address.port())).collect();
    let mut all = vec![story];
    all.extend(wires.iter().map(String::as_str));
    all.push("--");
    all.extend_from_slice(arguments);
    python_command("thrift_stories.py", &all)
}
