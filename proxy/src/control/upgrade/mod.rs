//! Another binary takes over from this process, and no connection is lost.
//!
//! The old process starts the new one from the path that it was itself started from, and
//! talks to it over a pair of Unix sockets, one of which is the new one's standard input:
//! nobody else has them. It hands over its listening sockets, so that not even a connection
//! that waits to be accepted is lost, and the endpoints that its sources have found. Once the new one runs and says so, the old one stops
//! accepting and hands over its clients' connections, each when nothing of it is under way;
//! those that cannot move it drains. Whatever goes wrong before that moment, it kills the new
//! one and goes on as if nothing had been.
//!
//! Read on: [`old`] and [`new`] (the two ends), [`message`] (what they say),
//! [`found`] (endpoints),
//! [`crate::engine`]'s `depart.rs` (which connections can move, and when).

mod found;
mod message;
mod new;
mod old;
pub mod pid_file;

pub(crate) use found::Found;
pub(crate) use message::{Moved, Takes};
pub use new::Inherited;
pub use old::{Program, Upgrades};

/// Set for a process that takes over from the one that started it.
const VARIABLE: &str = "POLYPORT_UPGRADE";
