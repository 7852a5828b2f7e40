//! Results of one workload at one depth, and how they are shown.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::Workload;
use crate::load::{Histogram, Round};
use crate::peers::Peer;

/// One round, as it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// CPU time of the proxy per right reply, in microseconds.
    pub cpu_micros: f64,
    /// Right replies per second.
    pub per_second: f64,
    /// Share of its core that the proxy used, in percent.
    pub core_percent: f64,
    /// Median latency, in microseconds.
    pub p50_micros: f64,
    /// 99th percentile of latency, in microseconds.
    pub p99_micros: f64,
    /// Wrong replies, lost connections and requests without a reply.
    pub errors: u64,
}

impl Sample {
    fn of(round: &Round) -> Self {
        let completed = round.completed as f64;
        let elapsed = round.elapsed.as_secs_f64();
        Self {
            cpu_micros: micros(round.cpu) / completed,
            per_second: completed / elapsed,
            core_percent: 100.0 * round.cpu.as_secs_f64() / elapsed,
            p50_micros: micros(round.latency.quantile(0.5)),
            p99_micros: micros(round.latency.quantile(0.99)),
            errors: round.errors,
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// One peer's rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Who.
    pub peer: Peer,
    /// Each round, in order.
    pub rounds: Vec<Sample>,
    /// Why the first error was one.
    pub first_error: Option<String>,
    #[serde(skip)]
    latency: Histogram,
}

impl Row {
    /// No rounds yet.
    pub fn new(peer: Peer) -> Self {
        Self { peer, rounds: Vec::new(), first_error: None, latency: Histogram::default() }
    }

    /// Adds a round.
    pub fn push(&mut self, round: Round) {
        self.rounds.push(Sample::of(&round));
        self.latency.merge(&round.latency);
        if self.first_error.is_none() {
            self.first_error = round.first_error;
        }
    }

    /// CPU per request, median over rounds; none where there is no proxy.
    pub fn cpu_micros(&self) -> Option<f64> {
        if self.peer == Peer::Direct {
            return None;
        }
        median(self.rounds.iter().map(|round| round.cpu_micros))
    }

    /// Errors of all rounds.
    pub fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors).sum()
    }
}

/// One workload at one depth.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// What was asked.
    pub workload: Workload,
    /// Requests in flight on each connection.
    pub depth: usize,
    /// Connections.
    pub connections: usize,
    /// Who answered, and how.
    pub rows: Vec<Row>,
}

impl Table {
    /// Polyport's CPU per request over `peer`'s: the median of the rounds' ratios.
    pub fn ratio(&self, peer: Peer) -> Option<f64> {
        self.between(Peer::Polyport, peer)
    }

    /// CPU per request of one over another's: the median of the rounds' ratios.
    pub fn between(&self, ours: Peer, theirs: Peer) -> Option<f64> {
        let of = |peer| self.rows.iter().find(|row: &&Row| row.peer == peer);
        if theirs == Peer::Direct {
            return None;
        }
        let (ours, theirs) = (of(ours)?, of(theirs)?);
        median(ours.rounds.iter().zip(&theirs.rounds).map(|(a, b)| a.cpu_micros / b.cpu_micros))
    }

    /// Errors that `peer` made.
    pub fn errors(&self, peer: Peer) -> u64 {
        self.rows.iter().filter(|row| row.peer == peer).map(Row::errors).sum()
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, depth {}, {} connections\n{:<18} {:>12} {:>14} {:>10} {:>7} {:>9} {:>9} {:>7}\n",
            self.workload.name(),
            self.depth,
            self.connections,
            "peer",
            "CPU us/req",
            "polyport/peer",
            "req/s",
            "core %",
            "p50 us",
            "p99 us",
            "errors",
        );
        for row in &self.rows {
            let show = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let rounds = |of: fn(&Sample) -> f64| median(row.rounds.iter().map(of));
            let ratio = self.ratio(row.peer).filter(|_| row.peer != Peer::Polyport);
            let core = row.cpu_micros().and(rounds(|round| round.core_percent));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<18} {:>12} {:>14} {:>10} {:>7} {:>9.0} {:>9.0} {:>7}",
                row.peer.mode(self.workload).unwrap_or_default(),
                show(row.cpu_micros(), 2),
                show(ratio, 2),
                show(rounds(|round| round.per_second), 0),
                show(core, 0),
                micros(row.latency.quantile(0.5)),
                micros(row.latency.quantile(0.99)),
                row.errors(),
            );
            if let Some(why) = &row.first_error {
                let _ = writeln!(text, "  first error: {why}");
            }
        }
        text
    }
}

/// The middle value, of finite ones; the mean of the middle two where they are even.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[values.len() / 2 - 1] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Peer, cpu: &[u64]) -> Row {
        let mut row = Row::new(peer);
        for cpu in cpu {
            row.push(Round {
                completed: 10,
                elapsed: Duration::from_secs(1),
                cpu: Duration::from_micros(*cpu),
                latency: Histogram::default(),
                errors: 0,
                first_error: None,
            });
        }
        row
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        let rows = vec![
            row(Peer::Polyport, &[100, 400, 90]),
            row(Peer::Haproxy, &[200, 500, 200]),
            row(Peer::Direct, &[0, 0, 0]),
        ];
        let table = Table { workload: Workload::Redis, depth: 1, connections: 64, rows };
        assert_eq!(table.ratio(Peer::Haproxy), Some(0.5));
        assert_eq!(table.ratio(Peer::Direct), None);
        assert_eq!(table.ratio(Peer::Envoy), None);
        assert_eq!(table.rows[1].cpu_micros(), Some(20.0));
        assert!(table.text().contains("haproxy tcp"));
    }

    #[test]
    fn a_round_without_replies_counts_for_nothing() {
        assert_eq!(median([f64::NAN, f64::INFINITY].into_iter()), None);
        assert_eq!(median([4.0, f64::NAN, 1.0].into_iter()), Some(2.5));
    }
}
