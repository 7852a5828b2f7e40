//! The 16 bytes that begin every message.

/// Bytes of a header.
pub(super) const LEN: usize = 16;

/// Flag: a request.
pub(super) const REQUEST: u8 = 0x80;
/// Flag: the sender wants a reply.
pub(super) const TWO_WAY: u8 = 0x40;
/// Flag: an event, not a call.
pub(super) const EVENT: u8 = 0x20;
/// The bits that name the serialization.
pub(super) const SERIALIZATION: u8 = 0x1f;

/// A header that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) status: u8,
    pub(super) id: u64,
    pub(super) body: u32,
}

/// The header at the front of `buf`; `None` where it is not all there or has another magic.
pub(super) fn read(buf: &[u8]) -> Option<Header> {
    let bytes: &[u8; LEN] = buf.first_chunk()?;
    let [0xda, 0xbb, flags, status, id @ .., b0, b1, b2, b3] = *bytes else { return None };
    Some(Header {
        flags,
        status,
        id: u64::from_be_bytes(id),
        body: u32::from_be_bytes([b0, b1, b2, b3]),
    })
}

/// Appends a whole message.
pub(super) fn write(flags: u8, status: u8, id: u64, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xda, 0xbb, flags, status]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

/// Whether a serialization writes its values as JSON, one a line: fastjson, gson,
/// protobuf-json. (protobuf, 22, and fastjson2's JSONB, 23, are binary.)
pub(super) fn json_lines(serialization: u8) -> bool {
    matches!(serialization & SERIALIZATION, 6 | 16 | 21)
}

/// The name of a serialization, by its number.
pub(super) fn serialization(number: u8) -> Option<&'static str> {
    Some(match number {
        2 => "hessian2",
        3 => "java",
        4 => "compactedjava",
        6 => "fastjson",
        7 => "nativejava",
        8 => "kryo",
        9 => "fst",
        10 => "native-hessian",
        11 => "avro",
        12 => "protostuff",
        16 => "gson",
        18 => "jackson",
        21 => "protobuf-json",
        22 => "protobuf",
        23 => "fastjson2",
        25 => "kryo2",
        27 => "msgpack",
        28 => "fury",
        31 => "custom-msgpack",
        _ => return None,
    })
}
