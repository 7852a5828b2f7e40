//! Whether an HTTP/2 peer is in the middle of saying something. The `h2` crate
//! waits for the rest of a frame or of a header block for ever; a connection
//! that has begun one and does not go on is closed like any other half message.
//! So is one that sends little but frames that ask for answers.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length of the client's preface, before the first frame.
const PREFACE: u32 = 24;

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Frames about the connection itself that a peer may send in [`WINDOW`]. Peers that
/// mean well send a few a minute.
const MOST: usize = 2_000;
const WINDOW: Duration = Duration::from_secs(10);

/// What was read so far came to.
#[derive(Debug)]
struct Scan {
    /// Bytes of the preface, or of the current frame's payload, that are to come.
    left: u32,
    header: [u8; 9],
    have: usize,
    /// A header block was begun and not ended.
    block: bool,
    /// The first frame, which must be SETTINGS, came.
    settled: bool,
    /// Frames about the connection itself since `since`.
    chatter: usize,
    since: Instant,
    flooded: bool,
}

impl Scan {
    fn new() -> Self {
        Self {
            left: PREFACE,
            header: [0; 9],
            have: 0,
            block: false,
            settled: false,
            chatter: 0,
            since: Instant::now(),
            flooded: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = bytes.len().min(self.left as usize);
                self.left -= count as u32;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let place = self.header.get_mut(self.have..).unwrap_or_default();
            let count = place.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            if let Some(place) = place.get_mut(..count) {
                place.copy_from_slice(now);
            }
            self.have += count;
            bytes = later;
            if self.have == self.header.len() {
                let [b0, b1, b2, kind, flags, ..] = self.header;
                self.left = u32::from_be_bytes([0, b0, b1, b2]);
                self.have = 0;
                self.settled |= kind == SETTINGS;
                if matches!(kind, SETTINGS | PING | PRIORITY) {
                    self.chatter += 1;
                    if self.chatter > MOST {
                        self.flooded |= self.since.elapsed() < WINDOW;
                        (self.chatter, self.since) = (0, Instant::now());
                    }
                }
                if kind == HEADERS || kind == CONTINUATION {
                    self.block = flags & END_HEADERS == 0;
                }
            }
        }
    }

    fn at_rest(&self) -> bool {
        self.settled && self.left == 0 && self.have == 0 && !self.block
    }
}

/// Passes bytes on, and keeps `at_rest` up to date.
pub(super) struct Watched<S> {
    inner: S,
    scan: Scan,
    at_rest: Rc<Cell<bool>>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S) -> (Self, Rc<Cell<bool>>) {
        let at_rest = Rc::new(Cell::new(false));
        (Self { inner, scan: Scan::new(), at_rest: at_rest.clone() }, at_rest)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        if let Some(new) = buffer.filled().get(before..).filter(|new| !new.is_empty()) {
            this.scan.feed(new);
            this.at_rest.set(this.scan.at_rest());
            if this.scan.flooded {
                return Poll::Ready(Err(io::Error::other("a flood of control frames")));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_from_talk() {
        let mut scan = Scan::new();
        scan.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let ping = b"\0\0\x08\x06\0\0\0\0\x0012345678";
        for _ in 0..MOST {
            scan.feed(ping);
        }
        assert!(!scan.flooded);
        scan.feed(ping);
        assert!(scan.flooded);
    }

    #[test]
    fn a_peer_rests_between_frames_only() {
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let block = b"\0\0\x01\x01\0\0\0\0\x01\x83";
        let rest = b"\0\0\x01\x09\x04\0\0\0\x01\x86";
        let all = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings, block, rest].concat();
        for step in [1, 3, 7, 100] {
            let mut scan = Scan::new();
            let mut fed = 0;
            for piece in all.chunks(step) {
                scan.feed(piece);
                fed += piece.len();
                let rests = fed == 24 + 9 || fed == all.len();
                assert_eq!(scan.at_rest(), rests, "after {fed} bytes in steps of {step}");
            }
        }
    }
}
