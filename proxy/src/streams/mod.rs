//! Connections that carry many streams: HTTP/2, by the `h2` crate.
//!
//! The engine knows connections that carry one exchange after the other. So
//! each stream is given to it as a connection of its own, over a bounded
//! [`pipe`], in HTTP/1.1's words ([`text`]): [`server`] does that for clients'
//! streams, [`client`] for those towards endpoints, [`body`] what both do. What routes, limits, pools and
//! answers HTTP/1.1 so does the same for HTTP/2 and gRPC, and either side may speak
//! either version. Trailers are chunked trailers between; flow control reaches
//! through, as a full pipe stops whoever fills it.

mod body;
pub(crate) mod client;
pub(crate) mod leave;
pub(crate) mod pipe;
pub(crate) mod server;
mod text;
mod watch;
mod websocket;

/// Bytes that a client may send on one stream before it must wait to be asked on.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for an endpoint.
const UPSTREAM_WINDOW: u32 = 128 << 10;

/// Streams that share one connection to an endpoint. All their windows together fit
/// its own, so that clients who do not read hold up nobody else on it.
const UPSTREAM_STREAMS: u32 = 100;

/// The same for all streams of one client's connection together: what it may
/// make us hold.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that a peer may have open at once on one connection.
const MAX_STREAMS: u32 = 256;
