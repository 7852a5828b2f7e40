//! A seeded simulation: random clients, random servers, bytes cut anywhere,
//! sockets that take a few bytes at a time, resets, virtual time. After every run
//! each request must have ended exactly once, with its own answer or an error.

#![allow(missing_docs, clippy::indexing_slicing)]

mod again;
mod balance;
mod between;
mod guard;
mod leave;
mod log;
mod overload;
mod sim;
mod slow;
mod storm;
mod tail;
mod toy;
mod waiting;

use sim::{Plan, simulate};

#[test]
fn every_request_of_a_calm_run_gets_its_own_answer() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        for seed in 0..150 {
            let report = simulate(protocol, seed, Plan::calm());
            assert_eq!(report.errors, 0, "{} seed {seed}: {report:?}", protocol.name);
            assert_eq!(report.answered, report.asked, "{} seed {seed}: {report:?}", protocol.name);
        }
    }
}

#[test]
fn every_request_of_a_stormy_run_ends_exactly_once() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        let mut answered = 0;
        for seed in 0..200 {
            let report = simulate(protocol, seed, Plan::stormy());
            assert_eq!(
                report.answered + report.errors + report.cut,
                report.asked,
                "{} seed {seed}: {report:?}",
                protocol.name
            );
            answered += report.answered;
        }
        assert!(answered > 0, "{}: a storm that kills everything shows nothing", protocol.name);
    }
}

#[test]
fn requests_that_wait_for_each_others_connections_all_end_and_leave_no_count() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        let mut waited = 0;
        for seed in 0..100 {
            let report = simulate(protocol, seed, Plan::calm().tight());
            assert_eq!(report.errors, 0, "{} seed {seed}: {report:?}", protocol.name);
            assert_eq!(report.answered, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            waited += usize::from(report.waited);
        }
        assert!(waited > 50, "{}: hardly anybody waited: {waited}", protocol.name);
        let mut answered = 0;
        for seed in 0..200 {
            let report = simulate(protocol, seed, Plan::stormy().tight());
            let ended = report.answered + report.errors + report.cut;
            assert_eq!(ended, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            answered += report.answered;
        }
        for seed in 0..100 {
            let report = simulate(protocol, seed, Plan::patched().copied().tight());
            let ended = report.answered + report.errors + report.cut;
            assert_eq!(ended, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            answered += report.answered;
        }
        assert!(answered > 0, "{}: a storm that kills everything shows nothing", protocol.name);
    }
}

#[test]
fn tried_again_nearly_all_requests_are_answered_and_each_ends_once() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        let (mut with, mut without, mut retried) = (0, 0, 0);
        for seed in 0..75 {
            for plan in [Plan::patched(), Plan::patched().copied()] {
                let report = simulate(protocol, seed, plan);
                let ended = report.answered + report.errors + report.cut;
                assert_eq!(ended, report.asked, "{} seed {seed}: {report:?}", protocol.name);
                with += report.errors + report.cut;
                retried += report.retried;
            }
            let report = simulate(protocol, seed, Plan::patched().without_retry());
            without += 2 * (report.errors + report.cut);
        }
        assert!(retried > 500, "{}: {retried} retries", protocol.name);
        assert!(with * 20 < without, "{}: {with} lost with, {without} without", protocol.name);
    }
}

#[test]
fn copies_are_made_of_all_and_seen_by_nobody() {
    for protocol in [&toy::CORRELATED, &toy::IN_ORDER, &toy::PIPELINED, &toy::ALONE] {
        for seed in 0..50 {
            let report = simulate(protocol, seed, Plan::calm().copied());
            assert_eq!(report.errors, 0, "{} seed {seed}: {report:?}", protocol.name);
            assert_eq!(report.answered, report.asked, "{} seed {seed}: {report:?}", protocol.name);
            assert_eq!(report.mirrored, report.asked as u64, "{} seed {seed}", protocol.name);
        }
    }
}

#[test]
fn a_run_repeats_from_its_seed() {
    let run = || simulate(&toy::CORRELATED, 7, Plan::stormy());
    assert_eq!(run(), run());
}
