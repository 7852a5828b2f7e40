//! What a decoder says when bytes are not what the protocol allows.

use std::borrow::Cow;

use crate::frame::ReplyTo;

/// Why bytes were refused; decides the native reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes break the protocol's grammar.
    Malformed,
    /// A declared or seen size passes one of [`crate::Limits`].
    TooLarge,
    /// Well formed, but something this codec does not carry.
    Unsupported,
    /// The connection ended inside a message.
    Truncated,
}

/// Bytes that a decoder refuses. Framing is lost with it: the connection gets
/// one native error reply (where the protocol has one) and is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{protocol}: {kind:?} at byte {offset} of the message: {reason}")]
pub struct DecodeError {
    /// Name of the protocol whose decoder refused.
    pub protocol: &'static str,
    /// Offset of the refused value from the start of the buffer given to `decode`.
    pub offset: usize,
    /// The class of refusal.
    pub kind: ErrorKind,
    /// What was refused, with its value, and what is allowed.
    pub reason: Cow<'static, str>,
    /// The protocol's own status for it (HTTP 431, say); 0 where it has none.
    pub status: u16,
    /// Whom the native error reply answers, where the message got far enough to say.
    pub reply_to: Option<ReplyTo>,
}

impl DecodeError {
    /// An error of `kind` at `offset`, without a native status or reply address.
    pub fn new(
        protocol: &'static str,
        kind: ErrorKind,
        offset: usize,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { protocol, offset, kind, reason: reason.into(), status: 0, reply_to: None }
    }

    /// The same error with the protocol's own status code.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same error, answerable to the request it was found in.
    #[must_use]
    pub fn answering(mut self, to: ReplyTo) -> Self {
        self.reply_to = Some(to);
        self
    }
}
