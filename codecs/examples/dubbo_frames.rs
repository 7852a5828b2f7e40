//! Whole Dubbo messages from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example dubbo_frames`

use bytes::BytesMut;
use polyport_codecs::dubbo::Dubbo;
use polyport_codecs::tokio_codec::{MessageCodec, StreamError};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), StreamError> {
    let mut calls = Vec::new();
    let tenant = [("tenant", "acme")];
    let interface = "com.shop.Orders";
    for method in ["find", "cancel"] {
        let arguments = ["42"];
        let (arguments, attachments) = (&arguments[..], &tenant[..]);
        let call = polyport_codecs::dubbo::call::Call {
            interface,
            method,
            arguments,
            attachments,
            ..Default::default()
        };
        call.encode(&mut calls);
    }
    let interest = Interest::of(["interface", "method", "attachment.tenant"]);
    let codec = Dubbo.compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, 1 << 20);
    // On a connection this is tokio_util::codec::Framed's work.
    let mut input = BytesMut::from(&calls[..]);
    while let Some(message) = messages.decode(&mut input)? {
        println!("{:?}, {} bytes", message.head.kind, message.bytes.len());
        for (key, value) in &message.metadata {
            println!("  {key} = {}", value.escape_ascii());
        }
    }
    Ok(())
}
