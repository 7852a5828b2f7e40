//! Who is to leave, and how, step by step.

use std::sync::Arc;

use super::toy::{self, Toy};
use super::waiting::{Worker, line, one_connection};
use crate::engine::state::ConnId;
use crate::snapshot::Snapshot;

/// ms; the last call is made when three quarters of them are over.
const TIME: u64 = 10_000;

fn snapshot(protocol: &'static Toy) -> Snapshot {
    let mut snapshot = one_connection(protocol);
    snapshot.clusters[0].max_connections = 1000;
    snapshot
}

fn worker(protocol: &'static Toy) -> Worker {
    Worker::new(&Arc::new(snapshot(protocol)))
}

fn drain(worker: &mut Worker) {
    worker.engine.drain(worker.now + TIME);
    worker.turn();
}

fn gets(id: u64, what: &str) -> String {
    format!("{id:016x}{what}\n")
}

/// The server answers all it was asked.
fn serve(worker: &mut Worker) {
    for nth in 0..worker.ups.len() {
        let heard = worker.heard(nth);
        if !heard.is_empty() {
            worker.say(ConnId::Up(worker.ups[nth]), &heard.replace(':', "="));
        }
    }
}

#[test]
fn a_client_with_words_for_it_is_told_and_served_until_it_is_quiet() {
    let mut worker = worker(&toy::CORRELATED);
    let client = worker.ask(&line(1));
    // What is in flight is answered after the words.
    drain(&mut worker);
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(1, "~") + &gets(1, "="));
    worker.pass(900);
    worker.say(client, &line(2));
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(2, "="), "told once");
    worker.pass(900);
    worker.say(client, &line(3));
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(3, "="), "it was not quiet for a second");
    worker.pass(1_100);
    worker.say(client, &line(4));
    assert_eq!(worker.heard(0), "", "nobody does what nobody hears of");
    worker.pass(1_000);
    assert!(worker.closed.contains(&client) && worker.engine.is_drained());
}

#[test]
fn whoever_says_nothing_before_is_told_when_it_does() {
    let mut worker = worker(&toy::CORRELATED);
    let client = worker.ask("");
    drain(&mut worker);
    assert_eq!(worker.got(client), "", "it is not known what it speaks");
    worker.say(client, &line(1));
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(1, "~") + &gets(1, "="));
    // So is one that was on its way.
    let late = worker.ask(&line(2));
    serve(&mut worker);
    assert_eq!(worker.got(late), gets(2, "~") + &gets(2, "="));
}

#[test]
fn where_replies_say_it_the_next_one_does_and_what_is_behind_it_is_not_done() {
    let mut worker = worker(&toy::ALONE);
    let client = worker.ask(&line(1));
    serve(&mut worker);
    worker.got(client);
    drain(&mut worker);
    worker.pass(500);
    worker.say(client, &(line(2) + &line(3)));
    serve(&mut worker);
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(2, "."));
    worker.pass(1_100);
    assert!(worker.closed.contains(&client) && worker.engine.is_drained());
}

#[test]
fn an_answer_of_the_proxys_own_says_it_like_a_servers() {
    let mut worker = worker(&toy::ALONE);
    let client = worker.ask(&(line(2) + &line(3)));
    drain(&mut worker);
    worker.engine.broken(ConnId::Up(worker.ups[0]));
    worker.turn();
    assert_eq!(worker.got(client), gets(2, "!UpstreamReset."), "and nothing behind it");
    worker.pass(1_100);
    assert!(worker.closed.contains(&client) && worker.engine.is_drained());
}

#[test]
fn a_joined_session_ends_with_a_word_between_two_of_its_servers_messages() {
    let mut worker = worker(&toy::ALONE);
    let bye = gets(0, "~ShuttingDown");
    let join = |worker: &mut Worker| {
        let client = worker.ask(&format!("{:016x}:J\n", 1));
        (client, ConnId::Up(*worker.ups.last().expect("a server")))
    };
    let (quiet, _) = join(&mut worker);
    let (slow, server) = join(&mut worker);
    let (stuck, last) = join(&mut worker);
    let (gone, dead) = join(&mut worker);
    worker.say(server, "one\ntw");
    worker.say(last, "never");
    drain(&mut worker);
    assert_eq!(worker.got(quiet), "");
    worker.engine.ended(dead);
    worker.turn();
    assert_eq!(worker.got(gone), "", "its server's end is told by an end");
    worker.pass(TIME / 2);
    assert_eq!(worker.got(quiet), bye);
    assert_eq!(worker.got(slow), "one\ntw");
    // What came with the end of a message, and is behind it, is not said any more.
    worker.say(server, "o\nthree\n");
    assert_eq!(worker.got(slow), format!("o\n{bye}"));
    worker.pass(TIME / 2 - 100);
    assert!(worker.closed.contains(&slow) && !worker.closed.contains(&stuck));
    worker.pass(200);
    assert_eq!(worker.got(stuck), "never", "there was no place for words");
    worker.pass(5_000);
    assert!(worker.closed.contains(&stuck) && worker.engine.is_drained());
}

#[test]
fn where_there_are_no_words_whoever_never_rests_is_served_until_the_last_call() {
    let mut worker = worker(&toy::PIPELINED);
    let client = worker.ask(&line(0));
    serve(&mut worker);
    drain(&mut worker);
    for id in 1..=14 {
        worker.pass(500);
        worker.say(client, &line(id));
        serve(&mut worker);
    }
    assert_eq!(worker.got(client).matches('=').count(), 15);
    worker.pass(400);
    worker.say(client, &(line(15) + &line(16)));
    worker.pass(200);
    assert_eq!(worker.engine.leaving(None), 1, "it is in flight");
    worker.say(client, &line(17));
    serve(&mut worker);
    let refused = gets(17, "!ShuttingDown");
    let rest = worker.got(client);
    assert!(rest == gets(15, "=") + &gets(16, "=") || rest.ends_with(&refused), "{rest}");
    worker.pass(1_100);
    assert!(worker.closed.contains(&client) && worker.engine.is_drained());
}

#[test]
fn at_the_end_of_the_time_all_are_cut_off() {
    for protocol in [&toy::CORRELATED, &toy::PIPELINED, &toy::ALONE] {
        let mut snapshot = snapshot(protocol);
        snapshot.timeouts.request = std::time::Duration::from_secs(60);
        let mut worker = Worker::new(&Arc::new(snapshot));
        let client = worker.ask(&line(1));
        drain(&mut worker);
        worker.pass(TIME - 10);
        assert!(!worker.closed.contains(&client), "{}", protocol.name);
        worker.pass(100);
        assert!(worker.closed.contains(&client) && worker.engine.is_drained());
    }
}

#[test]
fn what_is_kept_for_a_client_is_not_taken_from_it_while_there_is_time() {
    let mut worker = worker(&toy::PIPELINED);
    let client = worker.ask(&format!("{:016x}:H\n", 1));
    serve(&mut worker);
    drain(&mut worker);
    worker.pass(3_000);
    worker.say(client, &format!("{:016x}:E\n", 2));
    serve(&mut worker);
    assert_eq!(worker.got(client).matches('=').count(), 2);
    worker.pass(2_200);
    assert!(worker.closed.contains(&client));
}

#[test]
fn sessions_are_told_one_by_one_and_between_two_messages() {
    let mut worker = worker(&toy::TALK);
    let clients: Vec<ConnId> = (0..100).map(|id| worker.ask(&line(id))).collect();
    serve(&mut worker);
    // One of them is half way through a message, and another not let in yet.
    worker.say(clients[0], &format!("{:016x}:L10\nhalf", 7));
    let opening = worker.ask(&line(100));
    drain(&mut worker);
    let ended =
        |worker: &Worker| clients.iter().filter(|client| worker.closed.contains(client)).count();
    worker.pass(TIME / 4 + 1_000);
    let early = ended(&worker);
    assert!((20..95).contains(&early), "{early} at once");
    worker.pass(TIME / 4 + 100);
    assert_eq!(ended(&worker), 99);
    assert_eq!(worker.engine.leaving(None), 2);
    worker.say(clients[0], "rested");
    serve(&mut worker);
    worker.pass(1_200);
    assert!(worker.closed.contains(&clients[0]) && worker.closed.contains(&opening));
}

#[test]
fn one_listeners_clients_leave_and_no_others() {
    let mut snapshot = snapshot(&toy::CORRELATED);
    snapshot.listeners.push(snapshot.listeners[0].clone());
    let mut worker = Worker::new(&Arc::new(snapshot));
    let stays = worker.ask(&line(1));
    worker.engine.drain_listener(1, worker.now + TIME);
    worker.engine.drain_listener(0, worker.now + TIME);
    worker.turn();
    assert_eq!((worker.engine.leaving(Some(0)), worker.engine.leaving(Some(1))), (1, 0));
    let mut snapshot = self::snapshot(&toy::CORRELATED);
    snapshot.listeners.push(snapshot.listeners[0].clone());
    let mut other = Worker::new(&Arc::new(snapshot));
    let calm = other.ask(&line(1));
    other.engine.drain_listener(1, other.now + TIME);
    other.turn();
    serve(&mut other);
    assert_eq!(other.got(calm), gets(1, "="));
    other.pass(3_000);
    assert!(!other.closed.contains(&calm) && !other.engine.is_drained());
    serve(&mut worker);
    worker.pass(2_200);
    assert!(worker.closed.contains(&stays));
}

#[test]
fn a_listener_that_a_reload_takes_away_has_its_clients_leave_and_one_in_its_place_has_not() {
    let had = Arc::new(snapshot(&toy::CORRELATED));
    let mut worker = Worker::new(&had);
    let client = worker.ask(&line(1));
    let mut without = snapshot(&toy::CORRELATED);
    without.listeners[0].retired = true;
    worker.engine.reload(Arc::new(without));
    worker.engine.drain_listener(0, worker.now + TIME);
    // It was accepted before, but came in only now.
    let late = worker.ask(&line(2));
    worker.engine.reload(had);
    let other = worker.ask(&line(3));
    serve(&mut worker);
    assert_eq!(worker.got(client), gets(1, "~") + &gets(1, "="));
    assert_eq!(worker.got(late), gets(2, "~") + &gets(2, "="));
    assert_eq!(worker.got(other), gets(3, "="));
    worker.pass(2_200);
    assert!(worker.closed.contains(&client) && worker.closed.contains(&late));
    assert!(!worker.closed.contains(&other));
}
