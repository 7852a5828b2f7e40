use proptest::prelude::*;

use super::call::{Encoding, Message, Transport, read, text_field};
use super::*;
use crate::frame::{Body, Kind, Outcome};
use crate::mutation::To;
use crate::testing::{Transcript, assert_splits_agree, transcript};

const WANTED: [&str; 7] =
    ["service", "method", "transport", "encoding", "seqid", "size", "header.tenant"];

const TRANSPORTS: [Transport; 3] = [Transport::Framed, Transport::Unframed, Transport::Header];
const ENCODINGS: [Encoding; 2] = [Encoding::Binary, Encoding::Compact];

fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Thrift.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

fn all_cuts(side: Side, input: &[u8]) -> Transcript {
    decode(side, &Limits::default(), input, &(0..input.len()).collect::<Vec<_>>())
}

fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

fn message(transport: Transport, encoding: Encoding, kind: u8, name: &str, seqid: u32) -> Vec<u8> {
    let (mut body, mut out) = (Vec::new(), Vec::new());
    text_field(encoding, u8::from(kind == 1), b"hello", &mut body);
    let headers: &[(&[u8], &[u8])] = &[(b"Tenant", b"acme"), (b"other", b"")];
    let name = name.as_bytes();
    Message { transport, encoding, kind, name, seqid, headers, body: &body }.encode(&mut out);
    out
}

fn hop(side: Side, id: Option<u64>) -> Hop {
    Hop { id, ..Hop::neutral(side) }
}

fn head(bytes: &[u8]) -> Head {
    Head::whole(Kind::Request, bytes.len())
}

#[test]
fn a_call_is_read_in_every_transport_and_encoding() {
    for transport in TRANSPORTS {
        for encoding in ENCODINGS {
            let one = message(transport, encoding, 1, "Orders:find", 7);
            let two = message(transport, encoding, 4, "note", u32::MAX);
            let all = all_cuts(Side::Request, &[one.clone(), two].concat());
            assert_eq!(all.error, None, "{transport:?} {encoding:?}");
            assert_eq!(all.messages.len(), 2);
            assert_eq!(value(&all, 0, "service"), "Orders");
            assert_eq!(value(&all, 0, "method"), "find");
            assert_eq!(value(&all, 0, "transport"), transport.as_str());
            assert_eq!(value(&all, 0, "encoding"), encoding.as_str());
            assert_eq!(value(&all, 0, "seqid"), "7");
            assert_eq!(value(&all, 0, "size"), one.len().to_string());
            let tenant = if transport == Transport::Header { "acme" } else { "" };
            assert_eq!(value(&all, 0, "header.tenant"), tenant);
            assert_eq!(all.messages[0].head.kind, Kind::Request);
            assert_eq!(all.messages[1].head.kind, Kind::Oneway);
            assert_eq!(value(&all, 1, "service"), "");
            assert_eq!(value(&all, 1, "seqid"), "-1");
        }
    }
}

#[test]
fn an_id_is_rewritten_and_every_other_byte_stays() {
    for transport in TRANSPORTS {
        for encoding in ENCODINGS {
            for (had, given) in [(0, 1), (7, u32::MAX), (u32::MAX, 0), (1, 1 << 20)] {
                let input = message(transport, encoding, 1, "find", had);
                let mut out = Vec::new();
                Thrift.relay(
                    &head(&input),
                    &input,
                    &hop(Side::Request, Some(given.into())),
                    &mut out,
                );
                assert_eq!(out, message(transport, encoding, 1, "find", given));
                let mut back = Vec::new();
                Thrift.relay(&head(&out), &out, &hop(Side::Reply, Some(had.into())), &mut back);
                assert_eq!(back, input);
            }
        }
    }
}

#[test]
fn an_error_is_an_exception_in_the_requests_own_form() {
    for transport in TRANSPORTS {
        for encoding in ENCODINGS {
            let input = message(transport, encoding, 1, "S:find", 9);
            let all = all_cuts(Side::Request, &input);
            let seen = &all.messages[0];
            let note = seen.head.noted(&seen.bytes);
            // As the servers' own replies: clients that compare names know no service's.
            assert_eq!(note, b"find");
            for (fault, code) in [(Fault::NoRoute, 1), (Fault::Timeout, 6), (Fault::TooLarge, 7)] {
                let mut out = Vec::new();
                let to = seen.head.reply_to;
                assert_eq!(Thrift.local_reply(to, note, fault, "why", &mut out), After::Keep);
                let reply = read(&out).expect("a message");
                assert_eq!((reply.kind, reply.seqid), (3, 9));
                assert_eq!(reply.name, b"find");
                assert_eq!((reply.transport, reply.encoding), (transport, encoding));
                let wire = if encoding == Encoding::Compact { code * 2 } else { code };
                assert_eq!(reply.body[reply.body.len() - 2], wire);
                let decoded = all_cuts(Side::Reply, &out);
                let expected = if code == 1 { Outcome::AppError } else { Outcome::ServerError };
                assert_eq!(decoded.messages[0].head.outcome, expected);
            }
        }
    }
}

#[test]
fn a_replys_first_field_is_its_outcome() {
    for transport in TRANSPORTS {
        for encoding in ENCODINGS {
            for (id, outcome) in [(0, Outcome::Ok), (1, Outcome::AppError), (40, Outcome::AppError)]
            {
                let (mut body, mut out) = (Vec::new(), Vec::new());
                text_field(encoding, id, b"x", &mut body);
                let name = b"find";
                Message { transport, encoding, kind: 2, name, seqid: 1, headers: &[], body: &body }
                    .encode(&mut out);
                let all = all_cuts(Side::Reply, &out);
                assert_eq!(all.messages[0].head.outcome, outcome, "{encoding:?} field {id}");
            }
            let mut void = Vec::new();
            Message {
                transport,
                encoding,
                kind: 2,
                name: b"f",
                seqid: 1,
                headers: &[],
                body: &[0],
            }
            .encode(&mut void);
            assert_eq!(all_cuts(Side::Reply, &void).messages[0].head.outcome, Outcome::Ok);
        }
    }
}

#[test]
fn headers_are_set_and_removed_and_the_rest_stays() {
    for encoding in ENCODINGS {
        let input = message(Transport::Header, encoding, 1, "find", 3);
        let changes = [
            Change { key: "header.tenant", to: To::Set(b"other") },
            Change { key: "header.other", to: To::Remove },
            Change { key: "header.new", to: To::Set(b"x") },
        ];
        let mut out = Vec::new();
        let hop = hop(Side::Request, Some(1 << 30));
        Thrift.rewrite(&head(&input), &input, &hop, &changes, &mut out).expect("changed");
        let all = all_cuts(Side::Request, &out);
        assert_eq!(all.error, None);
        assert_eq!(value(&all, 0, "header.tenant"), "other");
        assert_eq!(value(&all, 0, "seqid"), (1 << 30).to_string());
        assert_eq!(read(&out).map(|read| read.body), read(&input).map(|read| read.body));
        assert!(!out.windows(6).any(|window| window == b"Tenant"));

        let framed = message(Transport::Framed, encoding, 1, "find", 3);
        let refused = Thrift.rewrite(&head(&framed), &framed, &hop, &changes, &mut Vec::new());
        assert!(refused.is_err());
    }
}

#[test]
fn the_old_encoding_is_read_where_it_is_allowed() {
    let limits = Limits { thrift_old_binary: true, ..Limits::default() };
    for transport in [Transport::Framed, Transport::Unframed] {
        let input = message(transport, Encoding::BinaryOld, 1, "find", 5);
        let cuts: Vec<usize> = (0..input.len()).collect();
        let all = decode(Side::Request, &limits, &input, &cuts);
        assert_eq!(all.error, None);
        assert_eq!(value(&all, 0, "encoding"), "binary-old");
        assert_eq!(value(&all, 0, "method"), "find");
        assert!(all_cuts(Side::Request, &input).error.is_some());
    }
}

#[test]
fn a_large_message_shows_its_head_and_streams_its_body() {
    let limits = Limits { whole: 200, ..Limits::default() };
    for transport in TRANSPORTS {
        for encoding in ENCODINGS {
            let (mut body, mut out) = (Vec::new(), Vec::new());
            text_field(encoding, 1, &[b'x'; 5000], &mut body);
            let name = b"put";
            Message { transport, encoding, kind: 1, name, seqid: 1, headers: &[], body: &body }
                .encode(&mut out);
            let cuts: Vec<usize> = (0..out.len()).step_by(7).collect();
            let all = decode(Side::Request, &limits, &[out.clone(), out.clone()].concat(), &cuts);
            assert_eq!(all.error, None);
            assert_eq!(all.messages.len(), 2);
            assert!(all.messages.iter().all(|seen| seen.ended && seen.bytes == out));
        }
    }
}

#[test]
fn an_unframed_message_is_bounded_by_what_its_values_say() {
    // The bound is passed by the second field, whatever comes after it.
    for (length, kind) in [(40u32, None), (41, Some(ErrorKind::TooLarge))] {
        let mut body = b"\x08\0\x01\0\0\0\0\x0b\0\x02".to_vec();
        body.extend_from_slice(&length.to_be_bytes());
        body.resize(body.len() + length as usize, b'x');
        body.push(0);
        let (transport, encoding) = (Transport::Unframed, Encoding::Binary);
        let mut input = Vec::new();
        Message { transport, encoding, kind: 1, name: b"f", seqid: 1, headers: &[], body: &body }
            .encode(&mut input);
        input.extend_from_slice(b"\x80\x01\0\x09\0\0\0\0");
        let limits = Limits { frame: 13 + 7 + 7 + 40 + 1, ..Limits::default() };
        let cuts: Vec<usize> = (0..input.len()).collect();
        let all = decode(Side::Request, &limits, &input, &cuts);
        assert_eq!(all.messages.len(), usize::from(kind.is_none()));
        // Where it passes, what follows is refused for itself.
        let due = kind.unwrap_or(ErrorKind::Malformed);
        assert_eq!(all.error.map(|error| error.kind), Some(due));
    }
}

#[test]
fn input_is_bounded() {
    let refused = |input: &[u8]| all_cuts(Side::Request, input).error.expect("refused").kind;
    // A frame beyond what peers allow, answered to its call.
    let mut huge = message(Transport::Framed, Encoding::Binary, 1, "f", 1);
    huge[..4].copy_from_slice(&17_000_000u32.to_be_bytes());
    let error = all_cuts(Side::Request, &huge).error.expect("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let mut reply = Vec::new();
    Thrift.reject(&error, &mut reply);
    assert_eq!(read(&reply).map(|reply| reply.kind), Some(3));
    // A name longer than its frame, and one longer than any.
    assert_eq!(refused(b"\0\0\0\x10\x80\x01\0\x01\0\0\0\x40"), ErrorKind::Malformed);
    assert_eq!(refused(b"\x80\x01\0\x01\x7f\0\0\0"), ErrorKind::TooLarge);
    // A value that says it is longer than a message may be is not waited for.
    let long = b"\x80\x01\0\x01\0\0\0\x01f\0\0\0\x01\x0b\0\x01\x00\xfa\0\0";
    assert_eq!(refused(long), ErrorKind::TooLarge);
    // Structs in structs without end.
    let deep = [b"\x80\x01\0\x01\0\0\0\x01f\0\0\0\x01".to_vec(), b"\x0c\0\x01".repeat(70)].concat();
    assert_eq!(refused(&deep), ErrorKind::Malformed);
    // Transforms, a reply from a client, an unknown message type.
    let mut zipped = message(Transport::Header, Encoding::Binary, 1, "f", 1);
    zipped[15] = 1;
    assert_eq!(refused(&zipped), ErrorKind::Unsupported);
    assert_eq!(
        refused(&message(Transport::Framed, Encoding::Binary, 2, "f", 1)),
        ErrorKind::Malformed
    );
    assert_eq!(refused(b"\0\0\0\x10\x80\x01\0\x05"), ErrorKind::Malformed);
}

#[test]
fn a_message_that_cannot_be_read_is_answered_in_its_own_form() {
    let changed = |transport, encoding, at: usize, to| {
        let mut bytes = message(transport, encoding, 1, "find", 9);
        bytes[at] = to;
        bytes
    };
    let (framed, unframed, header) = (Transport::Framed, Transport::Unframed, Transport::Header);
    let (binary, compact) = (Encoding::Binary, Encoding::Compact);
    // What is wrong, the sequence id answered, and the exception's type.
    let cases = [
        (changed(framed, binary, 7, 9), framed, binary, 0, 7),
        (changed(framed, binary, 10, 1), framed, binary, 0, 7),
        (changed(framed, compact, 7, 90), framed, compact, 0, 7),
        (changed(unframed, binary, 5, 1), unframed, binary, 0, 7),
        (changed(unframed, compact, 1, 0x22), unframed, compact, 0, 7),
        (changed(unframed, compact, 8, 0x1f), unframed, compact, 9, 7),
        // The size of the block comes before what it says of the encoding.
        (changed(header, compact, 12, 90), header, binary, 9, 7),
        (changed(header, binary, 15, 1), header, binary, 9, 10),
        (changed(header, compact, 15, 1), header, compact, 9, 10),
        (changed(header, compact, 14, 7), header, binary, 9, 10),
    ];
    for (input, transport, encoding, seqid, code) in cases {
        for cuts in [vec![], (0..input.len()).collect()] {
            let codec = Thrift.compile(&Limits::default(), &Interest::default());
            let interest = Interest::default();
            let error = transcript(codec.as_ref(), &interest, Side::Request, &input, &cuts).error;
            let mut out = Vec::new();
            Thrift.reject(&error.expect("refused"), &mut out);
            let reply = read(&out).unwrap_or_else(|| panic!("no reply to {input:02x?}"));
            assert_eq!((reply.kind, reply.seqid), (3, seqid), "{input:02x?}");
            assert_eq!((reply.transport, reply.encoding), (transport, encoding), "{input:02x?}");
            let wire = if encoding == compact { code * 2 } else { code };
            assert_eq!(reply.body[reply.body.len() - 2], wire, "{input:02x?}");
        }
        // Servers are not answered.
        let error = decode(Side::Reply, &Limits::default(), &input, &[]).error;
        assert!(error.is_none_or(|error| error.reply_to.is_none()));
    }
    let mut oneway = message(framed, binary, 4, "find", 9);
    oneway[10] = 1;
    let error = decode(Side::Request, &Limits::default(), &oneway, &[]).error.expect("refused");
    assert_eq!(error.reply_to, None);
}

/// Every type once, nested, in the binary encoding; and the same in compact.
fn all_types(encoding: Encoding) -> &'static [u8] {
    if encoding == Encoding::Compact {
        b"\x11\x12\x13\x05\x14\x02\x15\x80\x01\x16\x01\x17\x00\x00\x00\x00\x00\x00\x00\x00\
          \x18\x03abc\x19\x23\x01\x02\x1a\xf5\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
          \x1b\x00\x1b\x01\x88\x01k\x01v\x1c\x11\x00\x19\x2c\x00\x11\x00\x0c\xc8\x01\x00\x1d0123456789abcdef\x00"
    } else {
        b"\x02\x00\x01\x01\x03\x00\x02\x05\x06\x00\x03\x00\x01\x08\x00\x04\x00\x00\x00\x01\
          \x0a\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x04\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\
          \x0b\x00\x07\x00\x00\x00\x03abc\x0f\x00\x08\x03\x00\x00\x00\x02\x01\x02\
          \x0e\x00\x09\x08\x00\x00\x00\x01\x00\x00\x00\x07\x0d\x00\x0a\x00\x00\x00\x00\x00\x00\
          \x0d\x00\x0b\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x01k\x00\x00\x00\x01v\
          \x0c\x00\x0c\x02\x00\x01\x01\x00\x0f\x00\x0d\x0c\x00\x00\x00\x02\x00\x00\
          \x10\x00\x0e0123456789abcdef\x00"
    }
}

#[test]
fn the_walk_finds_the_end_of_every_type() {
    for encoding in ENCODINGS {
        let mut out = Vec::new();
        let body = all_types(encoding);
        Message {
            transport: Transport::Unframed,
            encoding,
            kind: 1,
            name: b"f",
            seqid: 1,
            headers: &[],
            body,
        }
        .encode(&mut out);
        let all = all_cuts(Side::Request, &[out.clone(), out.clone()].concat());
        assert_eq!(all.error, None, "{encoding:?}");
        assert_eq!(all.messages.len(), 2, "{encoding:?}");
        assert_eq!(all.messages[0].bytes, out);
        assert_eq!(all.messages[0].head.body, Body::None);
    }
}

proptest! {
    #[test]
    fn every_split_gives_the_same_messages(
        calls in prop::collection::vec(
            (0usize..3, 0usize..2, 1u8..=4, "[a-z]{0,12}(:[a-z]{1,4})?", any::<u32>()), 1..6),
        side in prop::bool::ANY,
        whole in 16usize..200,
        cuts in prop::collection::vec(0usize..600, 0..12),
    ) {
        let side = if side { Side::Request } else { Side::Reply };
        let input: Vec<u8> = calls
            .iter()
            .flat_map(|(transport, encoding, kind, name, seqid)| {
                message(TRANSPORTS[*transport], ENCODINGS[*encoding], *kind, name, *seqid)
            })
            .collect();
        decode(side, &Limits { whole, ..Limits::default() }, &input, &cuts);
    }

    #[test]
    fn no_bytes_do_harm(
        mut input in prop::collection::vec(any::<u8>(), 0..300),
        start in 0usize..4,
        cuts in prop::collection::vec(0usize..300, 0..8),
    ) {
        let start: &[u8] =
            [&b""[..], b"\x80\x01\0\x01\0\0\0\x01f\0\0\0\0", b"\x82\x21\x01\x01f", b"\0\0\x01\0\x0f\xff\0\0"][start];
        input.splice(0..0, start.iter().copied());
        decode(Side::Request, &Limits { whole: 100, ..Limits::default() }, &input, &cuts);
    }
}
