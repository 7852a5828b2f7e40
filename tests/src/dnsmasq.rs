//! dnsmasq, a name server whose names the test changes.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use tempfile::TempDir;

use crate::peers::program;
use crate::ports;
use crate::process::Process;

/// A server for the names below `test` and nobody else's, with a TTL of one second.
pub struct Dnsmasq {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
    services: Vec<String>,
}

impl Dnsmasq {
    /// Starts one that knows these names.
    pub fn start(hosts: &[(&str, IpAddr)]) -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        write(&directory, hosts);
        let process = spawn(address, &directory, &[]);
        Self { address, process, directory, services: Vec::new() }
    }

    /// Has these names from now on.
    pub fn hosts(&mut self, hosts: &[(&str, IpAddr)]) {
        write(&self.directory, hosts);
        self.process.hang_up();
    }

    /// Has these SRV records: service, target, port, priority, weight. It is away for a
    /// moment, as it cannot be told while it runs.
    pub fn services(&mut self, services: &[(&str, &str, u16, u16, u16)]) {
        let one = |(service, target, port, priority, weight): &(&str, &str, u16, u16, u16)| {
            format!("--srv-host={service},{target},{port},{priority},{weight}")
        };
        self.services = services.iter().map(one).collect();
        self.restart();
    }

    /// Comes back after it was killed, with these names.
    pub fn hosts_when_back(&mut self, hosts: &[(&str, IpAddr)]) {
        write(&self.directory, hosts);
        self.restart();
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.address, &self.directory, &self.services);
    }
}

fn write(directory: &TempDir, hosts: &[(&str, IpAddr)]) {
    let mut text = String::new();
    for (name, ip) in hosts {
        let _ = writeln!(text, "{ip} {name}");
    }
    // In one go, so that it is never read half.
    let new = directory.path().join("new");
    fs::write(&new, text).expect("the names");
    fs::rename(new, directory.path().join("hosts")).expect("the names");
}

fn spawn(address: SocketAddr, directory: &TempDir, services: &[String]) -> Process {
    let mut command = program("dnsmasq");
    command
        .args(["--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"])
        .args(["--bind-interfaces", "--user=root", "--local=/test/", "--local-ttl=1"])
        .arg(format!("--addn-hosts={}", directory.path().join("hosts").display()))
        .arg(format!("--listen-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(services);
    let mut process = Process::start("dnsmasq", command, directory.path());
    process.wait_for_port(address);
    process
}
