//! How the clients of a chaos story speak: each protocol with several requests in flight on
//! one connection, every one of them with a word of its own that its reply must repeat.

use std::collections::HashMap;

use polyport_codecs::dubbo;
use polyport_codecs::thrift::call::{self, Encoding, Message, Transport, Value};

/// What the bytes that came begin with.
pub(super) enum Heard {
    /// Nothing that a request waits for.
    Aside,
    /// The connection may be used from here on.
    Opened,
    /// No more is to be asked on this connection; what was asked is still answered.
    Farewell,
    /// It may not: a native refusal of the connection itself.
    Refused,
    /// The word that a request asked for; `None`: the oldest one's.
    Word(Option<u64>, String),
    /// A native error; `last`: the connection ends after it.
    Error { id: Option<u64>, last: bool },
}

/// One side of one connection.
pub(super) trait Dialect {
    /// Appends what is said first; whether the connection may be used at once.
    fn open(&mut self, _client: usize, _out: &mut Vec<u8>) -> bool {
        true
    }

    /// Appends request `id`, which asks for `word`.
    fn ask(&mut self, id: u64, word: &str, out: &mut Vec<u8>);

    /// What `bytes` begin with and how long that is, as soon as it is all there. What
    /// the protocol itself has to answer is appended to `out`. Panics where it is
    /// nothing that the protocol knows.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<(usize, Heard)>;
}

/// `ECHO`.
pub(super) struct Redis;

impl Dialect for Redis {
    fn ask(&mut self, _: u64, word: &str, out: &mut Vec<u8>) {
        let text = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{word}\r\n", word.len());
        out.extend_from_slice(text.as_bytes());
    }

    fn hear(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Option<(usize, Heard)> {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let text = |range: std::ops::Range<usize>| {
            bytes.get(range).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        match bytes[0] {
            b'-' => Some((line + 2, Heard::Error { id: None, last: false })),
            b'$' => {
                let len: usize = text(1..line)?.parse().expect("a length");
                bytes.get(..line + 4 + len)?;
                Some((line + 4 + len, Heard::Word(None, text(line + 2..line + 2 + len)?)))
            }
            _ => panic!("no reply of Redis: {}", bytes.escape_ascii()),
        }
    }
}

/// `GET /say/WORD` over HTTP/1.1.
pub(super) struct Http;

impl Dialect for Http {
    fn ask(&mut self, _: u64, word: &str, out: &mut Vec<u8>) {
        let text = format!("GET /say/{word} HTTP/1.1\r\nHost: chaos.test\r\n\r\n");
        out.extend_from_slice(text.as_bytes());
    }

    fn hear(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Option<(usize, Heard)> {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim)
        };
        let length = field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let body = bytes.get(head..head + length)?;
        let last = field("connection").is_some_and(|value| value == "close");
        let heard = match text.get(..12) {
            Some("http/1.1 200") => Heard::Word(None, String::from_utf8_lossy(body).into_owned()),
            Some(status) if status.starts_with("http/1.1 5") => Heard::Error { id: None, last },
            _ => panic!("neither a reply nor a gateway's error: {text}"),
        };
        Some((head + length, heard))
    }
}

/// A call of `plain` in hessian2.
pub(super) struct Dubbo;

impl Dialect for Dubbo {
    fn ask(&mut self, id: u64, word: &str, out: &mut Vec<u8>) {
        let (interface, arguments) = ("com.polyport.Echo", &[word][..]);
        dubbo::call::Call { id, interface, method: "plain", arguments, ..<_>::default() }
            .encode(out);
    }

    fn hear(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Option<(usize, Heard)> {
        assert!(b"\xda\xbb".starts_with(&bytes[..bytes.len().min(2)]), "no frame of Dubbo");
        let len = 16 + u32::from_be_bytes(*bytes.get(12..)?.first_chunk()?) as usize;
        let reply = dubbo::call::decode_reply(bytes.get(..len)?).expect("a reply");
        let heard = match (reply.status, reply.value) {
            (20, Ok(word)) => Heard::Word(Some(reply.id), word),
            (20, Err(thrown)) => panic!("the service threw: {thrown}"),
            _ => Heard::Error { id: Some(reply.id), last: false },
        };
        Some((len, heard))
    }
}

/// A call of `shuffle`, framed and binary.
pub(super) struct Thrift;

impl Dialect for Thrift {
    fn ask(&mut self, id: u64, word: &str, out: &mut Vec<u8>) {
        let (transport, encoding, name) = (Transport::Framed, Encoding::Binary, &b"shuffle"[..]);
        let mut body = Vec::new();
        call::text_arguments(encoding, &[word], &mut body);
        let (seqid, headers, body) = (id as u32, &[][..], &body[..]);
        Message { transport, encoding, kind: 1, name, seqid, headers, body }.encode(out);
    }

    fn hear(&mut self, bytes: &[u8], _: &mut Vec<u8>) -> Option<(usize, Heard)> {
        let len = 4 + u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let reply = call::read(bytes.get(..len)?).expect("a message of Thrift");
        let id = Some(u64::from(reply.seqid));
        if reply.kind == 3 {
            return Some((len, Heard::Error { id, last: false }));
        }
        match call::fields(reply.encoding, &reply.body).into_iter().next() {
            Some((0, Value::Text(word))) => {
                Some((len, Heard::Word(id, String::from_utf8_lossy(&word).into_owned())))
            }
            other => panic!("no text came back: {other:?}"),
        }
    }
}

/// A session of 5.0 that publishes to a topic to which it alone is subscribed: what it
/// says comes back to it. A request is over when its message has come back.
#[derive(Default)]
pub(super) struct Mqtt {
    topic: String,
}

fn packet(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    // One byte says the length: all packets here are short.
    assert!(body.len() < 128);
    out.extend_from_slice(&[kind, body.len() as u8]);
    out.extend_from_slice(body);
}

fn sized(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

impl Dialect for Mqtt {
    fn open(&mut self, client: usize, out: &mut Vec<u8>) -> bool {
        self.topic = format!("chaos/{client}");
        let name = format!("chaos-{client}");
        // 5.0, a clean start, kept alive for 60 s.
        packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\0", &sized(&name)[..]].concat(), out);
        false
    }

    fn ask(&mut self, id: u64, word: &str, out: &mut Vec<u8>) {
        let number = (id % 65_535) as u16 + 1;
        let body = [&sized(&self.topic)[..], &number.to_be_bytes(), b"\0", word.as_bytes()];
        packet(0x32, &body.concat(), out);
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<(usize, Heard)> {
        let len = 2 + usize::from(*bytes.get(1)?);
        let body = bytes.get(2..len)?;
        let heard = match bytes[0] >> 4 {
            2 if body[1] == 0 => {
                packet(0x82, &[b"\0\x01\0", &sized(&self.topic)[..], b"\0"].concat(), out);
                Heard::Aside
            }
            2 => Heard::Refused,
            9 => Heard::Opened,
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                assert_eq!(&body[2..2 + topic], self.topic.as_bytes(), "another one's message");
                // Quality 0: no number; then the properties, none.
                Heard::Word(None, String::from_utf8_lossy(&body[3 + topic..]).into_owned())
            }
            // PUBACK and PINGRESP; DISCONNECT, which the end of the connection follows.
            4 | 13 | 14 => Heard::Aside,
            other => panic!("a packet of type {other}"),
        };
        Some((len, heard))
    }
}

/// A stream for each request: `GET /say/WORD`, or a unary call of gRPC.
pub(super) struct Http2 {
    grpc: bool,
    /// Of each stream: whether its reply began well, and its body so far.
    replies: HashMap<u32, (bool, Vec<u8>)>,
}

impl Http2 {
    pub(super) fn get() -> Self {
        Self { grpc: false, replies: HashMap::new() }
    }

    pub(super) fn grpc() -> Self {
        Self { grpc: true, replies: HashMap::new() }
    }

    /// How a stream that is over went.
    fn over(&mut self, stream: u32) -> Heard {
        let id = Some(u64::from(stream - 1) / 2);
        let (well, body) = self.replies.remove(&stream).unwrap_or_default();
        // In gRPC an error comes without a message: a prefix of five bytes, then field 1.
        let word = if self.grpc { body.get(7..) } else { Some(&body[..]) };
        match word {
            Some(word) if well => Heard::Word(id, String::from_utf8_lossy(word).into_owned()),
            _ => Heard::Error { id, last: false },
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let len = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[len[1], len[2], len[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Dialect for Http2 {
    fn open(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // No dynamic table: the first byte of a reply's block then tells its status.
        frame(4, 0, 0, &[0, 1, 0, 0, 0, 0], out);
        // Room on the connection for all that will ever come.
        frame(8, 0, 0, &0x7000_0000_u32.to_be_bytes(), out);
        true
    }

    fn ask(&mut self, id: u64, word: &str, out: &mut Vec<u8>) {
        let stream = 2 * id as u32 + 1;
        let path = format!("/say/{word}");
        let fields: &[(&str, &str)] = if self.grpc {
            &[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/polyport.test.Echo/Unary"),
                (":authority", "chaos.test"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            ]
        } else {
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", &path),
                (":authority", "chaos.test"),
            ]
        };
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend_from_slice(text.as_bytes());
            }
        }
        frame(1, if self.grpc { 4 } else { 5 }, stream, &block, out);
        if self.grpc {
            let field = [&[0x0a, word.len() as u8], word.as_bytes()].concat();
            let message = [&[0][..], &(field.len() as u32).to_be_bytes(), &field].concat();
            frame(0, 1, stream, &message, out);
        }
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<(usize, Heard)> {
        let head = bytes.first_chunk::<9>()?;
        let len = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = bytes.get(9..len)?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let heard = match kind {
            0 => {
                let reply = self.replies.get_mut(&stream).expect("headers come first");
                reply.1.extend_from_slice(payload);
                if flags & 1 != 0 { self.over(stream) } else { Heard::Aside }
            }
            1 => {
                assert!(flags & 4 != 0, "headers in several frames");
                // A change of the table's size may come before the status; 0x88 is 200.
                let status = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                let well = status == Some(&0x88);
                // Trailers change nothing: that they came after a message is enough.
                self.replies.entry(stream).or_insert((well, Vec::new()));
                if flags & 1 != 0 { self.over(stream) } else { Heard::Aside }
            }
            3 => {
                self.replies.remove(&stream);
                Heard::Error { id: Some(u64::from(stream - 1) / 2), last: false }
            }
            7 => Heard::Farewell,
            4 if flags & 1 == 0 => {
                frame(4, 1, 0, &[], out);
                Heard::Aside
            }
            6 if flags & 1 == 0 => {
                frame(6, 1, 0, payload, out);
                Heard::Aside
            }
            _ => Heard::Aside,
        };
        Some((len, heard))
    }
}
