//! SOFABolt through the proxy: sofa-bolt-node and sofa-rpc-node, both written by others, on
//! both ends.

use std::thread::sleep;
use std::time::Duration;

use polyport_tests::bolt::{bolt, bolt_start};
use polyport_tests::{BoltServer, Config, Proxy, Raw, direct};

/// One worker and one connection to the server, shared by all callers.
fn narrow(server: &BoltServer) -> Proxy {
    Config::new().counted().all("bolt", server.address).start()
}

fn tell(story: &str, arguments: &[&str]) {
    let server = BoltServer::start();
    let mut proxy = narrow(&server);
    bolt(proxy.address("bolt"), story, arguments);
    proxy.assert_alive();
}

/// What stories are told whose server's package is in the way without a proxy.
fn through() -> &'static str {
    if direct() { "nothing" } else { "proxy" }
}

#[test]
fn arguments_arrive_both_ways_in_every_version_on_one_connection() {
    tell("echo", &[]);
}

#[test]
fn protobuf_calls_pass_with_their_header_block() {
    tell("protobuf", &[]);
}

#[test]
fn every_kind_of_reply_arrives_as_sent() {
    tell("replies", &[]);
}

#[test]
fn heartbeats_are_answered_on_both_sides_and_not_passed_on() {
    let server = BoltServer::start();
    let proxy = narrow(&server);
    let told = bolt(proxy.address("bolt"), "heartbeats", &[]);
    assert_eq!(told.trim(), if direct() { "reached 30" } else { "reached 0" });
}

#[test]
fn a_connection_may_begin_with_a_heartbeat() {
    tell("heartbeatFirst", &[]);
}

#[test]
fn one_way_calls_all_arrive_and_earn_nothing() {
    tell("oneway", &["200", through()]);
}

#[test]
fn a_thousand_calls_at_once_share_few_connections() {
    let most = if direct() { "50" } else { "4" };
    tell("concurrent", &["1000", "50", most]);
}

#[test]
fn frames_may_be_cut_anywhere() {
    tell("split", &[]);
}

#[test]
fn a_content_of_megabytes_passes_with_and_without_a_checksum() {
    tell("big", &[]);
}

#[test]
fn a_damaged_frame_ends_its_connection_unanswered_and_no_other() {
    tell("broken", &[]);
}

#[test]
fn a_server_going_away_loses_no_call() {
    tell("goaway", &[through()]);
}

#[test]
fn a_client_going_away_hears_what_it_has_asked_for() {
    // The server's package knows no such command.
    if !direct() {
        tell("clientGoAway", &[]);
    }
}

#[test]
fn a_stack_of_others_speaks_through_it() {
    tell("compat", &[]);
}

#[test]
fn a_checked_heartbeat_is_answered_to_the_byte() {
    let server = BoltServer::start();
    let proxy = narrow(&server);
    // What sofa-bolt-node writes, and what it answers: the last four bytes are the CRC32.
    let beat =
        b"\x02\x02\x01\0\0\x01\0\0\0\x06\x01\x01\0\0\x0b\xb8\0\0\0\0\0\0\0\0\x3e\x99\x44\x2d";
    let mut raw = Raw::say(proxy.address("bolt"), beat);
    let answer = raw.bytes(26);
    assert_eq!(answer[..22], *b"\x02\x02\0\0\0\x01\0\0\0\x06\x01\x01\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(answer[22..], [0x1f, 0xd5, 0xfe, 0x2c]);
    raw.assert_silent(Duration::from_millis(100));
}

#[test]
fn calls_are_routed_by_service_and_header() {
    if direct() {
        return;
    }
    let (main, canary, stock) = (BoltServer::start(), BoltServer::start(), BoltServer::start());
    let proxy = Config::new()
        .cluster("main", main.address, "")
        .cluster("canary", canary.address, "")
        .cluster("stock", stock.address, "")
        .route("canary", "protocol = \"bolt\", \"header.tenant\" = \"acme\"", "canary", "")
        .route("stock", "protocol = \"bolt\", service = { prefix = \"com.stock.\" }", "stock", "")
        .route("method", "protocol = \"bolt\", method = \"where\"", "main", "")
        .route("rest", "protocol = \"bolt\", class = { suffix = \"SofaRequest\" }", "main", "")
        .start();
    let port = |server: &BoltServer| server.address.port().to_string();
    let address = proxy.address("bolt");
    bolt(address, "where", &["tenant", "acme", &port(&canary)]);
    bolt(address, "where", &["tenant", "other", &port(&main)]);
    bolt(address, "where", &["service", "com.polyport.Echo", &port(&main)]);
    bolt(address, "where", &["service", "com.stock.Items", &port(&stock)]);
}

fn refused(routes: impl FnOnce(Config) -> Config, status: &str) {
    if direct() {
        return;
    }
    let server = BoltServer::start();
    let proxy = routes(Config::new().cluster("echo", server.address, ""))
        .route("echo", "protocol = \"bolt\", service = \"com.polyport.Echo:1.0\"", "echo", "")
        .start();
    bolt(proxy.address("bolt"), "refused", &["com.polyport.Gone", status]);
}

#[test]
fn no_route_is_status_6_and_the_connection_goes_on() {
    refused(|config| config, "6");
}

#[test]
fn denied_is_status_2_and_the_connection_goes_on() {
    let deny = "\n[[route]]\nname = \"deny\"\nmatch = { service = \"com.polyport.Gone:1.0\" }\ndeny = true";
    refused(|config| config.section(deny), "2");
}

#[test]
fn no_server_is_status_3_and_the_connection_goes_on() {
    refused(
        |config| {
            config.cluster("gone", polyport_tests::ports::free(), "").route(
                "gone",
                "protocol = \"bolt\", service = \"com.polyport.Gone:1.0\"",
                "gone",
                "",
            )
        },
        "3",
    );
}

#[test]
fn late_is_status_7_and_later_is_nothing() {
    if direct() {
        return;
    }
    let server = BoltServer::start();
    let proxy = Config::new()
        .cluster("echo", server.address, "")
        .route("echo", "protocol = \"bolt\"", "echo", "timeout = \"500ms\"")
        .start();
    bolt(proxy.address("bolt"), "timeout", &[]);
}

#[test]
fn a_server_killed_under_load_ends_each_call_once() {
    let mut server = BoltServer::start();
    let mut proxy = narrow(&server);
    // The story itself checks that each call ends once, and with its own answer.
    let load = bolt_start(proxy.address("bolt"), "load", &["4", "8", "16"]);
    proxy.until_answered(200);
    server.kill();
    sleep(Duration::from_millis(500));
    server.restart();
    let told = load.succeed();
    assert!(!told.contains("\"failed\":0,\"lost\":0"), "the death went unnoticed: {told}");
    proxy.assert_alive();
    bolt(proxy.address("bolt"), "load", &["1", "4", "16", "strict"]);
}
