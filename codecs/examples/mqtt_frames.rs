//! Whole MQTT packets from a stream, with the keys one wants to see.
//!
//! Run it: `cargo run -p polyport-codecs --example mqtt_frames`

use bytes::BytesMut;
use polyport_codecs::mqtt::Mqtt;
use polyport_codecs::tokio_codec::{MessageCodec, StreamError};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio_util::codec::Decoder;

fn main() -> Result<(), StreamError> {
    // CONNECT of pump-7, SUBSCRIBE to pumps/#, PUBLISH to pumps/7 at QoS 1, PINGREQ.
    let packets: [&[u8]; 4] = [
        b"\x10\x12\0\x04MQTT\x04\x02\0\x3c\0\x06pump-7",
        b"\x82\x0c\0\x01\0\x07pumps/#\x01",
        b"\x32\x0d\0\x07pumps/7\0\x02on",
        b"\xc0\0",
    ];
    let interest = Interest::of(["packet", "client-id", "topic", "qos"]);
    let codec = Mqtt.compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, 1 << 20);
    // On a connection this is tokio_util::codec::Framed's work.
    let mut input = BytesMut::from(&packets.concat()[..]);
    while let Some(message) = messages.decode(&mut input)? {
        println!("{:?}, {} bytes", message.head.kind, message.bytes.len());
        for (key, value) in &message.metadata {
            println!("  {key} = {}", value.escape_ascii());
        }
    }
    Ok(())
}
