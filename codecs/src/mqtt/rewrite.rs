//! Changing the user properties of a packet.

use super::keys::USER;
use super::packet::{Fixed, Packet, Version};
use super::properties::{Properties, USER_PROPERTY};
use super::reply::Token;
use super::wire::{LARGEST, Reader, Varint, is_text, put_text, put_varint, varint};
use crate::frame::Head;
use crate::mutation::{Change, To, Unchangeable};

/// Appends `bytes`, the head of a client's packet, with `changes` made to it.
pub(super) fn rewrite(
    head: &Head,
    bytes: &[u8],
    changes: &[Change<'_>],
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    const BROKEN: Unchangeable = Unchangeable("the packet was not read by this codec");
    let token = Token::unpack(head.reply_to.token).ok_or(BROKEN)?;
    if token.version != Some(Version::V5) {
        return Err(Unchangeable("MQTT before 5.0 has no user properties"));
    }
    let fixed = Fixed::read(bytes).ok().and_then(Result::ok).ok_or(BROKEN)?;
    let had = properties(&fixed, bytes).ok_or(BROKEN)?;
    let mut properties = Vec::with_capacity(had.end - had.start + 64);
    for property in had.each(bytes) {
        let gone = property.user.is_some_and(|(name, _)| replaced(name.bytes, changes));
        if !gone {
            properties.extend_from_slice(property.bytes);
        }
    }
    for (at, change) in changes.iter().enumerate() {
        let name = change.of(USER).ok_or(Unchangeable("only user properties can be changed"))?;
        let value = match change.to {
            To::Set(value) | To::Append(value) => value,
            To::Remove => continue,
        };
        let good = |text: &[u8]| text.len() <= usize::from(u16::MAX) && is_text(text);
        if !good(name.as_bytes()) || !good(value) {
            return Err(Unchangeable("a user property that is no text of at most 65,535 bytes"));
        }
        if !replaced(name.as_bytes(), changes.get(at + 1..).unwrap_or_default()) {
            properties.push(USER_PROPERTY);
            put_text(name.as_bytes(), &mut properties);
            put_text(value, &mut properties);
        }
    }
    // All that the packet has around its properties stays.
    let mut length = Vec::with_capacity(4);
    put_varint(properties.len().min(LARGEST), &mut length);
    let rest = fixed.total - fixed.len - (had.end - had.at);
    let remaining = rest + length.len() + properties.len();
    if remaining > LARGEST {
        return Err(Unchangeable("the packet would be larger than MQTT allows"));
    }
    out.extend(bytes.first());
    put_varint(remaining, out);
    out.extend_from_slice(bytes.get(fixed.len..had.at).ok_or(BROKEN)?);
    out.extend_from_slice(&length);
    out.extend_from_slice(&properties);
    out.extend_from_slice(bytes.get(had.end..).ok_or(BROKEN)?);
    Ok(())
}

/// Whether a value of `name` gives way to one of `changes`.
fn replaced(name: &[u8], changes: &[Change<'_>]) -> bool {
    changes.iter().any(|change| {
        !matches!(change.to, To::Append(_))
            && change.of(USER).is_some_and(|other| other.as_bytes().eq_ignore_ascii_case(name))
    })
}

/// Where the properties of a packet are that the decoder has let pass.
fn properties(fixed: &Fixed, packet: &[u8]) -> Option<Properties> {
    let mut reader = Reader::new(packet, fixed.len);
    match fixed.packet {
        Packet::Connect => {
            // Name, level, flags, keep-alive.
            reader.binary().ok()?;
            reader.take(4).ok()?;
        }
        Packet::Publish => {
            reader.binary().ok()?;
            if fixed.qos() > 0 {
                reader.u16().ok()?;
            }
        }
        Packet::Subscribe | Packet::Unsubscribe => {
            reader.u16().ok()?;
        }
        _ => return None,
    }
    let at = reader.at;
    match varint(packet.get(at..)?) {
        Varint::Is { value, len } => Some(Properties::lying(at, at + len, at + len + value)),
        Varint::Short | Varint::Endless => None,
    }
}
