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
use crate::config;
use crate::worker::Proxy;

/// How long the self-made traffic pauses between two rounds.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(700);

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

/// Runs the demo.
///
/// # Errors
/// Where an address cannot be had.
pub(super) fn demo(registry: &Registry, options: &Options) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let servers = serve::Servers::start()?;
    let text = CONFIG
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
    let tap = show.clone();
    let proxy =
        Proxy::start_tapped(snapshot, Some(Arc::new(move |tapped: &_| tap.message(tapped))))
            .map_err(io::Error::other)?;
    let address = proxy.addresses().first().copied().unwrap_or(options.listen);
    show.introduction(address, &text);
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
            loop {
                tokio::time::sleep(PAUSE).await;
                if !options.quiet {
                    call::round(address).await;
                }
            }
        };
        tokio::select! {
            _ = end => {}
            () = traffic => {}
        }
        Ok::<_, io::Error>(())
    })?;
    let totals = proxy.totals();
    show.farewell(&totals);
    proxy.stop();
    Ok(ExitCode::SUCCESS)
}
