//! A client's end of a connection, with or without TLS, whose bytes a test sends when it
//! will: by rustls, as no command lets its bytes be cut.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{Authority, PATIENCE};

/// Between bytes that are to arrive alone.
pub const APART: Duration = Duration::from_millis(1);

/// A socket that may send each byte by itself.
pub struct Dripping {
    stream: TcpStream,
    /// Whether it does.
    pub alone: bool,
}

impl Read for Dripping {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Dripping {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if !self.alone {
            return self.stream.write(buf);
        }
        sleep(APART);
        self.stream.write(buf.get(..1).unwrap_or(buf))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A client's end.
pub enum Link {
    /// Without TLS.
    Plain(Dripping),
    /// With it.
    Tls(Box<StreamOwned<ClientConnection, Dripping>>),
}

impl Link {
    /// Connects, sends `front`, and shakes hands where `trust` is given; with every byte
    /// alone if asked. What is sent later is cut by whoever sends it.
    pub fn open(address: SocketAddr, front: &[u8], trust: Option<&Trust>, alone: bool) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connecting");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut stream = Dripping { stream, alone };
        stream.write_all(front).expect("sending what comes first");
        let Some(Trust(config)) = trust else {
            stream.alone = false;
            return Self::Plain(stream);
        };
        let name = ServerName::try_from("edge.test").expect("a name");
        let client = ClientConnection::new(config.clone(), name).expect("a client");
        let mut tls = StreamOwned::new(client, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).expect("the handshake");
        }
        tls.sock.alone = false;
        Self::Tls(Box::new(tls))
    }

    /// Sends `bytes` now, as one piece.
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        sent.expect("sending");
    }

    /// Reads until `done` says that this was all; panics where the end comes first.
    pub fn read_until(&mut self, done: impl Fn(&[u8]) -> bool) {
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        while !done(&got) {
            let read = match self {
                Self::Plain(stream) => stream.read(&mut chunk),
                Self::Tls(stream) => stream.read(&mut chunk),
            };
            match read {
                Ok(len @ 1..) => got.extend_from_slice(&chunk[..len]),
                other => panic!("{other:?} after {}", got.escape_ascii()),
            }
        }
    }
}

/// Whom a client trusts.
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// One authority, for whatever is called `edge.test`.
    pub fn new(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(authority.ca()).expect("a certificate");
        roots.add(ca).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self(Arc::new(config))
    }
}
