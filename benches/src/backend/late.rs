//! A server that answers as late as it is told to, however many wait: for tails of latency.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::Serve;
use crate::Result;

/// One such server, up until the process ends.
#[derive(Debug)]
pub struct Late {
    /// Where it listens.
    pub address: SocketAddr,
    micros: Arc<AtomicU64>,
}

impl Late {
    /// Starts one that answers at once.
    pub fn start(serve: Serve) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let micros = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&micros);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let delay = Arc::clone(&delay);
                std::thread::spawn(move || converse(stream, serve, &delay));
            }
        });
        Ok(Self { address, micros })
    }

    /// Answers to what is asked from now on come so much later.
    pub fn takes(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }
}

/// A connection ends where either side has had enough; the other end sees it closed.
fn converse(mut stream: TcpStream, serve: Serve, delay: &AtomicU64) {
    let _ = stream.set_nodelay(true);
    let Ok(out) = stream.try_clone() else { return };
    let (sender, receiver) = channel();
    std::thread::spawn(move || answer(out, &receiver));
    let (mut chunk, mut unread, mut replies) = (vec![0; 64 << 10], Vec::new(), Vec::new());
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        let due = Instant::now() + Duration::from_micros(delay.load(Ordering::Relaxed));
        unread.extend_from_slice(chunk.get(..len).unwrap_or_default());
        let mut used = 0;
        while let Ok(len @ 1..) = serve(unread.get(used..).unwrap_or_default(), &mut replies) {
            used += len;
        }
        unread.drain(..used);
        if !replies.is_empty() && sender.send((due, std::mem::take(&mut replies))).is_err() {
            return;
        }
    }
}

fn answer(mut out: TcpStream, replies: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, reply)) = replies.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if out.write_all(&reply).is_err() {
            return;
        }
    }
}
