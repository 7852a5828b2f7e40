//! What the proxy says in the broker's place, and what it changes.

use super::super::reply::Token;
use super::*;
use crate::frame::Kind;
use crate::mutation::To;

/// The local reply to the last of a client's packets.
fn denied(packets: &[Vec<u8>], fault: Fault) -> (Vec<u8>, After) {
    let all = client(&packets.concat());
    assert_eq!(all.error, None);
    let to = all.messages.last().expect("a packet").head.reply_to;
    let mut out = Vec::new();
    let after = Mqtt.local_reply(to, b"", fault, "why", &mut out);
    if !out.is_empty() {
        assert_eq!(broker(&out).error, None, "a broker could have said it");
    }
    (out, after)
}

const WHY: &[u8] = b"\x10\x1f\0\x0dpolyport: why";

#[test]
fn a_connect_is_refused_in_its_version() {
    let v3 = |code| vec![0x20, 2, 0, code];
    let v5 = |code| [&[0x20, 19, 0, code], WHY].concat();
    for (level, fault, reply) in [
        (3, Fault::NoRoute, v3(3)),
        (4, Fault::NoHealthyEndpoint, v3(3)),
        (4, Fault::Denied, v3(5)),
        (4, Fault::Overloaded, v3(3)),
        (5, Fault::NoRoute, v5(0x88)),
        (5, Fault::ConnectFailed, v5(0x88)),
        (5, Fault::Denied, v5(0x87)),
        (5, Fault::Overloaded, v5(0x97)),
        (5, Fault::ShuttingDown, v5(0x88)),
    ] {
        assert_eq!(denied(&[connect(level)], fault), (reply, After::Close), "{level} {fault:?}");
    }
    // One who takes only small packets gets no words.
    let small = connect_with(5, 2, &[&[0x27, 0, 0, 0, 100]], &[]);
    assert_eq!(denied(&[small], Fault::Denied).0, [0x20, 3, 0, 0x87, 0]);
}

#[test]
fn a_denied_publish_is_acknowledged_and_the_session_goes_on() {
    for (level, flags, fault, reply) in [
        (3, 0, Fault::Denied, &[][..]),
        (5, 0, Fault::Denied, &[]),
        (3, 2, Fault::Denied, &[0x40, 2, 0, 7]),
        (4, 2, Fault::Denied, &[0x40, 2, 0, 7]),
        (4, 4, Fault::Denied, &[0x50, 2, 0, 7]),
        (5, 2, Fault::Denied, &[0x40, 3, 0, 7, 0x87]),
        (5, 2, Fault::Overloaded, &[0x40, 3, 0, 7, 0x97]),
        (5, 4, Fault::NoRoute, &[0x50, 3, 0, 7, 0x87]),
        (5, 4, Fault::Overloaded, &[0x50, 3, 0, 7, 0x97]),
    ] {
        let packets = [connect(level), publish(level, flags, "a", &[], b"x")];
        assert_eq!(denied(&packets, fault), (reply.to_vec(), After::Keep), "{level} {flags}");
    }
}

#[test]
fn a_denied_publish_that_defines_an_alias_ends_the_session() {
    let alias: &[&[u8]] = &[&[0x23, 0, 1]];
    for flags in [0, 2, 4] {
        let defines = publish(5, flags, "a", alias, b"");
        let (out, after) = denied(&[connect(5), defines.clone()], Fault::Denied);
        assert_eq!((out, after), ([&[0xe0, 18, 0x87], WHY].concat(), After::Close));
        // The broker knows it already, by a packet that passed.
        for again in [defines.clone(), publish(5, flags, "", alias, b"")] {
            let (_, after) = denied(&[connect(5), defines.clone(), again], Fault::Denied);
            assert_eq!(after, After::Keep);
        }
        let other = publish(5, flags, "b", alias, b"");
        assert_eq!(denied(&[connect(5), defines, other], Fault::Denied).1, After::Close);
    }
}

#[test]
fn a_denied_subscription_is_answered_filter_by_filter() {
    let filters = [("a", 0), ("b", 1), ("c", 2)];
    for (level, reply) in [
        (3, &[0x90, 5, 0, 9, 0, 0, 0][..]),
        (4, &[0x90, 5, 0, 9, 0x80, 0x80, 0x80]),
        (5, &[0x90, 6, 0, 9, 0, 0x87, 0x87, 0x87]),
    ] {
        let packets = [connect(level), subscribe(level, &filters)];
        assert_eq!(denied(&packets, Fault::Denied), (reply.to_vec(), After::Keep));
    }
    for (level, reply) in
        [(3, &[0xb0, 2, 0, 9][..]), (4, &[0xb0, 2, 0, 9]), (5, &[0xb0, 5, 0, 9, 0, 0x87, 0x87])]
    {
        let packets = [connect(level), unsubscribe(level, &["a", "b"])];
        assert_eq!(denied(&packets, Fault::Denied), (reply.to_vec(), After::Keep));
    }
    let packets = [connect(5), unsubscribe(5, &["a"])];
    assert_eq!(denied(&packets, Fault::Overloaded).0, [0xb0, 4, 0, 9, 0, 0x83]);
    let many: Vec<_> = (0..10_000).map(|_| ("a", 0)).collect();
    let (out, _) = denied(&[connect(4), subscribe(4, &many)], Fault::Denied);
    assert_eq!(out.len(), 1 + 2 + 2 + 10_000);
}

#[test]
fn a_session_ends_with_a_reason_in_5_and_without_a_word_before() {
    for (fault, code) in [
        (Fault::ShuttingDown, 0x8b),
        (Fault::Expired, 0xa0),
        (Fault::Denied, 0x87),
        (Fault::Overloaded, 0x97),
        (Fault::Timeout, 0x8d),
        (Fault::UpstreamReset, 0x80),
        (Fault::NoHealthyEndpoint, 0x89),
    ] {
        for level in LEVELS {
            let opened = client(&connect(level)).messages[0].head.reply_to;
            let mut out = Vec::new();
            Mqtt.farewell(opened, fault, &mut out);
            match level {
                5 => assert_eq!((out[0], out[2]), (0xe0, code), "{fault:?}"),
                _ => assert!(out.is_empty()),
            }
        }
    }
}

#[test]
fn what_is_refused_is_told_where_the_version_has_words() {
    let rejected = |input: &[u8]| {
        let mut out = Vec::new();
        Mqtt.reject(&client(input).error.expect("refused"), &mut out);
        if !out.is_empty() {
            assert_eq!(broker(&out).error, None);
        }
        out
    };
    let mut unknown = connect(4);
    unknown[8] = 9;
    assert_eq!(rejected(&unknown), [0x20, 2, 0, 1]);
    let out = rejected(&connect_with(5, 3, &[], &[]));
    assert_eq!((out[0], out[3]), (0x20, 0x81));
    for (packet, code) in [
        (vec![0x20, 2, 0, 0], 0x82),
        (vec![0xc3, 0], 0x81),
        (connect(5), 0x82),
        (publish(5, 0, "a+", &[], b""), 0x90),
        (subscribe(5, &[("a+", 0)]), 0x8f),
        (subscribe(5, &[("a", 0); 20_000]), 0x95),
        (publish(5, 0, "", &[&[0x23, 0, 1]], b""), 0x82),
        (publish(5, 0, "", &[&[0x23, 0, 0]], b""), 0x94),
    ] {
        let out = rejected(&[connect(5), packet.clone()].concat());
        assert_eq!((out[0], out[2]), (0xe0, code));
        for level in [3, 4] {
            if let 0x20 | 0xc3 = packet[0] {
                assert!(rejected(&[connect(level), packet.clone()].concat()).is_empty());
            }
        }
    }
    assert!(rejected(b"\x30\0").is_empty(), "before CONNECT there is no version to answer in");
    assert!(rejected(&connect_with(4, 3, &[], &[])).is_empty());
}

#[test]
fn a_token_holds_what_it_is_given() {
    let token = Token {
        version: Some(packet::Version::V5),
        packet: packet::Packet::Subscribe,
        qos: 2,
        defines_alias: true,
        terse: true,
        count: u32::MAX,
    };
    assert_eq!(Token::unpack(token.pack()), Some(token));
    assert_eq!(Token::unpack(0), None);
    let mut out = Vec::new();
    assert_eq!(
        Mqtt.local_reply(ReplyTo::default(), b"", Fault::Denied, "", &mut out),
        After::Close
    );
}

const HOP: Hop = Hop {
    side: Side::Request,
    id: None,
    source: None,
    secure: false,
    request: ReplyTo { id: 0, token: 0 },
    close: false,
    plain_body: false,
    timeout: None,
};

/// The last of a client's packets after `changes`.
fn changed(packets: &[Vec<u8>], changes: &[Change<'_>]) -> Result<Vec<u8>, Unchangeable> {
    let all = client(&packets.concat());
    let (head, last) = (all.messages.last().expect("a packet").head, packets.last().expect("one"));
    let mut out = Vec::new();
    Mqtt.rewrite(&head, last, &HOP, changes, &mut out)?;
    Ok(out)
}

fn set<'a>(key: &'a str, value: &'a [u8]) -> Change<'a> {
    Change { key, to: To::Set(value) }
}

#[test]
fn user_properties_are_set_appended_and_removed() {
    let expiry = [2, 0, 0, 0, 9];
    let before = |all: &[&[u8]]| publish(5, 2, "a/b", all, b"payload");
    let packets = [
        connect(5),
        before(&[&user("Tenant", "old"), &expiry, &user("keep", "k"), &user("x", "y")]),
    ];
    let append = |value| Change { key: "user-property.tenant", to: To::Append(value) };
    let remove = |key| Change { key, to: To::Remove };
    let kept = user("keep", "k");
    for (changes, after) in [
        (vec![set("user-property.tenant", b"new"), remove("user-property.x")], {
            before(&[&expiry, &kept, &user("tenant", "new")])
        }),
        (vec![append(b"a"), append(b"b")], {
            let old = user("Tenant", "old");
            let (a, b) = (user("tenant", "a"), user("tenant", "b"));
            before(&[&old, &expiry, &kept, &user("x", "y"), &a, &b])
        }),
        (vec![append(b"lost"), set("user-property.TENANT", b"new"), append(b"more")], {
            let (new, more) = (user("TENANT", "new"), user("tenant", "more"));
            before(&[&expiry, &kept, &user("x", "y"), &new, &more])
        }),
        (vec![append(b"lost"), remove("user-property.tenant")], {
            before(&[&expiry, &kept, &user("x", "y")])
        }),
        (vec![], packets[1].clone()),
    ] {
        assert_eq!(changed(&packets, &changes).as_deref(), Ok(&after[..]), "{changes:?}");
        assert_eq!(client(&[connect(5), after].concat()).error, None);
    }
}

#[test]
fn every_packet_with_user_properties_can_be_changed() {
    let long = "v".repeat(200);
    for packets in [
        vec![connect_with(5, 0x82, &[&user("a", "b")], &[&text("u")])],
        vec![connect(5), publish(5, 0, "a", &[&[0x23, 0, 1]], b"p")],
        vec![connect(5), subscribe(5, &[("a", 1), ("b", 0)])],
        vec![connect(5), unsubscribe(5, &["a"])],
    ] {
        let after = changed(&packets, &[set("user-property.tenant", long.as_bytes())]);
        let mut all = packets.clone();
        *all.last_mut().expect("one") = after.expect("changed");
        let all = client(&all.concat());
        assert_eq!(all.error, None);
        assert_eq!(value(&all, packets.len() - 1, "user-property.tenant"), long);
    }
}

#[test]
fn a_large_publish_keeps_its_body_and_counts_it() {
    let large = publish(5, 0, "a", &[], &[b'x'; 100_000]);
    let all = client(&[connect(5), large.clone()].concat());
    let front = large.len() - 100_000;
    let mut out = Vec::new();
    let changes = [set("user-property.tenant", b"acme")];
    Mqtt.rewrite(&all.messages[1].head, &large[..front], &HOP, &changes, &mut out)
        .expect("changed");
    out.extend_from_slice(&large[front..]);
    assert_eq!(out, publish(5, 0, "a", &[&user("tenant", "acme")], &[b'x'; 100_000]));
}

#[test]
fn what_cannot_be_changed_says_so() {
    let change = [set("user-property.tenant", b"acme")];
    for level in [3, 4] {
        assert!(changed(&[connect(level)], &change).is_err());
        assert!(changed(&[connect(level), publish(level, 0, "a", &[], b"")], &change).is_err());
    }
    assert!(changed(&[connect(5), vec![0xc0, 0]], &change).is_err());
    let long = vec![b'v'; 65_536];
    for bad in [&b"\0"[..], b"\xff", &long] {
        assert!(changed(&[connect(5)], &[set("user-property.tenant", bad)]).is_err());
    }
    assert!(changed(&[connect(5)], &[set("topic", b"x")]).is_err());
    let head = Head::whole(Kind::Push, 4);
    assert!(Mqtt.rewrite(&head, b"", &HOP, &change, &mut Vec::new()).is_err());
}
