//! `polyport decode`, `explain` and `demo`, for every protocol there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use polyport_codecs::Registry;
use polyport_tests::process::{Running, finish};
use polyport_tests::proxy::binary;
use tempfile::TempDir;

fn polyport(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments);
    let (status, said, complaint) = finish("polyport", command);
    (status.success(), said, complaint)
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = folder.path().join(name);
    fs::write(&path, bytes).expect("a file");
    path.display().to_string()
}

/// Each part behind its length.
fn sized(parts: &[&[u8]]) -> Vec<u8> {
    let sized = parts.iter().map(|part| [&(part.len() as u32).to_be_bytes(), *part].concat());
    sized.collect::<Vec<_>>().concat()
}

fn thrift() -> Vec<u8> {
    let call = [b"\x80\x01\0\x01", &sized(&[b"Goods:find"])[..], b"\0\0\0\x07\0"].concat();
    sized(&[&call])
}

fn bolt() -> Vec<u8> {
    let headers = sized(&[b"service", b"com.shop.Stock:1.0", b"sofa_head_method_name", b"count"]);
    let mut call = b"\x01\x01\0\x01\x01\0\0\0\x05\x01\0\0\x0b\xb8\0\0".to_vec();
    call.extend((headers.len() as u16).to_be_bytes());
    call.extend(2u32.to_be_bytes());
    call.extend(headers);
    call.extend(b"42");
    call
}

fn tls() -> Vec<u8> {
    let name = b"\0\0\0\x11\0\x0f\0\0\x0cshop.example";
    let body = [b"\x03\x03", &[7; 32][..], b"\0\0\x02\x13\x01\x01\0\0\x15", name].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[0x16, 3, 1, 0, hello.len() as u8][..], &hello].concat()
}

/// A capture of what a client says, what is shown of it, and a rule for it.
fn captures() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let dubbo = {
        let strings: [&[u8]; 5] = [b"\x052.0.2", b"\x03a.B", b"\x050.0.0", b"\x04find", b"\0"];
        let body = [&strings.concat()[..], b"H\x06tenant\x04acmeZ"].concat();
        let head = b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\x01\0\0\0";
        [&head[..], &[body.len() as u8], &body].concat()
    };
    let mqtt = b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05meter\
        \x30\x11\0\x0dpumps/7/stateon\
        \x82\x0e\0\x01\0\x03a/b\0\0\x03c/d\x01\xc0\0\xe0\0";
    let http = b"GET /shop?page=2 HTTP/1.1\r\nhost: Shop.example:80\r\n\r\n\
        POST /cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    vec![
        ("dubbo", dubbo, vec!["#1 request", "service=a.B method=find", "attachment.tenant=acme"]),
        (
            "thrift",
            thrift(),
            vec!["#1 request", "service=Goods method=find", "transport=framed encoding=binary"],
        ),
        ("bolt", bolt(), vec!["#1 request", "service=com.shop.Stock:1.0 method=count"]),
        ("tls", tls(), vec!["#1 request", "tls.sni=shop.example"]),
        (
            "http",
            http.to_vec(),
            vec!["#1 request", "host=shop.example", "query.page=2", "#2 request", "path=/cart"],
        ),
        (
            "mqtt",
            mqtt.to_vec(),
            vec![
                "#1 request protocol=mqtt method=connect",
                "packet=publish client-id=meter topic=pumps/7/state",
                "#3 request",
                "topic=a/b",
                "topic=c/d",
                "method=pingreq",
                "method=disconnect",
            ],
        ),
        (
            "redis",
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n".to_vec(),
            vec!["command=get key=a", "#2 request protocol=redis method=ping"],
        ),
    ]
}

#[test]
fn every_protocol_is_decoded_and_explained() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut config = String::from(
        "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n",
    );
    for protocol in Registry::builtin().protocols() {
        let name = protocol.name();
        config += &format!(
            "[[route]]\nname = \"to {name}\"\nmatch = {{ protocol = \"{name}\" }}\nto = \"a\"\nlimit = \"10/s\"\n"
        );
    }
    let config = file(&folder, "all.toml", config.as_bytes());
    let mut seen = BTreeSet::new();
    for (name, bytes, expected) in captures() {
        let capture = file(&folder, name, &bytes);
        let (fine, said, complaint) = polyport(&["decode", &capture]);
        assert!(fine, "{name}: {said}{complaint}");
        assert!(said.contains(&format!(" protocol={name}")), "{name}: {said}");
        for part in expected {
            assert!(said.contains(part), "{name}: no {part:?} in\n{said}");
        }
        let (fine, lines, _) = polyport(&["decode", "--format", "json", &capture]);
        assert!(fine && lines.lines().count() == said.lines().count(), "{lines}");

        let (fine, why, complaint) = polyport(&["explain", "-c", &config, "--frame", &capture]);
        assert!(fine, "{name}: {why}{complaint}");
        assert!(why.starts_with(&format!("route \"to {name}\"\n")), "{why}");
        assert!(why.contains("limit one in 100ms, 10 at once"), "{why}");
        seen.insert(name);
    }
    let all: BTreeSet<&str> = Registry::builtin().protocols().iter().map(|p| p.name()).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_proxy_header_is_shown_and_what_follows_is_decoded() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let version1 = b"PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\n".to_vec();
    let version2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\x13\x88\0\x50";
    for header in [version1, version2.to_vec()] {
        let capture = file(&folder, "capture", &[&header[..], b"PING\r\n"].concat());
        let (fine, said, complaint) = polyport(&["decode", &capture]);
        assert!(fine, "{complaint}");
        let (first, rest) = said.split_once('\n').expect("two lines");
        assert_eq!(first, "PROXY header source=10.1.2.3:5000 destination=10.0.0.1:80");
        assert!(rest.contains("command=ping"), "{said}");
    }
}

#[test]
fn http2_frames_are_said_not_to_be_decoded() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let capture = file(&folder, "capture", preface);
    for arguments in [vec!["decode", &capture], vec!["decode", "--protocol", "http", &capture]] {
        let (fine, said, complaint) = polyport(&arguments);
        assert!(!fine && said.is_empty(), "{said}");
        assert!(complaint.contains("these are HTTP/2 frames"), "{complaint}");
        assert!(complaint.contains("not decoded"), "{complaint}");
    }
}

#[test]
fn facts_of_the_proxy_s_own_can_be_explained() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let text = "[[listener]]\naddress = \"127.0.0.1:7000\"\n\
        [[route]]\nname = \"cart only\"\nmatch = { protocol = \"http\", tls.client.san = \"spiffe://shop/cart\" }\nrespond = { status = 204 }\n";
    let config = file(&folder, "facts.toml", text.as_bytes());
    let facts = ["protocol=http", "tls.client.san=dns:x,spiffe://shop/cart"];
    let (fine, why, complaint) = polyport(&["explain", "-c", &config, facts[0], facts[1]]);
    assert!(fine, "{why}{complaint}");
    assert!(why.contains("answered here, with status 204"), "{why}");
}

#[test]
fn the_demo_shows_a_line_for_each_protocol_and_routes_them_all() {
    let mut command = Command::new(binary());
    command.args(["demo", "--listen", "127.0.0.1:0", "--seconds", "4", "--plain"]);
    let (status, said, complaint) = Running::start("polyport demo", command).finish();
    assert!(status.success(), "{complaint}");
    for client in ["redis-cli", "curl", "--http2-prior-knowledge", "mosquitto_pub"] {
        assert!(said.contains(client), "no {client} in\n{said}");
    }
    let (_, routed) = said.split_once("What it routes").expect("the traffic");
    for name in ["redis", "http", "dubbo", "bolt", "thrift", "mqtt"] {
        assert!(routed.contains(&format!("\n  {name:<6} ")), "no {name} in\n{routed}");
    }
    let denied = routed.lines().filter(|line| line.contains("(denied)"));
    assert!(denied.count() > 0 && !routed.contains("(upstream"), "{routed}");
}
