//! What the proxy tells of the messages that pass.

pub mod redact;
