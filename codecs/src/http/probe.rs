//! Whether a connection's first bytes are HTTP's.

use crate::detect::{CERTAIN, Probe};

/// Methods that no other protocol here has as its first word. The slash behind
/// them decides.
const METHODS: &[&str] = &[
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "PURGE",
    "LINK",
    "UNLINK",
];

/// Longest method of an unknown name that is waited for.
const LONGEST_METHOD: usize = 24;

/// Longest line that is waited for to settle what `GET` means.
const LONGEST_LINE: usize = 8 << 10;

/// What begins every connection of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether this is HTTP/2's preface: known by its last byte, no sooner, as an
/// HTTP/1.1 method may be called `PRI`.
pub(super) fn preface(prefix: &[u8]) -> Probe {
    match prefix.get(..PREFACE.len()) {
        Some(whole) if whole == PREFACE => Probe::Yes { confidence: CERTAIN },
        None if PREFACE.starts_with(prefix) => Probe::Maybe { need: prefix.len() + 1 },
        _ => Probe::No,
    }
}

pub(super) fn probe(prefix: &[u8]) -> Probe {
    match preface(prefix) {
        Probe::No => one(prefix),
        other => other,
    }
}

/// Whether this is HTTP/1.
fn one(prefix: &[u8]) -> Probe {
    let lead = prefix.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = prefix.get(lead..).unwrap_or_default();
    let more = Probe::Maybe { need: prefix.len() + 1 };
    if lead > 4 {
        return Probe::No;
    }
    let method = rest.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if method == rest.len() {
        return if method <= LONGEST_METHOD { more } else { Probe::No };
    }
    if method == 0 || method > LONGEST_METHOD || rest.get(method) != Some(&b' ') {
        return Probe::No;
    }
    let known = METHODS.iter().any(|known| Some(known.as_bytes()) == rest.get(..method));
    if known {
        match rest.get(method + 1) {
            None => return more,
            Some(b'/') => return Probe::Yes { confidence: CERTAIN },
            Some(_) => {}
        }
    }
    // `GET x` may also be typed to Redis: the end of the line tells.
    let line = rest.get(..rest.len().min(LONGEST_LINE)).unwrap_or_default();
    match memchr::memchr(b'\n', line) {
        None if rest.len() >= LONGEST_LINE => Probe::No,
        None => more,
        Some(end) => {
            let line = line.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let version = line.len().checked_sub(9).and_then(|at| line.get(at..));
            match version {
                Some([b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', _]) if *major == b'1' => {
                    Probe::Yes { confidence: CERTAIN }
                }
                _ => Probe::No,
            }
        }
    }
}
