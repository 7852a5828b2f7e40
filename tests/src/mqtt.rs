//! Mosquitto, its clients, and a broker that says what it is told to.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::peers::{node_command, program, python_command};
use crate::ports;
use crate::process::{Process, run};

/// A mosquitto that keeps nothing on disk.
pub struct MosquittoServer {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl MosquittoServer {
    /// Starts one that lets anybody in.
    pub fn start() -> Self {
        let address = ports::free();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "listener {} {}\nallow_anonymous true\npersistence false\nuser root\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_dest stderr\nconnection_messages true\n",
            address.port(),
            address.ip()
        );
        fs::write(directory.path().join("mosquitto.conf"), config).expect("the config");
        let process = Self::spawn(address, directory.path());
        Self { address, process, directory }
    }

    fn spawn(address: SocketAddr, directory: &Path) -> Process {
        let mut command = program("mosquitto");
        command.arg("-c").arg(directory.join("mosquitto.conf"));
        let mut process = Process::start("mosquitto", command, directory);
        process.wait_for_port(address);
        process
    }

    /// Makes it retain `name` at `server/name`, so that clients learn where they are.
    pub fn call(&self, name: &str) {
        mosquitto_pub(self.address, &["-r", "-q", "1", "-t", "server/name", "-m", name]);
    }

    /// Its process, to be sent signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.address, self.directory.path());
    }
}

/// `mosquitto_pub` with the address filled in.
pub fn mosquitto_pub(address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = program("mosquitto_pub");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(arguments);
    run("mosquitto_pub", command)
}

/// A story of `tests/peers/python/mqtt_stories.py` in one version of the protocol.
pub fn paho(address: SocketAddr, story: &str, version: &str, arguments: &[&str]) -> String {
    run("mqtt_stories.py", paho_command(address, story, version, arguments, None))
}

/// The same, not yet started; over TLS where `ca` says whom to trust.
pub fn paho_command(
    address: SocketAddr,
    story: &str,
    version: &str,
    arguments: &[&str],
    ca: Option<&str>,
) -> Command {
    let port = address.port().to_string();
    let arguments = [&[story, version, &port], arguments].concat();
    trusting(python_command("mqtt_stories.py", &arguments), ca)
}

/// A story of `tests/peers/node/mqtt.js`.
pub fn mqtt_js(address: SocketAddr, story: &str) -> String {
    run("mqtt.js", mqtt_js_command(address, story, None))
}

/// The same, not yet started; over TLS where `ca` says whom to trust.
pub fn mqtt_js_command(address: SocketAddr, story: &str, ca: Option<&str>) -> Command {
    trusting(node_command("mqtt.js", &[story, &address.port().to_string()]), ca)
}

fn trusting(mut command: Command, ca: Option<&str>) -> Command {
    command.envs(ca.map(|ca| ("POLYPORT_TESTS_CA", ca)));
    command
}

/// A broker of the test's own that answers whatever comes first with `connack`,
/// and then listens in silence until the peer hangs up, which it never does itself.
pub fn silent_broker(connack: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                if matches!(stream.read(&mut bytes), Ok(1..)) {
                    let _ = stream.write_all(connack);
                }
                let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                while matches!(stream.read(&mut bytes), Ok(1..)) {}
            });
        }
    });
    address
}
