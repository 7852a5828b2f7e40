//! What people tell apart, though it all is HTTP: who counts and shows messages names these.

use super::note;
use super::request::Version;

/// By [`Head::dialect`](crate::Head::dialect).
pub(super) const NAMES: &[&str] = &["http", "http2", "grpc", "websocket"];

pub(super) const HTTP2: u8 = 1;
const GRPC: u8 = 2;
const WEBSOCKET: u8 = 3;

/// The dialect of a request with these notes. gRPC is so only over HTTP/2, which it needs; a
/// WebSocket is one from the request that asks for it, over either version.
pub(super) fn of(version: Version, notes: u64) -> u8 {
    match version {
        _ if notes & note::WEBSOCKET != 0 => WEBSOCKET,
        Version::Http2 if notes & note::GRPC != 0 => GRPC,
        Version::Http2 => HTTP2,
        Version::Http10 | Version::Http11 => 0,
    }
}

/// The name of a dialect.
pub(super) fn name(at: u8) -> &'static str {
    NAMES.get(usize::from(at)).copied().unwrap_or(super::NAME)
}
