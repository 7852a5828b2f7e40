//! What the demo prints: what to type, and each message as it is routed.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::engine::Tapped;
use crate::snapshot::Snapshot;
use crate::worker::Totals;

/// Writes lines that a person reads.
pub(super) struct Show {
    snapshot: Arc<Snapshot>,
    plain: bool,
}

impl Show {
    pub(super) fn new(snapshot: Arc<Snapshot>, plain: bool) -> Self {
        Self { snapshot, plain }
    }

    fn line(&self, text: &str) {
        // A closed standard output ends nothing.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    fn paint(&self, colour: u8, text: &str) -> String {
        if self.plain { text.to_owned() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
    }

    pub(super) fn introduction(&self, address: SocketAddr, page: Option<SocketAddr>, config: &str) {
        let port = address.port();
        self.line(
            &self.paint(1, &format!("Polyport listens on {address}: one port, every protocol.")),
        );
        if let Some(page) = page {
            let link = self.paint(36, &format!("http://{page}/"));
            self.line(&format!("Its admin page, with all that passes: {link}"));
        }
        self.line("\nThe config it runs:\n");
        for line in config.lines() {
            self.line(&self.paint(2, &format!("    {line}")));
        }
        self.line("\nIn another terminal, type any of these, all to the same port:\n");
        for command in [
            format!("redis-cli -p {port} set greeting hello"),
            format!("redis-cli -p {port} flushall            # denied by the first route"),
            format!("curl http://127.0.0.1:{port}/shop"),
            format!("curl -b beta=yes http://127.0.0.1:{port}/shop   # goes to green"),
            format!("curl -i --http2-prior-knowledge http://127.0.0.1:{port}/shop"),
            format!("curl http://127.0.0.1:{port}/health      # answered by the proxy"),
            format!("polyport call dubbo 127.0.0.1:{port} com.shop.Orders find 42"),
            format!(
                "polyport call dubbo 127.0.0.1:{port} com.shop.Orders find 42 --attach tenant=acme"
            ),
            format!("polyport call bolt 127.0.0.1:{port} com.shop.Stock:1.0 count 42"),
            format!("polyport call thrift 127.0.0.1:{port} Goods:find anvil"),
            format!("mosquitto_sub -p {port} -v -t 'pumps/#'"),
            format!("mosquitto_pub -p {port} -t pumps/7/state -m on"),
            format!("mosquitto_pub -p {port} -V 5 -q 1 -t pumps/7/reset -m now   # refused"),
        ] {
            self.line(&format!("    {}", self.paint(36, &command)));
        }
        self.line("\nWhat it routes (a little traffic of the demo's own comes by itself):\n");
    }

    /// One routed message.
    pub(super) fn message(&self, tapped: &Tapped<'_>) {
        let mut facts = String::new();
        let shown = ["protocol", "kind", "service", "listener", "source.ip", "size"];
        for (key, value) in tapped.view.iter(&self.snapshot.interest) {
            if !shown.contains(&key) {
                facts += &format!(" {key}={}", value.escape_ascii());
            }
        }
        let protocol = self.paint(colour_of(tapped.protocol), &format!("{:<6}", tapped.protocol));
        let route = match (tapped.route, tapped.fault) {
            (route, Some(fault)) => {
                self.paint(31, &format!("{} ({})", route.unwrap_or("-"), fault.as_str()))
            }
            (route, None) => {
                let route = self.paint(32, route.unwrap_or("-"));
                match tapped.cluster.and_then(|at| self.snapshot.clusters.get(at)) {
                    Some(cluster) => {
                        let endpoint = tapped.endpoint.map(|at| at.to_string());
                        format!("{route} → {} {}", cluster.name, endpoint.unwrap_or_default())
                    }
                    // Answered here, or on its way within a session.
                    None => route,
                }
            }
        };
        self.line(&format!("  {protocol}{facts}  {route}"));
    }

    pub(super) fn farewell(&self, totals: &Totals) {
        let counters = totals.counters;
        self.line(&format!(
            "\n{} connections, {} requests routed: {} answered by servers, {} by the proxy; {} upstream connections made.",
            counters.accepted,
            counters.requests + counters.faults,
            counters.answered,
            counters.faults,
            counters.connects,
        ));
    }
}

/// A colour for a name: the same one each time, whatever the name.
fn colour_of(name: &str) -> u8 {
    let sum: u32 = name.bytes().map(u32::from).sum();
    33 + u8::try_from(sum % 4).unwrap_or(0)
}
