//! Endpoints from a file, TOML or JSON, that is looked at again and again.
//!
//! Looking (time, size, inode) is cheap, needs no watch that a rename, an editor or a
//! mounted volume's switch of links could get lost, and works on network file systems. A
//! file is read once it has been the same for two looks, so that one being written is not
//! taken for one that is done.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use tokio::time::sleep;

use super::{Source, Trouble, Usual};
use crate::snapshot::Endpoint;

/// Longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// What tells one state of a file from another.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(file: &Metadata) -> Stamp {
    let modified = (file.mtime(), file.mtime_nsec());
    (file.dev(), file.ino(), file.size(), modified, (file.ctime(), file.ctime_nsec()))
}

/// Endpoints from a file.
pub struct File {
    path: PathBuf,
    every: Duration,
    usual: Usual,
    /// The state that was read last, `None` where it was not there; the outer `None`:
    /// nothing has been read, or that has to be done again.
    read: Option<Option<Stamp>>,
}

impl File {
    /// Looks at `path` every so often.
    pub fn new(path: PathBuf, every: Duration, usual: Usual) -> Self {
        Self { path, every, usual, read: None }
    }

    /// On a thread where it may take its time.
    async fn look(&self) -> Option<Stamp> {
        let path = self.path.clone();
        let look = move || std::fs::metadata(path).ok().as_ref().map(stamp);
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// Waits until the file is another one than was read, and stays so for a look.
    async fn changed(&self) {
        let mut before = None;
        loop {
            sleep(self.every).await;
            let now = self.look().await;
            if self.read != Some(now) && before == Some(now) {
                return;
            }
            before = Some(now);
        }
    }
}

impl Source for File {
    async fn next(&mut self) -> Result<Vec<Endpoint>, Trouble> {
        if self.read.is_some() {
            self.changed().await;
        }
        let (path, usual) = (self.path.clone(), self.usual.clone());
        let read = tokio::task::spawn_blocking(move || load(&path, &usual)).await;
        let (stamp, loaded) = read.map_err(|error| Trouble(error.to_string()))?;
        self.read = Some(stamp);
        loaded.map_err(|error| {
            if let Unusable::Name(_) = error {
                // The file may be fine: it is read again although it stays as it is.
                self.read = None;
            }
            Trouble(format!("{}: {error}", self.path.display()))
        })
    }
}

/// Why a file has no endpoints for us.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("longer than {LONGEST} bytes")]
    Long,
    /// It is no list of endpoints.
    #[error("line {line}: {message}")]
    Wrong {
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A name in it cannot be found.
    #[error("{0}")]
    Name(String),
}

/// What is in the file, and which state of it that was.
fn load(path: &Path, usual: &Usual) -> (Option<Stamp>, Result<Vec<Endpoint>, Unusable>) {
    let text = std::fs::File::open(path).and_then(|file| {
        // Of the open file: what is read is what was stamped.
        let stamp = stamp(&file.metadata()?);
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text)?;
        Ok((stamp, text))
    });
    match text {
        Err(error) => (std::fs::metadata(path).ok().as_ref().map(stamp), Err(error.into())),
        Ok((stamp, text)) if text.len() as u64 > LONGEST => (Some(stamp), Err(Unusable::Long)),
        Ok((stamp, text)) => {
            let found = parse(path, &text).and_then(|listed| endpoints(listed, usual));
            (Some(stamp), found)
        }
    }
}

/// What the file at `path` says, without looking up names.
///
/// # Errors
/// Where it cannot be read or is no list of endpoints.
pub fn check(path: &Path) -> Result<(), Unusable> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(Unusable::Long);
    }
    parse(path, &text).map(|_| ())
}

fn parse(path: &Path, text: &str) -> Result<Vec<Listed>, Unusable> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        let listing: Result<Listing, _> = serde_json::from_str(text);
        return listing.map(|listing| listing.endpoints).map_err(|error| {
            let whole = error.to_string();
            // The place is told beside it.
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = whole.strip_suffix(&place).unwrap_or(&whole).to_owned();
            Unusable::Wrong { line: error.line(), message }
        });
    }
    let listing: Result<Listing, _> = toml::from_str(text);
    listing.map(|listing| listing.endpoints).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Unusable::Wrong { line, message: error.message().trim().replace('\n', ", ") }
    })
}

fn endpoints(listed: Vec<Listed>, usual: &Usual) -> Result<Vec<Endpoint>, Unusable> {
    let mut all = Vec::with_capacity(listed.len());
    for one in listed {
        let Address { text, known } = one.address;
        let found = match known {
            Some(address) => vec![address],
            None => text
                .to_socket_addrs()
                .map_err(|error| Unusable::Name(format!("cannot find `{text}`: {error}")))?
                .collect(),
        };
        let host = text.rsplit_once(':').map_or(text.as_str(), |(host, _)| host);
        let mut labels = usual.labels.clone();
        labels.extend(one.labels);
        let place = usual.place(one.zone, one.priority);
        let weight = one.weight.map_or(usual.weight, |Weight(weight)| weight);
        all.extend(found.into_iter().map(|address| Endpoint {
            weight,
            labels: labels.clone(),
            place: place.clone(),
            ..usual.endpoint(address, host)
        }));
    }
    Ok(all)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    endpoints: Vec<Listed>,
}

/// `"host:port"`, or a table as in the config.
struct Listed {
    address: Address,
    weight: Option<Weight>,
    labels: BTreeMap<String, String>,
    zone: Option<String>,
    priority: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: Address,
    weight: Option<Weight>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    zone: Option<String>,
    priority: Option<u8>,
}

struct Address {
    text: String,
    /// `None`: the host is a name.
    known: Option<SocketAddr>,
}

impl Address {
    fn read<E: Error>(text: &str) -> Result<Self, E> {
        let known = text.parse().ok();
        let port = text.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
        });
        if known.is_none() && port.is_none() {
            return Err(E::custom(format_args!("`{text}` is no host:port")));
        }
        Ok(Self { text: text.to_owned(), known })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?)
    }
}

struct Weight(u32);

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            weight @ 1..=10_000 => Ok(Self(weight)),
            other => Err(D::Error::custom(format_args!("weight {other} is not from 1 to 10000"))),
        }
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Listed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"host:port\" or a table with an address")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Listed, E> {
                let (address, labels) = (Address::read(text)?, BTreeMap::new());
                Ok(Listed { address, weight: None, labels, zone: None, priority: None })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Listed, M::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let Table { address, weight, labels, zone, priority } = table;
                Ok(Listed { address, weight, labels, zone, priority })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests;
