//! Answers that a route gives itself, without an upstream.

/// A direct answer, as a config writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The protocol's own status: HTTP's 200 to 599.
    pub status: u16,
    /// Names and values, in the order in which they are written.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body, as it is; empty: none.
    pub body: &'a [u8],
}
