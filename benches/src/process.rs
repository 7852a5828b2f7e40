//! Child processes that are pinned to a core, logged to a file, and gone when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::cpu::Tree;

/// A folder that is removed with all it holds when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new empty folder under the system's temporary one.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("polyport-compare-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A leftover in the system's temporary folder is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server process, killed with all that it started when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    tree: Option<Tree>,
}

impl Server {
    /// Starts `program` on `core` (on the caller's where `None`), its output in `dir`.
    pub fn start(
        name: &str,
        program: &Program,
        args: &[OsString],
        core: Option<usize>,
        dir: &Path,
    ) -> Result<Self> {
        // Killed with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(core) = core {
            command.args(["taskset", "-c"]).arg(core.to_string());
        }
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = command
            .arg(&program.path)
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{name}: cannot run setpriv (util-linux): {error}"))?;
        Ok(Self { name: name.to_owned(), child, log, tree: None })
    }

    /// Waits until something listens on `address`.
    pub fn ready(mut self, address: SocketAddr) -> Result<Self> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended at once, {status}")));
            }
            if TcpStream::connect(address).is_ok() {
                self.tree = Some(Tree::of(self.child.id())?);
                return Ok(self);
            }
            if since.elapsed() > Duration::from_secs(20) {
                return Err(self.failed(&format!("does not listen on {address} after 20 s")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn failed(&self, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!("{}: {what}; it said:\n  {tail}", self.name).into()
    }

    /// Fails, with the end of its log, where the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failed(&format!("ended during the run, {status}"))),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the process and its children so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.tree.as_ref().ok_or("the process was never ready")?.cpu()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Children first, or they would outlive their parent under another.
        for pid in self.tree.iter().flat_map(|tree| tree.pids().iter().skip(1)) {
            let _ = Command::new("kill").arg("-9").arg(pid.to_string()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program to run: found by name on PATH, or named by an environment variable.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// `name`, unless the environment variable `NAME_BIN` names another.
    pub fn named(name: &str) -> Self {
        let variable = format!("{}_BIN", name.to_ascii_uppercase().replace('-', "_"));
        Self { path: std::env::var_os(variable).map_or_else(|| name.into(), PathBuf::from) }
    }

    /// The program in this file.
    pub fn file(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file, or the name to look up.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A port of the loopback address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Pins this process to `core` and lets it open many sockets. Call it before
/// threads are started: they and child processes inherit both.
pub fn settle(core: usize) -> Result<()> {
    let pid = std::process::id().to_string();
    run("taskset", &["-p", "-c", &core.to_string(), &pid])?;
    // Without the right to raise it, what the machine allows has to do.
    let _ = run("prlimit", &["--nofile=65536:65536", "--pid", &pid]);
    Ok(())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", args.join(" "), said.trim()).into())
}
