//! The thread of active checks: one for the whole proxy, with one task an endpoint.

use std::io;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::checks::{Checks, Standing};
use super::talk::Asker;
use crate::snapshot::{Cluster, Snapshot};

/// Running checks; they end when this is dropped.
pub(crate) struct Watch {
    _alive: oneshot::Sender<()>,
}

/// Starts the checks that `snapshot` asks for; `None` where it asks for none. `began`:
/// the start of the engines' clock.
///
/// # Errors
/// Where the thread or its runtime cannot be started.
pub(crate) fn watch(snapshot: &Arc<Snapshot>, began: Instant) -> io::Result<Option<Watch>> {
    if snapshot.clusters.iter().all(|cluster| cluster.checks.is_none()) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (alive, ended) = oneshot::channel::<()>();
    let snapshot = snapshot.clone();
    std::thread::Builder::new().name("health".into()).spawn(move || {
        let tasks = LocalSet::new();
        for (at, cluster) in snapshot.clusters.iter().enumerate() {
            if cluster.checks.is_none() {
                continue;
            }
            for endpoint in 0..cluster.endpoints.len() {
                let snapshot = snapshot.clone();
                tasks.spawn_local(async move {
                    if let Some(cluster) = snapshot.clusters.get(at) {
                        attend(cluster, endpoint, began).await;
                    }
                });
            }
        }
        // An error says that the sender is gone: that is what is waited for.
        let _ = tasks.block_on(&runtime, ended);
    })?;
    Ok(Some(Watch { _alive: alive }))
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
