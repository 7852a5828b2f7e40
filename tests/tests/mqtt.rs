//! MQTT through the proxy: Paho, MQTT.js and mosquitto's clients before mosquitto.

use std::time::{Duration, Instant};

use polyport_tests::mqtt::{mosquitto_pub, mqtt_js, paho, silent_broker};
use polyport_tests::{Config, MosquittoServer, PATIENCE, Proxy, Raw, direct};

const V311: &str = "3.1.1";
const V5: &str = "5.0";
const VERSIONS: [&str; 3] = ["3.1", V311, V5];

/// CONNECT of client `c` with a clean start; the last byte but two (but three in
/// 5.0) is the keep-alive.
const CONNECT_311: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x02\0\x01c";
const CONNECT_5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\x02\0\0\x01c";

fn tell(story: &str, versions: &[&str], arguments: &[&str]) {
    let broker = MosquittoServer::start();
    let mut proxy = Config::new().all("mqtt", broker.address).start();
    for version in versions {
        paho(proxy.address("mqtt"), story, version, arguments);
    }
    proxy.assert_alive();
}

fn tell_js(story: &str) {
    let broker = MosquittoServer::start();
    let mut proxy = Config::new().all("mqtt", broker.address).start();
    mqtt_js(proxy.address("mqtt"), story);
    proxy.assert_alive();
}

#[test]
fn messages_of_every_qos_arrive() {
    tell("exchange", &VERSIONS, &[]);
}

#[test]
fn many_messages_arrive_in_their_order() {
    tell("many", &VERSIONS, &[]);
}

#[test]
fn retained_messages_wait() {
    tell("retained", &VERSIONS, &[]);
}

#[test]
fn a_will_is_published_when_its_client_is_lost() {
    tell("will", &VERSIONS, &[]);
}

#[test]
fn a_session_outlives_its_connection() {
    tell("session", &VERSIONS, &[]);
}

#[test]
fn a_second_client_of_a_name_ends_the_first() {
    tell("takeover", &VERSIONS, &[]);
}

#[test]
fn a_client_that_pings_lives() {
    tell("pings", &[V311, V5], &[]);
}

#[test]
fn what_is_new_in_5_passes() {
    tell("five", &[V5], &[]);
}

#[test]
fn fifty_clients_at_once_do_not_meet() {
    tell("storm", &[V311, V5], &["50"]);
}

#[test]
fn twenty_megabytes_pass_in_little_memory() {
    for version in [V311, V5] {
        let broker = MosquittoServer::start();
        let mut proxy = Config::new().all("mqtt", broker.address).start();
        paho(proxy.address("mqtt"), "large", version, &[]);
        proxy.assert_alive();
        let peak = proxy.peak_memory();
        assert!(peak < 64 << 20, "{peak} bytes for a payload of 20 MiB");
    }
}

#[test]
fn another_client_library_speaks_all_versions() {
    tell_js("exchange");
}

#[test]
fn aliases_that_a_library_gives_by_itself_pass() {
    tell_js("aliases");
}

#[test]
fn properties_of_connect_subscribe_and_publish_pass() {
    tell_js("properties");
}

#[test]
fn a_will_of_another_library_is_published() {
    tell_js("will");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_loss() {
    tell_js("again");
}

#[test]
fn mosquittos_own_clients_speak_through_it() {
    let broker = MosquittoServer::start();
    let proxy = Config::new().all("mqtt", broker.address).start();
    for version in ["31", "311", "5"] {
        for qos in ["0", "1", "2"] {
            let arguments = ["-V", &format!("mqttv{version}"), "-q", qos, "-t", "a", "-m", "x"];
            mosquitto_pub(proxy.address("mqtt"), &arguments);
        }
    }
}

/// Two brokers of one cluster, called `one` and `two`.
fn two_brokers() -> (MosquittoServer, MosquittoServer, Proxy) {
    let (one, two) = (MosquittoServer::start(), MosquittoServer::start());
    one.call("one");
    two.call("two");
    let cluster = format!(
        "[[cluster]]\nname = \"brokers\"\nendpoints = [\"{}\", \"{}\"]\n",
        one.address, two.address
    );
    let proxy =
        Config::new().section(&cluster).route("all", "protocol = \"mqtt\"", "brokers", "").start();
    (one, two, proxy)
}

#[test]
fn a_client_finds_the_broker_that_has_its_session() {
    if direct() {
        return;
    }
    let (_one, _two, proxy) = two_brokers();
    for version in [V311, V5] {
        paho(proxy.address("mqtt"), "where", version, &[]);
    }
}

/// Connects as `c` and asks which broker it is.
fn which(proxy: &Proxy) -> Option<(Raw, String)> {
    let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_5);
    raw.try_send(b"\x82\x11\0\x01\0\0\x0bserver/name\0");
    let name = raw.until_or_end("server/name\0").ok()?;
    assert!(name.starts_with('\u{20}'), "CONNACK comes first: {name:?}");
    let name = raw.exactly(3);
    Some((raw, name))
}

#[test]
fn a_killed_broker_ends_its_sessions_and_clients_go_to_another() {
    if direct() {
        return;
    }
    let (mut one, mut two, proxy) = two_brokers();
    let (mut client, first) = which(&proxy).expect("a session");
    if first == "one" {
        one.kill()
    } else {
        two.kill()
    }
    // DISCONNECT with a reason, then the end.
    let last = client.until_closed();
    assert!(last.starts_with('\u{fffd}'), "{last:?}");
    let start = Instant::now();
    let second = loop {
        if let Some((_, name)) = which(&proxy) {
            break name;
        }
        assert!(start.elapsed() < PATIENCE, "no broker takes the client");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_ne!(first, second);
}

#[test]
fn no_route_is_a_refusal_in_the_clients_version() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let proxy = Config::new()
        .cluster("pumps", broker.address, "")
        .route("pumps", "protocol = \"mqtt\", client-id = { prefix = \"pump-\" }", "pumps", "")
        .start();
    let answer = |connect: &[u8]| Raw::say(proxy.address("mqtt"), connect).until_closed();
    assert_eq!(answer(CONNECT_311), "\u{20}\u{2}\0\u{3}");
    assert!(answer(CONNECT_5).contains("polyport: no route"));
    let unknown = b"\x10\x0d\0\x04MQTT\x07\x02\0\x02\0\x01c";
    assert_eq!(answer(unknown), "\u{20}\u{2}\0\u{1}");
}

#[test]
fn no_broker_is_a_refusal() {
    if direct() {
        return;
    }
    let proxy = Config::new().all("mqtt", polyport_tests::ports::free()).start();
    let answer = Raw::say(proxy.address("mqtt"), CONNECT_311).until_closed();
    assert_eq!(answer, "\u{20}\u{2}\0\u{3}");
}

/// Nothing to or from `secret/`, nobody called `stranger`.
fn guarded(broker: &MosquittoServer, more: &str) -> Proxy {
    Config::new()
        .cluster("broker", broker.address, "")
        .deny("no strangers", "protocol = \"mqtt\", client-id = \"stranger\"")
        .deny("secrets", &format!("protocol = \"mqtt\", topic = {{ prefix = \"secret/\" }}{more}"))
        .route("all", "protocol = \"mqtt\"", "broker", "")
        .start()
}

#[test]
fn a_denied_topic_is_neither_published_nor_subscribed() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let mut proxy = guarded(&broker, ", packet = [\"publish\"]");
    for version in VERSIONS {
        paho(proxy.address("mqtt"), "denied_publish", version, &[]);
    }
    paho(proxy.address("mqtt"), "denied_alias", V5, &[]);
    mqtt_js(proxy.address("mqtt"), "denied");
    proxy.assert_alive();
    let mut proxy = guarded(&broker, ", packet = [\"subscribe\", \"unsubscribe\"]");
    for version in VERSIONS {
        paho(proxy.address("mqtt"), "denied_subscribe", version, &[]);
    }
    proxy.assert_alive();
}

#[test]
fn a_rule_about_a_user_holds_for_every_packet_of_its_session() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let proxy = guarded(&broker, ", packet = \"publish\", username = \"sensor\"");
    for version in [V311, V5] {
        paho(proxy.address("mqtt"), "denied_publish", version, &["sensor"]);
    }
}

#[test]
fn a_stranger_is_not_let_in() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let proxy = guarded(&broker, "");
    for version in VERSIONS {
        paho(proxy.address("mqtt"), "denied_connect", version, &[]);
    }
}

/// How long a client lives that says nothing after `connect`, and the last it hears.
fn silence(proxy: &Proxy, connect: &[u8]) -> (Duration, String) {
    let mut raw = Raw::say(proxy.address("mqtt"), connect);
    let start = Instant::now();
    let heard = raw.until_closed();
    (start.elapsed(), heard)
}

#[test]
fn a_silent_client_is_cut_after_one_and_a_half_keep_alives() {
    let broker = silent_broker(b"\x20\x02\0\0");
    let mosquitto = MosquittoServer::start();
    let proxy = Config::new()
        .cluster("mqtt", broker, "")
        .route("all", "protocol = \"mqtt\"", "mqtt", "")
        .direct("mqtt", mosquitto.address)
        .start();
    // Mosquitto looks at whole seconds.
    let soonest = Duration::from_millis(if direct() { 1900 } else { 2900 });
    for (connect, last) in [(CONNECT_311, ""), (CONNECT_5, "polyport: keep-alive exceeded")] {
        let (lived, heard) = silence(&proxy, connect);
        assert!((soonest..Duration::from_secs(7)).contains(&lived), "{lived:?}");
        assert!(direct() || heard.ends_with(last), "{heard:?}");
    }
}

#[test]
fn the_keep_alive_that_a_broker_wants_instead_holds() {
    if direct() {
        return;
    }
    // Server keep-alive 4, where the client wanted 2.
    let broker = silent_broker(b"\x20\x06\0\0\x03\x13\0\x04");
    let proxy = Config::new().all("mqtt", broker).start();
    let (lived, _) = silence(&proxy, CONNECT_5);
    assert!((Duration::from_secs(5)..Duration::from_secs(9)).contains(&lived), "{lived:?}");
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_so() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    let mut proxy = Config::new().all("mqtt", broker.address).start();
    for broken in [&b"\x30\x05\0\x03a/#"[..], b"\xc1\0", b"\x20\x02\0\0", CONNECT_311] {
        let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_311);
        raw.exactly(4);
        raw.send(broken);
        assert_eq!(raw.until_closed(), "", "3.1.1 has no words for it");
    }
    let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_5);
    raw.exactly(2);
    raw.send(b"\x30\x04\0\x01#\0");
    assert!(raw.until_closed().contains("polyport: a wildcard"));
    proxy.assert_alive();
}

#[test]
fn a_stopping_proxy_says_so_to_clients_of_5() {
    if direct() {
        return;
    }
    let broker = MosquittoServer::start();
    // Before its keep-alive is over.
    let defaults = "[defaults]\ndrain-timeout = \"2s\"\n";
    let proxy = Config::new().section(defaults).all("mqtt", broker.address).start();
    let mut raw = Raw::say(proxy.address("mqtt"), CONNECT_5);
    raw.exactly(2);
    proxy.terminate();
    assert!(raw.until_closed().contains("polyport: shutting down"));
}
