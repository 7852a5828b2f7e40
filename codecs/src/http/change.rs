//! Changes that a route makes to a head: which may be made, and what they come to.

use super::fields::{authority, is, is_text, is_token, trim};
use crate::codec::Side;
use crate::mutation::{Change, Mutable, To, Unchangeable};

const HEADER: &str = "header.";

pub(super) const MUTABLE: &[Mutable] = &[
    Mutable { name: HEADER, family: true, request: true, reply: true, append: true, remove: true },
    Mutable {
        name: "host",
        family: false,
        request: true,
        reply: false,
        append: false,
        remove: false,
    },
    Mutable {
        name: "path",
        family: false,
        request: true,
        reply: false,
        append: false,
        remove: false,
    },
];

/// Why a key is not a route's to change.
pub(super) fn immutable(key: &str) -> Option<&'static str> {
    immutable_field(key.strip_prefix(HEADER)?.as_bytes())
}

/// Why a field is not a route's to write.
pub(super) fn immutable_field(name: &[u8]) -> Option<&'static str> {
    let any = |names: &[&str]| names.iter().any(|lower| is(name, lower));
    match () {
        () if !is_token(name) => {
            Some("a header's name is made of letters, digits and !#$%&'*+-.^_`|~")
        }
        () if any(&["content-length", "transfer-encoding", "trailer"]) => {
            Some("it frames the body, which a route cannot change: leave it out")
        }
        () if any(&[
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "upgrade",
            "http2-settings",
        ]) =>
        {
            Some("it is about one connection, which is the proxy's own: leave it out")
        }
        () if any(&["host"]) => Some("change the key host instead"),
        () => None,
    }
}

/// Changes to one head, each of which can be made.
#[derive(Clone, Copy)]
pub(super) struct Changes<'a>(&'a [Change<'a>]);

impl<'a> Changes<'a> {
    pub(super) const NONE: Self = Self(&[]);

    /// Values may come from what clients send, so they are looked at each time.
    pub(super) fn checked(changes: &'a [Change<'a>], side: Side) -> Result<Self, Unchangeable> {
        for change in changes {
            if let Some(why) = immutable(change.key) {
                return Err(Unchangeable(why));
            }
            match (change.key, change.to) {
                ("path", To::Set(value)) if side == Side::Request => path(value)?,
                ("host", To::Set(value)) if side == Side::Request => host(value)?,
                (key, To::Set(value) | To::Append(value)) if key.starts_with(HEADER) => {
                    if !is_text(value) {
                        return Err(Unchangeable("a control character in a header's value"));
                    }
                }
                (key, To::Remove) if key.starts_with(HEADER) => {}
                _ => return Err(Unchangeable("not a key that HTTP can change so")),
            }
        }
        Ok(Self(changes))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn last(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().rev().find_map(|change| match change.to {
            To::Set(value) if change.key == key => Some(value),
            _ => None,
        })
    }

    pub(super) fn path(&self) -> Option<&'a [u8]> {
        self.last("path")
    }

    pub(super) fn host(&self) -> Option<&'a [u8]> {
        self.last("host")
    }

    /// Whether the fields of this name that the message came with are gone.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        self.0.iter().any(|change| clears(change, name))
    }

    /// Appends the field lines that are new.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (at, change) in self.0.iter().enumerate() {
            let (Some(name), To::Set(value) | To::Append(value)) = (change.of(HEADER), change.to)
            else {
                continue;
            };
            let later = self.0.get(at + 1..).unwrap_or_default();
            if later.iter().any(|later| clears(later, name.as_bytes())) {
                continue;
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(trim(value));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Whether `change` leaves nothing of what had this name before it.
fn clears(change: &Change<'_>, name: &[u8]) -> bool {
    !matches!(change.to, To::Append(_)) && change.of(HEADER).is_some_and(|own| is(name, own))
}

/// A path as a target has it, with or without a query (RFC 9112 section 3.2.1).
fn path(value: &[u8]) -> Result<(), Unchangeable> {
    let visible = value.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#');
    if value.first() != Some(&b'/') || !visible {
        return Err(Unchangeable("a path that does not begin with / or has bytes to be escaped"));
    }
    Ok(())
}

fn host(value: &[u8]) -> Result<(), Unchangeable> {
    if authority(value).is_none_or(|(host, _)| host.is_empty()) {
        return Err(Unchangeable("a host that is no host"));
    }
    Ok(())
}
