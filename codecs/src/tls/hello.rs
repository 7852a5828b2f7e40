//! The client's first message, out of the records that carry it.

use std::borrow::Cow;

use crate::error::ErrorKind;

/// Bytes of a record's header: type, version, length.
const RECORD: usize = 5;

/// The record type of handshake messages.
const HANDSHAKE: u8 = 22;

/// The most bytes of one record (RFC 8446, section 5.1).
const LONGEST_RECORD: usize = 1 << 14;

/// The most bytes of the message, its 4-byte header not counted. The format allows 16 MiB;
/// hellos with post-quantum key shares have some 2 KiB.
const LONGEST_MESSAGE: usize = 1 << 14;

/// The most records it may be spread over; those who do it use a few.
const RECORDS: usize = 64;

/// The most bytes that the records of a hello may take.
pub const LONGEST: usize = 4 + LONGEST_MESSAGE + RECORDS * RECORD;

/// The longest host name (RFC 1035, section 2.3.4, as text).
const LONGEST_NAME: usize = 253;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// Bytes of the records that carry it; at most [`LONGEST`].
    pub len: usize,
    /// The version its message names, `0x0303` for TLS 1.2 and all later ones.
    pub version: u16,
    /// The server name that is asked for (RFC 6066, section 3): a host name of
    /// letters, digits, `-`, `_` and dots, lower case, without a final dot.
    pub sni: Option<String>,
    /// The protocols that are offered (RFC 7301), in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// Cannot say before the buffer holds so many bytes (always more than it holds).
    Need(usize),
    /// A client's first message.
    Found(ClientHello),
    /// No TLS connection begins so.
    NotTls,
    /// It begins as a hello and is none; the reason.
    Malformed(&'static str),
}

/// Reads the message with which a client begins a TLS connection. Pure; called again with
/// more bytes it never contradicts an answer other than [`Hello::Need`].
pub fn client_hello(buf: &[u8]) -> Hello {
    match read(buf, LONGEST) {
        Ok(hello) => Hello::Found(hello),
        Err(Stop::Need(need)) => Hello::Need(need),
        Err(Stop::NotTls) => Hello::NotTls,
        Err(Stop::Bad(_, why)) => Hello::Malformed(why),
    }
}

/// Why there is no hello.
#[derive(Debug)]
pub(super) enum Stop {
    Need(usize),
    NotTls,
    Bad(ErrorKind, &'static str),
}

impl From<&'static str> for Stop {
    fn from(why: &'static str) -> Self {
        Self::Bad(ErrorKind::Malformed, why)
    }
}

/// Whether a client begins so: a record of a handshake that a hello begins. `None`: too
/// short to say.
pub(super) fn opening(buf: &[u8]) -> Option<bool> {
    let fits = |at: usize, byte: u8| match at {
        0 => byte == HANDSHAKE,
        1 => byte == 3,
        2 => byte <= 4,
        3 => byte <= (LONGEST_RECORD >> 8) as u8,
        4 => matches!(buf.get(3), Some(high) if legal(*high, byte)),
        _ => byte == 1,
    };
    let head = buf.get(..RECORD + 1).unwrap_or(buf);
    if !head.iter().enumerate().all(|(at, byte)| fits(at, *byte)) {
        return Some(false);
    }
    (head.len() > RECORD).then_some(true)
}

/// Whether a record of a handshake may have this length: none is empty.
fn legal(high: u8, low: u8) -> bool {
    (1..=LONGEST_RECORD).contains(&usize::from(u16::from_be_bytes([high, low])))
}

/// Reads a hello whose records take no more than `limit` bytes.
pub(super) fn read(buf: &[u8], limit: usize) -> Result<ClientHello, Stop> {
    match opening(buf) {
        None => return Err(Stop::Need(buf.len() + 1)),
        Some(false) => return Err(Stop::NotTls),
        Some(true) => {}
    }
    let (message, len) = message(buf, limit)?;
    let mut cursor = Cursor(message.get(4..).unwrap_or_default());
    let hello = parse(&mut cursor, len).ok_or("a hello whose parts do not fit in it")??;
    Ok(hello)
}

/// The message, joined where it is spread over records, and how many bytes those take.
/// Nothing is judged before its record is there, so that no wait is for nothing.
fn message(buf: &[u8], limit: usize) -> Result<(Cow<'_, [u8]>, usize), Stop> {
    let mut gathered: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut at = 0;
    for record in 0..RECORDS {
        let Some(&[kind, major, _, high, low]) = buf.get(at..at + RECORD) else {
            return Err(Stop::Need(at + RECORD));
        };
        if kind != HANDSHAKE || major != 3 {
            return Err("a record of another kind inside the hello".into());
        }
        if !legal(high, low) {
            return Err("a record of no bytes or of more than 16384".into());
        }
        let begin = at + RECORD;
        at = begin + usize::from(u16::from_be_bytes([high, low]));
        if at > limit {
            return Err(Stop::Bad(ErrorKind::TooLarge, "a hello longer than is allowed"));
        }
        let Some(fragment) = buf.get(begin..at) else { return Err(Stop::Need(at)) };
        match record {
            0 => gathered = Cow::Borrowed(fragment),
            _ => gathered.to_mut().extend_from_slice(fragment),
        }
        let Some(&[_, a, b, c]) = gathered.get(..4) else { continue };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > LONGEST_MESSAGE {
            return Err(Stop::Bad(ErrorKind::TooLarge, "a hello longer than 16384 bytes"));
        }
        match gathered.len().cmp(&(4 + length)) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok((gathered, at)),
            // RFC 8446, section 5.1: it may share a record with nothing.
            std::cmp::Ordering::Greater => return Err("bytes behind the hello".into()),
        }
    }
    Err(Stop::Bad(ErrorKind::TooLarge, "a hello in more than 64 records"))
}

/// What is left to be read. Each method is `None` where its bytes are not there.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A vector whose length takes `bytes`.
    fn vector(&mut self, bytes: usize) -> Option<Cursor<'a>> {
        let length = self.number(bytes)?;
        self.take(length).map(Cursor)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

type Parsed<T> = Option<Result<T, &'static str>>;

/// Reads the body of the message; `None` where a part does not fit.
fn parse(body: &mut Cursor<'_>, len: usize) -> Parsed<ClientHello> {
    let version = u16::try_from(body.number(2)?).ok()?;
    if version >> 8 != 3 {
        return Some(Err("a hello of a version that is none"));
    }
    body.take(32)?;
    if body.vector(1)?.0.len() > 32 {
        return Some(Err("a session id of more than 32 bytes"));
    }
    let suites = body.vector(2)?.0.len();
    if suites == 0 || suites % 2 != 0 {
        return Some(Err("cipher suites that are none"));
    }
    if body.vector(1)?.is_empty() {
        return Some(Err("no compression method"));
    }
    let mut hello = ClientHello { len, version, sni: None, alpn: Vec::new() };
    // TLS 1.2 and before need no extensions.
    if body.is_empty() {
        return Some(Ok(hello));
    }
    let mut extensions = body.vector(2)?;
    if !body.is_empty() {
        return Some(Err("bytes behind the extensions"));
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.number(2)?;
        let mut extension = extensions.vector(2)?;
        let seen = match kind {
            0 => &mut named,
            16 => &mut offered,
            _ => continue,
        };
        // Which of two would count, each reader decides for itself.
        if std::mem::replace(seen, true) {
            return Some(Err("an extension twice"));
        }
        let read = match kind {
            0 => server_name(&mut extension)?.map(|name| hello.sni = name),
            _ => protocols(&mut extension)?.map(|names| hello.alpn = names),
        };
        if let Err(why) = read {
            return Some(Err(why));
        }
        if !extension.is_empty() {
            return Some(Err("bytes behind an extension"));
        }
    }
    Some(Ok(hello))
}

fn server_name(extension: &mut Cursor<'_>) -> Parsed<Option<String>> {
    let mut list = extension.vector(2)?;
    let mut found = None;
    while !list.is_empty() {
        let kind = list.number(1)?;
        let name = list.vector(2)?;
        // Only host names are defined; others begin with a length too (RFC 6066).
        if kind != 0 {
            continue;
        }
        if found.is_some() {
            return Some(Err("two server names"));
        }
        match host_name(name.0) {
            Some(name) => found = Some(name),
            None => return Some(Err("a server name that is no host name")),
        }
    }
    Some(Ok(found))
}

/// A host name as rules compare it.
fn host_name(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &[u8]| !label.is_empty() && label.iter().all(legal);
    if name.len() > LONGEST_NAME || !name.split(|byte| *byte == b'.').all(label) {
        return None;
    }
    std::str::from_utf8(name).ok().map(str::to_ascii_lowercase)
}

fn protocols(extension: &mut Cursor<'_>) -> Parsed<Vec<Vec<u8>>> {
    let mut list = extension.vector(2)?;
    let mut names = Vec::new();
    while !list.is_empty() {
        let name = list.vector(1)?;
        if name.is_empty() {
            return Some(Err("a protocol without a name"));
        }
        names.push(name.0.to_vec());
    }
    if names.is_empty() {
        return Some(Err("an offer of no protocols"));
    }
    Some(Ok(names))
}
