//! The endpoints that the old process has found, on their way to the new one: whose sources
//! are away just then has them all the same.
//!
//! They go as the content of a file that has no name, one line of JSON a cluster, with a
//! descriptor beside the sockets. A process that does not know of it ignores a descriptor of
//! that name, and keys that it does not know; what it misses has a default.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::control::discovery::{Discover, MOST};
use crate::control::{with_drained, with_endpoints};
use crate::snapshot::{Endpoint, Snapshot};

/// What the descriptor is called. Another meaning of the lines is another name.
pub(super) const NAME: &str = "endpoints 1";

/// Most bytes of all lines: some hundred thousand endpoints.
const BYTES: u64 = 64 << 20;

/// What is known of one cluster.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cluster {
    name: String,
    /// Who was asked for its endpoints, in words.
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    endpoints: Vec<Known>,
    /// Of all its endpoints, those that an operator has taken out.
    #[serde(default)]
    drained: Vec<SocketAddr>,
}

/// An endpoint that a source has told. What its cluster says of it is the new config's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    address: SocketAddr,
    #[serde(default)]
    host: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    priority: u8,
}

fn one() -> u32 {
    1
}

impl Cluster {
    /// `None`: there is nothing to tell.
    fn of(cluster: &crate::snapshot::Cluster) -> Option<Self> {
        let here = || cluster.endpoints.iter().filter(|endpoint| !endpoint.retired);
        // Nobody knows whether an empty set was found or is all that there is so far.
        let found = cluster.discover.as_ref().filter(|_| here().next().is_some());
        let drained: Vec<SocketAddr> =
            here().filter(|endpoint| endpoint.drained).map(|endpoint| endpoint.address).collect();
        if cluster.retired || (found.is_none() && drained.is_empty()) {
            return None;
        }
        let endpoints = here().filter(|_| found.is_some()).map(|endpoint| Known {
            address: endpoint.address,
            host: endpoint.host.clone(),
            weight: endpoint.weight,
            labels: endpoint.labels.clone(),
            zone: endpoint.place.zone.clone(),
            priority: endpoint.place.priority,
        });
        Some(Self {
            name: cluster.name.clone(),
            from: found.map(|found| found.from.words()),
            endpoints: endpoints.collect(),
            drained,
        })
    }

    /// Its endpoints for who asks the same source; `None` for others.
    fn found(&self, discover: &Discover) -> Option<Vec<Endpoint>> {
        let same = self.from.as_deref() == Some(&discover.from.words());
        if !same || self.endpoints.is_empty() || self.endpoints.len() > MOST {
            return None;
        }
        let one = |known: &Known| Endpoint {
            weight: known.weight.max(1),
            labels: known.labels.clone(),
            place: discover.usual.place(known.zone.clone(), Some(known.priority)),
            ..discover.usual.endpoint(known.address, &known.host)
        };
        Some(self.endpoints.iter().map(one).collect())
    }
}

/// What the old process knows, for the new one; `None`: nothing.
pub(super) fn pack(snapshot: &Snapshot) -> io::Result<Option<OwnedFd>> {
    let mut clusters = snapshot.clusters.iter().filter_map(Cluster::of).peekable();
    if clusters.peek().is_none() {
        return Ok(None);
    }
    let mut file = File::from(memfd_create("polyport-endpoints", MemfdFlags::CLOEXEC)?);
    let mut left = BYTES;
    for cluster in clusters {
        let mut line = serde_json::to_vec(&cluster)?;
        line.push(b'\n');
        match left.checked_sub(line.len() as u64) {
            Some(rest) => left = rest,
            None => {
                tracing::warn!(cluster = %cluster.name, "its endpoints are not handed over: there are too many");
                continue;
            }
        }
        file.write_all(&line)?;
    }
    Ok(Some(file.into()))
}

/// What the old process knew.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<Cluster>);

impl Found {
    /// Reads what came. What is not understood is left out: it is found again anyway.
    pub(super) fn unpack(fd: OwnedFd) -> Self {
        let mut file = File::from(fd);
        let lines = file.rewind().map(|()| BufReader::new(file.take(BYTES)).split(b'\n'));
        let read = |line: io::Result<Vec<u8>>| Ok::<_, io::Error>(serde_json::from_slice(&line?)?);
        let note = |error: &io::Error| {
            tracing::warn!(%error, "endpoints that were handed over are not understood");
        };
        match lines {
            Ok(lines) => {
                Self(lines.map(read).filter_map(|one| one.inspect_err(note).ok()).collect())
            }
            Err(error) => {
                note(&error);
                Self::default()
            }
        }
    }

    /// The config with what the old process had found, where the same source is asked.
    pub(crate) fn apply(&self, mut snapshot: Snapshot) -> Snapshot {
        for cluster in &self.0 {
            let name = &cluster.name;
            let here = snapshot.clusters.iter().find(|here| here.name == *name && !here.retired);
            let discover = here.and_then(|here| here.discover.clone());
            if let Some(found) = discover.and_then(|discover| cluster.found(&discover)) {
                let endpoints = found.len();
                if let Ok(next) = with_endpoints(&snapshot, name, found) {
                    tracing::info!(cluster = %name, endpoints, "endpoints: as the old process had them");
                    snapshot = next;
                }
            }
            for address in &cluster.drained {
                // One that this config has no longer is out as well.
                if let Ok(next) = with_drained(&snapshot, name, *address, true) {
                    tracing::info!(cluster = %name, endpoint = %address, "drained, as it was in the old process");
                    snapshot = next;
                }
            }
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use polyport_codecs::Registry;

    use super::*;

    fn config(lines: &str) -> Snapshot {
        let text = format!(
            "zone = \"here\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n{lines}\n\
             [[route]]\nname = \"all\"\nto = \"a\"\n"
        );
        let compiled = crate::config::compile(&text, "test.toml", &Registry::builtin());
        compiled.unwrap_or_else(|errors| panic!("{}", errors[0])).0
    }

    fn cluster(discover: &str) -> Snapshot {
        config(&format!("[[cluster]]\nname = \"a\"\ndiscover = {{ {discover} }}"))
    }

    const DNS: &str = "dns = \"a.test:80\", resolver = [\"127.0.0.1:53\"]";

    fn at(port: u16) -> Endpoint {
        crate::control::discovery::Usual::default()
            .endpoint(([127, 0, 0, 1], port).into(), "a.test")
    }

    fn here(snapshot: &Snapshot) -> Vec<Endpoint> {
        let all = &snapshot.clusters[0].endpoints;
        all.iter().filter(|endpoint| !endpoint.retired).cloned().collect()
    }

    fn over(old: &Snapshot, new: Snapshot) -> Snapshot {
        let fd = pack(old).expect("a file").expect("something to tell");
        Found::unpack(fd).apply(new)
    }

    fn some() -> Vec<Endpoint> {
        let mut all = vec![at(1), at(2)];
        all[0].weight = 7;
        all[0].labels = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
        all[1].place =
            crate::snapshot::Place { priority: 3, zone: Some("here".into()), local: true };
        all
    }

    #[test]
    fn all_that_a_source_tells_arrives() {
        let old = with_endpoints(&cluster(DNS), "a", some()).expect("a cluster");
        let new = over(&old, cluster(DNS));
        assert_eq!(here(&new), some());
        assert!(new.clusters[0].eligibility.rules.zoned);
        assert_eq!(new.clusters[0].health.len(), 2);
        // What is gone already does not come again.
        let one = with_endpoints(&old, "a", vec![at(2)]).expect("a cluster");
        assert_eq!(here(&over(&one, cluster(DNS))), [at(2)]);
    }

    #[test]
    fn only_the_same_source_goes_on_from_there() {
        let old = with_endpoints(&cluster(DNS), "a", some()).expect("a cluster");
        // How often it is asked makes it no other.
        assert_eq!(here(&over(&old, cluster(&format!("{DNS}, every = \"9s\"")))).len(), 2);
        for other in [
            "dns = \"b.test:80\", resolver = [\"127.0.0.1:53\"]",
            "dns = \"a.test:81\", resolver = [\"127.0.0.1:53\"]",
            "dns = \"a.test:80\", resolver = [\"127.0.0.2:53\"]",
            "dns = \"a.test:80\"",
            "srv = \"_a._tcp.test\"",
            "file = \"a.test:80\"",
        ] {
            assert!(here(&over(&old, cluster(other))).is_empty(), "{other}");
        }
        let fixed = config("[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:9\"]");
        assert_eq!(here(&over(&old, fixed))[0].address.port(), 9);
        let text = "[[cluster]]\nname = \"b\"\nendpoints = [\"127.0.0.1:9\"]\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:8\"]";
        assert_eq!(over(&old, config(text)).clusters.len(), 2);
    }

    #[test]
    fn what_an_operator_has_taken_out_stays_out() {
        let fixed = "[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:8\", \"127.0.0.1:9\"]";
        let address = ([127, 0, 0, 1], 9).into();
        let old = with_drained(&config(fixed), "a", address, true).expect("an endpoint");
        let taken =
            |new: &Snapshot| -> Vec<bool> { here(new).iter().map(Endpoint::takes).collect() };
        assert_eq!(taken(&over(&old, config(fixed))), [true, false]);
        let old = with_endpoints(&cluster(DNS), "a", some()).expect("a cluster");
        let old = with_drained(&old, "a", some()[0].address, true).expect("an endpoint");
        assert_eq!(taken(&over(&old, cluster(DNS))), [false, true]);
    }

    #[test]
    fn who_knows_nothing_tells_nothing() {
        assert!(pack(&cluster(DNS)).expect("no trouble").is_none());
        assert!(
            pack(&config("[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:9\"]"))
                .expect("no trouble")
                .is_none()
        );
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).expect("a file"));
        let from = cluster(DNS).clusters[0].discover.as_ref().expect("a source").from.words();
        let lines = [
            "rubbish".to_owned(),
            "{\"name\": \"a\", \"endpoints\": 5}".to_owned(),
            "{\"name\": 7}".to_owned(),
            // From one who knows more, and from one who knows less.
            format!(
                "{{\"name\": \"a\", \"from\": {from:?}, \"new\": [1], \"endpoints\": [{{\"address\": \"127.0.0.1:5\", \"colour\": \"red\"}}]}}"
            ),
            "{\"name\": \"nobody\", \"drained\": [\"127.0.0.1:1\"]}".to_owned(),
            "\u{0}{".to_owned(),
        ];
        file.write_all(lines.join("\n").as_bytes()).expect("written");
        let new = Found::unpack(file.into()).apply(cluster(DNS));
        let all = here(&new);
        assert_eq!((all.len(), all[0].address.port(), all[0].weight), (1, 5, 1));
    }

    #[test]
    fn more_than_anybody_finds_is_left_out() {
        let many = |count: u16| Cluster {
            name: "a".into(),
            from: cluster(DNS).clusters[0].discover.as_ref().map(|discover| discover.from.words()),
            endpoints: (0..count)
                .map(|port| serde_json::from_str(&format!("{{\"address\": \"127.0.0.1:{port}\"}}")))
                .collect::<Result<_, _>>()
                .expect("endpoints"),
            drained: Vec::new(),
        };
        let found = |count| here(&Found(vec![many(count)]).apply(cluster(DNS))).len();
        assert_eq!((found(MOST as u16), found(MOST as u16 + 1)), (MOST, 0));
    }
}
