use proptest::prelude::*;

use super::call::{Call, decode_reply, encode_exception, encode_reply};
use super::*;
use crate::error::ErrorKind;
use crate::frame::{Kind, Outcome};
use crate::testing::{Transcript, assert_splits_agree, transcript};

const WANTED: [&str; 12] = [
    "interface",
    "service",
    "path",
    "method",
    "version",
    "group",
    "dubbo.version",
    "serialization",
    "parameter-types",
    "attachment.tenant",
    "attachment.retries",
    "generic.method",
];

fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Dubbo.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

fn all_cuts(side: Side, input: &[u8]) -> Transcript {
    decode(side, &Limits::default(), input, &(0..input.len()).collect::<Vec<_>>())
}

fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

fn request(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header::write(flags, 0, 7, body, &mut out);
    out
}

const TWO_WAY_HESSIAN: u8 = 0xc2;

#[test]
fn a_calls_facts_are_metadata_down_to_its_attachments() {
    let call = Call {
        id: 1,
        interface: "com.shop.Orders",
        version: Some("1.2"),
        method: "find",
        arguments: &["42", "é漢😀"],
        attachments: &[("path", "evil"), ("interface", "evil"), ("tenant", "acme"), ("group", "g")],
        oneway: false,
    };
    let mut input = Vec::new();
    call.encode(&mut input);
    let all = all_cuts(Side::Request, &input);
    for (key, expected) in [
        ("interface", "com.shop.Orders"),
        ("service", "com.shop.Orders"),
        ("path", "com.shop.Orders"),
        ("method", "find"),
        ("version", "1.2"),
        ("dubbo.version", "2.0.2"),
        ("serialization", "hessian2"),
        ("attachment.tenant", "acme"),
        ("group", "g"),
    ] {
        assert_eq!(value(&all, 0, key), expected, "{key}");
    }
    assert_eq!(all.messages[0].head.kind, Kind::Request);
    assert_eq!(all.messages[0].head.reply_to.id, 1);
}

#[test]
fn a_service_version_may_be_null_and_attachments_may_be_numbers() {
    let mut body = b"\x052.0.2\x01S".to_vec();
    body.extend_from_slice(b"N\x01m\x02[I\x7a\x91\x92");
    body.extend_from_slice(b"H\x07retries\x93\x06tenant\x04acmeZ");
    let all = all_cuts(Side::Request, &request(TWO_WAY_HESSIAN, &body));
    assert_eq!(all.error, None);
    assert_eq!(value(&all, 0, "version"), "");
    assert_eq!(value(&all, 0, "attachment.retries"), "3");
    assert_eq!(value(&all, 0, "attachment.tenant"), "acme");
    assert_eq!(value(&all, 0, "parameter-types"), "[I");
}

#[test]
fn objects_that_an_independent_encoder_wrote_are_passed_over() {
    // Written by the npm package hessian.js 2.11.0 (EncoderV2): an object in an object,
    // one that refers to itself, a list of objects and numbers, a date, a map, bytes, text.
    for argument in [
        "430c636f6d2e73686f702e43617294046e616d6505646f6f727305707269636505696e6e65726002c3a9e6bca2945f00002fda430e636f6d2e73686f702e576865656c910473697a6561a1",
        "430d636f6d2e73686f702e4e6f646592046e616d650473656c6660016e5190",
        "5899430c636f6d2e73686f702e43617291046e616d6560016160016291c92cd511704c000000012a05f2005ffffffa244e54",
        "4a00000145900369d0",
        "480161910162e95a",
        "2568656c6c6f",
        "302878787878787878787878787878787878787878787878787878787878787878787878787878787878",
    ] {
        let hex = argument.as_bytes();
        let bytes: Vec<u8> = hex
            .chunks(2)
            .map(|pair| {
                u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")
            })
            .collect();
        let mut body = b"\x052.0.2\x01S\x011\x01m\x04Lx/;".to_vec();
        body.extend_from_slice(&bytes);
        body.extend_from_slice(b"H\x06tenant\x04acmeZ");
        let all = all_cuts(Side::Request, &request(TWO_WAY_HESSIAN, &body));
        assert_eq!(all.error, None, "{argument}");
        assert_eq!(value(&all, 0, "attachment.tenant"), "acme", "{argument}");
    }
}

#[test]
fn a_generic_call_names_what_it_really_calls() {
    let mut body = b"\x052.0.2\x01S\x011\x07$invoke".to_vec();
    crate::hessian::write::string(
        "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;",
        &mut body,
    );
    body.extend_from_slice(b"\x04find\x78\x78HZ");
    let all = all_cuts(Side::Request, &request(TWO_WAY_HESSIAN, &body));
    assert_eq!(value(&all, 0, "generic.method"), "find");
    assert_eq!(value(&all, 0, "method"), "$invoke");
}

#[test]
fn what_a_message_is_for_is_in_its_flags() {
    let cases = [
        (0xc2, &b"N"[..], Side::Reply, Kind::Request),
        (0xe2, b"N", Side::Request, Kind::Heartbeat),
        (0xa2, b"\x01R", Side::Reply, Kind::GoAway),
        (0xa6, b"\"R\"\n", Side::Reply, Kind::GoAway),
        (0xb0, b"\"R\"\r\n", Side::Reply, Kind::GoAway),
        (0xa6, b"null\n", Side::Reply, Kind::Push),
        (0xe6, b"null\n", Side::Request, Kind::Heartbeat),
        (0xa2, b"\"R\"", Side::Reply, Kind::Push),
        // Cut short: the bytes behind it are not its own.
        (0xa2, b"\x01", Side::Reply, Kind::Push),
        (0x22, b"N", Side::Reply, Kind::HeartbeatReply),
        (0x02, b"\x92", Side::Reply, Kind::Response),
        (0x82, b"\x052.0.2\x01S\x011\x01m\x00HZ", Side::Request, Kind::Oneway),
        (0xdf, b"opaque", Side::Request, Kind::Request),
    ];
    for (flags, body, side, kind) in cases {
        let interest = Interest::nothing();
        let input = [request(flags, body), b"R".to_vec()].concat();
        for limits in [Limits::default(), Limits { whole: 16, ..Limits::default() }] {
            let codec = Dubbo.compile(&limits, &interest);
            let all =
                assert_splits_agree(codec.as_ref(), &interest, side, &input, &[1, 2, 16, 17, 18]);
            assert_eq!(all.messages[0].head.kind, kind, "{flags:#x}");
        }
    }
}

#[test]
fn an_unknown_serialization_still_routes_on_the_header() {
    let all = all_cuts(Side::Request, &request(0xc0 | 29, b"\xff\xff\xff"));
    assert_eq!(all.error, None);
    assert_eq!(value(&all, 0, "serialization"), "29");
    assert_eq!(value(&all, 0, "method"), "");
}

#[test]
fn fastjson_bodies_name_their_service() {
    let body = b"\"2.0.2\"\n\"com.shop.Orders\"\n\"1\"\n\"find\"\n\"\"\n{}\n";
    let all = all_cuts(Side::Request, &request(0xc6, body));
    assert_eq!(value(&all, 0, "interface"), "com.shop.Orders");
    assert_eq!(value(&all, 0, "method"), "find");
}

#[test]
fn a_replys_outcome_is_its_status_and_first_number() {
    let mut ok = Vec::new();
    encode_reply(1, "x", &mut ok);
    let mut thrown = Vec::new();
    encode_exception(1, "x", &mut thrown);
    let status = |status: u8, body: &[u8]| {
        let mut out = Vec::new();
        header::write(2, status, 1, body, &mut out);
        out
    };
    let json = |body: &[u8]| {
        let mut out = Vec::new();
        header::write(6, 20, 1, body, &mut out);
        out
    };
    for (input, outcome) in [
        (ok, Outcome::Ok),
        (thrown, Outcome::AppError),
        (status(20, &[0x92]), Outcome::Ok),
        (status(20, &[0x95, b'H', b'Z']), Outcome::Ok),
        (status(20, &[0x93, 1, b'x', b'H', b'Z']), Outcome::AppError),
        (status(80, b"\x01x"), Outcome::ServerError),
        (status(31, b"\x01x"), Outcome::Timeout),
        (status(100, b""), Outcome::Overloaded),
        (json(b"0\n{\"message\":\"x\"}\n"), Outcome::AppError),
        (json(b"3\n{}\n{}\n"), Outcome::AppError),
        (json(b"1\n\"x\"\n"), Outcome::Ok),
        (json(b"4\n\"x\"\n{}\n"), Outcome::Ok),
        (json(b"2\n"), Outcome::Ok),
    ] {
        let all = all_cuts(Side::Reply, &input);
        assert_eq!(all.messages[0].head.outcome, outcome, "{}", input.escape_ascii());
    }
}

#[test]
fn a_body_that_is_too_large_or_broken_is_answered_to_its_id() {
    let mut large = request(TWO_WAY_HESSIAN, b"");
    large[12..16].copy_from_slice(&(9u32 << 20).to_be_bytes());
    let broken = request(TWO_WAY_HESSIAN, b"\x052.0.2\x41");
    for (input, kind) in [(large, ErrorKind::TooLarge), (broken, ErrorKind::Malformed)] {
        let error = all_cuts(Side::Request, &input).error.expect("refused");
        assert_eq!(error.kind, kind);
        let mut reply = Vec::new();
        Dubbo.reject(&error, &mut reply);
        let reply = decode_reply(&reply).expect("a reply");
        assert_eq!((reply.id, reply.status), (7, 40));
    }
    let error = all_cuts(Side::Request, b"GET / HTTP/1.1").error.expect("refused");
    let mut reply = Vec::new();
    Dubbo.reject(&error, &mut reply);
    assert!(reply.is_empty(), "nobody to answer");
}

#[test]
fn faults_have_their_status_and_never_an_empty_body() {
    let to = ReplyTo { id: 9, token: u64::from(TWO_WAY_HESSIAN) };
    for (fault, status) in [
        (Fault::NoRoute, 60),
        (Fault::Timeout, 31),
        (Fault::Overloaded, 100),
        (Fault::UpstreamReset, 80),
        (Fault::NoHealthyEndpoint, 80),
    ] {
        let mut out = Vec::new();
        assert_eq!(Dubbo.local_reply(to, b"", fault, "because", &mut out), After::Keep);
        let reply = decode_reply(&out).expect("a reply");
        assert_eq!((reply.id, reply.status), (9, status));
        assert_eq!(reply.value, Err("polyport: because".into()));
        assert_eq!(out[2] & 0xe0, 0, "a plain response");
    }
}

#[test]
fn a_heartbeat_is_answered_with_the_two_way_flag_off() {
    let input = request(0xe2, b"N");
    let all = all_cuts(Side::Request, &input);
    let mut out = Vec::new();
    Dubbo.answer(&all.messages[0].head, &input, &mut out);
    assert_eq!(out, b"\xda\xbb\x22\x14\0\0\0\0\0\0\0\x07\0\0\0\x01N");
    let mut probe = Vec::new();
    assert!(Dubbo.heartbeat(5, &mut probe));
    assert_eq!(all_cuts(Side::Request, &probe).messages[0].head.kind, Kind::Heartbeat);
}

#[test]
fn rewriting_the_id_touches_nothing_else() {
    let mut out = Vec::new();
    Call { interface: "a", method: "b", ..Call::default() }.encode(&mut out);
    let mut changed = out.clone();
    Dubbo.set_correlation(&mut changed, 0x0102_0304_0506_0708);
    assert_eq!(changed[4..12], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((&changed[..4], &changed[12..]), (&out[..4], &out[12..]));
}

#[test]
fn a_large_call_is_routed_by_what_its_front_says() {
    let big = "x".repeat(200_000);
    let mut input = Vec::new();
    Call {
        interface: "com.shop.Orders",
        method: "store",
        arguments: &[&big],
        attachments: &[("tenant", "acme")],
        ..Call::default()
    }
    .encode(&mut input);
    let all = decode(Side::Request, &Limits::default(), &input, &[1, 100, 70_000]);
    assert_eq!(value(&all, 0, "method"), "store");
    assert_eq!(value(&all, 0, "attachment.tenant"), "", "behind a large argument");
    assert_eq!(all.messages[0].bytes, input);
}

proptest! {
    #[test]
    fn any_split_of_any_calls_gives_the_same_messages(
        calls in proptest::collection::vec(("[a-z.]{1,20}", "[a-z]{0,10}", "[a-z]{0,80}", any::<bool>()), 1..5),
        cuts in proptest::collection::vec(0usize..800, 0..20),
        whole in 16usize..400,
    ) {
        let mut input = Vec::new();
        for (id, (interface, method, argument, oneway)) in calls.iter().enumerate() {
            Call { id: id as u64, interface, method, arguments: &[argument], attachments: &[("tenant", argument)], oneway: *oneway, version: None }
                .encode(&mut input);
        }
        let limits = Limits { whole, ..Limits::default() };
        let all = decode(Side::Request, &limits, &input, &cuts);
        prop_assert_eq!(all.error, None);
        prop_assert_eq!(all.messages.len(), calls.len());
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), flags in any::<u8>()) {
        let interest = Interest::of(WANTED);
        let codec = Dubbo.compile(&Limits::default(), &interest);
        for input in [request(flags, &body), body.clone()] {
            for side in [Side::Request, Side::Reply] {
                transcript(codec.as_ref(), &interest, side, &input, &[3, 20]);
            }
            let _ = decode_reply(&input);
        }
    }
}

/// A call of `a.B` without arguments, from its first string to its attachments.
fn named(version: &[u8], method: &[u8], attachments: &[u8]) -> Vec<u8> {
    [version, b"\x03a.BN", method, b"\x00", attachments].concat()
}

fn of(body: &[u8], flags: u8, interest: &Interest) -> Transcript {
    let codec = Dubbo.compile(&Limits::default(), interest);
    crate::testing::transcript(&*codec, interest, Side::Request, &request(flags, body), &[])
}

#[test]
fn no_spelling_of_a_name_passes_a_rule_that_the_server_reads_as_another() {
    let interest = Interest::of(["method"]);
    let method = |body: &[u8], flags| {
        let all = of(body, flags, &interest);
        let first = all.messages.first().map(|seen| seen.metadata.clone());
        (first.unwrap_or_default(), all.error.map(|error| error.kind))
    };
    // Overlong UTF-8, which Java reads as `admin`.
    let overlong = named(b"\x052.0.2", b"\x05\xc1\xa1dmin", b"HZ");
    assert_eq!(method(&overlong, 0xc2), (vec![], Some(ErrorKind::Malformed)));
    // Escapes, which fastjson undoes.
    let escaped = b"\"2.0.2\"\n\"a.B\"\nnull\n\"\\u0061dmin\"\n\"\"\n{}\n";
    assert_eq!(method(escaped, 0xc6), (vec![], Some(ErrorKind::Malformed)));
    // A field so long that those behind it are out of sight.
    let mut long = Vec::new();
    for _ in 0..3 {
        long.extend_from_slice(b"R\x80\x00");
        long.extend(std::iter::repeat_n(b'2', 0x8000));
    }
    long.push(0);
    let hidden = named(&long, b"\x05admin", b"HZ");
    assert_eq!(method(&hidden, 0xc2), (vec![], Some(ErrorKind::TooLarge)));
    // Surrogates, which Java writes as three bytes each, are what they mean.
    let face = named(b"\x052.0.2", b"\x02\xed\xa0\xbd\xed\xb8\x80", b"HZ");
    let want = vec![("method".to_owned(), "\u{1f600}".as_bytes().to_vec())];
    assert_eq!(method(&face, 0xc2), (want, None));
}

#[test]
fn an_attachment_whose_key_is_no_string_is_passed_over() {
    let interest = Interest::of(["attachment.tenant"]);
    let body = named(b"\x052.0.2", b"\x03say", b"H\x91\x01xN\x01y\x06tenant\x04blueZ");
    let all = of(&body, 0xc2, &interest);
    assert_eq!(all.messages[0].metadata[0].1, b"blue");
}

#[test]
fn only_a_call_that_waits_for_a_reply_gets_a_rejection() {
    for (side, flags, answered) in [
        (Side::Request, 0xc2, true),
        (Side::Request, 0x82, false),
        (Side::Request, 0xe2, false),
        (Side::Request, 0x02, false),
        (Side::Reply, 0x02, false),
    ] {
        let mut message = request(flags, b"");
        message[12..16].copy_from_slice(&(9u32 << 20).to_be_bytes());
        let interest = Interest::nothing();
        let codec = Dubbo.compile(&Limits::default(), &interest);
        let all = crate::testing::transcript(&*codec, &interest, side, &message, &[]);
        let mut out = Vec::new();
        Dubbo.reject(&all.error.unwrap(), &mut out);
        assert_eq!(!out.is_empty(), answered, "{side:?} {flags:x}");
    }
}

#[test]
fn a_limit_below_the_header_never_takes_bytes_of_the_next_message() {
    let limits = Limits { whole: 8, head: 8, ..Limits::default() };
    let input = request(0xc2, b"").repeat(2);
    let interest = Interest::nothing();
    let codec = Dubbo.compile(&limits, &interest);
    let all = crate::testing::transcript(&*codec, &interest, Side::Request, &input, &[]);
    assert_eq!(all.messages.iter().filter(|seen| seen.ended && seen.bytes.len() == 16).count(), 2);
}

#[test]
fn what_is_not_hessian_is_answered_in_its_own_writing_or_in_hessian() {
    let reply = |flags: u64| {
        let mut out = Vec::new();
        let to = ReplyTo { id: 7, token: flags };
        Dubbo.local_reply(to, b"", Fault::NoRoute, "no \"x\"\u{301}\0", &mut out);
        out
    };
    assert_eq!(reply(0xc6)[16..], *"\"polyport: no \\\"x\\\"\u{301} \"\n".as_bytes());
    // protobuf and fastjson2's JSONB are binary: a JSON line would be noise to them.
    assert_eq!((reply(0xd6)[2], reply(0xd7)[2]), (2, 2));
    let heartbeat = request(0xe6, b"null\n");
    let mut out = Vec::new();
    let mut head = crate::Head::whole(Kind::Heartbeat, heartbeat.len());
    head.reply_to.token = 0xe6;
    Dubbo.answer(&head, &heartbeat, &mut out);
    assert_eq!((out[2], &out[16..]), (0x26, &b"null\n"[..]));
}

#[test]
fn a_client_is_told_that_the_server_goes_read_only_in_words_that_it_reads() {
    let codec = Dubbo.compile(&Limits::default(), &Interest::nothing());
    for (flags, due) in [
        (0xc2, &b"\xda\xbb\xa2\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01R"[..]),
        (0xc6, b"\xda\xbb\xa6\0\0\0\0\0\0\0\0\0\0\0\0\x04\"R\"\n"),
        // Protobuf: in Hessian's, as its own servers would in doubt.
        (0xd6, b"\xda\xbb\xa2\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01R"),
    ] {
        let mut out = Vec::new();
        assert_eq!(codec.leave(ReplyTo { id: 7, token: flags }, &mut out), Leave::Told);
        assert_eq!(out, due, "{}", out.escape_ascii());
        assert_eq!(all_cuts(Side::Reply, &out).messages[0].head.kind, Kind::GoAway);
    }
}
