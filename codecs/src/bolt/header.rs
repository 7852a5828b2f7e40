//! The fixed part that begins every message: what it is, whom it belongs to and
//! how long its parts are.
//!
//! | | v1 | v2 |
//! | --- | --- | --- |
//! | protocol | 1 | 1, then a version byte |
//! | type, command, command's version | 1, 2, 1 | the same |
//! | id, codec | 4, 1 | the same, then a byte of switches |
//! | timeout, or the status of a response | 4, or 2 | the same |
//! | lengths of class, header block, content | 2, 2, 4 | the same |

use super::crc32;

/// Type: a response.
pub(super) const RESPONSE: u8 = 0;
/// Type: a request.
pub(super) const REQUEST: u8 = 1;
/// Type: a request without a response.
pub(super) const ONEWAY: u8 = 2;

/// Command: a heartbeat, or the reply to one.
pub(super) const HEARTBEAT: u16 = 0;
/// Command: a call.
pub(super) const CALL: u16 = 1;
/// Command: what answers a call.
pub(super) const REPLY: u16 = 2;
/// Command: send no more.
pub(super) const GO_AWAY: u16 = 100;

/// The switch that says that a checksum follows, in messages of version 2.
const CRC: u8 = 1;
/// Bytes of a checksum.
pub(super) const CRC_LEN: usize = 4;

/// How a message is written; its reply is written the same way. As `u64` it is the
/// token of [`crate::ReplyTo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// 0 in version 1 messages, which have no version byte; 1 or 2 in others.
    pub(super) version: u8,
    pub(super) switches: u8,
    pub(super) codec: u8,
    /// The version of the command.
    pub(super) command_version: u8,
}

impl Form {
    /// Version 1 with Hessian, which every peer reads.
    pub(super) const PLAIN: Self = Self { version: 0, switches: 0, codec: 1, command_version: 1 };

    pub(super) const fn v2(self) -> bool {
        self.version > 0
    }

    /// Whether a checksum ends the message: only where the version byte is 2 does
    /// the switch mean anything.
    pub(super) const fn checked(self) -> bool {
        self.version == 2 && self.switches & CRC != 0
    }

    pub(super) fn token(self) -> u64 {
        let Self { version, switches, codec, command_version } = self;
        u64::from(u32::from_be_bytes([version, switches, codec, command_version]))
    }

    pub(super) fn from_token(token: u64) -> Self {
        let [version, switches, codec, command_version] = (token as u32).to_be_bytes();
        Self { version, switches, codec, command_version }
    }
}

/// A fixed part that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) form: Form,
    pub(super) kind: u8,
    pub(super) command: u16,
    pub(super) id: u32,
    /// Requests: milliseconds; not positive where there is none.
    pub(super) timeout: i32,
    /// Responses.
    pub(super) status: u16,
    pub(super) class: u16,
    pub(super) block: u16,
    pub(super) content: u32,
}

impl Header {
    /// Bytes of the fixed part.
    pub(super) const fn fixed(&self) -> usize {
        fixed(self.form.v2(), self.kind)
    }

    /// Where the header block begins.
    pub(super) fn block_at(&self) -> usize {
        self.fixed() + usize::from(self.class)
    }

    /// Where the content begins.
    pub(super) fn content_at(&self) -> usize {
        self.block_at() + usize::from(self.block)
    }

    /// Bytes of the whole message, checksum included.
    pub(super) fn size(&self) -> u64 {
        let checksum = if self.form.checked() { CRC_LEN as u64 } else { 0 };
        self.content_at() as u64 + u64::from(self.content) + checksum
    }
}

const fn fixed(v2: bool, kind: u8) -> usize {
    20 + if kind == RESPONSE { 0 } else { 2 } + if v2 { 2 } else { 0 }
}

/// Why there is no header.
#[derive(Debug)]
pub(super) enum Unread {
    /// So many bytes are needed to say more.
    Short(usize),
    /// The byte at this offset is not what is allowed there.
    Bad(usize, &'static str),
}

/// Whether the message that begins here is of version 2, its type and its command.
/// Each byte is judged as soon as it is there, so that no more are waited for than decide.
pub(super) fn opening(buf: &[u8]) -> Result<(bool, u8, u16), Unread> {
    let (v2, at) = match buf {
        [] => return Err(Unread::Short(1)),
        [1, ..] => (false, 1),
        [2] => return Err(Unread::Short(2)),
        [2, 1 | 2, ..] => (true, 2),
        [2, ..] => return Err(Unread::Bad(1, "a version other than 1 and 2")),
        _ => return Err(Unread::Bad(0, "neither protocol 1 nor 2")),
    };
    let short = Unread::Short(buf.len() + 1);
    match buf.get(at..).unwrap_or_default() {
        [] => Err(short),
        [kind @ ..=2, rest @ ..] => match rest {
            [] | [0] => Err(short),
            [0, command @ (0..=2 | 100), ..] => Ok((v2, *kind, u16::from(*command))),
            _ => Err(Unread::Bad(at + 1, "a command other than 0, 1, 2 and 100")),
        },
        _ => Err(Unread::Bad(at, "a type other than 0, 1 and 2")),
    }
}

/// The fixed part at the front of `buf`.
pub(super) fn read(buf: &[u8]) -> Result<Header, Unread> {
    let (v2, kind, command) = opening(buf)?;
    let fixed = fixed(v2, kind);
    parse(buf, v2, kind, command).ok_or(Unread::Short(fixed))
}

fn parse(buf: &[u8], v2: bool, kind: u8, command: u16) -> Option<Header> {
    let version = if v2 { *buf.get(1)? } else { 0 };
    let [command_version, i0, i1, i2, i3, codec] = *take(buf, if v2 { 5 } else { 4 })?;
    let (switches, at) = if v2 { (*buf.get(11)?, 12) } else { (0, 10) };
    let (timeout, status, at) = if kind == RESPONSE {
        (0, u16::from_be_bytes(*take(buf, at)?), at + 2)
    } else {
        (i32::from_be_bytes(*take(buf, at)?), 0, at + 4)
    };
    let [l0, l1, h0, h1, c0, c1, c2, c3] = *take(buf, at)?;
    Some(Header {
        form: Form { version, switches, codec, command_version },
        kind,
        command,
        id: u32::from_be_bytes([i0, i1, i2, i3]),
        timeout,
        status,
        class: u16::from_be_bytes([l0, l1]),
        block: u16::from_be_bytes([h0, h1]),
        content: u32::from_be_bytes([c0, c1, c2, c3]),
    })
}

fn take<const N: usize>(buf: &[u8], at: usize) -> Option<&[u8; N]> {
    buf.get(at..)?.first_chunk()
}

/// Appends a whole message.
///
/// The lengths of `header` are those of the parts given; what they say already
/// counts for nothing. False, and nothing appended, where one does not fit.
pub(super) fn write(
    header: &Header,
    class: &[u8],
    block: &[u8],
    content: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let (Ok(class_len), Ok(block_len), Ok(content_len)) =
        (u16::try_from(class.len()), u16::try_from(block.len()), u32::try_from(content.len()))
    else {
        return false;
    };
    let start = out.len();
    let form = header.form;
    if form.v2() {
        out.extend_from_slice(&[2, form.version]);
    } else {
        out.push(1);
    }
    out.push(header.kind);
    out.extend_from_slice(&header.command.to_be_bytes());
    out.push(form.command_version);
    out.extend_from_slice(&header.id.to_be_bytes());
    out.push(form.codec);
    if form.v2() {
        out.push(form.switches);
    }
    if header.kind == RESPONSE {
        out.extend_from_slice(&header.status.to_be_bytes());
    } else {
        out.extend_from_slice(&header.timeout.to_be_bytes());
    }
    out.extend_from_slice(&class_len.to_be_bytes());
    out.extend_from_slice(&block_len.to_be_bytes());
    out.extend_from_slice(&content_len.to_be_bytes());
    for part in [class, block, content] {
        out.extend_from_slice(part);
    }
    if form.checked() {
        out.extend_from_slice(&[0; CRC_LEN]);
        seal(out.get_mut(start..).unwrap_or_default());
    }
    true
}

/// Writes the id over the one in the message at the front of `head`, and the
/// checksum that this makes.
pub(super) fn set_id(head: &mut [u8], id: u32) {
    let Ok(header) = read(head) else { return };
    let at = if header.form.v2() { 6 } else { 5 };
    if let Some(place) = head.get_mut(at..at + 4) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    if header.form.checked() && header.size() == head.len() as u64 {
        seal(head);
    }
}

/// Writes the time that the sender of a request waits over the one in the message at
/// the front of `head`; the checksum is the caller's to see to.
pub(super) fn set_timeout(head: &mut [u8], timeout: u32) {
    let Ok(header) = read(head) else { return };
    let at = if header.form.v2() { 12 } else { 10 };
    if header.kind != RESPONSE
        && let Some(place) = head.get_mut(at..at + 4)
    {
        let timeout = i32::try_from(timeout).unwrap_or(i32::MAX);
        place.copy_from_slice(&timeout.to_be_bytes());
    }
}

/// Writes the checksum of a message into its last bytes.
pub(super) fn seal(message: &mut [u8]) {
    if let Some((bytes, place)) = message.split_last_chunk_mut::<CRC_LEN>() {
        *place = crc32::of(bytes).to_be_bytes();
    }
}

/// The checksum that a message ends in and the one that its bytes have.
pub(super) fn checksums(message: &[u8]) -> Option<(u32, u32)> {
    let (bytes, place) = message.split_last_chunk::<CRC_LEN>()?;
    Some((u32::from_be_bytes(*place), crc32::of(bytes)))
}

/// The name of a codec, by its number.
pub(super) fn codec(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "hessian2",
        2 => "java",
        11 => "protobuf",
        12 => "json",
        _ => return None,
    })
}
