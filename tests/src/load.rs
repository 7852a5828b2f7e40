//! Clients that keep count: every request sent is answered with its own value,
//! answered with a native error, or lost with its connection. Nothing else may
//! happen to it, and nothing twice.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// Longer than the proxy's own timeouts: who waits so long waits in vain.
const HANG: Duration = Duration::from_secs(25);

/// What became of the requests of one load.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Requests written.
    pub sent: u64,
    /// Answered with the value they asked for.
    pub answered: u64,
    /// Answered with a native error.
    pub failed: u64,
    /// Unanswered when their connection was closed.
    pub lost: u64,
}

impl Tally {
    /// The tally that a load of the clients' stories prints, as one line of JSON.
    pub fn read(report: &str) -> Self {
        let number = |name: &str| {
            let rest = report.split_once(&format!("\"{name}\":")).expect("a tally").1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        Self {
            sent: number("sent"),
            answered: number("answered"),
            failed: number("failed"),
            lost: number("lost"),
        }
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.failed += other.failed;
        self.lost += other.lost;
    }

    /// Panics unless every request ended exactly once.
    pub fn assert_complete(&self) {
        let ended = self.answered + self.failed + self.lost;
        assert_eq!(self.sent, ended, "requests ended more or less than once: {self:?}");
    }

    /// Panics unless all went well.
    pub fn assert_perfect(&self) {
        self.assert_complete();
        assert!(self.answered > 0 && self.failed == 0 && self.lost == 0, "{self:?}");
    }
}

/// A load under way: several connections, each on a thread of its own.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    fn start(
        connections: usize,
        client: impl Fn(usize, &AtomicBool) -> Tally + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Arc::new(client);
        let threads = (0..connections)
            .map(|number| {
                let (stop, client) = (Arc::clone(&stop), Arc::clone(&client));
                spawn(move || client(number, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Redis: each connection pipelines `depth` commands, `ECHO` of a value never
    /// used twice, and reads as many replies.
    pub fn redis(address: SocketAddr, connections: usize, depth: u64) -> Self {
        Self::start(connections, move |number, stop| {
            client(address, stop, depth, &Redis { number })
        })
    }

    /// HTTP: each connection pipelines `depth` requests of `target`, and expects `body` in each reply.
    pub fn http(
        address: SocketAddr,
        connections: usize,
        depth: u64,
        target: &'static str,
        body: &'static str,
    ) -> Self {
        Self::start(connections, move |_, stop| {
            client(address, stop, depth, &Http { target, body })
        })
    }

    /// Ends it after the requests under way; what became of all.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for thread in self.threads {
            match thread.join() {
                Ok(part) => tally.add(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        tally
    }
}

enum Reply {
    Value,
    Error,
}

/// How a protocol asks and what it hears.
trait Speech {
    /// Appends request number `serial`.
    fn ask(&self, serial: u64, out: &mut Vec<u8>);
    /// The reply to request `serial` at the front of `bytes` and its length, once it
    /// is all there. Panics where it is another one's.
    fn hear(&self, serial: u64, bytes: &[u8]) -> Option<(Reply, usize)>;
}

fn client(address: SocketAddr, stop: &AtomicBool, depth: u64, speech: &impl Speech) -> Tally {
    let mut tally = Tally::default();
    let mut serial = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, HANG) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        stream.set_read_timeout(Some(HANG)).expect("a read timeout");
        stream.set_write_timeout(Some(HANG)).expect("a write timeout");
        let mut buffer = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let mut batch = Vec::new();
            (0..depth).for_each(|step| speech.ask(serial + step, &mut batch));
            tally.sent += depth;
            let first = serial;
            serial += depth;
            // Where writing fails, replies to what was taken may still be there to read.
            let _ = stream.write_all(&batch);
            let mut heard = 0;
            while heard < depth {
                if let Some((reply, len)) = speech.hear(first + heard, &buffer) {
                    buffer.drain(..len);
                    heard += 1;
                    match reply {
                        Reply::Value => tally.answered += 1,
                        Reply::Error => tally.failed += 1,
                    }
                } else if !more(&mut stream, &mut buffer) {
                    break;
                }
            }
            tally.lost += depth - heard;
            if heard < depth {
                break;
            }
            assert!(buffer.is_empty(), "a reply too many: {:?}", String::from_utf8_lossy(&buffer));
        }
    }
    tally
}

/// Reads more; false where the connection has ended. Panics where nothing comes.
fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 << 10];
    match stream.read(&mut chunk) {
        Ok(len) => {
            buffer.extend_from_slice(&chunk[..len]);
            len > 0
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("neither answered nor closed; read {:?}", String::from_utf8_lossy(buffer));
        }
        Err(_) => false,
    }
}

struct Redis {
    number: usize,
}

impl Redis {
    fn value(&self, serial: u64) -> String {
        format!("value-{}-{serial}", self.number)
    }
}

impl Speech for Redis {
    fn ask(&self, serial: u64, out: &mut Vec<u8>) {
        let value = self.value(serial);
        let text = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{value}\r\n", value.len());
        out.extend_from_slice(text.as_bytes());
    }

    fn hear(&self, serial: u64, bytes: &[u8]) -> Option<(Reply, usize)> {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        if bytes.first() == Some(&b'-') {
            return Some((Reply::Error, line + 2));
        }
        let value = self.value(serial);
        let due = format!("${}\r\n{value}\r\n", value.len());
        let got = bytes.get(..due.len())?;
        assert_eq!(String::from_utf8_lossy(got), due, "another request's reply");
        Some((Reply::Value, due.len()))
    }
}

struct Http {
    target: &'static str,
    body: &'static str,
}

impl Speech for Http {
    fn ask(&self, _: u64, out: &mut Vec<u8>) {
        let text = format!("GET {} HTTP/1.1\r\nHost: polyport.test\r\n\r\n", self.target);
        out.extend_from_slice(text.as_bytes());
    }

    fn hear(&self, _: u64, bytes: &[u8]) -> Option<(Reply, usize)> {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
        let body = bytes.get(head..head + length)?;
        if text.starts_with("http/1.1 200") {
            assert_eq!(String::from_utf8_lossy(body), self.body, "another request's reply");
            return Some((Reply::Value, head + length));
        }
        assert!(text.starts_with("http/1.1 5"), "neither a reply nor a gateway's error: {text}");
        Some((Reply::Error, head + length))
    }
}
