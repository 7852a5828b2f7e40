//! Redis: RESP2, RESP3 and inline commands. Ordered, shared; pins.
//!
//! Requests are arrays of bulk strings ([`request`]) or lines typed by hand
//! ([`inline`]); [`commands`] tells where a command's key is and what it asks of its
//! connection, [`session`] keeps what a connection is in the middle of (a
//! transaction, a watch), [`profile`] what it has set up (user, database, name).
//! Replies are walked in [`reply`]. Spec: the Redis serialization protocol, versions
//! 2 and 3; limits as Redis's own.

pub mod commands;
mod inline;
mod probe;
mod profile;
mod reply;
mod request;
mod session;

use std::sync::Arc;

use crate::codec::{After, Codec, Decoder, KeySpec, Protocol, Side, known};
use crate::detect::Probe;
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Exchange, Fault, Head, Profile, ReplyTo};
use crate::interest::{Interest, Slot};
use crate::limits::Limits;
use crate::shared::{self, SharedSlots};

/// The name in configs and metadata.
const NAME: &str = "redis";

/// The protocol.
pub struct Redis;

const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::METHOD,
    shared::SIZE,
    KeySpec::key("command", "the command, lower case", "get"),
    KeySpec::key("subcommand", "the subcommand of a container command, lower case", "setname"),
    KeySpec::key("key", "the first key, by the command table", "user:42"),
    KeySpec::key("key.hashtag", "the key, or what its {braces} hold: hash by it", "42"),
    KeySpec::key("argc", "how many words the command has", "3"),
    KeySpec::key("db", "the database that the connection has selected", "0"),
    KeySpec::key("user", "the user that the connection has last named in AUTH or HELLO", "default"),
];

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        probe::probe(prefix)
    }

    fn exchange(&self) -> Exchange {
        Exchange::Ordered { shared: true }
    }

    fn keys(&self) -> &'static [KeySpec] {
        KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        Arc::new(Compiled {
            plan: Arc::new(Plan {
                limits: limits.clone(),
                shared: SharedSlots::new(interest),
                command: interest.slot("command"),
                subcommand: interest.slot("subcommand"),
                key: interest.slot("key"),
                hashtag: interest.slot("key.hashtag"),
                argc: interest.slot("argc"),
                db: interest.slot("db"),
                user: interest.slot("user"),
            }),
        })
    }

    fn local_reply(
        &self,
        _: ReplyTo,
        _: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After {
        let code = match fault {
            Fault::Denied => "NOPERM",
            Fault::NoHealthyEndpoint => "CLUSTERDOWN",
            Fault::Overloaded => "BUSY",
            _ => "ERR",
        };
        let why: String = why.chars().filter(|c| !c.is_control()).collect();
        out.extend_from_slice(format!("-{code} polyport: {why}\r\n").as_bytes());
        After::Keep
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("-ERR Protocol error: {}\r\n", error.reason).as_bytes());
    }

    fn answer(&self, _: &Head, _: &[u8], out: &mut Vec<u8>) {
        // QUIT is the only command answered at home.
        out.extend_from_slice(b"+OK\r\n");
    }

    fn heartbeat(&self, _: u64, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        true
    }

    fn advance(&self, profile: &Profile, request: &[u8]) -> Profile {
        profile::advance(profile, request)
    }
}

/// Slots and limits, shared by all decoders of a config.
struct Plan {
    limits: Limits,
    shared: SharedSlots,
    command: Option<Slot>,
    subcommand: Option<Slot>,
    key: Option<Slot>,
    hashtag: Option<Slot>,
    argc: Option<Slot>,
    db: Option<Slot>,
    user: Option<Slot>,
}

struct Compiled {
    plan: Arc<Plan>,
}

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        match side {
            Side::Request => Box::new(request::RequestDecoder::new(self.plan.clone())),
            Side::Reply => Box::new(reply::ReplyDecoder::new(self.plan.clone())),
        }
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<request::RequestDecoder>(decoder) else { return false };
        decoder.retarget(self.plan.clone());
        true
    }
}

/// Appends a command as an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(words: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn malformed(offset: usize, reason: impl Into<std::borrow::Cow<'static, str>>) -> DecodeError {
    DecodeError::new(NAME, ErrorKind::Malformed, offset, reason)
}

fn too_large(offset: usize, reason: impl Into<std::borrow::Cow<'static, str>>) -> DecodeError {
    DecodeError::new(NAME, ErrorKind::TooLarge, offset, reason)
}

/// A line of `buf` from `at`, without its CRLF, and where the next begins; `None`
/// where its end is not there yet.
fn line(buf: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = buf.get(at..)?;
    let end = memchr::memchr(b'\n', rest)?;
    let line = rest.get(..end)?;
    Some((line.strip_suffix(b"\r")?, at + end + 1))
}

/// The count of a `*…` or `$…` line at `at` and where the next line begins, where it is written
/// as clients and servers write it: a few digits, CRLF. `None` tells nothing.
#[inline]
fn plain_count(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = buf.get(at + 1..)?;
    let mut count = 0;
    for (seen, byte) in rest.iter().take(10).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let ends = seen > 0 && *byte == b'\r' && rest.get(seen + 1) == Some(&b'\n');
            return ends.then_some((count, at + seen + 3));
        }
        count = count * 10 + usize::from(digit);
    }
    None
}

/// A decimal number with an optional sign, and nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests;
