//! What changes while the proxy runs.

pub mod discovery;
