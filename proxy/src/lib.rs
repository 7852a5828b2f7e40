//! Placeholder.

pub mod snapshot;
