//! Polyport, the proxy: one port, every protocol.
//!
//! A config ([`config`]) is compiled into a [`snapshot`]; [`Proxy::start`] runs it on
//! worker threads ([`worker`]), each of which owns an [`engine`]: the part that knows how
//! messages are exchanged, and does no I/O. [`cli`] is the command line. No module here
//! knows a protocol by name, but the demo: protocols come from a
//! [`Registry`](polyport_codecs::Registry), to which a program that links this crate
//! may add its own.
//!
//! Read on: `docs/architecture.md` walks a message through the files.

pub mod admin;
pub mod audit;
pub mod balance;
pub mod breaker;
mod carry;
pub mod cli;
pub mod config;
pub mod control;
pub mod edit;
pub mod engine;
pub mod guard;
pub mod health;
pub mod limit;
mod lock;
pub mod observe;
pub mod overload;
pub mod policy;
pub mod privileges;
pub mod snapshot;
mod streams;
pub mod tls;
pub mod worker;

pub use worker::Proxy;
