//! The servers that a chaos story is cruel to, and the slow way to one of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::peers::{program, python_command, serve_with};
use crate::ports;
use crate::process::Process;

/// Starts a server there and waits until it serves.
pub(super) type Spawn = fn(SocketAddr, &TempDir) -> Process;

/// A real server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    spawn: Spawn,
    process: Process,
    /// Of each start one, so that one's log is not taken for another's.
    directory: TempDir,
}

impl Server {
    pub(super) fn start(spawn: Spawn) -> Self {
        let (address, directory) = (ports::free(), directory());
        let process = spawn(address, &directory);
        Self { address, spawn, process, directory }
    }

    /// Kills it on the spot.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub(super) fn restart(&mut self) {
        self.process.kill();
        let directory = directory();
        self.process = (self.spawn)(self.address, &directory);
        self.directory = directory;
    }

    /// Stops it where it stands: its connections stay, and say nothing.
    pub(super) fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        self.process.resume();
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(super) fn redis(address: SocketAddr, directory: &TempDir) -> Process {
    let mut command = program("redis-server");
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory.path());
    listening("redis-server", command, address, directory.path())
}

fn listening(
    name: &'static str,
    command: std::process::Command,
    address: SocketAddr,
    directory: &Path,
) -> Process {
    let mut process = Process::start(name, command, directory);
    process.wait_for_port(address);
    process
}

pub(super) fn http(address: SocketAddr, directory: &TempDir) -> Process {
    serve_with("http-server", "http-server.js", address, &[], directory)
}

pub(super) fn http2(address: SocketAddr, directory: &TempDir) -> Process {
    serve_with("http-server", "http-server.js", address, &["h2"], directory)
}

pub(super) fn dubbo(address: SocketAddr, directory: &TempDir) -> Process {
    serve_with("dubbo-server", "dubbo-server.js", address, &[], directory)
}

pub(super) fn thrift(address: SocketAddr, directory: &TempDir) -> Process {
    let wire = format!("async:framed/binary={}", address.port());
    ready("thrift-server", python_command("thrift_server.py", &[&wire]), directory.path())
}

pub(super) fn grpc(address: SocketAddr, directory: &TempDir) -> Process {
    let port = address.port().to_string();
    ready("grpc-server", python_command("grpc_server.py", &[&port, "chaos"]), directory.path())
}

fn ready(name: &'static str, command: std::process::Command, directory: &Path) -> Process {
    let mut process = Process::start(name, command, directory);
    process.wait_for("line saying it is ready", |process| process.log().contains("ready"));
    process
}

pub(super) fn mosquitto(address: SocketAddr, directory: &TempDir) -> Process {
    let config = format!(
        "listener {} {}\nallow_anonymous true\npersistence false\nuser root\n\
         max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\nlog_dest stderr\n",
        address.port(),
        address.ip()
    );
    let file = directory.path().join("mosquitto.conf");
    fs::write(&file, config).expect("the config");
    let mut command = program("mosquitto");
    command.arg("-c").arg(file);
    listening("mosquitto", command, address, directory.path())
}

/// A way to a server that can be made long: what goes along it, in either direction, comes
/// out so much later, in order, and as fast as it went in.
pub(super) struct Lane {
    pub(super) address: SocketAddr,
    micros: Arc<AtomicU64>,
}

impl Lane {
    /// One to `server`, as short as can be, up for as long as the test process.
    pub(super) fn to(server: SocketAddr) -> Self {
        let address = ports::free();
        let listener = TcpListener::bind(address).expect("a free port");
        let micros = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&micros);
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Dropped where the server is away: the peer sees its connection end.
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let _ = to.set_nodelay(true);
                    let both = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                    let (from, to, delay) = (both(from), both(to), Arc::clone(&delay));
                    let (sender, receiver) = channel();
                    spawn(move || carry(to, &receiver, &delay));
                    spawn(move || {
                        let (mut from, mut chunk) = (from, [0; 16 << 10]);
                        while let Ok(len @ 1..) = from.read(&mut chunk) {
                            if sender.send((Instant::now(), chunk[..len].to_vec())).is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, micros }
    }

    /// From now on each direction takes so long.
    pub(super) fn takes(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }
}

fn carry(mut to: TcpStream, from: &Receiver<(Instant, Vec<u8>)>, delay: &AtomicU64) {
    while let Ok((came, bytes)) = from.recv() {
        // Looked at again and again: once the way is short, what is on it arrives.
        loop {
            let delay = Duration::from_micros(delay.load(Ordering::Relaxed));
            let left = delay.saturating_sub(came.elapsed());
            if left.is_zero() {
                break;
            }
            sleep(left.min(Duration::from_millis(20)));
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Both ways: whoever still reads or writes here learns that the other end has gone.
    let _ = to.shutdown(Shutdown::Both);
}
