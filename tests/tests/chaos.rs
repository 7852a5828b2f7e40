//! Servers that die, stand still, crawl and flap under load, for each way of exchanging
//! messages. Without retries every request ends exactly once, within its deadline, with its
//! own reply or with a native error, and once the trouble is over all goes well again. With
//! retries of requests that may be sent twice, no client ever sees an error.

use std::time::Duration;

use polyport_tests::chaos::{
    Count, DUBBO, GRPC, HTTP, HTTP2, Kind, MQTT, Policies, REDIS, Story, THRIFT,
};

const PLAIN: Policies = Policies { cluster: "", route: "", timeout: Duration::from_secs(1) };

/// Long beside what the servers take, short beside the deadline.
const LONG: Duration = Duration::from_millis(100);

/// All there is to suffer, one after the other.
fn suffer(story: &mut Story) {
    story.kill();
    story.calm();
    story.pause();
    story.calm();
    story.slow(LONG, Duration::from_millis(400));
    story.crawl();
    story.calm();
    story.flap();
}

fn without_retries(kind: &'static Kind) {
    let Some(mut story) = Story::begin(kind, PLAIN) else { return };
    suffer(&mut story);
    let (count, _): (Count, _) = story.end();
    // That some were refused shows that there was something to suffer.
    assert!(count.failed > 0, "{}: the trouble went unnoticed: {count:?}", kind.name);
}

#[test]
fn redis_without_retries() {
    without_retries(&REDIS);
}

#[test]
fn http_without_retries() {
    without_retries(&HTTP);
}

#[test]
fn dubbo_without_retries() {
    without_retries(&DUBBO);
}

#[test]
fn thrift_without_retries() {
    without_retries(&THRIFT);
}

#[test]
fn http2_without_retries() {
    without_retries(&HTTP2);
}

#[test]
fn grpc_without_retries() {
    without_retries(&GRPC);
}

/// Where the codec says which requests may be sent twice. Tries and deadline are far
/// longer than anything takes here, but for what a server in trouble does not answer.
const CAREFUL: Policies = Policies {
    cluster: "retry-budget = { percent = 100, burst = 100000 }",
    route: r#"retry = { attempts = 6, on = ["connect-failure", "reset", "timeout", "unavailable"], per-try = "1500ms" }"#,
    timeout: Duration::from_secs(30),
};

/// Where only the route can say that.
const TOLD: Policies = Policies {
    route: r#"retry = { attempts = 6, on = ["connect-failure", "reset", "timeout", "unavailable"], per-try = "1500ms", idempotent = true }"#,
    ..CAREFUL
};

fn with_retries(kind: &'static Kind, policies: Policies) {
    let Some(mut story) = Story::begin(kind, policies) else { return };
    suffer(&mut story);
    let (count, figures) = story.end();
    count.assert_perfect();
    assert!(figures["requests_retried_total"] > 0, "{}: no trouble: {figures:?}", kind.name);
}

#[test]
fn redis_with_retries() {
    with_retries(&REDIS, CAREFUL);
}

#[test]
fn http_with_retries() {
    with_retries(&HTTP, CAREFUL);
}

#[test]
fn http2_with_retries() {
    with_retries(&HTTP2, CAREFUL);
}

#[test]
fn dubbo_with_retries() {
    with_retries(&DUBBO, TOLD);
}

#[test]
fn thrift_with_retries() {
    with_retries(&THRIFT, TOLD);
}

/// Calls have bodies, which are kept until they are answered.
#[test]
fn grpc_with_retries() {
    with_retries(&GRPC, TOLD);
}

/// All that keeps requests away from servers in trouble, and what they do not keep away
/// is tried again.
#[test]
fn dubbo_with_every_care() {
    with_retries(
        &DUBBO,
        Policies {
            cluster: r#"retry-budget = { percent = 100, burst = 100000 }
balance = "ewma"
health = { every = "500ms", timeout = "500ms", protocol = "dubbo" }
outlier = { consecutive = 5, base = "500ms", max = "1s" }
breaker = { connections = 100, pending = 1000, requests = 1000 }"#,
            ..TOLD
        },
    );
}

/// A session ends with its broker, and its client gets on with another; one whose broker
/// only stands still goes on where it was.
#[test]
fn mqtt_sessions_end_with_their_broker_and_begin_again() {
    let Some(mut story) = Story::begin(&MQTT, PLAIN) else { return };
    story.slow(LONG, Duration::from_millis(400));
    story.pause_for(Duration::from_millis(800));
    story.calm();
    assert_eq!(story.count().errors(), 0, "nothing has ended: {:?}", story.count());
    story.kill();
    story.calm();
    story.flap();
    let (count, figures) = story.end();
    // Requests here are CONNECTs: each client one, and one for each session that ended.
    assert!(figures["requests_total"] > 32, "no session ended: {count:?} {figures:?}");
}
