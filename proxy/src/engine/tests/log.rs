//! Whatever happens in a simulated run, each request that has ended has one line, which
//! says how it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sim::{Plan, snapshot};
use super::toy;
use crate::engine::Engine;
use crate::observe::access_log::format::FIELDS;
use crate::observe::access_log::{AccessLog, AccessLogs, Format};
use crate::observe::output::{Output, Target};
use crate::snapshot::Snapshot;

fn opened(share: u64, errors: bool, bound: usize) -> (Arc<AccessLogs>, Output) {
    let log = AccessLog {
        target: Target::Stdout,
        format: Format::json(FIELDS.iter().copied()),
        when: [].into(),
        ends: [].into(),
        share,
        errors,
        messages: false,
        buffer: bound,
    };
    let output = Output::held(bound);
    let mut logs = AccessLogs::default();
    logs.list.push(log);
    logs.set_outputs(vec![output.clone()]);
    (Arc::new(logs), output)
}

/// Logs all that is done under this config, in some of the runs.
pub(super) fn of_all(snapshot: &mut Snapshot, seed: u64) -> Option<Output> {
    if !seed.is_multiple_of(4) {
        return None;
    }
    let (logs, output) = opened(u64::MAX, true, usize::MAX);
    snapshot.access_logs = logs;
    Some(output)
}

/// The lines agree with the counters, request by request.
pub(super) fn check(engine: &mut Engine, lines: Option<Output>, seed: u64) {
    let Some(lines) = lines else { return };
    engine.end_logs();
    let text = String::from_utf8(lines.take()).expect("UTF-8");
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut tries = 0;
    for line in text.lines() {
        let outcome = line.split_once("\"outcome\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let (outcome, _) = outcome.expect("an outcome");
        *ends.entry(outcome.to_owned()).or_default() += 1;
        // Reading all of them takes longer than the simulation.
        if !seed.is_multiple_of(16) {
            continue;
        }
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let word = |name: &str| line.get(name).and_then(|value| value.as_str());
        assert_eq!((word("listener"), word("route")), (Some("edge"), Some("all")), "{line}");
        assert_eq!(word("outcome") == Some("fault"), word("fault").is_some(), "{line}");
        tries += line["tries"].as_u64().expect("tries").saturating_sub(1);
        let duration = line["duration"].as_f64().expect("a duration");
        for part in ["waited", "upstream-duration"] {
            let part = line.get(part).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
            assert!((0.0..=duration).contains(&part), "{line}");
        }
    }
    let counters = engine.counters();
    let of = |words: &[&str]| words.iter().filter_map(|word| ends.get(*word)).sum::<u64>();
    let replied = ["ok", "app-error", "server-error", "unavailable", "overloaded", "timeout"];
    let (logged, all) = (ends.values().sum::<u64>(), counters.requests + counters.local);
    assert_eq!(of(&replied), counters.answered, "seed {seed}: {ends:?} {counters:?}");
    assert_eq!(of(&["fault", "reset"]), counters.faults, "seed {seed}: {ends:?} {counters:?}");
    assert_eq!(of(&["abandoned"]), counters.abandoned, "seed {seed}: {ends:?} {counters:?}");
    assert_eq!(of(&["sent"]), counters.oneways, "seed {seed}: {ends:?} {counters:?}");
    assert!(logged >= counters.requests && logged <= all, "seed {seed}: {ends:?} {counters:?}");
    assert!(tries <= counters.retried, "seed {seed}: {tries} {counters:?}");
    assert_eq!((counters.logged, counters.unlogged), (logged, 0));
}

/// A calm run of one client against a log; what the counters then say.
fn run(share: u64, errors: bool, bound: usize) -> (u64, u64, String) {
    let mut snapshot = snapshot(&toy::CORRELATED, Plan::calm());
    let (logs, output) = opened(share, errors, bound);
    snapshot.access_logs = logs;
    let mut engine = Engine::new(Arc::new(snapshot), 1, None);
    let address = ([127, 0, 0, 1], 1000).into();
    let peer = std::rc::Rc::new(crate::engine::Peer::plain(address, address));
    struct Nowhere;
    impl crate::engine::Net for Nowhere {
        fn write(
            &mut self,
            _: crate::engine::state::ConnId,
            first: &[u8],
            second: &[u8],
        ) -> crate::engine::Written {
            crate::engine::Written::Bytes(first.len() + second.len())
        }
    }
    let mut net = Nowhere;
    let conn = engine.accept(0, peer).expect("room");
    for n in 0..1000u64 {
        engine.tick(n * 10_000);
        let bytes = format!("{n:016x}:hello\n");
        engine.received(conn, bytes.as_bytes(), &mut net);
        engine.flush(&mut net);
        // Nobody takes the connection: all of them end as faults.
        let mut at = 0;
        while let Some(action) = engine.next_action(&mut at) {
            if let crate::engine::Action::Connect(up, _) = action {
                engine.connect_failed(up);
            }
        }
        engine.expire();
    }
    engine.end_logs();
    let counters = engine.counters();
    assert_eq!(counters.faults, 1000, "{counters:?}");
    (counters.logged, counters.unlogged, String::from_utf8(output.take()).expect("UTF-8"))
}

#[test]
fn errors_are_logged_whatever_the_share_unless_they_are_sampled_too() {
    assert_eq!(run(0, true, usize::MAX).0, 1000);
    assert_eq!(run(0, false, usize::MAX).0, 0);
    let (some, ..) = run(u64::MAX / 10, false, usize::MAX);
    assert!((50..200).contains(&some), "{some} of 1000 are a tenth");
}

#[test]
fn where_the_writer_is_behind_whole_lines_are_dropped_and_counted() {
    let (logged, dropped, text) = run(u64::MAX, true, 10_000);
    assert!(dropped > 0, "{logged} lines fit into 10 kB");
    assert_eq!(logged + dropped, 1000);
    assert!(text.len() <= 10_000);
    assert_eq!(text.lines().count() as u64, logged);
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
