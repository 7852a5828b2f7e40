//! Replies that the proxy gives itself: TApplicationException, in the transport and
//! the encoding of the request.

use super::envelope::{EXCEPTION, Encoding, Transport};
use super::{call, varint};
use crate::frame::{Fault, ReplyTo};

const UNKNOWN_METHOD: i32 = 1;
const INTERNAL_ERROR: i32 = 6;
/// The request breaks the protocol.
pub(super) const PROTOCOL_ERROR: i32 = 7;
/// The request's encoding or transform is not known here (UNSUPPORTED_CLIENT_TYPE).
pub(super) const UNSUPPORTED: i32 = 10;

/// What a local reply must know, packed into [`ReplyTo::token`].
pub(super) fn token(transport: Transport, encoding: Encoding) -> u64 {
    let transport = match transport {
        Transport::Framed => 0,
        Transport::Unframed => 1,
        Transport::Header => 2,
    };
    let encoding = match encoding {
        Encoding::Binary => 0,
        Encoding::BinaryOld => 1,
        Encoding::Compact => 2,
    };
    transport << 2 | encoding
}

fn from_token(token: u64) -> (Transport, Encoding) {
    let transport = match token >> 2 {
        0 => Transport::Framed,
        1 => Transport::Unframed,
        _ => Transport::Header,
    };
    let encoding = match token & 3 {
        0 => Encoding::Binary,
        1 => Encoding::BinaryOld,
        _ => Encoding::Compact,
    };
    (transport, encoding)
}

/// The exception's type for a fault.
pub(super) fn code(fault: Fault) -> i32 {
    match fault {
        Fault::NoRoute => UNKNOWN_METHOD,
        Fault::Malformed | Fault::TooLarge | Fault::Unsupported => PROTOCOL_ERROR,
        Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Timeout
        | Fault::Overloaded
        | Fault::Denied
        | Fault::Expired
        | Fault::ShuttingDown => INTERNAL_ERROR,
    }
}

/// Appends an exception to the call of `name`.
pub(super) fn exception(to: ReplyTo, name: &[u8], code: i32, why: &str, out: &mut Vec<u8>) {
    let (transport, encoding) = from_token(to.token);
    let why = format!("polyport: {why}");
    let mut body = Vec::with_capacity(why.len() + 16);
    if encoding == Encoding::Compact {
        body.push(0x18);
        varint::write(why.len() as u64, &mut body);
        body.extend_from_slice(why.as_bytes());
        body.push(0x15);
        varint::write(varint::zigzag(i64::from(code)), &mut body);
        body.push(0);
    } else {
        body.extend_from_slice(&[11, 0, 1]);
        body.extend_from_slice(&(why.len() as u32).to_be_bytes());
        body.extend_from_slice(why.as_bytes());
        body.extend_from_slice(&[8, 0, 2]);
        body.extend_from_slice(&code.to_be_bytes());
        body.push(0);
    }
    let message = call::Message {
        transport,
        encoding,
        kind: EXCEPTION,
        name,
        seqid: to.id as u32,
        headers: &[],
        body: &body,
    };
    message.encode(out);
}
