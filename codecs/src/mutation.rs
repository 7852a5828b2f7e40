//! Changes that a route makes to the messages that pass.

use crate::codec::Side;

/// What a protocol lets a route change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutable {
    /// The metadata key it is known by: a fixed name (`path`) or a family's
    /// prefix ending in a dot (`header.`).
    pub name: &'static str,
    /// Whether `name` is a family's prefix and any name may follow it.
    pub family: bool,
    /// In requests.
    pub request: bool,
    /// In replies.
    pub reply: bool,
    /// Whether one name may have several values, so that one can be appended.
    pub append: bool,
    /// Whether it can be left out altogether.
    pub remove: bool,
}

impl Mutable {
    /// A family of named values that may be set and removed in both directions.
    pub const fn family(prefix: &'static str) -> Self {
        Self { name: prefix, family: true, request: true, reply: true, append: false, remove: true }
    }

    /// Whether messages of `side` can be changed so.
    pub const fn on(&self, side: Side) -> bool {
        match side {
            Side::Request => self.request,
            Side::Reply => self.reply,
        }
    }
}

/// One change to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The whole key, lower case as far as it is matched: `header.x-tenant`, `path`.
    pub key: &'a str,
    /// What becomes of it.
    pub to: To<'a>,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// It has this value and no other.
    Set(&'a [u8]),
    /// It has this value beside those it had.
    Append(&'a [u8]),
    /// It is gone.
    Remove,
}

impl<'a> Change<'a> {
    /// The name within the family whose prefix is `prefix`, if the key is of it.
    pub fn of(&self, prefix: &str) -> Option<&'a str> {
        self.key.strip_prefix(prefix)
    }
}

/// Why one message cannot be changed as its route asks. It is answered with an
/// error rather than passed on as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be changed: {0}")]
pub struct Unchangeable(pub &'static str);
