//! A broker without subscribers: accepts every client and acknowledges every PUBLISH.

use crate::load::mqtt::{CONNACK, PUBACK};

/// One packet in, what it asks for out.
pub fn serve(buf: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let [first, len, rest @ ..] = buf else { return Ok(0) };
    if *len > 127 {
        return Err("packets of more than 127 bytes are not served");
    }
    let len = usize::from(*len);
    let Some(packet) = rest.get(..len) else { return Ok(0) };
    match *first {
        0x10 => out.extend_from_slice(&CONNACK),
        // PUBLISH of QoS 1, sent once.
        0x32 => {
            let [high, low, rest @ ..] = packet else { return Err("a PUBLISH without a topic") };
            let topic = usize::from(u16::from_be_bytes([*high, *low]));
            let id = rest.get(topic..topic + 2).ok_or("a PUBLISH without a packet id")?;
            out.extend_from_slice(&PUBACK);
            out.extend_from_slice(id);
        }
        // PINGREQ
        0xc0 => out.extend_from_slice(&[0xd0, 0]),
        // DISCONNECT
        0xe0 => {}
        _ => return Err("not a packet that publishers of QoS 1 send"),
    }
    Ok(2 + len)
}
