//! Metadata keys of HTTP.

use super::fields::{Field, is, trim};
use super::head::{Found, Said};
use super::request::{StartLine, Target};
use super::{NAME, dialect, grpc, note};
use crate::codec::KeySpec;
use crate::frame::Kind;
use crate::interest::{Interest, Slot};
use crate::metadata::Metadata;
use crate::shared::{self, SharedSlots};

pub(super) const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::SERVICE,
    shared::METHOD,
    shared::SIZE,
    KeySpec::key("path", "the target's path, without the query, as it was sent", "/shop/cart"),
    KeySpec::key("host", "the host asked for, lower case, without the port", "shop.example"),
    KeySpec::key("scheme", "http or https", "http"),
    KeySpec::key("http.version", "the version the client speaks", "1.1"),
    KeySpec::key("dialect", "what of HTTP it is: http, http2, grpc or websocket", "grpc"),
    KeySpec::key("grpc.method", "gRPC: the method; service is then the gRPC service", "Find"),
    KeySpec::key("status", "replies: the status", "200"),
    KeySpec::family("header.", "a header field; repeated ones joined by commas", "header.x-tenant"),
    KeySpec::family("query.", "a query parameter, percent-decoded", "query.page"),
    KeySpec::family("cookie.", "a cookie", "cookie.session"),
];

/// Slots, resolved once per config.
pub(super) struct Keys {
    shared: SharedSlots,
    path: Option<Slot>,
    host: Option<Slot>,
    scheme: Option<Slot>,
    version: Option<Slot>,
    dialect: Option<Slot>,
    grpc_method: Option<Slot>,
    status: Option<Slot>,
    headers: Vec<(Box<str>, Slot)>,
    queries: Vec<(Box<str>, Slot)>,
    cookies: Vec<(Box<str>, Slot)>,
    everything: bool,
}

impl Keys {
    pub(super) fn new(interest: &Interest) -> Self {
        Self {
            shared: SharedSlots::new(interest),
            path: interest.slot("path"),
            host: interest.slot("host"),
            scheme: interest.slot("scheme"),
            version: interest.slot("http.version"),
            dialect: interest.slot("dialect"),
            grpc_method: interest.slot("grpc.method"),
            status: interest.slot("status"),
            headers: interest.family("header."),
            queries: interest.family("query."),
            cookies: interest.family("cookie."),
            everything: interest.wants_everything(),
        }
    }

    /// One field of a head.
    pub(super) fn field(&self, field: &Field<'_>, buf: &[u8], meta: &mut Metadata) {
        if self.headers.is_empty()
            && self.cookies.is_empty()
            && self.host.is_none()
            && self.shared.service.is_none()
            && !self.everything
        {
            return;
        }
        let Field { name, value, value_at } = field;
        let mut wanted = false;
        for (_, slot) in self.headers.iter().filter(|(wanted, _)| is(name, wanted)) {
            wanted = true;
            match meta.view(buf).get(*slot) {
                None => meta.set_span(*slot, *value_at, value.len()),
                Some(had) => {
                    // HTTP/2 sends each cookie in a field of its own (RFC 9113 section 8.2.3).
                    let between: &[u8] = if is(name, "cookie") { b"; " } else { b", " };
                    let joined = [had, between, value].concat();
                    meta.set_text(*slot, &joined);
                }
            }
        }
        if self.everything && !wanted {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            meta.push_extra(&format!("header.{name}"), value);
        }
        if is(name, "host") {
            self.set_host(value, *value_at, meta);
        } else if is(name, "cookie") && (self.everything || !self.cookies.is_empty()) {
            let start = *value_at;
            for pair in value.split(|byte| *byte == b';') {
                let pair = trim(pair);
                let Some(equals) = memchr::memchr(b'=', pair) else { continue };
                let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
                // Cookie names are matched exactly but for case, as all names are.
                let slot = self.cookies.iter().find(|(wanted, _)| is(name, wanted));
                let offset = value.as_ptr() as usize - field.value.as_ptr() as usize;
                match slot {
                    Some((_, slot)) => meta.set_span(*slot, start + offset, value.len()),
                    None if self.everything => {
                        let name = String::from_utf8_lossy(name);
                        meta.push_extra(&format!("cookie.{name}"), value);
                    }
                    None => {}
                }
            }
        }
    }

    /// The host as rules see it: lower case, without the port.
    fn set_host(&self, authority: &[u8], at: usize, meta: &mut Metadata) {
        let end = match authority.first() {
            // An IPv6 literal keeps its brackets.
            Some(b'[') => memchr::memchr(b']', authority).map_or(authority.len(), |end| end + 1),
            _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
        };
        let host = authority.get(..end).unwrap_or_default();
        for slot in [self.host, self.shared.service].into_iter().flatten() {
            if host.iter().any(u8::is_ascii_uppercase) || at == usize::MAX {
                meta.set_text(slot, &host.to_ascii_lowercase());
            } else {
                meta.set_span(slot, at, host.len());
            }
        }
    }

    /// The start line of a request.
    pub(super) fn request(
        &self,
        start: &StartLine<'_>,
        target: &Target<'_>,
        found: Found,
        buf: &[u8],
        said: &Said,
        meta: &mut Metadata,
    ) {
        let size = said.length.map(|length| length + (found.end - found.start) as u64);
        self.shared.fill(meta, NAME, Kind::Request, size);
        if let Some(slot) = self.shared.method {
            meta.set_span(slot, found.start, start.method.len());
        }
        if let Some(slot) = self.version {
            meta.set_static(slot, start.version.as_str());
        }
        if let Some(slot) = self.dialect {
            meta.set_static(slot, dialect::name(said.dialect));
        }
        if let Some(slot) = self.scheme {
            let secure = target.scheme.is_some_and(|scheme| scheme.len() == 5);
            meta.set_static(slot, if secure { "https" } else { "http" });
        }
        if let Some(authority) = target.authority {
            // The target overrides the Host field (RFC 9112 section 3.2.2).
            self.set_host(authority, usize::MAX, meta);
            // Rules see the Host that the upstream will see.
            if target.scheme.is_some() {
                for (_, slot) in self.headers.iter().filter(|(name, _)| is(b"host", name)) {
                    meta.set_text(*slot, authority);
                }
            }
        }
        let (path, query) = match memchr::memchr(b'?', target.origin) {
            Some(at) => (target.origin.get(..at), target.origin.get(at + 1..)),
            None => (Some(target.origin), None),
        };
        let path = path.unwrap_or_default();
        let absolute = match (target.scheme, target.authority) {
            (Some(scheme), Some(authority)) => scheme.len() + 3 + authority.len(),
            _ => 0,
        };
        let path_at = found.start + start.method.len() + 1 + absolute;
        let mut put = |slot: Slot, at: usize, value: &[u8]| {
            // A path that the target leaves out is nowhere in the buffer.
            if buf.get(at..at + value.len()) == Some(value) {
                meta.set_span(slot, at, value.len());
            } else {
                meta.set_text(slot, value);
            }
        };
        if let Some(slot) = self.path {
            put(slot, path_at, path);
        }
        if said.notes & note::GRPC != 0
            && let Some((service, method)) = grpc::call(path)
        {
            if let Some(slot) = self.shared.service {
                put(slot, path_at + 1, service);
            }
            if let Some(slot) = self.grpc_method {
                put(slot, path_at + service.len() + 2, method);
            }
        }
        if let Some(query) = query
            && (self.everything || !self.queries.is_empty())
        {
            self.query(query, meta);
        }
    }

    fn query(&self, query: &[u8], meta: &mut Metadata) {
        for pair in query.split(|byte| *byte == b'&') {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
            let name = decode(name);
            match self.queries.iter().find(|(wanted, _)| is(&name, wanted)) {
                Some((_, slot)) => meta.set_text(*slot, &decode(value)),
                None if self.everything && !name.is_empty() => {
                    let name = String::from_utf8_lossy(&name);
                    meta.push_extra(&format!("query.{name}"), &decode(value));
                }
                None => {}
            }
        }
    }

    /// The status line of a response.
    pub(super) fn response(
        &self,
        status: u16,
        found: Found,
        kind: Kind,
        length: Option<u64>,
        meta: &mut Metadata,
    ) {
        let size = length.map(|length| length + (found.end - found.start) as u64);
        self.shared.fill(meta, NAME, kind, size);
        if let Some(slot) = self.status {
            meta.set_number(slot, i128::from(status));
        }
    }
}

/// Percent-decoding; what is no valid escape stays as it is.
fn decode(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return bytes.into();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    out.into()
}
