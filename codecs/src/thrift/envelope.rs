//! Where a message begins, what it is called, and where its sequence id stands.

use super::header;
use super::varint;
use crate::error::ErrorKind;

/// How messages are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A length, then the message.
    Framed,
    /// Nothing; the message's struct ends it.
    Unframed,
    /// A length, headers, then the message.
    Header,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Fixed-size numbers, with a version word.
    Binary,
    /// The same without one: the message's name comes first.
    BinaryOld,
    /// Variable-size numbers.
    Compact,
}

impl Transport {
    /// The value of the key `transport`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Framed => "framed",
            Self::Unframed => "unframed",
            Self::Header => "header",
        }
    }
}

impl Encoding {
    /// The value of the key `encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::BinaryOld => "binary-old",
            Self::Compact => "compact",
        }
    }
}

/// Message types.
pub(super) const CALL: u8 = 1;
pub(super) const EXCEPTION: u8 = 3;
pub(super) const ONEWAY: u8 = 4;

/// What the start of a message says. Offsets count from the message's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) transport: Transport,
    pub(super) encoding: Encoding,
    /// Bytes of the whole message; unknown where it is unframed.
    pub(super) size: Option<u64>,
    /// Where the THeader block lies, from after its size word.
    pub(super) header: (usize, usize),
    /// Message type, 1–4.
    pub(super) kind: u8,
    /// The method's name, as (start, length).
    pub(super) name: (usize, usize),
    pub(super) seqid: u32,
    /// The sequence id, as (start, length).
    pub(super) seqid_at: (usize, usize),
    /// Where the struct begins.
    pub(super) body: usize,
}

/// Why there is no envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// So many bytes are needed first.
    Need(usize),
    /// At this offset is what cannot be.
    Bad(usize, ErrorKind, &'static str),
}

pub(super) fn u32_at(buf: &[u8], at: usize) -> Result<u32, Stop> {
    match buf.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(Stop::Need(at + 4)),
    }
}

fn varint_at(buf: &[u8], at: usize) -> Result<(u64, usize), Stop> {
    varint::read(buf, at).map_err(|short| match short {
        true => Stop::Need(buf.len() + 1),
        false => Stop::Bad(at, ErrorKind::Malformed, "a number of more than 64 bits"),
    })
}

/// What is accepted.
#[derive(Clone, Copy)]
struct Bounds {
    /// The encoding without a version word.
    old: bool,
    /// Bytes that the start may take.
    head: usize,
}

/// Reads the start of the message at the front of `buf`. `old`: the encoding without a
/// version word is accepted. `head`: bytes that the start may take.
pub(super) fn read(buf: &[u8], old: bool, head: usize) -> Result<Envelope, Stop> {
    let found = find(buf, Bounds { old, head })?;
    within(found.body, head)?;
    Ok(found)
}

#[inline]
fn find(buf: &[u8], bounds: Bounds) -> Result<Envelope, Stop> {
    let first = u32_at(buf, 0).map_err(|_| Stop::Need(4))?;
    let (mut header, mut protocol) = ((0, 0), None);
    let framed = Some(u64::from(first) + 4);
    let (at, transport, size) = if first >> 16 == 0x8001 || first >> 24 == 0x82 {
        (0, Transport::Unframed, None)
    } else {
        match buf.get(4..) {
            Some([0x80, 0x01, ..] | [0x82, _, ..]) => (4, Transport::Framed, framed),
            Some([0x0f, 0xff, ..]) => {
                let block = header::read(buf, bounds.head)?;
                (header, protocol) = ((block.start, block.len), Some(block.protocol));
                (block.payload, Transport::Header, framed)
            }
            // Without a version word a name's length comes first, and begins with 0; the
            // name itself does not.
            Some([0, _, ..]) if bounds.old => (4, Transport::Framed, framed),
            Some([b'A'..=b'z', _, ..]) if bounds.old => (0, Transport::Unframed, None),
            Some([_, _, ..]) => {
                let why = "neither a version word, nor the compact protocol, nor a THeader";
                return Err(Stop::Bad(4, ErrorKind::Malformed, why));
            }
            _ => return Err(Stop::Need(6)),
        }
    };
    message(buf, at, transport, size, header, protocol, bounds)
}

/// Reads the message proper at `at`. `protocol`: what a THeader says it is written in.
#[inline]
fn message(
    buf: &[u8],
    at: usize,
    transport: Transport,
    size: Option<u64>,
    header: (usize, usize),
    protocol: Option<Encoding>,
    bounds: Bounds,
) -> Result<Envelope, Stop> {
    let bad = |at, why| Err(Stop::Bad(at, ErrorKind::Malformed, why));
    let Some(&first) = buf.get(at) else { return Err(Stop::Need(at + 1)) };
    let mut envelope = Envelope {
        transport,
        encoding: Encoding::Binary,
        size,
        header,
        kind: 0,
        name: (0, 0),
        seqid: 0,
        seqid_at: (0, 0),
        body: 0,
    };
    if first == 0x82 && protocol != Some(Encoding::Binary) {
        envelope.encoding = Encoding::Compact;
        let Some(&second) = buf.get(at + 1) else { return Err(Stop::Need(at + 2)) };
        if !super::compact_call(second) {
            return bad(at + 1, "an unknown version or message type");
        }
        envelope.kind = second >> 5;
        let (seqid, len) = varint_at(buf, at + 2)?;
        let Ok(seqid) = u32::try_from(seqid) else { return bad(at + 2, "a sequence id too large") };
        envelope.seqid = seqid;
        envelope.seqid_at = (at + 2, len);
        let (name, len) = varint_at(buf, at + 2 + len)?;
        let start = at + 2 + envelope.seqid_at.1 + len;
        let Ok(name) = usize::try_from(name) else { return bad(start, "a name too long") };
        envelope.name = (start, name);
        envelope.body = start.saturating_add(name);
    } else if first == 0x80 {
        let word = u32_at(buf, at)?;
        let kind = word as u8;
        if word >> 16 != 0x8001 || !(CALL..=ONEWAY).contains(&kind) {
            return bad(at, "an unknown version or message type");
        }
        envelope.kind = kind;
        let name = u32_at(buf, at + 4)? as usize;
        envelope.name = (at + 8, name);
        let seqid_at = (at + 8).saturating_add(name);
        envelope.seqid_at = (seqid_at, 4);
        fits(&envelope, seqid_at.saturating_add(4), bounds.head)?;
        envelope.seqid = u32_at(buf, seqid_at)?;
        envelope.body = seqid_at + 4;
    } else if bounds.old && first == 0 && protocol != Some(Encoding::Compact) {
        envelope.encoding = Encoding::BinaryOld;
        let name = u32_at(buf, at)? as usize;
        envelope.name = (at + 4, name);
        let kind_at = (at + 4).saturating_add(name);
        fits(&envelope, kind_at.saturating_add(5), bounds.head)?;
        let Some(&kind) = buf.get(kind_at) else { return Err(Stop::Need(kind_at + 1)) };
        if !(CALL..=ONEWAY).contains(&kind) {
            return bad(kind_at, "an unknown message type");
        }
        envelope.kind = kind;
        envelope.seqid_at = (kind_at + 1, 4);
        envelope.seqid = u32_at(buf, kind_at + 1)?;
        envelope.body = kind_at + 5;
    } else {
        return bad(at, "neither a version word nor the compact protocol");
    }
    fits(&envelope, envelope.body, bounds.head)?;
    if buf.len() < envelope.body {
        return Err(Stop::Need(envelope.body));
    }
    Ok(envelope)
}

/// Whether the message's start fits what a name may take and the frame it is in.
fn fits(envelope: &Envelope, end: usize, head: usize) -> Result<(), Stop> {
    if envelope.name.1 > LONGEST_NAME {
        return Err(Stop::Bad(envelope.name.0, ErrorKind::TooLarge, "a name too long"));
    }
    if envelope.size.is_some_and(|size| end as u64 > size) {
        return Err(Stop::Bad(envelope.name.0, ErrorKind::Malformed, "a name beyond its frame"));
    }
    within(end, head)
}

/// Whom to answer where the message cannot be read, refused at byte `at`: as far as its
/// first bytes tell. Nobody where it may be a one-way call.
pub(super) fn asker(buf: &[u8], at: usize) -> Option<(Transport, Encoding, u32)> {
    let (transport, message) = match buf {
        [0x80 | 0x82, ..] => (Transport::Unframed, buf),
        [_, _, _, _, 0x0f, 0xff, ..] => {
            let compact = at >= header::BLOCK && buf.get(header::BLOCK) == Some(&2);
            let encoding = if compact { Encoding::Compact } else { Encoding::Binary };
            return Some((Transport::Header, encoding, u32_at(buf, header::SEQID).ok()?));
        }
        [_, _, _, _, message @ ..] => (Transport::Framed, message),
        _ => return None,
    };
    // An id that stands behind what was refused is not looked for.
    match message {
        [0x80, 0x01, _, kind, ..] if *kind != ONEWAY => Some((transport, Encoding::Binary, 0)),
        [0x82, second, ..] if second >> 5 != ONEWAY => Some((transport, Encoding::Compact, 0)),
        _ => None,
    }
}

/// Whether a start of `end` bytes keeps to the head limit, however it arrives.
pub(super) fn within(end: usize, head: usize) -> Result<(), Stop> {
    if end > head {
        let why = "the message's start passes the head limit";
        return Err(Stop::Bad(0, ErrorKind::TooLarge, why));
    }
    Ok(())
}

/// Bytes of a method's name. Names are identifiers; this is far beyond any.
const LONGEST_NAME: usize = 4096;
