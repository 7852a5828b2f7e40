use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::frame::{Kind, Lease};
use crate::testing::{Transcript, assert_splits_agree};

// What OpenSSL 3.0.19 sent: s_client -servername Shop.Example -alpn h2,http/1.1
const NAMED: &str = "\
    160301014b0100014703036006e57f7706c0a6baf862ca3cab10978b7e0169a2b97a4f50551119cb0595f3206abe\
    94fc1f7aebc7eae685553645f44ed1342e481ce8631d19e1179863bc526f003e130213031301c02cc030009fcca9\
    cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f\
    00ff010000c000000011000f00000c53686f702e4578616d706c65000b000403000102000a00160014001d001700\
    1e0019001801000101010201030104002300000010000e000c02683208687474702f312e31001600000017000000\
    0d002a0028040305030603080708080809080a080b08040805080604010501060103030301030204020502060200\
    2b0009080304030303020301002d00020101003300260024001d00208e49c7ced4dec311b9f6e8406759c1abf516\
    f363e359adf70a9f83bd55842a3b";

// s_client -noservername -tls1_2
const NAMELESS: &str = "\
    16030100b7010000b30303a9d577fb0d9205e392082421b6a4dcb6818ff75b32d1188e3db387584a9d8397000038\
    c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c\
    003d003c0035002f00ff01000052000b000403000102000a000c000a001d0017001e001900180023000000160000\
    00170000000d002a0028040305030603080708080809080a080b0804080508060401050106010303030103020402\
    05020602";

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"))
        .collect()
}

/// The answer to `input`, which must be the same however its bytes come.
fn split(input: &[u8]) -> Hello {
    let whole = client_hello(input);
    let mut need = 0;
    for end in 0..=input.len() {
        match client_hello(&input[..end]) {
            Hello::Need(more) => {
                assert!(more > end, "asked for {more} of {end}");
                need = more;
            }
            decided => {
                assert!(end >= need, "decided at {end}, asked for {need}");
                assert_eq!(decided, whole, "changed its mind after byte {end}");
                assert_eq!(client_hello(&[input, b"more"].concat()), whole);
                return whole;
            }
        }
    }
    whole
}

fn found(input: &[u8]) -> ClientHello {
    match split(input) {
        Hello::Found(hello) => hello,
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

fn refused(input: &[u8]) -> &'static str {
    match split(input) {
        Hello::Malformed(why) => why,
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

/// A vector with its length in `bytes` bytes.
fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
    [&(content.len() as u64).to_be_bytes()[8 - bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn named(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn offering(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
    extension(16, &vector(2, &list))
}

/// A hello's message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    [&[1][..], &vector(3, &[fixed, vector(2, extensions)].concat())].concat()
}

/// `message` in records of at most `size` bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &vector(2, piece)].concat()).collect()
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

fn alpn(hello: &ClientHello) -> Vec<&[u8]> {
    hello.alpn.iter().map(Vec::as_slice).collect()
}

#[test]
fn a_real_hello_tells_its_name_and_protocols() {
    let input = bytes(NAMED);
    let hello = found(&[&input[..], b"early data"].concat());
    assert_eq!(hello.len, input.len());
    assert_eq!(hello.sni.as_deref(), Some("shop.example"));
    assert_eq!(alpn(&hello), [&b"h2"[..], b"http/1.1"]);
    let input = bytes(NAMELESS);
    let hello = found(&input);
    assert_eq!((hello.len, hello.sni), (input.len(), None));
    assert!(hello.alpn.is_empty());
}

#[test]
fn a_hello_spread_over_records_says_the_same() {
    let input = bytes(NAMED);
    let message = &input[5..];
    for size in [6, 7, 16, 100, message.len() - 1, message.len()] {
        let spread = records(message, size);
        let hello = found(&spread);
        assert_eq!((hello.len, hello.sni.as_deref()), (spread.len(), Some("shop.example")));
    }
    // Its own header may be spread too.
    let ones = [records(&message[..5], 1), records(&message[5..], 100)].concat();
    assert_eq!(found(&ones).sni.as_deref(), Some("shop.example"));
    assert_eq!(refused(&records(message, 5)), "a hello in more than 64 records");
}

#[test]
fn a_hello_without_extensions_is_one() {
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    let input = records(&[&[1][..], &vector(3, &body)].concat(), 1 << 14);
    assert_eq!((found(&input).sni, found(&input).version), (None, 0x0301));
}

#[test]
fn a_name_is_a_host_name_in_one_spelling() {
    for (name, sni) in [
        (&b"Shop.Example."[..], "shop.example"),
        (b"a", "a"),
        (b"_x.xn--bcher-kva.example", "_x.xn--bcher-kva.example"),
        (b"10.0.0.1", "10.0.0.1"),
        ([b"a.".repeat(126), b"a".to_vec()].concat().as_slice(), &("a.".repeat(126) + "a")),
    ] {
        assert_eq!(found(&hello(&named(name))).sni.as_deref(), Some(sni));
    }
    for name in [
        &b""[..],
        b".",
        b"a..b",
        b".a",
        b"a..",
        b"shop.example\0.evil",
        b"user@shop",
        b"shop/..",
        b"shop example",
        b"shop\n",
        b"*.shop",
        b"b\xc3\xbccher",
        b"::1",
        b"a:80",
        &b"a".repeat(254),
    ] {
        let why = refused(&hello(&named(name)));
        assert_eq!(why, "a server name that is no host name", "{}", name.escape_ascii());
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let two = [vector(2, b"a"), vector(2, b"b")].map(|name| [&[0][..], &name].concat()).concat();
    for (extensions, why) in [
        ([named(b"a"), named(b"b")].concat(), "an extension twice"),
        ([offering(&[b"a"]), offering(&[b"a"])].concat(), "an extension twice"),
        (extension(0, &vector(2, &two)), "two server names"),
        (extension(0, &[0, 0, 0]), "bytes behind an extension"),
        (offering(&[]), "an offer of no protocols"),
        (offering(&[b"h2", b""]), "a protocol without a name"),
        (extension(0, &[0, 9, 0, 0, 1, b'a']), "a hello whose parts do not fit in it"),
        (extension(0, &[]), "a hello whose parts do not fit in it"),
        (vec![0, 0, 0, 9], "a hello whose parts do not fit in it"),
        (vec![0], "a hello whose parts do not fit in it"),
    ] {
        assert_eq!(refused(&hello(&extensions)), why);
    }
    let behind = [message(&[]), b"x".to_vec()].concat();
    assert_eq!(refused(&records(&behind, 1 << 14)), "bytes behind the hello");
    // Other kinds of names are skipped, an empty list is none.
    let other = [&[9][..], &vector(2, b"\0"), &[0], &vector(2, b"a")].concat();
    assert_eq!(found(&hello(&extension(0, &vector(2, &other)))).sni.as_deref(), Some("a"));
    assert_eq!(found(&hello(&extension(0, &[0, 0]))).sni, None);
}

#[test]
fn broken_parts_are_refused() {
    let whole = message(&named(&b"a".repeat(60)));
    let set = |at: usize, byte: u8| {
        let mut changed = whole.clone();
        changed[at] = byte;
        refused(&records(&changed, 1 << 14))
    };
    let unfit = "a hello whose parts do not fit in it";
    assert_eq!(set(4, 2), "a hello of a version that is none");
    assert_eq!(set(38, 33), "a session id of more than 32 bytes");
    assert_eq!(set(38, 200), unfit);
    assert_eq!(set(40, 1), "cipher suites that are none");
    assert_eq!(set(40, 0), "cipher suites that are none");
    assert_eq!(set(43, 0), "no compression method");
    assert_eq!(set(46, 1), "bytes behind the extensions");
    assert_eq!(set(1, 1), "a hello longer than 16384 bytes");
    let first = records(&whole[..20], 20);
    for (next, why) in [
        (&[23, 3, 1, 0, 1, 0][..], "a record of another kind inside the hello"),
        (&[22, 2, 1, 0, 1, 0], "a record of another kind inside the hello"),
        (&[22, 3, 1, 0, 0, 0], "a record of no bytes or of more than 16384"),
        (&[22, 3, 1, 0x40, 1, 0], "a record of no bytes or of more than 16384"),
    ] {
        assert_eq!(refused(&[&first[..], next].concat()), why);
    }
}

#[test]
fn a_first_byte_that_differs_decides() {
    for input in [
        &b"GET / HTTP/1.1"[..],
        b"\x15\x03\x01",
        b"\x16\x02",
        b"\x16\x03\x05",
        b"\x16\x03\x01\x41",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x02\x00\x02",
    ] {
        assert_eq!(split(input), Hello::NotTls);
        assert_eq!(Tls.probe(input), Probe::No);
        let before = &input[..input.len().min(6) - 1];
        if input[0] == 0x16 {
            assert_eq!(Tls.probe(before), Probe::Maybe { need: before.len() + 1 });
        }
    }
    assert_eq!(Tls.probe(b"\x16\x03\x01\x40\x00\x01"), Probe::Yes { confidence: CERTAIN });
}

fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(["protocol", "kind", "tls.sni", "tls.alpn"]);
    let codec = Tls.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

#[test]
fn a_session_is_one_message_a_direction_to_its_end() {
    let hello = bytes(NAMED);
    let input = [&hello[..], &[0x17; 300]].concat();
    let cuts: Vec<usize> = (0..input.len()).collect();
    let all = decode(Side::Request, &Limits::default(), &input, &cuts);
    assert_eq!((all.error, all.unread, all.messages.len()), (None, 0, 1));
    let seen = &all.messages[0];
    assert_eq!((seen.head.kind, seen.head.lease), (Kind::Request, Lease::Session));
    assert_eq!((&seen.bytes, seen.ended), (&input, true));
    let keys = ["protocol", "kind", "tls.sni", "tls.alpn"].map(String::from);
    let values = ["tls", "request", "shop.example", "h2,http/1.1"].map(|v| v.as_bytes().to_vec());
    assert_eq!(seen.metadata, keys.into_iter().zip(values).collect::<Vec<_>>());
    let all = decode(Side::Reply, &Limits::default(), b"\x16\x03\x03anything", &[1, 2, 7]);
    let seen = &all.messages[0];
    assert_eq!((seen.head.kind, seen.ended, all.messages.len()), (Kind::Response, true, 1));
}

#[test]
fn names_that_cannot_be_joined_by_commas_are_left_out() {
    let input = hello(&offering(&[b"\xfa\xfa", b"h2", b"a,b"]));
    let all = decode(Side::Request, &Limits::default(), &input, &[1]);
    assert_eq!(all.messages[0].metadata[2], ("tls.alpn".to_owned(), b"h2".to_vec()));
}

#[test]
fn a_connection_may_end_before_its_hello_but_not_inside_it() {
    let input = bytes(NAMED);
    assert_eq!(decode(Side::Request, &Limits::default(), b"", &[]).error, None);
    let error = decode(Side::Request, &Limits::default(), &input[..99], &[9]).error;
    assert_eq!(error.expect("refused").kind, ErrorKind::Truncated);
}

#[test]
fn a_hello_longer_than_the_limit_is_refused_before_it_is_there() {
    let input = bytes(NAMED);
    let limits = Limits { head: input.len() - 1, ..Limits::default() };
    let error = decode(Side::Request, &limits, &input, &[6, 100]).error.expect("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let early = decode(Side::Request, &limits, &input[..6], &[]).error.expect("refused");
    assert_eq!(early.kind, ErrorKind::TooLarge);
    assert!(LONGEST < Limits::default().head);
    let longest = message(&extension(21, &vec![0; (1 << 14) - 47]));
    assert_eq!(longest.len(), 4 + (1 << 14));
    assert_eq!(found(&records(&longest, 1 << 14)).sni, None);
}

#[test]
fn faults_are_fatal_alerts_of_the_clients_version() {
    for (fault, version, minor, description) in [
        (Fault::NoRoute, 0x0303, 3, 112),
        (Fault::Denied, 0x0301, 1, 49),
        (Fault::ConnectFailed, 0x0304, 3, 80),
        (Fault::Timeout, 0, 3, 80),
    ] {
        let mut out = Vec::new();
        let to = ReplyTo { id: 0, token: version };
        assert_eq!(Tls.local_reply(to, b"", fault, "because", &mut out), After::Close);
        assert_eq!(out, [21, 3, minor, 0, 2, 2, description]);
    }
}

#[test]
fn only_what_began_as_a_hello_is_told_why_it_was_refused() {
    let rejection = |input: &[u8]| {
        let error = decode(Side::Request, &Limits::default(), input, &[]).error.expect("refused");
        let mut out = Vec::new();
        Tls.reject(&error, &mut out);
        out
    };
    assert_eq!(rejection(&hello(&named(b"a b"))), [21, 3, 3, 0, 2, 2, 50]);
    assert_eq!(rejection(b"GET / HTTP/1.1\r\n"), b"");
}

proptest! {
    #[test]
    fn every_split_of_any_hello_gives_the_same(
        name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z0-9]{1,9}){0,3}\\.?",
        protocols in proptest::collection::vec("[a-z0-9/.]{1,9}", 1..4),
        others in proptest::collection::vec((17u16..90, proptest::collection::vec(any::<u8>(), 0..50)), 0..4),
        size in 6usize..300,
        after in proptest::collection::vec(any::<u8>(), 0..40),
        cuts in proptest::collection::vec(0usize..900, 0..20),
    ) {
        let names: Vec<&[u8]> = protocols.iter().map(String::as_bytes).collect();
        let mut extensions = named(name.as_bytes());
        for (kind, content) in &others {
            extensions.extend_from_slice(&extension(*kind, content));
        }
        extensions.extend_from_slice(&offering(&names));
        let input = records(&message(&extensions), size);
        let hello = found(&input);
        prop_assert_eq!(hello.len, input.len());
        let name = name.to_ascii_lowercase();
        prop_assert_eq!(hello.sni.as_deref(), Some(name.strip_suffix('.').unwrap_or(&name)));
        prop_assert_eq!(alpn(&hello), names);
        let input = [input, after].concat();
        let all = decode(Side::Request, &Limits::default(), &input, &cuts);
        prop_assert_eq!((all.error, &all.messages[0].bytes), (None, &input));
    }

    #[test]
    fn every_split_of_an_almost_right_hello_gives_the_same(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        size in 20usize..400,
        cuts in proptest::collection::vec(0usize..500, 0..8),
        head in 6usize..600,
    ) {
        let mut input = records(&bytes(NAMED)[5..], size);
        let at = at.index(input.len());
        input[at] = byte;
        split(&input);
        let limits = Limits { head, ..Limits::default() };
        decode(Side::Request, &limits, &input, &cuts);
    }
}
