//! Any split of any bytes gives the same messages; nothing panics. What is passed
//! on, changed or not, is one head that decodes again.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::http::Http;
use polyport_codecs::testing::{Seen, assert_decoders_agree};
use polyport_codecs::{
    Change, Codec, Decoder, Hop, Interest, Limits, Metadata, Protocol, ReplyTo, Side, Step, To,
};

/// Requests to which replies are read, each with its own rules.
const ASKED: [&[u8]; 8] = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /S/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    b"PUT / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
];

fn asked(codec: &dyn Codec, at: u8) -> ReplyTo {
    let request = ASKED[usize::from(at % 8)];
    match codec.decoder(Side::Request).decode(request, &mut Metadata::default()) {
        Ok(Step::Head(head)) => head.reply_to,
        other => panic!("{other:?}"),
    }
}

/// What is written of a head is one head, for the same kind of message.
fn passes_on(codec: &dyn Codec, side: Side, request: ReplyTo, seen: &Seen, value: &[u8]) {
    // Of a message that came in one piece the body is not told from the head here.
    let lead = seen.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let end = seen.bytes[lead..].windows(4).position(|four| four == b"\r\n\r\n");
    let Some(bytes) = end.and_then(|end| seen.bytes.get(..lead + end + 4)) else { return };
    let hop = Hop { source: Some([127, 0, 0, 1].into()), request, ..Hop::neutral(side) };
    let (mut relayed, mut changed) = (Vec::new(), Vec::new());
    Http.relay(&seen.head, bytes, &hop, &mut relayed);
    let changes = [
        Change { key: "header.x", to: To::Set(value) },
        Change { key: "header.y", to: To::Append(value) },
        Change { key: "header.a", to: To::Remove },
        Change { key: "path", to: To::Set(b"/p") },
    ];
    let changes = if side == Side::Request { &changes[..] } else { &changes[..3] };
    let could = Http.rewrite(&seen.head, bytes, &hop, changes, &mut changed).is_ok();
    let written = [Some(&relayed), could.then_some(&changed)];
    for written in written.into_iter().flatten().filter(|written| !written.is_empty()) {
        let mut decoder = codec.decoder(side);
        if side == Side::Reply {
            decoder.expect(request);
        }
        match decoder.decode(written, &mut Metadata::default()) {
            Ok(Step::Head(head)) => {
                assert_eq!((head.len, head.kind), (written.len(), seen.head.kind));
            }
            other => panic!("{other:?} of {}", written.escape_ascii()),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [way, a, b, c, d, input @ ..] = data else { return };
    let side = if way & 1 == 0 { Side::Request } else { Side::Reply };
    let stream = way & 2 != 0;
    let keys = Http.keys().iter().filter(|key| !key.family).map(|key| key.name);
    let families = ["header.x", "query.x", "cookie.x", "attachment.tenant"];
    let interest = Interest::of(keys.chain(families));
    // Small bounds, so that short inputs reach the paths of long ones.
    let limits =
        Limits { whole: 64, head: 512, request_line: 128, headers: 8, ..Limits::default() };
    let codec = Http.compile(&limits, &interest);
    let codec = codec.as_ref();
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let waits: Vec<ReplyTo> = (0..6).map(|at| asked(codec, (way >> 2).wrapping_add(at))).collect();
    let make = || -> Box<dyn Decoder> {
        if side == Side::Request {
            return if stream { codec.stream_decoder() } else { codec.decoder(side) };
        }
        let mut decoder = codec.decoder(side);
        waits.iter().for_each(|request| decoder.expect(*request));
        decoder
    };
    let all = assert_decoders_agree(&make, &interest, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
    // What is written may be longer than what was read.
    let codec = Http.compile(&Limits::default(), &Interest::nothing());
    if let Some(seen) = all.messages.first() {
        let request = if side == Side::Request { seen.head.reply_to } else { waits[0] };
        passes_on(codec.as_ref(), side, request, seen, &[*a, *b, *c, *d]);
    }
});
