//! A broker's packets: framed, and read no further than the session needs.

use std::sync::Arc;

use super::decoder::{Plan, between_packets, refused};
use super::packet::{Fixed, Packet};
use super::properties;
use super::wire::{Bad, Text, forbidden};
use crate::codec::Decoder;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Outcome, Step};
use crate::metadata::Metadata;

/// Reads a broker's packets. It knows no version: what it reads is written alike in all.
pub(super) struct BrokerDecoder {
    plan: Arc<Plan>,
}

impl BrokerDecoder {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan }
    }

    fn step(&self, buf: &[u8], meta: &mut Metadata) -> Result<Step, Bad> {
        let fixed = match Fixed::read(buf)? {
            Ok(fixed) => fixed,
            Err(need) => return Ok(Step::Need(need)),
        };
        if !fixed.packet.is_servers() {
            return Err(forbidden(0, "a packet that no broker sends"));
        }
        let limits = &self.plan.limits;
        let topic = fixed.len + 2;
        let shown = match fixed.packet {
            _ if fixed.total <= limits.whole => fixed.total,
            // The topic comes first; it is shown in a large message as in a small one.
            Packet::Publish => match buf.get(fixed.len..topic) {
                Some([high, low]) => {
                    let end = topic + usize::from(u16::from_be_bytes([*high, *low]));
                    if end > limits.head { fixed.len } else { end }
                }
                _ => topic,
            },
            Packet::Connack => limits.head.max(topic),
            _ => fixed.len,
        };
        let shown = shown.min(fixed.total);
        if buf.len() < shown {
            return Ok(Step::Need(shown));
        }
        let packet = buf.get(..shown).unwrap_or_default();
        let kind = match fixed.packet {
            Packet::Connack => Kind::Response,
            Packet::Publish => Kind::Push,
            _ => Kind::Control,
        };
        meta.clear();
        self.plan.keys.fill(&fixed, kind, meta);
        let mut head = Head::whole(kind, shown);
        match fixed.packet {
            Packet::Publish => {
                if let Some(name) = named(packet, topic) {
                    self.plan.keys.fill_topic(name, meta);
                }
            }
            Packet::Connack => connack(packet, &fixed, &mut head),
            _ => {}
        }
        if fixed.total > shown {
            head.body = Body::Length((fixed.total - shown) as u64);
        }
        Ok(Step::Head(head))
    }
}

impl Decoder for BrokerDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        self.step(buf, meta).map_err(|bad| refused(bad, ErrorKind::Malformed))
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        between_packets(unread)
    }
}

/// The topic of a PUBLISH, where it is there and no alias stands for it.
fn named(packet: &[u8], at: usize) -> Option<Text<'_>> {
    let len = packet.get(at.checked_sub(2)?..at)?;
    let len = usize::from(u16::from_be_bytes(len.try_into().ok()?));
    let bytes = packet.get(at..at + len)?;
    (len > 0).then_some(Text { at, bytes })
}

/// How the session began, and the keep-alive that the broker wants instead.
fn connack(packet: &[u8], fixed: &Fixed, head: &mut Head) {
    head.outcome = match packet.get(fixed.len + 1) {
        Some(0) => Outcome::Ok,
        // Unavailable: before 5.0, in 5.0, and by way of another server.
        Some(3 | 0x88 | 0x9c | 0x9d) => Outcome::Unavailable,
        Some(0x89 | 0x97 | 0x9f) => Outcome::Overloaded,
        Some(0x80 | 0x83) | None => Outcome::ServerError,
        Some(_) => Outcome::AppError,
    };
    if let Some(seconds) = properties::server_keep_alive(packet, fixed.len + 2) {
        head.patience = u32::from(seconds) * 1500;
    }
}
