//! Ten thousand routes, and one more: whoever is answered meanwhile does not notice.
//!
//! Every answer tells by which route it came: another server for Redis, something that the
//! route has set for HTTP and Dubbo.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use polyport_codecs::dubbo::call::Call;
use polyport_tests::peers::redis_cli;
use polyport_tests::{Config, DubboServer, Nginx, PATIENCE, Proxy, Raw, RedisServer, direct};

/// So many of each.
const ROUTES: [(Kind, usize); 3] = [(Kind::Redis, 4000), (Kind::Http, 3000), (Kind::Dubbo, 3000)];

/// Redis servers; routes take them in turn.
const SERVERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    Http,
    Dubbo,
}

impl Kind {
    /// A route for messages that ask for `what`, as a table of the config.
    fn route(self, what: &str, server: usize) -> String {
        let (matches, to) = match self {
            Self::Redis => (format!("protocol = \"redis\", key = \"{what}\""), server),
            Self::Http => (format!("protocol = \"http\", path = \"/r/{what}\""), SERVERS),
            Self::Dubbo => {
                (format!("protocol = \"dubbo\", attachment.what = \"{what}\""), SERVERS + 1)
            }
        };
        self.table(what, &matches, to, what)
    }

    /// For all other messages.
    fn rest(self) -> String {
        let (protocol, to) = match self {
            Self::Redis => ("redis", 0),
            Self::Http => ("http", SERVERS),
            Self::Dubbo => ("dubbo", SERVERS + 1),
        };
        self.table(&format!("{protocol} else"), &format!("protocol = \"{protocol}\""), to, "else")
    }

    fn table(self, name: &str, matches: &str, to: usize, mark: &str) -> String {
        let mut text = format!(
            "[[route]]\nname = \"{self:?} {name}\"\nmatch = {{ {matches} }}\nto = \"cluster-{to}\"\n"
        );
        let field = match self {
            Self::Redis => return text + "\n",
            Self::Http => "header.x-mark",
            Self::Dubbo => "attachment.mark",
        };
        let _ = writeln!(text, "request = {{ set = {{ \"{field}\" = \"({mark})\" }} }}\n");
        text
    }

    fn ask(self, what: &str, out: &mut Vec<u8>) {
        let text = match self {
            Self::Redis => format!("*2\r\n$3\r\nGET\r\n${}\r\n{what}\r\n", what.len()),
            Self::Http => format!("GET /r/{what} HTTP/1.1\r\nHost: many.test\r\n\r\n"),
            Self::Dubbo => {
                let (interface, method, arguments) = ("com.polyport.Echo", "echo", &["x"][..]);
                let attachments = &[("what", what)][..];
                let id = out.len() as u64;
                Call { id, interface, method, arguments, attachments, ..<_>::default() }
                    .encode(out);
                return;
            }
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// By which route the next answer came: the server's number, or what the route has set.
    fn hear(self, raw: &mut Raw) -> String {
        match self {
            Self::Redis => {
                assert_eq!(raw.until("\r\n"), "$1\r\n");
                raw.until("\r\n").trim_end().to_owned()
            }
            Self::Http => {
                let (head, body) = raw.http_response();
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                body
            }
            Self::Dubbo => {
                let head = raw.bytes(16);
                assert_eq!(head[3], 20, "a reply that is no success: {head:x?}");
                let len = u32::from_be_bytes(*head.last_chunk().expect("a length"));
                let body = raw.bytes(len as usize);
                let text = String::from_utf8_lossy(&body);
                let mark = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
                format!("({})", mark.unwrap_or_else(|| panic!("no mark: {text}")).0)
            }
        }
    }

    /// What an answer that came by this route tells.
    fn due(self, what: &str, server: usize) -> String {
        match self {
            Self::Redis => server.to_string(),
            _ => format!("({what})"),
        }
    }

    fn due_else(self) -> String {
        self.due("else", 0)
    }
}

/// Routes `0`, `1`, ... of a kind lead to these servers.
fn server_of(number: usize) -> usize {
    number % SERVERS
}

/// What clients have seen: how many answers, and how long the slowest took, in µs.
#[derive(Default)]
struct Seen {
    answers: [AtomicU64; 3],
    slowest: AtomicU64,
}

/// Clients that ask for all that there are routes for, in no order, at a steady pace.
struct Clients {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(to: SocketAddr) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Seen>::default());
        let thread = |number: usize| {
            let (stop, seen) = (stop.clone(), seen.clone());
            spawn(move || client(to, number, &stop, &seen))
        };
        let threads = (0..6).map(thread).collect();
        Self { stop, seen, threads }
    }

    /// Waits until each kind has been answered so many times more.
    fn go_on(&self, more: u64) {
        let (start, seen) = (Instant::now(), &self.seen.answers);
        let before: Vec<u64> = seen.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let slow = || {
            let mut both = seen.iter().zip(&before);
            both.any(|(now, before)| now.load(Ordering::Relaxed) < before + more)
        };
        while slow() {
            let alive = self.threads.iter().all(|thread| !thread.is_finished());
            assert!(alive && start.elapsed() < PATIENCE, "a client was answered wrongly, or not");
            sleep(Duration::from_millis(10));
        }
    }

    /// The slowest answer since this was last asked.
    fn slowest(&self) -> Duration {
        Duration::from_micros(self.seen.slowest.swap(0, Ordering::Relaxed))
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("every answer by its route");
        }
    }
}

fn client(to: SocketAddr, number: usize, stop: &AtomicBool, seen: &Seen) {
    let (kind, count) = ROUTES[number % 3];
    let mut raw = Raw::connect(to);
    let mut at = number * 7919;
    while !stop.load(Ordering::Relaxed) {
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            at = (at + 104_729) % count;
            kind.ask(&at.to_string(), &mut bytes);
            asked.push(at);
        }
        let began = Instant::now();
        raw.send(&bytes);
        // Answers of Dubbo need not come in order.
        let mut heard: Vec<String> = asked.iter().map(|_| kind.hear(&mut raw)).collect();
        seen.slowest.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        let mut due: Vec<String> =
            asked.iter().map(|at| kind.due(&at.to_string(), server_of(*at))).collect();
        if kind == Kind::Dubbo {
            heard.sort();
            due.sort();
        }
        assert_eq!(heard, due, "{kind:?}");
        seen.answers[number % 3].fetch_add(4, Ordering::Relaxed);
        sleep(Duration::from_millis(2));
    }
}

/// Redis servers that have, for every key, their own number.
fn redis_servers(added: usize) -> Vec<RedisServer> {
    let fill = "for i = 0, 3999 do redis.call('SET', i, ARGV[1]) end \
                for i = 0, tonumber(ARGV[2]) do redis.call('SET', 'new-'..i, ARGV[1]) end";
    let start = |number: usize| {
        let server = RedisServer::start();
        let (number, added) = (number.to_string(), added.to_string());
        redis_cli(server.address, &["EVAL", fill, "0", &number, &added]);
        server
    };
    (0..SERVERS).map(start).collect()
}

fn log(proxy: &mut Proxy) -> String {
    proxy.process().expect("a proxy").log()
}

/// Reloads a config, which must be taken.
fn reload(proxy: &mut Proxy, file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(&new, file).expect("renamed");
    let before = log(proxy).len();
    let start = Instant::now();
    proxy.process().expect("a proxy").hang_up();
    loop {
        let log = log(proxy);
        let told = log.get(before..).unwrap_or_default();
        assert!(!told.contains("stays"), "{told}");
        if told.contains("reloaded") {
            assert!(told.contains("1 added, 0 removed, 0 changed"), "{told}");
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no reload:\n{log}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_route_added_to_ten_thousand_disturbs_nobody() {
    const ADDED: usize = 6;
    if direct() {
        return;
    }
    let (redis, dubbo) = (redis_servers(ADDED), DubboServer::start());
    let nginx = Nginx::with("location /r/ { return 200 \"$http_x_mark\"; }", "");
    let mut config = Config::busy();
    let addresses = redis.iter().map(|server| server.address).chain([nginx.address, dubbo.address]);
    for (number, address) in addresses.enumerate() {
        config = config.cluster(&format!("cluster-{number}"), address, "");
    }
    let mut all: Vec<String> = Vec::new();
    for (kind, count) in ROUTES {
        all.extend((0..count).map(|at| kind.route(&at.to_string(), server_of(at))));
    }
    let rest: String = ROUTES.iter().map(|(kind, _)| kind.rest()).collect();
    let mut proxy = config.section(&all.concat()).section(&rest).start();
    let (address, file) = (proxy.address("redis"), proxy.config());
    let text = fs::read_to_string(&file).expect("the config");
    let (head, _) = text.split_once("[[route]]").expect("routes");
    let clients = Clients::start(address);
    clients.go_on(200);
    clients.slowest();
    clients.go_on(1000);
    let quiet = clients.slowest();

    let mut slowest = Duration::ZERO;
    for round in 0..ADDED {
        let (kind, _) = ROUTES[round % 3];
        let (what, server) = (format!("new-{round}"), 1 + round % (SERVERS - 1));
        let mut question = Vec::new();
        kind.ask(&what, &mut question);
        // Of connections that are there already, so that both workers have some.
        let mut open: Vec<Raw> = (0..8).map(|_| Raw::connect(address)).collect();
        for raw in &mut open {
            raw.send(&question);
            assert_eq!(kind.hear(raw), kind.due_else(), "{kind:?}");
        }
        let place = [0, all.len() / 2, all.len()][round / 2];
        all.insert(place, kind.route(&what, server));
        reload(&mut proxy, &file, &[head, &all.concat(), &rest].concat());
        let (start, due) = (Instant::now(), kind.due(&what, server));
        for raw in &mut open {
            // A worker hears of it when it gets to it; from then on it holds.
            let mut hear = || {
                raw.send(&question);
                kind.hear(raw)
            };
            while hear() != due {
                assert!(start.elapsed() < PATIENCE, "the new route does not hold");
            }
            for _ in 0..20 {
                assert_eq!(hear(), due, "{kind:?}");
            }
        }
        clients.go_on(200);
        slowest = slowest.max(clients.slowest());
    }
    clients.end();
    proxy.assert_alive();
    println!("slowest answer: {quiet:?} in quiet, {slowest:?} while routes were added");
}
