use proptest::prelude::*;

use super::call::{Call, Version, decode_reply, encode_reply};
use super::*;
use crate::error::ErrorKind;
use crate::frame::{Kind, Lease, Outcome};
use crate::testing::{Transcript, assert_splits_agree, transcript};

const WANTED: [&str; 12] = [
    "service",
    "method",
    "header.tenant",
    "header.Trace",
    "class",
    "codec",
    "timeout",
    "target-app",
    "bolt.version",
    "status",
    "kind",
    "size",
];

pub(super) const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::V2Checked];

pub(super) fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Bolt.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

pub(super) fn all_cuts(side: Side, input: &[u8]) -> Transcript {
    decode(side, &Limits::default(), input, &(0..input.len()).collect::<Vec<_>>())
}

pub(super) fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

pub(super) fn call(call: Call<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    call.encode(&mut out).expect("short");
    out
}

/// A v1 message of this type and command, without parts.
fn bare(kind: u8, command: u8) -> Vec<u8> {
    let mut out = vec![1, kind, 0, command, 1, 0, 0, 0, 7, 1];
    out.extend_from_slice(if kind == 0 { &[0, 0] } else { &[0, 0, 11, 184] });
    out.extend_from_slice(&[0; 8]);
    out
}

/// A v1 call with this header block.
pub(super) fn with_block(block: &[u8]) -> Vec<u8> {
    let mut out = bare(1, 1);
    out[16..18].copy_from_slice(&(block.len() as u16).to_be_bytes());
    out.extend_from_slice(block);
    out
}

fn reply(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_reply(ReplyTo { id: 7, token: 0 }, status, headers, b"", &mut out).expect("short");
    out
}

#[test]
fn messages_that_others_wrote_are_read() {
    // Written by the npm package sofa-bolt-node 2.0.1: a hessian2 call in version 1,
    // the response to it in version 2 with a checksum, and a heartbeat in each.
    let request = all_cuts(Side::Request, include_bytes!("fixtures/request-v1.bin"));
    assert_eq!(request.error, None);
    for (key, expected) in [
        ("service", "com.polyport.Echo:1.0"),
        ("class", "com.alipay.sofa.rpc.core.request.SofaRequest"),
        ("codec", "hessian2"),
        ("timeout", "3000"),
        ("bolt.version", "1"),
        ("kind", "request"),
    ] {
        assert_eq!(value(&request, 0, key), expected, "{key}");
    }
    let checked = include_bytes!("fixtures/response-v2-crc.bin");
    let response = all_cuts(Side::Reply, checked);
    assert_eq!((response.error, response.messages.len()), (None, 1));
    assert_eq!(response.messages[0].head.kind, Kind::Response);
    assert_eq!(response.messages[0].head.outcome, Outcome::Ok);
    let beats = include_bytes!("fixtures/heartbeats.bin");
    let beats = all_cuts(Side::Request, beats);
    let kinds: Vec<Kind> = beats.messages.iter().map(|seen| seen.head.kind).collect();
    assert_eq!((kinds, beats.error), (vec![Kind::Heartbeat; 2], None));
}

#[test]
fn a_calls_facts_are_metadata_in_either_version() {
    for (version, number) in [(Version::V1, "1"), (Version::V2, "2"), (Version::V2Checked, "2")] {
        let input = call(Call {
            id: 0xfedc_ba98,
            version,
            codec: 11,
            timeout: -1,
            headers: &[
                ("sofa_head_target_service", "com.shop.Orders:1.0"),
                ("sofa_head_method_name", "find"),
                ("sofa_head_target_app", "orders"),
                ("Tenant", "acme"),
                ("trace", ""),
            ],
            content: b"\x01\x02\x00",
            ..Call::default()
        });
        let all = all_cuts(Side::Request, &input);
        assert_eq!(all.error, None);
        for (key, expected) in [
            ("service", "com.shop.Orders:1.0"),
            ("method", "find"),
            ("target-app", "orders"),
            ("header.tenant", "acme"),
            ("class", call::REQUEST_CLASS),
            ("codec", "protobuf"),
            ("timeout", "-1"),
            ("bolt.version", number),
        ] {
            assert_eq!(value(&all, 0, key), expected, "{version:?} {key}");
        }
        let seen = &all.messages[0];
        assert_eq!((seen.head.kind, seen.head.reply_to.id), (Kind::Request, 0xfedc_ba98));
        assert_eq!(seen.bytes, input);
    }
}

#[test]
fn the_header_service_goes_before_the_target_and_nothing_is_no_name() {
    for (headers, expected) in [
        (&[("sofa_head_target_service", "b"), ("service", "a")][..], "a"),
        (&[("service", "a"), ("sofa_head_target_service", "b")], "a"),
        (&[("service", ""), ("sofa_head_target_service", "b")], "b"),
        (&[("service", "a"), ("service", "c")], "c"),
        (&[], ""),
    ] {
        let all = all_cuts(Side::Request, &call(Call { headers, ..Call::default() }));
        assert_eq!(value(&all, 0, "service"), expected, "{headers:?}");
    }
}

#[test]
fn what_a_message_is_for_is_in_its_type_and_command() {
    use Side::{Reply, Request};
    for (kind, command, side, expected) in [
        (1, 1, Request, Kind::Request),
        (2, 1, Request, Kind::Oneway),
        (0, 2, Reply, Kind::Response),
        (0, 2, Request, Kind::Response),
        (1, 0, Request, Kind::Heartbeat),
        (1, 0, Reply, Kind::Heartbeat),
        (0, 0, Request, Kind::HeartbeatReply),
        (0, 0, Reply, Kind::HeartbeatReply),
        (1, 100, Reply, Kind::GoAway),
        (2, 100, Request, Kind::GoAway),
        (0, 100, Reply, Kind::GoAway),
        // A server that calls its client.
        (1, 1, Reply, Kind::Push),
        (2, 1, Reply, Kind::Push),
    ] {
        let all = all_cuts(side, &bare(kind, command));
        assert_eq!(all.error, None);
        assert_eq!(all.messages[0].head.kind, expected, "{kind} {command} {side:?}");
    }
}

#[test]
fn what_is_no_message_is_refused_at_the_byte_that_says_so() {
    for (input, offset) in [
        (&b"\x03"[..], 0),
        (b"GET / HTTP/1.1\r\n", 0),
        (b"\x01\x03", 1),
        (b"\x01\x01\x01", 2),
        (b"\x01\x01\x00\x03", 2),
        (b"\x02\x00", 1),
        (b"\x02\x03\x01", 1),
        (b"\x02\x01\x03", 2),
        (b"\x02\x02\x01\x00\x65", 3),
    ] {
        let error = all_cuts(Side::Request, input).error.expect("refused");
        assert_eq!((error.kind, error.offset), (ErrorKind::Malformed, offset));
        assert!(matches!(Bolt.probe(input), Probe::No), "{}", input.escape_ascii());
    }
}

#[test]
fn the_first_four_or_five_bytes_decide() {
    for (input, decided) in
        [(bare(1, 1), 4), (call(Call { version: Version::V2, ..Call::default() }), 5)]
    {
        for end in 0..input.len() {
            match Bolt.probe(&input[..end]) {
                Probe::Maybe { need } => {
                    assert!(end < decided && need > end && need <= decided)
                }
                Probe::Yes { confidence } => assert!(end >= decided && confidence == CERTAIN),
                Probe::No => panic!("{end}"),
            }
        }
    }
}

#[test]
fn versions_may_alternate_on_a_connection() {
    let mut input = Vec::new();
    for id in 0..9 {
        let version = VERSIONS[id as usize % 3];
        let tenant = [("tenant", "acme")];
        input.extend(call(Call { id, version, headers: &tenant, ..Call::default() }));
    }
    let all = all_cuts(Side::Request, &input);
    assert_eq!((all.error, all.unread), (None, 0));
    let ids: Vec<u64> = all.messages.iter().map(|seen| seen.head.reply_to.id).collect();
    assert_eq!(ids, (0..9).collect::<Vec<_>>());
}

#[test]
fn lengths_are_unsigned() {
    let (name, text) = ("n".repeat(40_000), "v".repeat(20_000));
    let class = "c".repeat(40_000);
    let input = call(Call {
        class: &class,
        headers: &[(&name, &text), ("tenant", "acme")],
        ..Call::default()
    });
    let limits = Limits { whole: 200_000, ..Limits::default() };
    let all = decode(Side::Request, &limits, &input, &[1, 20, 30_000, 70_000]);
    assert_eq!((all.error.clone(), all.messages.len()), (None, 1));
    assert_eq!(value(&all, 0, "header.tenant"), "acme");
    assert_eq!(value(&all, 0, "class"), class);
}

#[test]
fn a_null_name_or_value_keeps_its_place() {
    let null = b"\xff\xff\xff\xff";
    let block = [&null[..], b"\0\0\0\x01x\0\0\0\x06tenant", null, b"\0\0\0\x07service\0\0\0\x01a"];
    let all = all_cuts(Side::Request, &with_block(&block.concat()));
    assert_eq!(all.error, None);
    assert_eq!((value(&all, 0, "header.tenant"), value(&all, 0, "service")), ("", "a"));
    // The last value counts, null as well.
    let twice = [&b"\0\0\0\x07service\0\0\0\x01a\0\0\0\x07service"[..], null].concat();
    assert_eq!(value(&all_cuts(Side::Request, &with_block(&twice)), 0, "service"), "");
}

#[test]
fn a_broken_header_block_is_answered_where_somebody_looks() {
    let input = with_block(b"\0\0\0\x09service");
    let error = all_cuts(Side::Request, &input).error.expect("refused");
    assert_eq!((error.kind, error.offset), (ErrorKind::Malformed, 22));
    let mut out = Vec::new();
    Bolt.reject(&error, &mut out);
    let reply = decode_reply(&out).expect("a reply");
    assert_eq!((reply.id, reply.status), (7, 9));
    // Nobody looks: its framing is all right.
    let interest = Interest::nothing();
    let codec = Bolt.compile(&Limits::default(), &interest);
    let all = transcript(codec.as_ref(), &interest, Side::Request, &input, &[]);
    assert_eq!((all.error, all.messages.len()), (None, 1));
}

#[test]
fn no_spelling_of_a_name_passes_a_rule_that_the_server_reads_as_another() {
    for headers in
        [[("service", "secret"), ("Service", "public")], [("Tenant", "a"), ("tenant", "b")]]
    {
        let input = call(Call { headers: &headers, ..Call::default() });
        let error = all_cuts(Side::Request, &input).error.expect("refused");
        assert_eq!(error.kind, ErrorKind::Malformed, "{headers:?}");
    }
    let unwanted = [("Other", "a"), ("other", "b")];
    assert_eq!(
        all_cuts(Side::Request, &call(Call { headers: &unwanted, ..Call::default() })).error,
        None
    );
}

#[test]
fn a_checksum_is_checked_and_follows_the_id() {
    let input =
        call(Call { id: 1, version: Version::V2Checked, content: b"42", ..Call::default() });
    for at in 6..input.len() {
        let mut broken = input.clone();
        broken[at] ^= 0x10;
        // A length or a switch that is wrong makes it a message of another size, or one too large.
        let all = all_cuts(Side::Request, &broken);
        let error = all.error;
        assert!(error.is_some() || !all.messages[0].ended || at == 11, "byte {at}");
        if !(11..24).contains(&at) {
            let error = error.expect("refused");
            assert_eq!(error.kind, ErrorKind::Malformed);
            let mut out = Vec::new();
            Bolt.reject(&error, &mut out);
            assert!(out.is_empty(), "an id that may be wrong is not answered");
        }
    }
    let mut changed = input.clone();
    Bolt.set_correlation(&mut changed, 0xffff_ffff_0102_0304);
    let all = all_cuts(Side::Request, &changed);
    assert_eq!((all.error, all.messages[0].head.reply_to.id), (None, 0x0102_0304));
    let same = |range: std::ops::Range<usize>| changed[range.clone()] == input[range];
    assert!(same(0..6) && same(10..input.len() - 4));
}

#[test]
fn the_id_is_all_that_changes_without_a_checksum() {
    for (version, at) in [(Version::V1, 5), (Version::V2, 6)] {
        let input = call(Call { id: 1, version, content: b"42", ..Call::default() });
        let mut changed = input.clone();
        Bolt.set_correlation(&mut changed, 0x0102_0304);
        assert_eq!(changed[at..at + 4], [1, 2, 3, 4]);
        assert_eq!((&changed[..at], &changed[at + 4..]), (&input[..at], &input[at + 4..]));
    }
}

#[test]
fn the_switch_means_nothing_where_the_version_byte_is_1() {
    // As SOFABolt's own: its clients set the switch whatever the version.
    let mut input = call(Call { version: Version::V2, ..Call::default() });
    (input[1], input[11]) = (1, 1);
    let all = all_cuts(Side::Request, &input.repeat(2));
    assert_eq!((all.error, all.messages.len(), all.unread), (None, 2, 0));
}

#[test]
fn a_large_message_is_a_head_and_a_length() {
    let content = vec![b'x'; 200_000];
    for version in [Version::V1, Version::V2] {
        let headers = [("service", "a")];
        let input = call(Call { version, headers: &headers, content: &content, ..Call::default() });
        let interest = Interest::of(WANTED);
        let codec = Bolt.compile(&Limits::default(), &interest);
        let mut meta = crate::Metadata::new(&interest);
        let step = codec.decoder(Side::Request).decode(&input, &mut meta);
        let Ok(crate::Step::Head(head)) = step else { panic!("{step:?}") };
        assert_eq!(head.body, crate::Body::Length(200_000));
        let all = decode(Side::Request, &Limits::default(), &input, &[1, 100, 70_000]);
        assert_eq!(value(&all, 0, "service"), "a");
        assert_eq!(all.messages[0].bytes, input);
    }
}

#[test]
fn a_large_message_with_a_checksum_is_gathered_whole_up_to_a_bound() {
    let content = vec![b'x'; 200_000];
    let version = Version::V2Checked;
    let input = call(Call { version, content: &content, ..Call::default() });
    let all = decode(Side::Request, &Limits::default(), &input, &[1, 100, 70_000]);
    assert_eq!(all.error, None);
    assert_eq!(all.messages[0].head.lease, Lease::Once);
    let mut declared = call(Call { id: 7, version, ..Call::default() });
    declared[20..24].copy_from_slice(&(16u32 << 20).to_be_bytes());
    let error = all_cuts(Side::Request, &declared).error.expect("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let mut out = Vec::new();
    Bolt.reject(&error, &mut out);
    let reply = decode_reply(&out).expect("a reply with a checksum");
    assert_eq!((reply.id, reply.status), (7, 9));
    // The same size without one is streamed.
    declared[11] = 0;
    let interest = Interest::nothing();
    let codec = Bolt.compile(&Limits::default(), &interest);
    let all = transcript(codec.as_ref(), &interest, Side::Request, &declared, &[]);
    assert_eq!((all.error, all.messages.len()), (None, 1));
}

#[test]
fn a_header_block_past_the_head_limit_is_refused_in_requests_and_streamed_in_replies() {
    let long = "x".repeat(600);
    let limits = Limits { whole: 64, head: 512, ..Limits::default() };
    let request = call(Call { headers: &[("a", &long)], ..Call::default() });
    let error = decode(Side::Request, &limits, &request, &[30]).error.expect("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    assert_eq!(error.reply_to.map(|to| to.id), Some(0));
    let reply = reply(0, &[("a", &long)]);
    let all = decode(Side::Reply, &limits, &reply, &[30, 60]);
    assert_eq!((all.error.clone(), all.messages[0].ended), (None, true));
}

#[test]
fn a_message_past_the_frame_limit_is_refused() {
    let mut input = bare(1, 1);
    input[18..22].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = all_cuts(Side::Request, &input).error.expect("refused");
    assert_eq!((error.kind, error.offset), (ErrorKind::TooLarge, 18));
}

#[test]
fn a_replys_outcome_is_its_status_and_what_sofa_says_of_it() {
    for (status, headers, outcome) in [
        (0, &[][..], Outcome::Ok),
        (0, &[("sofa_head_response_error", "false")][..], Outcome::Ok),
        (0, &[("a", "b"), ("sofa_head_response_error", "true")], Outcome::AppError),
        (1, &[], Outcome::ServerError),
        (2, &[], Outcome::ServerError),
        (3, &[], Outcome::ServerError),
        (4, &[], Outcome::Overloaded),
        (5, &[], Outcome::Unavailable),
        (6, &[], Outcome::AppError),
        (7, &[], Outcome::Timeout),
        (8, &[], Outcome::ServerError),
        (9, &[], Outcome::ServerError),
        (16, &[], Outcome::Unavailable),
        (17, &[], Outcome::ServerError),
        (18, &[], Outcome::AppError),
        (999, &[], Outcome::ServerError),
    ] {
        let all = all_cuts(Side::Reply, &reply(status, headers));
        assert_eq!(all.messages[0].head.outcome, outcome, "{status} {headers:?}");
        assert_eq!(value(&all, 0, "status"), status.to_string());
    }
}

#[test]
fn faults_have_their_status_in_the_version_of_the_request() {
    for version in VERSIONS {
        let input = call(Call { id: 9, version, codec: 11, ..Call::default() });
        let to = all_cuts(Side::Request, &input).messages[0].head.reply_to;
        for (fault, status) in [
            (Fault::NoRoute, 6),
            (Fault::Overloaded, 4),
            (Fault::Timeout, 7),
            (Fault::Malformed, 9),
            (Fault::TooLarge, 9),
            (Fault::Denied, 2),
            (Fault::NoHealthyEndpoint, 3),
            (Fault::ConnectFailed, 3),
            (Fault::UpstreamReset, 3),
            (Fault::Unsupported, 3),
            (Fault::ShuttingDown, 3),
        ] {
            let mut out = Vec::new();
            assert_eq!(Bolt.local_reply(to, b"", fault, "because", &mut out), After::Keep);
            let all = all_cuts(Side::Reply, &out);
            assert_eq!((all.error.clone(), value(&all, 0, "class")), (None, ""));
            assert_eq!(value(&all, 0, "codec"), "protobuf");
            assert_eq!(out[0], if version == Version::V1 { 1 } else { 2 });
            let expected = match version {
                Version::V1 => 20,
                Version::V2 => 22,
                Version::V2Checked => 26,
            };
            assert_eq!(out.len(), expected, "{version:?}: a status and nothing else");
            let reply = decode_reply(&out).expect("a reply");
            assert_eq!((reply.id, reply.status), (9, status), "{fault:?}");
        }
    }
}

#[test]
fn a_heartbeat_is_answered_with_its_id_in_its_version() {
    let input = bare(1, 0);
    let all = all_cuts(Side::Request, &input);
    let mut out = Vec::new();
    Bolt.answer(&all.messages[0].head, &input, &mut out);
    assert_eq!(out, b"\x01\0\0\0\x01\0\0\0\x07\x01\0\0\0\0\0\0\0\0\0\0");
    let checked = include_bytes!("fixtures/heartbeats.bin");
    let all = all_cuts(Side::Request, checked);
    let mut out = Vec::new();
    Bolt.answer(&all.messages[1].head, &all.messages[1].bytes, &mut out);
    let answered = all_cuts(Side::Reply, &out);
    assert_eq!(answered.error, None);
    assert_eq!(answered.messages[0].head.kind, Kind::HeartbeatReply);
    assert_eq!(answered.messages[0].head.reply_to, all.messages[1].head.reply_to);
    let mut probe = Vec::new();
    assert!(Bolt.heartbeat(u64::MAX, &mut probe));
    let all = all_cuts(Side::Request, &probe);
    assert_eq!(all.messages[0].head.kind, Kind::Heartbeat);
    assert_eq!(all.messages[0].head.reply_to.id, u64::from(u32::MAX));
}

#[test]
fn only_a_call_that_waits_for_a_reply_gets_a_rejection() {
    for (side, kind, command, answered) in [
        (Side::Request, 1, 1, true),
        (Side::Request, 2, 1, false),
        (Side::Request, 1, 0, false),
        (Side::Request, 1, 100, false),
        (Side::Request, 0, 2, false),
        (Side::Reply, 0, 2, false),
        (Side::Reply, 1, 1, false),
    ] {
        let mut message = bare(kind, command);
        let at = message.len() - 4;
        message[at..].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut out = Vec::new();
        Bolt.reject(&all_cuts(side, &message).error.expect("refused"), &mut out);
        assert_eq!(!out.is_empty(), answered, "{side:?} {kind} {command}");
    }
}

pub(super) fn any_call() -> impl Strategy<Value = Vec<u8>> {
    let headers = proptest::collection::vec(
        (
            proptest::sample::select(vec!["service", "tenant", "sofa_head_method_name", "x"]),
            "[a-z]{0,12}",
        ),
        0..4,
    );
    let content = proptest::collection::vec(any::<u8>(), 0..80);
    (any::<u32>(), 0..3usize, headers, content, any::<bool>(), "[A-Za-z.]{0,20}").prop_map(
        |(id, version, headers, content, oneway, class)| {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let version = VERSIONS[version];
            call(Call {
                id,
                version,
                headers: &headers,
                content: &content,
                oneway,
                class: &class,
                ..Call::default()
            })
        },
    )
}

proptest! {
    #[test]
    fn any_split_of_any_calls_gives_the_same_messages(
        calls in proptest::collection::vec(any_call(), 1..6),
        cuts in proptest::collection::vec(0usize..800, 0..20),
        whole in 16usize..400,
    ) {
        let input = calls.concat();
        let limits = Limits { whole, ..Limits::default() };
        let all = decode(Side::Request, &limits, &input, &cuts);
        prop_assert_eq!(&all.error, &None);
        let bytes: Vec<Vec<u8>> = all.messages.iter().map(|seen| seen.bytes.clone()).collect();
        prop_assert_eq!(bytes, calls);
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut message in any_call(),
        edits in proptest::collection::vec((0usize..60, any::<u8>()), 0..6),
        whole in 16usize..400,
    ) {
        for (at, byte) in edits {
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
        }
        let limits = Limits { whole, head: 64, ..Limits::default() };
        for side in [Side::Request, Side::Reply] {
            decode(side, &limits, &message, &[1, 3, 20, 40]);
        }
        let _ = (decode_reply(&message), rewrite::tests::changed(&message));
        Bolt.set_correlation(&mut message, 1);
    }
}

#[test]
fn a_request_says_how_long_its_sender_waits() {
    for (timeout, due) in [(3000, 3000), (0, 0), (-1, 0), (i32::MAX, i32::MAX as u32)] {
        let oneway = call(Call { timeout, oneway: true, ..Call::default() });
        for input in [call(Call { timeout, ..Call::default() }), oneway] {
            let all = decode(Side::Request, &Limits::default(), &input, &[]);
            assert_eq!(all.messages[0].head.timeout, due, "{timeout}");
        }
    }
}

#[test]
fn clients_of_version_1_are_sent_away_where_the_config_says_that_they_know_the_word() {
    let limits = Limits { bolt_go_away: true, ..Limits::default() };
    let token = |version| {
        let form = header::Form { version, ..header::Form::PLAIN };
        ReplyTo { id: 7, token: form.token() }
    };
    for (limits, version, told) in [
        (&Limits::default(), 0, false),
        (&limits, 0, true),
        (&limits, 1, false),
        (&limits, 2, false),
    ] {
        let mut out = Vec::new();
        let way = Bolt.compile(limits, &Interest::nothing()).leave(token(version), &mut out);
        assert_eq!(way == Leave::Told, told, "{version}");
        // Type 1, command 100, version 1, id 0, hessian, no timeout, nothing else.
        let words = b"\x01\x01\0\x64\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(out, if told { &words[..] } else { b"" });
        if told {
            assert_eq!(all_cuts(Side::Reply, &out).messages[0].head.kind, Kind::GoAway);
        }
    }
}
