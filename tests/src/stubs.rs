//! Every protocol in its smallest form: a request that carries a tag, a server that
//! answers with the tag of what it was asked, and what the client is to hear. A reply
//! that is another's has another tag.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;

use polyport_codecs::thrift::call::{Encoding, Message, Transport, read, text_field};
use polyport_codecs::{bolt, dubbo};

use crate::ports;

/// A way to speak a protocol. Every request and reply is a pure function of its tag.
#[derive(Clone, Copy)]
pub struct Form {
    /// What to call it in a failure.
    pub name: &'static str,
    /// The protocol it is detected as.
    pub protocol: &'static str,
    /// A whole request.
    pub ask: fn(&str) -> Vec<u8>,
    /// Whether what was read so far is the whole reply; panics where it is another.
    pub hear: fn(&str, &[u8]) -> bool,
}

/// Every form of every protocol.
pub const FORMS: &[Form] = &[
    Form { name: "dubbo", protocol: "dubbo", ask: ask_dubbo, hear: hear_dubbo },
    Form {
        name: "thrift framed",
        protocol: "thrift",
        ask: |tag| thrift(Transport::Framed, Encoding::Binary, 1, 1, tag),
        hear: |tag, got| whole(&thrift(Transport::Framed, Encoding::Binary, 2, 0, tag), got),
    },
    Form {
        name: "thrift framed compact",
        protocol: "thrift",
        ask: |tag| thrift(Transport::Framed, Encoding::Compact, 1, 1, tag),
        hear: |tag, got| whole(&thrift(Transport::Framed, Encoding::Compact, 2, 0, tag), got),
    },
    Form {
        name: "thrift header",
        protocol: "thrift",
        ask: |tag| thrift(Transport::Header, Encoding::Binary, 1, 1, tag),
        hear: |tag, got| whole(&thrift(Transport::Header, Encoding::Binary, 2, 0, tag), got),
    },
    Form {
        name: "thrift unframed",
        protocol: "thrift",
        ask: |tag| thrift(Transport::Unframed, Encoding::Binary, 1, 1, tag),
        hear: |tag, got| whole(&thrift(Transport::Unframed, Encoding::Binary, 2, 0, tag), got),
    },
    Form {
        name: "thrift unframed compact",
        protocol: "thrift",
        ask: |tag| thrift(Transport::Unframed, Encoding::Compact, 1, 1, tag),
        hear: |tag, got| whole(&thrift(Transport::Unframed, Encoding::Compact, 2, 0, tag), got),
    },
    Form {
        name: "bolt 1",
        protocol: "bolt",
        ask: |tag| ask_bolt(bolt::call::Version::V1, tag),
        hear: |tag, got| whole(&answer_bolt(&ask_bolt(bolt::call::Version::V1, tag)), got),
    },
    Form {
        name: "bolt 2",
        protocol: "bolt",
        ask: |tag| ask_bolt(bolt::call::Version::V2, tag),
        hear: |tag, got| whole(&answer_bolt(&ask_bolt(bolt::call::Version::V2, tag)), got),
    },
    Form {
        name: "tls passed on",
        protocol: "tls",
        ask: ask_tls,
        hear: |tag, got| whole(&answer_tls(tag), got),
    },
    Form {
        name: "http get",
        protocol: "http",
        ask: |tag| format!("GET /{tag} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
        hear: hear_http,
    },
    Form {
        name: "http post",
        protocol: "http",
        ask: |tag| {
            format!("POST /{tag} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").into_bytes()
        },
        hear: hear_http,
    },
    Form { name: "http 2", protocol: "http", ask: ask_http2, hear: hear_http2 },
    Form {
        name: "mqtt 3.1.1",
        protocol: "mqtt",
        ask: |tag| ask_mqtt(4, tag),
        hear: |tag, got| whole(&answer_mqtt(4, tag), got),
    },
    Form {
        name: "mqtt 5",
        protocol: "mqtt",
        ask: |tag| ask_mqtt(5, tag),
        hear: |tag, got| whole(&answer_mqtt(5, tag), got),
    },
    Form {
        name: "redis",
        protocol: "redis",
        ask: |tag| format!("*2\r\n$4\r\nECHO\r\n${}\r\n{tag}\r\n", tag.len()).into_bytes(),
        hear: |tag, got| whole(&answer_redis(tag), got),
    },
    Form {
        name: "redis typed",
        protocol: "redis",
        ask: |tag| format!("echo {tag}\r\n").into_bytes(),
        hear: |tag, got| whole(&answer_redis(tag), got),
    },
];

/// The name that [`FORMS`]' TLS asks for is below this one.
pub const PASSED: &str = "*.closed.test";

/// The tag of that number: nine bytes, in every request once.
pub fn tag(number: usize) -> String {
    format!("tag{number:06}")
}

/// The first tag in `bytes`, and where it ends.
fn tag_in(bytes: &[u8]) -> Option<(String, usize)> {
    let is =
        |window: &&[u8]| window.starts_with(b"tag") && window[3..].iter().all(u8::is_ascii_digit);
    let at = bytes.windows(9).position(|window| is(&window))?;
    Some((String::from_utf8_lossy(&bytes[at..at + 9]).into_owned(), at + 9))
}

fn whole(due: &[u8], got: &[u8]) -> bool {
    let same = got.len().min(due.len());
    assert!(
        got[..same] == due[..same] && got.len() <= due.len(),
        "{} came where {} was due",
        got.escape_ascii(),
        due.escape_ascii()
    );
    got.len() == due.len()
}

/// A server of `protocol`, up for as long as the test process.
pub fn serve(protocol: &'static str) -> SocketAddr {
    let address = ports::free();
    let listener = TcpListener::bind(address).expect("a free port");
    let answer: Answer = match protocol {
        "dubbo" => take_dubbo,
        "thrift" => take_thrift,
        "bolt" => take_bolt,
        "tls" => take_tls,
        "http" => take_http,
        "mqtt" => take_mqtt,
        "redis" => take_redis,
        other => panic!("no server of {other}: write one"),
    };
    spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            spawn(move || converse(stream, answer));
        }
    });
    address
}

/// How many bytes a message took, and the reply to it; `None`: not all of it is there.
type Answer = fn(&[u8]) -> Option<(usize, Vec<u8>)>;

fn converse(mut stream: TcpStream, answer: Answer) {
    let (mut chunk, mut unread) = ([0; 4096], Vec::new());
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        unread.extend_from_slice(&chunk[..len]);
        while let Some((taken, reply)) = answer(&unread) {
            unread.drain(..taken);
            if stream.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

const DUBBO_ID: u64 = 0x0102_0304_0506_0708;

fn ask_dubbo(tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let arguments = &[tag];
    let call = dubbo::call::Call {
        id: DUBBO_ID,
        interface: "a.B",
        method: "say",
        arguments,
        ..<_>::default()
    };
    call.encode(&mut out);
    out
}

fn hear_dubbo(tag: &str, got: &[u8]) -> bool {
    let mut due = Vec::new();
    dubbo::call::encode_reply(DUBBO_ID, tag, &mut due);
    whole(&due, got)
}

fn take_dubbo(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = 16 + u32::from_be_bytes(*bytes.get(12..)?.first_chunk()?) as usize;
    let (tag, _) = tag_in(bytes.get(..len)?)?;
    let mut reply = Vec::new();
    let id = u64::from_be_bytes(*bytes[4..].first_chunk()?);
    dubbo::call::encode_reply(id, &tag, &mut reply);
    Some((len, reply))
}

/// A message with the tag as its field number `field`; a call is of kind 1, a reply 2.
fn thrift(transport: Transport, encoding: Encoding, kind: u8, field: u8, tag: &str) -> Vec<u8> {
    thrift_numbered(transport, encoding, kind, field, tag, 77)
}

fn thrift_numbered(
    transport: Transport,
    encoding: Encoding,
    kind: u8,
    field: u8,
    tag: &str,
    seqid: u32,
) -> Vec<u8> {
    let (mut body, mut out) = (Vec::new(), Vec::new());
    text_field(encoding, field, tag.as_bytes(), &mut body);
    let (name, headers) = (&b"say"[..], &[][..]);
    Message { transport, encoding, kind, name, seqid, headers, body: &body }.encode(&mut out);
    out
}

fn take_thrift(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = match bytes.first()? {
        0 => 4 + u32::from_be_bytes(*bytes.first_chunk()?) as usize,
        // Unframed: the struct's end follows its only field.
        _ => tag_in(bytes)?.1 + 1,
    };
    let call = bytes.get(..len)?;
    let (tag, _) = tag_in(call)?;
    let asked = read(call).expect("a message of thrift");
    let reply = thrift_numbered(asked.transport, asked.encoding, 2, 0, &tag, asked.seqid);
    Some((len, reply))
}

fn ask_bolt(version: bolt::call::Version, tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let content = tag.as_bytes();
    let call = bolt::call::Call { id: 99, version, content, ..<_>::default() };
    call.encode(&mut out).expect("a short call");
    out
}

fn take_bolt(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = usize::try_from(bolt::call::size(bytes)?).expect("a short call");
    Some((len, answer_bolt(bytes.get(..len)?)))
}

/// The reply of status 0 with the tag as its content, written as the call was.
fn answer_bolt(call: &[u8]) -> Vec<u8> {
    let (tag, _) = tag_in(call).expect("a tag");
    let mut reply = vec![call[0]];
    let at = if call[0] == 2 { 2 } else { 1 };
    reply.extend_from_slice(&call[1..at]);
    reply.extend_from_slice(&[0, 0, 2, 1]);
    // Its id and codec, and the switches of version 2.
    reply.extend_from_slice(&call[at + 4..at + 8 + at]);
    reply.extend_from_slice(&[0; 6]);
    reply.extend_from_slice(&(tag.len() as u32).to_be_bytes());
    reply.extend_from_slice(tag.as_bytes());
    reply
}

/// A ClientHello that asks for `TAG.closed.test`.
fn ask_tls(tag: &str) -> Vec<u8> {
    let name = format!("{tag}.closed.test");
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let list = [&[0][..], &sized(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &sized(&sized(&list))].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0], &sized(&[0x13, 0x01]), &[1, 0], &sized(&extension)].concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

fn take_tls(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = 5 + usize::from(u16::from_be_bytes(*bytes.get(3..)?.first_chunk()?));
    let (tag, _) = tag_in(bytes.get(..len)?)?;
    Some((len, answer_tls(&tag)))
}

/// A record of what a server would have enciphered.
fn answer_tls(tag: &str) -> Vec<u8> {
    [&[0x17, 3, 3, 0, 9], tag.as_bytes()].concat()
}

fn hear_http(tag: &str, got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        let due = "HTTP/1.1 200 ";
        let same = text.len().min(due.len());
        assert_eq!(text.get(..same), due.get(..same), "no such reply was due: {text:?}");
        return false;
    };
    assert!(head.starts_with("HTTP/1.1 200 ") && tag.starts_with(body), "{text:?} for {tag}");
    body == tag
}

fn take_http(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (tag, _) = tag_in(bytes.get(..len)?)?;
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{tag}", tag.len());
    Some((len, reply.into_bytes()))
}

/// Preface, empty settings, and one request whose header fields are literal (RFC 7541,
/// section 6.2.2).
fn ask_http2(tag: &str) -> Vec<u8> {
    let path = format!("/{tag}");
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", &*path), (":authority", "a")];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let headers = [&[0, 0, block.len() as u8, 1, 0x05, 0, 0, 0, 1][..], &block].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(), &headers].concat()
}

fn hear_http2(tag: &str, got: &[u8]) -> bool {
    let (mut rest, mut body, mut frames) = (got, Vec::new(), 0);
    while let Some(head) = rest.first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(frames > 0 || head[3] == 4, "no settings first: {}", got.escape_ascii());
        let Some(payload) = rest.get(9..9 + len) else { return false };
        rest = &rest[9 + len..];
        frames += 1;
        assert!(head[3] != 3 && head[3] != 7, "refused: {}", got.escape_ascii());
        if head[3] == 0 {
            body.extend_from_slice(payload);
        }
        if head[3] <= 1 && head[4] & 1 != 0 {
            assert_eq!(String::from_utf8_lossy(&body), tag);
            return true;
        }
    }
    false
}

fn ask_mqtt(level: u8, tag: &str) -> Vec<u8> {
    // No properties in version 5.
    let none = &[0][..usize::from(level == 5)];
    let body = [b"\0\x04MQTT", &[level, 2, 0, 60][..], none, &[0, tag.len() as u8], tag.as_bytes()]
        .concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

fn take_mqtt(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let len = 2 + usize::from(*bytes.get(1)?);
    let packet = bytes.get(..len)?;
    let reply = match packet[0] >> 4 {
        1 => answer_mqtt(packet[8], &tag_in(packet).expect("a tag").0),
        12 => vec![0xd0, 0],
        _ => Vec::new(),
    };
    Some((len, reply))
}

/// CONNACK, and a message that waited for this client: its own name.
fn answer_mqtt(level: u8, tag: &str) -> Vec<u8> {
    let none = &[0][..usize::from(level == 5)];
    let body = [b"\0\x01t", none, tag.as_bytes()].concat();
    let ack = [&[0x20, 2 + none.len() as u8, 0, 0], none].concat();
    [&ack[..], &[0x30, body.len() as u8], &body].concat()
}

fn take_redis(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    // The tag is the last word, typed or not.
    let (tag, end) = tag_in(bytes)?;
    let len = end + 2;
    bytes.get(..len)?;
    Some((len, answer_redis(&tag)))
}

fn answer_redis(tag: &str) -> Vec<u8> {
    format!("${}\r\n{tag}\r\n", tag.len()).into_bytes()
}
