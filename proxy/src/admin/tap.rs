//! The tap: messages as they pass, shown to whoever asked for some.
//!
//! Off, it costs each message one relaxed load. On, messages that match are written down
//! by the worker that routes them, so many a second and no more: the rest is counted.
//! What is shown is what the config's rules ask for, since codecs decode nothing else;
//! secrets are hidden, and long values cut.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use polyport_codecs::{Kind, Registry};
use polyport_router::Matcher;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::config;
use crate::engine::{Tap, Tapped};
use crate::observe::redact::Redaction;
use crate::snapshot::Snapshot;

/// Messages that one tap shows a second.
pub const RATE: u32 = 200;

/// Taps at a time.
pub const TAPS: usize = 8;

/// Bytes of a value that are shown.
const VALUE: usize = 160;

/// Values of one message that are shown.
const FACTS: usize = 64;

/// Messages on their way to one who watches.
const QUEUE: usize = 256;

/// Keys that are known of each message, whoever asks for them.
const KNOWN: [&str; 2] = ["protocol", "dialect"];

/// Which messages somebody wants to see.
#[derive(Debug, Default)]
pub struct Filter {
    /// By a key's name, not its slot: those are a config's own.
    tests: Vec<(String, Matcher)>,
    route: Option<String>,
}

impl Filter {
    /// Those that a route with this `match` would take; of one route, where it is named.
    ///
    /// # Errors
    /// What is wrong with `text`, or which key of it is decoded for nobody.
    pub fn new(
        text: &str,
        route: Option<String>,
        registry: &Registry,
        snapshot: &Snapshot,
    ) -> Result<Self, String> {
        let tests = config::filter(text, registry)?;
        for (key, _) in &tests {
            if !KNOWN.contains(&key.as_str()) && snapshot.interest.slot(key).is_none() {
                let known: Vec<&str> = snapshot.interest.names().collect();
                return Err(format!(
                    "no rule of the config asks for `{key}`, so it is not decoded; \
                     what is: protocol, dialect{}{}",
                    if known.is_empty() { "" } else { ", " },
                    known.join(", ")
                ));
            }
        }
        if let Some(route) = &route
            && !snapshot.routes.routes().iter().any(|known| known.name == *route)
        {
            return Err(format!("there is no route `{route}`"));
        }
        Ok(Self { tests, route })
    }

    fn holds(&self, tapped: &Tapped<'_>) -> bool {
        self.route.as_deref().is_none_or(|route| tapped.route == Some(route))
            && self.tests.iter().all(|(key, matcher)| {
                match key.as_str() {
                    "protocol" => return matcher.matches(Some(tapped.protocol.as_bytes())),
                    "dialect" => return matcher.matches(Some(tapped.dialect.as_bytes())),
                    _ => {}
                }
                let slot = tapped.snapshot.interest.slot(key);
                matcher.matches(slot.and_then(|slot| tapped.view.get(slot)))
            })
    }
}

/// One who watches.
struct Watcher {
    filter: Filter,
    /// How many more may be shown in this second.
    left: AtomicU32,
    matched: AtomicU64,
    dropped: AtomicU64,
    out: mpsc::Sender<String>,
}

impl Watcher {
    fn see(&self, tapped: &Tapped<'_>) {
        if !self.filter.holds(tapped) {
            return;
        }
        self.matched.fetch_add(1, Ordering::Relaxed);
        let spend = |left: u32| left.checked_sub(1);
        let may = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok();
        if !may || self.out.try_send(shown(tapped).to_string()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where taps are held against the stream of messages.
#[derive(Default)]
pub struct Hub {
    /// How many look; what every message pays for.
    watched: AtomicUsize,
    watchers: RwLock<Vec<Arc<Watcher>>>,
}

impl Hub {
    /// What the engines are given.
    pub fn tap(self: &Arc<Self>) -> Tap {
        let hub = self.clone();
        Arc::new(move |tapped| hub.see(tapped))
    }

    /// A message was routed.
    pub fn see(&self, tapped: &Tapped<'_>) {
        if self.watched.load(Ordering::Relaxed) == 0 {
            return;
        }
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        watchers.iter().for_each(|watcher| watcher.see(tapped));
    }

    /// Begins to watch; `None` where too many do already.
    pub fn watch(self: &Arc<Self>, filter: Filter) -> Option<Watch> {
        let mut watchers = self.watchers.write().unwrap_or_else(PoisonError::into_inner);
        if watchers.len() >= TAPS {
            return None;
        }
        let (out, messages) = mpsc::channel(QUEUE);
        let watcher = Arc::new(Watcher {
            filter,
            left: AtomicU32::new(RATE),
            matched: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            out,
        });
        watchers.push(watcher.clone());
        self.watched.store(watchers.len(), Ordering::Relaxed);
        Some(Watch { hub: self.clone(), watcher, messages })
    }
}

/// A tap that is open; it ends when it is dropped.
pub struct Watch {
    hub: Arc<Hub>,
    watcher: Arc<Watcher>,
    messages: mpsc::Receiver<String>,
}

impl Watch {
    /// The next message that matches, as JSON.
    pub async fn next(&mut self) -> Option<String> {
        self.messages.recv().await
    }

    /// A second has passed: as many may be shown again. How many matched so far, and how
    /// many of them were not shown.
    pub fn second(&self) -> (u64, u64) {
        self.watcher.left.store(RATE, Ordering::Relaxed);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.watcher.matched), count(&self.watcher.dropped))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.hub.watchers.write().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.hub.watched.store(watchers.len(), Ordering::Relaxed);
    }
}

/// A message as it is shown.
fn shown(tapped: &Tapped<'_>) -> Value {
    let redaction = Redaction::default();
    let mut facts = Map::new();
    for (key, value) in tapped.view.iter(&tapped.snapshot.interest).take(FACTS) {
        let value = redaction.shown(key, value);
        let mut text = value.get(..VALUE).unwrap_or(value).escape_ascii().to_string();
        if value.len() > VALUE {
            text.push('…');
        }
        facts.insert(key.to_owned(), text.into());
    }
    let cluster = tapped.cluster.and_then(|at| tapped.snapshot.clusters.get(at));
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "at": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        "protocol": tapped.protocol,
        "dialect": tapped.dialect,
        "kind": kind(tapped.kind),
        "route": tapped.route,
        "cluster": cluster.map(|cluster| &cluster.name),
        "endpoint": tapped.endpoint,
        "fault": tapped.fault.map(|fault| fault.as_str()),
        "facts": facts,
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Oneway => "one-way",
        _ => "message",
    }
}

#[cfg(test)]
mod tests {
    use polyport_codecs::Metadata;

    use super::*;

    const CONFIG: &str = "[[listener]]\naddress = \"127.0.0.1:7000\"\n\
        [[cluster]]\nname = \"web\"\nendpoints = [\"127.0.0.1:9000\"]\n\
        [[route]]\nname = \"shop\"\nmatch = { protocol = \"http\", path = { prefix = \"/shop\" }, \
        header.x-api-key = { present = true }, header.x-tenant = { present = true } }\nto = \"web\"\n";

    fn snapshot() -> Snapshot {
        config::compile(CONFIG, "tap.toml", &Registry::builtin()).expect("a config").0
    }

    fn message(hub: &Hub, snapshot: &Snapshot, path: &str) {
        let mut metadata = Metadata::new(&snapshot.interest);
        let mut set = |key: &str, value: &str| {
            let slot = snapshot.interest.slot(key).expect(key);
            metadata.set_text(slot, value.as_bytes());
        };
        set("path", path);
        set("header.x-api-key", "open sesame");
        set("header.x-tenant", &"acme ".repeat(100));
        hub.see(&Tapped {
            protocol: "http",
            dialect: "http2",
            kind: Kind::Request,
            route: Some("shop"),
            cluster: Some(0),
            endpoint: Some(([127, 0, 0, 1], 9000).into()),
            fault: None,
            view: metadata.view(b""),
            snapshot,
        });
    }

    fn filter(snapshot: &Snapshot, text: &str) -> Result<Filter, String> {
        Filter::new(text, None, &Registry::builtin(), snapshot)
    }

    #[tokio::test]
    async fn what_matches_is_shown_without_secrets_and_cut() {
        let (hub, snapshot) = (Arc::new(Hub::default()), snapshot());
        let text = "protocol = \"http\", path = { prefix = \"/shop/\" }";
        let mut watch = hub.watch(filter(&snapshot, text).expect("a filter")).expect("room");
        message(&hub, &snapshot, "/other");
        message(&hub, &snapshot, "/shop/cart");
        let seen: Value =
            serde_json::from_str(&watch.next().await.expect("a message")).expect("JSON");
        assert_eq!(seen["facts"]["path"], "/shop/cart");
        assert_eq!(seen["facts"]["header.x-api-key"], "***");
        let tenant = seen["facts"]["header.x-tenant"].as_str().expect("text");
        assert!(tenant.ends_with('…') && tenant.chars().count() == VALUE + 1, "{tenant}");
        assert_eq!((&seen["protocol"], &seen["dialect"]), (&"http".into(), &"http2".into()));
        assert_eq!((&seen["cluster"], &seen["route"]), (&"web".into(), &"shop".into()));
        assert_eq!(watch.second(), (1, 0));
        drop(watch);
        assert_eq!(hub.watched.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_comes_too_fast_is_counted_and_not_shown() {
        let (hub, snapshot) = (Arc::new(Hub::default()), snapshot());
        let mut watch = hub.watch(Filter::default()).expect("room");
        let burst = u64::from(RATE) + 50;
        (0..burst).for_each(|_| message(&hub, &snapshot, "/shop/cart"));
        assert_eq!(watch.second(), (burst, 50));
        for _ in 0..RATE {
            watch.next().await.expect("a message");
        }
        message(&hub, &snapshot, "/shop/cart");
        watch.next().await.expect("shown again in the next second");
    }

    #[test]
    fn a_key_that_nobody_decodes_is_not_asked_for() {
        let snapshot = snapshot();
        let complaint = filter(&snapshot, "header.x-other = \"a\"").expect_err("not decoded");
        assert!(complaint.contains("header.x-tenant"), "{complaint}");
        let route = Filter::new("", Some("shopp".into()), &Registry::builtin(), &snapshot);
        assert!(route.is_err_and(|complaint| complaint.contains("shopp")));
        assert!(filter(&snapshot, "protocol = \"redis\"").is_ok());
        assert!(filter(&snapshot, "dialect = \"grpc\"").is_ok());
    }

    #[test]
    fn taps_are_few() {
        let hub = Arc::new(Hub::default());
        let open: Vec<_> = (0..TAPS).map(|_| hub.watch(Filter::default())).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(hub.watch(Filter::default()).is_none());
        drop(open);
        assert!(hub.watch(Filter::default()).is_some());
    }
}
