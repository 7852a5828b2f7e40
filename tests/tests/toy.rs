//! Adding a protocol touches codecs only: a line protocol that Polyport has
//! never heard of, written here, outside of all its crates, and registered by one
//! call, is detected, routed by its own key, multiplexed and answered for on
//! the port that takes the built-in ones.
//!
//! ```text
//! echo: 0000002a hello world      a request: its id in hexadecimal, and a text
//! back: 0000002a hello world      its reply
//! fail: 0000002a no route         an error
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use polyport_codecs::{
    After, CERTAIN, Codec, DecodeError, Decoder, ErrorKind, Exchange, Fault, Head, Interest,
    KeySpec, Kind, Limits, Metadata, Probe, Protocol, Registry, ReplyTo, Side, Slot, Step,
};
use polyport_tests::{Raw, RedisServer, ports};

/// `echo: ` before the id, eight digits of id, a blank.
const ID: std::ops::Range<usize> = 6..14;
const TEXT: usize = 15;

/// The protocol: all that Polyport needs to know.
struct Toy;

impl Protocol for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        let magic = b"echo: ";
        let seen = prefix.len().min(magic.len());
        match prefix[..seen] == magic[..seen] {
            false => Probe::No,
            true if seen == magic.len() => Probe::Yes { confidence: CERTAIN },
            true => Probe::Maybe { need: magic.len() },
        }
    }

    fn exchange(&self) -> Exchange {
        Exchange::Correlated
    }

    fn keys(&self) -> &'static [KeySpec] {
        const KEYS: &[KeySpec] = &[KeySpec::key("word", "the text's first word", "hello")];
        KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        Arc::new(ToyCodec { longest: limits.whole, word: interest.slot("word") })
    }

    fn id_bits(&self) -> u32 {
        32
    }

    fn set_correlation(&self, head: &mut [u8], id: u64) {
        if let Some(place) = head.get_mut(ID) {
            place.copy_from_slice(format!("{id:08x}").as_bytes());
        }
    }

    fn local_reply(&self, to: ReplyTo, _: &[u8], _: Fault, why: &str, out: &mut Vec<u8>) -> After {
        out.extend_from_slice(format!("fail: {:08x} {why}\n", to.id).as_bytes());
        After::Keep
    }
}

struct ToyCodec {
    longest: usize,
    word: Option<Slot>,
}

impl Codec for ToyCodec {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(ToyDecoder { side, longest: self.longest, word: self.word })
    }
}

struct ToyDecoder {
    side: Side,
    longest: usize,
    word: Option<Slot>,
}

impl Decoder for ToyDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        let Some(end) = buf.iter().position(|byte| *byte == b'\n') else {
            if buf.len() >= self.longest {
                let why = "a line without an end";
                return Err(DecodeError::new("toy", ErrorKind::TooLarge, buf.len(), why));
            }
            return Ok(Step::Need(buf.len() + 1));
        };
        let digits = buf.get(ID).filter(|_| end >= TEXT);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(id) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return Err(DecodeError::new("toy", ErrorKind::Malformed, ID.start, "no id"));
        };
        meta.clear();
        if let Some(slot) = self.word {
            let text = &buf[TEXT..end];
            let word = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
            meta.set_span(slot, TEXT, word);
        }
        let kind = if self.side == Side::Request { Kind::Request } else { Kind::Response };
        Ok(Step::Head(Head { reply_to: ReplyTo { id, token: 0 }, ..Head::whole(kind, end + 1) }))
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if unread.is_empty() {
            return Ok(false);
        }
        Err(DecodeError::new("toy", ErrorKind::Truncated, unread.len(), "half a line"))
    }
}

/// A server of it: says its name and the text, each reply in a thread of its own,
/// later ones sooner. Counts its connections.
struct ToyServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl ToyServer {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind(ports::free()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::Relaxed);
                spawn(move || serve(name, &stream));
            }
        });
        Self { address, connections }
    }
}

fn serve(name: &str, stream: &TcpStream) {
    let writer = Arc::new(Mutex::new(stream.try_clone().expect("a second handle")));
    for (number, line) in BufReader::new(stream).lines().map_while(Result::ok).enumerate() {
        let (id, text) = (line[ID].to_owned(), line[TEXT..].to_owned());
        let (name, writer) = (name.to_owned(), Arc::clone(&writer));
        spawn(move || {
            sleep(Duration::from_millis(if number % 2 == 0 { 20 } else { 0 }));
            let reply = format!("back: {id} {name} {text}\n");
            // Nobody to answer any more is no concern of the server's.
            let _ = writer.lock().expect("the writer").write_all(reply.as_bytes());
        });
    }
}

#[test]
fn a_protocol_from_outside_is_routed_like_any_other() {
    static TOY: Toy = Toy;
    let (left, right, redis) =
        (ToyServer::start("left"), ToyServer::start("right"), RedisServer::start());
    let config = format!(
        r#"
workers = 1
[[listener]]
name = "edge"
address = "127.0.0.1:0"
[[cluster]]
name = "left"
endpoints = ["{}"]
[[cluster]]
name = "right"
endpoints = ["{}"]
[[cluster]]
name = "redis"
endpoints = ["{}"]
[[route]]
name = "left"
match = {{ protocol = "toy", word = {{ prefix = "l" }} }}
to = "left"
[[route]]
name = "right"
match = {{ protocol = "toy", word = "right" }}
to = "right"
[[route]]
name = "redis"
match = {{ protocol = "redis" }}
to = "redis"
"#,
        left.address, right.address, redis.address
    );
    let registry = Registry::builtin().with(&TOY);
    let (snapshot, _) =
        polyport::config::compile(&config, "toy.toml", &registry).expect("a config that compiles");
    let proxy = polyport::Proxy::start(Arc::new(snapshot)).expect("a proxy that starts");
    let address = proxy.addresses()[0];

    // Two clients with the same ids on shared connections; every one gets his own.
    let mut clients = [Raw::connect(address), Raw::connect(address)];
    for (number, client) in clients.iter_mut().enumerate() {
        let requests: Vec<String> = (0..50)
            .map(|id| {
                let word = ["left", "right", "nowhere"][id % 3];
                format!("echo: {id:08x} {word} of {number}\n")
            })
            .collect();
        client.send(requests.concat());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut replies: Vec<String> = (0..50).map(|_| client.until("\n")).collect();
        replies.sort_by_key(|line| line[ID].to_owned());
        for (id, reply) in replies.iter().enumerate() {
            let start = match id % 3 {
                0 => format!("back: {id:08x} left left of {number}\n"),
                1 => format!("back: {id:08x} right right of {number}\n"),
                _ => format!("fail: {id:08x} "),
            };
            assert!(reply.starts_with(&start), "{reply:?} is not {start:?}");
        }
    }
    for server in [&left, &right] {
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "connections are shared");
    }
    // Beside it, on the same port, a protocol that was there before.
    let mut raw = Raw::say(address, "*1\r\n$4\r\nPING\r\n");
    assert_eq!(raw.until("\r\n"), "+PONG\r\n");
    drop((raw, clients));
    proxy.stop();
}

/// The checks that every built-in codec passes hold for anybody's.
#[test]
fn every_split_of_its_stream_gives_the_same_messages() {
    let codec = Toy.compile(&Limits::default(), &Interest::of(["word"]));
    let stream = b"echo: 00000001 one two\necho: 000000ff three\necho: 00000002 \n";
    let words = |cuts: &[usize]| {
        let mut decoder = codec.decoder(Side::Request);
        let mut meta = Metadata::new(&Interest::of(["word"]));
        let (mut from, mut heads) = (0, Vec::new());
        for &to in cuts {
            while let Step::Head(head) =
                decoder.decode(&stream[from..to], &mut meta).expect("a good stream")
            {
                let word = meta.view(&stream[from..to]).get(Slot(0)).map(<[u8]>::to_vec);
                heads.push((head, word));
                from += head.len;
            }
        }
        assert_eq!(from, stream.len());
        heads
    };
    let whole = words(&[stream.len()]);
    assert_eq!(whole.len(), 3);
    for cut in 0..stream.len() {
        assert_eq!(words(&[cut, stream.len()]), whole, "cut at {cut}");
    }
}
