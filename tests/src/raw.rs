//! A client that says exactly the bytes it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any reply takes.
const HANG: Duration = Duration::from_secs(20);

/// One connection.
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, HANG).expect("connecting");
        stream.set_read_timeout(Some(HANG)).expect("a read timeout");
        stream.set_write_timeout(Some(HANG)).expect("a write timeout");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, unread: Vec::new() }
    }

    /// Connects and says `bytes`.
    pub fn say(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Self {
        let mut raw = Self::connect(address);
        raw.send(bytes);
        raw
    }

    /// Says `bytes`; panics where the peer does not take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("writing");
    }

    /// Says `bytes` to a peer that may have hung up.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends its side of the connection.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads more; false at the end of the connection. Panics where nothing comes.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(len) => {
                self.unread.extend_from_slice(&chunk[..len]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing comes after {:?}", self.text());
            }
            Err(_) => false,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &str) -> String {
        self.until_or_end(mark).unwrap_or_else(|rest| panic!("closed before {mark:?}: {rest:?}"))
    }

    /// Everything up to and with `mark`, or the rest where the connection ends first.
    pub fn until_or_end(&mut self, mark: &str) -> Result<String, String> {
        let mark = mark.as_bytes();
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Ok(self.take(at + mark.len()));
            }
            if !self.fill() {
                return Err(self.text());
            }
        }
    }

    /// Exactly so many bytes.
    pub fn exactly(&mut self, len: usize) -> String {
        while self.unread.len() < len {
            assert!(self.fill(), "closed after {:?}, {len} bytes were due", self.text());
        }
        self.take(len)
    }

    /// Exactly so many bytes, for protocols that are no text.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert!(self.fill(), "closed after {:x?}, {len} bytes were due", self.unread);
        }
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    fn take(&mut self, len: usize) -> String {
        String::from_utf8_lossy(&self.take_bytes(len)).into_owned()
    }

    fn take_bytes(&mut self, len: usize) -> Vec<u8> {
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    /// The bytes of everything until the peer closes.
    pub fn bytes_until_closed(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// A frame that begins with its length, which is counted in.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut due = 4;
        loop {
            if let Some(len) = self.unread.first_chunk() {
                due = 4 + u32::from_be_bytes(*len) as usize;
                if self.unread.len() >= due {
                    return self.take_bytes(due);
                }
            }
            assert!(self.fill(), "closed after {:?}, {due} bytes were due", self.text());
        }
    }

    /// Everything until the peer closes.
    pub fn until_closed(&mut self) -> String {
        while self.fill() {}
        let len = self.unread.len();
        self.take(len)
    }

    /// Asserts that the peer answers no more than it has, within a moment.
    pub fn assert_silent(&mut self, moment: Duration) {
        self.stream.set_read_timeout(Some(moment)).expect("a read timeout");
        let mut byte = [0; 64];
        match self.stream.read(&mut byte) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("not silent: {other:?}"),
        }
        assert!(self.unread.is_empty(), "not silent: {:?}", self.text());
        self.stream.set_read_timeout(Some(HANG)).expect("a read timeout");
    }

    /// An HTTP response whose body has a `Content-Length` (or none): head and body.
    pub fn http_response(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let body = self.exactly(length.unwrap_or(0));
        (head, body)
    }
}
