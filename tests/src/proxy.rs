//! Polyport itself, as a process.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::figures::{self, Figures};
use crate::process::{Process, root};
use crate::{direct, ports};

/// A config in the making: one listener, and clusters and routes in the order given.
#[derive(Default)]
pub struct Config {
    head: String,
    listener: String,
    clusters: String,
    routes: String,
    upstreams: Vec<(&'static str, SocketAddr)>,
    under: Vec<String>,
    admin: Option<SocketAddr>,
}

impl Config {
    /// One worker, so that what is shared is shared by all.
    pub fn new() -> Self {
        Self { head: "workers = 1\n".to_owned(), ..Self::default() }
    }

    /// Two workers, as a server would have.
    pub fn busy() -> Self {
        Self { head: "workers = 2\n".to_owned(), ..Self::default() }
    }

    /// Keys that stand before all tables.
    #[must_use]
    pub fn top(mut self, toml: &str) -> Self {
        self.head.push_str(toml);
        self
    }

    /// Runs it under a command that executes the one it is given, such as `env NAME=VALUE`.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Top-level text, such as a `[defaults]` table.
    #[must_use]
    pub fn section(mut self, toml: &str) -> Self {
        self.clusters.push_str(toml);
        self.clusters.push('\n');
        self
    }

    /// Has it tell its figures, so that [`Proxy::until`] can wait for some.
    #[must_use]
    pub fn counted(self) -> Self {
        let admin = ports::free();
        let with = self.section(&format!("[admin]\naddress = \"{admin}\""));
        Self { admin: Some(admin), ..with }
    }

    /// Further lines of the listener's table.
    #[must_use]
    pub fn listener(mut self, toml: &str) -> Self {
        self.listener.push_str(toml);
        self.listener.push('\n');
        self
    }

    /// A cluster of one endpoint; `more` are further lines of its table.
    #[must_use]
    pub fn cluster(mut self, name: &str, address: SocketAddr, more: &str) -> Self {
        let _ = write!(
            self.clusters,
            "\n[[cluster]]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n{more}\n"
        );
        self
    }

    /// A route; `matches` is the inside of its match table, `more` further lines.
    #[must_use]
    pub fn route(mut self, name: &str, matches: &str, to: &str, more: &str) -> Self {
        let _ = write!(
            self.routes,
            "\n[[route]]\nname = \"{name}\"\nmatch = {{ {matches} }}\nto = \"{to}\"\n{more}\n"
        );
        self
    }

    /// A route that denies; `matches` is the inside of its match table.
    #[must_use]
    pub fn deny(mut self, name: &str, matches: &str) -> Self {
        let _ = write!(
            self.routes,
            "\n[[route]]\nname = \"{name}\"\nmatch = {{ {matches} }}\ndeny = true\n"
        );
        self
    }

    /// All of `protocol` to a cluster of its own, which is also what a direct
    /// connection of that protocol goes to.
    #[must_use]
    pub fn all(self, protocol: &'static str, address: SocketAddr) -> Self {
        self.cluster(protocol, address, "")
            .route(protocol, &format!("protocol = \"{protocol}\""), protocol, "")
            .direct(protocol, address)
    }

    /// Where a client of `protocol` goes when the proxy is taken out.
    #[must_use]
    pub fn direct(mut self, protocol: &'static str, address: SocketAddr) -> Self {
        self.upstreams.push((protocol, address));
        self
    }

    /// Starts Polyport with it.
    pub fn start(self) -> Proxy {
        Proxy::start(self)
    }
}

/// A running Polyport, or nothing where the tests test themselves.
pub struct Proxy {
    process: Option<Process>,
    address: SocketAddr,
    upstreams: Vec<(&'static str, SocketAddr)>,
    directory: TempDir,
    admin: Option<SocketAddr>,
}

impl Proxy {
    /// Starts it and waits until its listener is ready.
    fn start(config: Config) -> Self {
        let address = ports::free();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let process = (!direct()).then(|| {
            let listener = format!(
                "\n[[listener]]\nname = \"edge\"\naddress = \"{address}\"\n{}",
                config.listener
            );
            let text = [config.head.as_str(), &listener, &config.clusters, &config.routes].concat();
            let file = directory.path().join("polyport.toml");
            std::fs::write(&file, text).expect("writing the config");
            let mut words = config.under.iter();
            let mut command = match words.next() {
                Some(word) => {
                    let mut command = Command::new(word);
                    command.args(words).arg(binary());
                    command
                }
                None => Command::new(binary()),
            };
            command.arg("run").arg("-c").arg(file);
            let mut process = Process::start("polyport", command, directory.path());
            process.wait_for("line saying it is listening", |process| {
                process.log().lines().any(|line| line.contains("listening"))
            });
            process.wait_for_port(address);
            process
        });
        let (upstreams, admin) = (config.upstreams, config.admin);
        Self { process, address, upstreams, directory, admin }
    }

    /// Where clients of `protocol` connect.
    pub fn address(&self, protocol: &str) -> SocketAddr {
        if self.process.is_some() {
            return self.address;
        }
        let upstream = self.upstreams.iter().find(|(name, _)| *name == protocol);
        upstream.unwrap_or_else(|| panic!("no direct way for {protocol}")).1
    }

    /// Its config file; there is none where there is no proxy.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("polyport.toml")
    }

    /// The process, unless the tests test themselves; what only a proxy can be
    /// asked is asked of it.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// The most memory it ever held, in bytes; 0 where there is no proxy.
    pub fn peak_memory(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::peak_memory)
    }

    /// The memory it holds now, in bytes; 0 where there is no proxy.
    pub fn memory(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::memory)
    }

    /// Waits until its figures are as wanted; it has to be [`Config::counted`]. Where there is
    /// no proxy, a second has to do.
    pub fn until(&self, what: &str, wanted: impl Fn(&Figures) -> bool) {
        if self.process.is_none() {
            return std::thread::sleep(std::time::Duration::from_secs(1));
        }
        figures::until(self.admin.expect("a proxy that is counted"), what, wanted);
    }

    /// Waits until so many requests are in flight.
    pub fn until_asked(&self, requests: u64) {
        let wanted = |figures: &Figures| figures["requests_active"] >= requests;
        self.until(&format!("{requests} in flight"), wanted);
    }

    /// Waits until so many requests have been answered by servers.
    pub fn until_answered(&self, requests: u64) {
        let wanted = |figures: &Figures| figures["requests_answered_total"] >= requests;
        self.until(&format!("{requests} answered"), wanted);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        if let Some(process) = &self.process {
            process.terminate();
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().map(Process::wait)
    }

    /// Panics unless it still runs.
    pub fn assert_alive(&mut self) {
        if let Some(process) = &mut self.process {
            assert!(process.running(), "polyport ended:\n{}", process.log());
        }
    }
}

/// The binary under test: `POLYPORT_BIN`, or built once, in the profile these tests have.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("POLYPORT_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // This test is TARGET/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().expect("the path of this test");
    let output = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    let target = output.parent().expect("target/PROFILE");
    let profile = match output.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--package", "polyport", "--bin", "polyport"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(root());
    // What cargo tells a test of its own package: build scripts that look at it would run
    // again, and half of the proxy be built anew, at every change between the two.
    for (name, _) in std::env::vars_os() {
        let told = |prefix| name.to_str().is_some_and(|name| name.starts_with(prefix));
        if told("CARGO_PKG_") || told("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    let status = build.status().expect("running cargo");
    assert!(status.success(), "cargo build --bin polyport: {status}");
    output.join("polyport")
}
