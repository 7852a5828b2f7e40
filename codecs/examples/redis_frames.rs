//! Whole Redis messages from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example redis_frames`

use bytes::BytesMut;
use polyport_codecs::redis::Redis;
use polyport_codecs::tokio_codec::{MessageCodec, StreamError};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), StreamError> {
    let interest = Interest::of(["command", "key"]);
    let codec = Redis.compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, 1 << 20);
    // On a connection this is tokio_util::codec::Framed's work.
    let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$7\r\nuser:42\r\nPING\r\n"[..]);
    while let Some(message) = messages.decode(&mut input)? {
        println!("{:?}, {} bytes", message.head.kind, message.bytes.len());
        for (key, value) in &message.metadata {
            println!("  {key} = {}", value.escape_ascii());
        }
    }
    Ok(())
}
