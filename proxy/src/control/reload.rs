//! From the config in use to the next.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::{Changes, Changing, Control, Refused, lock};
use crate::carry;
use crate::config;
use crate::snapshot::{Cluster, Endpoint, Snapshot};
use crate::worker::bind;
use crate::worker::command::{Command, Next};

impl Control {
    /// Reads the config and goes on with it.
    pub(super) fn read(&self, changing: &mut Changing) -> Result<Changes, Refused> {
        let source = changing.source.clone().ok_or(Refused::NoSource)?;
        let path = source.path.display().to_string();
        let text = std::fs::read_to_string(&source.path)
            .map_err(|error| Refused::Unreadable(format!("cannot read {path}: {error}")))?;
        let current = self.snapshot();
        let resolve = |name: &str| resolve(name, &current);
        let (mut next, warnings) =
            config::compile_over(&text, &path, &source.registry, &resolve, Some(&current))
                .map_err(Refused::Config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        // Threads are not made or ended while the proxy runs.
        next.workers = current.workers;
        let changes = Changes::between(&current.outline, &next.outline);
        self.swap(next, changing)?;
        Ok(changes)
    }

    /// Has all go on with `next`: first what may fail.
    pub(super) fn swap(&self, next: Snapshot, changing: &mut Changing) -> Result<(), Refused> {
        let current = self.snapshot();
        let mut sockets: Vec<Vec<(usize, std::net::TcpListener)>> = Vec::new();
        sockets.resize_with(self.0.commands.len(), Vec::new);
        for (at, listener) in next.listeners.iter().enumerate() {
            let had = current.listeners.get(at).is_some_and(|before| !before.retired);
            if listener.retired || had {
                continue;
            }
            let mut address = listener.address;
            for own in &mut sockets {
                let failed = |error| {
                    let name = &listener.name;
                    Refused::Listen(format!("cannot listen on {address} (`{name}`): {error}"))
                };
                let socket = bind(address).map_err(failed)?;
                // Where the system chose the port, all workers take the same.
                address = socket.local_addr().unwrap_or(address);
                own.push((at, socket));
            }
            tracing::info!(listener = %listener.name, %address, "listening");
        }
        let failed = |(target, error)| {
            Refused::Log(format!("cannot write an access log to {target:?}: {error}"))
        };
        next.access_logs.open(&self.0.outputs).map_err(failed)?;
        let next = Arc::new(next);
        for cluster in &next.clusters {
            for (endpoint, health) in cluster.endpoints.iter().zip(cluster.health.iter()) {
                health.set_away(!endpoint.takes());
            }
        }
        *lock(&self.0.current) = next.clone();
        for (worker, listeners) in self.0.commands.iter().zip(sockets) {
            let snapshot = next.clone();
            worker.send(Command::Reload(Box::new(Next { snapshot, listeners })));
        }
        self.0.watch.follow(&next);
        if next.overload != current.overload {
            self.0.overload.apply(&next.overload);
        }
        changing.past.retain(|past| Arc::strong_count(past) > 1);
        changing.past.push(current);
        self.0.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// The addresses of a name; where nobody knows them now, those that it had.
fn resolve(name: &str, current: &Snapshot) -> io::Result<Vec<SocketAddr>> {
    name.to_socket_addrs().map(Iterator::collect).or_else(|error| {
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        let known = |endpoint: &&Endpoint| {
            endpoint.host == host && endpoint.address.port().to_string() == port
        };
        let all = current.clusters.iter().filter(|cluster| !cluster.retired);
        let found: Option<Vec<SocketAddr>> = all
            .map(|cluster| {
                let here = cluster.endpoints.iter().filter(|endpoint| !endpoint.retired);
                here.filter(known).map(|endpoint| endpoint.address).collect()
            })
            .find(|found: &Vec<SocketAddr>| !found.is_empty());
        let found = found.ok_or(error)?;
        tracing::warn!(name, "not found now: its endpoints stay those it had");
        Ok(found)
    })
}

fn find(current: &Snapshot, name: &str) -> Result<usize, Refused> {
    let at = current.clusters.iter().position(|one| one.name == name && !one.retired);
    at.ok_or_else(|| Refused::Unknown(format!("no cluster is called `{name}`")))
}

/// The same config, where a cluster has these endpoints.
pub(crate) fn with_endpoints(
    current: &Snapshot,
    name: &str,
    endpoints: Vec<Endpoint>,
) -> Result<Snapshot, Refused> {
    let at = find(current, name)?;
    Ok(with_cluster(current, at, |had| {
        let mut eligibility = had.eligibility;
        eligibility.rules.zoned = endpoints.iter().any(|endpoint| endpoint.place.local);
        carry::cluster(had, Cluster { endpoints, eligibility, ..had.clone() }, |_| true)
    }))
}

/// The same config, where an endpoint is out, or back.
pub(crate) fn with_drained(
    current: &Snapshot,
    name: &str,
    address: SocketAddr,
    drained: bool,
) -> Result<Snapshot, Refused> {
    let at = find(current, name)?;
    let is = |endpoint: &&mut Endpoint| endpoint.address == address && !endpoint.retired;
    let mut found = false;
    let next = with_cluster(current, at, |had| {
        let mut cluster = had.clone();
        for endpoint in cluster.endpoints.iter_mut().filter(is) {
            (endpoint.drained, found) = (drained, true);
        }
        cluster
    });
    if found {
        Ok(next)
    } else {
        Err(Refused::Unknown(format!("cluster `{name}` has no endpoint {address}")))
    }
}

fn with_cluster(
    current: &Snapshot,
    at: usize,
    change: impl FnOnce(&Cluster) -> Cluster,
) -> Snapshot {
    let mut next = current.clone();
    let (Some(had), Some(place)) = (current.clusters.get(at), next.clusters.get_mut(at)) else {
        return next;
    };
    *place = change(had);
    for (set, before) in next.sets.iter_mut().zip(&current.sets) {
        if set.cluster == at
            && let Some(cluster) = next.clusters.get(at)
        {
            set.fill(cluster, Some((before, had)));
        }
    }
    next
}
