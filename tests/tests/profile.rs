//! Profiles of a proxy at work: what they name, whom they disturb, and what is refused.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::load::Load;
use polyport_tests::peers::{curl, curl_command, node};
use polyport_tests::process::{Running, finish, run};
use polyport_tests::{Config, PATIENCE, Proxy, RedisServer, direct, ports};
use serde_json::Value;

struct Profiled {
    address: SocketAddr,
    proxy: Proxy,
    _redis: RedisServer,
}

impl Profiled {
    fn start() -> Self {
        let redis = RedisServer::start();
        let address = ports::free();
        // It changes nothing, and needs no leave to.
        let table = format!("[admin]\naddress = \"{address}\"\n");
        let proxy = Config::busy().all("redis", redis.address).section(&table).start();
        Self { address, proxy, _redis: redis }
    }

    fn url(&self, query: &str) -> String {
        format!("http://{}/api/profile?{query}", self.address)
    }

    fn load(&self) -> Load {
        Load::redis(self.proxy.address("redis"), 4, 16)
    }

    fn get(&self, query: &str) -> String {
        curl(&["-f", "--max-time", "85", &self.url(query)])
    }

    fn status(&self, query: &str) -> (String, String) {
        let text = curl(&["-w", "\n%{http_code}", &self.url(query)]);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }
}

/// Whether a function of this module of the engine is in it.
fn engine(text: &str) -> bool {
    text.contains("polyport::engine::") || text.contains("polyport::worker::")
}

#[test]
fn a_profile_names_the_functions_that_work_and_costs_nobody_a_request() {
    if direct() {
        return;
    }
    let mut profiled = Profiled::start();
    let load = profiled.load();
    let folded = profiled.get("format=folded&seconds=2");
    assert!(engine(&folded), "{folded}");
    let workers = folded.lines().filter(|line| line.starts_with("worker-")).count();
    assert!(workers > 3 && folded.contains("redis"), "{folded}");
    let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    let samples: u64 = folded.lines().map(|line| count(line).expect("a count")).sum();
    assert!(samples >= 5, "{samples} samples:\n{folded}");

    let svg = profiled.get("format=svg&seconds=1");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && engine(&svg));
    let file = profiled.proxy.config().with_file_name("cpu.pb");
    let path = file.display().to_string();
    curl(&["-f", "-o", &path, &profiled.url("format=pprof&seconds=1")]);
    let read: Value = serde_json::from_str(&node("pprof_read.js", &[&path])).expect("JSON");
    assert_eq!(read["types"], serde_json::json!(["samples count", "cpu nanoseconds"]));
    assert!(read["seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{read}");
    let stacks = read["stacks"].as_array().expect("stacks");
    let busy = stacks.iter().find(|stack| engine(&stack["calls"].to_string())).expect("the engine");
    assert!(busy["thread"].as_str().is_some_and(|thread| thread.starts_with("worker-")), "{busy}");
    let nanos = busy["samples"].as_u64().map(|samples| samples * (1_000_000_000 / 99));
    assert_eq!(busy["nanos"].as_u64(), nanos);

    let tally = load.stop();
    tally.assert_perfect();
    profiled.proxy.assert_alive();
    profiled.proxy.terminate();
    assert!(profiled.proxy.wait().is_some_and(|status| status.success()));
}

#[test]
fn one_profile_is_taken_at_a_time_and_all_else_is_answered_meanwhile() {
    if direct() {
        return;
    }
    let mut profiled = Profiled::start();
    let load = profiled.load();
    let long = [&*profiled.url("format=folded&seconds=60"), "--max-time", "85", "-f"];
    let first = Running::start("curl", curl_command(&long));
    let begun = Instant::now();
    // The first may still be getting ready; whoever comes second is told so at once.
    let why = loop {
        let (status, body) = profiled.status("format=svg&seconds=1");
        match status.as_str() {
            "409" => break body,
            _ => assert!(begun.elapsed() < PATIENCE, "{status}: {body}"),
        }
    };
    assert!(why.contains("a profile is being taken"), "{why}");
    let threads: Value = serde_json::from_str(&profiled.get("seconds=1")).expect("JSON");
    let threads = threads["threads"].as_array().expect("threads");
    assert!(threads.iter().any(|one| one["name"] == "worker-1" && one["work"].is_object()));
    let ready = curl(&["-f", "--max-time", "5", &format!("http://{}/ready", profiled.address)]);
    assert_eq!(ready, "ready\n");
    // Who leaves ends it, and the next is served.
    let (..) = first.stop();
    let begun = Instant::now();
    loop {
        let (status, body) = profiled.status("format=folded&seconds=1");
        if status == "200" {
            assert!(engine(&body), "{body}");
            break;
        }
        assert!(status == "409" && begun.elapsed() < PATIENCE, "{status}: {body}");
        sleep(Duration::from_millis(100));
    }
    load.stop().assert_perfect();
    profiled.proxy.assert_alive();
}

#[test]
fn what_cannot_be_profiled_is_said() {
    if direct() {
        return;
    }
    let profiled = Profiled::start();
    for (query, why) in [
        ("format=svg&seconds=0", "from 1 to 60"),
        ("format=svg&seconds=61", "from 1 to 60"),
        ("format=svg&seconds=x", "from 1 to 60"),
        ("format=png", "threads, svg, pprof or folded"),
    ] {
        let (status, body) = profiled.status(query);
        assert!(status == "400" && body.contains(why), "{query}: {status} {body}");
    }
    let text = curl(&["-i", "-H", "sec-fetch-site: cross-site", &profiled.url("format=svg")]);
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    // Of a proxy with nothing to do there is little to see, and still something to open.
    let svg = profiled.get("format=svg&seconds=1");
    assert!(svg.contains("samples, about 0."), "{svg}");
}

#[test]
fn a_proxy_that_has_been_profiled_hands_over_and_its_successor_is_profiled_too() {
    if direct() {
        return;
    }
    let profiled = Profiled::start();
    let load = profiled.load();
    assert!(engine(&profiled.get("format=folded&seconds=1")));
    let pid = || {
        let url = format!("http://{}/api/info", profiled.address);
        let (_, text, _) = finish("curl", curl_command(&["-s", &url]));
        serde_json::from_str::<Value>(&text).ok().and_then(|info| info["pid"].as_u64())
    };
    let before = pid().expect("a process");
    signal(before, "-USR2");
    let begun = Instant::now();
    let after = loop {
        if let Some(after) = pid().filter(|after| *after != before) {
            break after;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody took over");
        sleep(Duration::from_millis(50));
    };
    let successor = Successor(after);
    let folded = profiled.get("format=folded&seconds=1");
    assert!(engine(&folded), "{folded}");
    load.stop().assert_complete();
    drop(successor);
}

/// A process that is not our child.
struct Successor(u64);

impl Drop for Successor {
    fn drop(&mut self) {
        signal(self.0, "-TERM");
    }
}

fn signal(pid: u64, name: &str) {
    let mut command = Command::new("kill");
    command.args([name, &pid.to_string()]);
    run("kill", command);
}
