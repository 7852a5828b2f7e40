//! Endpoints from DNS: the addresses of a name, or SRV records.
//!
//! Names are asked for again when the smallest TTL of all that was used is over, but no
//! sooner than `every` and no later than [`LATEST`]. Nothing is cached here: what a TTL
//! has left is what the server says.
//!
//! A name that does not exist, a server that fails and one that is silent are errors: the
//! last answer stays. So it is by the family, too: where IPv4 has been found before and is
//! now not answered for, the answer for IPv6 alone is not taken for the whole; and by the
//! SRV record: a target whose name cannot be found just now keeps the addresses it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Source, Trouble, Usual};
use crate::snapshot::Endpoint;

/// However long a TTL is, a name is asked for again after this.
pub const LATEST: Duration = Duration::from_secs(300);

/// How long one question may take, with all its repetitions.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long IPv6 may take once IPv4 is known: some resolvers never answer for it.
const SECOND: Duration = Duration::from_secs(2);

/// How long one server may take to answer, where the config names it; asked twice.
const ANSWER: Duration = Duration::from_secs(2);

/// Names of SRV targets asked for at the same time.
const AT_ONCE: usize = 16;

/// The greatest weight an endpoint may have.
const HEAVIEST: u64 = 10_000;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The name that has them, with what the search list added.
    pub name: String,
    /// At least one.
    pub records: Vec<T>,
    /// The smallest of all records on the way.
    pub ttl: Duration,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Those of a lower number come first.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The name; `.` says that there is no such service.
    pub target: String,
}

/// Why a name has nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// The name is there, without records of this sort.
    #[error("it has no such record")]
    NoRecord,
    /// There is no such name.
    #[error("there is no such name")]
    NoName,
    /// Nobody knows just now.
    #[error("{0}")]
    Failed(String),
}

/// Who is asked.
pub trait Ask: Send + Sync + 'static {
    /// Addresses of a name.
    ///
    /// # Errors
    /// Where there are none, or nobody knows.
    fn addresses(
        &self,
        name: &str,
        family: Family,
    ) -> impl Future<Output = Result<Answer<IpAddr>, Nothing>> + Send;

    /// SRV records of a name.
    ///
    /// # Errors
    /// Where there are none, or nobody knows.
    fn services(&self, name: &str)
    -> impl Future<Output = Result<Answer<Service>, Nothing>> + Send;
}

/// What is asked for.
enum Question {
    Host { host: String, port: u16 },
    Service(String),
}

/// Endpoints from DNS.
pub struct Dns<A> {
    ask: Arc<A>,
    question: Question,
    every: Duration,
    usual: Usual,
    /// When the next question is due; `None`: now.
    due: Option<Instant>,
    /// The addresses that names had, by name.
    known: BTreeMap<String, Known>,
    /// What the last answer lacked, so that it is told once.
    lacked: Option<Trouble>,
}

/// The addresses of a name, the last time they were told.
#[derive(Debug, Clone, Default)]
struct Known {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

impl<A: Ask> Dns<A> {
    /// All addresses of `host`, with this port.
    pub fn host(ask: A, host: String, port: u16, every: Duration, usual: Usual) -> Self {
        Self::new(ask, Question::Host { host, port }, every, usual)
    }

    /// All SRV records of `name`.
    pub fn service(ask: A, name: String, every: Duration, usual: Usual) -> Self {
        Self::new(ask, Question::Service(name), every, usual)
    }

    fn new(ask: A, question: Question, every: Duration, usual: Usual) -> Self {
        let (ask, known) = (Arc::new(ask), BTreeMap::new());
        Self { ask, question, every, usual, due: None, known, lacked: None }
    }

    /// How long an answer holds.
    /// Goes on from what was found before, by this source or by one like it.
    pub fn knowing(mut self, endpoints: &[Endpoint]) -> Self {
        for endpoint in endpoints {
            let name = match &self.question {
                Question::Host { host, .. } if *host == endpoint.host => host.clone(),
                Question::Host { .. } => continue,
                // As records name their targets.
                Question::Service(_) => format!("{}.", endpoint.host),
            };
            let known = self.known.entry(name).or_default();
            let ip = endpoint.address.ip();
            if !known.addresses.contains(&ip) {
                known.addresses.push(ip);
            }
        }
        self
    }

    fn pause(&self, ttl: Duration) -> Duration {
        ttl.clamp(self.every, LATEST.max(self.every))
    }

    async fn find_host(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<(Vec<Endpoint>, Duration), Trouble> {
        let had = self.known.get(host).map(|known| known.addresses.clone()).unwrap_or_default();
        match addresses(&*self.ask, host, &had).await {
            Ok(known) => {
                let endpoint = |ip: &IpAddr| self.usual.endpoint((*ip, port).into(), host);
                let endpoints = known.addresses.iter().map(endpoint).collect();
                let ttl = known.ttl;
                self.known.insert(host.to_owned(), known);
                Ok((endpoints, ttl))
            }
            Err(Nothing::NoRecord) => Ok((Vec::new(), Duration::ZERO)),
            Err(nothing) => Err(Trouble(format!("{host}: {nothing}"))),
        }
    }

    async fn find_service(&mut self, name: &str) -> Result<(Vec<Endpoint>, Duration), Trouble> {
        let asked = timeout(PATIENCE, self.ask.services(name)).await;
        let answer = match asked.unwrap_or_else(|_| Err(silent())) {
            Ok(answer) => answer,
            Err(Nothing::NoRecord) => return Ok((Vec::new(), Duration::ZERO)),
            Err(nothing) => return Err(Trouble(format!("{name}: {nothing}"))),
        };
        let there = |service: &&Service| !matches!(service.target.as_str(), "" | ".");
        let services: Vec<&Service> = answer.records.iter().filter(there).collect();
        let names: BTreeSet<&str> =
            services.iter().map(|service| service.target.as_str()).collect();
        self.known.retain(|name, _| names.contains(name.as_str()));
        let trouble = self.find_targets(&names).await;
        let (ranks, scale) = (Ranks::of(&services), Scale::of(&services));
        let (mut endpoints, mut ttl) = (Vec::new(), answer.ttl);
        for service in &services {
            let Some(known) = self.known.get(&service.target) else { continue };
            ttl = ttl.min(known.ttl);
            for ip in &known.addresses {
                let host = service.target.trim_end_matches('.');
                let mut endpoint = self.usual.endpoint((*ip, service.port).into(), host);
                endpoint.weight = scale.weight(service.weight);
                endpoint.place.priority = ranks.priority(service.priority);
                endpoints.push(endpoint);
            }
        }
        match trouble {
            Some(trouble) if endpoints.is_empty() => Err(trouble),
            // Asked again soon, as what is used is not all that there should be.
            Some(trouble) => {
                if self.lacked.as_ref() != Some(&trouble) {
                    tracing::warn!(service = %name, %trouble, "endpoints: an SRV target cannot be found");
                    self.lacked = Some(trouble);
                }
                Ok((endpoints, Duration::ZERO))
            }
            None => {
                self.lacked = None;
                Ok((endpoints, ttl))
            }
        }
    }

    /// Brings what is known of these names up to date; why that of some is not.
    async fn find_targets(&mut self, names: &BTreeSet<&str>) -> Option<Trouble> {
        let mut trouble: Option<Trouble> = None;
        // Always the same one of several, whoever answers first.
        let mut note = |what: String| match &mut trouble {
            Some(Trouble(had)) if *had <= what => {}
            other => *other = Some(Trouble(what)),
        };
        let mut waiting = names.iter().map(|name| (*name).to_owned());
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some(name) = waiting.next()
            {
                let had = self.known.get(&name).map(|known| known.addresses.clone());
                let ask = self.ask.clone();
                asking.spawn(async move {
                    let found = addresses(&*ask, &name, &had.unwrap_or_default()).await;
                    (name, found)
                });
            }
            match asking.join_next().await {
                None => break,
                Some(Ok((name, Ok(known)))) => {
                    self.known.insert(name, known);
                }
                Some(Ok((name, Err(nothing)))) => {
                    note(format!("{name}: {nothing}"));
                    // That there is none is an answer; that nobody knows is not.
                    if !matches!(nothing, Nothing::Failed(_)) {
                        self.known.remove(&name);
                    }
                }
                Some(Err(error)) => note(error.to_string()),
            }
        }
        trouble
    }
}

impl<A: Ask> Source for Dns<A> {
    async fn next(&mut self) -> Result<Vec<Endpoint>, Trouble> {
        if let Some(due) = self.due.take() {
            sleep_until(due).await;
        }
        let found = match &self.question {
            Question::Host { host, port } => {
                let (host, port) = (host.clone(), *port);
                self.find_host(&host, port).await
            }
            Question::Service(name) => {
                let name = name.clone();
                self.find_service(&name).await
            }
        };
        let (endpoints, ttl) = found?;
        self.due = Some(Instant::now() + self.pause(ttl));
        Ok(endpoints)
    }
}

fn silent() -> Nothing {
    Nothing::Failed("no answer".into())
}

/// A name's addresses of both families; `had`: those of the last answer.
async fn addresses(ask: &impl Ask, name: &str, had: &[IpAddr]) -> Result<Known, Nothing> {
    let asked = timeout(PATIENCE, ask.addresses(name, Family::V4)).await;
    let v4 = asked.unwrap_or_else(|_| Err(silent()));
    // The search list is gone through once: both families are the same name's.
    let (at, limit) = match &v4 {
        Ok(answer) => (answer.name.as_str(), SECOND),
        Err(_) => (name, PATIENCE),
    };
    let asked = timeout(limit, ask.addresses(at, Family::V6)).await;
    let v6 = asked.unwrap_or_else(|_| Err(silent()));
    let known = |answer: Answer<IpAddr>| Known { addresses: answer.records, ttl: answer.ttl };
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let addresses = v4.records.into_iter().chain(v6.records).collect();
            Ok(Known { addresses, ttl: v4.ttl.min(v6.ttl) })
        }
        // A family that had addresses does not lose them because nobody answers for it.
        (Ok(_), Err(failed @ Nothing::Failed(_))) if had.iter().any(IpAddr::is_ipv6) => Err(failed),
        (Err(failed @ Nothing::Failed(_)), Ok(_)) if had.iter().any(IpAddr::is_ipv4) => Err(failed),
        (Ok(answer), Err(_)) | (Err(_), Ok(answer)) => Ok(known(answer)),
        (Err(failed @ Nothing::Failed(_)), _) | (_, Err(failed @ Nothing::Failed(_))) => {
            Err(failed)
        }
        (Err(Nothing::NoName), Err(Nothing::NoName)) => Err(Nothing::NoName),
        _ => Err(Nothing::NoRecord),
    }
}

/// From SRV's 65,536 priorities to our 256: as they are where they fit, else in their order.
struct Ranks(Option<Vec<u16>>);

impl Ranks {
    fn of(services: &[&Service]) -> Self {
        let mut all: Vec<u16> = services.iter().map(|service| service.priority).collect();
        all.sort_unstable();
        all.dedup();
        Self(all.last().is_some_and(|last| *last > u16::from(u8::MAX)).then_some(all))
    }

    fn priority(&self, priority: u16) -> u8 {
        let rank = match &self.0 {
            None => usize::from(priority),
            Some(all) => all.partition_point(|other| *other < priority),
        };
        u8::try_from(rank).unwrap_or(u8::MAX)
    }
}

/// From SRV's weights to ours, whose bound is lower. None of them is 0: those of weight 0
/// get little beside others, and equal shares among themselves, as SRV wants it.
struct Scale {
    heaviest: u64,
}

impl Scale {
    fn of(services: &[&Service]) -> Self {
        let weights = services.iter().map(|service| u64::from(service.weight));
        Self { heaviest: weights.max().unwrap_or(0) }
    }

    fn weight(&self, weight: u16) -> u32 {
        let weight = match u64::from(weight) {
            weight if self.heaviest > HEAVIEST => weight * HEAVIEST / self.heaviest,
            weight => weight,
        };
        u32::try_from(weight.max(1)).unwrap_or(1)
    }
}

/// The system's way to ask, or these servers.
#[derive(Debug, Clone)]
pub struct System(pub Vec<SocketAddr>);

impl System {
    /// A resolver that knows nothing yet: made for each question, so that what changes in
    /// the system's own files is seen, and no broken state outlives its question.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.0.is_empty() {
            Resolver::builder_tokio()?
        } else {
            let server = |address: &SocketAddr| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                server
            };
            let servers = self.0.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let provider = TokioRuntimeProvider::default();
            let mut builder = Resolver::builder_with_config(config, provider);
            let options = builder.options_mut();
            options.use_hosts_file = ResolveHosts::Never;
            options.timeout = ANSWER;
            builder
        };
        builder.options_mut().cache_size = 0;
        builder.build()
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Nothing> {
        let resolver = self.resolver().map_err(|error| Nothing::Failed(error.to_string()))?;
        resolver.lookup(name, kind).await.map_err(nothing)
    }
}

fn nothing(error: NetError) -> Nothing {
    match &error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Nothing::NoName,
            ResponseCode::NoError => Nothing::NoRecord,
            code => Nothing::Failed(code.to_string()),
        },
        _ => Nothing::Failed(error.to_string()),
    }
}

/// What of an answer is `wanted`, with the TTL of all of it.
fn answer<T>(lookup: &Lookup, wanted: impl Fn(&RData) -> Option<T>) -> Result<Answer<T>, Nothing> {
    let records: Vec<T> =
        lookup.answers().iter().filter_map(|record| wanted(&record.data)).collect();
    if records.is_empty() {
        return Err(Nothing::NoRecord);
    }
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let name = lookup.query().name().to_string();
    Ok(Answer { name, records, ttl: Duration::from_secs(ttl.into()) })
}

impl Ask for System {
    async fn addresses(&self, name: &str, family: Family) -> Result<Answer<IpAddr>, Nothing> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let lookup = self.ask(name, kind).await?;
        answer(&lookup, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
    }

    async fn services(&self, name: &str) -> Result<Answer<Service>, Nothing> {
        let lookup = self.ask(name, RecordType::SRV).await?;
        answer(&lookup, |data| match data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
