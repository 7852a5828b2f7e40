//! Whole Thrift messages from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example thrift_frames`

use bytes::BytesMut;
use polyport_codecs::thrift::Thrift;
use polyport_codecs::thrift::call::{Encoding, Message, Transport, text_field};
use polyport_codecs::tokio_codec::{MessageCodec, StreamError};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), StreamError> {
    let interest = Interest::of(["service", "method", "transport", "encoding"]);
    let codec = Thrift.compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, 1 << 20);
    // On a connection this is tokio_util::codec::Framed's work.
    let mut bytes = Vec::new();
    for (transport, encoding) in
        [(Transport::Framed, Encoding::Binary), (Transport::Unframed, Encoding::Compact)]
    {
        let mut body = Vec::new();
        text_field(encoding, 1, b"42", &mut body);
        let name = b"Orders:find";
        Message { transport, encoding, kind: 1, name, seqid: 7, headers: &[], body: &body }
            .encode(&mut bytes);
    }
    let mut input = BytesMut::from(&bytes[..]);
    while let Some(message) = messages.decode(&mut input)? {
        println!("{:?}, {} bytes", message.head.kind, message.bytes.len());
        for (key, value) in &message.metadata {
            println!("  {key} = {}", value.escape_ascii());
        }
    }
    Ok(())
}
