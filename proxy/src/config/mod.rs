//! From TOML to a [`Snapshot`]: every mistake is found in one go, each with its
//! place, its line and what to write instead.
//!
//! The text is parsed by `toml` into values that know where they stand;
//! [`reader`] walks a table and notes what nobody asked for. Each section has a file:
//! [`listeners`], [`clusters`], [`routes`] with [`matchers`], [`settings`].

mod access;
mod access_log;
mod admin;
mod balance;
mod blot;
mod breaker;
mod clusters;
mod diagnostic;
mod discover;
mod edits;
mod faults;
mod filter;
mod health;
mod limits;
mod listeners;
mod matchers;
mod metrics;
mod outline;
mod overload;
mod reader;
mod retry;
mod routes;
pub mod schema;
mod settings;
mod transport;
mod values;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use polyport_codecs::{Interest, KeySpec, Registry};
use polyport_router::Table;

pub(crate) use blot::blot;
pub use diagnostic::{Diagnostic, Severity};
pub use filter::filter;
pub use outline::{Outline, Said};
use reader::{Reader, Source};

use crate::carry;
use crate::snapshot::{Enabled, Facts, RouteNames, Snapshot};

/// Keys that the proxy fills itself, beside those of the codecs.
pub const FACTS: &[KeySpec] = &[
    KeySpec::key("listener", "name of the listener that took the connection", "edge"),
    KeySpec::key("source.ip", "the client's address", "10.1.2.3"),
    KeySpec::key("source.port", "the client's port", "51234"),
    KeySpec::key("tls.sni", "the server name that the client asked for", "shop.example"),
    KeySpec::key("tls.version", "TLS opened here: its version", "1.3"),
    KeySpec::key("tls.alpn", "TLS opened here: what ALPN agreed on", "h2"),
    KeySpec::key(
        "tls.client.san",
        "the alternative names of the client's certificate, joined by commas",
        "spiffe://shop.example/cart",
    ),
    KeySpec::key("tls.client.subject", "the subject of the client's certificate", "CN=cart"),
];

/// Requests of one cluster that may wait for a connection in each worker, where it has no breaker.
pub(crate) const PENDING: usize = breaker::PENDING;

/// A name for opaque connections in rules on `protocol`.
const TCP: &str = "tcp";

/// Finds the addresses of `host:port`.
pub type Resolve<'a> = &'a dyn Fn(&str) -> std::io::Result<Vec<SocketAddr>>;

/// Compiles a config; the warnings beside the snapshot, or every error there is.
///
/// # Errors
/// All that is wrong with the text, in the order it stands there.
pub fn compile(
    text: &str,
    file: &str,
    registry: &Registry,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    compile_with(text, file, registry, &|name| Ok(name.to_socket_addrs()?.collect()))
}

/// As [`compile`], with another way to find addresses.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    text: &str,
    file: &str,
    registry: &Registry,
    resolve: Resolve<'_>,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    compile_over(text, file, registry, resolve, None)
}

/// As [`compile_with`], for a config that takes the place of `before`: what both have keeps
/// its positions, its health and its counts. `before` itself is not touched.
///
/// # Errors
/// As [`compile`].
pub fn compile_over(
    text: &str,
    file: &str,
    registry: &Registry,
    resolve: Resolve<'_>,
    before: Option<&Snapshot>,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    let source = Source::new(text, file);
    let root = match toml::de::DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            source.error(span, error.message().trim().to_owned(), None);
            return Err(source.finish());
        }
    };
    let span = root.span();
    let mut outline = Outline { settings: outline::settings(root.get_ref()), ..Outline::default() };
    let mut root = Reader::new(&source, root.get_ref(), span.clone(), "the config");

    let limits = settings::limits(&mut root);
    let (timeouts, request_defaults) = settings::defaults(&mut root);
    let buffers = settings::buffers(&limits);
    let workers = settings::workers(&mut root);
    let admin = admin::read(&mut root);
    let watch_config = settings::watches(&mut root);
    let overload = overload::read(&mut root);
    let identity = overload::identity(&mut root);
    let (listeners, enabled) = listeners::read(&mut root, registry, &mut outline);
    let mut interest = Interest::nothing();
    for key in enabled.iter().filter_map(|protocol| protocol.affinity()) {
        interest.add(key);
    }
    if request_defaults.deadlines {
        for key in enabled.iter().filter_map(|protocol| protocol.deadline()) {
            interest.add(key);
        }
    }
    let metrics = metrics::read(&mut root, registry, &mut interest);
    let zone = root.string("zone").map(|(zone, _)| zone);
    let mut clusters = clusters::read(
        &mut root,
        registry,
        &mut interest,
        resolve,
        &request_defaults,
        zone,
        &mut outline,
        before,
    );
    let (had_sets, had_clusters) = before.map_or((&[][..], &[][..]), |b| (&b.sets, &b.clusters));
    let mut sets = balance::Sets::new(had_sets, &mut clusters.list);
    let routes = routes::read(
        &mut root,
        registry,
        &clusters,
        &mut sets,
        &mut interest,
        &mut outline,
        before,
    );
    let access_logs = access_log::read(&mut root, registry, &mut interest);
    root.finish(&[
        "workers",
        "zone",
        "listener",
        "cluster",
        "route",
        "defaults",
        "limits",
        "admin",
        "access",
        "metrics",
        "reload",
        "overload",
        "user",
        "group",
        "access-log",
    ]);

    if listeners.is_empty() && !source.failed() {
        let help = "add [[listener]] with address = \"0.0.0.0:7000\"";
        source.error(0..0, "no listener: nothing would be served".into(), Some(help.into()));
    }
    let access = access::read(&mut root, &routes.routes, &routes.silent);
    let table = Table::compile(routes.routes);
    for shadow in table.shadowed() {
        let (Some(span), Some(by)) =
            (routes.spans.get(shadow.route), table.routes().get(shadow.by))
        else {
            continue;
        };
        let what = format!("this route is never chosen: `{}` matches first", by.name);
        source.warn(span.clone(), what, Some("move it up, or narrow the other".into()));
    }
    for (at, cluster) in clusters.list.iter().enumerate() {
        let span = clusters.spans.get(at).cloned().flatten();
        if let Some(span) = span.filter(|_| !source.failed() && !routes.used.contains(&at)) {
            source.warn(span, format!("no route sends to cluster `{}`", cluster.name), None);
        }
    }
    if source.failed() {
        return Err(source.finish());
    }
    let facts = Facts {
        listener: interest.slot("listener"),
        source_ip: interest.slot("source.ip"),
        source_port: interest.slot("source.port"),
        protocol: interest.slot("protocol"),
        scheme: interest.slot("scheme"),
        tls_sni: interest.slot("tls.sni"),
        tls_version: interest.slot("tls.version"),
        tls_alpn: interest.slot("tls.alpn"),
        tls_client_san: interest.slot("tls.client.san"),
        tls_client_subject: interest.slot("tls.client.subject"),
    };
    let protocols = enabled
        .into_iter()
        .map(|protocol| Enabled {
            protocol,
            codec: protocol.compile(&limits.codec, &interest),
            affinity: protocol.affinity().and_then(|key| interest.slot(key)),
            framing: protocol.compile(&limits.codec, &Interest::nothing()),
        })
        .collect();
    let names = table.routes().iter().map(|route| route.name.as_str());
    let known_routes = RouteNames::carried(before.map(|before| &*before.known_routes), names);
    let snapshot = Snapshot {
        workers,
        listeners: carry::listeners(before.map_or(&[], |before| &before.listeners), listeners),
        sets: sets.finish(&clusters.list, had_sets, had_clusters),
        clusters: clusters.list,
        route_ids: known_routes.ids(&table),
        known_routes: Arc::new(known_routes),
        text: text.into(),
        outline: Arc::new(outline),
        routes: Arc::new(table),
        interest,
        facts,
        limits: limits.codec,
        timeouts,
        buffers,
        protocols,
        admin,
        watch_config,
        access: Arc::new(access),
        metrics,
        overload,
        identity,
        access_logs: Arc::new(access_logs),
    };
    Ok((snapshot, source.finish()))
}

#[cfg(test)]
mod tests;
