//! TLS in front and behind, by rustls: who is told which certificate, who is
//! believed, and certificates that change while the proxy runs.
//!
//! [`server`] is what a listener offers, [`client`] how an endpoint is met,
//! [`files`] how certificates and keys are read, [`names`] what a certificate
//! says of its owner, [`watch`] sees files change.

pub mod client;
mod files;
mod names;
pub mod server;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::CryptoProvider;

/// Why TLS cannot be set up: which file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct TlsError {
    /// The file, or empty where it is none's fault.
    pub file: PathBuf,
    /// What is wrong.
    pub why: String,
}

impl TlsError {
    fn of(file: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        Self { file: file.into(), why: why.to_string() }
    }
}

/// A certificate chain and its key, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(tokio_rustls::rustls::crypto::ring::default_provider())
}

/// When files were last changed, and how long they were: enough to see that one was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Stamps(Vec<Option<(SystemTime, u64)>>);

impl Stamps {
    fn of<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Self {
        let stamp = |file: &PathBuf| {
            let about = std::fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        Self(files.map(stamp).collect())
    }
}
