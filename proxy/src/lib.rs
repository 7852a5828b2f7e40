//! Polyport, the proxy.

pub mod engine;
pub mod snapshot;
pub mod worker;

pub use worker::Proxy;
