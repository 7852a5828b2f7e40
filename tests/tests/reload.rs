//! The config changes while everybody works, and nobody notices but those it is about.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::everyone::{Clients, edge, parted, plain, secure};
use polyport_tests::peers::{curl, redis_cli};
use polyport_tests::process::run;
use polyport_tests::proxy::binary;
use polyport_tests::{Config, Haproxy, Nginx, PATIENCE, Proxy, Raw, RedisServer, direct, ports};

/// Waits for something; panics where it does not come.
fn until(what: &str, proxy: &mut Proxy, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > PATIENCE {
            let log = proxy.process().map(|process| process.log()).unwrap_or_default();
            panic!("{what} did not come:\n{log}");
        }
        sleep(Duration::from_millis(20));
    }
}

fn log(proxy: &mut Proxy) -> String {
    proxy.process().expect("a proxy").log()
}

trait Hears {
    fn hears(&mut self, due: &str);
}

impl Hears for Raw {
    fn hears(&mut self, due: &str) {
        assert_eq!(self.exactly(due.len()), due);
    }
}

/// Writes a config as careful people do: whole, or not at all.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, file).expect("renamed");
}

fn hang_up(proxy: &mut Proxy) {
    proxy.process().expect("a proxy").hang_up();
}

/// Reloads and waits until that is done; the line that tells of it.
fn reload(proxy: &mut Proxy, file: &Path, text: &str) -> String {
    write(file, text);
    let told = |log: &str| {
        let lines = log.lines().filter(|line| line.contains("reloaded") || line.contains("stays"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = told(&log(proxy)).len();
    hang_up(proxy);
    let begun = Instant::now();
    loop {
        let now = told(&log(proxy));
        if let Some(line) = now.get(before) {
            return line.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "no reload:\n{}", log(proxy));
        sleep(Duration::from_millis(10));
    }
}

fn text(file: &PathBuf) -> String {
    std::fs::read_to_string(file).expect("the config")
}

#[test]
fn a_reload_changes_where_the_next_message_of_an_open_connection_goes() {
    if direct() {
        return;
    }
    let (one, two) = (RedisServer::start(), RedisServer::start());
    redis_cli(one.address, &["SET", "who", "one"]);
    redis_cli(two.address, &["SET", "who", "two"]);
    let mut proxy = Config::new()
        .cluster("one", one.address, "")
        .cluster("two", two.address, "")
        .route("all", "protocol = \"redis\"", "one", "")
        .start();
    let file = proxy.config();
    let first = text(&file);
    let mut client = Raw::connect(proxy.address("redis"));
    client.send(b"GET who\r\n");
    client.hears("$3\r\none\r\n");
    // A key that nobody asked for before: the decoder of the open connection has to look for it.
    let second = first.replace(
        "[[route]]",
        "[[route]]\nname = \"who\"\nmatch = { key = \"who\" }\nto = \"two\"\n[[route]]",
    );
    let line = reload(&mut proxy, &file, &second);
    assert!(line.contains("1 added, 0 removed, 0 changed"), "{line}");
    client.send(b"GET who\r\nGET other\r\n");
    client.hears("$3\r\ntwo\r\n$-1\r\n");
    // Half a message in hand when the config changes.
    client.send(b"*2\r\n$3\r\nGET\r\n$3\r\nw");
    sleep(Duration::from_millis(100));
    reload(&mut proxy, &file, &first);
    client.send(b"ho\r\n");
    client.hears("$3\r\none\r\n");
    assert_eq!(redis_cli(proxy.address("redis"), &["GET", "who"]), "one\n");
}

#[test]
fn a_bad_config_changes_nothing_and_says_why() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut proxy = Config::new().all("http", nginx.address).start();
    let file = proxy.config();
    let good = text(&file);
    let url = format!("http://{}/index.html", proxy.address("http"));
    let taken = busy.local_addr().expect("an address");
    let bad = [
        (good.replace("[[route]]", "[[rout]]"), "unknown key `rout`"),
        ("not toml at all".to_owned(), "polyport.toml:1"),
        (format!("{good}\n[[listener]]\naddress = \"{taken}\"\n"), "cannot listen on"),
    ];
    for (text, due) in bad {
        let line = reload(&mut proxy, &file, &text);
        assert!(line.contains("the config in use stays"), "{line}");
        let log = log(&mut proxy);
        assert!(log.contains(due), "no `{due}` in:\n{log}");
        assert_eq!(curl(&["-f", &url]), "hello\n");
    }
    let line = reload(&mut proxy, &file, &good);
    assert!(line.contains("nothing changes"), "{line}");
    assert_eq!(curl(&["-f", &url]), "hello\n");
}

#[test]
fn a_file_that_is_written_is_read_again_where_the_config_says_so() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let mut proxy =
        Config::new().section("[reload]\nwatch = true").all("http", nginx.address).start();
    let file = proxy.config();
    let good = text(&file);
    let url = format!("http://{}/added", proxy.address("http"));
    let more = "[[route]]\nname = \"added\"\nmatch = { protocol = \"http\", path = \"/added\" }\nrespond = { status = 200, body = \"here\" }\n[[route]]";
    write(&file, &good.replacen("[[route]]", more, 1));
    until("the new route", &mut proxy, || curl(&[&url]) == "here");
    // In place, and rubbish for a moment.
    std::fs::write(&file, "").expect("written");
    until("a complaint", &mut proxy, || true);
    std::fs::write(&file, &good).expect("written");
    until("the old routes", &mut proxy, || curl(&[&url]).contains("404"));
    assert!(log(&mut proxy).contains("reloaded"));
}

#[test]
fn listeners_come_and_go() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let mut proxy = Config::new()
        .section("[defaults]\ndrain-timeout = \"2s\"")
        .cluster("redis", redis.address, "")
        .route("redis", "protocol = \"redis\"", "redis", "")
        .start();
    let file = proxy.config();
    let first = text(&file);
    let added: SocketAddr = ports::free();
    let second = format!("{first}\n[[listener]]\nname = \"more\"\naddress = \"{added}\"\n");
    reload(&mut proxy, &file, &second);
    let mut guest = Raw::connect(added);
    let mut stays = Raw::connect(proxy.address("redis"));
    for client in [&mut guest, &mut stays] {
        client.send(b"PING\r\n");
        client.hears("+PONG\r\n");
    }
    reload(&mut proxy, &file, &first);
    until("the end of the listener", &mut proxy, || std::net::TcpStream::connect(added).is_err());
    // Its connection ends in its own time, no later than a drain would take; the other stays.
    guest.until_closed();
    stays.send(b"PING\r\n");
    stays.hears("+PONG\r\n");
    // And once more.
    reload(&mut proxy, &file, &second);
    let mut guest = Raw::connect(added);
    guest.send(b"PING\r\n");
    guest.hears("+PONG\r\n");
}

#[test]
fn a_limit_is_not_refilled_by_a_reload() {
    if direct() {
        return;
    }
    let nginx = Nginx::start();
    let mut proxy = Config::new()
        .cluster("http", nginx.address, "")
        .route("all", "protocol = \"http\"", "http", "limit = { rate = \"3/h\", burst = 3 }")
        .start();
    let file = proxy.config();
    let config = text(&file);
    let url = format!("http://{}/index.html", proxy.address("http"));
    let status = || curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!([status(), status()], ["200", "200"]);
    reload(&mut proxy, &file, &config);
    assert_eq!([status(), status()], ["200", "503"]);
    reload(&mut proxy, &file, &config.replace("3/h", "2/h"));
    assert_eq!(status(), "200");
}

#[test]
fn check_against_tells_what_a_reload_would_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old.toml"), folder.path().join("new.toml"));
    let config = "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"all\"\nto = \"a\"\n";
    std::fs::write(&old, config).expect("written");
    std::fs::write(&new, config.replace("\"127.0.0.1:1\"", "\"127.0.0.1:2\"")).expect("written");
    let mut command = std::process::Command::new(binary());
    command.args(["check", "-c"]).arg(&new).arg("--against").arg(&old);
    let told = run("polyport check", command);
    assert!(
        told.contains("~ cluster \"a\": endpoints [\"127.0.0.1:2\"], was [\"127.0.0.1:1\"]"),
        "{told}"
    );
    assert!(told.contains("0 added, 0 removed, 1 changed"), "{told}");
}

/// For `POLYPORT_RELOAD_SECONDS` (20 where it is not set).
#[test]
fn ten_reloads_a_second_cost_nobody_a_request() {
    if direct() {
        return;
    }
    let seconds = std::env::var("POLYPORT_RELOAD_SECONDS").ok();
    let seconds: u64 = seconds.map_or(20, |text| text.parse().expect("a number of seconds"));
    let mut edge = edge("");
    let file = edge.proxy.config();
    let first = text(&file);
    let mut clients = Clients::until(Duration::from_secs(seconds));
    plain(&mut clients, edge.address, &seconds.to_string());
    secure(&mut clients, &edge, &seconds.to_string());
    let mut round = 0;
    while Instant::now() < clients.end() {
        // Routes come and go before and behind those in use, and with them the keys looked for.
        let key = ["header.x-one", "attachment.two", "key", "method"][round % 4];
        let more = format!(
            "[[route]]\nname = \"round {round}\"\nmatch = {{ \"{key}\" = \"never-{round}\" }}\ndeny = true\n[[route]]"
        );
        write(&file, &first.replacen("[[route]]", &more, round % 2));
        hang_up(&mut edge.proxy);
        sleep(Duration::from_millis(100));
        round += 1;
    }
    let counts = clients.finish();
    edge.proxy.assert_alive();
    let log = log(&mut edge.proxy);
    let done = log.lines().filter(|line| line.contains("reloaded")).count();
    println!("{round} reloads asked for, {done} done");
    assert!(done * 4 > round, "{done} reloads of {round}:\n{log}");
    assert!(!log.contains("the config in use stays"), "{log}");
    assert!(counts.values().all(|count| *count > 0), "somebody heard nothing: {counts:?}");
}

/// Each server is there twice, once behind HAProxy; one of the two is always out.
#[test]
fn endpoints_drained_in_turn_cost_nobody_a_request() {
    if direct() {
        return;
    }
    let (seconds, admin) = (20, ports::free());
    let more = format!("[admin]\naddress = \"{admin}\"\nwrite = true\n");
    let mut edge = edge(&more);
    let file = edge.proxy.config();
    let first = text(&file);
    let (mut relays, mut places, mut name) = (Vec::new(), Vec::new(), String::new());
    let mut lines = Vec::new();
    for line in first.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"').to_owned();
        }
        let Some(address) = line.strip_prefix("endpoints = [\"") else {
            lines.push(line.to_owned());
            continue;
        };
        let address: SocketAddr = address.trim_end_matches("\"]").parse().expect("an address");
        let relay = Haproxy::before(address, "", "");
        lines.push(format!("endpoints = [\"{address}\", \"{}\"]", relay.address));
        places.push((name.clone(), [address, relay.address]));
        relays.push(relay);
    }
    reload(&mut edge.proxy, &file, &(lines.join("\n") + "\n"));
    let mut clients = Clients::until(Duration::from_secs(seconds));
    parted(&mut clients, edge.address, &seconds.to_string());
    let mut round = 0;
    while Instant::now() < clients.end() {
        for (cluster, pair) in &places {
            let (out, back) = (pair[round % 2], pair[(round + 1) % 2]);
            for (verb, endpoint) in [("undrain", back), ("drain", out)] {
                let cluster = cluster.replace('/', "%2F");
                let url =
                    format!("http://{admin}/api/clusters/{cluster}/endpoints/{endpoint}/{verb}");
                curl(&["-f", "-X", "POST", "-H", "x-polyport: 1", &url]);
            }
        }
        round += 1;
        sleep(Duration::from_millis(200));
    }
    let counts = clients.finish();
    edge.proxy.assert_alive();
    println!("each of {} clusters drained {round} times", places.len());
    assert!(round > 1 && places.len() > 8, "{round} rounds of {}", places.len());
    assert!(counts.values().all(|count| *count > 0), "somebody heard nothing: {counts:?}");
}
