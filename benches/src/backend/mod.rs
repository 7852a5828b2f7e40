//! The servers behind the proxies: a real redis-server, and for all other
//! protocols servers that do no more than the protocol asks, so that they take
//! little of the core that they share with the load generator.

pub mod bolt;
pub mod dubbo;
pub mod http;
pub mod late;
pub mod mqtt;
pub mod redis;
pub mod thrift;

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::load;
use crate::process::{Program, Server, free_address};

/// All backends, up.
#[derive(Debug)]
pub struct Backends {
    /// Where redis-server listens.
    pub redis: SocketAddr,
    /// Where the Dubbo echo server listens.
    pub dubbo: SocketAddr,
    /// Where the Thrift echo server listens.
    pub thrift: SocketAddr,
    /// Where the Bolt echo server listens.
    pub bolt: SocketAddr,
    /// Where the MQTT broker listens.
    pub mqtt: SocketAddr,
    /// Where the HTTP/1.1 server listens, for clients of HTTP/2 too.
    pub http: SocketAddr,
    redis_server: Option<Server>,
}

impl Backends {
    /// Starts them on the caller's core; redis-server only where `with_redis`.
    pub fn start(dir: &Path, with_redis: bool) -> Result<Self> {
        let redis = free_address()?;
        let redis_server = if with_redis { Some(redis_server(redis, dir)?) } else { None };
        Ok(Self {
            redis,
            dubbo: spawn(dubbo::serve)?,
            thrift: spawn(thrift::serve)?,
            bolt: spawn(bolt::serve)?,
            mqtt: spawn(mqtt::serve)?,
            http: spawn(http::serve)?,
            redis_server,
        })
    }

    /// Fails where one has ended.
    pub fn check(&mut self) -> Result<()> {
        self.redis_server.as_mut().map_or(Ok(()), Server::check)
    }
}

fn redis_server(address: SocketAddr, dir: &Path) -> Result<Server> {
    let port = address.port().to_string();
    let args: Vec<OsString> =
        ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]
            .map(OsString::from)
            .into();
    let server = Server::start("redis-server", &Program::named("redis-server"), &args, None, dir)?
        .ready(address)?;
    load::redis::seed(address)?;
    Ok(server)
}

/// Appends the replies to what is complete at the start of the buffer; how many
/// bytes were used. An error closes the connection.
pub type Serve = fn(&[u8], &mut Vec<u8>) -> std::result::Result<usize, &'static str>;

struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    out: Vec<u8>,
}

/// Serves on a thread of its own until the process ends; the address.
fn spawn(serve: Serve) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, Token(usize::MAX - 1), Interest::READABLE)?;
    std::thread::spawn(move || {
        if let Err(error) = turn(&listener, poll, serve) {
            eprintln!("a backend failed: {error}");
        }
    });
    Ok(address)
}

fn turn(listener: &TcpListener, mut poll: Poll, serve: Serve) -> std::io::Result<()> {
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 << 10];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let at = event.token().0;
            let Some(place) = peers.get_mut(at) else {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let at = free.pop().unwrap_or(peers.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(at), both)?;
                    let peer = Some(Peer { stream, unread: Vec::new(), out: Vec::new() });
                    match peers.get_mut(at) {
                        Some(place) => *place = peer,
                        None => peers.push(peer),
                    }
                }
                continue;
            };
            let Some(peer) = place else { continue };
            if !peer.turn(&mut scratch, serve) {
                *place = None;
                free.push(at);
            }
        }
    }
}

impl Peer {
    /// Reads, serves and writes as far as it goes; false at the connection's end.
    fn turn(&mut self, scratch: &mut [u8], serve: Serve) -> bool {
        loop {
            let got = match self.stream.read(scratch) {
                Ok(0) => return false,
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            };
            self.unread.extend_from_slice(&scratch[..got]);
            let mut used = 0;
            loop {
                match serve(&self.unread[used..], &mut self.out) {
                    Ok(0) => break,
                    Ok(more) => used += more,
                    Err(why) => {
                        eprintln!("a backend closes a connection: {why}");
                        return false;
                    }
                }
            }
            self.unread.drain(..used);
            if got < scratch.len() {
                break;
            }
        }
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(wrote) => written += wrote,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.out.drain(..written);
        true
    }
}
