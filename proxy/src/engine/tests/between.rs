//! What only goes wrong where two policies meet, step by step.

use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Exchange, Protocol};

use super::toy::{self, Toy};
use super::waiting::{Worker, line, one_connection};
use crate::breaker::{Bounds, Breaker};
use crate::engine::state::ConnId;
use crate::guard::{Guard, Injected, Wrong};
use crate::policy::mirror::Mirror;
use crate::policy::retry::Retry;
use crate::snapshot::{Action, Forward, Snapshot};

/// One endpoint, one route, and this done to it.
fn with(protocol: &'static Toy, change: impl FnOnce(&mut Forward)) -> Snapshot {
    let mut snapshot = one_connection(protocol);
    let mut routes = snapshot.routes.routes().to_vec();
    if let Action::Forward(forward) = &mut routes[0].then {
        change(forward);
    }
    snapshot.routes = polyport_router::Table::compile(routes).into();
    snapshot
}

fn worker(snapshot: Snapshot) -> Worker {
    Worker::new(&Arc::new(snapshot))
}

fn fault(what: Wrong, percent: u32) -> Option<Arc<Guard>> {
    let faults = [Injected { what, per_million: percent * 10_000, when: None }].into();
    Some(Arc::new(Guard { faults, ..Guard::default() }))
}

fn retry(per_try: Option<u64>) -> Option<Arc<Retry>> {
    let (attempts, on, backoff) = (5, u8::MAX, Duration::from_millis(50));
    let per_try = per_try.map(Duration::from_millis);
    Some(Arc::new(Retry { attempts, on, per_try, backoff, ..Retry::default() }))
}

fn delay(ms: u64) -> Wrong {
    Wrong::Delay(Duration::from_millis(ms))
}

fn says(id: u64, what: &str) -> String {
    format!("{id:016x}:{what}\n")
}

fn gets(id: u64, what: &str) -> String {
    format!("{id:016x}{what}\n")
}

/// All counts are of a request that came, and each that came is in one of the others.
fn sums_up(worker: &Worker) -> bool {
    let c = worker.engine.counters();
    c.requests == c.answered + c.faults + c.abandoned + c.oneways
}

#[test]
fn a_retry_that_finds_no_connection_ends_its_request_and_not_its_clients_connection() {
    let mut worker = worker(with(&toy::ALONE, |forward| forward.retry = retry(None)));
    let first = worker.ask(&line(1));
    let second = worker.ask(&line(2));
    worker.heard(0);
    worker.say(ConnId::Up(worker.ups[0]), &gets(1, "?"));
    // The only connection is the second client's now, for longer than any pause.
    assert_eq!(worker.heard(1), line(2));
    worker.pass(300);
    assert_eq!(worker.got(first), gets(1, "!Overloaded"));
    worker.answer(1, 2);
    assert_eq!(worker.got(second), gets(2, "="));
    worker.say(first, &line(3));
    assert_eq!((worker.heard(1), worker.closed.contains(&first)), (line(3), false));
}

#[test]
fn the_time_of_a_try_begins_when_a_delay_is_over() {
    let mut worker = worker(with(&toy::CORRELATED, |forward| {
        (forward.retry, forward.guard) = (retry(Some(100)), fault(delay(200), 100));
    }));
    let client = worker.ask(&line(1));
    worker.pass(250);
    let heard = worker.heard(0);
    worker.say(ConnId::Up(worker.ups[0]), &heard.replace(':', "="));
    assert_eq!(worker.got(client), gets(1, "="));
}

#[test]
fn what_was_tried_twice_on_a_connection_is_lost_once_with_it() {
    let mut worker = worker(with(&toy::PIPELINED, |forward| forward.retry = retry(Some(100))));
    let client = worker.ask(&line(1));
    worker.pass(10);
    worker.say(client, &line(2));
    worker.pass(1);
    // It says something after the second was asked, so that it is not taken to be dead.
    worker.answer(0, 1);
    worker.pass(200);
    assert_eq!((worker.engine.counters().retried, worker.ups.len()), (1, 1));
    worker.engine.broken(ConnId::Up(worker.ups[0]));
    worker.turn();
    worker.pass(110);
    assert_eq!((worker.engine.counters().retried, worker.heard(1)), (2, line(2)));
}

#[test]
fn a_connection_that_many_share_makes_way_for_one_alone() {
    // Idle, it goes at once.
    let mut worker = worker(one_connection(&toy::PIPELINED));
    let first = worker.ask(&line(1));
    worker.heard(0);
    worker.answer(0, 1);
    let second = worker.ask(&(says(2, "L2") + "bb"));
    assert_eq!(worker.heard(1), says(2, "L2") + "bb");
    worker.answer(1, 2);
    assert_eq!(worker.got(second), gets(2, "="));
    // Busy, it goes when it has ended what it was asked; who comes later comes later.
    worker.say(first, &line(3));
    let third = worker.ask(&(says(4, "L2") + "bb"));
    worker.say(first, &line(5));
    assert_eq!((worker.engine.pending(), worker.heard(2)), (2, line(3)));
    worker.answer(2, 3);
    assert_eq!(worker.heard(3), says(4, "L2") + "bb");
    worker.answer(3, 4);
    assert_eq!(worker.got(third), gets(4, "="));
    assert_eq!(worker.heard(4), line(5));
}

#[test]
fn those_who_want_one_alone_take_turns_and_leave_the_shared_one_to_the_others() {
    let mut snapshot = one_connection(&toy::PIPELINED);
    snapshot.clusters[0].max_connections = 2;
    let mut worker = worker(snapshot);
    let first = worker.ask(&line(1));
    worker.answer(0, 1);
    worker.heard(0);
    // What blocks there may wait for the very client that shares the other connection.
    worker.ask(&says(2, "H"));
    worker.ask(&says(3, "H"));
    assert_eq!((worker.engine.pending(), worker.ups.len()), (1, 2));
    worker.say(first, &line(4));
    assert_eq!(worker.heard(0), line(4));
}

#[test]
fn idle_shared_connections_of_one_worker_make_way_for_another_workers() {
    let mut snapshot = one_connection(&toy::CORRELATED);
    snapshot.clusters[0].max_connections = 100;
    let bounds = Bounds { connections: Some(1), requests: None };
    let breaker = Breaker::new(bounds, 10, Bounds::default(), 1);
    snapshot.clusters[0].breaker = Some(Arc::new(breaker));
    let snapshot = Arc::new(snapshot);
    let (mut one, mut two) = (Worker::new(&snapshot), Worker::new(&snapshot));
    one.ask(&line(1));
    let heard = one.heard(0);
    one.say(ConnId::Up(one.ups[0]), &heard.replace(':', "="));
    two.ask(&line(2));
    for _ in 0..600 {
        one.pass(1);
        two.pass(1);
    }
    assert_eq!((two.ups.len(), one.closed.len()), (1, 1));
}

#[test]
fn a_session_that_may_be_read_only_slowly_is_not_older_for_it() {
    let mut snapshot = with(&toy::TALK, |f| f.guard = fault(Wrong::Bandwidth(10), 100));
    snapshot.timeouts.session = Some(Duration::from_secs(1));
    let mut worker = worker(snapshot);
    let client = worker.ask(&line(1));
    worker.say(client, &says(2, &"x".repeat(100)));
    worker.pass(1_500);
    assert!(worker.got(client).contains("!Expired"), "its time is over");
}

#[test]
fn what_waits_when_the_proxy_is_to_stop_is_answered_whatever_it_waits_for() {
    // For its time.
    for protocol in [&toy::PIPELINED, &toy::ALONE, &toy::IN_ORDER] {
        let delayed = with(protocol, |forward| forward.guard = fault(delay(500), 100));
        let mut worker = worker(delayed);
        let client = worker.ask(&(line(1) + &line(2)));
        worker.call_last();
        worker.turn();
        let due = match protocol.exchange() {
            // The answer says that the connection ends: what is behind it is not looked at.
            Exchange::Ordered { shared: false } => gets(1, "!ShuttingDown."),
            _ => gets(1, "!ShuttingDown") + &gets(2, "!ShuttingDown"),
        };
        assert_eq!(worker.got(client), due, "{}", protocol.name);
        assert!(sums_up(&worker));
        worker.pass(1_500);
        assert!(worker.engine.is_drained());
    }
    // For its turn.
    let mut worker = worker(one_connection(&toy::ALONE));
    let client = worker.ask(&(line(1) + &line(2)));
    worker.call_last();
    worker.turn();
    assert_eq!(worker.got(client), "");
    worker.answer(0, 1);
    // The answer ends the connection, as its protocol says in it.
    assert_eq!(worker.got(client), gets(1, "."));
    // For others of its client, of which there are as many as may be.
    let mut worker = self::worker(one_connection(&toy::CORRELATED));
    let all: String = (1..=10).map(line).collect();
    let client = worker.ask(&all);
    worker.call_last();
    worker.turn();
    let due = gets(10, "~") + &gets(9, "!ShuttingDown") + &gets(10, "!ShuttingDown");
    assert_eq!(worker.got(client).len(), due.len());
    let heard = worker.heard(0).replace(':', "=");
    worker.say(ConnId::Up(worker.ups[0]), &heard);
    assert_eq!(worker.got(client).matches('=').count(), 8);
    worker.pass(1_500);
    assert!(worker.engine.is_drained() && sums_up(&worker));
}

#[test]
fn a_capped_request_does_not_overtake_those_before_it() {
    let mut snapshot = with(&toy::PIPELINED, |f| f.guard = fault(Wrong::Bandwidth(1000), 30));
    snapshot.clusters[0].max_connections = 100;
    let mut worker = worker(snapshot);
    let client = worker.ask("");
    for id in 0..20 {
        worker.say(client, &line(id));
        assert!(worker.net.ups.len() <= 1, "its requests are on two connections at once");
        if id % 3 == 2 {
            for nth in 0..worker.ups.len() {
                while let Some(asked) = worker.heard(nth).get(..) {
                    if asked.is_empty() {
                        break;
                    }
                    worker.say(ConnId::Up(worker.ups[nth]), &asked.replace(':', "="));
                }
            }
        }
    }
}

#[test]
fn a_kept_connection_that_is_lost_to_a_timeout_ends_its_clients() {
    let mut worker = worker(one_connection(&toy::PIPELINED));
    let client = worker.ask(&says(1, "H"));
    worker.answer(0, 1);
    worker.say(client, &line(2));
    worker.pass(2_100);
    assert_eq!(worker.got(client), gets(1, "=") + &gets(2, "!Timeout"));
    worker.say(client, &line(3));
    // The server that heard the first knows nothing of the third.
    assert_eq!(worker.ups.len(), 1);
    worker.pass(1_100);
    assert!(worker.closed.contains(&client));
}

#[test]
fn what_belongs_to_a_kept_connection_is_not_refused_while_it_is_set_up() {
    let mut snapshot = one_connection(&toy::PIPELINED);
    let breaker = Breaker::new(Bounds::default(), 0, Bounds::default(), 1);
    snapshot.clusters[0].breaker = Some(Arc::new(breaker));
    let mut worker = worker(snapshot);
    let client = worker.ask("");
    let all = says(1, "H") + &line(2) + &says(3, "E");
    worker.say(client, &all);
    assert_eq!((worker.got(client), worker.heard(0)), (String::new(), all));
}

#[test]
fn what_is_in_flight_on_a_kept_connection_is_answered_to_its_end() {
    let mut worker = worker(one_connection(&toy::ALONE));
    let client = worker.ask(&(says(1, "H") + &line(2) + &says(3, "E")));
    worker.call_last();
    worker.turn();
    for id in 1..=3 {
        worker.answer(0, id);
    }
    worker.pass(1_100);
    assert_eq!(worker.got(client), gets(1, "=") + &gets(2, "=") + &gets(3, "="));
    assert!(worker.engine.is_drained() && sums_up(&worker));
}

#[test]
fn a_delayed_request_waits_for_its_connection_like_any_other() {
    let delayed = with(&toy::IN_ORDER, |forward| forward.guard = fault(delay(50), 100));
    let mut worker = worker(delayed);
    worker.ask(&line(1));
    let second = worker.ask(&line(2));
    worker.pass(100);
    assert_eq!((worker.got(second), worker.heard(0)), (String::new(), line(1)));
    worker.answer(0, 1);
    worker.answer(0, 2);
    assert_eq!(worker.got(second), gets(2, "="));
}

#[test]
fn copies_and_refusals_leave_the_sums_alone() {
    let mut worker = worker(with(&toy::CORRELATED, |forward| {
        let (target, cluster) = (forward.targets[0].clone(), "all".into());
        let mirror = Mirror { target, cluster, share: u64::MAX, requests: 9, buffer: 99 };
        forward.mirror = Some(Arc::new(mirror));
    }));
    worker.ask(&says(1, "O"));
    let counters = worker.engine.counters();
    assert_eq!((counters.requests, counters.oneways, counters.mirrored), (1, 1, 1));
    let abort = Wrong::Abort(polyport_codecs::Fault::Overloaded);
    for (what, requests) in [(abort, 1), (Wrong::Reset, 1)] {
        for protocol in [&toy::CORRELATED, &toy::ALONE, &toy::TALK] {
            let snapshot = with(protocol, |forward| forward.guard = fault(what.clone(), 100));
            let mut worker = self::worker(snapshot);
            worker.ask(&line(1));
            let counters = worker.engine.counters();
            assert_eq!((counters.requests, counters.faults), (requests, 1));
        }
    }
    // A session's opening is answered when its server says so.
    let mut worker = self::worker(one_connection(&toy::TALK));
    let client = worker.ask(&line(1));
    worker.answer(0, 1);
    worker.ask(&line(2));
    worker.engine.broken(client);
    for _ in 0..3 {
        worker.engine.broken(ConnId::Up(worker.ups[worker.ups.len() - 1]));
        worker.turn();
    }
    assert!(sums_up(&worker) && worker.engine.counters().answered == 1);
}
