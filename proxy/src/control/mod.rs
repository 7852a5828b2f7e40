//! What is done to a proxy while it runs.

pub mod systemd;
pub mod upgrade;
