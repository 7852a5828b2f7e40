//! Where a WebSocket server's frames end is the same however its bytes come, and whoever stops
//! at an end stands there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::http::Http;
use polyport_codecs::{Fault, Interest, Limits, Metadata, Protocol, ReplyTo, Seam, Side, Step};

/// What is known of a request that asks for a WebSocket.
fn opened() -> ReplyTo {
    let text = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let interest = Interest::default();
    let mut decoder = Http.compile(&Limits::default(), &interest).decoder(Side::Request);
    match decoder.decode(text, &mut Metadata::new(&interest)) {
        Ok(Step::Head(head)) => head.reply_to,
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((step, data)) = data.split_first() else { return };
    let new = || -> Box<dyn Seam> { Http.seam(opened()).expect("of a WebSocket") };
    let (mut whole, mut pieces, mut bytes) = (new(), new(), new());
    assert_eq!(whole.advance(data, false), data.len());
    for piece in data.chunks(usize::from(*step).max(1)) {
        assert_eq!(pieces.advance(piece, false), piece.len());
    }
    let mut ends = vec![0];
    for (at, byte) in data.iter().enumerate() {
        assert_eq!(bytes.advance(&[*byte], false), 1);
        if bytes.is_between() {
            ends.push(at + 1);
        }
    }
    assert_eq!(whole.is_between(), pieces.is_between());
    assert_eq!(whole.is_between(), bytes.is_between());
    // From anywhere, whoever stops does so at the next end there is.
    let from = usize::from(*step).min(data.len());
    let mut stops = new();
    stops.advance(&data[..from], false);
    let count = from + stops.advance(&data[from..], true);
    let next = ends.iter().copied().find(|end| *end >= from);
    assert_eq!(count, next.unwrap_or(data.len()));
    assert_eq!(stops.is_between(), next.is_some());
    if stops.is_between() {
        let mut out = Vec::new();
        stops.farewell(Fault::ShuttingDown, &mut out);
        assert_eq!(stops.advance(&out, false), out.len());
        assert!(!stops.is_between(), "its words are the last");
    }
});
