//! Messages of protocols other than HTTP that a route changes or counts, as their own
//! servers and clients see them.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use polyport_tests::bolt::bolt;
use polyport_tests::mqtt::paho;
use polyport_tests::peers::{dubbo, redis_cli};
use polyport_tests::thrift::thrift;
use polyport_tests::{
    Backend, BoltServer, Config, DubboServer, MosquittoServer, Proxy, Raw, RedisServer,
    ThriftServer, direct,
};

/// Whom the proxy sees every client of these tests as.
const TENANT: &str = "acme-127.0.0.1";

/// Two at once, and two a second.
const LIMIT: &str = "limit = { rate = \"2/s\", burst = 2 }";

/// All of `protocol` to `server`, by way of a route that changes it.
fn changing(protocol: &'static str, server: SocketAddr, changes: &str) -> Option<Proxy> {
    (!direct()).then(|| {
        Config::new()
            .cluster("to", server, "")
            .route("changed", &format!("protocol = \"{protocol}\""), "to", changes)
            .start()
    })
}

#[test]
fn dubbo_attachments_are_changed_both_ways_and_all_else_stays() {
    let server = DubboServer::start();
    let rules = r#"
request = { set = { "attachment.tenant" = "acme-{source.ip}" }, remove = ["attachment.secret"] }
response = { set = { "attachment.served-by" = "{route}" }, remove = ["attachment.seen"] }"#;
    let Some(mut proxy) = changing("dubbo", server.address, rules) else { return };
    dubbo(proxy.address("dubbo"), "changed", &[TENANT, "changed"]);
    proxy.assert_alive();
}

#[test]
fn a_dubbo_reply_without_attachments_that_should_have_one_is_an_error() {
    if direct() {
        return;
    }
    let server = DubboServer::start();
    let mut proxy = Config::new()
        .cluster("to", server.address, "")
        .route("other", "protocol = \"dubbo\", interface = \"com.polyport.Other\"", "to", "")
        .route(
            "changed",
            "protocol = \"dubbo\"",
            "to",
            "response = { set = { \"attachment.served-by\" = \"{route}\" } }",
        )
        .start();
    dubbo(proxy.address("dubbo"), "unchangeable", &["50"]);
    proxy.assert_alive();
}

#[test]
fn dubbo_beyond_its_rate_is_status_100() {
    let server = DubboServer::start();
    let Some(proxy) = changing("dubbo", server.address, LIMIT) else { return };
    dubbo(proxy.address("dubbo"), "limited", &["100"]);
}

#[test]
fn bolt_headers_are_changed_both_ways_in_every_writing() {
    let server = BoltServer::start();
    let rules = r#"
request = { set = { "header.tenant" = "acme-{source.ip}" }, remove = ["header.secret"] }
response = { set = { "header.x-served-by" = "{route}" } }"#;
    let Some(mut proxy) = changing("bolt", server.address, rules) else { return };
    bolt(proxy.address("bolt"), "changed", &[TENANT, "changed"]);
    proxy.assert_alive();
}

#[test]
fn a_bolt_message_that_has_no_room_for_a_header_is_an_error() {
    let server = BoltServer::start();
    // Three texts of 30,000 bytes are more than a block can hold.
    // A request is refused; a reply that cannot be changed is the codec's fault (9).
    for (rule, status) in [("request", "3"), ("response", "9")] {
        let rule = format!(
            "{rule} = {{ set = {{ \"header.a\" = \"{{header.long}}\", \"header.b\" = \
             \"{{header.long}}\", \"header.c\" = \"{{header.long}}\" }} }}"
        );
        let Some(mut proxy) = changing("bolt", server.address, &rule) else { return };
        bolt(proxy.address("bolt"), "tooLong", &["30000", status]);
        proxy.assert_alive();
    }
}

#[test]
fn theader_headers_are_changed_both_ways() {
    const WIRES: [&str; 2] = ["header/binary", "header/compact"];
    for mode in ["threaded", "async"] {
        for wire in WIRES {
            let server = ThriftServer::start(mode, &[wire]);
            let rules = r#"
request = { set = { "header.tenant" = "acme-{source.ip}" }, remove = ["header.secret"] }
response = { set = { "header.x-route" = "{route}" } }"#;
            let Some(mut proxy) = changing("thrift", server.address(), rules) else { return };
            let address = proxy.address("thrift");
            thrift("changed", &[(wire, address)], &[TENANT, "changed"]);
            proxy.assert_alive();
        }
    }
}

#[test]
fn thrift_without_headers_that_should_get_some_is_an_exception() {
    if direct() {
        return;
    }
    let rules = [
        "request = { set = { \"header.tenant\" = \"acme\" } }",
        "request = { remove = [\"header.secret\"] }",
        "response = { set = { \"header.x-route\" = \"{route}\" } }",
    ];
    for wire in ["framed/binary", "framed/compact", "buffered/binary", "buffered/compact"] {
        let server = ThriftServer::start("threaded", &[wire]);
        for rule in rules {
            let mut proxy = Config::new()
                .cluster("to", server.address(), "")
                .route("changed", "protocol = \"thrift\", service = \"Stock\"", "to", rule)
                .route("rest", "protocol = \"thrift\"", "to", "")
                .start();
            // PROTOCOL_ERROR, and the connection goes on.
            thrift("refused", &[(wire, proxy.address("thrift"))], &["7", "polyport"]);
            thrift("refused_large", &[(wire, proxy.address("thrift"))], &["7"]);
            proxy.assert_alive();
        }
    }
}

#[test]
fn mqtt_user_properties_are_changed_in_5_and_what_is_older_goes_no_further() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let rules = r#"request = { set = { "user-property.tenant" = "acme-{client-id}" }, append = { "user-property.hop" = "polyport" }, remove = ["user-property.secret"] }"#;
    let publishes = "protocol = \"mqtt\", packet = \"publish\", topic = { prefix = \"changed/\" }";
    let mut proxy = Config::new()
        .cluster("broker", broker.address, "")
        .route("changed", publishes, "broker", rules)
        .route("rest", "protocol = \"mqtt\"", "broker", "")
        .start();
    for version in ["5.0", "3.1.1", "3.1"] {
        paho(proxy.address("mqtt"), "denied_properties", version, &[]);
    }
    proxy.assert_alive();
}

#[test]
fn mqtt_sessions_whose_every_packet_is_changed_work_in_5_and_are_refused_before() {
    let broker = MosquittoServer::start();
    let rules = r#"request = { set = { "user-property.tenant" = "acme" } }"#;
    let Some(mut proxy) = changing("mqtt", broker.address, rules) else { return };
    let address = proxy.address("mqtt");
    for story in ["exchange", "retained", "will", "session", "pings", "large"] {
        paho(address, story, "5.0", &[]);
    }
    // CONNACK 3, server unavailable, and the end.
    assert_eq!(Raw::say(address, CONNECT_311).bytes_until_closed(), [0x20, 2, 0, 3]);
    for version in ["3.1.1", "3.1"] {
        paho(address, "denied_version", version, &[]);
    }
    proxy.assert_alive();
}

/// CONNECT of client `c` with a clean start.
const CONNECT_311: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01c";
const CONNECT_5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\x1e\0\0\x01c";

/// The next packet, none of which is so long here that its length has two bytes.
fn packet(raw: &mut Raw) -> Vec<u8> {
    let mut packet = raw.bytes(2);
    let rest = raw.bytes(usize::from(packet[1]));
    packet.extend(rest);
    packet
}

/// PUBLISH of QoS 1 with the payload `x`.
fn publish(topic: &str, id: u8, five: bool) -> Vec<u8> {
    let properties: &[u8] = if five { b"\0" } else { b"" };
    let rest = [b"\0", &[topic.len() as u8][..], topic.as_bytes(), &[0, id], properties, b"x"];
    let rest = rest.concat();
    [&[0x32, rest.len() as u8][..], &rest].concat()
}

/// The ids and reasons of so many PUBACKs, by id.
fn acknowledged(raw: &mut Raw, count: usize) -> Vec<(u8, u8)> {
    let mut found: Vec<_> = (0..count)
        .map(|_| {
            let ack = packet(raw);
            assert!(ack[0] == 0x40 && ack[2] == 0, "{ack:x?}");
            (ack[3], ack.get(4).copied().unwrap_or(0))
        })
        .collect();
    found.sort_unstable();
    found
}

/// A route that lets two messages a second pass to `noisy/...`.
fn noisy(broker: &MosquittoServer) -> Proxy {
    let publishes = "protocol = \"mqtt\", packet = \"publish\", topic = { prefix = \"noisy/\" }";
    Config::new()
        .cluster("broker", broker.address, "")
        .route("noisy", publishes, "broker", LIMIT)
        .route("rest", "protocol = \"mqtt\"", "broker", "")
        .start()
}

/// Somebody at the broker itself who hears what is published.
fn listener(broker: &MosquittoServer) -> Raw {
    let mut raw = Raw::say(broker.address, b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01l");
    assert_eq!(packet(&mut raw)[0], 0x20);
    raw.send(b"\x82\x06\0\x01\0\x01#\0");
    assert_eq!(packet(&mut raw), [0x90, 3, 0, 1, 0]);
    raw
}

#[test]
fn mqtt_beyond_its_rate_is_told_so_in_5() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let (proxy, mut listener) = (noisy(&broker), listener(&broker));
    let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_5);
    assert_eq!(packet(&mut raw)[..4][3], 0);
    let five: Vec<u8> = (1..=5).flat_map(|id| publish("noisy/a", id, true)).collect();
    raw.send(five);
    // QUOTA_EXCEEDED for those that went no further.
    let due = [(1, 0), (2, 0), (3, 0x97), (4, 0x97), (5, 0x97)];
    assert_eq!(acknowledged(&mut raw, 5), due);
    // Other topics are not counted.
    let others: Vec<u8> = (6..=9).flat_map(|id| publish("quiet/a", id, true)).collect();
    raw.send(others);
    assert_eq!(acknowledged(&mut raw, 4), [(6, 0), (7, 0), (8, 0), (9, 0)]);
    sleep(Duration::from_millis(1100));
    raw.send(publish("noisy/b", 10, true));
    assert_eq!(acknowledged(&mut raw, 1), [(10, 0)]);
    let topics: Vec<_> = (0..7).map(|_| packet(&mut listener)).collect();
    let noisy = topics.iter().filter(|packet| packet[4..].starts_with(b"noisy/a")).count();
    assert_eq!(noisy, 2, "{topics:x?}");
    assert_eq!(topics[6], b"\x30\x0a\0\x07noisy/bx");
    listener.assert_silent(Duration::from_millis(200));
}

#[test]
fn mqtt_beyond_its_rate_counts_as_delivered_before_5() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let (proxy, mut listener) = (noisy(&broker), listener(&broker));
    let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_311);
    assert_eq!(packet(&mut raw), [0x20, 2, 0, 0]);
    let five: Vec<u8> = (1..=5).flat_map(|id| publish("noisy/a", id, false)).collect();
    raw.send(five);
    assert_eq!(acknowledged(&mut raw, 5), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    sleep(Duration::from_millis(1100));
    raw.send(publish("noisy/b", 6, false));
    assert_eq!(acknowledged(&mut raw, 1), [(6, 0)]);
    for topic in ["a", "a", "b"] {
        let due = format!("\x30\x0a\0\x07noisy/{topic}x");
        assert_eq!(packet(&mut listener), due.as_bytes());
    }
    listener.assert_silent(Duration::from_millis(200));
}

#[test]
fn http_beyond_its_rate_is_503() {
    let node = Backend::start();
    let Some(proxy) = changing("http", node.address, LIMIT) else { return };
    let mut raw = Raw::connect(proxy.address("http"));
    let ask = "GET /length?n=3 HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(ask.repeat(5));
    for due in ["200", "200", "503", "503", "503"] {
        let head = raw.http_response().0;
        assert!(head.starts_with(&format!("HTTP/1.1 {due} ")), "{head}");
    }
    sleep(Duration::from_millis(1100));
    raw.send(ask);
    assert_eq!(raw.http_response().1, "xxx");
}

#[test]
fn redis_beyond_its_rate_is_an_error() {
    let server = RedisServer::start();
    let Some(proxy) = changing("redis", server.address, LIMIT) else { return };
    let address = proxy.address("redis");
    let mut raw = Raw::say(address, "PING one\r\n".repeat(5));
    assert_eq!(raw.exactly(18), "$3\r\none\r\n".repeat(2));
    for _ in 0..3 {
        let error = raw.until("\r\n");
        assert!(error.starts_with("-BUSY polyport: "), "{error}");
    }
    // Counted for all connections together.
    assert!(redis_cli(address, &["PING"]).starts_with("BUSY "));
    sleep(Duration::from_millis(1100));
    raw.send("PING two\r\n");
    assert_eq!(raw.exactly(9), "$3\r\ntwo\r\n");
}
