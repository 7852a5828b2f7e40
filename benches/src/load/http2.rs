//! The requests of [`super::http`] over HTTP/2 with prior knowledge (RFC 9113),
//! a stream each.
//!
//! As real clients do, names and values that repeat go into the header table
//! once, the path is Huffman-coded every time, and windows are opened wide at
//! the start. Of a reply's header block only the status is read: it comes
//! first, and servers have no better way to say 200 than one byte.

use super::{Dialect, Found, STAMP, stamp};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's header: length, 3 bytes, type, flags, stream, 4 bytes.
const FRAME: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;

/// What the connection's window is opened by, beyond the 65,535 bytes it has
/// anyway, at the start and whenever so much has come.
const WINDOW: u32 = 1 << 30;

/// Fields that do not change, as (index of the name in the static table, value).
const FIELDS: [(u8, &str); 3] = [(1, "shop.example"), (58, "compare"), (19, "*/*")];

/// HTTP/2.
#[derive(Debug, Default)]
pub struct Http2 {
    conns: Vec<Conn>,
}

#[derive(Debug, Clone)]
struct Conn {
    table: Table,
    /// The id of the next stream.
    next: u32,
    /// In flight.
    streams: Vec<Stream>,
    /// Bytes of DATA since the window was last opened.
    received: u32,
}

/// What the server's decoder knows of [`FIELDS`].
#[derive(Debug, Clone, Copy)]
enum Table {
    /// Nothing yet.
    Empty,
    /// All of them.
    Filled,
    /// The server asked for a smaller table: it is to be told that it gets none.
    Refused,
    /// Nothing, ever.
    None,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    stream: u32,
    /// The request's.
    id: u64,
    /// Whether the reply's head has come.
    head: bool,
    /// How much of its body has.
    body: usize,
}

impl Http2 {
    /// Ready to drive.
    pub const fn new() -> Self {
        Self { conns: Vec::new() }
    }
}

fn frame(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn open_window(out: &mut Vec<u8>) {
    frame(4, WINDOW_UPDATE, 0, 0, out);
    out.extend_from_slice(&WINDOW.to_be_bytes());
}

/// Huffman code and its length in bits (RFC 7541, Appendix B), of what paths
/// here are made of.
const fn huffman(byte: u8) -> (u64, u32) {
    match byte {
        b'0'..=b'2' => ((byte - b'0') as u64, 5),
        b'a' => (0x3, 5),
        b'c' => (0x4, 5),
        b'e' => (0x5, 5),
        b'i' => (0x6, 5),
        b'o' => (0x7, 5),
        b't' => (0x9, 5),
        b'/' => (0x18, 6),
        b'3'..=b'9' => ((byte - b'3') as u64 + 0x19, 6),
        b'b' => (0x23, 6),
        b'd' => (0x24, 6),
        b'f' => (0x25, 6),
        b'l' => (0x28, 6),
        b'm' => (0x29, 6),
        b'n' => (0x2a, 6),
        // Nothing else is asked for.
        _ => (0x14, 6),
    }
}

/// Appends `:path: /item/STAMP`, to be kept in no table.
fn path(stamp: &[u8; STAMP], out: &mut Vec<u8>) {
    // Name 4 of the static table, then the length, known when all is coded.
    out.extend_from_slice(&[0x04, 0]);
    let start = out.len();
    let (mut bits, mut held) = (0u64, 0);
    for byte in b"/item/".iter().chain(stamp) {
        let (code, len) = huffman(*byte);
        bits = bits << len | code;
        held += len;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        // The rest of the last byte is ones.
        out.push((bits << (8 - held)) as u8 | (0xff >> held));
    }
    out[start - 1] = 0x80 | (out.len() - start) as u8;
}

/// Appends a field by a literal: `first` and the bits of the name's index in its prefix.
fn literal(first: u8, prefix: u8, name: u8, value: &str, out: &mut Vec<u8>) {
    match name.checked_sub(prefix) {
        None => out.push(first | name),
        Some(more) => out.extend_from_slice(&[first | prefix, more]),
    }
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
}

impl Dialect for Http2 {
    fn open(&mut self, at: usize, out: &mut Vec<u8>) {
        let new = Conn { table: Table::Empty, next: 1, streams: Vec::new(), received: 0 };
        self.conns.resize(self.conns.len().max(at + 1), new.clone());
        self.conns[at] = new;
        out.extend_from_slice(PREFACE);
        frame(6, SETTINGS, 0, 0, out);
        out.extend_from_slice(&ENABLE_PUSH.to_be_bytes());
        out.extend_from_slice(&0u32.to_be_bytes());
        open_window(out);
    }

    fn request(&mut self, at: usize, id: u64, out: &mut Vec<u8>) {
        let conn = &mut self.conns[at];
        let stream = conn.next;
        conn.next += 2;
        conn.streams.push(Stream { stream, id, head: false, body: 0 });
        let start = out.len();
        frame(0, HEADERS, END_STREAM | END_HEADERS, stream, out);
        if let Table::Refused = conn.table {
            out.push(0x20);
            conn.table = Table::None;
        }
        // :method GET, :scheme http
        out.extend_from_slice(&[0x82, 0x86]);
        path(&stamp(at, id), out);
        for (at, (name, value)) in FIELDS.into_iter().enumerate() {
            match conn.table {
                Table::Empty => literal(0x40, 0x3f, name, value, out),
                // The newest is 62, after the static table's 61.
                Table::Filled => out.push(0x80 | (61 + FIELDS.len() - at) as u8),
                Table::Refused | Table::None => literal(0, 0x0f, name, value, out),
            }
        }
        if let Table::Empty = conn.table {
            conn.table = Table::Filled;
        }
        let len = (out.len() - start - FRAME) as u32;
        out[start..start + 3].copy_from_slice(&len.to_be_bytes()[1..]);
    }

    fn reply(
        &mut self,
        at: usize,
        buf: &[u8],
        _next: u64,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let Some((header, rest)) = buf.split_first_chunk::<FRAME>() else {
            return Ok(Found::Part);
        };
        let [l2, l1, l0, kind, flags, stream @ ..] = *header;
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let Some(payload) = rest.get(..len) else { return Ok(Found::Part) };
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let conn = &mut self.conns[at];
        let done = match kind {
            DATA | HEADERS => conn.part(at, kind, flags, stream, payload)?,
            RST_STREAM | GOAWAY | PUSH_PROMISE => {
                return Err(format!("frame of type {kind} on stream {stream}: {payload:02x?}"));
            }
            SETTINGS if flags & ACK == 0 => {
                conn.settings(payload);
                frame(0, SETTINGS, ACK, 0, out);
                None
            }
            PING if flags & ACK == 0 => {
                frame(len, PING, ACK, 0, out);
                out.extend_from_slice(payload);
                None
            }
            _ => None,
        };
        if conn.received >= WINDOW {
            conn.received -= WINDOW;
            open_window(out);
        }
        Ok(done.map_or(Found::Aside(FRAME + len), |id| Found::Reply(FRAME + len, id)))
    }
}

impl Conn {
    fn settings(&mut self, payload: &[u8]) {
        for [i1, i0, value @ ..] in payload.as_chunks::<6>().0 {
            let small = u32::from_be_bytes(*value) < 4096;
            if u16::from_be_bytes([*i1, *i0]) == HEADER_TABLE_SIZE && small {
                self.table = Table::Refused;
            }
        }
    }

    /// Takes in a frame of a reply; the request's id where it was the last.
    fn part(
        &mut self,
        at: usize,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::result::Result<Option<u64>, String> {
        let Some(place) = self.streams.iter().position(|had| had.stream == stream) else {
            return Err(format!("a reply on stream {stream}, which is not open"));
        };
        let reply = &mut self.streams[place];
        let id = reply.id;
        let wrong = |what: &str| {
            let text = String::from_utf8_lossy(payload);
            Err(format!("request {id} of connection {at}, stream {stream}: {what}: {text:?}"))
        };
        if flags & PADDED != 0 || (kind == HEADERS && flags & END_HEADERS == 0) {
            return wrong("padding and CONTINUATION are not read");
        }
        if kind == DATA {
            self.received += payload.len() as u32;
            let want = stamp(at, id);
            let end = reply.body + payload.len();
            let right = payload.iter().eq(want.iter().cycle().skip(reply.body).take(payload.len()));
            if !reply.head || !right || end > 2 * STAMP {
                return wrong("answered with");
            }
            reply.body = end;
        } else if !reply.head {
            if !is_200(payload) {
                return wrong("not a 200");
            }
            reply.head = true;
        }
        if flags & END_STREAM == 0 {
            return Ok(None);
        }
        if reply.body != 2 * STAMP {
            return wrong("the body is too short, it ends with");
        }
        self.streams.swap_remove(place);
        Ok(Some(id))
    }
}

/// Whether the header block begins with `:status: 200`.
fn is_200(mut block: &[u8]) -> bool {
    // The size of the table may be told first.
    while let [0x20..=0x3e, rest @ ..] = block {
        block = rest;
    }
    block.first() == Some(&0x88)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `len` bytes of a reply to stream 1.
    fn reply(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(payload.len(), kind, flags, 1, &mut out);
        out.extend_from_slice(payload);
        out
    }

    fn asked() -> Http2 {
        let mut http2 = Http2::new();
        let out = &mut Vec::new();
        http2.open(5, out);
        http2.request(5, 77, out);
        http2
    }

    #[test]
    fn a_reply_to_another_request_is_refused() {
        let head = reply(HEADERS, END_HEADERS, &[0x88]);
        let body = |of| reply(DATA, END_STREAM, &[stamp(5, of), stamp(5, of)].concat());
        let (right, wrong) = (body(77), body(78));
        let out = &mut Vec::new();
        let mut http2 = asked();
        assert!(http2.reply(5, &right, 0, out).is_err(), "no head");
        assert_eq!(http2.reply(5, &head[..9], 0, out), Ok(Found::Part));
        assert_eq!(http2.reply(5, &head, 0, out), Ok(Found::Aside(10)));
        assert!(http2.reply(5, &wrong, 0, out).is_err());
        assert!(http2.reply(5, &reply(DATA, END_STREAM, b""), 0, out).is_err(), "too short");
        assert_eq!(http2.reply(5, &right, 0, out), Ok(Found::Reply(73, 77)));
        assert!(http2.reply(5, &right, 0, out).is_err(), "answered twice");
        assert!(asked().reply(5, &reply(HEADERS, 4, &[0x8d]), 0, out).is_err(), "a 404");
        assert!(asked().reply(5, &reply(RST_STREAM, 0, &[0; 4]), 0, out).is_err());
        assert_eq!(*out, []);
    }

    #[test]
    fn bodies_come_in_pieces_and_in_any_order_of_streams() {
        let mut http2 = asked();
        let out = &mut Vec::new();
        http2.request(5, 78, out);
        let text = [stamp(5, 77), stamp(5, 77)].concat();
        let mut take = |bytes: Vec<u8>| http2.reply(5, &bytes, 0, out);
        assert_eq!(take(reply(HEADERS, 4, &[0x20, 0x88])), Ok(Found::Aside(11)));
        assert_eq!(take(reply(DATA, 0, &text[..40])), Ok(Found::Aside(49)));
        assert_eq!(take(reply(DATA, 0, &text[40..])), Ok(Found::Aside(33)));
        assert_eq!(take(reply(DATA, END_STREAM, b"")), Ok(Found::Reply(9, 77)));
    }

    #[test]
    fn settings_and_pings_are_answered() {
        let mut http2 = asked();
        let out = &mut Vec::new();
        // Header table size 0, on stream 0.
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x01\0\0\0\0";
        assert_eq!(http2.reply(5, settings, 0, out), Ok(Found::Aside(15)));
        let ping = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
        assert_eq!(http2.reply(5, ping, 0, out), Ok(Found::Aside(17)));
        assert_eq!(**out, *b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0abcdefgh");
        out.clear();
        http2.request(5, 78, out);
        assert_eq!(out[FRAME..FRAME + 3], [0x20, 0x82, 0x86], "the table is given up");
        assert!(out.ends_with(b"\x0f\x04\x03*/*"), "{out:02x?}");
    }

    #[test]
    fn what_repeats_is_sent_once() {
        let out = &mut Vec::new();
        let mut http2 = Http2::new();
        http2.open(5, out);
        out.clear();
        http2.request(5, 77, out);
        assert!(out.ends_with(b"\x53\x03*/*"), "{out:02x?}");
        out.clear();
        http2.request(5, 78, out);
        assert!(out.ends_with(&[0xc0, 0xbf, 0xbe]), "{out:02x?}");
    }

    #[test]
    fn paths_are_huffman_coded() {
        let out = &mut Vec::new();
        path(b"conn00000005call000000000000004d", out);
        // `/item/` is 18 6 9 5 29 18 in hexadecimal: 33 bits.
        let bits = 0b0110_0000_1100_1001_0010_1101_0010_1100_u32;
        assert_eq!(out[2..6], bits.to_be_bytes());
        assert_eq!(usize::from(out[1] & 0x7f), out.len() - 2);
    }
}
