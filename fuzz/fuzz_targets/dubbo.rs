//! Any split of any bytes gives the same messages; nothing panics. A call that is given
//! an attachment has it, and without it is again what it was.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::testing::{assert_splits_agree, transcript};
use polyport_codecs::dubbo::Dubbo;
use polyport_codecs::{Change, Head, Hop, Interest, Kind, Limits, Protocol, Side, To};

fuzz_target!(|data: &[u8]| {
    let [side, a, b, c, d, input @ ..] = data else { return };
    let side = if side & 1 == 0 { Side::Request } else { Side::Reply };
    let keys = Dubbo.keys().iter().filter(|key| !key.family).map(|key| key.name);
    let families = ["header.x", "query.x", "cookie.x", "attachment.tenant"];
    let interest = Interest::of(keys.chain(families));
    // Small bounds, so that short inputs reach the paths of long ones.
    let limits = Limits { whole: 64, head: 512, request_line: 128, headers: 8, ..Limits::default() };
    let codec = Dubbo.compile(&limits, &interest);
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let all = assert_splits_agree(codec.as_ref(), &interest, side, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
    if side == Side::Request {
        change(input);
    }
});

fn change(message: &[u8]) {
    let key = "attachment.added";
    let rewrite = |message: &[u8], to| {
        let head = Head::whole(Kind::Request, message.len());
        let mut out = Vec::new();
        let changes = [Change { key, to }];
        Dubbo.rewrite(&head, message, &Hop::neutral(Side::Request), &changes, &mut out).ok()?;
        Some(out)
    };
    let Some(without) = rewrite(message, To::Remove) else { return };
    let Some(with) = rewrite(&without, To::Set(b"value")) else { return };
    let interest = Interest::of([key]);
    let codec = Dubbo.compile(&Limits { whole: 1 << 20, ..Limits::default() }, &interest);
    let all = transcript(codec.as_ref(), &interest, Side::Request, &with, &[]);
    if let (None, [call]) = (&all.error, all.messages.as_slice())
        && matches!(call.head.kind, Kind::Request | Kind::Oneway)
    {
        assert_eq!(call.metadata, [(key.to_owned(), b"value".to_vec())]);
    }
    let again = rewrite(&with, To::Remove).expect("what was set can be removed");
    // Null has become an empty map.
    let null = without.last() == Some(&b'N') && again.ends_with(b"HZ");
    assert!(again == without || null, "{}", again.escape_ascii());
}
