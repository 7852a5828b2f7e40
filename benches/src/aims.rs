//! What Polyport has promised, as ratios of CPU per request.

use serde::Serialize;

use crate::Workload;
use crate::peers::Peer;
use crate::table::Table;

/// How far along an aim belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// To be met by the first release.
    First,
    /// To be held in the end.
    Final,
}

/// Polyport costs at most `at_most` times what `peer` does.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Aim {
    /// Doing what.
    pub workload: Workload,
    /// With so many requests in flight on each connection.
    pub depth: usize,
    /// Beside whom.
    pub peer: Peer,
    /// The ratio.
    pub at_most: f64,
    /// When.
    pub stage: Stage,
}

const fn aim(workload: Workload, depth: usize, peer: Peer, at_most: f64, stage: Stage) -> Aim {
    Aim { workload, depth, peer, at_most, stage }
}

/// All aims.
pub const AIMS: [Aim; 20] = [
    aim(Workload::Redis, 1, Peer::Twemproxy, 1.2, Stage::First),
    aim(Workload::Dubbo, 1, Peer::Haproxy, 0.8, Stage::First),
    aim(Workload::Thrift, 1, Peer::Haproxy, 0.8, Stage::First),
    aim(Workload::Bolt, 1, Peer::Haproxy, 0.8, Stage::First),
    aim(Workload::Mqtt, 1, Peer::Nginx, 1.1, Stage::First),
    aim(Workload::Http, 1, Peer::Nginx, 1.2, Stage::First),
    // Both: the better of the two.
    aim(Workload::Http2, 1, Peer::Nginx, 1.0, Stage::First),
    aim(Workload::Http2, 1, Peer::Haproxy, 1.0, Stage::First),
    aim(Workload::Redis, 16, Peer::Twemproxy, 0.7, Stage::First),
    aim(Workload::Dubbo, 16, Peer::Haproxy, 2.0, Stage::First),
    aim(Workload::Dubbo, 16, Peer::Envoy, 1.0 / 8.0, Stage::First),
    aim(Workload::Thrift, 16, Peer::Haproxy, 2.0, Stage::First),
    aim(Workload::Bolt, 16, Peer::Haproxy, 2.0, Stage::First),
    aim(Workload::Mqtt, 16, Peer::Nginx, 2.0, Stage::First),
    aim(Workload::Redis, 1, Peer::Twemproxy, 0.9, Stage::Final),
    aim(Workload::Dubbo, 1, Peer::Haproxy, 0.5, Stage::Final),
    aim(Workload::Http, 1, Peer::Nginx, 0.9, Stage::Final),
    aim(Workload::Redis, 16, Peer::Twemproxy, 0.5, Stage::Final),
    aim(Workload::Dubbo, 16, Peer::Haproxy, 1.5, Stage::Final),
    aim(Workload::Dubbo, 16, Peer::Envoy, 1.0 / 10.0, Stage::Final),
];

/// An aim and what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The aim.
    #[serde(flatten)]
    pub aim: Aim,
    /// The ratio measured; none where this run did not measure it.
    pub measured: Option<f64>,
    /// Whether it is met; none where this run did not measure it.
    pub met: Option<bool>,
}

/// Holds the tables against the aims.
pub fn judge(tables: &[Table]) -> Vec<Verdict> {
    let judge = |aim: &Aim| {
        let table =
            tables.iter().find(|table| table.workload == aim.workload && table.depth == aim.depth);
        let measured = table.and_then(|table| table.ratio(aim.peer));
        // To be cheap and wrong is no merit.
        let right = |peer| table.is_some_and(|table| table.errors(peer) == 0);
        let met = |ratio| ratio <= aim.at_most && right(Peer::Polyport) && right(aim.peer);
        Verdict { aim: *aim, measured, met: measured.map(met) }
    };
    AIMS.iter().map(judge).collect()
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Aim { workload, depth, peer, at_most, stage } = self.aim;
        let stage = match stage {
            Stage::First => "first",
            Stage::Final => "final",
        };
        write!(
            f,
            "{stage}: {:<6} depth {depth:<2} <= {at_most:<5.3} x {:<9}  ",
            workload.name(),
            peer.name()
        )?;
        match (self.measured, self.met) {
            (Some(ratio), Some(true)) => write!(f, "{ratio:.3}  met"),
            (Some(ratio), _) => write!(f, "{ratio:.3}  NOT MET"),
            (None, _) => write!(f, "-      not measured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Histogram, Round};
    use crate::table::Row;

    fn table(errors: u64) -> Table {
        let row = |peer, micros, errors| {
            let mut row = Row::new(peer);
            row.push(Round {
                completed: 1,
                elapsed: Duration::from_secs(1),
                cpu: Duration::from_micros(micros),
                latency: Histogram::default(),
                errors,
                first_error: None,
            });
            row
        };
        let rows = vec![row(Peer::Polyport, 10, errors), row(Peer::Twemproxy, 10, 0)];
        Table { workload: Workload::Redis, depth: 1, connections: 1, rows }
    }

    #[test]
    fn aims_are_met_by_ratio_and_only_without_errors() {
        let met = |errors| judge(&[table(errors)]).iter().map(|v| v.met).collect::<Vec<_>>();
        let (right, wrong) = (met(0), met(1));
        let all = AIMS.iter().zip(right.iter().zip(&wrong));
        for (aim, (right, wrong)) in all {
            let measured = aim.workload == Workload::Redis && aim.depth == 1;
            assert_eq!(*right, measured.then_some(aim.at_most >= 1.0));
            assert_eq!(*wrong, measured.then_some(false));
        }
    }
}
