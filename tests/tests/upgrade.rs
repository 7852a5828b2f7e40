//! One binary takes over from another, under load, and the clients do not notice; one that
//! cannot is sent away, and they do not notice that either.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::bolt::bolt_start;
use polyport_tests::chaos::{self, Kind, Load, Server};
use polyport_tests::figures;
use polyport_tests::load::Tally;
use polyport_tests::peers::curl;
use polyport_tests::process::{Process, Running, finish, run};
use polyport_tests::proxy::binary;
use polyport_tests::{BoltServer, Dnsmasq, PATIENCE, Raw, direct, ports};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A Polyport whose binary and config may be replaced.
struct Edge {
    address: SocketAddr,
    admin: SocketAddr,
    process: Process,
    folder: TempDir,
    /// All processes that were ever in charge.
    pids: Vec<u32>,
}

impl Edge {
    /// Starts it with two workers, and `rest` behind what every config has.
    fn start(rest: &str) -> Self {
        let (address, admin) = (ports::free(), ports::free());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut text = format!("workers = 2\n[admin]\naddress = \"{admin}\"\nwrite = true\n");
        let _ = write!(text, "\n[[listener]]\nname = \"edge\"\naddress = \"{address}\"\n{rest}");
        fs::write(folder.path().join("polyport.toml"), text).expect("writing the config");
        install(&folder);
        let mut command = Command::new(folder.path().join("polyport"));
        command.args(["run", "-c", "polyport.toml", "--pid-file", "polyport.pid"]);
        command.current_dir(folder.path());
        let mut process = Process::start("polyport", command, folder.path());
        process.wait_for_port(address);
        process.wait_for("pid file", |_| folder.path().join("polyport.pid").exists());
        let mut edge = Self { address, admin, folder, process, pids: Vec::new() };
        edge.pids.push(edge.pid());
        edge
    }

    /// The process in charge.
    fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.folder.path().join("polyport.pid"));
        text.expect("a pid file").trim().parse().expect("a process id")
    }

    /// `polyport upgrade` begins.
    fn ask_for_upgrade(&self) -> Running {
        let mut command = Command::new(binary());
        command.arg("upgrade").arg("--pid-file").arg(self.folder.path().join("polyport.pid"));
        Running::start("polyport upgrade", command)
    }

    /// Waits for its end: whether it says that it went well, and its complaint.
    fn hear(asked: Running) -> (bool, String) {
        let (status, _, complaint) = asked.finish();
        (status.success(), complaint)
    }

    fn try_upgrade(&mut self) -> (bool, String) {
        Self::hear(self.ask_for_upgrade())
    }

    /// `POST` to the admin API of whoever answers there: status and body.
    fn post(admin: SocketAddr, path: &str) -> String {
        let url = format!("http://{admin}{path}");
        curl(&["-X", "POST", "-H", "x-polyport: 1", "-w", "%{http_code}", &url])
    }

    /// Waits until the log has this after so many bytes.
    fn told(&self, from: usize, due: &str) {
        let start = Instant::now();
        while !self.process.log().get(from..).is_some_and(|new| new.contains(due)) {
            assert!(start.elapsed() < PATIENCE, "no `{due}` in:\n{}", self.process.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// Writes a config with one route more, which answers `GET /NAME`.
    fn add(&self, name: &str) {
        let file = self.folder.path().join("polyport.toml");
        let text = fs::read_to_string(&file).expect("the config");
        let new = self.folder.path().join("new.toml");
        fs::write(&new, text.replacen("[[route]]", &route(name), 1)).expect("the config");
        fs::rename(new, file).expect("the config");
    }

    /// Waits until that is so.
    fn has(&self, name: &str) {
        let (start, url) = (Instant::now(), format!("http://{}/{name}", self.address));
        while curl(&[&url]) != format!("{name} is here") {
            assert!(start.elapsed() < PATIENCE, "no route {name}:\n{}", self.process.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Puts a new binary in place and has it take over.
    fn upgrade(&mut self) {
        let before = self.pid();
        install(&self.folder);
        let (well, complaint) = self.try_upgrade();
        assert!(well, "{complaint}\n{}", self.process.log());
        let now = self.pid();
        assert_ne!(before, now, "the old one is still in charge");
        self.pids.push(now);
    }

    /// A figure of the process in charge.
    fn figure(&self, name: &str) -> u64 {
        figures::figure(self.admin, name)
    }

    /// Waits until only the latest process is left.
    fn wait_for_the_old(&mut self) {
        // The first is our child, and has to be waited for.
        assert!(self.pids.len() < 2 || self.process.wait().success());
        let start = Instant::now();
        let (_, old) = self.pids.split_last().expect("a process");
        while let Some(pid) = old.iter().find(|pid| runs(**pid)) {
            assert!(start.elapsed() < PATIENCE, "{pid} stays:\n{}", self.process.log());
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        for pid in &self.pids {
            if runs(*pid) {
                let _ = kill_process(id(*pid), Signal::KILL);
            }
        }
    }
}

fn route(name: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nmatch = {{ protocol = \"http\", path = \"/{name}\" }}\n\
         respond = {{ status = 200, body = \"{name} is here\" }}\n\n[[route]]"
    )
}

fn id(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id")
}

fn runs(pid: u32) -> bool {
    // One that nobody waits for has ended all the same.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    test_kill_process(id(pid)).is_ok() && !ended
}

/// Puts a fresh copy of the binary in the place of whatever is there.
fn install(folder: &TempDir) {
    let new = folder.path().join("polyport.next");
    fs::copy(binary(), &new).expect("a copy of the binary");
    fs::rename(&new, folder.path().join("polyport")).expect("the binary's place");
}

/// Puts a script there instead.
fn install_script(folder: &TempDir, text: &str) {
    let new = folder.path().join("polyport.next");
    fs::write(&new, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its permissions");
    fs::rename(&new, folder.path().join("polyport")).expect("the binary's place");
}

fn all(name: &str, matches: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "\n[[cluster]]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n{more}\n\
         [[route]]\nname = \"{name}\"\nmatch = {{ {matches} }}\nto = \"{name}\"\n"
    )
}

/// Patient clients: what is judged is what they hear, not when.
const LIMIT: Duration = Duration::from_secs(40);

/// A load, and how many connections it makes where none is lost.
struct Crowd {
    kind: &'static Kind,
    load: Load,
    connected: u64,
}

impl Crowd {
    fn start(kind: &'static Kind, to: SocketAddr) -> Self {
        Self { kind, load: kind.load(to, LIMIT), connected: 0 }
    }

    /// Waits until much more has been answered than now.
    fn go_on(&mut self, more: u64) {
        let (start, before) = (Instant::now(), self.load.count().answered);
        while self.load.count().answered < before + more {
            self.load.check();
            assert!(start.elapsed() < PATIENCE, "{}: {:?}", self.kind.name, self.load.count());
            sleep(Duration::from_millis(10));
        }
        if self.connected == 0 {
            self.connected = self.load.count().connected;
        }
    }

    /// Nothing went wrong, and no connection ended.
    fn end_unmoved(mut self) {
        let (name, count) = (self.kind.name, self.load.stop());
        println!("{name}: {count:?}");
        count.assert_perfect();
        assert_eq!(count.connected, self.connected, "{name}: connections were lost: {count:?}");
    }

    /// Nothing went wrong; connections may have ended when nothing was in flight on them.
    fn end_unhurt(mut self) {
        println!("{}: {:?}", self.kind.name, self.load.count());
        self.load.stop().assert_perfect();
    }

    /// Connections were lost with what was on them, and others were made.
    fn end_moved(mut self) {
        let (name, count) = (self.kind.name, self.load.stop());
        println!("{name}: {count:?}");
        count.assert_complete();
        assert!(count.connected > self.connected, "{name}: nobody came again: {count:?}");
    }
}

fn servers(kinds: &[&'static Kind]) -> Vec<Server> {
    kinds.iter().map(|kind| kind.server()).collect()
}

#[test]
fn ten_upgrades_in_a_row_under_load_of_every_protocol_lose_nothing() {
    if direct() {
        return;
    }
    let (h1, h2) = ("http.version = \"1.1\"", "http.version = \"2\"");
    let kinds = [
        &chaos::REDIS,
        &chaos::HTTP,
        &chaos::DUBBO,
        &chaos::THRIFT,
        &chaos::HTTP2,
        &chaos::GRPC,
        &chaos::MQTT,
    ];
    let (servers, bolt) = (servers(&kinds), BoltServer::start());
    let mut rest = "\n[defaults]\ndrain-timeout = \"4s\"\nconnect-timeout = \"10s\"\n".to_owned();
    let grpc = "service = { prefix = \"polyport.test.\" }";
    let matches = [
        ("redis", "protocol = \"redis\"", ""),
        ("http", h1, ""),
        ("dubbo", "protocol = \"dubbo\"", ""),
        ("thrift", "protocol = \"thrift\"", ""),
        ("http2", h2, "http2 = true"),
        ("grpc", grpc, "http2 = true"),
        ("mqtt", "protocol = \"mqtt\"", ""),
    ];
    let mut order: Vec<usize> = (0..matches.len()).collect();
    // What gRPC asks is HTTP/2, too: the narrower rule stands first.
    order.swap(4, 5);
    for at in order {
        let (name, matches, more) = matches[at];
        rest += &all(name, matches, servers[at].address, more);
    }
    rest += &all("bolt", "protocol = \"bolt\"", bolt.address, "");
    let mut edge = Edge::start(&rest);
    let mut crowds: Vec<Crowd> =
        kinds.iter().map(|kind| Crowd::start(kind, edge.address)).collect();
    // Goes on until long after the last upgrade.
    let calls = bolt_start(edge.address, "load", &["20", "2", "4", "strict"]);
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    for _ in 0..10 {
        edge.upgrade();
        for crowd in &mut crowds {
            crowd.go_on(30);
        }
    }
    Tally::read(&calls.succeed()).assert_perfect();
    for crowd in crowds {
        match crowd.kind.name {
            "mqtt" => crowd.end_moved(),
            "http/2" | "grpc" => crowd.end_unhurt(),
            _ => crowd.end_unmoved(),
        }
    }
    edge.wait_for_the_old();
    assert_eq!(edge.figure("upgrade_failures"), 0);
}

#[test]
fn a_new_process_that_cannot_take_over_changes_nothing() {
    if direct() {
        return;
    }
    let kinds = [&chaos::REDIS, &chaos::HTTP];
    let servers = servers(&kinds);
    let mut rest = "\n[defaults]\nupgrade-timeout = \"2s\"\n".to_owned();
    rest += &all("redis", "protocol = \"redis\"", servers[0].address, "");
    rest += &all("http", "protocol = \"http\"", servers[1].address, "");
    let mut edge = Edge::start(&rest);
    let mut crowds: Vec<Crowd> =
        kinds.iter().map(|kind| Crowd::start(kind, edge.address)).collect();
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    let mut fails = |edge: &mut Edge, due: &str| {
        let before = edge.pid();
        let (well, complaint) = edge.try_upgrade();
        assert!(!well && complaint.contains(due), "{due}: {complaint}");
        assert_eq!(edge.pid(), before);
        for crowd in &mut crowds {
            crowd.go_on(50);
        }
    };
    install_script(&edge.folder, "exit 3");
    fails(&mut edge, "exit status: 3");
    install_script(&edge.folder, "exec sleep 1000");
    fails(&mut edge, "not ready within 2s");
    install_script(&edge.folder, "head -c 100 >/dev/null; echo rubbish >&0; exec sleep 1000");
    fails(&mut edge, "the new process");
    fs::remove_file(edge.folder.path().join("polyport")).expect("removing the binary");
    fails(&mut edge, "cannot start");
    install(&edge.folder);
    let config = edge.folder.path().join("polyport.toml");
    let good = fs::read_to_string(&config).expect("the config");
    fs::write(&config, format!("{good}\n[nonsense]\n")).expect("writing the config");
    fails(&mut edge, "exit status: 1");
    assert_eq!(edge.figure("upgrade_failures"), 5);
    // And then one that can.
    fs::write(&config, good).expect("writing the config");
    edge.upgrade();
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    for crowd in crowds {
        crowd.end_unmoved();
    }
    edge.wait_for_the_old();
}

/// All of a protocol to a cluster of its name with these words.
fn found(name: &str, discover: &str) -> String {
    format!(
        "\n[[cluster]]\nname = \"{name}\"\ndiscover = {{ {discover}, every = \"100ms\" }}\n\
         [[route]]\nname = \"{name}\"\nmatch = {{ protocol = \"{name}\" }}\nto = \"{name}\"\n"
    )
}

#[test]
fn a_new_process_begins_with_the_endpoints_that_the_old_one_had_found() {
    if direct() {
        return;
    }
    let kinds = [&chaos::REDIS, &chaos::HTTP, &chaos::DUBBO];
    let (servers, second) = (servers(&kinds), chaos::HTTP.server());
    let here: IpAddr = [127, 0, 0, 1].into();
    let mut dnsmasq = Dnsmasq::start(&[("redis.test", here), ("here.test", here)]);
    let [redis, http, dubbo] = [0, 1, 2].map(|at: usize| servers[at].address);
    dnsmasq.services(&[("_dubbo._tcp.test", "here.test", dubbo.port(), 0, 1)]);
    let files = tempfile::tempdir().expect("a directory");
    let (file, resolver) = (files.path().join("http.toml"), dnsmasq.address);
    fs::write(&file, format!("endpoints = [\"{http}\"]")).expect("a file");
    let asks = |what: String| format!("{what}, resolver = [\"{resolver}\"]");
    let rest = found("redis", &asks(format!("dns = \"redis.test:{}\"", redis.port())))
        + &found("dubbo", &asks("srv = \"_dubbo._tcp.test\"".to_owned()))
        + &found("http", &format!("file = \"{}\"", file.display()));
    let mut edge = Edge::start(&rest);
    let mut crowds: Vec<Crowd> =
        kinds.iter().map(|kind| Crowd::start(kind, edge.address)).collect();
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    // Nobody tells the new one where anything is; nor the one after it.
    dnsmasq.kill();
    fs::remove_file(&file).expect("the file");
    for _ in 0..2 {
        edge.upgrade();
        for crowd in &mut crowds {
            crowd.go_on(50);
        }
    }
    // Once its source is back, it goes on from there.
    let from = edge.process.log().len();
    fs::write(&file, format!("endpoints = [\"{}\"]", second.address)).expect("a file");
    edge.told(from, &format!("came {}; went {http}", second.address));
    for mut crowd in crowds {
        crowd.go_on(50);
        crowd.end_unmoved();
    }
    edge.wait_for_the_old();
}

/// A cluster whose source is never there keeps a new process from being ready for the five
/// seconds that it is waited for, and by then it has read its config.
const LATE: &str = "\n[[cluster]]\nname = \"late\"\ndiscover = { file = \"none.toml\" }\n";

const NOTHING: &str = "endpoints: nothing new";

#[test]
fn what_is_asked_for_while_an_upgrade_is_under_way_waits_or_is_refused() {
    if direct() {
        return;
    }
    let kinds = [&chaos::REDIS, &chaos::HTTP];
    let servers = servers(&kinds);
    let mut rest = LATE.to_owned();
    rest += &all("redis", "protocol = \"redis\"", servers[0].address, "");
    rest += &all("http", "protocol = \"http\"", servers[1].address, "");
    let mut edge = Edge::start(&rest);
    let (admin, old) = (edge.admin, edge.pid());
    let mut crowds: Vec<Crowd> =
        kinds.iter().map(|kind| Crowd::start(kind, edge.address)).collect();
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    // It takes as long as we like.
    fs::copy(binary(), edge.folder.path().join("real")).expect("a copy of the binary");
    let gate = "echo waiting >&2; while [ ! -e go ]; do sleep 0.1; done; exec ./real \"$@\"";
    install_script(&edge.folder, gate);
    let from = edge.process.log().len();
    let first = edge.ask_for_upgrade();
    edge.told(from, "waiting");
    let second = edge.ask_for_upgrade();
    let refused = Edge::post(admin, "/api/upgrade");
    assert!(refused.contains("under way already") && refused.ends_with("409"), "{refused}");
    fs::write(edge.folder.path().join("go"), "").expect("a file");
    edge.told(from, NOTHING);
    // The new process knows nothing of this route.
    edge.add("added");
    kill_process(id(old), Signal::HUP).expect("sending SIGHUP");
    let asked = std::thread::spawn(move || Edge::post(admin, "/api/reload"));
    let (well, complaint) = Edge::hear(first);
    assert!(well, "{complaint}\n{}", edge.process.log());
    edge.pids.push(edge.pid());
    let (well, complaint) = Edge::hear(second);
    assert!(!well && complaint.contains("another upgrade was under way"), "{complaint}");
    // One after the other: refused by the old one, or done by the new one.
    let answer = asked.join().expect("an answer");
    assert!(answer.contains("has taken over") || answer.contains("reloaded"), "{answer}");
    edge.has("added");
    for crowd in &mut crowds {
        crowd.go_on(50);
    }
    for crowd in crowds {
        crowd.end_unmoved();
    }
    edge.wait_for_the_old();
    assert_eq!(edge.figure("upgrade_failures"), 0);
}

#[test]
fn a_process_that_is_told_to_stop_while_it_is_upgraded_leaves_no_other() {
    if direct() {
        return;
    }
    let server = chaos::REDIS.server();
    let rest = LATE.to_owned() + &all("redis", "protocol = \"redis\"", server.address, "");
    let mut edge = Edge::start(&rest);
    // As long as it waits, the old process does not end.
    let mut waiter = Raw::say(edge.address, command(&["BLPOP", "list", "0"]));
    let from = edge.process.log().len();
    let upgrade = edge.ask_for_upgrade();
    edge.told(from, NOTHING);
    edge.process.terminate();
    let (well, complaint) = Edge::hear(upgrade);
    assert!(!well && complaint.contains("the new process"), "{complaint}");
    let mut pusher = Raw::say(server.address, command(&["RPUSH", "list", "pushed"]));
    assert_eq!(pusher.until("\r\n"), ":1\r\n");
    assert!(waiter.until_closed().ends_with("pushed\r\n"));
    assert!(edge.process.wait().success(), "{}", edge.process.log());
    let start = Instant::now();
    while std::net::TcpStream::connect(edge.address).is_ok() {
        assert!(start.elapsed() < PATIENCE, "somebody goes on:\n{}", edge.process.log());
        sleep(Duration::from_millis(20));
    }
    assert!(!edge.folder.path().join("polyport.pid").exists(), "its pid file stays");
}

#[test]
fn a_reload_that_waited_for_an_upgrade_in_vain_is_done_by_the_old_process() {
    if direct() {
        return;
    }
    let server = chaos::HTTP.server();
    let rest = "\n[defaults]\nupgrade-timeout = \"3s\"\n".to_owned()
        + &all("http", "protocol = \"http\"", server.address, "");
    let edge = Edge::start(&rest);
    let mut crowd = Crowd::start(&chaos::HTTP, edge.address);
    crowd.go_on(50);
    install_script(&edge.folder, "echo waiting >&2; exec sleep 1000");
    let from = edge.process.log().len();
    let upgrade = edge.ask_for_upgrade();
    edge.told(from, "waiting");
    edge.add("added");
    edge.process.hang_up();
    let (well, complaint) = Edge::hear(upgrade);
    assert!(!well && complaint.contains("not ready within 3s"), "{complaint}");
    edge.has("added");
    let log = edge.process.log();
    let (failed, reloaded) = (log.find("upgrade failed"), log.find("reloaded"));
    assert!(failed.is_some() && failed < reloaded, "{log}");
    crowd.go_on(50);
    crowd.end_unmoved();
}

#[test]
fn an_upgrade_waits_for_a_reload_that_runs() {
    if direct() {
        return;
    }
    let server = chaos::HTTP.server();
    let mut edge = Edge::start(&all("http", "protocol = \"http\"", server.address, ""));
    let mut crowd = Crowd::start(&chaos::HTTP, edge.address);
    crowd.go_on(50);
    // A file that is not all there before we say so.
    let file = edge.folder.path().join("polyport.toml");
    let text = fs::read_to_string(&file).expect("the config");
    let slow = edge.folder.path().join("slow");
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(&slow);
    run("mkfifo", mkfifo);
    fs::rename(&slow, &file).expect("the config's place");
    let from = edge.process.log().len();
    edge.process.hang_up();
    // Returns when somebody reads it.
    let mut writing = fs::OpenOptions::new().write(true).open(&file).expect("a reader");
    let new = edge.folder.path().join("new.toml");
    fs::write(&new, &text).expect("the config");
    fs::rename(new, &file).expect("the config");
    let upgrade = edge.ask_for_upgrade();
    crowd.go_on(200);
    sleep(Duration::from_millis(500));
    let begins = "upgrade: starting the new process";
    assert!(!edge.process.log().contains(begins), "it did not wait");
    writing.write_all(text.replacen("[[route]]", &route("added"), 1).as_bytes()).expect("a reader");
    drop(writing);
    let (well, complaint) = Edge::hear(upgrade);
    assert!(well, "{complaint}\n{}", edge.process.log());
    edge.pids.push(edge.pid());
    let log = edge.process.log();
    let log = log.get(from..).expect("a log that grows");
    let (reloaded, began) = (log.find("reloaded"), log.find(begins));
    assert!(reloaded.is_some() && reloaded < began, "{log}");
    crowd.go_on(50);
    crowd.end_unmoved();
    edge.wait_for_the_old();
}

fn command(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

#[test]
fn a_client_keeps_what_it_set_up_and_what_it_began() {
    if direct() {
        return;
    }
    let server = chaos::REDIS.server();
    let rest = all("three", "protocol = \"redis\", db = 3", server.address, "")
        + &all("redis", "protocol = \"redis\"", server.address, "");
    let mut edge = Edge::start(&rest);
    let mut selected = Raw::connect(edge.address);
    let ask = |raw: &mut Raw, words: &[&str], due: &str| {
        raw.send(command(words));
        assert_eq!(raw.until(due.get(due.len() - 2..).unwrap()), due, "{words:?}");
    };
    ask(&mut selected, &["SELECT", "3"], "+OK\r\n");
    ask(&mut selected, &["CLIENT", "SETNAME", "keeper"], "+OK\r\n");
    ask(&mut selected, &["SET", "where", "three"], "+OK\r\n");
    // One in the middle of a message, one of a transaction, and one that waits for something.
    let mut half = Raw::connect(edge.address);
    half.send("*2\r\n$4\r\nECHO\r\n$5\r\nhe");
    let mut mute = Raw::connect(edge.address);
    mute.send("*1\r");
    let mut buyer = Raw::connect(edge.address);
    ask(&mut buyer, &["MULTI"], "+OK\r\n");
    ask(&mut buyer, &["SET", "bought", "yes"], "+QUEUED\r\n");
    let mut waiter = Raw::connect(edge.address);
    waiter.send(command(&["BLPOP", "list", "0"]));
    sleep(Duration::from_millis(300));
    edge.upgrade();
    for _ in 0..2 {
        ask(&mut selected, &["STRLEN", "where"], ":5\r\n");
        edge.upgrade();
    }
    selected.send(command(&["CLIENT", "GETNAME"]));
    assert_eq!(selected.until("keeper\r\n"), "$6\r\nkeeper\r\n");
    half.send("llo\r\n");
    assert_eq!(half.until("hello\r\n"), "$5\r\nhello\r\n");
    mute.send("\n$4\r\nPING\r\n");
    assert_eq!(mute.until("\r\n"), "+PONG\r\n");
    buyer.send(command(&["EXEC"]));
    assert_eq!(buyer.until("+OK\r\n"), "*1\r\n+OK\r\n");
    ask(&mut selected, &["RPUSH", "list", "x"], ":1\r\n");
    // It is in the other database.
    let mut pusher = Raw::connect(edge.address);
    ask(&mut pusher, &["RPUSH", "list", "pushed"], ":1\r\n");
    assert_eq!(waiter.until("pushed\r\n"), "*2\r\n$4\r\nlist\r\n$6\r\npushed\r\n");
    // All of them are with the new one by now, and go on.
    edge.wait_for_the_old();
    for raw in [&mut selected, &mut half, &mut mute, &mut buyer, &mut waiter] {
        ask(raw, &["PING"], "+PONG\r\n");
    }
}

/// A service manager that opens the socket: descriptor 3, then the program.
const ACTIVATOR: &str = "import os, socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1', int(sys.argv[1])))
listener.listen(64)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn a_service_manager_opens_the_sockets_and_hears_who_is_in_charge() {
    if direct() {
        return;
    }
    let server = chaos::REDIS.server();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let address = ports::free();
    let config = format!(
        "workers = 2\n[[listener]]\nname = \"edge\"\naddress = \"{address}\"\n{}",
        all("redis", "protocol = \"redis\"", server.address, "")
    );
    fs::write(folder.path().join("polyport.toml"), config).expect("writing the config");
    install(&folder);
    let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut heard = String::new();
    let mut wait_for = |due: &str| {
        let start = Instant::now();
        while !heard.lines().any(|line| line == due) {
            assert!(start.elapsed() < PATIENCE, "no {due} in {heard:?}");
            let mut bytes = [0; 4096];
            let len = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{due}: {error}"));
            heard += &String::from_utf8_lossy(&bytes[..len]);
            heard.push('\n');
        }
        std::mem::take(&mut heard)
    };
    let mut python = Command::new("python3");
    let program: PathBuf = folder.path().join("polyport");
    python.arg("-c").arg(ACTIVATOR).arg(address.port().to_string()).arg(&program);
    python.args(["run", "-c", "polyport.toml", "--pid-file", "pid"]).current_dir(folder.path());
    python.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "400000");
    let mut process = Process::start("polyport", python, folder.path());
    wait_for("READY=1");
    // It was connected to before Polyport ran; nobody else may listen there.
    let mut early = Raw::say(address, command(&["PING"]));
    assert_eq!(early.until("\r\n"), "+PONG\r\n");
    let rival = std::net::TcpListener::bind(address);
    assert!(rival.is_err(), "the socket was not the manager's");
    wait_for("WATCHDOG=1");
    install(&folder);
    let mut upgrade = Command::new(binary());
    upgrade.arg("upgrade").arg("--pid-file").arg(folder.path().join("pid"));
    let (status, _, complaint) = finish("polyport upgrade", upgrade);
    assert!(status.success(), "{complaint}");
    let pid = fs::read_to_string(folder.path().join("pid")).expect("a pid file");
    let pid: u32 = pid.trim().parse().expect("a process id");
    wait_for(&format!("MAINPID={pid}"));
    assert!(process.wait().success());
    early.send(command(&["PING"]));
    assert_eq!(early.until("\r\n"), "+PONG\r\n");
    // The successor is watched, too, and says when it goes.
    wait_for("WATCHDOG=1");
    kill_process(id(pid), Signal::TERM).expect("sending SIGTERM");
    drop(early);
    wait_for("STOPPING=1");
    let start = Instant::now();
    while runs(pid) {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        sleep(Duration::from_millis(20));
    }
    assert!(!folder.path().join("pid").exists(), "its pid file stays");
}
