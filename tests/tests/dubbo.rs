//! Dubbo through the proxy: hessian.js and dubbo-remoting, both written by others, on both ends.

use polyport_tests::peers::dubbo;
use polyport_tests::{Config, DubboServer, Proxy, direct};

/// One worker and one connection to the server, shared by all callers.
fn narrow(server: &DubboServer) -> Proxy {
    Config::new().all("dubbo", server.address).start()
}

fn tell(story: &str, arguments: &[&str]) {
    let server = DubboServer::start();
    let mut proxy = narrow(&server);
    dubbo(proxy.address("dubbo"), story, arguments);
    proxy.assert_alive();
}

#[test]
fn arguments_and_attachments_arrive_both_ways() {
    tell("echo", &[]);
}

#[test]
fn a_service_version_may_be_null() {
    tell("nullVersion", &[]);
}

#[test]
fn every_kind_of_reply_arrives_as_sent() {
    tell("replies", &[]);
}

#[test]
fn heartbeats_are_answered_on_both_sides() {
    tell("heartbeats", &[]);
}

#[test]
fn a_connection_may_begin_with_a_heartbeat() {
    tell("heartbeatFirst", &[]);
}

#[test]
fn one_way_calls_all_arrive_and_earn_nothing() {
    tell("oneway", &["200"]);
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
fn a_body_of_megabytes_passes() {
    tell("big", &[]);
}

#[test]
fn a_server_going_read_only_loses_no_call() {
    tell("readonly", &[]);
}

#[test]
fn a_stack_of_others_speaks_through_it() {
    tell("compat", &[]);
}

#[test]
fn calls_are_routed_by_interface_method_and_attachment() {
    if direct() {
        return;
    }
    let (main, canary, stock) = (DubboServer::start(), DubboServer::start(), DubboServer::start());
    let proxy = Config::new()
        .cluster("main", main.address, "")
        .cluster("canary", canary.address, "")
        .cluster("stock", stock.address, "")
        .route("canary", "protocol = \"dubbo\", \"attachment.tenant\" = \"acme\"", "canary", "")
        .route(
            "stock",
            "protocol = \"dubbo\", interface = { prefix = \"com.stock.\" }",
            "stock",
            "",
        )
        .route("rest", "protocol = \"dubbo\", method = [\"stats\", \"plain\"]", "main", "")
        .start();
    let port = |server: &DubboServer| server.address.port().to_string();
    let address = proxy.address("dubbo");
    dubbo(address, "where", &["tenant", "acme", &port(&canary)]);
    dubbo(address, "where", &["tenant", "other", &port(&main)]);
    dubbo(address, "where", &["none", "", &port(&main)]);
    dubbo(address, "where", &["interface", "com.stock.Items", &port(&stock)]);
    // A method that no route has: the proxy's own answer.
    dubbo(address, "whereMethod", &["60"]);
}

#[test]
fn no_route_is_status_60_and_the_connection_goes_on() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let proxy = Config::new()
        .cluster("echo", server.address, "")
        .route("echo", "protocol = \"dubbo\", interface = \"com.polyport.Echo\"", "echo", "")
        .start();
    dubbo(proxy.address("dubbo"), "refused", &["com.polyport.Nowhere", "60"]);
}

#[test]
fn no_server_is_status_80_and_the_connection_goes_on() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let proxy = Config::new()
        .cluster("gone", polyport_tests::ports::free(), "")
        .cluster("echo", server.address, "")
        .route("gone", "protocol = \"dubbo\", interface = \"com.polyport.Gone\"", "gone", "")
        .route("echo", "protocol = \"dubbo\"", "echo", "")
        .start();
    dubbo(proxy.address("dubbo"), "refused", &["com.polyport.Gone", "80"]);
}

#[test]
fn late_is_status_31_and_later_is_nothing() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let proxy = Config::new()
        .cluster("echo", server.address, "")
        .route("echo", "protocol = \"dubbo\"", "echo", "timeout = \"500ms\"")
        .start();
    dubbo(proxy.address("dubbo"), "timeout", &[]);
}

#[test]
fn a_server_that_comes_back_is_found() {
    let mut server = DubboServer::start();
    let proxy = narrow(&server);
    dubbo(proxy.address("dubbo"), "nullVersion", &[]);
    server.restart();
    dubbo(proxy.address("dubbo"), "load", &["1", "4", "16", "strict"]);
}
