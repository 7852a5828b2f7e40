//! A child process with its log, killed when dropped; and commands run to their end.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root")
}

/// A running server.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `directory/NAME.log`.
    pub fn start(name: &'static str, mut command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| missing(name, &error));
        Self { name, child, log }
    }

    /// Waits until `address` takes connections.
    pub fn wait_for_port(&mut self, address: SocketAddr) {
        self.wait_for("its port to open", |_| {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
    }

    /// Waits until `ready` says so; panics with the log where the process ends first.
    pub fn wait_for(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !ready(self) {
            let ended = self.child.try_wait().expect("waiting for a child");
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, self.log());
            assert!(start.elapsed() < PATIENCE, "{}: no {what}:\n{}", self.name, self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it on the spot, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("sending SIGTERM");
    }

    /// Tells it that its logs were moved away (SIGUSR1).
    pub fn rotate(&self) {
        kill_process(self.pid(), Signal::USR1).expect("sending SIGUSR1");
    }

    /// Asks it to reload (SIGHUP).
    pub fn hang_up(&self) {
        kill_process(self.pid(), Signal::HUP).expect("sending SIGHUP");
    }

    /// Stops it in its tracks (SIGSTOP): the kernel still takes connections for it, and
    /// nobody answers.
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("sending SIGSTOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("sending SIGCONT");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for a child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end:\n{}", self.name, self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("waiting for a child").is_none()
    }

    /// The most memory it ever held, in bytes (`VmHWM`).
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it holds now, in bytes (`VmRSS`).
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next());
        kibibytes.and_then(|number| number.parse::<u64>().ok()).expect("a number of kB") << 10
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("--- log of {} ---\n{tail}\n---", self.name);
        }
    }
}

fn missing(name: &str, error: &std::io::Error) -> ! {
    panic!("cannot start {name}: {error}; run tests/install-peers.sh");
}

/// Runs a client to its end, with a bound on how long that takes; what it printed.
/// Panics where it fails: a client's exit status is the verdict of its story.
pub fn run(name: &str, command: Command) -> String {
    let (status, stdout, stderr) = finish(name, command);
    assert!(status.success(), "{name}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
    stdout
}

/// The same, for clients that may fail: how it ended, what it printed and complained of.
pub fn finish(name: &str, command: Command) -> (ExitStatus, String, String) {
    Running::start(name, command).finish()
}

/// A client at work.
pub struct Running {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts it.
    pub fn start(name: &str, command: Command) -> Self {
        Self::fed(name, command, Stdio::null())
    }

    /// Starts it with something to read.
    pub fn fed(name: &str, mut command: Command, stdin: Stdio) -> Self {
        // Files, not pipes: nobody has to read them while the client runs.
        let stdout = tempfile::tempfile().expect("a temporary file");
        let stderr = tempfile::tempfile().expect("a temporary file");
        let child = command
            .stdin(stdin)
            .stdout(stdout.try_clone().expect("a second handle"))
            .stderr(stderr.try_clone().expect("a second handle"))
            .spawn()
            .unwrap_or_else(|error| missing(name, &error));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// Waits until it has printed `word`; panics where it ends or fails before.
    pub fn wait_for(&mut self, word: &str) {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("waiting for a child");
            // A handle of its own would share the child's place in the file; this does not move it.
            let mut bytes = vec![0; 1 << 16];
            let len = self.stdout.read_at(&mut bytes, 0).expect("reading a file");
            if String::from_utf8_lossy(&bytes[..len]).contains(word) {
                return;
            }
            let late = ended.is_some() || start.elapsed() > PATIENCE;
            assert!(!late, "{} does not say {word:?}:\n{}", self.name, text(&mut self.stderr));
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end; panics where it fails.
    pub fn succeed(self) -> String {
        let name = self.name.clone();
        let (status, stdout, stderr) = self.finish();
        assert!(status.success(), "{name}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        stdout
    }

    /// Kills it; how it ended, what it had printed and complained of.
    pub fn stop(mut self) -> (ExitStatus, String, String) {
        let _ = self.child.kill();
        let status = self.child.wait().expect("waiting for a child");
        (status, text(&mut self.stdout), text(&mut self.stderr))
    }

    /// Waits for its end: how it ended, what it printed and complained of.
    pub fn finish(mut self) -> (ExitStatus, String, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waiting for a child") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
                panic!("{} hangs\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.name);
            }
            sleep(Duration::from_millis(5));
        };
        (status, text(&mut self.stdout), text(&mut self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("rewinding a file");
    file.read_to_end(&mut bytes).expect("reading a file");
    String::from_utf8_lossy(&bytes).into_owned()
}
