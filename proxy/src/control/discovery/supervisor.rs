//! Runs sources for ever and publishes what they find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::dns::{Dns, System};
use super::file::File;
use super::{Discover, Empty, MOST, Origin, Source, Trouble};
use crate::snapshot::{Cluster, Endpoint, Snapshot};

/// The pause after a first failure.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause after failures: so late is the recovery of a source noticed.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a start waits for first answers. A proxy that starts without some endpoints
/// refuses their requests; one that never starts refuses all.
pub const START: Duration = Duration::from_secs(5);

/// Where the endpoints of a cluster (its name) go that this source has found. It may wait.
pub type Publish = Arc<dyn Fn(&str, &Arc<Discover>, Vec<Endpoint>) + Send + Sync>;

/// The sources of all clusters, each in a task of its own; they end when this is dropped.
pub struct Supervisors {
    publish: Publish,
    running: BTreeMap<String, Running>,
    tasks: JoinSet<()>,
}

struct Running {
    discover: Arc<Discover>,
    task: AbortHandle,
    /// Whether it has ever published, or its cluster had endpoints before.
    found: watch::Receiver<bool>,
}

impl fmt::Debug for Supervisors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.running.keys()).finish()
    }
}

impl Supervisors {
    /// None yet; what they find goes to `publish`.
    pub fn new(publish: Publish) -> Self {
        Self { publish, running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Runs the sources of this snapshot's clusters and no others. Those that a config has
    /// taken over from the one before go on undisturbed; others go on from what their cluster
    /// has. Call it inside a runtime.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let wanted: BTreeMap<&str, (&Arc<Discover>, &Cluster)> = snapshot
            .clusters
            .iter()
            .filter(|cluster| !cluster.retired)
            .filter_map(|cluster| {
                Some((cluster.name.as_str(), (cluster.discover.as_ref()?, cluster)))
            })
            .collect();
        self.running.retain(|name, running| {
            let stays = wanted
                .get(name.as_str())
                .is_some_and(|(had, _)| Arc::ptr_eq(had, &running.discover));
            if !stays {
                running.task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for (name, (discover, has)) in wanted {
            if self.running.contains_key(name) {
                continue;
            }
            let known = known(has);
            let (tell, found) = watch::channel(!known.is_empty());
            let (cluster, publish, asked) =
                (name.to_owned(), self.publish.clone(), discover.clone());
            let task = self
                .tasks
                .spawn(async move { restart(asked, cluster, publish, tell, known).await });
            let running = Running { discover: discover.clone(), task, found };
            self.running.insert(name.to_owned(), running);
        }
    }

    /// Waits until every cluster has been told of endpoints once, or had some before, but no
    /// longer than `limit`; the clusters that have not.
    pub async fn ready(&self, limit: Duration) -> Vec<&str> {
        let all = async {
            for running in self.running.values() {
                // An error says that its task is gone, which `late` tells.
                let _ = running.found.clone().wait_for(|found| *found).await;
            }
        };
        let _ = timeout(limit, all).await;
        let late = |(name, running): (_, &Running)| (!*running.found.borrow()).then_some(name);
        self.running
            .iter()
            .map(|(name, running)| (name.as_str(), running))
            .filter_map(late)
            .collect()
    }
}

/// What a cluster has, as a source would tell it.
fn known(cluster: &Cluster) -> Vec<Endpoint> {
    let here = cluster.endpoints.iter().filter(|endpoint| !endpoint.retired);
    let all = here.map(|here| Endpoint { drained: false, tenant: 0, ..here.clone() });
    // They were an answer once.
    ordered(all.collect()).unwrap_or_default()
}

/// A source, again and again where it ends, which no source should.
async fn restart(
    discover: Arc<Discover>,
    cluster: String,
    publish: Publish,
    tell: watch::Sender<bool>,
    mut known: Vec<Endpoint>,
) {
    let tell = Arc::new(tell);
    loop {
        // A task of its own, so that a panic in it is not the end; it ends with this one.
        let mut one = JoinSet::new();
        let (name, asked) = (cluster.clone(), discover.clone());
        let (publish, tell) = (publish.clone(), tell.clone());
        let publish = move |endpoints| {
            publish(&name, &asked, endpoints);
            tell.send_replace(true);
        };
        let (name, empty) = (cluster.clone(), discover.empty);
        let usual = discover.usual.clone();
        // One that broke off publishes whatever it finds.
        let known = std::mem::take(&mut known);
        match discover.from.clone() {
            Origin::Dns { host, port, resolver } => {
                let source = Dns::host(System(resolver), host, port, discover.every, usual);
                let source = source.knowing(&known);
                one.spawn(async move { attend(source, empty, &name, known, publish).await });
            }
            Origin::Srv { name: service, resolver } => {
                let source = Dns::service(System(resolver), service, discover.every, usual);
                let source = source.knowing(&known);
                one.spawn(async move { attend(source, empty, &name, known, publish).await });
            }
            Origin::File(path) => {
                let source = File::new(path, discover.every, usual);
                one.spawn(async move { attend(source, empty, &name, known, publish).await });
            }
        }
        one.join_next().await;
        tracing::error!(%cluster, from = %discover.from, "endpoints: the source broke off; it begins anew");
        sleep(LONGEST).await;
    }
}

/// Runs one source for ever. What its cluster has already, in order, is `known`.
pub async fn attend(
    mut source: impl Source,
    empty: Empty,
    cluster: &str,
    known: Vec<Endpoint>,
    publish: impl Fn(Vec<Endpoint>) + Send + Sync + 'static,
) {
    let publish = Arc::new(publish);
    let mut held = (!known.is_empty()).then_some(known);
    let mut complaint = None;
    let mut backoff = Backoff::new(SmallRng::from_os_rng());
    loop {
        let found = source.next().await.and_then(ordered);
        let trouble = match found {
            Ok(found) if found.is_empty() && empty == Empty::Keep => {
                // It has answered: there is nothing to be patient with.
                backoff.reset();
                Trouble("the answer names no endpoint".into())
            }
            Ok(found) => {
                backoff.reset();
                if complaint.take().is_some() {
                    tracing::info!(%cluster, "endpoints: the source is back");
                }
                if held.as_ref() != Some(&found) {
                    let changes = Changes::between(held.as_deref().unwrap_or_default(), &found);
                    let (publish, set) = (publish.clone(), found.clone());
                    // Whoever changes the config at the same time is waited for.
                    let _ = tokio::task::spawn_blocking(move || publish(set)).await;
                    tracing::info!(%cluster, endpoints = found.len(), %changes, "endpoints changed");
                    held = Some(found);
                }
                continue;
            }
            Err(trouble) => {
                complain(&mut complaint, trouble, cluster, held.as_deref());
                sleep(backoff.next()).await;
                continue;
            }
        };
        complain(&mut complaint, trouble, cluster, held.as_deref());
    }
}

/// The same trouble is told once.
fn complain(
    last: &mut Option<Trouble>,
    trouble: Trouble,
    cluster: &str,
    held: Option<&[Endpoint]>,
) {
    let stay = held.map_or(0, <[Endpoint]>::len);
    if last.as_ref() == Some(&trouble) {
        tracing::debug!(%cluster, %trouble, stay, "endpoints: nothing new");
        return;
    }
    tracing::warn!(%cluster, %trouble, stay, "endpoints: nothing new, the last ones stay");
    *last = Some(trouble);
}

/// In one order, each address once: the first place (the lowest priority) that it has.
fn ordered(mut found: Vec<Endpoint>) -> Result<Vec<Endpoint>, Trouble> {
    found.sort_by_key(|endpoint| (endpoint.address, endpoint.place.priority));
    found.dedup_by_key(|endpoint| endpoint.address);
    if found.len() > MOST {
        return Err(Trouble(format!("{} endpoints are more than {MOST}", found.len())));
    }
    Ok(found)
}

/// What is different between two sets in order, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    came: Vec<SocketAddr>,
    went: Vec<SocketAddr>,
    /// The address stays, something else is different.
    changed: Vec<SocketAddr>,
}

impl Changes {
    fn between(old: &[Endpoint], new: &[Endpoint]) -> Self {
        let addresses = |set: &[Endpoint]| -> BTreeSet<SocketAddr> {
            set.iter().map(|endpoint| endpoint.address).collect()
        };
        let (before, after) = (addresses(old), addresses(new));
        let known: BTreeMap<SocketAddr, &Endpoint> =
            old.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let differs = |new: &&Endpoint| known.get(&new.address).is_some_and(|old| old != new);
        Self {
            came: after.difference(&before).copied().collect(),
            went: before.difference(&after).copied().collect(),
            changed: new.iter().filter(differs).map(|endpoint| endpoint.address).collect(),
        }
    }
}

/// How many addresses a line of the log names.
const NAMED: usize = 8;

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (word, all) in [("came", &self.came), ("went", &self.went), ("changed", &self.changed)]
        {
            if all.is_empty() {
                continue;
            }
            let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match all.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            parts.push(format!("{word} {}{more}", named.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

/// Pauses after failures: doubled each time, half of each by chance, so that many proxies
/// do not ask a server that comes back all at once.
struct Backoff {
    next: Duration,
    rng: SmallRng,
}

impl Backoff {
    fn new(rng: SmallRng) -> Self {
        Self { next: FIRST, rng }
    }

    fn reset(&mut self) {
        self.next = FIRST;
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests;
