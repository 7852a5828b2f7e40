//! Every protocol's first bytes are its own: arriving byte by byte they are never
//! taken for another's, and are recognised by the byte that can decide.

#![allow(clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::OnceLock;

use polyport_codecs::tls::{Hello, client_hello};
use polyport_codecs::{Detection, Probe, Protocol, Registry, detect, proxy_protocol};
use proptest::collection::vec;
use proptest::prelude::*;

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

/// How a connection that begins with `bytes` is decided: the protocol, and after how
/// many bytes.
fn decision(protocols: &[&'static dyn Protocol], bytes: &[u8]) -> Option<(&'static str, usize)> {
    (0..=bytes.len()).find_map(|end| match detect(protocols, &bytes[..end]) {
        Detection::Matched(found) => Some((found.name(), end)),
        Detection::Need(_) => None,
        Detection::Unmatched => Some(("nobody", end)),
    })
}

fn named(name: &str) -> &'static dyn Protocol {
    Registry::builtin().get(name).expect("a protocol of the registry")
}

/// Holds `bytes`, which `name` begins, against every other protocol in both orders, and
/// against all of them in every rotation, forwards and backwards.
fn never_anothers(name: &str, bytes: &[u8]) {
    let text = bytes.get(..80).unwrap_or(bytes).escape_ascii();
    let alone = decision(&[named(name)], bytes);
    let all = Registry::builtin().protocols().to_vec();
    let due = decision(&all, bytes);
    assert!(matches!(due, Some((found, _)) if found == name), "{name}: {due:?} of {text}");
    for other in all.iter().filter(|other| other.name() != name) {
        let pair = decision(&[named(name), *other], bytes);
        assert_eq!(pair, decision(&[*other, named(name)], bytes), "{text}");
        assert!(matches!(pair, Some((found, _)) if found == name), "{pair:?} of {text}");
        // Another may make it wait, never decide sooner or longer than all together.
        assert!(alone <= pair && pair <= due, "{alone:?} {pair:?} {due:?} of {text}");
    }
    for first in 0..all.len() {
        let mut order = all.clone();
        order.rotate_left(first);
        assert_eq!(decision(&order, bytes), due, "{text}");
        order.reverse();
        assert_eq!(decision(&order, bytes), due, "{text}");
    }
}

#[test]
fn no_pair_is_confused_in_either_order() {
    for (name, bytes, _) in OPENINGS {
        never_anothers(name, bytes);
    }
}

/// Openings of one protocol, of every form it has.
fn openings(name: &str) -> BoxedStrategy<Vec<u8>> {
    let tail = vec(any::<u8>(), 0..24);
    let then = |front: BoxedStrategy<Vec<u8>>| {
        (front, tail.clone()).prop_map(|(front, tail)| [front, tail].concat()).boxed()
    };
    let target = || vec(prop::sample::select(&b"abz09-._~%?=&*:"[..]), 0..40);
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    match name {
        "dubbo" => then(Just(b"\xda\xbb".to_vec()).boxed()),
        "thrift" => {
            let binary = (any::<u8>(), 1..=4u8).prop_map(|(any, kind)| vec![0x80, 1, any, kind]);
            let compact = (1..=4u8).prop_map(|kind| vec![0x82, kind << 5 | 1]);
            let header = Just(vec![0x0f, 0xff]);
            let framed = |inside: BoxedStrategy<Vec<u8>>| {
                (0..1u32 << 24, inside)
                    .prop_map(|(len, inside)| [len.to_be_bytes().to_vec(), inside].concat())
                    .boxed()
            };
            let (binary, compact) = (binary.boxed(), compact.boxed());
            then(
                prop_oneof![
                    framed(binary.clone()),
                    framed(compact.clone()),
                    framed(header.boxed()),
                    binary,
                    compact
                ]
                .boxed(),
            )
        }
        "bolt" => {
            let command = prop::sample::select(vec![0u8, 1, 2, 100]);
            let front = (prop::option::of(1..=2u8), 0..=2u8, command);
            then(
                front
                    .prop_map(|(version, kind, command)| match version {
                        None => vec![1, kind, 0, command],
                        Some(version) => vec![2, version, kind, 0, command],
                    })
                    .boxed(),
            )
        }
        "tls" => {
            let front = (0..=4u8, 1..=16384u16);
            then(
                front
                    .prop_map(|(minor, len)| {
                        [&[0x16, 3, minor][..], &len.to_be_bytes(), &[1]].concat()
                    })
                    .boxed(),
            )
        }
        "http" => {
            let lead = prop::sample::select(vec!["", "\r\n", "\r\n\r\n", "\n"]);
            let method =
                word(&["GET", "POST", "PUT", "SET", "PING", "PRI", "BREW", "M-SEARCH", "X"]);
            let minor = prop::sample::select(vec!["0", "1"]);
            let one = (lead, method, target(), minor).prop_map(|(lead, method, target, minor)| {
                let target = String::from_utf8_lossy(&target).into_owned();
                format!("{lead}{method} /{target} HTTP/1.{minor}\r\n").into_bytes()
            });
            let two = Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
            then(prop_oneof![4 => one, 1 => two].boxed())
        }
        "mqtt" => {
            let name = prop::sample::select(vec![&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"]);
            // The four lengths that a remaining length may have.
            let size =
                prop_oneof![12..128u32, 128..16_384u32, 16_384..1u32 << 21, 1u32 << 21..1 << 28];
            let front = (size, name).prop_map(|(mut size, name)| {
                let mut out = vec![0x10];
                while size >= 128 {
                    out.push(size as u8 | 0x80);
                    size >>= 7;
                }
                out.push(size as u8);
                [out, name.to_vec()].concat()
            });
            then(front.boxed())
        }
        "redis" => {
            let lead = prop::sample::select(vec!["", "\r\n", "\r\n\r\n\r\n\r\n", "\n\n"]);
            let array = (lead.clone(), 1..9_999_999u32)
                .prop_map(|(lead, words)| format!("{lead}*{words}\r\n$").into_bytes());
            let command =
                word(&["GET", "get", "Set", "PING", "INFO", "SELECT", "subscribe", "DEL"]);
            let end = prop::sample::select(vec!["\r\n", "\n"]);
            let line = (lead, command, target(), end).prop_map(|(lead, command, target, end)| {
                let target = String::from_utf8_lossy(&target).into_owned();
                format!("{lead}{command} {target}{end}").into_bytes()
            });
            then(prop_oneof![array, line].boxed())
        }
        other => panic!("no openings for {other}: write some"),
    }
}

/// One opening of every protocol there is, each with its owner's name.
fn one_of_each() -> Vec<BoxedStrategy<(&'static str, Vec<u8>)>> {
    let registry = Registry::builtin();
    let each = registry.protocols().iter().map(|protocol| protocol.name());
    each.map(|name| openings(name).prop_map(move |bytes| (name, bytes)).boxed()).collect()
}

/// The fewest and the most bytes that decide, by protocol.
fn measured() -> &'static [(&'static str, [usize; 2])] {
    static MEASURED: OnceLock<Vec<(&str, [usize; 2])>> = OnceLock::new();
    MEASURED.get_or_init(|| {
        let registry = Registry::builtin();
        let measure = |name: &'static str| {
            let counts = extremes(name).map(|bytes| {
                let (found, count) = decision(registry.protocols(), &bytes).expect("its own");
                assert_eq!(found, name);
                count
            });
            (name, counts)
        };
        registry.protocols().iter().map(|protocol| measure(protocol.name())).collect()
    })
}

proptest! {
    // Each case is one opening of every protocol against all others, in 26 orders.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_pair_is_confused_whatever_follows(all in one_of_each()) {
        for (name, bytes) in all {
            never_anothers(name, &bytes);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_decided_outside_of_the_measured_counts(all in one_of_each()) {
        for ((name, bytes), (same, [fewest, most])) in all.iter().zip(measured()) {
            prop_assert_eq!(name, same);
            let count = decision(Registry::builtin().protocols(), bytes).expect("its own").1;
            prop_assert!((*fewest..=*most).contains(&count), "{name} after {count}");
        }
    }

    /// The order of the registry decides nothing: no bytes are two protocols'.
    #[test]
    fn no_two_claim_the_same_bytes(
        all in one_of_each(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        lead in prop::sample::select(vec!["", "\r\n", "\n", "G", "*"]),
    ) {
        let registry = Registry::builtin();
        for (_, mut bytes) in all {
            for (place, byte) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let bytes = [lead.as_bytes(), &bytes].concat();
            for end in 0..=bytes.len() {
                let claims = |protocol: &&&dyn Protocol| {
                    matches!(protocol.probe(&bytes[..end]), Probe::Yes { .. })
                };
                let several: Vec<_> =
                    registry.protocols().iter().filter(claims).map(|each| each.name()).collect();
                prop_assert!(several.len() < 2, "{several:?}: {}", bytes[..end].escape_ascii());
            }
        }
    }

    /// Whoever speaks no PROXY protocol and no TLS never waits longer for the search for
    /// them than detection itself would have him wait.
    #[test]
    fn what_is_peeled_first_is_settled_first(all in one_of_each()) {
        for (name, bytes) in all {
            let (_, decided) = decision(Registry::builtin().protocols(), &bytes).expect("its own");
            let front = &bytes[..decided];
            prop_assert_eq!(proxy_protocol::read(front), proxy_protocol::Found::Absent);
            if name != "tls" {
                prop_assert!(matches!(client_hello(front), Hello::NotTls));
            }
        }
    }
}

#[test]
fn a_proxy_header_is_nobodys_opening() {
    let from = "10.0.0.1:1234".parse().expect("an address");
    for version in [proxy_protocol::Version::V1, proxy_protocol::Version::V2] {
        let mut header = Vec::new();
        proxy_protocol::write(version, from, from, &mut header);
        for end in 0..header.len() {
            assert!(matches!(proxy_protocol::read(&header[..end]), proxy_protocol::Found::Need(_)));
            // A word of HTTP's or an empty line may be waited for; nobody is sure.
            let found = detect(Registry::builtin().protocols(), &header[..end]);
            assert!(!matches!(found, Detection::Matched(_)), "{version:?} {end}");
        }
    }
}

/// What takes the fewest and the most bytes to decide.
fn extremes(name: &str) -> [Vec<u8>; 2] {
    let text = |text: &str| text.as_bytes().to_vec();
    match name {
        "dubbo" => [vec![0xda, 0xbb], vec![0xda, 0xbb]],
        "thrift" => [vec![0x82, 0x21], b"\0\0\0\x40\x0f\xff".to_vec()],
        "bolt" => [vec![1, 1, 0, 1], vec![2, 1, 1, 0, 1]],
        "tls" => [b"\x16\x03\x01\x02\0\x01".to_vec(), b"\x16\x03\x01\x02\0\x01".to_vec()],
        "http" => {
            let line = format!("\r\n\r\nGET /{} HTTP/1.1\r\n", "x".repeat(8192 - 16));
            [text("PUT /"), text(&line)]
        }
        "mqtt" => [b"\x10\x0c\0\x04MQTT".to_vec(), b"\x10\xff\xff\xff\x7f\0\x06MQIsdp".to_vec()],
        "redis" => {
            let line = format!("{}GET {}\r\n", "\r\n".repeat(4), "x".repeat(1024 - 6));
            [text("GET\n"), text(&line)]
        }
        other => panic!("no extremes for {other}: write some"),
    }
}

#[test]
fn the_documented_order_and_counts_are_the_true_ones() {
    let page = include_str!("../../docs/detection.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect())
        .filter(|cells: &Vec<&str>| cells[0].parse::<usize>().is_ok())
        .collect();
    let registry = Registry::builtin();
    let names: Vec<&str> = registry.protocols().iter().map(|protocol| protocol.name()).collect();
    let documented: Vec<&str> = rows.iter().map(|cells| cells[1]).collect();
    assert_eq!(documented, names, "docs/detection.md has another order than the registry");
    for (at, cells) in rows.iter().enumerate() {
        let number = |cell: usize| cells[cell].parse::<usize>().expect("a number");
        assert_eq!(number(0), at + 1, "{cells:?}");
        let (name, fewest, most) = (cells[1], number(3), number(4));
        assert_eq!(measured()[at], (name, [fewest, most]));
        for (_, _, decided) in OPENINGS.iter().filter(|opening| opening.0 == name) {
            assert!((fewest..=most).contains(decided), "{name} after {decided}");
        }
    }
}
