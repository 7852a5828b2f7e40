//! A config made ready to run: immutable, shared by all workers, names resolved
//! to indices, keys to slots.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::proxy_protocol::Version;
use polyport_codecs::{Codec, Decoder, Interest, Limits, Probe, Protocol, Side, Slot, View};
use polyport_router::{Split, Table, hash_key};

pub use crate::balance::{Balance, Eligibility, Hashing, Place, Set};

use crate::breaker::Breaker;
use crate::config::Outline;
use crate::control::discovery::Discover;
use crate::edit::{Edits, Reply};
use crate::guard::{Access, Guard};
use crate::health::Health;
use crate::health::checks::Checks;
use crate::health::outlier::Outliers;
use crate::observe::access_log::AccessLogs;
use crate::overload;
use crate::policy::mirror::Mirror;
use crate::policy::retry::{Retry, RetryBudget};
use crate::privileges::Identity;
use crate::tls::client::ClientTls;
use crate::tls::server::ServerTls;

/// Everything a worker needs to know. A config that takes another's place is compiled over
/// it, so that positions of listeners, clusters, endpoints and sets mean the same in both.
#[derive(Clone)]
pub struct Snapshot {
    /// Worker threads; each has its own sockets, pools and counters.
    pub workers: usize,
    /// In file order, as first seen: over reloads each keeps its position, and those that
    /// are gone stay as `retired`.
    pub listeners: Vec<Listener>,
    /// As `listeners`, by name.
    pub clusters: Vec<Cluster>,
    /// What routes spread messages over: all endpoints of each cluster, and those that some
    /// labels leave. They keep their positions, too.
    pub sets: Vec<Set>,
    /// The compiled routes.
    pub routes: Arc<Table<Action>>,
    /// The keys that routes and hashes use.
    pub interest: Interest,
    /// Where the facts that the proxy itself knows go.
    pub facts: Facts,
    /// Bounds on input.
    pub limits: Limits,
    /// Waiting times.
    pub timeouts: Timeouts,
    /// Bounds on what a connection may hold.
    pub buffers: Buffers,
    /// Enabled protocols, compiled for `interest` and `limits`.
    pub protocols: Vec<Enabled>,
    /// The config as it was written.
    pub text: Arc<str>,
    /// What the config says, to be compared with another.
    pub outline: Arc<Outline>,
    /// By route position: a number that stays with the route's name over reloads.
    pub route_ids: Vec<usize>,
    /// The numbers of all names that routes ever had.
    pub known_routes: Arc<RouteNames>,
    /// Where the proxy can be looked at, config section `[admin]`.
    pub admin: Option<crate::admin::Settings>,
    /// The config file is read again when it changes.
    pub watch_config: bool,
    /// Who may come where no route says so, and where denials are told.
    pub access: Arc<Access>,
    /// How traffic is measured.
    pub metrics: crate::observe::metrics::Settings,
    /// What gives way when the process runs out of what it needs.
    pub overload: overload::Settings,
    /// Who the process becomes once its ports are bound.
    pub identity: Identity,
    /// Where requests that have ended are told.
    pub access_logs: Arc<AccessLogs>,
}

impl Snapshot {
    /// What `Outline` and figures call the route at this position, by number.
    pub fn route_id(&self, route: usize) -> Option<usize> {
        self.route_ids.get(route).copied()
    }

    /// Where the route at this position sends to; `None` where it sends nowhere.
    pub fn forward(&self, route: usize) -> Option<&Forward> {
        match self.routes.routes().get(route).map(|route| &route.then) {
            Some(Action::Forward(forward)) => Some(forward),
            _ => None,
        }
    }
}

/// Numbers for routes' names, which stay with them over reloads: positions do not.
#[derive(Debug, Clone, Default)]
pub struct RouteNames {
    numbers: BTreeMap<Arc<str>, usize>,
    /// By number.
    names: Vec<Arc<str>>,
}

impl RouteNames {
    /// Names beyond so many share the last number: configs may make them up for ever.
    pub const MOST: usize = 1 << 16;

    /// Those of before, and these.
    pub(crate) fn carried<'a>(before: Option<&Self>, names: impl Iterator<Item = &'a str>) -> Self {
        let mut all = before.cloned().unwrap_or_default();
        for name in names {
            let next = all.names.len();
            if next < Self::MOST && !all.numbers.contains_key(name) {
                let name: Arc<str> = name.into();
                all.names.push(name.clone());
                all.numbers.insert(name, next);
            }
        }
        all
    }

    /// The name that has this number.
    pub fn name(&self, number: usize) -> Option<&str> {
        self.names.get(number).map(|name| &**name)
    }

    /// The numbers of the routes, by position.
    pub(crate) fn ids(&self, table: &Table<Action>) -> Vec<usize> {
        let id = |name: &str| self.numbers.get(name).copied().unwrap_or(Self::MOST - 1);
        table.routes().iter().map(|route| id(&route.name)).collect()
    }
}

/// A protocol with its codec compiled for this config.
#[derive(Clone)]
pub struct Enabled {
    /// The protocol.
    pub protocol: &'static dyn Protocol,
    /// Its decoders' maker, for downstreams.
    pub codec: Arc<dyn Codec>,
    /// The same without any interest, for upstreams' replies.
    pub framing: Arc<dyn Codec>,
    /// The key whose value keeps a client on one endpoint, where the cluster says nothing.
    pub affinity: Option<Slot>,
}

impl Enabled {
    /// A decoder of a client's requests, of a `stream`'s among many or of a connection's.
    pub(crate) fn request_decoder(&self, stream: bool) -> Box<dyn Decoder> {
        if stream { self.codec.stream_decoder() } else { self.codec.decoder(Side::Request) }
    }

    /// Whether some connections of it carry many streams.
    pub fn may_stream(&self) -> bool {
        self.protocol.streams(b"") != Probe::No
    }
}

/// An address that downstreams connect to.
#[derive(Clone)]
pub struct Listener {
    /// Its name in rules (`listener`) and logs.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Indices into [`Snapshot::protocols`], in detection order. A single one is
    /// taken as given, without detection.
    pub protocols: Vec<usize>,
    /// The same protocols, ready for detection.
    pub detectable: Vec<&'static dyn Protocol>,
    /// What to do with a connection whose protocol no first bytes tell.
    pub fallback: Fallback,
    /// How long the first bytes may take to tell. Default 5 s.
    pub detect_timeout: Duration,
    /// Certificates and who is asked for one; none: TLS is not opened.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyHeader,
    /// The config has it no longer: nothing is accepted, and its connections are to go.
    pub retired: bool,
}

impl Listener {
    /// The one protocol that it takes as given, without detection.
    pub fn only(&self) -> Option<usize> {
        match self.protocols[..] {
            [only] if self.fallback == Fallback::Close => Some(only),
            _ => None,
        }
    }
}

/// Whether connections to a listener begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It is not looked for: strangers could lie.
    None,
    /// It is believed where there is one.
    Optional,
    /// Connections without one are closed.
    Required,
}

/// What becomes of a connection that detection does not recognise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Closed, with a log line.
    Close,
    /// Taken to speak this one (index into [`Snapshot::protocols`]).
    Protocol(usize),
    /// Carried as opaque bytes by the route for `protocol = "tcp"`.
    Tcp,
}

/// A named set of endpoints.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// In file order, as first seen: over changes each address keeps its position, and those
    /// that are gone stay as `retired`.
    pub endpoints: Vec<Endpoint>,
    /// Where its endpoints are found while the proxy runs; `None`: they stay as they are.
    pub discover: Option<Arc<Discover>>,
    /// All endpoints that take requests: index into [`Snapshot::sets`].
    pub set: usize,
    /// Differs where connections made under an earlier config are of no more use.
    pub epoch: u32,
    /// The config has it no longer: no route leads there.
    pub retired: bool,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Which may be chosen.
    pub eligibility: Eligibility,
    /// Bound on setting up a connection. Default 1 s.
    pub connect_timeout: Duration,
    /// Shared connections kept to each endpoint by each worker. Default 1.
    pub connections: usize,
    /// Most connections of any sort to each endpoint by each worker. Default 4096.
    pub max_connections: usize,
    /// Most requests in flight to each endpoint by each worker. Default 65,536.
    pub max_requests: usize,
    /// How long an idle pooled connection is kept. Default 60 s.
    pub idle_timeout: Duration,
    /// TLS to its endpoints.
    pub tls: Option<Arc<ClientTls>>,
    /// The PROXY header that its endpoints are sent.
    pub proxy_protocol: Option<Version>,
    /// HTTP goes to its endpoints over HTTP/2.
    pub http2: bool,
    /// Replies of this cluster's servers come in request order and do not repeat the
    /// request's id: each connection carries one exchange at a time.
    pub ordered: bool,
    /// How often an idle shared connection is probed, where the protocol can. Default 15 s.
    pub heartbeat: Duration,
    /// Bounds on connections and requests of all workers together.
    pub breaker: Option<Arc<Breaker>>,
    /// Of each endpoint, in the same order.
    pub health: Arc<[Health]>,
    /// How its endpoints are asked whether they are well; `None`: they are not.
    pub checks: Option<Checks>,
    /// What is concluded from how requests fare; `None`: nothing.
    pub outliers: Option<Arc<Outliers>>,
    /// How many retries it bears.
    pub retry_budget: RetryBudget,
}

/// One upstream address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Its host as the config writes it.
    pub host: String,
    /// Its share among its peers. Default 1.
    pub weight: u32,
    /// For subsets.
    pub labels: BTreeMap<String, String>,
    /// Where it stands among its peers.
    pub place: Place,
    /// Taken out by hand: no new requests go there.
    pub drained: bool,
    /// It is gone from its cluster: no new requests go there.
    pub retired: bool,
    /// Of all that ever had this position, the how manieth it is.
    pub tenant: u32,
}

impl Endpoint {
    /// Whether new requests may go there, as far as its cluster is concerned.
    pub fn takes(&self) -> bool {
        !self.drained && !self.retired
    }
}

/// What a route decides.
#[derive(Debug, Clone)]
pub enum Action {
    /// To one of these.
    Forward(Forward),
    /// Nowhere: denied with a native error.
    Deny,
    /// Nowhere: this is the answer.
    Respond(Arc<Reply>),
}

/// Where a route sends a message.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The shares of `targets`.
    pub split: Split,
    /// Same order as the split's weights.
    pub targets: Vec<Target>,
    /// A key whose value picks the target of the split, so that the same value
    /// always goes the same way.
    pub sticky: Option<Slot>,
    /// Bound on the time from a request's head to its reply's end. `None`: the default.
    pub timeout: Option<Duration>,
    /// Its other times.
    pub times: RouteTimes,
    /// What is changed in requests and their replies.
    pub edits: Option<Arc<Edits>>,
    /// What messages have to pass first.
    pub guard: Option<Arc<Guard>>,
    /// When a request is tried again.
    pub retry: Option<Arc<Retry>>,
    /// Where copies of requests go.
    pub mirror: Option<Arc<Mirror>>,
}

impl Forward {
    /// The target that a message takes, where that is not left to chance: the only one, or
    /// that of its sticky key's value.
    pub fn arm(&self, view: &View<'_>) -> Option<usize> {
        if self.targets.len() == 1 {
            return Some(0);
        }
        let value = view.get(self.sticky?)?;
        Some(self.split.choose(hash_key(value)))
    }
}

/// Times that a route gives beside its timeout. `None`: the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteTimes {
    /// How long a session may last.
    pub session: Option<Duration>,
    /// How long nothing of a body may move.
    pub stream: Option<Duration>,
    /// How long nothing may move in a session.
    pub idle: Option<Duration>,
}

impl RouteTimes {
    /// With the defaults for sessions and streams filled in.
    pub fn or(self, defaults: &Timeouts) -> Self {
        Self {
            session: self.session.or(defaults.session),
            stream: self.stream.or(Some(defaults.stream)),
            idle: self.idle,
        }
    }
}

impl fmt::Display for RouteTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, stream, idle } = *self;
        let known = [("stream", stream), ("session", session), ("idle session", idle)];
        let mut first = true;
        for (what, time) in known.iter().filter_map(|(what, time)| Some((what, (*time)?))) {
            write!(f, "{}{what} {time:?}", if std::mem::take(&mut first) { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// One arm of a split.
#[derive(Debug, Clone)]
pub struct Target {
    /// Index into [`Snapshot::clusters`].
    pub cluster: usize,
    /// The endpoints whose labels fit, all of them where none are asked for: index into
    /// [`Snapshot::sets`].
    pub set: usize,
}

/// Slots of the facts that no codec knows; `None` where no rule asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// `listener`: the listener's name.
    pub listener: Option<Slot>,
    /// `source.ip`: the downstream's address.
    pub source_ip: Option<Slot>,
    /// `source.port`.
    pub source_port: Option<Slot>,
    /// `protocol`: the detected protocol's name.
    pub protocol: Option<Slot>,
    /// `scheme`: https where the connection came over TLS.
    pub scheme: Option<Slot>,
    /// `tls.sni`.
    pub tls_sni: Option<Slot>,
    /// `tls.version`.
    pub tls_version: Option<Slot>,
    /// `tls.alpn`.
    pub tls_alpn: Option<Slot>,
    /// `tls.client.san`.
    pub tls_client_san: Option<Slot>,
    /// `tls.client.subject`.
    pub tls_client_subject: Option<Slot>,
}

/// Waiting times, config section `[defaults]`.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From a request's head to its reply's end. Default 15 s. Sessions and
    /// requests that may block have none.
    pub request: Duration,
    /// A streaming exchange (a body of unknown length, both ways) on which nothing
    /// moves. Default 5 min.
    pub stream: Duration,
    /// How long a session may last. `None`, the default: as long as it likes.
    pub session: Option<Duration>,
    /// A downstream connection on which nothing is in flight and nothing comes. Default 1 h.
    pub idle: Duration,
    /// A message begun and not finished: between two reads of it. Default 30 s.
    pub read: Duration,
    /// A peer that takes none of the bytes waiting for it. Default 30 s.
    pub write: Duration,
    /// How long connections that are to leave are served and waited for. Default 30 s.
    pub drain: Duration,
    /// How long a new process may take until it can take over from this one. Default 30 s.
    pub upgrade: Duration,
    /// Such a connection ends earlier when nothing has been on it for so long. Default 1 s.
    pub quiet: Duration,
}

/// Memory bounds per connection, config section `[limits]`.
#[derive(Debug, Clone, Copy)]
pub struct Buffers {
    /// Bytes waiting to be written to a peer above which whoever feeds it is not read. Default 64 KiB.
    pub high: usize,
    /// Bytes of replies that came before their turn, above which the connection is cut. Default 8 MiB.
    pub out_of_turn: usize,
    /// Requests in flight per downstream connection above which it is not read. Default 1024.
    pub in_flight: usize,
    /// Downstream connections per worker; further ones are closed at once. Default 65,536.
    pub connections: usize,
}
