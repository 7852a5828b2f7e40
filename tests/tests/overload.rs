//! A proxy that runs out of descriptors or memory, sources that open too many connections,
//! and a proxy that gives up root.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use polyport_codecs::dubbo::call::{Call, decode_reply};
use polyport_codecs::thrift::call::{Encoding, Message, Transport};
use polyport_tests::figures::figure;
use polyport_tests::process::finish;
use polyport_tests::proxy::binary;
use polyport_tests::{
    Authority, Backend, Config, DubboServer, Proxy, Raw, RedisServer, ThriftServer, direct, ports,
};
use rustix::net::{AddressFamily, SocketType};

const GET: &str = "GET /slow?ms=5 HTTP/1.1\r\nHost: a\r\n\r\n";

const LONG: Duration = Duration::from_secs(40);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn admin(config: Config) -> (Config, SocketAddr) {
    let address = ports::free();
    (config.section(&format!("[admin]\naddress = \"{address}\"")), address)
}

/// A connection from that address of the loopback.
fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).expect("binding");
    rustix::net::connect(&socket, &to).expect("connecting");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).expect("a read timeout");
    stream
}

/// Whether a request on it is answered; false where the connection is refused.
fn served(stream: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    let mut chunk = [0; 1024];
    if stream.write_all(GET.as_bytes()).is_err() {
        return false;
    }
    while !got.ends_with(b"slow") {
        match stream.read(&mut chunk) {
            Ok(len @ 1..) => got.extend_from_slice(&chunk[..len]),
            _ => return false,
        }
    }
    got.starts_with(b"HTTP/1.1 200")
}

#[test]
fn few_descriptors_serve_many_clients_one_after_the_other() {
    if direct() {
        return;
    }
    let server = Backend::start();
    let (config, admin) = admin(Config::new());
    let mut proxy = config
        .under(&["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .cluster("web", server.address, "")
        .route("web", "protocol = \"http\"", "web", "timeout = \"60s\"")
        .start();
    let address = proxy.address("http");
    let budget = figure(admin, "overload_descriptors_budget");
    assert!((8..60).contains(&budget), "{budget}");

    // One that was there before is served all the time.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut old = Raw::connect(address);
    old.send(GET);
    assert!(old.http_response().0.starts_with("HTTP/1.1 200"));
    let (stopped, count) = (stop.clone(), asked.clone());
    let old = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            old.send(GET);
            let (head, _) = old.http_response();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Three times as many as there is room for: the kernel holds who must wait.
    let mut many: Vec<Raw> = (0..150).map(|_| Raw::say(address, GET)).collect();
    for (at, client) in many.iter_mut().enumerate() {
        let (head, body) = client.http_response();
        assert!(head.starts_with("HTTP/1.1 200") && body == "slow", "{at}: {head}");
        // The admin's reserve is there at any time.
        if at % 50 == 0 {
            assert!(figure(admin, "overload_descriptors") <= budget);
        }
    }
    assert!(figure(admin, "overload_accept_pauses_total") > 0);
    assert!(figure(admin, "downstream_connections_relieved_total") > 50);
    stop.store(true, Ordering::Relaxed);
    old.join().expect("the old client is served");
    assert!(asked.load(Ordering::Relaxed) > 1);
    drop(many);
    until("calm", || figure(admin, "overload_level") == 0);
    let mut new: Vec<Raw> = (0..5).map(|_| Raw::say(address, GET)).collect();
    assert!(new.iter_mut().all(|client| client.http_response().0.starts_with("HTTP/1.1 200")));
    proxy.assert_alive();
    let log = proxy.process().expect("a proxy").log();
    assert!(log.contains("no connections are accepted") && log.contains("less load"), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
}

/// A server whose replies never end.
fn endless() -> SocketAddr {
    let listener = TcpListener::bind(ports::free()).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut heard = [0; 1024];
                let _ = stream.read(&mut heard);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            });
        }
    });
    address
}

fn dubbo_call() -> Vec<u8> {
    let mut out = Vec::new();
    let method = "stats";
    Call { id: 1, interface: "com.polyport.Echo", method, ..Call::default() }.encode(&mut out);
    out
}

fn thrift_call() -> Vec<u8> {
    let mut out = Vec::new();
    let (transport, encoding) = (Transport::Framed, Encoding::Binary);
    let (name, body) = (&b"nothing"[..], &[0][..]);
    Message { transport, encoding, kind: 1, name, seqid: 7, headers: &[], body }.encode(&mut out);
    out
}

/// A client that asks again and again, so that it is never idle.
struct Asker {
    refused: Arc<AtomicU64>,
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Asker {
    /// `is_refused` reads a reply, and says whether it is a refusal.
    fn start(address: SocketAddr, request: Vec<u8>, is_refused: fn(&mut Raw) -> bool) -> Self {
        let counts: [Arc<AtomicU64>; 2] = Default::default();
        let stop = Arc::new(AtomicBool::new(false));
        let ([refused, served], stopped) = (counts.clone(), stop.clone());
        let mut raw = Raw::connect(address);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                raw.send(&request);
                let count = if is_refused(&mut raw) { &refused } else { &served };
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let [refused, served] = counts;
        Self { refused, served, stop, thread: Some(thread) }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("every reply is one of the two");
    }
}

#[test]
fn without_memory_requests_are_refused_in_their_protocols_words_and_all_is_well_after() {
    if direct() {
        return;
    }
    let (web, redis, dubbo) = (Backend::start(), RedisServer::start(), DubboServer::start());
    let thrift = ThriftServer::start("threaded", &["framed/binary"]);
    let (config, admin) = admin(Config::busy());
    let mut proxy = config
        .cluster("endless", endless(), "")
        .cluster("web", web.address, "")
        .cluster("redis", redis.address, "")
        .cluster("dubbo", dubbo.address, "")
        .cluster("thrift", thrift.address(), "")
        .route("endless", "path = \"/endless\"", "endless", "")
        .route("web", "protocol = \"http\"", "web", "")
        .route("redis", "protocol = \"redis\"", "redis", "")
        .route("dubbo", "protocol = \"dubbo\"", "dubbo", "")
        .route("thrift", "protocol = \"thrift\"", "thrift", "")
        .section("[overload]\nmemory = \"128MiB\"\n[limits]\nbuffer = \"4MiB\"")
        .section("[defaults]\nwrite-timeout = \"10m\"\nstream-timeout = \"10m\"")
        .start();
    let address = proxy.address("http");
    let askers = [
        Asker::start(address, GET.into(), |raw| {
            let (head, _) = raw.http_response();
            assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 503"), "{head}");
            head.starts_with("HTTP/1.1 503")
        }),
        Asker::start(address, b"INCR asked\r\n".into(), |raw| {
            let line = raw.until("\r\n");
            assert!(line.starts_with(':') || line.starts_with("-BUSY "), "{line}");
            line.starts_with('-')
        }),
        Asker::start(address, dubbo_call(), |raw| {
            let mut message = raw.bytes(16);
            let len = u32::from_be_bytes(message[12..].try_into().expect("four bytes"));
            message.extend(raw.bytes(len as usize));
            match decode_reply(&message).expect("a reply").status {
                20 => false,
                100 => true,
                other => panic!("status {other}"),
            }
        }),
        Asker::start(address, thrift_call(), |raw| {
            let frame = raw.frame();
            // A reply, or an exception.
            assert!(matches!(frame[4..8], [0x80, 1, 0, 2 | 3]), "{frame:x?}");
            frame[7] == 3 && String::from_utf8_lossy(&frame).contains("overloaded")
        }),
    ];
    let all = |count: fn(&Asker) -> &AtomicU64| {
        let before: Vec<u64> =
            askers.iter().map(|asker| count(asker).load(Ordering::Relaxed)).collect();
        until("an answer of that sort to every protocol", || {
            let ended = askers.iter().any(|a| a.thread.as_ref().is_some_and(|t| t.is_finished()));
            assert!(!ended, "a client was cut");
            let now = askers.iter().map(|asker| count(asker).load(Ordering::Relaxed));
            now.zip(&before).all(|(now, before)| now > *before)
        });
    };
    all(|asker| &asker.served);
    let none = |asker: &Asker| asker.refused.load(Ordering::Relaxed) == 0;
    assert!(askers.iter().all(none), "calm refuses nothing");

    let slow: Vec<Raw> =
        (0..60).map(|_| Raw::say(address, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    all(|asker| &asker.refused);
    assert!(figure(admin, "requests_shed_total") >= 4);
    until("the last step", || figure(admin, "overload_level") == 3);
    // A new one waits in the kernel for its turn.
    let mut new = Raw::say(address, GET);
    new.assert_silent(Duration::from_millis(300));

    drop(slow);
    assert!(new.http_response().0.starts_with("HTTP/1.1 "));
    until("calm", || figure(admin, "overload_level") == 0);
    all(|asker| &asker.served);
    for asker in askers {
        asker.stop();
    }
    proxy.assert_alive();
}

/// A proxy that lets each source have three connections.
fn three(more: &str, listener: &str) -> (Proxy, SocketAddr, Backend) {
    let server = Backend::start();
    let (config, admin) = admin(Config::busy());
    let proxy = config
        .listener(listener)
        .cluster("web", server.address, "")
        .route("web", "protocol = \"http\"", "web", "")
        .section(&format!("[overload]\nper-source = 3\n{more}"))
        .start();
    (proxy, admin, server)
}

#[test]
fn a_source_has_so_many_connections_and_others_have_theirs() {
    if direct() {
        return;
    }
    let (mut proxy, admin, _server) = three("trusted = [\"127.0.0.9\"]", "");
    let address = proxy.address("http");
    // Over two workers: they count together.
    let mut own: Vec<TcpStream> = (0..3).map(|_| from([127, 0, 0, 2], address)).collect();
    assert!(own.iter_mut().all(served));
    for _ in 0..10 {
        assert!(!served(&mut from([127, 0, 0, 2], address)));
    }
    assert!(own.iter_mut().all(served), "those that it has go on");
    let mut other: Vec<TcpStream> = (0..3).map(|_| from([127, 0, 0, 3], address)).collect();
    assert!(other.iter_mut().all(served), "another source");
    let mut trusted: Vec<TcpStream> = (0..20).map(|_| from([127, 0, 0, 9], address)).collect();
    assert!(trusted.iter_mut().all(served), "a trusted network");
    assert_eq!(figure(admin, "connections_refused_by_source_total"), 10);
    own.pop();
    until("its place is free again", || served(&mut from([127, 0, 0, 2], address)));
    let log = proxy.process().expect("a proxy").log();
    let told = log.lines().filter(|line| line.contains("their source has too many"));
    let told: Vec<&str> = told.collect();
    assert!(told.len() == 1 && told[0].contains("127.0.0.2"), "{log}");
}

#[test]
fn the_source_is_the_one_that_a_proxy_header_names() {
    if direct() {
        return;
    }
    let (proxy, _, _server) = three("", "proxy-protocol = \"required\"");
    let address = proxy.address("http");
    let client = |source: &str| {
        let mut stream = TcpStream::connect(address).expect("connecting");
        stream.set_read_timeout(Some(LONG)).expect("a read timeout");
        let header = format!("PROXY TCP4 {source} 127.0.0.1 1000 80\r\n");
        stream.write_all(header.as_bytes()).expect("a header");
        stream
    };
    let mut own: Vec<TcpStream> = (0..3).map(|_| client("192.0.2.1")).collect();
    assert!(own.iter_mut().all(served));
    assert!(!served(&mut client("192.0.2.1")));
    let mut others: Vec<TcpStream> = (2..10).map(|n| client(&format!("192.0.2.{n}"))).collect();
    assert!(others.iter_mut().all(served), "all of them come from one balancer");
}

#[test]
fn a_stream_s_connection_counts_once_and_tls_is_refused_before_its_handshake() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let certificate = authority.server("edge.test");
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml());
    let (proxy, _, _server) = three("", &format!("{tls}\ndetect-timeout = \"100s\""));
    let address = proxy.address("http");
    let url = format!("https://edge.test:{}/slow?ms=5", address.port());
    let resolve = format!("edge.test:{}:{}", address.port(), address.ip());
    let ca = authority.ca();
    let curl = |source: &str| {
        // Twenty streams of one connection.
        let mut command = polyport_tests::peers::curl_command(&[
            "-sS",
            "--http2",
            "--parallel",
            "--parallel-max",
            "20",
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "--interface",
            source,
        ]);
        for _ in 0..20 {
            command.arg(&url).args(["-o", "/dev/null"]);
        }
        finish("curl", command).0.success()
    };
    let mut held: Vec<TcpStream> = (0..2).map(|_| from([127, 0, 0, 4], address)).collect();
    assert!(curl("127.0.0.4"), "one connection more may be");
    // Until its end is noticed, there is no place for another.
    until("its place is free again", || {
        let mut third = from([127, 0, 0, 4], address);
        third.set_read_timeout(Some(Duration::from_millis(300))).expect("a read timeout");
        let alive = third.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if alive {
            held.push(third);
        }
        alive
    });
    assert!(!curl("127.0.0.4"), "and two may not");
    assert!(curl("127.0.0.5"));
}

/// What `/proc` says of each thread of a process.
fn threads(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    tasks
        .map(|task| std::fs::read_to_string(task.expect("a thread").path().join("status")))
        .map(|status| status.expect("its status"))
        .collect()
}

#[test]
fn root_is_given_up_once_the_ports_are_bound() {
    if direct() {
        return;
    }
    let server = Backend::start();
    let low: SocketAddr = ([127, 8, 1, 81], 81).into();
    let identity = "user = \"nobody\"\ngroup = \"daemon\"\n";
    if !rustix::process::geteuid().is_root() {
        refused(identity, "only root can");
        return;
    }
    let (config, admin) = admin(Config::busy().top(identity));
    let mut proxy = config
        .section(&format!("[[listener]]\nname = \"low\"\naddress = \"{low}\""))
        .cluster("web", server.address, "")
        .route("web", "protocol = \"http\"", "web", "")
        .start();
    // Not for others to dial, but a number for the process to be known by.
    let pid = pid_of(&proxy);
    let all = threads(&pid);
    assert!(all.len() >= 3, "{}", all.len());
    let words = |status: &str, key: &str| -> Vec<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
        line.split_whitespace().map(str::to_owned).collect()
    };
    let group = std::fs::read_to_string("/etc/group").expect("the groups");
    let daemon = group.lines().find_map(|line| line.strip_prefix("daemon:x:"));
    let daemon = daemon.and_then(|rest| rest.split(':').next()).expect("the group daemon");
    for status in &all {
        assert_eq!(words(status, "Uid:"), ["65534"; 4], "{status}");
        assert_eq!(words(status, "Gid:"), [daemon; 4], "{status}");
        assert!(!words(status, "Groups:").contains(&"0".to_owned()), "{status}");
        for rights in ["CapPrm:", "CapEff:"] {
            assert_eq!(words(status, rights), ["0000000000000000"], "{status}");
        }
        assert_eq!(words(status, "NoNewPrivs:"), ["1"], "{status}");
    }
    // It serves as it did, at the low port, too, and still knows its own size.
    assert!(Raw::say(low, GET).http_response().0.starts_with("HTTP/1.1 200"));
    until("its memory", || figure(admin, "overload_memory_bytes") > 1 << 20);
    assert!(figure(admin, "overload_descriptors_budget") > 100);
    proxy.terminate();
    assert!(proxy.wait().expect("a proxy").success());
}

fn pid_of(proxy: &Proxy) -> String {
    let config = proxy.config().display().to_string();
    let all = std::fs::read_dir("/proc").expect("/proc");
    let mut names = all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = names.find(|name| {
        let line = std::fs::read_to_string(format!("/proc/{name}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == config)
    });
    found.expect("the process")
}

/// Starting with this identity fails, and the words are said.
fn refused(identity: &str, words: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("polyport.toml");
    let address = ports::free();
    let text = format!(
        "{identity}workers = 1\n[[listener]]\nname = \"edge\"\naddress = \"{address}\"\n\
         [[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n\
         [[route]]\nto = \"a\"\n"
    );
    std::fs::write(&file, text).expect("a config");
    let mut command = std::process::Command::new(binary());
    command.arg("run").arg("-c").arg(&file);
    let (status, _, said) = finish("polyport", command);
    assert!(!status.success() && said.contains(words), "{status}: {said}");
    let source: IpAddr = address.ip();
    assert!(TcpStream::connect((source, address.port())).is_err(), "nothing listens");
}

#[test]
fn a_user_who_is_not_there_is_an_error() {
    if !direct() {
        refused("user = \"no-such-user\"\n", "there is no user `no-such-user` on this system");
    }
}
