//! Health checks: CONNECT, PINGREQ, DISCONNECT, in 3.1.1, which every broker speaks.

use super::packet::Packet;
use crate::frame::{Outcome, ReplyTo};
use crate::health::{Answered, HealthCheck, Say, Verdict, by_outcome};

/// A clean session, kept alive for 60 s, with no client-id: the broker gives one, so that
/// no two proxies ever take each other's session.
const CONNECT: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
const PINGREQ: &[u8] = b"\xc0\0";
const DISCONNECT: &[u8] = b"\xe0\0";

pub(super) struct Greeting;

impl HealthCheck for Greeting {
    fn say(&self, round: usize, _: &str, out: &mut Vec<u8>) -> Say {
        let (packet, say) = match round {
            0 => (CONNECT, Say::Ask(ReplyTo::default())),
            1 => (PINGREQ, Say::Ask(ReplyTo::default())),
            _ => (DISCONNECT, Say::Over { keep: false }),
        };
        out.extend_from_slice(packet);
        say
    }

    fn judge(&self, round: usize, answer: &Answered<'_>) -> Verdict {
        let packet = answer.bytes.first().map_or(0, |first| first >> 4);
        let expected = if round == 0 { Packet::Connack } else { Packet::Pingresp };
        if packet != expected as u8 {
            return Verdict::Ill(format!("it answers with no {}", expected.as_str()));
        }
        match answer.head.outcome {
            // A broker that lets nobody in without a name and a password is well, and hangs up.
            Outcome::AppError => Verdict::Enough,
            outcome => by_outcome(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interest, Limits, Metadata, Protocol, Side, Step};

    /// What a broker's packet is worth in `round`.
    fn verdict(round: usize, packet: &[u8]) -> Verdict {
        let codec = super::super::Mqtt.compile(&Limits::default(), &Interest::nothing());
        let step = codec.decoder(Side::Reply).decode(packet, &mut Metadata::default());
        let Ok(Step::Head(head)) = step else { panic!("{step:?}") };
        Greeting.judge(round, &Answered { head: &head, bytes: packet, body: &[] })
    }

    #[test]
    fn a_broker_is_well_when_it_lets_in_and_pongs() {
        assert_eq!(verdict(0, b"\x20\x02\0\0"), Verdict::Well);
        assert_eq!(verdict(1, b"\xd0\0"), Verdict::Well);
    }

    #[test]
    fn one_that_refuses_is_alive_and_one_that_cannot_serve_is_not() {
        for refused in [1, 2, 4, 5] {
            assert_eq!(verdict(0, &[0x20, 2, 0, refused]), Verdict::Enough);
        }
        assert!(matches!(verdict(0, b"\x20\x02\0\x03"), Verdict::Ill(_)));
        assert!(matches!(verdict(1, b"\x20\x02\0\0"), Verdict::Ill(_)));
        assert!(matches!(verdict(0, b"\xd0\0"), Verdict::Ill(_)));
    }

    #[test]
    fn what_it_says_a_broker_reads() {
        let mut said = Vec::new();
        for round in 0..3 {
            Greeting.say(round, "broker", &mut said);
        }
        let codec = super::super::Mqtt.compile(&Limits::default(), &Interest::nothing());
        let mut decoder = codec.decoder(Side::Request);
        let mut at = 0;
        while at < said.len() {
            match decoder.decode(&said[at..], &mut Metadata::default()) {
                Ok(Step::Head(head)) => at += head.len,
                other => panic!("{other:?} at {at}"),
            }
        }
    }
}
