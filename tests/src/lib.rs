//! The harness: Polyport as a process between real servers and real clients.
//!
//! Every server gets a free loopback port and a directory of its own and is
//! killed when its handle is dropped, so tests run side by side and in any
//! order. Clients are the ones people use (`redis-cli`, redis-py, curl, wrk, a
//! JavaScript Dubbo stack, Apache Thrift), run as processes whose exit status is the verdict,
//! and [`raw`] sockets where bytes matter.
//!
//! `POLYPORT_TESTS_DIRECT=1` takes the proxy out: clients are given the
//! servers' own addresses. What holds then and not through the proxy is the
//! proxy's fault; what fails in both is the test's.

pub mod bolt;
pub mod certs;
pub mod chaos;
pub mod dnsmasq;
pub mod everyone;
pub mod figures;
pub mod grpc;
pub mod haproxy;
pub mod http2;
pub mod load;
pub mod moody;
pub mod mqtt;
pub mod peers;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod secure;
pub mod stubs;
pub mod thrift;
pub mod websocket;

pub use bolt::BoltServer;
pub use certs::Authority;
pub use dnsmasq::Dnsmasq;
pub use grpc::GrpcServer;
pub use haproxy::Haproxy;
pub use moody::Moody;
pub use mqtt::MosquittoServer;
pub use peers::{Backend, DubboServer, Nginx, RedisServer};
pub use proxy::{Config, Proxy};
pub use raw::Raw;
pub use thrift::ThriftServer;
pub use websocket::WebSockets;

use std::time::Duration;

/// Longer than anything here takes on a busy two-core machine; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the proxy is taken out, so that the tests test themselves.
pub fn direct() -> bool {
    std::env::var_os("POLYPORT_TESTS_DIRECT").is_some_and(|value| value == "1")
}
