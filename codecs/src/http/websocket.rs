//! The frames of a WebSocket's server (RFC 6455 section 5), as far as it takes to know where
//! one ends: a close of the proxy's own may stand between any two of them, in the middle of a
//! message, too.

use crate::frame::Fault;
use crate::seam::Seam;

/// Bytes of the longest header: two, a length of eight, a mask of four.
const HEADER: usize = 14;

const CLOSE: u8 = 8;

/// The code of a close by one that goes away (section 7.4.1).
const GOING_AWAY: u16 = 1001;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a header, of which so many bytes are there; 0: between two frames.
    Header(usize),
    /// So many bytes of a payload are to come, more than 0.
    Payload(u64),
    /// The server has closed, or what it says is no frame.
    Over,
}

/// Where the server's bytes stand.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    header: [u8; HEADER],
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self { at: At::Header(0), header: [0; HEADER] }
    }

    /// What follows once the header is all there; `None`: it is not yet.
    fn whole(&self, have: usize) -> Option<At> {
        let [first, second, rest @ ..] = self.header;
        if have < 2 {
            return None;
        }
        let long = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        // Servers do not mask (section 5.1); one that does is no reason to lose count.
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if have < 2 + long + mask {
            return None;
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let length = match rest.get(..long) {
            None | Some([]) => u64::from(second & 0x7f),
            Some(bytes) => number(bytes),
        };
        Some(match (first & 0x0f, length) {
            (CLOSE, _) => At::Over,
            (_, length) if length >> 63 != 0 => At::Over,
            (_, 0) => At::Header(0),
            (_, length) => At::Payload(length),
        })
    }
}

impl Seam for Frames {
    fn advance(&mut self, bytes: &[u8], stop: bool) -> usize {
        let mut at = 0;
        while !(stop && self.is_between()) {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(byte) = rest.first() else { break };
            match self.at {
                At::Over => return bytes.len(),
                At::Payload(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    at += count;
                    self.at = match left - count as u64 {
                        0 => At::Header(0),
                        left => At::Payload(left),
                    };
                }
                At::Header(have) => {
                    if let Some(place) = self.header.get_mut(have) {
                        *place = *byte;
                    }
                    at += 1;
                    self.at = self.whole(have + 1).unwrap_or(At::Header(have + 1));
                }
            }
        }
        at
    }

    fn is_between(&self) -> bool {
        self.at == At::Header(0)
    }

    fn farewell(&self, fault: Fault, out: &mut Vec<u8>) {
        // A control frame has up to 125 bytes, which no reason comes near.
        let reason = fault.as_str().as_bytes();
        let reason = reason.get(..123).unwrap_or(reason);
        out.extend_from_slice(&[0x80 | CLOSE, reason.len() as u8 + 2]);
        out.extend_from_slice(&GOING_AWAY.to_be_bytes());
        out.extend_from_slice(reason);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as servers write it, or, with a mask, as they must not.
    fn frame(opcode: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match payload {
            0..126 => out.push(mask | payload as u8),
            126..65_536 => {
                out.push(mask | 126);
                out.extend((payload as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([1, 2, 3, 4]);
        }
        // What a payload says is nobody's business.
        out.resize(out.len() + payload, 0x88);
        out
    }

    fn one_frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![0usize..4, 120usize..130, 65_530usize..65_540];
        let opcode = prop_oneof![Just(0u8), Just(1), Just(2), Just(9), Just(10)];
        (opcode, payload, any::<bool>()).prop_map(|(code, len, masked)| frame(code, len, masked))
    }

    proptest! {
        #[test]
        fn it_stands_between_two_frames_wherever_one_ends_and_nowhere_else(
            frames in prop::collection::vec(one_frame(), 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends.last().unwrap() + frame.len());
            }
            let all = frames.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
            cuts.extend([0, all.len()]);
            cuts.extend(&ends);
            cuts.sort_unstable();
            let mut seam = Frames::new();
            for pair in cuts.windows(2) {
                prop_assert_eq!(seam.is_between(), ends.contains(&pair[0]));
                prop_assert_eq!(seam.advance(&all[pair[0]..pair[1]], false), pair[1] - pair[0]);
            }
            prop_assert!(seam.is_between());
        }

        #[test]
        fn whoever_stops_does_so_at_the_next_end_however_the_bytes_come(
            frames in prop::collection::vec(one_frame(), 1..4),
            from in any::<prop::sample::Index>(),
            step in 1usize..70_000,
        ) {
            let all = frames.concat();
            let from = from.index(all.len());
            let mut seam = Frames::new();
            seam.advance(&all[..from], false);
            let mut end = 0;
            for frame in &frames {
                if end < from {
                    end += frame.len();
                }
            }
            let mut at = from;
            while at < all.len() {
                let piece = &all[at..(at + step).min(all.len())];
                let count = seam.advance(piece, true);
                at += count;
                if count < piece.len() {
                    break;
                }
            }
            prop_assert!(seam.is_between());
            prop_assert_eq!(at, end);
            prop_assert_eq!(seam.advance(&all[at..], true), 0);
        }
    }

    #[test]
    fn every_split_of_every_sort_of_header_is_the_same() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for masked in [false, true] {
                let all = [frame(1, payload, masked), frame(9, 3, false)].concat();
                let first = all.len() - 5;
                for cut in (0..20).chain(first.saturating_sub(3)..all.len()) {
                    let cut = cut.min(all.len());
                    let mut seam = Frames::new();
                    seam.advance(&all[..cut], false);
                    let ends = [0, first, all.len()];
                    assert_eq!(seam.is_between(), ends.contains(&cut), "{payload} {cut}");
                    seam.advance(&all[cut..], false);
                    assert!(seam.is_between(), "{payload} {cut}");
                }
            }
        }
    }

    #[test]
    fn after_the_servers_own_close_or_nonsense_there_is_no_place_any_more() {
        let endless = [0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        for last in [frame(CLOSE, 2, false), frame(CLOSE, 0, false), endless.to_vec()] {
            let all = [frame(1, 3, false), last, frame(1, 3, false)].concat();
            let mut seam = Frames::new();
            assert_eq!(seam.advance(&all, false), all.len());
            assert!(!seam.is_between());
            assert_eq!(seam.advance(b"\x81\0", true), 2, "what comes passes");
            assert!(!seam.is_between());
        }
    }

    #[test]
    fn the_last_words_are_one_whole_close() {
        let mut out = Vec::new();
        Frames::new().farewell(Fault::ShuttingDown, &mut out);
        assert_eq!(out, b"\x88\x0f\x03\xe9shutting down");
        let mut seam = Frames::new();
        assert_eq!((seam.advance(&out, false), seam.is_between()), (out.len(), false));
    }
}
