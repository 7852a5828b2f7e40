//! What every packet begins with: its type, its flags and its length.

use super::wire::{Bad, Varint, forbidden, malformed, varint};

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

impl Version {
    pub(super) const fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Self::V31),
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}

/// The types of packets (MQTT 5.0, section 2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    Connect = 1,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    Auth,
}

impl Packet {
    /// The type of that number; 0 is none.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Connack => "connack",
            Self::Publish => "publish",
            Self::Puback => "puback",
            Self::Pubrec => "pubrec",
            Self::Pubrel => "pubrel",
            Self::Pubcomp => "pubcomp",
            Self::Subscribe => "subscribe",
            Self::Suback => "suback",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsuback => "unsuback",
            Self::Pingreq => "pingreq",
            Self::Pingresp => "pingresp",
            Self::Disconnect => "disconnect",
            Self::Auth => "auth",
        }
    }

    /// Whether a client may send it.
    pub(super) const fn is_clients(self) -> bool {
        !matches!(self, Self::Connack | Self::Suback | Self::Unsuback | Self::Pingresp)
    }

    /// Whether a server may send it.
    pub(super) const fn is_servers(self) -> bool {
        !matches!(self, Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::Pingreq)
    }
}

/// The fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) packet: Packet,
    /// The low four bits of the first byte.
    pub(super) flags: u8,
    /// Bytes of the header itself.
    pub(super) len: usize,
    /// Bytes of the packet, this header included.
    pub(super) total: usize,
}

impl Fixed {
    /// Reads one; `Ok(Err(need))` where more bytes must come first.
    pub(super) fn read(buf: &[u8]) -> Result<Result<Self, usize>, Bad> {
        let Some(first) = buf.first() else { return Ok(Err(2)) };
        let packet = Packet::from_number(first >> 4).ok_or(malformed(0, "packet type 0"))?;
        match varint(buf.get(1..).unwrap_or_default()) {
            Varint::Is { value, len } => {
                let len = len + 1;
                Ok(Ok(Self { packet, flags: first & 0xf, len, total: len + value }))
            }
            Varint::Short => Ok(Err(buf.len() + 1)),
            Varint::Endless => Err(malformed(1, "a remaining length of more than four bytes")),
        }
    }

    pub(super) const fn qos(self) -> u8 {
        self.flags >> 1 & 3
    }

    pub(super) const fn dup(self) -> bool {
        self.flags & 8 != 0
    }

    pub(super) const fn retain(self) -> bool {
        self.flags & 1 != 0
    }
}

/// Refuses what a client may not begin a packet with. `version` is of the CONNECT
/// before it; `None`: there was none.
pub(super) fn check_first(first: u8, version: Option<Version>) -> Result<(), Bad> {
    let packet = Packet::from_number(first >> 4).ok_or(malformed(0, "packet type 0"))?;
    let version = match (packet, version) {
        (Packet::Connect, None) => Version::V5,
        (Packet::Connect, Some(_)) => return Err(forbidden(0, "a second CONNECT")),
        (_, None) => return Err(forbidden(0, "a packet before CONNECT")),
        (_, Some(version)) => version,
    };
    if !packet.is_clients() || (packet == Packet::Auth && version < Version::V5) {
        return Err(forbidden(0, "a packet that no client of its version sends"));
    }
    let flags = first & 0xf;
    let good = match packet {
        // A repeated one may say so in 3.1 only.
        Packet::Pubrel | Packet::Subscribe | Packet::Unsubscribe => {
            flags == 2 || (flags == 0xa && version == Version::V31)
        }
        // Neither QoS 3, nor a duplicate of what is never sent again.
        Packet::Publish => flags & 6 != 6 && (flags & 0xe != 8 || version == Version::V31),
        _ => flags == 0,
    };
    if good { Ok(()) } else { Err(malformed(0, "flags that its packet type does not have")) }
}
