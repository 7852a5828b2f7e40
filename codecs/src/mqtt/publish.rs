//! PUBLISH (MQTT 5.0, section 3.3).

use super::packet::{Fixed, Version};
use super::properties::{Allowed, Properties};
use super::wire::{Bad, Reader, Text, Varint, forbidden, malformed, reason, varint};

/// What a PUBLISH says before its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publish<'a> {
    /// Empty where an alias stands for it.
    pub(super) topic: Text<'a>,
    /// 0 for QoS 0.
    pub(super) id: u16,
    pub(super) properties: Properties,
}

impl<'a> Publish<'a> {
    /// Reads one whose front, at least, is there.
    pub(super) fn read(packet: &'a [u8], fixed: &Fixed, version: Version) -> Result<Self, Bad> {
        let mut reader = Reader::new(packet, fixed.len);
        let topic = reader.topic()?;
        let id = if fixed.qos() > 0 { reader.packet_id()? } else { 0 };
        let properties = match version {
            Version::V5 => Properties::read(&mut reader, Allowed::PUBLISH)?,
            Version::V31 | Version::V311 => Properties::default(),
        };
        if topic.bytes.is_empty() && properties.alias.is_none() {
            return Err(forbidden(topic.at, "neither a topic nor an alias"));
        }
        Ok(Self { topic, id, properties })
    }
}

/// How many bytes come before the payload of a PUBLISH that is not all there:
/// `Ok(Err(need))` where so many must be there to know.
pub(super) fn front(
    buf: &[u8],
    fixed: &Fixed,
    version: Version,
    most: usize,
) -> Result<Result<usize, usize>, Bad> {
    let bounded = |len: usize| match len {
        _ if len > fixed.total => Err(malformed(fixed.len, "a field passes its packet")),
        _ if len > most => {
            let why = "topic and properties pass the head limit";
            Err(Bad { at: fixed.len, status: reason::TOO_LARGE, why })
        }
        len => Ok(len),
    };
    let Some([high, low]) = buf.get(fixed.len..fixed.len + 2) else {
        return bounded(fixed.len + 2).map(Err);
    };
    let topic = usize::from(u16::from_be_bytes([*high, *low]));
    let id = if fixed.qos() > 0 { 2 } else { 0 };
    let before = bounded(fixed.len + 2 + topic + id)?;
    if version < Version::V5 {
        return Ok(Ok(before));
    }
    let rest = buf.get(before..).unwrap_or_default();
    match varint(rest) {
        Varint::Is { value, len } => bounded(before + len + value).map(Ok),
        Varint::Short => bounded(before + rest.len() + 1).map(Err),
        Varint::Endless => Err(malformed(before, "a property length of more than four bytes")),
    }
}
