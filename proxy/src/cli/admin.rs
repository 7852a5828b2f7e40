//! `[admin]`: the proxy's figures over HTTP, on loopback only.

use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::control::upgrade::Upgrades;
use crate::engine::Counters;
use crate::worker::Proxy;

/// Longest request that is read.
const REQUEST: usize = 4096;

/// How long one client may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers `GET /stats` and `GET /ready`, one client after the other; never ends.
pub(super) async fn serve(listener: Option<TcpListener>, proxy: &Proxy, upgrades: &Upgrades) {
    let Some(listener) = listener else { return pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A client that is slow or leaves is no matter of the proxy's.
                let _ = tokio::time::timeout(PATIENCE, answer(stream, proxy, upgrades)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, proxy: &Proxy, upgrades: &Upgrades) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match request.split(|byte| *byte == b' ').nth(1) {
        Some(b"/stats") => {
            let failed = format!("polyport_upgrade_failures {}\n", upgrades.failures());
            ("200 OK", figures(proxy) + &failed + &endpoints(proxy))
        }
        Some(b"/ready") => ("200 OK", "ready\n".to_owned()),
        _ => ("404 Not Found", "there are /stats and /ready\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// One figure a line: its name, a space, its value.
fn figures(proxy: &Proxy) -> String {
    let totals = proxy.totals();
    let now = [
        ("downstream_connections_active", totals.downstreams),
        ("upstream_connections_active", totals.upstreams),
        ("requests_active", totals.in_flight),
        ("requests_pending", totals.pending),
    ];
    let counted = Counters::NAMES.into_iter().zip(totals.counters.values());
    let line = |(name, value)| format!("polyport_{name} {value}\n");
    counted.chain(now).chain(proxy.overload().figures()).map(line).collect()
}

/// What is known of each endpoint, with the cluster's name and the address as labels.
fn endpoints(proxy: &Proxy) -> String {
    let now = proxy.now();
    let mut lines = String::new();
    for cluster in proxy.snapshot().clusters.iter().filter(|cluster| !cluster.retired) {
        let all = cluster.endpoints.iter().zip(cluster.health.iter());
        for (endpoint, health) in all.filter(|(endpoint, _)| !endpoint.retired) {
            let figures = [
                ("usable", u64::from(health.usable(now))),
                ("ejections_total", health.ejections()),
                ("checks_failed_total", health.checks_failed()),
            ];
            for (name, value) in figures {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    lines,
                    "polyport_endpoint_{name}{{cluster={:?},endpoint=\"{}\"}} {value}",
                    cluster.name, endpoint.address
                );
            }
        }
    }
    lines
}
