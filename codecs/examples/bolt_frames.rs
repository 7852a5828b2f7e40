//! Whole SOFABolt messages from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example bolt_frames`

use bytes::BytesMut;
use polyport_codecs::bolt::Bolt;
use polyport_codecs::bolt::call::{Call, Version};
use polyport_codecs::tokio_codec::MessageCodec;
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut calls = Vec::new();
    // Both versions may come on one connection.
    for (id, version) in [(1, Version::V1), (2, Version::V2Checked)] {
        let headers = &[("service", "com.shop.Orders:1.0"), ("sofa_head_method_name", "find")];
        Call { id, version, headers, content: b"\"42\"", ..Call::default() }.encode(&mut calls)?;
    }
    let interest = Interest::of(["service", "method", "codec", "bolt.version"]);
    let codec = Bolt.compile(&Limits::default(), &interest);
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
