//! Whole Http messages from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example http_frames`

use bytes::BytesMut;
use polyport_codecs::http::Http;
use polyport_codecs::tokio_codec::{MessageCodec, StreamError};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), StreamError> {
    let interest = Interest::of(["method", "path", "host", "query.page"]);
    let codec = Http.compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, 1 << 20);
    // On a connection this is tokio_util::codec::Framed's work.
    let mut input = BytesMut::from(&b"POST /shop?page=2 HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]);
    while let Some(message) = messages.decode(&mut input)? {
        println!("{:?}, {} bytes", message.head.kind, message.bytes.len());
        for (key, value) in &message.metadata {
            println!("  {key} = {}", value.escape_ascii());
        }
    }
    Ok(())
}
