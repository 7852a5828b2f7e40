//! Any split of any bytes gives the same messages; nothing panics.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::testing::assert_splits_agree;
use polyport_codecs::tls::Tls;
use polyport_codecs::{Interest, Limits, Protocol, Side};

fuzz_target!(|data: &[u8]| {
    let [side, a, b, c, d, input @ ..] = data else { return };
    let side = if side & 1 == 0 { Side::Request } else { Side::Reply };
    let interest = Interest::of(Tls.keys().iter().map(|key| key.name));
    // A small bound, so that short inputs reach it.
    let limits = Limits { head: 512, ..Limits::default() };
    let codec = Tls.compile(&limits, &interest);
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let all = assert_splits_agree(codec.as_ref(), &interest, side, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
});
