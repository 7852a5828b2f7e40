//! From the start to the running proxy: where found endpoints go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::Discover;
use super::supervisor::{START, Supervisors};
use crate::control::{Control, WeakControl, reload};
use crate::lock::lock;
use crate::snapshot::{Endpoint, Snapshot};

/// The sources of a proxy, before it runs and then. They end when this is dropped.
pub(crate) struct Discovery {
    stage: Arc<Mutex<Stage>>,
    supervisors: Option<Supervisors>,
    following: Option<JoinHandle<()>>,
}

/// Where answers go.
enum Stage {
    /// Nothing runs: they are kept, the latest of each cluster.
    Before(BTreeMap<String, (Arc<Discover>, Vec<Endpoint>)>),
    /// Into the running proxy.
    Running(WeakControl),
}

impl Discovery {
    /// Runs the sources of a config that is about to be used, and waits for their first
    /// answers, no longer than [`START`], and not for those of clusters that have endpoints
    /// (from another process) already; the config with the endpoints found. Without any source
    /// it takes no time.
    pub(crate) async fn begin(mut snapshot: Snapshot) -> (Self, Snapshot) {
        let stage = Arc::new(Mutex::new(Stage::Before(BTreeMap::new())));
        let to = stage.clone();
        let publish = move |cluster: &str, source: &Arc<Discover>, found: Vec<Endpoint>| {
            // Held while the answer is delivered: a later one is not to overtake it.
            match &mut *lock(&to) {
                Stage::Before(kept) => {
                    kept.insert(cluster.to_owned(), (source.clone(), found));
                }
                Stage::Running(control) => deliver(control, cluster, source, found),
            }
        };
        let mut supervisors = Supervisors::new(Arc::new(publish));
        supervisors.follow(&snapshot);
        for cluster in supervisors.ready(START).await {
            tracing::warn!(%cluster, "starting without its endpoints: its requests are refused until some are found");
        }
        if let Stage::Before(kept) = &mut *lock(&stage) {
            for (cluster, (_, found)) in std::mem::take(kept) {
                if let Ok(next) = reload::with_endpoints(&snapshot, &cluster, found) {
                    snapshot = next;
                }
            }
        }
        (Self { stage, supervisors: Some(supervisors), following: None }, snapshot)
    }

    /// From now on answers change the running proxy, and each config that it goes on with
    /// is followed. Call it inside the runtime in which it began.
    pub(crate) fn follow(&mut self, control: &Control) {
        let weak = control.weak();
        {
            let mut stage = lock(&self.stage);
            if let Stage::Before(kept) = &mut *stage {
                for (cluster, (source, found)) in std::mem::take(kept) {
                    deliver(&weak, &cluster, &source, found);
                }
            }
            *stage = Stage::Running(weak.clone());
        }
        let Some(mut supervisors) = self.supervisors.take() else { return };
        let mut changes = control.changes();
        self.following = Some(tokio::spawn(async move {
            // What changed before this was looked at counts as well.
            while let Some(control) = weak.upgrade() {
                supervisors.follow(&control.snapshot());
                drop(control);
                if changes.changed().await.is_err() {
                    break;
                }
            }
        }));
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

fn deliver(control: &WeakControl, cluster: &str, source: &Arc<Discover>, found: Vec<Endpoint>) {
    let Some(control) = control.upgrade() else { return };
    if let Err(why) = control.set_found(cluster, source, found) {
        // A reload was quicker; its own source tells.
        tracing::debug!(%cluster, %why, "endpoints: found too late");
    }
}
