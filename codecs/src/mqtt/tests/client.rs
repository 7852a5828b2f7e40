//! What clients and brokers send, and what of it is refused.

use super::*;
use crate::error::ErrorKind;
use crate::frame::{Body, Kind, Lease, Outcome, Step};
use crate::metadata::Metadata;

#[test]
fn a_connects_facts_are_metadata() {
    for (level, version) in [(3, "3.1"), (4, "3.1.1"), (5, "5.0")] {
        let will_properties = properties(level, &[&[0x18, 0, 0, 0, 1], &user("w", "x")]);
        let input = connect_with(
            level,
            0xee,
            &[&[0x11, 0, 0, 0, 9], &user("Tenant", "acme"), &user("tenant", "b")],
            &[&will_properties, &text("lost/c"), &text("gone"), &text("sensor"), &text("secret")],
        );
        let all = client(&input);
        assert_eq!(all.error, None, "{version}");
        for (key, expected) in [
            ("kind", "request"),
            ("packet", "connect"),
            ("method", "connect"),
            ("version", version),
            ("client-id", "c"),
            ("username", "sensor"),
            ("clean-start", "true"),
            ("keep-alive", "10"),
            ("will.topic", "lost/c"),
            ("will.qos", "1"),
            ("user-property.tenant", if level == 5 { "acme,b" } else { "" }),
        ] {
            assert_eq!(value(&all, 0, key), expected, "{version} {key}");
        }
        let head = all.messages[0].head;
        assert_eq!((head.kind, head.lease, head.patience), (Kind::Request, Lease::Session, 15_000));
        assert_eq!(value(&all, 0, "size"), input.len().to_string());
    }
}

#[test]
fn a_client_without_keep_alive_may_be_silent_for_ever() {
    let mut input = connect(4);
    input[11] = 0;
    assert_eq!(client(&input).messages[0].head.patience, 0);
    (input[10], input[11]) = (0xff, 0xff);
    assert_eq!(client(&input).messages[0].head.patience, 65_535 * 1500);
}

#[test]
fn every_packet_tells_who_sent_it() {
    for level in LEVELS {
        let rest: &[&[u8]] = &[&text("sensor")];
        let input = [
            connect_with(level, 0x82, &[], rest),
            publish(level, 0, "a/b", &[], b"x"),
            publish(level, 0xb, "a/c", &[], b"x"),
            subscribe(level, &[("a/#", 1)]),
            unsubscribe(level, &["a/#"]),
            vec![0xc0, 0],
            vec![0x40, 2, 0, 1],
            vec![0x62, 2, 0, 1],
            vec![0xe0, 0],
        ]
        .concat();
        let all = client(&input);
        assert_eq!(all.error, None);
        let kinds: Vec<Kind> = all.messages.iter().map(|seen| seen.head.kind).collect();
        use Kind::{Control, Oneway, Request};
        let expected =
            [Request, Oneway, Request, Request, Request, Control, Control, Control, Control];
        assert_eq!(kinds, expected);
        for at in 0..all.messages.len() {
            assert_eq!(value(&all, at, "client-id"), "c");
            assert_eq!(value(&all, at, "username"), "sensor");
            assert_ne!(value(&all, at, "version"), "");
            assert!(!all.messages[at].head.last);
        }
        let facts =
            |at| ["packet", "topic", "qos", "retain", "dup"].map(|key| value(&all, at, key));
        assert_eq!(facts(1), ["publish", "a/b", "0", "", ""]);
        assert_eq!(facts(2), ["publish", "a/c", "1", "true", "true"]);
        assert_eq!(facts(3), ["subscribe", "a/#", "1", "", ""]);
        assert_eq!(facts(4), ["unsubscribe", "a/#", "", "", ""]);
        assert_eq!(facts(5), ["pingreq", "", "", "", ""]);
        assert_eq!((all.messages[2].head.reply_to.id, all.messages[3].head.reply_to.id), (7, 9));
    }
}

#[test]
fn an_alias_is_the_topic_it_stands_for() {
    let alias = |number: u8| [0x23, 0, number];
    let input = [
        connect(5),
        publish(5, 0, "a/b", &[&alias(1)], b""),
        publish(5, 0, "", &[&alias(1)], b""),
        publish(5, 0, "a/c", &[&alias(1)], b""),
        publish(5, 0, "", &[&alias(1)], b""),
    ]
    .concat();
    let all = client(&input);
    let topics: Vec<_> = (1..5).map(|at| value(&all, at, "topic")).collect();
    assert_eq!(topics, ["a/b", "a/b", "a/c", "a/c"]);
    for (packet, status) in [
        (publish(5, 0, "", &[&alias(1)], b""), 0x82),
        (publish(5, 0, "a", &[&alias(0)], b""), 0x94),
        (publish(5, 0, "", &[], b""), 0x82),
        (publish(4, 0, "", &[], b""), 0x82),
    ] {
        let level = if packet[3] == 0 && packet.len() == 4 { 4 } else { 5 };
        let error = client(&[connect(level), packet].concat()).error.expect("refused");
        assert_eq!(error.status, status);
    }
}

#[test]
fn too_many_aliases_are_refused() {
    let mut input = connect(5);
    for alias in 1..=1025u16 {
        let [high, low] = alias.to_be_bytes();
        input.extend(publish(5, 0, "a", &[&[0x23, high, low]], b""));
    }
    let all = decode(Side::Request, &Limits::default(), &input, &[]);
    assert_eq!(all.messages.len(), 1025);
    assert_eq!(all.error.expect("refused").status, 0x94);
}

#[test]
fn each_filter_is_shown_in_its_turn() {
    let interest = Interest::of(["topic", "share-name", "qos", "username", "packet"]);
    let codec = Mqtt.compile(&Limits::default(), &interest);
    let mut meta = Metadata::new(&interest);
    let all = |decoder: &mut Box<dyn Decoder>, meta: &mut Metadata, input: &[u8]| {
        let step = decoder.decode(input, meta).expect("a packet");
        let Step::Head(head) = step else { panic!("{step:?}") };
        let mut seen = Vec::new();
        loop {
            let view = meta.view(input);
            let facts: Vec<_> =
                view.iter(&interest).map(|(_, value)| value.escape_ascii().to_string()).collect();
            seen.push(facts.join(" "));
            if !decoder.another(input, meta) {
                return (head.len, seen);
            }
        }
    };
    for level in LEVELS {
        let mut decoder = codec.decoder(Side::Request);
        let opening = connect_with(level, 0x82, &[], &[&text("u")]);
        assert_eq!(all(&mut decoder, &mut meta, &opening).1, ["u connect"]);
        // The next packet is already there.
        let mut input = subscribe(level, &[("$share/g/a/+", 1), ("b", 0), ("#", 2)]);
        let len = input.len();
        input.extend(publish(level, 0, "x", &[], b""));
        let shown = all(&mut decoder, &mut meta, &input);
        assert_eq!(
            shown,
            (
                len,
                vec![
                    "a/+ g 1 u subscribe".into(),
                    "b 0 u subscribe".into(),
                    "# 2 u subscribe".into()
                ]
            )
        );
        assert_eq!(all(&mut decoder, &mut meta, &input[len..]).1, ["x 0 u publish"]);
        let input = unsubscribe(level, &["a", "$share/g/b"]);
        let shown = all(&mut decoder, &mut meta, &input).1;
        assert_eq!(shown, ["a u unsubscribe", "b g u unsubscribe"]);
    }
}

#[test]
fn a_large_publish_is_a_head_and_a_body() {
    for level in LEVELS {
        let interest = Interest::of(["topic", "size", "user-property.tenant"]);
        let codec = Mqtt.compile(&Limits::default(), &interest);
        let mut decoder = codec.decoder(Side::Request);
        let mut meta = Metadata::new(&interest);
        decoder.decode(&connect(level), &mut meta).expect("CONNECT");
        let large = publish(level, 2, "a/b", &[&user("tenant", "acme")], &[b'x'; 70_000]);
        let front = large.len() - 70_000;
        for have in 0..front {
            let step = decoder.decode(&large[..have], &mut meta).expect("more");
            let Step::Need(need) = step else { panic!("{step:?} of {have}") };
            assert!(need > have && need <= front, "{need} after {have} of {front}");
        }
        let Ok(Step::Head(head)) = decoder.decode(&large[..front], &mut meta) else {
            panic!("the front is enough")
        };
        assert_eq!((head.len, head.body), (front, Body::Length(70_000)));
        assert_eq!((head.kind, head.reply_to.id), (Kind::Request, 7));
        let topic = interest.slot("topic").expect("wanted");
        assert_eq!(meta.view(&large).get(topic), Some(&b"a/b"[..]));
        let all = client(&[connect(level), large, vec![0xc0, 0]].concat());
        assert_eq!(all.messages.len(), 3);
        assert_eq!(value(&all, 2, "packet"), "pingreq");
    }
}

#[test]
fn what_passes_the_head_limit_is_refused() {
    let long = "t".repeat(65_000);
    let many = [("a", 0); 20_000];
    for (packet, level) in [
        (publish(4, 0, &"t".repeat(65_535), &[], &[0; 70_000]), 4),
        (publish(5, 0, &long, &[&user("tenant", &long)], &[0; 70_000]), 5),
        (subscribe(4, &many), 4),
        (subscribe(5, &many), 5),
    ] {
        let error = client(&[connect(level), packet].concat()).error.expect("refused");
        assert_eq!((error.kind, error.status), (ErrorKind::TooLarge, 0x95));
    }
    let open = connect_with(5, 0xc2, &[], &[&text(&long), &text(&long)]);
    assert_eq!(client(&open).error.expect("refused").kind, ErrorKind::TooLarge);
}

/// Each breaks one rule; the name says which.
#[test]
fn what_breaks_the_protocol_is_refused_whatever_the_version() {
    for level in LEVELS {
        let p = |all: &[&[u8]]| properties(level, all);
        for (name, broken) in [
            ("a second CONNECT", connect(level)),
            ("packet type 0", vec![0, 0]),
            ("a broker's packet", vec![0x20, 2, 0, 0]),
            ("SUBACK", vec![0x90, 3, 0, 1, 0]),
            ("PINGRESP", vec![0xd0, 0]),
            ("QoS 3", publish(level, 6, "a", &[], b"")),
            ("PINGREQ with flags", vec![0xc1, 0]),
            ("PINGREQ with a body", vec![0xc0, 1, 0]),
            ("PUBREL without its flags", vec![0x60, 2, 0, 1]),
            ("PUBACK with flags", vec![0x42, 2, 0, 1]),
            ("PUBACK of 0", vec![0x40, 2, 0, 0]),
            ("PUBACK too short", vec![0x40, 1, 0]),
            ("SUBSCRIBE without its flags", packet(0x80, &[&[0, 1], &p(&[]), &text("a"), &[0]])),
            ("SUBSCRIBE of 0", packet(0x82, &[&[0, 0], &p(&[]), &text("a"), &[0]])),
            ("no filter", subscribe(level, &[])),
            ("an empty filter", subscribe(level, &[("", 0)])),
            ("a filter with a wildcard amid", subscribe(level, &[("a", 0), ("a#b", 0)])),
            ("a share without a name", subscribe(level, &[("$share//a", 0)])),
            ("options: QoS 3", subscribe(level, &[("a", 3)])),
            ("options: reserved", subscribe(level, &[("a", 0x40)])),
            ("options: cut", packet(0x82, &[&[0, 1], &p(&[]), &text("a")])),
            ("UNSUBSCRIBE of nothing", unsubscribe(level, &[])),
            ("a wildcard in a topic", publish(level, 0, "a/#", &[], b"")),
            ("a null in a topic", publish(level, 0, "a\0", &[], b"")),
            ("a topic that is no UTF-8", packet(0x30, &[b"\0\x01\xff", &p(&[])])),
            ("a topic longer than its packet", packet(0x30, &[b"\0\x09a", &p(&[])])),
            ("PUBLISH of 0", packet(0x32, &[b"\0\x01a\0\0", &p(&[])])),
            ("a length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 1]),
            ("DISCONNECT with flags", vec![0xe1, 0]),
        ] {
            let all = client(&[connect(level), broken].concat());
            assert_eq!(all.error.map(|error| error.kind), Some(ErrorKind::Malformed), "{name}");
            assert_eq!(all.messages.len(), 1, "{name}");
        }
    }
}

#[test]
fn what_breaks_a_connect_is_refused() {
    let wrong = |level: u8, at: usize, byte: u8| {
        let mut packet = connect(level);
        packet[at] = byte;
        packet
    };
    for (name, broken) in [
        ("nothing before it", publish(4, 0, "a", &[], b"")),
        ("flags", wrong(4, 0, 0x11)),
        ("the name", wrong(4, 5, b'X')),
        ("the reserved flag", wrong(4, 9, 3)),
        ("a will's QoS without a will", wrong(4, 9, 0x0a)),
        ("a will retained without a will", wrong(4, 9, 0x22)),
        ("a will of QoS 3", connect_with(4, 0x1e, &[], &[&text("a"), &text("")])),
        ("a will without a topic", connect_with(4, 6, &[], &[&text(""), &text("")])),
        ("a will to a filter", connect_with(4, 6, &[], &[&text("#"), &text("")])),
        ("a password without a user", connect_with(4, 0x42, &[], &[&text("x")])),
        ("a user that is missing", connect_with(4, 0x82, &[], &[])),
        ("bytes behind it", connect_with(4, 2, &[], &[b"x"])),
        ("bytes behind it", connect_with(5, 2, &[], &[b"x"])),
        ("a property twice", connect_with(5, 2, &[&[0x21, 0, 1], &[0x21, 0, 1]], &[])),
        ("a property of PUBLISH", connect_with(5, 2, &[&[0x23, 0, 1]], &[])),
        ("an unknown property", connect_with(5, 2, &[&[0x7f]], &[])),
        ("a property cut", connect_with(5, 2, &[&[0x21, 0]], &[])),
        ("receive maximum 0", connect_with(5, 2, &[&[0x21, 0, 0]], &[])),
        ("maximum packet 0", connect_with(5, 2, &[&[0x27, 0, 0, 0, 0]], &[])),
        ("neither yes nor no", connect_with(5, 2, &[&[0x17, 2]], &[])),
        ("data of no method", connect_with(5, 2, &[&[0x16, 0, 0]], &[])),
        ("a length in two bytes", {
            let mut packet = connect(5);
            packet[1] |= 0x80;
            packet.insert(2, 0);
            packet
        }),
    ] {
        let all = client(&broken);
        assert_eq!(all.error.map(|error| error.kind), Some(ErrorKind::Malformed), "{name}");
        assert!(all.messages.is_empty(), "{name}");
    }
    // Bridges of mosquitto set the highest bit, and go on without it if refused.
    for unknown in [wrong(4, 8, 6), wrong(4, 8, 0x84), wrong(4, 8, 3), wrong(3, 10, 4)] {
        let error = client(&unknown).error.expect("refused");
        assert_eq!((error.kind, error.status), (ErrorKind::Unsupported, 0x84));
    }
}

#[test]
fn properties_of_5_are_held_to_their_packets() {
    for (name, broken) in [
        ("a subscription's in PUBLISH", publish(5, 0, "a", &[&[0x0b, 1]], b"")),
        ("a response to a filter", publish(5, 0, "a", &[&[8, 0, 1, b'#']], b"")),
        ("a user property cut", publish(5, 0, "a", &[&[0x26, 0, 1, b'a']], b"")),
        ("properties longer than the packet", packet(0x30, &[&text("a"), &[9]])),
        ("a length that is too long", packet(0x30, &[&text("a"), &[0x80, 0]])),
        ("subscription 0", packet(0x82, &[&[0, 1, 2, 0x0b, 0], &text("a"), &[0]])),
        ("retain handling 3", subscribe(5, &[("a", 0x30)])),
        ("no-local, shared", subscribe(5, &[("$share/g/a", 4)])),
        ("PUBACK with a topic alias", vec![0x40, 7, 0, 1, 0, 3, 0x23, 0, 1]),
        ("a remaining length of two bytes", vec![0xc0, 0x80, 0]),
        ("PUBACK with more than its properties", vec![0x40, 5, 0, 1, 0, 0, 9]),
    ] {
        let all = client(&[connect(5), broken].concat());
        assert_eq!(all.error.map(|error| error.kind), Some(ErrorKind::Malformed), "{name}");
    }
    let good = [
        connect(5),
        subscribe(5, &[("a", 0x2e), ("$share/g/a", 0x2a)]),
        vec![0x40, 3, 0, 1, 0x10],
        vec![0x40, 8, 0, 1, 0, 4, 0x1f, 0, 1, b'x'],
        vec![0xf0, 2, 0x18, 0],
        vec![0xe0, 7, 4, 5, 0x11, 0, 0, 0, 9],
    ];
    assert_eq!(client(&good.concat()).error, None);
    // AUTH is of 5.0; a property in an older packet is part of its payload.
    assert!(client(&[connect(4), vec![0xf0, 0]].concat()).error.is_some());
    assert!(client(&[connect(4), vec![0xe0, 1, 0]].concat()).error.is_some());
    assert!(client(&[connect(4), vec![0x40, 3, 0, 1, 0]].concat()).error.is_some());
}

#[test]
fn what_3_1_allowed_is_allowed_in_3_1() {
    let repeated = packet(0x8a, &[&[0, 9], &text("a"), &[0]]);
    for (level, good) in [(3, true), (4, false)] {
        for packet in [repeated.clone(), vec![0x6a, 2, 0, 1], publish(level, 8, "a", &[], b"")] {
            assert_eq!(client(&[connect(level), packet].concat()).error.is_none(), good, "{level}");
        }
    }
    // The flags announce a user and a password that are not there.
    assert_eq!(client(&connect_with(3, 0xc2, &[], &[])).error, None);
    // A length in more bytes than it takes can only be read one way.
    assert_eq!(client(&[connect(4), vec![0xc0, 0x80, 0]].concat()).error, None);
}

#[test]
fn a_brokers_packets_are_framed_and_connack_tells_how_it_went() {
    for (connack, outcome) in [
        (&[0x20, 2, 0, 0][..], Outcome::Ok),
        (&[0x20, 2, 1, 0], Outcome::Ok),
        (&[0x20, 2, 0, 3], Outcome::Unavailable),
        (&[0x20, 2, 0, 5], Outcome::AppError),
        (&[0x20, 3, 0, 0x88, 0], Outcome::Unavailable),
        (&[0x20, 3, 0, 0x97, 0], Outcome::Overloaded),
        (&[0x20, 3, 0, 0x80, 0], Outcome::ServerError),
        (&[0x20, 3, 0, 0x87, 0], Outcome::AppError),
        (&[0x20, 0], Outcome::ServerError),
    ] {
        let all = broker(connack);
        let head = all.messages[0].head;
        assert_eq!((head.kind, head.outcome, head.patience), (Kind::Response, outcome, 0));
    }
    let input = [
        vec![0x20, 9, 0, 0, 6, 0x22, 0, 10, 0x13, 0, 20],
        publish(4, 1, "a/b", &[], b"retained"),
        publish(5, 0, "", &[&[0x23, 0, 1]], b""),
        vec![0x90, 3, 0, 9, 1],
        vec![0xd0, 0],
        vec![0xf0, 0],
        vec![0xe0, 2, 0x8b, 0],
        publish(5, 0, "large", &[], &[0; 100_000]),
        vec![0xb0, 2, 0, 9],
    ];
    let all = broker(&input.concat());
    assert_eq!((all.error.clone(), all.messages.len()), (None, input.len()));
    assert_eq!(all.messages[0].head.patience, 30_000, "server keep-alive");
    let kinds: Vec<Kind> = all.messages.iter().map(|seen| seen.head.kind).collect();
    use Kind::{Control, Push, Response};
    let expected = [Response, Push, Push, Control, Control, Control, Control, Push, Control];
    assert_eq!(kinds, expected);
    let topics: Vec<_> = [1, 2, 7].iter().map(|at| value(&all, *at, "topic")).collect();
    assert_eq!(topics, ["a/b", "", "large"]);
    for client in [connect(4), subscribe(4, &[("a", 0)]), vec![0xc0, 0], vec![0, 0]] {
        assert!(broker(&client).error.is_some());
    }
}

#[test]
fn half_a_packet_is_no_end() {
    let opening = connect(4);
    assert_eq!(client(&opening).error, None);
    for end in 1..opening.len() {
        let error = client(&opening[..end]).error.expect("truncated");
        assert_eq!(error.kind, ErrorKind::Truncated);
    }
}

#[test]
fn the_probe_knows_by_the_protocols_name() {
    let mut long = connect_with(4, 0x82, &[], &[&text(&"u".repeat(300))]);
    for packet in [connect(3), connect(4), connect(5), long.clone()] {
        let decided = packet.iter().position(|byte| *byte == b'Q').expect("a name");
        let decided = decided + if packet[decided + 1] == b'I' { 5 } else { 3 };
        for end in 0..=packet.len() {
            match Mqtt.probe(&packet[..end]) {
                Probe::Maybe { need } => assert_eq!((need, end < decided), (end + 1, true)),
                Probe::Yes { .. } => assert!(end >= decided),
                Probe::No => panic!("not {end}"),
            }
        }
    }
    long[5] = b'x';
    for other in [&long[..], b"\x10\x02", b"\x11", b"\x10\xff\xff\xff\xff\xff", b"GET /"] {
        assert_eq!(Mqtt.probe(other), Probe::No, "{}", other.escape_ascii());
    }
}
