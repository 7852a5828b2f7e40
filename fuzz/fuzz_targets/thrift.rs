//! Any split of any bytes gives the same messages; nothing panics.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::testing::assert_splits_agree;
use polyport_codecs::thrift::Thrift;
use polyport_codecs::{Interest, Limits, Protocol, Side};

fuzz_target!(|data: &[u8]| {
    let [side, a, b, c, d, input @ ..] = data else { return };
    let old = side & 2 != 0;
    let side = if side & 1 == 0 { Side::Request } else { Side::Reply };
    let keys = Thrift.keys().iter().filter(|key| !key.family).map(|key| key.name);
    let families = ["header.tenant"];
    let interest = Interest::of(keys.chain(families));
    // Small bounds, so that short inputs reach the paths of long ones.
    let limits = Limits { whole: 64, head: 512, thrift_old_binary: old, ..Limits::default() };
    let codec = Thrift.compile(&limits, &interest);
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let all = assert_splits_agree(codec.as_ref(), &interest, side, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
});
