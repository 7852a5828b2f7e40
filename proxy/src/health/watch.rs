//! The thread of active checks: one for the whole proxy, with one task an endpoint.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::Health;
use super::checks::{Checks, Standing};
use super::talk::Asker;
use crate::snapshot::{Cluster, Snapshot};

/// Running checks; they end when this is dropped.
pub(crate) struct Watch {
    /// The config whose endpoints are to be checked.
    told: watch::Sender<Option<Arc<Snapshot>>>,
    /// Whether there is a thread for them.
    runs: AtomicBool,
    /// The start of the engines' clock.
    began: Instant,
}

impl Watch {
    /// Checks that begin with the first config that asks for any. `began`: the start of the
    /// engines' clock.
    pub(crate) fn new(began: Instant) -> Self {
        Self { told: watch::Sender::new(None), runs: AtomicBool::new(false), began }
    }

    /// Checks what `snapshot` asks for from now on. Checks that both it and the one
    /// before ask for go on as they are.
    ///
    /// # Errors
    /// Where the thread or its runtime cannot be started.
    pub(crate) fn begin(&self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let any = snapshot.clusters.iter().any(|cluster| cluster.checks.is_some());
        if any && !self.runs.swap(true, Ordering::Relaxed) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (told, began) = (self.told.subscribe(), self.began);
            std::thread::Builder::new().name("health".into()).spawn(move || {
                LocalSet::new().block_on(&runtime, attend_all(told, began));
            })?;
        }
        if self.runs.load(Ordering::Relaxed) {
            self.told.send_replace(Some(snapshot.clone()));
        }
        Ok(())
    }

    /// As [`Watch::begin`], where it is too late to refuse.
    pub(crate) fn follow(&self, snapshot: &Arc<Snapshot>) {
        if let Err(error) = self.begin(snapshot) {
            tracing::error!(%error, "endpoints cannot be checked");
        }
    }
}

/// What makes a check another one: its words, and how its endpoint is reached.
#[derive(PartialEq, Eq)]
struct Way {
    words: [Option<String>; 2],
    epoch: u32,
    connect_timeout: Duration,
}

impl Way {
    fn of(snapshot: &Snapshot, cluster: &Cluster) -> Self {
        let words = |key| snapshot.outline.of_cluster(&cluster.name, key).map(str::to_owned);
        Self {
            words: [words("health"), words("tls")],
            epoch: cluster.epoch,
            connect_timeout: cluster.connect_timeout,
        }
    }
}

/// A check that goes on.
struct Going {
    health: Health,
    way: Way,
    task: AbortHandle,
}

/// Has one task for each endpoint that is to be checked, whatever config comes.
async fn attend_all(mut told: watch::Receiver<Option<Arc<Snapshot>>>, began: Instant) {
    let mut going: HashMap<(usize, usize), Going> = HashMap::new();
    loop {
        if let Some(snapshot) = told.borrow_and_update().clone() {
            arrange(&mut going, &snapshot, began);
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

fn arrange(going: &mut HashMap<(usize, usize), Going>, snapshot: &Snapshot, began: Instant) {
    let mut due: HashMap<(usize, usize), ()> = HashMap::new();
    for (at, cluster) in snapshot.clusters.iter().enumerate() {
        if cluster.checks.is_none() || cluster.retired {
            continue;
        }
        let mut shared: Option<Arc<Cluster>> = None;
        let known = cluster.endpoints.iter().zip(cluster.health.iter()).enumerate();
        for (endpoint, (settings, health)) in known {
            // One that was taken out by hand may come back: then it is to be known.
            if settings.retired {
                continue;
            }
            due.insert((at, endpoint), ());
            let way = Way::of(snapshot, cluster);
            let had = going.get(&(at, endpoint));
            if had.is_some_and(|had| had.health.is(health) && had.way == way) {
                continue;
            }
            // Not the whole config: that would live for as long as the check.
            let cluster = shared.get_or_insert_with(|| Arc::new(cluster.clone())).clone();
            let task = tokio::task::spawn_local(async move {
                attend(&cluster, endpoint, began).await;
            });
            let new = Going { health: health.clone(), way, task: task.abort_handle() };
            if let Some(had) = going.insert((at, endpoint), new) {
                had.task.abort();
            }
        }
    }
    going.retain(|place, had| {
        let stays = due.contains_key(place);
        if !stays {
            had.task.abort();
        }
        stays
    });
}

/// Checks one endpoint for ever.
async fn attend(cluster: &Cluster, at: usize, began: Instant) {
    let (Some(checks), Some(endpoint), Some(health)) =
        (&cluster.checks, cluster.endpoints.get(at), cluster.health.get(at))
    else {
        return;
    };
    let mut rng = SmallRng::from_os_rng();
    let mut standing = Standing::default();
    let mut asker = Asker::new(checks.every);
    loop {
        let start = Instant::now();
        let asked = asker.ask(cluster, endpoint, checks.question.as_ref());
        let told = match timeout(checks.timeout, asked).await {
            Ok(told) => told,
            Err(_) => Err(format!("no answer within {:?}", checks.timeout)),
        };
        if told.is_err() {
            health.check_failed();
        }
        let changed = standing.note(told.is_ok(), checks);
        if let Some(well) = changed {
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            health.checked(well, now);
        }
        tell(changed, &told, cluster, endpoint.address, checks);
        sleep_until(start + checks.pause(&mut rng)).await;
    }
}

fn tell(
    changed: Option<bool>,
    told: &Result<(), String>,
    cluster: &Cluster,
    endpoint: std::net::SocketAddr,
    checks: &Checks,
) {
    let cluster = &cluster.name;
    match (changed, told) {
        (Some(false), Err(why)) => {
            tracing::warn!(%cluster, %endpoint, why, "fails its checks: no new requests go there");
        }
        (Some(_), _) => {
            tracing::info!(%cluster, %endpoint, passed = checks.healthy, "passes its checks again");
        }
        (None, Err(why)) => tracing::debug!(%cluster, %endpoint, why, "failed a check"),
        (None, Ok(())) => {}
    }
}
