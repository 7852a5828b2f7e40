//! Redis through the proxy: redis-cli, redis-benchmark and redis-py against redis-server.

use polyport_tests::load::Load;
use polyport_tests::peers::{python, redis_benchmark, redis_cli};
use polyport_tests::{Config, Proxy, Raw, RedisServer, direct};

/// One worker and one shared connection to the server: whatever can be mixed up is.
fn narrow(server: &RedisServer) -> Proxy {
    Config::new()
        .cluster("redis", server.address, "connections = 1")
        .route("redis", "protocol = \"redis\"", "redis", "")
        .direct("redis", server.address)
        .start()
}

fn tell(story: &str) {
    let server = RedisServer::start();
    tell_with(story, &server);
}

fn tell_with(story: &str, server: &RedisServer) -> String {
    let mut proxy = narrow(server);
    let port = proxy.address("redis").port().to_string();
    let told = python("redis_stories.py", &[story, &port]);
    proxy.assert_alive();
    told
}

macro_rules! stories {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                tell(stringify!($name));
            }
        )+
    };
}

stories!(
    pipelines,
    transactions,
    watch,
    pubsub,
    blocking,
    resp3,
    select,
    names,
    monitor,
    scripts,
    inline,
    reset,
    quit,
    reply_off,
    broken,
);

#[test]
fn auth() {
    tell_with("auth", &RedisServer::with(&["--requirepass", "secret"]));
}

#[test]
fn redis_cli_works_as_ever() {
    let server = RedisServer::start();
    let proxy = narrow(&server);
    let cli = |arguments: &[&str]| redis_cli(proxy.address("redis"), arguments);
    assert_eq!(cli(&["PING"]), "PONG\n");
    assert_eq!(cli(&["SET", "k", "v"]), "OK\n");
    assert_eq!(cli(&["GET", "k"]), "v\n");
    assert_eq!(cli(&["-3", "GET", "k"]), "v\n");
    assert_eq!(cli(&["-n", "4", "GET", "k"]), "\n");
    assert_eq!(cli(&["-r", "3", "INCR", "n"]), "1\n2\n3\n");
    assert!(cli(&["NOSUCH"]).contains("ERR unknown command"));
    assert!(cli(&["INFO", "server"]).contains("redis_version"));
}

#[test]
fn benchmark_of_pipelines_has_no_error() {
    let server = RedisServer::start();
    let proxy = Config::busy().all("redis", server.address).start();
    let report = redis_benchmark(
        proxy.address("redis"),
        &["-t", "set,get", "-P", "16", "-c", "32", "-n", "100000", "-r", "1000", "-q"],
    )
    .succeed();
    let (set, get) = (report.contains("SET: "), report.contains("GET: "));
    assert!(set && get && !report.contains("rror"), "{report}");
    assert!(server.info("total_commands_processed") >= 200_000);
}

#[test]
fn a_value_of_100_megabytes_is_not_held_in_memory() {
    let server = RedisServer::start();
    let proxy = narrow(&server);
    redis_cli(proxy.address("redis"), &["SET", "warm", "up"]);
    let before = proxy.peak_memory();
    let port = proxy.address("redis").port().to_string();
    python("redis_stories.py", &["big", &port]);
    let grown = proxy.peak_memory() - before;
    assert!(grown < 30 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn many_clients_share_few_connections() {
    let server = RedisServer::start();
    let connected: u64 = tell_with("many", &server).trim().parse().expect("a number");
    if !direct() {
        assert!(connected <= 4, "200 clients cost the server {connected} connections");
    }
}

#[test]
fn each_of_many_pipelines_gets_its_own_replies() {
    let server = RedisServer::start();
    let proxy = narrow(&server);
    let load = Load::redis(proxy.address("redis"), 16, 64);
    std::thread::sleep(std::time::Duration::from_secs(1));
    load.stop().assert_perfect();
}

#[test]
fn commands_and_keys_choose_the_server() {
    if direct() {
        return;
    }
    let (main, reads, jobs) = (RedisServer::start(), RedisServer::start(), RedisServer::start());
    let proxy = Config::new()
        .cluster("main", main.address, "")
        .cluster("reads", reads.address, "")
        .cluster("jobs", jobs.address, "")
        .route("jobs", "protocol = \"redis\", key = { prefix = \"job:\" }", "jobs", "")
        .route("reads", "protocol = \"redis\", command = [\"get\", \"mget\"]", "reads", "")
        .route("rest", "protocol = \"redis\", command = [\"set\", \"ping\"]", "main", "")
        .start();
    let mut raw = Raw::connect(proxy.address("redis"));
    // One pipeline, three servers; the replies come in the order of the requests.
    raw.send("SET k main\r\nSET job:1 jobs\r\nGET k\r\nGET job:1\r\nDEL k\r\nPING\r\n");
    let replies = raw.until("+PONG\r\n");
    let (head, error) = replies.split_at("+OK\r\n+OK\r\n$-1\r\n$4\r\njobs\r\n".len());
    assert_eq!(head, "+OK\r\n+OK\r\n$-1\r\n$4\r\njobs\r\n");
    // No route: an error of Redis's own sort, and the connection goes on.
    assert!(error.starts_with('-') && error.ends_with("\r\n+PONG\r\n"), "{error}");
    assert_eq!(redis_cli(main.address, &["GET", "k"]), "main\n");
    assert_eq!(redis_cli(jobs.address, &["GET", "job:1"]), "jobs\n");
}

#[test]
fn no_server_is_an_error_reply_and_a_new_server_is_found() {
    if direct() {
        return;
    }
    let mut server = RedisServer::start();
    let proxy = narrow(&server);
    let mut raw = Raw::say(proxy.address("redis"), "PING\r\n");
    assert_eq!(raw.until("\r\n"), "+PONG\r\n");
    server.kill();
    for _ in 0..3 {
        raw.send("GET k\r\n");
        assert!(raw.until("\r\n").starts_with('-'));
    }
    server.restart();
    // The same connection again, once the server is back.
    let mut last = String::new();
    for _ in 0..100 {
        raw.send("PING\r\n");
        last = raw.until("\r\n");
        if last == "+PONG\r\n" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the server is back, but: {last}");
}

#[test]
fn a_request_in_time_is_answered_and_a_late_one_is_told() {
    if direct() {
        return;
    }
    // On a shared connection, and on one of its own.
    for more in ["", "exchange = \"ordered\""] {
        in_time(more);
    }
}

fn in_time(more: &str) {
    let server = RedisServer::with(&["--enable-debug-command", "yes"]);
    let proxy = Config::new()
        .cluster("redis", server.address, more)
        .route("redis", "protocol = \"redis\"", "redis", "timeout = \"300ms\"")
        .start();
    let mut raw = Raw::say(proxy.address("redis"), "PING\r\n");
    assert_eq!(raw.until("\r\n"), "+PONG\r\n");
    let mut sleeper = Raw::say(
        proxy.address("redis"),
        "EVAL \"local t=redis.call('TIME')[1]+2 while redis.call('TIME')[1]+0 < t do end return 'slept'\" 0\r\n",
    );
    let reply = sleeper.until("\r\n");
    assert!(reply.starts_with('-'), "{reply}");
    // The late reply is nobody's: whoever comes next gets his own.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    raw.send("ECHO mine\r\n");
    assert_eq!(raw.until("mine\r\n"), "$4\r\nmine\r\n");
}
