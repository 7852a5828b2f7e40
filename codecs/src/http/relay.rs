//! Heads as the next hop should see them (RFC 9110 section 7.6).

use std::io::Write;

use super::change::Changes;
use super::fields::{is, line, members, trim};
use super::grpc;
use super::head::for_one_hop;
use super::note;
use super::request::{start_line, target};
use crate::codec::{Hop, Side};
use crate::frame::{Body, Head, Kind, Lease};
use crate::mutation::Unchangeable;

/// A request of gRPC whose sender takes trailers.
const GRPC_TRAILERS: u64 = note::GRPC | note::TRAILERS;

const UNREADABLE: Unchangeable = Unchangeable("a head that cannot be read");

/// A head for the next hop: a request for the upstream, a response for the downstream.
///
/// # Errors
/// Where this one head cannot take a change; never without changes, for a head
/// that the decoder has accepted.
pub(super) fn head(
    head: &Head,
    bytes: &[u8],
    hop: &Hop,
    changes: Changes<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    match hop.side {
        Side::Request => request(head, bytes, hop, changes, out),
        Side::Reply => response(head, bytes, hop, changes, out),
    }
}

fn request(
    head: &Head,
    bytes: &[u8],
    hop: &Hop,
    changes: Changes<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let notes = head.reply_to.token;
    let lead = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    // What the decoder has accepted parses again.
    let Ok(Some((text, fields))) = line(bytes, lead) else { return Err(UNREADABLE) };
    let Ok(start) = start_line(text, lead) else { return Err(UNREADABLE) };
    let absolute = if notes & note::ABSOLUTE != 0 { target(&start).ok() } else { None };
    out.extend_from_slice(start.method);
    out.push(b' ');
    let origin = absolute.as_ref().map_or(start.target, |target| target.origin);
    match changes.path() {
        None => out.extend_from_slice(origin),
        Some(path) if origin.first() == Some(&b'/') => {
            out.extend_from_slice(path);
            if let (false, Some(query)) = (path.contains(&b'?'), memchr::memchr(b'?', origin)) {
                out.extend_from_slice(origin.get(query..).unwrap_or_default());
            }
        }
        Some(_) => return Err(Unchangeable("the request has no path")),
    }
    if changes.host().is_some() && notes & note::CONNECT != 0 {
        return Err(Unchangeable("the host of CONNECT is what the client wants to reach"));
    }
    let host = changes.host().or_else(|| absolute.as_ref().and_then(|target| target.authority));
    // Without a Host the next hop would refuse it as HTTP/1.1.
    let old = notes & note::NO_HOST != 0 && host.is_none();
    out.extend_from_slice(if old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    if let Some(host) = host {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
    }
    let upgrade = notes & note::UPGRADE != 0;
    // A route's word counts for more than ours.
    let timeout = hop.timeout.filter(|_| !changes.replaces(b"grpc-timeout"));
    let drop_any =
        notes & note::HOP_FIELDS != 0 || host.is_some() || timeout.is_some() || !changes.is_empty();
    copy_fields(bytes, fields, drop_any, out, |name| {
        for_one_hop(name) && !(upgrade && is(name, "upgrade"))
            || (timeout.is_some() && is(name, "grpc-timeout"))
            || (host.is_some() && is(name, "host"))
            || changes.replaces(name)
    });
    changes.write(out);
    if let Some(timeout) = timeout {
        grpc::put_timeout(timeout, out);
    }
    if notes & GRPC_TRAILERS == GRPC_TRAILERS {
        // Servers of gRPC ask for it, to know that no hop drops their trailers.
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if let Some(source) = hop.source {
        // A stranger's word on who it is counts for nothing: ours replaces it. A
        // route's word counts for more than ours.
        if !changes.replaces(b"x-forwarded-for") {
            let _ = write!(out, "x-forwarded-for: {}\r\n", source.to_canonical());
        }
        if !changes.replaces(b"x-forwarded-proto") {
            out.extend_from_slice(b"x-forwarded-proto: ");
            out.extend_from_slice(if hop.secure { b"https\r\n" } else { b"http\r\n" });
        }
    }
    if upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if hop.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if old {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn response(
    head: &Head,
    bytes: &[u8],
    hop: &Hop,
    changes: Changes<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let notes = head.reply_to.token;
    let interim = head.kind == Kind::Interim;
    if interim && hop.request.token & note::VERSION_10 != 0 {
        // HTTP/1.0 knows no interim responses (RFC 9110 section 15.2).
        return Ok(());
    }
    let lead = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let Ok(Some((text, fields))) = line(bytes, lead) else { return Err(UNREADABLE) };
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(text.get(8..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    let upgrade = notes & note::UPGRADE != 0;
    let plain = hop.plain_body && notes & note::CHUNKED != 0;
    // These have no body; a length or coding with them frames what is not there
    // (RFC 9112 section 6.1, RFC 9110 section 8.6).
    let bare = interim || head.lease == Lease::Session || text.get(9..12) == Some(b"204");
    // A route changes the reply, not what is said before it.
    let changes = if interim { Changes::NONE } else { changes };
    let drop_any = notes & note::HOP_FIELDS != 0 || plain || bare || !changes.is_empty();
    copy_fields(bytes, fields, drop_any, out, |name| {
        (for_one_hop(name) && !is(name, "x-forwarded-for") && !(upgrade && is(name, "upgrade")))
            || ((plain || bare) && is(name, "transfer-encoding"))
            || (bare && is(name, "content-length"))
            || changes.replaces(name)
    });
    changes.write(out);
    let until_close = notes & note::UNTIL_CLOSE != 0 && head.body == Body::Steps;
    if upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if interim {
        // What becomes of the connection is the final response's to say.
    } else if hop.close || until_close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if hop.request.token & note::VERSION_10 != 0 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Copies field lines in runs, without those that `drop` names, nor those that
/// a Connection field names.
fn copy_fields(
    bytes: &[u8],
    fields: usize,
    drop_any: bool,
    out: &mut Vec<u8>,
    drop: impl Fn(&[u8]) -> bool,
) {
    let end = bytes.len().saturating_sub(2);
    if !drop_any {
        out.extend_from_slice(bytes.get(fields..end).unwrap_or_default());
        return;
    }
    let named = |name: &[u8]| {
        lines(bytes, fields).any(|(_, text, _)| {
            let (field, value) = split(text);
            is(field, "connection")
                && members(value).any(|member| member.eq_ignore_ascii_case(name))
        })
    };
    let names_others = lines(bytes, fields).any(|(_, text, _)| {
        let (field, value) = split(text);
        is(field, "connection")
            && members(value).any(|m| !(is(m, "close") || is(m, "keep-alive") || is(m, "upgrade")))
    });
    let mut run = fields;
    for (at, text, next) in lines(bytes, fields) {
        let (name, _) = split(text);
        // What frames a message is never a hop's to drop, whatever Connection says;
        // whether Upgrade goes on is `drop`'s to say.
        let framing = ["content-length", "transfer-encoding", "host", "upgrade"]
            .iter()
            .any(|kept| is(name, kept));
        if drop(name) || (names_others && !framing && named(name)) {
            out.extend_from_slice(bytes.get(run..at).unwrap_or_default());
            run = next;
        }
    }
    out.extend_from_slice(bytes.get(run..end).unwrap_or_default());
}

/// Each field line: where it begins, its text, where the next begins.
fn lines(bytes: &[u8], fields: usize) -> impl Iterator<Item = (usize, &[u8], usize)> {
    let mut at = fields;
    std::iter::from_fn(move || {
        let (text, next) = line(bytes, at).ok()??;
        let begins = std::mem::replace(&mut at, next);
        (!text.is_empty()).then_some((begins, text, next))
    })
}

fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', text).unwrap_or(text.len());
    (&text[..colon], trim(text.get(colon + 1..).unwrap_or_default()))
}
