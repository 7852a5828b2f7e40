//! What is answered, path by path. Names in answers are promises: they are added to, and
//! neither changed nor taken away.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::tap::{Filter, Watch};
use super::{Admin, hide, profile, stacks, text};
use crate::cli::explain::{self, Question};
use crate::engine::Counters;
use crate::engine::listing::EndpointLoad;
use crate::observe::metrics::Format;
use crate::observe::redact::{MASK, is_secret};
use crate::snapshot::{Action, Cluster, Fallback, Listener, ProxyHeader, Snapshot};

/// Connections that one answer lists, at most.
const CONNECTIONS: usize = 1000;

/// How long a profile and a tap may take.
const PROFILE: u64 = 60;
const TAP: u64 = 3600;

/// Events of a tap on their way to its client.
const QUEUE: usize = 64;

/// A request that is not answered: its status, and what to do instead.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, what.into())
    }

    fn bad(what: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, what.into())
    }

    fn conflict(what: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, what.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, shown(&json!({ "error": self.1 }))).into_response()
    }
}

type Answer = Result<Response, Refusal>;
type Asked = State<Arc<Admin>>;

fn shown(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string() + "\n").into_response()
}

fn answer(value: &Value) -> Answer {
    Ok(shown(value))
}

/// Every method and path, and what it is for; what `GET /api` lists.
const ENTRIES: &[(&str, &str, &str)] = &[
    ("GET", "/api", "this list"),
    (
        "GET",
        "/api/info",
        "version, process, uptime, workers, config, last reload, whether writes are taken",
    ),
    (
        "GET",
        "/api/figures",
        "counters and gauges; by protocol, its dialects and route with latencies",
    ),
    ("GET", "/api/config", "the config as it was read, without secrets, and what it came to"),
    ("GET", "/api/listeners", "listeners"),
    ("GET", "/api/clusters", "clusters: each endpoint's health, and what is in flight to it"),
    ("GET", "/api/routes", "routes in file order, with hits"),
    ("GET", "/api/connections", "clients' connections now open; limit=1000"),
    (
        "GET",
        "/api/profile",
        "each thread's CPU time and work over seconds=5; where it went: format=svg|pprof|folded",
    ),
    ("GET", "/api/tap", "server-sent events: messages as they pass; match=, route=, seconds=60"),
    ("GET", "/api/explain", "what would become of a message that says fact=KEY=VALUE, repeated"),
    (
        "POST",
        "/api/explain",
        "the same: {\"facts\": [\"KEY=VALUE\"]} or {\"frame\": BASE64, \"protocol\": NAME}",
    ),
    ("GET", "/api/log-level", "what the log says"),
    ("PUT", "/api/log-level", "changes it: {\"level\": \"debug\"} (write)"),
    (
        "POST",
        "/api/clusters/{cluster}/endpoints/{address}/drain",
        "no new requests go there (write)",
    ),
    ("POST", "/api/clusters/{cluster}/endpoints/{address}/undrain", "they do again (write)"),
    ("POST", "/api/reload", "reads the config again (write)"),
    ("POST", "/api/upgrade", "hands over to a new process (write)"),
    ("GET", "/metrics", "for Prometheus"),
    ("GET", "/stats", "figures as text, one a line"),
    ("GET", "/ready", "200 where the proxy serves, 503 where it is leaving"),
    ("GET", "/live", "200 where the process answers"),
];

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api", get(list))
        .route("/api/info", get(info))
        .route("/api/figures", get(figures))
        .route("/api/config", get(config))
        .route("/api/listeners", get(listeners))
        .route("/api/clusters", get(clusters))
        .route("/api/routes", get(routes_list))
        .route("/api/connections", get(connections))
        .route("/api/profile", get(profiled))
        .route("/api/tap", get(tap))
        .route("/api/explain", get(explained).post(explained_body))
        .route("/api/log-level", get(log_level).put(set_log_level))
        .route("/api/clusters/{cluster}/endpoints/{address}/drain", post(drain))
        .route("/api/clusters/{cluster}/endpoints/{address}/undrain", post(undrain))
        .route("/api/reload", post(reload))
        .route("/api/upgrade", post(upgrade))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .route("/ready", get(ready))
        .route("/live", get(live))
}

async fn list() -> Answer {
    let all: Vec<Value> = ENTRIES
        .iter()
        .map(|(method, path, about)| json!({ "method": method, "path": path, "about": about }))
        .collect();
    answer(&json!({ "paths": all }))
}

/// Text for scripts, which read to the connection's end.
fn plain(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CONNECTION, "close")], text).into_response()
}

async fn ready(State(admin): Asked) -> Response {
    if admin.leaving.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, plain("leaving\n".into())).into_response();
    }
    plain("ready\n".into())
}

async fn live() -> Response {
    plain("live\n".into())
}

async fn stats(State(admin): Asked) -> Response {
    let mut text = text::stats(admin.operator.observer(), &admin.operator.snapshot());
    text.push_str(&format!("polyport_upgrade_failures {}\n", admin.operator.upgrade_failures()));
    plain(text)
}

async fn metrics(State(admin): Asked, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let text = admin.operator.metrics(format);
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

async fn info(State(admin): Asked) -> Answer {
    let operator = &admin.operator;
    let reloads = operator.reloads();
    let started = admin.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let snapshot = operator.snapshot();
    answer(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": started.as_secs(),
        "uptime_ms": operator.observer().now(),
        "workers": operator.observer().workers(),
        "config": operator.path(),
        "reloads": { "done": reloads.done, "refused": reloads.refused, "last": reloads.last, "error": reloads.error },
        "log_level": admin.log.current(),
        "write": admin.write,
        "listeners": snapshot.listeners.iter().filter(|listener| !listener.retired).count(),
        "clusters": snapshot.clusters.iter().filter(|cluster| !cluster.retired).count(),
        "routes": snapshot.routes.routes().len(),
        "protocols": snapshot.protocols.iter().map(|e| e.protocol.name()).collect::<Vec<_>>(),
        "keys": snapshot.interest.names().collect::<Vec<_>>(),
    }))
}

async fn figures(State(admin): Asked) -> Answer {
    let observer = admin.operator.observer();
    let totals = observer.totals();
    let counters: serde_json::Map<String, Value> = Counters::NAMES
        .into_iter()
        .zip(totals.counters.values())
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let figures = admin.operator.figures();
    answer(&json!({
        "now_ms": observer.now(),
        "counters": counters,
        "downstream_connections_active": totals.downstreams,
        "upstream_connections_active": totals.upstreams,
        "requests_active": totals.in_flight,
        "requests_pending": totals.pending,
        "protocols": figures.protocols,
        "dialects": figures.dialects,
        "routes": figures.routes,
        "bounds_us": figures.bounds_us,
    }))
}

async fn config(State(admin): Asked) -> Answer {
    let snapshot = admin.operator.snapshot();
    let times = &snapshot.timeouts;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    answer(&json!({
        "path": admin.operator.path(),
        "text": hide::secrets(&snapshot.text),
        "summary": {
            "workers": snapshot.workers,
            "listeners": snapshot.listeners.iter().filter(|l| !l.retired).map(|l| &l.name).collect::<Vec<_>>(),
            "clusters": snapshot.clusters.iter().filter(|c| !c.retired).map(|c| &c.name).collect::<Vec<_>>(),
            "routes": snapshot.routes.routes().len(),
            "keys": snapshot.interest.names().collect::<Vec<_>>(),
            "timeout_ms": ms(times.request),
            "stream_timeout_ms": ms(times.stream),
            "idle_timeout_ms": ms(times.idle),
            "drain_timeout_ms": ms(times.drain),
        },
    }))
}

fn listener(snapshot: &Snapshot, listener: &Listener) -> Value {
    let name = |at: usize| snapshot.protocols.get(at).map(|enabled| enabled.protocol.name());
    json!({
        "name": listener.name,
        "address": listener.address,
        "protocols": listener.protocols.iter().filter_map(|at| name(*at)).collect::<Vec<_>>(),
        "fallback": match listener.fallback {
            Fallback::Close => "close",
            Fallback::Protocol(at) => name(at).unwrap_or_default(),
            Fallback::Tcp => "tcp",
        },
        "tls": listener.tls.is_some(),
        "proxy_protocol": match listener.proxy_protocol {
            ProxyHeader::None => "off",
            ProxyHeader::Optional => "optional",
            ProxyHeader::Required => "required",
        },
    })
}

async fn listeners(State(admin): Asked) -> Answer {
    let snapshot = admin.operator.snapshot();
    let all: Vec<Value> = snapshot
        .listeners
        .iter()
        .filter(|one| !one.retired)
        .map(|one| listener(&snapshot, one))
        .collect();
    answer(&json!({ "listeners": all }))
}

fn cluster(admin: &Admin, cluster: &Cluster, loads: &[EndpointLoad]) -> Value {
    let now = admin.operator.observer().now();
    let endpoints = cluster.endpoints.iter().zip(cluster.health.iter()).enumerate();
    let endpoints: Vec<Value> = endpoints
        .filter(|(_, (endpoint, _))| !endpoint.retired)
        .map(|(place, (endpoint, health))| {
            let load = loads.get(place).copied().unwrap_or_default();
            let (usable, ejected) = (health.usable(now), health.ejected(now));
            json!({
                "address": endpoint.address,
                "host": endpoint.host,
                "weight": endpoint.weight,
                "labels": endpoint.labels,
                "zone": endpoint.place.zone,
                "priority": endpoint.place.priority,
                "usable": usable,
                "ejected": ejected,
                "failing": !usable && !ejected,
                "drained": endpoint.drained,
                "ejections": health.ejections(),
                "checks_failed": health.checks_failed(),
                "in_flight": load.in_flight,
                "sessions": load.sessions,
                "connections": load.connections,
                "waiting": load.waiting,
            })
        })
        .collect();
    json!({
        "name": cluster.name,
        "tls": cluster.tls.is_some(),
        "http2": cluster.http2,
        "checks": cluster.checks.is_some(),
        "outlier": cluster.outliers.is_some(),
        "breaker": cluster.breaker.is_some(),
        "endpoints": endpoints,
    })
}

async fn clusters(State(admin): Asked) -> Answer {
    let snapshot = admin.operator.snapshot();
    let mut sums: Vec<Vec<EndpointLoad>> = snapshot
        .clusters
        .iter()
        .map(|c| vec![EndpointLoad::default(); c.endpoints.len()])
        .collect();
    for (_, loads) in admin.operator.observer().ask(crate::engine::Engine::loads).await {
        for (sum, load) in sums.iter_mut().zip(loads) {
            for (sum, load) in sum.iter_mut().zip(load) {
                sum.connections += load.connections;
                sum.in_flight += load.in_flight;
                sum.sessions += load.sessions;
                sum.waiting += load.waiting;
            }
        }
    }
    let all = snapshot.clusters.iter().zip(&sums).filter(|(cluster, _)| !cluster.retired);
    let all: Vec<Value> = all.map(|(one, loads)| cluster(&admin, one, loads)).collect();
    answer(&json!({ "clusters": all }))
}

async fn routes_list(State(admin): Asked) -> Answer {
    let snapshot = admin.operator.snapshot();
    let figures = admin.operator.figures();
    let name = |at: usize| snapshot.clusters.get(at).map(|cluster| cluster.name.as_str());
    let keys: Vec<&str> = snapshot.interest.names().collect();
    let all: Vec<Value> = snapshot
        .routes
        .routes()
        .iter()
        .map(|route| {
            let when: Vec<Value> = route
                .when
                .iter()
                .map(|asked| {
                    let key = keys.get(usize::from(asked.slot.0)).copied().unwrap_or("?");
                    let matcher = asked.matcher.to_string();
                    let matcher = if is_secret(key) { MASK.to_owned() } else { matcher };
                    json!({ "key": key, "matcher": matcher })
                })
                .collect();
            let (does, targets) = match &route.then {
                Action::Forward(forward) => {
                    let arms = forward.targets.iter().enumerate().map(|(at, target)| {
                        let percent = (forward.split.share(at) * 100.0).round();
                        json!({ "cluster": name(target.cluster), "percent": percent })
                    });
                    ("forward", arms.collect())
                }
                Action::Deny => ("deny", Vec::new()),
                Action::Respond(_) => ("respond", Vec::new()),
            };
            let series = figures.routes.iter().find(|series| series.name == route.name);
            json!({
                "name": route.name,
                "match": when,
                "does": does,
                "targets": targets,
                "requests": series.map_or(0, |series| series.requests),
                "errors": series.map_or(0, |series| series.errors),
                "latency": series.map(|series| &series.latency),
            })
        })
        .collect();
    answer(&json!({ "routes": all, "bounds_us": figures.bounds_us }))
}

type Params = Query<Vec<(String, String)>>;

fn param<'a>(params: &'a [(String, String)], name: &str) -> Option<&'a str> {
    params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn number(
    params: &[(String, String)],
    name: &str,
    default: u64,
    most: u64,
) -> Result<u64, Refusal> {
    let Some(text) = param(params, name) else { return Ok(default) };
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(Refusal::bad(format!("{name} is a whole number from 1 to {most}"))),
    }
}

async fn connections(State(admin): Asked, Query(params): Params) -> Answer {
    let limit = number(&params, "limit", CONNECTIONS as u64, CONNECTIONS as u64)? as usize;
    let observer = admin.operator.observer();
    let mut all: Vec<Value> = Vec::new();
    for (worker, connections) in observer.ask(move |engine| engine.connections(limit)).await {
        for connection in connections {
            let mut value = serde_json::to_value(&connection).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("worker".into(), worker.into());
            }
            all.push(value);
        }
    }
    all.truncate(limit);
    let open = observer.totals().downstreams;
    answer(&json!({ "open": open, "connections": all }))
}

async fn profiled(State(admin): Asked, Query(params): Params) -> Answer {
    let seconds = number(&params, "seconds", 5, PROFILE)?;
    let format = stacks::Format::named(param(&params, "format"))?;
    if format != stacks::Format::Threads {
        let lasts = Duration::from_secs(seconds);
        return stacks::profile(admin.operator.observer(), lasts, format).await;
    }
    let threads = profile::profile(admin.operator.observer(), Duration::from_secs(seconds)).await;
    if threads.is_empty() {
        return Err(Refusal(StatusCode::NOT_IMPLEMENTED, "this needs Linux's /proc".into()));
    }
    answer(&json!({ "seconds": seconds, "threads": threads }))
}

async fn log_level(State(admin): Asked) -> Answer {
    answer(&json!({ "level": admin.log.current() }))
}

async fn set_log_level(State(admin): Asked, headers: HeaderMap, body: Bytes) -> Answer {
    let text = std::str::from_utf8(&body).map_err(|_| Refusal::bad("this is no UTF-8"))?;
    // A bare word will do, for hands at a keyboard.
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    let level = if json {
        let value: Value =
            serde_json::from_str(text).map_err(|error| Refusal::bad(error.to_string()))?;
        value.get("level").and_then(Value::as_str).map(str::to_owned)
    } else {
        Some(text.to_owned())
    };
    let level = level.ok_or_else(|| Refusal::bad("send {\"level\": \"debug\"}"))?;
    admin.log.set(&level).map_err(Refusal::bad)?;
    tracing::info!(level = %admin.log.current(), "admin: the log level was changed");
    answer(&json!({ "level": admin.log.current() }))
}

/// What may take long, on a thread of its own.
async fn apart<T: Send + 'static>(
    admin: &Arc<Admin>,
    work: impl FnOnce(&Admin) -> Result<T, String> + Send + 'static,
) -> Result<T, Refusal> {
    let admin = admin.clone();
    match tokio::task::spawn_blocking(move || work(&admin)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(why)) => Err(Refusal::conflict(why)),
        Err(_) => {
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "this failed; see the log".into()))
        }
    }
}

async fn set_drained(admin: &Arc<Admin>, name: String, address: &str, drained: bool) -> Answer {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Refusal::bad(format!("`{address}` is no address with a port")))?;
    let snapshot = admin.operator.snapshot();
    let Some(cluster) = snapshot.clusters.iter().find(|cluster| cluster.name == name) else {
        return Err(Refusal::not_found(format!("there is no cluster `{name}`")));
    };
    if !cluster.endpoints.iter().any(|endpoint| endpoint.address == address) {
        return Err(Refusal::not_found(format!("cluster `{name}` has no endpoint {address}")));
    }
    let asked = name.clone();
    apart(admin, move |admin| admin.operator.set_drained(&asked, address, drained)).await?;
    answer(&json!({ "cluster": name, "endpoint": address, "drained": drained }))
}

async fn drain(State(admin): Asked, Path((name, address)): Path<(String, String)>) -> Answer {
    set_drained(&admin, name, &address, true).await
}

async fn undrain(State(admin): Asked, Path((name, address)): Path<(String, String)>) -> Answer {
    set_drained(&admin, name, &address, false).await
}

async fn reload(State(admin): Asked) -> Answer {
    let changes = apart(&admin, |admin| admin.operator.reload()).await?;
    answer(&json!({ "reloaded": true, "changes": changes }))
}

async fn upgrade(State(admin): Asked) -> Answer {
    let told = apart(&admin, |admin| admin.operator.upgrade()).await?;
    answer(&json!({ "upgraded": true, "told": told }))
}

async fn explained(State(admin): Asked, Query(params): Params) -> Answer {
    let facts = params.into_iter().filter(|(key, _)| key == "fact").map(|(_, value)| value);
    let question = Question { facts: facts.collect(), ..Question::default() };
    explain(&admin, &question)
}

async fn explained_body(State(admin): Asked, body: Bytes) -> Answer {
    let question =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    explain(&admin, &question)
}

fn explain(admin: &Admin, question: &Question) -> Answer {
    let snapshot = admin.operator.snapshot();
    let (decision, text) =
        explain::answer(question, &snapshot, &admin.registry).map_err(Refusal::bad)?;
    answer(&json!({ "decision": decision, "text": text }))
}

async fn tap(State(admin): Asked, Query(params): Params) -> Answer {
    let seconds = number(&params, "seconds", 60, TAP)?;
    let snapshot = admin.operator.snapshot();
    let route = param(&params, "route").filter(|route| !route.is_empty()).map(str::to_owned);
    let text = param(&params, "match").unwrap_or_default();
    let filter = Filter::new(text, route, &admin.registry, &snapshot).map_err(Refusal::bad)?;
    let Some(watch) = admin.operator.hub().watch(filter) else {
        let why = format!("{} taps are open, and more are not allowed", super::tap::TAPS);
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, why));
    };
    let (events, stream) = mpsc::channel(QUEUE);
    tokio::spawn(show(watch, events, Duration::from_secs(seconds)));
    Ok(Sse::new(Events(stream)).keep_alive(KeepAlive::default()).into_response())
}

/// Passes messages on until the time is over or nobody listens; each second it says how
/// many there were.
async fn show(mut watch: Watch, events: mpsc::Sender<Event>, lasts: Duration) {
    let end = tokio::time::Instant::now() + lasts;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let status = |watch: &Watch| {
        let (matched, dropped) = watch.second();
        Event::default()
            .event("status")
            .data(json!({ "matched": matched, "dropped": dropped }).to_string())
    };
    loop {
        let event = tokio::select! {
            message = watch.next() => match message {
                Some(message) => Event::default().event("message").data(message),
                None => break,
            },
            _ = second.tick() => status(&watch),
            () = tokio::time::sleep_until(end) => break,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
    let _ = events.send(Event::default().event("end").data("{}")).await;
}

struct Events(mpsc::Receiver<Event>);

impl futures_core::Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| event.map(Ok))
    }
}

#[cfg(test)]
mod tests;
