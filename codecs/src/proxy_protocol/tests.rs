use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The answer to `input`, which must be the same however its bytes come.
fn split(input: &[u8]) -> Found {
    let whole = read(input);
    let mut need = 0;
    for end in 0..=input.len() {
        let now = read(&input[..end]);
        match now {
            Found::Need(more) => {
                assert!(more > end, "asked for {more} of {end}");
                need = more;
            }
            decided => {
                assert!(end >= need, "decided at {end}, asked for {need}");
                assert_eq!(decided, whole, "changed its mind after byte {end}");
                // What is not looked at changes nothing.
                assert_eq!(read(&[input, b"\r\nmore"].concat()), whole);
                return whole;
            }
        }
    }
    whole
}

fn header(input: &[u8]) -> Header {
    match split(input) {
        Found::Header(header) => header,
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("an address"))
}

#[test]
fn a_line_tells_both_addresses() {
    let tcp4 = header(b"PROXY TCP4 192.168.0.1 10.0.0.255 56324 443\r\nGET / HTTP/1.1\r\n");
    assert_eq!((tcp4.len, tcp4.source), (45, address("192.168.0.1:56324")));
    assert_eq!(tcp4.destination, address("10.0.0.255:443"));
    let tcp6 = header(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
    assert_eq!(tcp6.source, address("[2001:db8::1]:1"));
    assert_eq!(tcp6.destination, address("[::1]:65535"));
}

#[test]
fn the_longest_line_that_there_can_be_is_read() {
    let ip = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {ip} {ip} 65535 65535\r\n");
    assert_eq!(header(line.as_bytes()).len, 104);
    let line = format!("PROXY UNKNOWN {ip} {ip} 65535 65535\r\n");
    assert_eq!(header(line.as_bytes()).len, 107);
    let line = format!("PROXY UNKNOWN {ip} {ip} 65535 65535 \r\n");
    assert!(matches!(split(line.as_bytes()), Found::Malformed(_)));
}

#[test]
fn unknown_tells_nothing_whatever_follows_it() {
    for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN \xff 10.0.0.1  x\r\n"] {
        assert_eq!(header(line), Header { len: line.len(), source: None, destination: None });
    }
}

#[test]
fn a_line_that_could_be_read_in_two_ways_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 1::2::3 ::1 1 2\r\n",
    ] {
        assert!(matches!(split(line.as_bytes()), Found::Malformed(_)), "{line:?}");
    }
}

#[test]
fn a_first_byte_that_differs_decides() {
    for (input, need) in [
        (&b""[..], Found::Need(1)),
        (b"P", Found::Need(2)),
        (b"POST", Found::Absent),
        (b"PROXYX", Found::Absent),
        (b"GET / HTTP/1.1\r\n", Found::Absent),
        (b"\r\n", Found::Need(3)),
        (b"\r\nINFO", Found::Absent),
        (b"\r\n\r\n\0\r\nQUIT\r", Found::Absent),
        (b"\x16\x03\x01", Found::Absent),
    ] {
        assert_eq!(split(input), need, "{}", input.escape_ascii());
    }
}

/// A header of version 2 with `block` after its fixed part.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut out = v2::SIGNATURE.to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&(block.len() as u16).to_be_bytes());
    out.extend_from_slice(block);
    out
}

const TCP4: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];

#[test]
fn a_binary_header_tells_both_addresses_and_skips_its_extensions() {
    let with = [&TCP4[..], b"\x04\x00\x02xx", b"\xea\x00\x00"].concat();
    for block in [&TCP4[..], &with] {
        let found = header(&[&binary(0x21, 0x11, block)[..], b"rest"].concat());
        assert_eq!(found.len, 16 + block.len());
        assert_eq!(found.source, address("10.0.0.1:4660"));
        assert_eq!(found.destination, address("10.0.0.2:80"));
    }
    let mut tcp6 = vec![0; 36];
    (tcp6[15], tcp6[31], tcp6[33], tcp6[35]) = (1, 2, 3, 4);
    let found = header(&binary(0x21, 0x21, &tcp6));
    assert_eq!(found.source, address("[::1]:3"));
    assert_eq!(found.destination, address("[::2]:4"));
}

#[test]
fn headers_without_addresses_of_use_are_passed_over() {
    for (command, family, len) in [
        (0x20, 0x00, 0),
        (0x20, 0x11, 12),
        (0x20, 0xff, 3),
        (0x21, 0x00, 0),
        (0x21, 0x31, 216),
        (0x21, 0x32, 216),
        (0x21, 0x12, 12),
        (0x21, 0x22, 36),
    ] {
        let found = header(&binary(command, family, &vec![0; len]));
        assert_eq!(found, Header { len: 16 + len, source: None, destination: None });
    }
}

#[test]
fn a_broken_binary_header_is_refused_as_soon_as_it_shows() {
    let zeros = [0; 216];
    for (command, family, block, seen) in [
        (0x11, 0x11, &TCP4[..], 13),
        (0x31, 0x11, &TCP4[..], 13),
        (0x22, 0x11, &TCP4[..], 13),
        (0x21, 0x41, &zeros[..], 14),
        (0x21, 0x10, &zeros[..], 14),
        (0x21, 0x13, &zeros[..], 14),
        (0x21, 0x11, &TCP4[..11], 16),
        (0x21, 0x21, &zeros[..35], 16),
        (0x21, 0x31, &zeros[..215], 16),
        (0x21, 0x11, &[&TCP4[..], &[4, 0]].concat()[..], 30),
        (0x21, 0x11, &[&TCP4[..], &[4, 0, 1]].concat()[..], 31),
        (0x21, 0x11, &[0; 4097][..], 16),
        (0x20, 0x00, &[0; 4097][..], 16),
    ] {
        let input = binary(command, family, block);
        assert!(matches!(split(&input), Found::Malformed(_)), "{command:x} {family:x}");
        assert!(matches!(read(&input[..seen]), Found::Malformed(_)), "{command:x} {family:x}");
        assert!(matches!(read(&input[..seen - 1]), Found::Need(_)), "{command:x} {family:x}");
    }
}

#[test]
fn a_checksum_must_hold() {
    let checked = |sum: [u8; 4]| {
        let block = [&TCP4[..], b"\x04\x00\x01x", &[3, 0, 4], &sum, b"\x04\x00\x00"].concat();
        binary(0x21, 0x11, &block)
    };
    let sum = checksum::crc32c([&checked([0; 4])[..]]);
    assert_eq!(header(&checked(sum.to_be_bytes())).source, address("10.0.0.1:4660"));
    for wrong in [[0; 4], (sum ^ 1).to_be_bytes(), sum.to_le_bytes()] {
        assert!(matches!(split(&checked(wrong)), Found::Malformed(_)));
    }
    for extensions in [&b"\x03\x00\x00"[..], b"\x03\x00\x05\0\0\0\0\0"] {
        let block = [&TCP4[..], extensions].concat();
        assert!(matches!(split(&binary(0x21, 0x11, &block)), Found::Malformed(_)));
    }
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6_and_read_as_they_were() {
    let source: SocketAddr = "10.0.0.1:1".parse().expect("an address");
    let destination: SocketAddr = "[2001:db8::1]:2".parse().expect("an address");
    let mut out = Vec::new();
    write(Version::V1, source, destination, &mut out);
    assert_eq!(out, b"PROXY TCP6 ::ffff:a00:1 2001:db8::1 1 2\r\n");
    for version in [Version::V1, Version::V2] {
        for (from, to) in [(source, destination), (destination, source)] {
            let mut out = Vec::new();
            write(version, from, to, &mut out);
            assert_eq!((header(&out).source, header(&out).destination), (Some(from), Some(to)));
        }
    }
    // As inet_ntop writes them.
    let dotted = header(b"PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2\r\n");
    assert_eq!(dotted.source, address("10.0.0.1:1"));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
        any::<u16>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(u128::from(bits)))),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in any_address(),
        destination in any_address(),
        first in any::<bool>(),
        after in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let version = if first { Version::V1 } else { Version::V2 };
        let mut input = Vec::new();
        write(version, source, destination, &mut input);
        let len = input.len();
        prop_assert!(len <= 107);
        input.extend_from_slice(&after);
        let found = header(&input);
        prop_assert_eq!(found, Header { len, source: Some(source), destination: Some(destination) });
    }

    #[test]
    fn every_split_of_any_bytes_gives_the_same_answer(
        signature in 0usize..3,
        rest in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let first = [&b""[..], v1::SIGNATURE, v2::SIGNATURE][signature];
        split(&[first, &rest].concat());
    }

    #[test]
    fn every_split_of_an_almost_right_header_gives_the_same_answer(
        source in any_address(),
        destination in any_address(),
        first in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let version = if first { Version::V1 } else { Version::V2 };
        let mut input = Vec::new();
        write(version, source, destination, &mut input);
        let at = at.index(input.len());
        input[at] = byte;
        split(&input);
    }
}
