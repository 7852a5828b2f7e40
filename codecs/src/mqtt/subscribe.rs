//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0, sections 3.8 and 3.10).

use super::packet::{Fixed, Packet, Version};
use super::properties::{Allowed, Properties};
use super::wire::{Bad, Reader, Text, forbidden, malformed, reason};

/// What one says before its filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) properties: Properties,
    /// How many filters there are; at least one.
    pub(super) count: u32,
    /// Where the first begins.
    pub(super) filters: usize,
}

impl Subscribe {
    /// Reads one that is all there, and every filter of it.
    pub(super) fn read(packet: &[u8], fixed: &Fixed, version: Version) -> Result<Self, Bad> {
        let mut reader = Reader::new(packet, fixed.len);
        let id = reader.packet_id()?;
        let properties = match (version, fixed.packet) {
            (Version::V5, Packet::Subscribe) => Properties::read(&mut reader, Allowed::SUBSCRIBE)?,
            (Version::V5, _) => Properties::read(&mut reader, Allowed::UNSUBSCRIBE)?,
            _ => Properties::default(),
        };
        let (filters, mut count) = (reader.at, 0);
        while !reader.is_empty() {
            Filter::read(&mut reader, fixed.packet, version)?;
            count += 1;
        }
        if count == 0 {
            return Err(forbidden(filters, "no filter"));
        }
        Ok(Self { id, properties, count, filters })
    }
}

/// A filter and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter<'a> {
    /// What it matches: without the `$share/NAME/` of a shared subscription, so
    /// that no rule about topics is passed by sharing.
    pub(super) topic: Text<'a>,
    /// The name of the shared subscription.
    pub(super) share: Option<Text<'a>>,
    /// The highest QoS wanted; 0 in UNSUBSCRIBE.
    pub(super) qos: u8,
}

impl<'a> Filter<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        packet: Packet,
        version: Version,
    ) -> Result<Self, Bad> {
        let text = reader.text()?;
        let (share, topic) = unshared(text)?;
        if !is_filter(topic.bytes) {
            let why = "a filter that is empty or has a wildcard beside other letters";
            return Err(Bad { at: topic.at, status: reason::BAD_FILTER, why });
        }
        if packet == Packet::Unsubscribe {
            return Ok(Self { topic, share, qos: 0 });
        }
        let at = reader.at;
        let options = reader.u8()?;
        // QoS; from 5.0 on also no-local, retain-as-published, retain handling.
        let defined = if version == Version::V5 { 0x3f } else { 3 };
        if options & !defined != 0 || options & 3 == 3 || options & 0x30 == 0x30 {
            return Err(malformed(at, "options that a subscription does not have"));
        }
        if share.is_some() && options & 4 != 0 {
            return Err(forbidden(at, "a shared subscription that leaves out its own"));
        }
        Ok(Self { topic, share, qos: options & 3 })
    }
}

/// The name of a shared subscription and its filter (section 4.8.2). Servers
/// share for clients of 3.1.1 too.
fn unshared(text: Text<'_>) -> Result<(Option<Text<'_>>, Text<'_>), Bad> {
    const PREFIX: &[u8] = b"$share/";
    let Some(rest) = text.bytes.strip_prefix(PREFIX) else { return Ok((None, text)) };
    let at = text.at + PREFIX.len();
    let bad = Bad { at, status: reason::BAD_FILTER, why: "a shared subscription without a name" };
    let end = memchr::memchr(b'/', rest).ok_or(bad)?;
    let (name, filter) = rest.split_at_checked(end).ok_or(bad)?;
    if name.is_empty() || memchr::memchr2(b'+', b'#', name).is_some() {
        return Err(bad);
    }
    let topic = Text { at: at + end + 1, bytes: filter.get(1..).unwrap_or_default() };
    Ok((Some(Text { at, bytes: name }), topic))
}

/// Whether `#` is the last level, if anywhere, and `+` a level of its own
/// (section 4.7.1).
fn is_filter(filter: &[u8]) -> bool {
    if filter.is_empty() {
        return false;
    }
    let mut levels = filter.split(|byte| *byte == b'/').peekable();
    while let Some(level) = levels.next() {
        let good = match level {
            b"#" => levels.peek().is_none(),
            b"+" => true,
            level => memchr::memchr2(b'+', b'#', level).is_none(),
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_alone_in_their_level() {
        for (filter, good) in [
            ("a", true),
            ("/", true),
            ("#", true),
            ("+", true),
            ("+/a/#", true),
            ("/+", true),
            ("a//b", true),
            ("", false),
            ("a#", false),
            ("#/a", false),
            ("a/b+", false),
            ("a/+b/c", false),
        ] {
            assert_eq!(is_filter(filter.as_bytes()), good, "{filter}");
        }
    }

    #[test]
    fn a_shared_filter_is_what_it_shares() {
        let shared = |text: &'static str| {
            let (share, topic) = unshared(Text { at: 2, bytes: text.as_bytes() }).ok()?;
            Some((share.map(|share| share.bytes), topic.at, topic.bytes))
        };
        assert_eq!(shared("$share/g/a/#"), Some((Some(&b"g"[..]), 11, &b"a/#"[..])));
        assert_eq!(shared("$shared/g/a"), Some((None, 2, &b"$shared/g/a"[..])));
        for bad in ["$share/", "$share/g", "$share//a", "$share/+/a"] {
            assert_eq!(shared(bad), None, "{bad}");
        }
    }
}
