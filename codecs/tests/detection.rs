//! Every protocol's first bytes are its own: arriving byte by byte they are never
//! taken for another's, and are recognised by the byte that can decide.

#![allow(clippy::expect_used, reason = "a test")]

use polyport_codecs::{Detection, Probe, Registry, detect};

/// First bytes, whose they are, and after how many of them that is certain.
const OPENINGS: &[(&str, &[u8], usize)] = &[
    ("dubbo", b"\xda\xbb\xc2\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00", 2),
    ("dubbo", b"\xda\xbb\xe2\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01N", 2),
    ("thrift", b"\x00\x00\x00\x20\x80\x01\x00\x01\x00\x00\x00\x04find", 6),
    ("thrift", b"\x00\x00\x00\x20\x82\x21\x07\x04find", 6),
    ("thrift", b"\x00\x00\x00\x40\x0f\xff\x00\x00\x00\x00\x00\x07", 6),
    ("thrift", b"\x80\x01\x00\x01\x00\x00\x00\x04find", 4),
    ("thrift", b"\x82\x81\x07\x04find", 2),
    ("bolt", b"\x01\x01\x00\x01\x01\x00\x00\x00\x01\x01", 4),
    ("bolt", b"\x01\x02\x00\x01\x01\x00\x00\x00\x01\x0b", 4),
    ("bolt", b"\x01\x01\x00\x00\x01\x00\x00\x00\x01\x01", 4),
    ("bolt", b"\x02\x02\x01\x00\x01\x01\x00\x00\x00\x01\x01\x01", 5),
    ("bolt", b"\x02\x01\x02\x00\x64\x01\x00\x00\x00\x01\x01\x00", 5),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 6),
    ("tls", b"\x16\x03\x03\x00\x01\x01\x16\x03\x03", 6),
    ("redis", b"*1\r\n$4\r\nPING\r\n", 5),
    ("redis", b"*12\r\n$3\r\nSET\r\n", 6),
    ("redis", b"PING\r\n", 6),
    ("redis", b"get key\r\n", 9),
    ("redis", b"GET /looks/like/a/path\r\n", 24),
    ("redis", b"\r\nINFO\r\n", 8),
    ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 16),
    ("http", b"POST /a HTTP/1.1\r\n", 6),
    ("http", b"OPTIONS * HTTP/1.1\r\n", 20),
    ("http", b"CONNECT a:1 HTTP/1.1\r\n", 22),
    ("mqtt", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", 8),
    ("mqtt", b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00", 8),
    ("mqtt", b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", 10),
    ("mqtt", b"\x10\x80\x01\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03abc", 9),
    ("mqtt", b"\x10\xff\xff\x03\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03abc", 10),
    ("http", b"BREW /pot HTTP/1.0\r\n", 20),
    ("http", b"PRI /pot HTTP/1.1\r\n", 19),
    ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24),
];

/// First bytes of what is not enabled, or nothing at all.
const STRANGERS: &[&[u8]] = &[
    // A TLS record that no hello begins, and an SSL 2 hello.
    b"\x16\x03\x01\x02\x00\x02",
    b"\x16\x02\x01\x02\x00\x01",
    b"\x80\x2e\x01\x00\x02",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
    b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
    b"\x00\x00\x00\x2c\x10\x01\x2c\x3c",
    b"\x01\x03",
    b"\x01\x01\x00\x03",
    b"\x01\x01\x01\x01\x80\x01",
    b"\x02\x00",
    b"\x02\x01\x01\x01",
    b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x3c\x00\x00",
    b"\x10\x02\x00\x00",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"*x\r\n",
    b"\xda\xbc",
];

#[test]
fn openings_are_recognised_by_the_byte_that_decides_and_never_as_anothers() {
    let registry = Registry::builtin();
    for (name, bytes, decided) in OPENINGS {
        for end in 0..=bytes.len() {
            match detect(registry.protocols(), &bytes[..end]) {
                Detection::Matched(found) => {
                    assert_eq!(found.name(), *name, "{}", bytes[..end].escape_ascii());
                    assert!(end >= *decided, "{name} after {end} of {}", bytes.escape_ascii());
                }
                Detection::Need(need) => {
                    assert!(need > end && end < *decided, "{end} of {}", bytes.escape_ascii());
                }
                Detection::Unmatched => {
                    panic!("{name} given up at {}", bytes[..end].escape_ascii())
                }
            }
        }
    }
}

#[test]
fn each_opening_is_claimed_by_its_own_protocol_alone() {
    let registry = Registry::builtin();
    for (name, bytes, _) in OPENINGS {
        for protocol in registry.protocols() {
            let claims = matches!(protocol.probe(bytes), Probe::Yes { .. });
            assert_eq!(claims, protocol.name() == *name, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn strangers_are_nobodys() {
    let registry = Registry::builtin();
    for bytes in STRANGERS {
        let found = detect(registry.protocols(), bytes);
        assert!(matches!(found, Detection::Unmatched), "{}", bytes.escape_ascii());
    }
}
