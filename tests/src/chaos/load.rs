//! Clients that never stop asking, and the board on which they keep count for all to see.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::dialect::{Dialect, Heard};

/// Between two requests of one client: the load is steady, and leaves the machine some room.
const PACE: Duration = Duration::from_millis(5);

/// How long a client reads before it looks about.
const GLANCE: Duration = Duration::from_millis(50);

/// What became of all requests so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Requests written.
    pub sent: u64,
    /// Answered with the word they asked for.
    pub answered: u64,
    /// Answered with a native error.
    pub failed: u64,
    /// Unanswered when their connection ended.
    pub lost: u64,
    /// Connections that were refused with a native error.
    pub refused: u64,
    /// Connections that were made.
    pub connected: u64,
}

impl Count {
    /// What did not go well.
    pub fn errors(&self) -> u64 {
        self.failed + self.lost + self.refused
    }

    /// Panics unless every request ended exactly once.
    pub fn assert_complete(&self) {
        let ended = self.answered + self.failed + self.lost;
        assert_eq!(self.sent, ended, "requests ended more or less than once: {self:?}");
        assert!(self.answered > 0, "nothing was answered: {self:?}");
    }

    /// Panics unless all went well.
    pub fn assert_perfect(&self) {
        self.assert_complete();
        assert_eq!(self.errors(), 0, "clients saw errors: {self:?}");
    }
}

/// [`Count`] while it grows.
#[derive(Default)]
struct Board {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
    connected: AtomicU64,
}

/// One client's share of what others may look at.
struct Seat {
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    began: Instant,
    /// When the oldest request in flight was sent, µs since `began`; `u64::MAX`: there is none.
    oldest: Arc<AtomicU64>,
    /// No request may take longer.
    limit: Duration,
}

/// A load under way, a thread for each client.
pub struct Load {
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    began: Instant,
    oldest: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(
        to: SocketAddr,
        clients: usize,
        depth: usize,
        limit: Duration,
        dialect: fn() -> Box<dyn Dialect>,
    ) -> Self {
        let (board, stop, began) = (Arc::default(), Arc::default(), Instant::now());
        let oldest: Vec<_> = (0..clients).map(|_| Arc::new(AtomicU64::new(u64::MAX))).collect();
        let threads = oldest.iter().enumerate().map(|(number, oldest)| {
            let (board, stop) = (Arc::clone(&board), Arc::clone(&stop));
            let seat = Seat { board, stop, began, oldest: Arc::clone(oldest), limit };
            spawn(move || client(to, number, depth, dialect, &seat))
        });
        let threads = threads.collect();
        Self { board, stop, began, oldest, threads }
    }

    /// What became of the requests so far.
    pub fn count(&self) -> Count {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let board = &self.board;
        Count {
            sent: get(&board.sent),
            answered: get(&board.answered),
            failed: get(&board.failed),
            lost: get(&board.lost),
            refused: get(&board.refused),
            connected: get(&board.connected),
        }
    }

    /// Whether every request that was in flight at `moment` has ended.
    pub(super) fn past(&self, moment: Instant) -> bool {
        let moment = micros(moment - self.began);
        self.oldest.iter().all(|oldest| oldest.load(Ordering::Relaxed) > moment)
    }

    /// Panics where a client has: it has seen what may not be.
    pub fn check(&mut self) {
        if let Some(at) = self.threads.iter().position(JoinHandle::is_finished)
            && let Err(panic) = self.threads.swap_remove(at).join()
        {
            std::panic::resume_unwind(panic);
        }
    }

    /// Ends it after the requests under way; what became of all.
    pub fn stop(&mut self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.count()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct Call {
    id: u64,
    word: String,
    sent: Instant,
}

fn client(
    to: SocketAddr,
    number: usize,
    depth: usize,
    dialect: fn() -> Box<dyn Dialect>,
    seat: &Seat,
) {
    let mut serial = 0;
    while !seat.stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect_timeout(&to, seat.limit) else {
            sleep(GLANCE);
            continue;
        };
        let _ = stream.set_nodelay(true);
        seat.board.connected.fetch_add(1, Ordering::Relaxed);
        let mut calls = VecDeque::new();
        converse(stream, number, depth, &mut *dialect(), &mut calls, &mut serial, seat);
        seat.board.lost.fetch_add(calls.len() as u64, Ordering::Relaxed);
        seat.oldest.store(u64::MAX, Ordering::Relaxed);
    }
}

/// One connection, until it ends. What is left in `calls` was not answered.
fn converse(
    mut stream: TcpStream,
    number: usize,
    depth: usize,
    dialect: &mut dyn Dialect,
    calls: &mut VecDeque<Call>,
    serial: &mut u64,
    seat: &Seat,
) {
    let add = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
    let (mut out, mut unread, mut chunk) = (Vec::new(), Vec::new(), vec![0; 16 << 10]);
    let mut open = dialect.open(number, &mut out);
    let (mut next_id, mut next_at, mut last) = (0, Instant::now(), false);
    let since = Instant::now();
    loop {
        let stopping = seat.stop.load(Ordering::Relaxed) || last;
        if stopping && calls.is_empty() {
            return;
        }
        let now = Instant::now();
        if open && !stopping && calls.len() < depth && now >= next_at {
            let word = format!("word-{number}-{serial}");
            dialect.ask(next_id, &word, &mut out);
            calls.push_back(Call { id: next_id, word, sent: now });
            next_id += 1;
            *serial += 1;
            next_at = now + PACE;
            add(&seat.board.sent);
        }
        let oldest = calls.iter().map(|call| call.sent).min();
        let oldest = oldest.map_or(u64::MAX, |sent| micros(sent - seat.began));
        seat.oldest.store(oldest, Ordering::Relaxed);
        // Where writing fails, replies to what was taken may still be there to read.
        let _ = stream.write_all(&out);
        out.clear();
        let idle = !open || stopping || calls.len() >= depth;
        let wait = if idle { GLANCE } else { next_at.saturating_duration_since(Instant::now()) };
        stream.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).expect("a timeout");
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(len) => unread.extend_from_slice(&chunk[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let waited = calls.front().map_or(since, |call| call.sent).elapsed();
                let waits = !calls.is_empty() || !open;
                assert!(!waits || waited < seat.limit, "neither answered nor closed: {waited:?}");
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        let mut used = 0;
        while used < unread.len()
            && let Some((len, heard)) = dialect.hear(&unread[used..], &mut out)
        {
            used += len;
            match heard {
                Heard::Aside => {}
                Heard::Opened => open = true,
                Heard::Farewell => last = true,
                Heard::Refused => {
                    add(&seat.board.refused);
                    sleep(GLANCE);
                    return;
                }
                Heard::Word(id, word) => {
                    let call = take(calls, id);
                    assert_eq!(word, call.word, "another request's reply");
                    let took = call.sent.elapsed();
                    assert!(took < seat.limit, "an answer after {took:?}");
                    add(&seat.board.answered);
                }
                Heard::Error { id, last: ends } => {
                    let took = take(calls, id).sent.elapsed();
                    assert!(took < seat.limit, "an error after {took:?}");
                    last |= ends;
                    add(&seat.board.failed);
                }
            }
        }
        unread.drain(..used);
    }
}

/// The call that a reply is for, which is then no longer in flight.
fn take(calls: &mut VecDeque<Call>, id: Option<u64>) -> Call {
    let at = match id {
        None => Some(0),
        Some(id) => calls.iter().position(|call| call.id == id),
    };
    let call = at.and_then(|at| calls.remove(at));
    call.unwrap_or_else(|| panic!("a reply to {id:?}, which is not in flight"))
}
