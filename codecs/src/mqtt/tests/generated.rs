//! Any packets, cut anywhere.

use proptest::prelude::*;

use super::*;
use crate::testing::transcript;

/// One packet a client may send, from a few numbers and names.
fn any_packet(level: u8, choice: u8, name: &str, flags: u8, len: usize) -> Vec<u8> {
    let qos = flags % 3;
    let dup = if qos > 0 { flags & 8 } else { 0 };
    match choice % 6 {
        0 => unsubscribe(level, &[name, "+/x"]),
        1 => subscribe(level, &[(name, qos), ("$share/g/#", 1)]),
        2 => vec![0x40 | (flags % 4) << 4, 2, 0, 1].into_iter().map(pubrel).collect(),
        3 => vec![0xc0, 0],
        _ => {
            let tenant = user("tenant", name);
            let alias = [0x23, 0, 1];
            let all: &[&[u8]] = if flags & 16 == 0 { &[&tenant] } else { &[&alias] };
            publish(level, dup | qos << 1 | flags & 1, name, all, &vec![b'x'; len])
        }
    }
}

fn pubrel(byte: u8) -> u8 {
    if byte == 0x60 { 0x62 } else { byte }
}

proptest! {
    #[test]
    fn any_split_of_any_packets_gives_the_same_messages(
        level in 3u8..=5,
        packets in proptest::collection::vec((any::<u8>(), "[a-z/]{1,40}", any::<u8>(), 0usize..300), 0..8),
        cuts in proptest::collection::vec(0usize..1200, 0..20),
        whole in 2usize..300,
    ) {
        let mut input = connect(level);
        for (choice, name, flags, len) in &packets {
            input.extend(any_packet(level, *choice, name, *flags, *len));
        }
        let limits = Limits { whole, ..Limits::default() };
        let all = decode(Side::Request, &limits, &input, &cuts);
        prop_assert_eq!(all.error, None);
        prop_assert_eq!(all.messages.len(), packets.len() + 1);
        prop_assert_eq!(all.unread, 0);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_messages(
        level in 3u8..=5,
        first in any::<u8>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(0usize..250, 0..8),
    ) {
        let limits = Limits { whole: 32, head: 128, ..Limits::default() };
        let input = [connect(level), packet(first, &[&bytes])].concat();
        decode(Side::Request, &limits, &input, &cuts);
        decode(Side::Reply, &limits, &packet(first, &[&bytes]), &cuts);
        decode(Side::Reply, &limits, &bytes, &cuts);
    }

    #[test]
    fn every_byte_changed_in_a_connect_is_a_packet_or_an_error(
        level in 3u8..=5,
        changes in proptest::collection::vec((0usize..60, any::<u8>()), 1..4),
    ) {
        let will = properties(level, &[]);
        let mut input = connect_with(
            level,
            0xee,
            &[&user("tenant", "acme")],
            &[&will, &text("lost"), &text("gone"), &text("u"), &text("p")],
        );
        for (at, byte) in changes {
            if let Some(place) = input.get_mut(at) {
                *place = byte;
            }
        }
        let interest = Interest::everything(WANTED);
        let codec = Mqtt.compile(&Limits::default(), &interest);
        let all = transcript(codec.as_ref(), &interest, Side::Request, &input, &[]);
        if let Some(error) = all.error {
            Mqtt.reject(&error, &mut Vec::new());
        }
    }
}
