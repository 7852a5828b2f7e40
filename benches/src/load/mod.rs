//! The load generator: one thread, closed loop, every reply checked.

pub mod bolt;
pub mod dubbo;
pub mod histogram;
pub mod http;
pub mod http2;
pub mod mqtt;
pub mod redis;
pub mod thrift;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::{Result, Workload};
pub use histogram::Histogram;

/// What the bytes that came begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Less than one message.
    Part,
    /// So many bytes that answer no request (an HTTP/2 SETTINGS frame, say).
    Aside(usize),
    /// So many bytes, the last of the right reply to the request of this id.
    Reply(usize, u64),
}

/// What the generator needs to know of a protocol.
pub trait Dialect {
    /// Appends what connection `conn`, which is new, says before its first request.
    fn open(&mut self, _conn: usize, _out: &mut Vec<u8>) {}

    /// Length of what the server has to say, at the start of `buf`, before the
    /// first request may be sent; `None` where it is not all there yet. An
    /// error: it says something else.
    fn opened(&mut self, _buf: &[u8]) -> std::result::Result<Option<usize>, String> {
        Ok(Some(0))
    }

    /// Appends request `id` of connection `conn`.
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>);

    /// Checks what `buf` begins with. `next` is the oldest unanswered id, which
    /// is what a reply without an id of its own must answer. An error: the reply
    /// is not the one that this request of this connection should get. What the
    /// protocol itself has to answer (a ping) is appended to `out`.
    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        next: u64,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String>;
}

/// The dialect of a workload.
pub fn dialect(workload: Workload) -> Box<dyn Dialect> {
    match workload {
        Workload::Redis => Box::new(redis::Redis::new()),
        Workload::Dubbo => Box::new(dubbo::Dubbo::new()),
        Workload::Thrift => Box::new(thrift::Thrift::new()),
        Workload::Bolt => Box::new(bolt::Bolt::new()),
        Workload::Mqtt => Box::new(mqtt::Mqtt::new()),
        Workload::Http => Box::new(http::Http::new()),
        Workload::Http2 => Box::new(http2::Http2::new()),
    }
}

/// Length of [`stamp`].
pub const STAMP: usize = 32;

/// Text that only request `id` of connection `conn` carries.
pub fn stamp(conn: usize, id: u64) -> [u8; STAMP] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"conn--------call----------------";
    let mut put = |to: std::ops::Range<usize>, mut value: u64| {
        for place in text[to].iter_mut().rev() {
            *place = HEX[(value & 15) as usize];
            value >>= 4;
        }
    };
    put(4..12, conn as u64);
    put(16..32, id);
    text
}

/// How hard to drive.
#[derive(Debug, Clone, Copy)]
pub struct Drive {
    /// Connections, all open at once.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// Time before counting begins.
    pub warmup: Duration,
    /// Time counted.
    pub duration: Duration,
}

/// What a round showed.
#[derive(Debug)]
pub struct Round {
    /// Replies that were right, in the counted time.
    pub completed: u64,
    /// How long was counted.
    pub elapsed: Duration,
    /// What `sample` grew by meanwhile: CPU time of the proxy.
    pub cpu: Duration,
    /// Latencies of those replies.
    pub latency: Histogram,
    /// Wrong replies, lost connections and requests without a reply, warm-up included.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
}

/// Errors after which a round is given up.
const HOPELESS: u64 = 1000;

/// A request unanswered for so long at the end of a round is an error.
const OVERDUE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Call {
    id: u64,
    sent: Instant,
    open: bool,
}

struct Conn {
    stream: TcpStream,
    unread: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    /// The calls in flight; call `id` is at `id % depth`.
    calls: Vec<Call>,
    /// The oldest unanswered id, where replies come in order.
    next: u64,
    /// Whether requests have been sent.
    open: bool,
}

struct Generator<'a> {
    to: SocketAddr,
    dialect: &'a mut dyn Dialect,
    drive: Drive,
    poll: Poll,
    conns: Vec<Conn>,
    scratch: Vec<u8>,
    completed: u64,
    latency: Histogram,
    errors: u64,
    first_error: Option<String>,
}

/// Drives `to` for one round; `sample` reads the proxy's CPU time so far.
pub fn drive(
    to: SocketAddr,
    dialect: &mut dyn Dialect,
    drive: Drive,
    mut sample: impl FnMut() -> Result<Duration>,
) -> Result<Round> {
    let mut generator = Generator {
        to,
        dialect,
        drive,
        poll: Poll::new()?,
        conns: Vec::with_capacity(drive.connections),
        scratch: vec![0; 64 << 10],
        completed: 0,
        latency: Histogram::default(),
        errors: 0,
        first_error: None,
    };
    for at in 0..drive.connections {
        let conn = generator.connect(at)?;
        generator.conns.push(conn);
    }
    for at in 0..drive.connections {
        generator.flush(at);
    }
    generator.until(Instant::now() + drive.warmup)?;
    generator.completed = 0;
    generator.latency = Histogram::default();
    let cpu = sample()?;
    let start = Instant::now();
    generator.until(start + drive.duration)?;
    let end = Instant::now();
    let cpu = sample()?.saturating_sub(cpu);
    let overdue = generator
        .conns
        .iter()
        .flat_map(|conn| &conn.calls)
        .filter(|call| call.open && end.duration_since(call.sent) > OVERDUE)
        .count() as u64;
    if overdue > 0 {
        generator.errors += overdue;
        generator.first_error.get_or_insert(format!("{overdue} requests without a reply"));
    }
    Ok(Round {
        completed: generator.completed,
        elapsed: end - start,
        cpu,
        latency: generator.latency,
        errors: generator.errors,
        first_error: generator.first_error,
    })
}

impl Conn {
    /// Sends the first requests.
    fn begin(&mut self, at: usize, dialect: &mut dyn Dialect) {
        self.open = true;
        let sent = Instant::now();
        for call in &mut self.calls {
            call.sent = sent;
            dialect.request(at, call.id, &mut self.out);
        }
    }
}

impl Generator<'_> {
    fn connect(&mut self, at: usize) -> Result<Conn> {
        let stream = std::net::TcpStream::connect(self.to)
            .map_err(|error| format!("cannot connect to {}: {error}", self.to))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), both)?;
        let depth = self.drive.depth as u64;
        let sent = Instant::now();
        // The same ids on every connection: a proxy that shares upstream
        // connections and mixes them up is found out.
        let calls = (depth..2 * depth).map(|id| Call { id, sent, open: true }).collect();
        let (unread, out) = (Vec::new(), Vec::new());
        let mut conn = Conn { stream, unread, out, written: 0, calls, next: depth, open: false };
        self.dialect.open(at, &mut conn.out);
        if self.dialect.opened(b"")? == Some(0) {
            conn.begin(at, self.dialect);
        }
        Ok(conn)
    }

    fn until(&mut self, end: Instant) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.errors > HOPELESS {
                return Ok(());
            }
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let at = event.token().0;
                let fate = if event.is_readable() { self.read(at) } else { Ok(()) };
                match fate {
                    Ok(()) => self.flush(at),
                    Err(why) => self.fail(at, why)?,
                }
            }
        }
    }

    /// Counts an error and starts the connection anew.
    fn fail(&mut self, at: usize, why: String) -> Result<()> {
        self.errors += 1;
        self.first_error.get_or_insert(why);
        if self.errors > HOPELESS {
            return Ok(());
        }
        let conn = self.connect(at)?;
        // The old socket leaves the poll as it is closed.
        self.conns[at] = conn;
        self.flush(at);
        Ok(())
    }

    fn read(&mut self, at: usize) -> std::result::Result<(), String> {
        loop {
            let conn = &mut self.conns[at];
            let got = match conn.stream.read(&mut self.scratch) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let now = Instant::now();
            if conn.unread.is_empty() {
                // Nearly always: replies are checked where they were read.
                let scratch = std::mem::take(&mut self.scratch);
                let used = self.replies(at, &scratch[..got], now);
                if let Ok(used) = used {
                    self.conns[at].unread.extend_from_slice(&scratch[used..got]);
                }
                self.scratch = scratch;
                used?;
            } else {
                conn.unread.extend_from_slice(&self.scratch[..got]);
                let mut unread = std::mem::take(&mut conn.unread);
                let used = self.replies(at, &unread, now)?;
                unread.drain(..used);
                self.conns[at].unread = unread;
            }
            // Edge-triggered: a short read has emptied the socket.
            if got < self.scratch.len() {
                return Ok(());
            }
        }
    }

    /// Checks all replies in `buf` and asks anew for each; how much was used.
    fn replies(
        &mut self,
        at: usize,
        buf: &[u8],
        now: Instant,
    ) -> std::result::Result<usize, String> {
        let depth = self.drive.depth as u64;
        let conn = &mut self.conns[at];
        let mut used = 0;
        if !conn.open {
            let Some(len) = self.dialect.opened(buf)? else { return Ok(0) };
            used = len;
            conn.begin(at, self.dialect);
        }
        loop {
            let (len, id) = match self.dialect.reply(at, &buf[used..], conn.next, &mut conn.out)? {
                Found::Part => return Ok(used),
                Found::Aside(len) => {
                    used += len;
                    continue;
                }
                Found::Reply(len, id) => (len, id),
            };
            used += len;
            let call = &mut conn.calls[(id % depth) as usize];
            if !call.open || call.id != id {
                return Err(format!("a reply to request {id}, which is not in flight"));
            }
            self.latency.record(now.duration_since(call.sent));
            self.completed += 1;
            conn.next += 1;
            let id = id + depth;
            *call = Call { id, sent: now, open: true };
            self.dialect.request(at, id, &mut conn.out);
        }
    }

    /// Writes what is to be written. What fails shows as the end of the stream
    /// to the next read.
    fn flush(&mut self, at: usize) {
        let conn = &mut self.conns[at];
        while conn.written < conn.out.len() {
            match conn.stream.write(&conn.out[conn.written..]) {
                Ok(wrote) => conn.written += wrote,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        conn.out.clear();
        conn.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backends;

    #[test]
    fn stamps_differ_in_connection_and_call() {
        assert_eq!(&stamp(63, 0x1f), b"conn0000003fcall000000000000001f");
        assert_ne!(stamp(1, 2), stamp(2, 1));
    }

    const SHORT: Drive = Drive {
        connections: 5,
        depth: 1,
        warmup: Duration::from_millis(10),
        duration: Duration::from_millis(50),
    };

    #[test]
    fn a_true_backend_makes_no_errors() {
        let backends = Backends::start(&std::env::temp_dir(), false).unwrap();
        let none = || Ok(Duration::ZERO);
        let deep = Drive { depth: 16, ..SHORT };
        let deep_ones: [(SocketAddr, &mut dyn Dialect); 4] = [
            (backends.dubbo, &mut dubbo::Dubbo::new()),
            (backends.thrift, &mut thrift::Thrift::new()),
            (backends.bolt, &mut bolt::Bolt::new()),
            (backends.mqtt, &mut mqtt::Mqtt::new()),
        ];
        for (backend, dialect) in deep_ones {
            let round = drive(backend, dialect, deep, none).unwrap();
            assert!(round.completed > 0 && round.errors == 0, "{round:?}");
        }
        let round = drive(backends.http, &mut http::Http::new(), SHORT, none).unwrap();
        assert!(round.completed > 0 && round.errors == 0, "{round:?}");
        assert!(round.latency.quantile(0.5) > Duration::ZERO);
    }

    /// Asks for what another connection should get.
    struct Crossed(http::Http);

    impl Dialect for Crossed {
        fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
            self.0.request(conn ^ usize::from(id > 40), id, out);
        }

        fn reply(
            &mut self,
            conn: usize,
            buf: &[u8],
            next: u64,
            out: &mut Vec<u8>,
        ) -> std::result::Result<Found, String> {
            self.0.reply(conn, buf, next, out)
        }
    }

    #[test]
    fn replies_mixed_up_between_connections_are_errors() {
        let backends = Backends::start(&std::env::temp_dir(), false).unwrap();
        let crossed = &mut Crossed(http::Http::new());
        let round = drive(backends.http, crossed, SHORT, || Ok(Duration::ZERO)).unwrap();
        assert!(round.errors > 0);
        let why = round.first_error.unwrap_or_default();
        assert!(why.contains("request 41 of connection"), "{why}");
    }
}
