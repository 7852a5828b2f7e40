//! What comes before a client's first message: a PROXY header, then TLS. Both are
//! peeled off before detection begins, so that it goes on inside.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::proxy_protocol::{self, Found};
use polyport_codecs::tls::{Hello, client_hello};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::wire::{Rewound, Wire};
use crate::engine::Peer;
use crate::overload::sources::Admission;
use crate::snapshot::{Listener, ProxyHeader};
use crate::tls::server::facts;

/// A client that may come in.
pub(super) struct Greeted {
    pub(super) wire: Wire,
    /// Its first bytes, where they were read already.
    pub(super) bytes: Vec<u8>,
    pub(super) peer: Rc<Peer>,
}

/// Whether connections to `listener` have to be greeted at all.
pub(super) fn greets(listener: &Listener) -> bool {
    listener.tls.is_some() || listener.proxy_protocol != ProxyHeader::None
}

/// Peels off what comes before the first message. What tells the listener what to do
/// has its time for detection; a handshake that it then begins has `patience`.
///
/// `admit` lets in, or does not, whom a PROXY header names.
pub(super) async fn greet(
    stream: TcpStream,
    source: SocketAddr,
    listener: &Listener,
    patience: Duration,
    admit: impl FnOnce(IpAddr) -> Option<Admission>,
) -> io::Result<Greeted> {
    let looked = look(stream, source, listener, admit);
    let (stream, bytes, mut peer, config) =
        tokio::time::timeout(listener.detect_timeout, looked).await??;
    let Some(config) = config else {
        return Ok(Greeted { wire: Wire::Tcp(stream), bytes, peer: Rc::new(peer) });
    };
    let handshake = TlsAcceptor::from(config).accept(Rewound::new(bytes, stream));
    let stream = tokio::time::timeout(patience, handshake).await??;
    peer.tls = Some(facts(stream.get_ref().1));
    let wire = Wire::Tls(Box::new(TlsStream::Server(stream)));
    Ok(Greeted { wire, bytes: Vec::new(), peer: Rc::new(peer) })
}

/// A connection, what was read of it, who is at its other end, and how its TLS is opened.
type Looked = (TcpStream, Vec<u8>, Peer, Option<Arc<ServerConfig>>);

/// Looks at a connection's first bytes.
async fn look(
    mut stream: TcpStream,
    source: SocketAddr,
    listener: &Listener,
    admit: impl FnOnce(IpAddr) -> Option<Admission>,
) -> io::Result<Looked> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut peer = Peer::plain(source, stream.local_addr()?);
    let mut bytes = Vec::new();
    if listener.proxy_protocol != ProxyHeader::None {
        loop {
            match proxy_protocol::read(&bytes) {
                Found::Need(_) => more(&mut stream, &mut bytes).await?,
                Found::Header(header) => {
                    bytes.drain(..header.len);
                    peer.source = header.source.unwrap_or(peer.source);
                    peer.local = header.destination.unwrap_or(peer.local);
                    break;
                }
                Found::Absent if listener.proxy_protocol == ProxyHeader::Required => {
                    return Err(refuse("no PROXY header where one is required"));
                }
                Found::Absent => break,
                Found::Malformed(why) => return Err(refuse(why)),
            }
        }
    }
    match admit(peer.source.ip()) {
        Some(admission) => peer.admission = admission,
        None => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return Err(refuse("its source has too many connections"));
        }
    }
    let Some(tls) = &listener.tls else {
        return Ok((stream, bytes, peer, None));
    };
    let hello = loop {
        match client_hello(&bytes) {
            Hello::Need(_) => more(&mut stream, &mut bytes).await?,
            Hello::Found(hello) => break Some(hello),
            Hello::NotTls if tls.required() => return Err(refuse("no TLS where it is required")),
            Hello::NotTls => break None,
            Hello::Malformed(why) => return Err(refuse(why)),
        }
    };
    let passes = |sni: Option<&str>| tls.passes(sni);
    let Some(hello) = hello.filter(|hello| !passes(hello.sni.as_deref())) else {
        return Ok((stream, bytes, peer, None));
    };
    let config = tls.config(hello.alpn.iter().map(Vec::as_slice));
    Ok((stream, bytes, peer, Some(config)))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
