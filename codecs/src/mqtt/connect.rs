//! CONNECT, which opens a session (MQTT 5.0, section 3.1).

use super::packet::{Fixed, Version};
use super::properties::{Allowed, Properties};
use super::wire::{Bad, Reader, Text, forbidden, malformed, reason, varint_len};

/// What a CONNECT says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connect<'a> {
    pub(super) version: Version,
    pub(super) clean_start: bool,
    /// Seconds; 0: none.
    pub(super) keep_alive: u16,
    pub(super) properties: Properties,
    pub(super) client_id: Text<'a>,
    pub(super) will: Option<Will<'a>>,
    pub(super) username: Option<Text<'a>>,
}

/// What is published when the client's connection is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Will<'a> {
    pub(super) topic: Text<'a>,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// The version that a CONNECT names, where it is one of ours.
pub(super) fn version(packet: &[u8], fixed: &Fixed) -> Result<Version, Bad> {
    let mut reader = Reader::new(packet, fixed.len);
    let name = reader.binary()?;
    let at = reader.at;
    let level = reader.u8()?;
    match (name.bytes, level) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT" | b"MQIsdp", _) => {
            let why = "a version that is not 3.1, 3.1.1 or 5.0";
            Err(Bad { at, status: reason::UNSUPPORTED_VERSION, why })
        }
        _ => Err(malformed(name.at, "a protocol that is not MQTT")),
    }
}

impl<'a> Connect<'a> {
    /// Reads one that is all there.
    pub(super) fn read(packet: &'a [u8], fixed: &Fixed) -> Result<Self, Bad> {
        let version = version(packet, fixed)?;
        let five = version == Version::V5;
        if five && fixed.len - 1 != varint_len(fixed.total - fixed.len) {
            return Err(malformed(1, "a remaining length in more bytes than it takes"));
        }
        let mut reader = Reader::new(packet, fixed.len);
        reader.binary()?;
        reader.u8()?;
        let flags_at = reader.at;
        let flags = Flags::read(reader.u8()?, version).map_err(|why| malformed(flags_at, why))?;
        let keep_alive = reader.u16()?;
        let properties = match five {
            true => Properties::read(&mut reader, Allowed::CONNECT)?,
            false => Properties::default(),
        };
        let client_id = reader.text()?;
        let will = match flags.will {
            Some((qos, retain)) => {
                if five {
                    Properties::read(&mut reader, Allowed::WILL)?;
                }
                let topic = reader.topic()?;
                if topic.bytes.is_empty() {
                    return Err(forbidden(topic.at, "a will without a topic"));
                }
                reader.binary()?;
                Some(Will { topic, qos, retain })
            }
            None => None,
        };
        // In 3.1 a flag may announce a name that is not there.
        let missing = |reader: &Reader<'_>| version == Version::V31 && reader.is_empty();
        let username = match flags.username && !missing(&reader) {
            true => Some(reader.text()?),
            false => None,
        };
        if flags.password && !missing(&reader) {
            reader.binary()?;
        }
        if !reader.is_empty() {
            return Err(malformed(reader.at, "bytes behind the last field"));
        }
        let clean_start = flags.clean_start;
        Ok(Self { version, clean_start, keep_alive, properties, client_id, will, username })
    }
}

struct Flags {
    clean_start: bool,
    /// QoS, and whether it is retained.
    will: Option<(u8, bool)>,
    username: bool,
    password: bool,
}

impl Flags {
    fn read(flags: u8, version: Version) -> Result<Self, &'static str> {
        let is = |bit: u8| flags & bit != 0;
        let will = match (is(4), flags >> 3 & 3, is(0x20)) {
            (false, 0, false) => None,
            (true, qos @ 0..=2, retain) => Some((qos, retain)),
            _ => return Err("a will's flags without a will, or QoS 3"),
        };
        if is(1) {
            return Err("the reserved flag");
        }
        if is(0x40) && !is(0x80) && version < Version::V5 {
            return Err("a password without a user");
        }
        Ok(Self { clean_start: is(2), will, username: is(0x80), password: is(0x40) })
    }
}
