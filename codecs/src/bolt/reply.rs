//! Replies that the proxy gives itself: a status and nothing else, in the
//! version, codec and switches of what they answer.

use super::header::{self, Form, Header};
use crate::frame::{Fault, ReplyTo};

pub(super) const SUCCESS: u16 = 0;
const SERVER_EXCEPTION: u16 = 2;
const UNKNOWN: u16 = 3;
/// The server's pool of threads is exhausted.
pub(super) const BUSY: u16 = 4;
pub(super) const COMMUNICATION: u16 = 5;
/// Nobody serves what is asked for.
pub(super) const NO_PROCESSOR: u16 = 6;
pub(super) const TIMEOUT: u16 = 7;
pub(super) const CODEC_EXCEPTION: u16 = 9;
pub(super) const CLOSED: u16 = 16;
/// The server cannot read the request's content.
pub(super) const UNREADABLE: u16 = 18;

/// What clients wait for an answer to a heartbeat, in milliseconds.
const HEARTBEAT_TIMEOUT: i32 = 3000;

/// The status that SOFABolt's own servers would give.
pub(super) fn of(fault: Fault) -> u16 {
    match fault {
        Fault::NoRoute => NO_PROCESSOR,
        Fault::Overloaded => BUSY,
        Fault::Timeout => TIMEOUT,
        Fault::Malformed | Fault::TooLarge => CODEC_EXCEPTION,
        Fault::Denied => SERVER_EXCEPTION,
        Fault::NoHealthyEndpoint
        | Fault::ConnectFailed
        | Fault::UpstreamReset
        | Fault::Unsupported
        | Fault::Expired
        | Fault::ShuttingDown => UNKNOWN,
    }
}

/// Appends a response of this status.
pub(super) fn status(to: ReplyTo, status: u16, out: &mut Vec<u8>) {
    response(to, header::REPLY, status, out);
}

/// Answers a heartbeat.
pub(super) fn heartbeat(to: ReplyTo, out: &mut Vec<u8>) {
    response(to, header::HEARTBEAT, SUCCESS, out);
}

fn response(to: ReplyTo, command: u16, status: u16, out: &mut Vec<u8>) {
    let header = Header {
        form: Form::from_token(to.token),
        kind: header::RESPONSE,
        command,
        id: to.id as u32,
        timeout: 0,
        status,
        class: 0,
        block: 0,
        content: 0,
    };
    header::write(&header, b"", b"", b"", out);
}

/// Appends a heartbeat.
pub(super) fn probe(id: u32, out: &mut Vec<u8>) {
    request(header::HEARTBEAT, id, HEARTBEAT_TIMEOUT, out);
}

/// Asks a client to send no more.
pub(super) fn go_away(out: &mut Vec<u8>) {
    request(header::GO_AWAY, 0, 0, out);
}

fn request(command: u16, id: u32, timeout: i32, out: &mut Vec<u8>) {
    let header = Header {
        form: Form::PLAIN,
        kind: header::REQUEST,
        command,
        id,
        timeout,
        status: 0,
        class: 0,
        block: 0,
        content: 0,
    };
    header::write(&header, b"", b"", b"", out);
}
