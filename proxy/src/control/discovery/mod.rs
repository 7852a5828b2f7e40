//! Endpoints that change while the proxy runs.
//!
//! The seam is [`Source`]: something that tells, again and again, the *whole* set of a
//! cluster's endpoints. A source knows where it asks and when there may be something new;
//! what becomes of its answers it does not know. That is for [`supervisor`]: it runs a
//! source for ever, compares, says in the log what came and went, waits longer after each
//! failure, and publishes. **Nothing is ever published because of an error**: a source
//! that goes away leaves the last good state, however long that takes.
//!
//! There are [`dns`] (A, AAAA and SRV) and [`file`](mod@file). A further one (a registry, say) is a
//! type with `next`, a variant of [`Origin`], an arm in [`supervisor::Supervisors::follow`],
//! and a key in `config/discover.rs`.

pub mod dns;
pub mod file;
pub(crate) mod stage;
pub mod supervisor;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::snapshot::{Endpoint, Place};

/// Most endpoints of one answer; one that tells more is refused as a whole.
pub const MOST: usize = 4096;

/// Where endpoints come from.
pub trait Source: Send + 'static {
    /// The whole set, as soon as there may be something new: the first call answers as
    /// soon as it can, later ones after what the source itself takes for a decent pause.
    /// After an error the next call asks at once: then the caller has waited. Order and
    /// repetitions mean nothing, and neither does telling the same set again.
    ///
    /// # Errors
    /// Where nothing is known; the last set stays.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Endpoint>, Trouble>> + Send;
}

/// Why a source has no answer, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

/// A cluster's `discover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discover {
    /// What is asked.
    pub from: Origin,
    /// DNS: the least pause between two questions. File: the pause between two looks.
    pub every: Duration,
    /// What an answer without any endpoint means.
    pub empty: Empty,
    /// What endpoints are of which the source does not say it itself.
    pub usual: Usual,
}

/// What is asked for endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The addresses of a name, all with this port.
    Dns {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// Who is asked; empty: whom the system asks.
        resolver: Vec<SocketAddr>,
    },
    /// SRV records, and the addresses of the names in them.
    Srv {
        /// The service's name: `_service._proto.name`.
        name: String,
        /// Who is asked; empty: whom the system asks.
        resolver: Vec<SocketAddr>,
    },
    /// A file that is looked at again and again.
    File(PathBuf),
}

impl Origin {
    /// What is asked and who, in words that no other source has.
    pub(crate) fn words(&self) -> String {
        let (Self::Dns { resolver, .. } | Self::Srv { resolver, .. }) = self else {
            return self.to_string();
        };
        resolver.iter().fold(self.to_string(), |words, server| format!("{words} of {server}"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { host, port, .. } => write!(f, "dns {host}:{port}"),
            Self::Srv { name, .. } => write!(f, "srv {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// What an answer means that is fine but for naming no endpoint at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empty {
    /// A mistake (a server that lost its zone, a file emptied by accident): the last set stays.
    #[default]
    Keep,
    /// What it says: the cluster has nobody, and requests are refused.
    Believe,
}

/// What an endpoint is where its source does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usual {
    /// Its share among its peers.
    pub weight: u32,
    /// For subsets; a source that tells labels adds to them.
    pub labels: BTreeMap<String, String>,
    /// The zone it is in.
    pub zone: Option<String>,
    /// Those of a lower number come first.
    pub priority: u8,
    /// Where this proxy is.
    pub ours: Option<String>,
}

impl Default for Usual {
    fn default() -> Self {
        Self { weight: 1, labels: BTreeMap::new(), zone: None, priority: 0, ours: None }
    }
}

impl Usual {
    /// An endpoint at `address`, of which nothing else is known than how it was written.
    pub fn endpoint(&self, address: SocketAddr, host: &str) -> Endpoint {
        Endpoint {
            address,
            host: host.to_owned(),
            weight: self.weight,
            labels: self.labels.clone(),
            place: self.place(None, None),
            drained: false,
            retired: false,
            tenant: 0,
        }
    }

    /// Where an endpoint stands that tells this of itself.
    pub fn place(&self, zone: Option<String>, priority: Option<u8>) -> Place {
        let zone = zone.or_else(|| self.zone.clone());
        Place {
            priority: priority.unwrap_or(self.priority),
            local: zone.is_some() && zone == self.ours,
            zone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_as_usual_where_its_source_says_nothing() {
        let labels = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
        let ours = Some("a".to_owned());
        let usual =
            Usual { weight: 3, labels: labels.clone(), zone: ours.clone(), priority: 1, ours };
        let endpoint = usual.endpoint(([10, 0, 0, 1], 80).into(), "orders");
        assert_eq!((endpoint.weight, endpoint.labels), (3, labels));
        assert_eq!(endpoint.place, Place { priority: 1, zone: Some("a".into()), local: true });
        let elsewhere = usual.place(Some("b".into()), Some(0));
        assert_eq!(elsewhere, Place { priority: 0, zone: Some("b".into()), local: false });
        assert!(!Usual::default().place(None, None).local, "nowhere is not our zone");
    }
}
