//! Where last words may stand in a session that passes as it is.

use crate::frame::Fault;

/// Follows what the server of a joined session says to its client, so that the proxy, when it
/// has to end it, can put the protocol's last words between two messages
/// ([`crate::Protocol::seam`]). Owns no bytes; costs nothing per byte but that they are counted.
pub trait Seam: Send {
    /// These bytes come next: goes over all of them, or, where it is to `stop`, over no more
    /// than reach up to the next place between two messages. How many that were.
    fn advance(&mut self, bytes: &[u8], stop: bool) -> usize;

    /// Whether last words may stand here. Never again, once the server has said its own, or
    /// something that is no message.
    fn is_between(&self) -> bool;

    /// Appends the last words, for this reason.
    fn farewell(&self, fault: Fault, out: &mut Vec<u8>);
}
