//! Which of several servers is chosen, with real servers that say who they are.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::peers::{curl, dubbo_start, redis_cli};
use polyport_tests::process::run;
use polyport_tests::proxy::binary;
use polyport_tests::{Config, DubboServer, Nginx, PATIENCE, Proxy, Raw, RedisServer, direct};

/// Redis servers, each of which has its port under `who`.
fn redis(count: usize) -> Vec<RedisServer> {
    let servers: Vec<RedisServer> = (0..count).map(|_| RedisServer::start()).collect();
    servers.iter().for_each(name);
    servers
}

fn name(server: &RedisServer) {
    redis_cli(server.address, &["SET", "who", &port(server)]);
}

/// All ports here have five digits.
fn port(server: &RedisServer) -> String {
    server.address.port().to_string()
}

/// One cluster of Redis servers; `each` says what its endpoints' tables hold beside the
/// address, `more` are further lines of the cluster's table.
fn proxied(servers: &[RedisServer], each: &[&str], more: &str) -> Proxy {
    on_top("", servers, each, more, "\"servers\"")
}

fn on_top(top: &str, servers: &[RedisServer], each: &[&str], more: &str, to: &str) -> Proxy {
    let endpoint = |(server, each): (&RedisServer, &&str)| {
        format!("{{ address = \"{}\"{each} }}", server.address)
    };
    let endpoints: Vec<String> = servers.iter().zip(each).map(endpoint).collect();
    let endpoints = endpoints.join(", ");
    Config::new()
        .top(top)
        .section(&format!("[[cluster]]\nname = \"servers\"\nendpoints = [{endpoints}]\n{more}"))
        .section(&format!("[[route]]\nmatch = {{ protocol = \"redis\" }}\nto = {to}"))
        .start()
}

/// Who answers; `None`: an error.
fn who(client: &mut Raw) -> Option<String> {
    client.send("GET who\r\n");
    answer(client)
}

fn answer(client: &mut Raw) -> Option<String> {
    let head = client.until("\r\n");
    match head.trim_end() {
        "$5" => Some(client.exactly(7).trim_end().to_owned()),
        error => {
            assert!(error.starts_with('-'), "{error}");
            None
        }
    }
}

/// Asks until the answer is `due`; all others until then are `or` or an error.
fn wait_for(client: &mut Raw, due: &str, or: &[&str]) {
    let start = Instant::now();
    loop {
        match who(client) {
            Some(name) if name == due => return,
            Some(name) => assert!(or.contains(&name.as_str()), "{name} answers"),
            None => {}
        }
        assert!(start.elapsed() < PATIENCE, "{due} never answers");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn turns_follow_weights_without_bursts() {
    if direct() {
        return;
    }
    let servers = redis(3);
    let each = [", weight = 5", ", weight = 1", ""];
    let mut proxy = proxied(&servers, &each, "balance = \"round-robin\"");
    let mut client = Raw::connect(proxy.address("redis"));
    let names: Vec<String> = servers.iter().map(port).collect();
    let turns: Vec<usize> = (0..70)
        .map(|_| who(&mut client).expect("an answer"))
        .map(|name| names.iter().position(|had| *had == name).expect("a server"))
        .collect();
    for round in turns.chunks(7) {
        assert_eq!(round, [0, 0, 1, 0, 2, 0, 0]);
    }
    proxy.assert_alive();
}

#[test]
fn chance_follows_weights() {
    if direct() {
        return;
    }
    let servers = redis(3);
    for balance in ["random", "least-request"] {
        let each = [", weight = 2", "", ""];
        let proxy = proxied(&servers, &each, &format!("balance = \"{balance}\""));
        let mut client = Raw::connect(proxy.address("redis"));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..2_000 {
            // One after the other, so that nobody is busy.
            *counts.entry(who(&mut client).expect("an answer")).or_default() += 1;
        }
        let count = |at: usize| counts.get(&port(&servers[at])).copied().unwrap_or(0);
        assert!((850..1150).contains(&count(0)), "{balance}: {counts:?}");
        assert!((380..620).contains(&count(1)), "{balance}: {counts:?}");
    }
}

#[test]
fn the_latency_of_real_servers_is_measured() {
    if direct() {
        return;
    }
    let servers = redis(3);
    let proxy = proxied(&servers, &["", "", ""], "balance = \"ewma\"");
    // The first is busy for so long, each time it is asked, that no hiccup of a busy
    // machine makes another one look slower.
    for (at, server) in servers.iter().enumerate() {
        let spin = if at == 0 { "for i = 1, 20000000 do end " } else { "" };
        let body = format!("{spin}return redis.call('GET', 'who')");
        let script =
            format!("#!lua name=who\nredis.register_function('who', function() {body} end)");
        redis_cli(server.address, &["FUNCTION", "LOAD", &script]);
    }
    let mut client = Raw::connect(proxy.address("redis"));
    let mut slow = 0;
    for _ in 0..200 {
        client.send("FCALL who 0\r\n");
        slow += usize::from(answer(&mut client).expect("an answer") == port(&servers[0]));
    }
    // In turn it would be 67.
    assert!(slow < 40, "{slow} of 200 went to the slow one");
}

/// Who answers for a key.
fn home(client: &mut Raw, key: &str) -> Option<String> {
    client.send(format!("MGET {key} who\r\n"));
    match client.until("\r\n").trim_end() {
        "*2" => {
            assert_eq!(client.until("\r\n"), "$-1\r\n");
            answer(client)
        }
        error => {
            assert!(error.starts_with('-'), "{error}");
            None
        }
    }
}

#[test]
fn keys_stay_where_they_are_and_only_those_of_a_dead_server_move() {
    if direct() {
        return;
    }
    for hash in ["hash = \"key\"", "maglev = \"key\"", "hash = \"key\", bound = 2"] {
        let mut servers = redis(4);
        let more = format!("balance = {{ {hash} }}\nconnect-timeout = \"10s\"");
        let proxy = proxied(&servers, &["", "", "", ""], &more);
        let keys: Vec<String> = (0..60).map(|n| format!("user:{n}")).collect();
        let mut client = Raw::connect(proxy.address("redis"));
        let mut homes = BTreeMap::new();
        for key in &keys {
            homes.insert(key, home(&mut client, key).expect("an answer"));
        }
        for server in &servers {
            let own = homes.values().filter(|home| **home == port(server)).count();
            assert!(own > 0, "{hash}: nothing for one of {homes:?}");
        }
        let mut other = Raw::connect(proxy.address("redis"));
        for key in &keys {
            assert_eq!(home(&mut other, key).as_ref(), homes.get(key), "{hash}: {key}");
        }
        let dead = port(&servers[1]);
        servers[1].kill();
        for key in &keys {
            let start = Instant::now();
            let now = loop {
                if let Some(home) = home(&mut client, key) {
                    break home;
                }
                assert_eq!(homes[key], dead, "{hash}: only keys of the dead one fail");
                assert!(start.elapsed() < PATIENCE, "{hash}: {key} finds nobody");
            };
            assert_eq!(now == homes[key], homes[key] != dead, "{hash}: {key}");
        }
    }
}

#[test]
fn a_cookie_keeps_a_browser_on_its_server() {
    if direct() {
        return;
    }
    let server =
        |name: &str| Nginx::with(&format!("location = /name {{ return 200 \"{name}\"; }}"), "");
    let servers = [server("a"), server("b"), server("c")];
    let addresses: Vec<String> =
        servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    let proxy = Config::busy()
        .section(&format!(
            "[[cluster]]\nname = \"web\"\nendpoints = [{}]\nbalance = {{ maglev = \"cookie.session\" }}",
            addresses.join(", ")
        ))
        .route("web", "protocol = \"http\"", "web", "")
        .start();
    let address = proxy.address("http");
    let mut names = BTreeMap::new();
    for session in 0..12 {
        let ask = format!(
            "GET /name HTTP/1.1\r\nHost: a\r\nCookie: theme=dark; session=s{session}; x=y\r\n\r\n"
        );
        let mut seen = Vec::new();
        for _ in 0..3 {
            // Each on a connection of its own, so perhaps by the other worker.
            seen.push(Raw::say(address, &ask).http_response().1);
        }
        let cookie = format!("session=s{session}");
        let url = format!("http://{address}/name");
        seen.push(curl(&["--http2-prior-knowledge", "-b", &cookie, &url]));
        assert!(seen.iter().all(|name| *name == seen[0]), "{session}: {seen:?}");
        *names.entry(seen.remove(0)).or_insert(0) += 1;
    }
    assert!(names.len() > 1, "{names:?}");
    // Without the cookie: in turn.
    let mut client = Raw::connect(address);
    let mut turns: Vec<String> = (0..3)
        .map(|_| {
            client.send("GET /name HTTP/1.1\r\nHost: a\r\n\r\n");
            client.http_response().1
        })
        .collect();
    turns.sort();
    assert_eq!(turns, ["a", "b", "c"]);
}

#[test]
fn dubbo_calls_of_one_tenant_find_one_server() {
    if direct() {
        return;
    }
    let servers = [DubboServer::start(), DubboServer::start()];
    let proxy = Config::new()
        .section(&format!(
            "[[cluster]]\nname = \"calls\"\nendpoints = [\"{}\", \"{}\"]\nbalance = {{ hash = \"attachment.tenant\" }}",
            servers[0].address, servers[1].address
        ))
        .route("calls", "protocol = \"dubbo\"", "calls", "")
        .start();
    let address = proxy.address("dubbo");
    let answers = |tenant: &str, server: &DubboServer| {
        let port = server.address.port().to_string();
        dubbo_start(address, "where", &["tenant", tenant, &port]).finish().0.success()
    };
    for tenant in ["acme", "umbrella", "initech"] {
        let first = [answers(tenant, &servers[0]), answers(tenant, &servers[1])];
        assert_ne!(first[0], first[1], "{tenant}");
        let again = [answers(tenant, &servers[0]), answers(tenant, &servers[1])];
        assert_eq!(first, again, "{tenant}");
    }
}

#[test]
fn the_next_priority_takes_over_and_gives_back() {
    if direct() {
        return;
    }
    let mut servers = redis(3);
    let each = [", priority = 0", ", priority = 1", ", priority = 2"];
    let mut proxy = proxied(&servers, &each, "balance = \"least-request\"");
    let mut client = Raw::connect(proxy.address("redis"));
    let (first, second) = (port(&servers[0]), port(&servers[1]));
    for _ in 0..50 {
        assert_eq!(who(&mut client).as_deref(), Some(&*first));
    }
    servers[0].kill();
    wait_for(&mut client, &second, &[]);
    for _ in 0..50 {
        // It is tried again every half second, and what it refuses the next one takes.
        assert_eq!(who(&mut client).as_deref(), Some(&*second));
        sleep(Duration::from_millis(20));
    }
    servers[0].restart();
    name(&servers[0]);
    wait_for(&mut client, &first, &[&second]);
    proxy.assert_alive();
}

#[test]
fn our_own_zone_is_preferred_while_it_can_serve() {
    if direct() {
        return;
    }
    let mut servers = redis(3);
    let each = [", zone = \"a\"", ", zone = \"b\"", ", zone = \"c\""];
    let proxy = on_top("zone = \"b\"\n", &servers, &each, "balance = \"random\"", "\"servers\"");
    let mut client = Raw::connect(proxy.address("redis"));
    let names: Vec<String> = servers.iter().map(port).collect();
    for _ in 0..50 {
        assert_eq!(who(&mut client).as_ref(), Some(&names[1]));
    }
    servers[1].kill();
    wait_for(&mut client, &names[0], &[&names[2]]);
    wait_for(&mut client, &names[2], &[&names[0]]);
}

#[test]
fn labels_are_given_up_only_where_that_is_allowed() {
    if direct() {
        return;
    }
    for fallback in ["none", "any"] {
        let mut servers = redis(2);
        let each = [", labels = { version = \"v1\" }", ", labels = { version = \"v2\" }"];
        let more = format!("subset-fallback = \"{fallback}\"");
        let to = "{ cluster = \"servers\", labels = { version = \"v2\" } }";
        let proxy = on_top("", &servers, &each, &more, to);
        let mut client = Raw::connect(proxy.address("redis"));
        let (v1, v2) = (port(&servers[0]), port(&servers[1]));
        for _ in 0..20 {
            assert_eq!(who(&mut client).as_deref(), Some(&*v2));
        }
        servers[1].kill();
        if fallback == "any" {
            wait_for(&mut client, &v1, &[]);
        } else {
            for _ in 0..30 {
                assert_eq!(who(&mut client), None);
            }
        }
        servers[1].restart();
        name(&servers[1]);
        wait_for(&mut client, &v2, &[&v1]);
    }
}

#[test]
fn explain_says_how_an_endpoint_is_chosen() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("polyport.toml");
    let config = "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[cluster]]\nname = \"a\"\n\
        endpoints = [\"127.0.0.1:1\"]\nbalance = { maglev = \"source.ip\", bound = 1.5 }\n\
        slow-start = \"30s\"\npanic = 30\n[[route]]\nto = \"a\"\n";
    std::fs::write(&file, config).expect("the config");
    for more in [&[][..], &["--json"]] {
        let mut command = Command::new(binary());
        command.args(["explain", "-c"]).arg(&file).args(more);
        let said = run("polyport explain", command);
        for words in ["maglev of source.ip, bound 1.5", "panic below 30% usable, slow start 30s"] {
            assert!(said.contains(words), "{said}");
        }
    }
}
