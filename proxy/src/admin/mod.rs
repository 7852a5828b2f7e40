//! The admin API and page: what the proxy does right now, for people and their scripts.
//!
//! It runs on the control thread, on loopback or a unix socket, and changes nothing unless
//! the config says `write = true`. What it may see and do of the proxy is [`Operator`];
//! requests come in by [`serve`], which also refuses what a web page elsewhere could send;
//! [`api`] answers them; [`tap`] shows messages as they pass; [`page`] is the page, which
//! uses nothing but the API. `docs/admin.md` is its manual.

mod api;
pub mod figures;
mod hide;
pub mod log;
pub mod operator;
mod page;
mod profile;
mod serve;
mod stacks;
pub mod tap;
mod text;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::SystemTime;

use polyport_codecs::Registry;

pub use log::LogLevel;
pub use operator::Operator;
pub use serve::{Sockets, bind, serve};
pub use tap::Hub;

/// Config section `[admin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; on loopback.
    pub address: Option<SocketAddr>,
    /// The file of its unix socket, which only its owner may use.
    pub socket: Option<PathBuf>,
    /// Whether it may change anything.
    pub write: bool,
}

/// What the API answers from.
pub struct Admin {
    /// The proxy.
    pub operator: Operator,
    /// Its protocols, for filters and questions.
    pub registry: Registry,
    /// What the log says.
    pub log: LogLevel,
    /// Whether anything may be changed.
    pub write: bool,
    /// When the proxy started.
    pub started: SystemTime,
    /// The proxy is stopping: it serves who is there, and nobody should come.
    pub leaving: AtomicBool,
    /// Requests that are not answered yet; those that are stay open for as long as they like.
    pub unanswered: AtomicUsize,
}
