//! Any split of any bytes gives the same messages; nothing panics; and whatever was
//! changed in a message, it is a message still, with its checksum right.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::bolt::Bolt;
use polyport_codecs::testing::assert_splits_agree;
use polyport_codecs::{Change, Hop, Interest, Kind, Limits, Protocol, ReplyTo, Side, To};

fuzz_target!(|data: &[u8]| {
    let [side, a, b, c, d, input @ ..] = data else { return };
    let side = if side & 1 == 0 { Side::Request } else { Side::Reply };
    let keys = Bolt.keys().iter().filter(|key| !key.family).map(|key| key.name);
    let families = ["header.x", "header.service"];
    let interest = Interest::of(keys.chain(families));
    // Small bounds, so that short inputs reach the paths of long ones.
    let limits =
        Limits { whole: 64, head: 512, request_line: 128, headers: 8, ..Limits::default() };
    let codec = Bolt.compile(&limits, &interest);
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let all = assert_splits_agree(codec.as_ref(), &interest, side, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
    let changes = [Change { key: "header.x", to: To::Set(b"changed") }];
    let request = ReplyTo::default();
    let id = Some(u64::from(*a));
    let hop =
        Hop { id, request, ..Hop::neutral(side) };
    for seen in all.messages.iter().filter(|seen| seen.ended) {
        let mut out = Vec::new();
        if Bolt.rewrite(&seen.head, &seen.bytes, &hop, &changes, &mut out).is_err() {
            continue;
        }
        let generous = Bolt.compile(&Limits::default(), &interest);
        let again = assert_splits_agree(generous.as_ref(), &interest, side, &out, &cuts);
        let [changed] = &again.messages[..] else { panic!("{again:?}") };
        assert_eq!((&again.error, changed.head.kind), (&None, seen.head.kind));
        assert_eq!(changed.head.reply_to.id, u64::from(*a));
        if seen.head.kind == Kind::Request {
            let value = changed.metadata.iter().find(|(name, _)| name == "header.x");
            assert_eq!(value.map(|(_, value)| &value[..]), Some(&b"changed"[..]));
        }
    }
});
