//! What the proxy tells of the messages that pass.

pub mod access_log;
pub mod metrics;
pub mod output;
pub mod redact;
pub mod stacks;
pub(crate) mod text;
