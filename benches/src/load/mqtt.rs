//! MQTT 3.1.1 publishers: after CONNECT, one PUBLISH of QoS 1 for each PUBACK.

use super::{Dialect, Found, STAMP, stamp};

/// The server's word that the session is open: accepted, no session before.
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// What a PUBACK begins with, before the packet id.
pub const PUBACK: [u8; 2] = [0x40, 2];

const KEEP_ALIVE: u16 = 60;
const TOPIC: &[u8; 20] = b"shop/--------/orders";
const TOPIC_OF: std::ops::Range<usize> = 5..13;

/// MQTT.
#[derive(Debug, Default)]
pub struct Mqtt;

impl Mqtt {
    /// It needs nothing.
    pub const fn new() -> Self {
        Self
    }
}

/// The packet id of message `id`, never 0; it differs between connections that
/// are at the same message.
fn packet_id(conn: usize, id: u64) -> [u8; 2] {
    let number = (conn as u64).wrapping_mul(1021).wrapping_add(id) % 65_535 + 1;
    (number as u16).to_be_bytes()
}

impl Dialect for Mqtt {
    fn open(&mut self, conn: usize, out: &mut Vec<u8>) {
        // The part of the stamp that names the connection.
        let client = &stamp(conn, 0)[..12];
        out.extend_from_slice(&[0x10, (10 + 2 + client.len()) as u8, 0, 4]);
        // Level 4, a clean session.
        out.extend_from_slice(b"MQTT\x04\x02");
        out.extend_from_slice(&KEEP_ALIVE.to_be_bytes());
        out.extend_from_slice(&[0, client.len() as u8]);
        out.extend_from_slice(client);
    }

    fn opened(&mut self, buf: &[u8]) -> std::result::Result<Option<usize>, String> {
        match buf.get(..CONNACK.len()) {
            None => Ok(None),
            Some(start) if start == CONNACK => Ok(Some(CONNACK.len())),
            Some(start) => Err(format!("CONNECT was answered with {start:02x?}")),
        }
    }

    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        let text = stamp(conn, id);
        let mut topic = *TOPIC;
        topic[TOPIC_OF].copy_from_slice(&text[4..12]);
        out.extend_from_slice(&[0x32, (2 + TOPIC.len() + 2 + STAMP) as u8, 0, TOPIC.len() as u8]);
        out.extend_from_slice(&topic);
        out.extend_from_slice(&packet_id(conn, id));
        out.extend_from_slice(&text);
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        // A server acknowledges in the order of the messages (MQTT 3.1.1, 4.6).
        let Some((packet, _)) = buf.split_first_chunk::<4>() else { return Ok(Found::Part) };
        let want = packet_id(conn, next);
        if packet[..2] != PUBACK || packet[2..] != want {
            return Err(format!(
                "message {next} of connection {conn}, packet {want:02x?}, was answered with \
                 {packet:02x?}"
            ));
        }
        Ok(Found::Reply(packet.len(), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::mqtt::serve;

    #[test]
    fn the_brokers_word_on_another_message_is_refused() {
        let mut mqtt = Mqtt::new();
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let out = &mut Vec::new();
        mqtt.open(5, &mut request);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(mqtt.opened(&reply), Ok(Some(4)));
        assert_eq!(mqtt.opened(&reply[..3]), Ok(None));
        assert!(mqtt.opened(&[0x20, 2, 0, 3]).is_err(), "refused");
        request.clear();
        reply.clear();
        mqtt.request(5, 77, &mut request);
        assert_eq!(serve(&request[..40], &mut reply).unwrap(), 0);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(mqtt.reply(5, &reply, 77, out), Ok(Found::Reply(4, 77)));
        assert_eq!(mqtt.reply(5, &reply[..3], 77, out), Ok(Found::Part));
        assert!(mqtt.reply(6, &reply, 77, out).is_err(), "another connection's");
        assert!(mqtt.reply(5, &reply, 78, out).is_err(), "another message's");
    }

    #[test]
    fn packet_ids_are_never_zero() {
        assert!((65_000..67_000).all(|id| packet_id(1, id) != [0, 0]));
    }
}
