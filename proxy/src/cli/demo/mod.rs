//! `polyport demo`: a proxy with small servers of its own behind it, so that a
//! newcomer has something to talk to with nothing installed.
//!
//! The servers ([`redis`], [`http`], [`dubbo`], [`bolt`], [`thrift`],
//! [`mqtt`]) are made of the same codecs as the
//! proxy, run on their own thread, and know just enough to answer `redis-cli`, `curl`
//! and `polyport call`. They are the only place of this crate that knows protocols by name.

mod bolt;
pub(super) mod call;
mod dubbo;
mod http;
mod mqtt;
mod redis;
mod serve;
mod show;
mod thrift;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use polyport_codecs::Registry;

use super::run::Stop;
use crate::admin::{Admin, Hub, LogLevel, Operator, Settings, Sockets, bind, serve};
use crate::config;
use crate::engine::Tapped;
use crate::worker::Proxy;

/// A round of the self-made traffic comes so often: evenly by the second, as figures are.
const ROUND: std::time::Duration = std::time::Duration::from_millis(500);

/// The demo's config, with `{…}` where addresses go; what `--print-config` shows.
const CONFIG: &str = include_str!("demo.toml");

/// What the demo was asked to do.
pub(super) struct Options {
    /// Where the proxy listens.
    pub(super) listen: SocketAddr,
    /// Ends after so many seconds; runs until it is stopped where there are none.
    pub(super) seconds: Option<u64>,
    /// Makes no traffic of its own.
    pub(super) quiet: bool,
    /// Shows lines without colours.
    pub(super) plain: bool,
}

/// The admin page's socket: on the port after the proxy's where that is free.
fn admin(port: u16) -> io::Result<Sockets> {
    let at = |port: u16| Settings {
        address: Some((std::net::Ipv4Addr::LOCALHOST, port).into()),
        ..Settings::default()
    };
    match port.checked_add(1).filter(|_| port > 0) {
        Some(next) => bind(&at(next), None).or_else(|_| bind(&at(0), None)),
        None => bind(&at(0), None),
    }
}

/// Runs the demo.
///
/// # Errors
/// Where an address cannot be had.
pub(super) fn demo(registry: &Registry, options: &Options, log: LogLevel) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let servers = serve::Servers::start()?;
    let sockets = admin(options.listen.port())?;
    let page = sockets.tcp.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
    let text = CONFIG
        .replace("{admin}", &page.unwrap_or(options.listen).to_string())
        .replace("{listen}", &options.listen.to_string())
        .replace("{redis}", &servers.redis.to_string())
        .replace("{blue}", &servers.blue.to_string())
        .replace("{green}", &servers.green.to_string())
        .replace("{orders}", &servers.orders.to_string())
        .replace("{canary}", &servers.canary.to_string())
        .replace("{stock}", &servers.stock.to_string())
        .replace("{goods}", &servers.goods.to_string())
        .replace("{pumps}", &servers.pumps.to_string());
    let (snapshot, _) = config::compile(&text, "demo.toml", registry).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        io::Error::other(lines.join("\n"))
    })?;
    let snapshot = Arc::new(snapshot);
    let show = Arc::new(show::Show::new(snapshot.clone(), options.plain));
    let (hub, shown) = (Arc::new(Hub::default()), show.clone());
    let seen = hub.clone();
    let tap = move |tapped: &Tapped<'_>| {
        seen.see(tapped);
        shown.message(tapped);
    };
    let proxy = Proxy::start_tapped(snapshot, Some(Arc::new(tap))).map_err(io::Error::other)?;
    let admin = Admin {
        operator: Operator::new(&proxy, "demo.toml".into(), hub),
        registry: registry.clone(),
        log,
        write: true,
        started: std::time::SystemTime::now(),
        leaving: false.into(),
        unanswered: 0.into(),
    };
    let address = proxy.addresses().first().copied().unwrap_or(options.listen);
    show.introduction(address, page, &text);
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let end = async {
            match options.seconds {
                Some(seconds) => {
                    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                    "the end of its time"
                }
                None => stop.asked().await,
            }
        };
        let traffic = async {
            let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + ROUND, ROUND);
            rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                rounds.tick().await;
                if !options.quiet {
                    call::round(address).await;
                }
            }
        };
        tokio::select! {
            _ = end => {}
            () = traffic => {}
            () = serve(sockets, Arc::new(admin)) => {}
        }
        Ok::<_, io::Error>(())
    })?;
    let totals = proxy.totals();
    show.farewell(&totals);
    proxy.stop();
    Ok(ExitCode::SUCCESS)
}
