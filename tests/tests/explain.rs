//! What `polyport explain` foretells is what the running proxy does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use polyport_tests::peers::redis_cli;
use polyport_tests::process::{finish, run};
use polyport_tests::proxy::binary;
use polyport_tests::{Config, MosquittoServer, Proxy, Raw, RedisServer, direct};
use serde_json::Value;

fn explain(config: &Path, more: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(["explain", "-c"]).arg(config).args(more);
    run("polyport explain", command)
}

/// The one endpoint that a message with these facts is foretold to reach.
fn foretold(proxy: &Proxy, facts: &[&str]) -> String {
    let said = explain(&proxy.config(), &[facts, &["--json"]].concat());
    let json: Value = serde_json::from_str(&said).expect("JSON");
    let targets = json["targets"].as_array().expect("targets");
    let taken: Vec<&Value> = targets.iter().filter(|target| target["taken"] == true).collect();
    assert_eq!(taken.len(), 1, "{said}");
    let endpoints = taken[0]["endpoints"].as_array().expect("endpoints");
    let chosen: Vec<&Value> = endpoints.iter().filter(|one| one["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1, "{said}");
    chosen[0]["address"].as_str().expect("an address").to_owned()
}

/// Redis servers, each of which has its address under `who`.
fn redis(count: usize) -> Vec<RedisServer> {
    let servers: Vec<RedisServer> = (0..count).map(|_| RedisServer::start()).collect();
    for server in &servers {
        redis_cli(server.address, &["SET", "who", &server.address.to_string()]);
    }
    servers
}

/// Who answers a request about `key`.
fn who(client: &mut Raw, key: &str) -> String {
    client.send(format!("MGET {key} who\r\n"));
    assert_eq!(client.until("\r\n"), "*2\r\n");
    assert_eq!(client.until("\r\n"), "$-1\r\n");
    client.until("\r\n");
    client.until("\r\n").trim_end().to_owned()
}

#[test]
fn a_key_reaches_the_endpoint_that_was_foretold() {
    if direct() {
        return;
    }
    let servers = redis(4);
    let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| servers[at].address);
    let cluster = |name: &str, balance: &str| {
        format!(
            "[[cluster]]\nname = \"{name}\"\nbalance = {{ {balance} }}\nconnect-timeout = \"10s\"\n\
             endpoints = [{{ address = \"{a}\", weight = 3, labels = {{ of = \"x\" }} }}, \
             {{ address = \"{b}\", zone = \"z\" }}, {{ address = \"{c}\", labels = {{ of = \"x\" }} }}, \
             {{ address = \"{d}\", priority = 1 }}]\n"
        )
    };
    let route = |name: &str, to: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\n\
             match = {{ protocol = \"redis\", key = {{ prefix = \"{name}:\" }} }}\nto = {to}\n"
        )
    };
    let half = |cluster: &str, labels: &str| format!("{{ cluster = \"{cluster}\"{labels} }}");
    let labelled = ", labels = { of = \"x\" }";
    let split = format!("[{}, {}]", half("ring", labelled), half("table", ", weight = 2"));
    let mut proxy = Config::busy()
        .top("zone = \"z\"\n")
        .section(&cluster("ring", "hash = \"key\""))
        .section(&cluster("table", "maglev = \"key\""))
        .section(&cluster("bound", "hash = \"key\", bound = 1.1"))
        .section(&route("hash", "\"ring\""))
        .section(&route("maglev", "\"table\""))
        .section(&route("bound", "\"bound\""))
        .section(&route("label", &half("ring", labelled)))
        .section(&format!("{}sticky = \"key\"\n", route("sticky", &split)))
        .start();
    let mut client = Raw::connect(proxy.address("redis"));
    for name in ["hash", "maglev", "bound", "label", "sticky"] {
        let mut seen = BTreeSet::new();
        for n in 0..20 {
            let key = format!("{name}:{n}");
            let fact = format!("key={key}");
            let due = foretold(&proxy, &["protocol=redis", "command=mget", &fact]);
            assert_eq!(who(&mut client, &key), due, "{key}");
            seen.insert(due);
        }
        // Of twenty keys some go elsewhere, so that a guess would be found out.
        assert!(seen.len() > 1, "{name}: {seen:?}");
    }
    proxy.assert_alive();
}

/// CONNECT of 5.0 as this client.
fn connect(client: &str) -> Vec<u8> {
    let len = 13 + client.len();
    let head = [0x10, len as u8];
    let fixed = b"\0\x04MQTT\x05\x02\0\x3c\0\0";
    [&head[..], fixed, &[client.len() as u8], client.as_bytes()].concat()
}

#[test]
fn a_client_reaches_the_broker_that_was_foretold() {
    if direct() {
        return;
    }
    let brokers = [MosquittoServer::start(), MosquittoServer::start()];
    brokers[0].call("one");
    brokers[1].call("two");
    let [one, two] = [0, 1].map(|at: usize| brokers[at].address.to_string());
    let proxy = Config::new()
        .section(&format!(
            "[[cluster]]\nname = \"brokers\"\nendpoints = [\"{one}\", \"{two}\"]\nconnect-timeout = \"10s\"\n"
        ))
        .route("all", "protocol = \"mqtt\"", "brokers", "")
        .start();
    let mut seen = BTreeSet::new();
    for n in 0..12 {
        let client = format!("pump-{n}");
        let fact = format!("client-id={client}");
        let due = foretold(&proxy, &["protocol=mqtt", "packet=connect", &fact]);
        let mut raw = Raw::say(proxy.address("mqtt"), connect(&client));
        raw.send(b"\x82\x11\0\x01\0\0\x0bserver/name\0");
        raw.until("server/name\0");
        let name = raw.exactly(3);
        assert_eq!(if name == "one" { &one } else { &two }, &due, "{client} finds {name}");
        seen.insert(due);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn the_bytes_of_a_request_tell_what_may_be_repeated_and_how_long_its_client_waits() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let config = "[[listener]]\naddress = \"127.0.0.1:7000\"\n\
        [[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n\
        [[route]]\nto = \"a\"\nretry = { attempts = 3 }\nmirror = \"a\"\n";
    let config = file("polyport.toml", config.as_bytes());
    let grpc = b"POST /a.B/c HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n";
    let cases: [(&str, &[u8], &[&str]); 5] = [
        (
            "get",
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            &[
                "idempotent requests of up to 65536 bytes: this message may be\n",
                "  timeout 15s, stream 300s",
            ],
        ),
        (
            "post",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
            &[": this message only where no connection came about\n"],
        ),
        (
            "large",
            grpc,
            &[
                ": never this message, as it is too large to be kept\n",
                "65536 bytes at most: never this message\n",
            ],
        ),
        (
            "blocks",
            b"*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n0\r\n",
            &["  no timeout, as it may take as long as it likes; stream 300s"],
        ),
        (
            "bolt",
            b"\x01\x01\0\x01\x01\0\0\0\x05\x01\0\0\x0b\xb8\0\0\0\0\0\0\0\x0242",
            &["  timeout 15s, stream 300s; its client waits 3s"],
        ),
    ];
    for (name, bytes, lines) in cases {
        let frame = file(name, bytes);
        let said = explain(&config, &["--frame", &frame.display().to_string()]);
        for line in lines {
            assert!(said.contains(line), "{name}: {line} in {said}");
        }
    }

    let ping = file("heartbeat", b"\xda\xbb\xe2\0\0\0\0\0\0\0\0\x01\0\0\0\x01N");
    let mut command = Command::new(binary());
    command.args(["explain", "-c"]).arg(&config).arg("--frame").arg(&ping);
    let (status, said, complaint) = finish("polyport explain", command);
    assert!(!status.success(), "{said}");
    assert_eq!(
        said.trim_end(),
        "no route is asked: the proxy answers the message itself",
        "{complaint}"
    );
}
