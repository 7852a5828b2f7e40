//! Polyport beside its peers, in one run, on the same cores.
//!
//! The `compare` binary starts real backends ([`backend`]), starts each proxy
//! alone on its core ([`peers`]), drives them in turn with one load generator
//! that checks every reply ([`load`]), reads what the proxy's processes cost
//! ([`cpu`]) and prints the ratios ([`table`]).

pub mod aims;
pub mod backend;
pub mod cpu;
pub mod load;
pub mod peers;
pub mod policies;
pub mod process;
pub mod table;

/// What fails here ends the run with a message; nothing is handled by kind.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A kind of traffic to compare proxies by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// `GET` of a 64-byte value from a real redis-server.
    Redis,
    /// A Dubbo 2 (hessian2) call that echoes a 32-byte string.
    Dubbo,
    /// A Thrift call (framed, binary, strict) that echoes a 32-byte string.
    Thrift,
    /// A Bolt v1 call that echoes 32 bytes of content.
    Bolt,
    /// An MQTT 3.1.1 PUBLISH of QoS 1 with 32 bytes, and its PUBACK.
    Mqtt,
    /// HTTP/1.1 `GET`, keep-alive, of a 64-byte body.
    Http,
    /// The same over HTTP/2 (prior knowledge), from the same HTTP/1.1 server.
    Http2,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Redis, Self::Dubbo, Self::Thrift, Self::Bolt, Self::Mqtt, Self::Http, Self::Http2];

    /// Its name in tables and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Dubbo => "dubbo",
            Self::Thrift => "thrift",
            Self::Bolt => "bolt",
            Self::Mqtt => "mqtt",
            Self::Http => "http",
            Self::Http2 => "http2",
        }
    }

    /// What Polyport calls its protocol.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Http2 => Self::Http.name(),
            other => other.name(),
        }
    }

    /// Whether clients have several calls in flight on one connection.
    pub const fn pipelines(self) -> bool {
        !matches!(self, Self::Http)
    }
}
