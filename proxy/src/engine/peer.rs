//! Who is at a connection's other end, and how an endpoint is to be reached.

use std::net::SocketAddr;
use std::rc::Rc;

use polyport_codecs::{Metadata, Probe};

use super::Engine;
use super::state::{ConnId, DownId, UpId, UpPhase};
use crate::observe::metrics::series::Open;
use crate::overload::sources::Admission;
use crate::snapshot::{Facts, Snapshot};

/// A client, as its connection's first moments told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address; where a PROXY header named one, that.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// What its TLS handshake told, where there was one.
    pub tls: Option<TlsFacts>,
    /// Counts its connection among those of its source.
    pub admission: Admission,
}

/// What a TLS handshake told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// The name that the client asked for, lower case.
    pub sni: Option<String>,
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// What ALPN agreed on.
    pub alpn: Option<String>,
    /// The alternative names of the client's certificate, joined by commas.
    pub client_san: Option<String>,
    /// Its subject.
    pub client_subject: Option<String>,
}

impl Peer {
    /// A client without TLS.
    pub fn plain(source: SocketAddr, local: SocketAddr) -> Self {
        Self { source, local, tls: None, admission: Admission::default() }
    }

    /// Sets the facts that rules may ask of every message of the connection.
    pub(super) fn keep(&self, facts: &Facts, metadata: &mut Metadata) {
        if let Some(slot) = facts.source_ip {
            metadata.keep(slot, self.source.ip().to_canonical().to_string().as_bytes());
        }
        if let Some(slot) = facts.source_port {
            metadata.keep(slot, self.source.port().to_string().as_bytes());
        }
        let Some(tls) = &self.tls else { return };
        if let Some(slot) = facts.scheme {
            metadata.pin(slot, b"https");
        }
        let texts = [
            (facts.tls_sni, tls.sni.as_deref()),
            (facts.tls_version, Some(tls.version)),
            (facts.tls_alpn, tls.alpn.as_deref()),
            (facts.tls_client_san, tls.client_san.as_deref()),
            (facts.tls_client_subject, tls.client_subject.as_deref()),
        ];
        for (slot, text) in texts {
            if let (Some(slot), Some(text)) = (slot, text) {
                metadata.keep(slot, text.as_bytes());
            }
        }
    }
}

/// A connection that turned out to carry many streams, and leaves the engine.
pub struct Handed {
    /// Which.
    pub conn: ConnId,
    /// Its listener.
    pub listener: usize,
    /// What it speaks: index into the snapshot's protocols.
    pub protocol: usize,
    /// Who is at its other end.
    pub peer: Rc<Peer>,
    /// What was read of it.
    pub bytes: Vec<u8>,
    /// Counts it as open for as long as it is kept.
    pub open: Option<Open>,
}

/// How an endpoint is to be reached.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Index into the snapshot's clusters.
    pub cluster: usize,
    /// Index into the cluster's endpoints.
    pub endpoint: usize,
    /// Over streams of a connection that carries many.
    pub streams: bool,
    /// The client's address and the one it connected to, where the endpoint is to be told.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

impl Engine {
    /// How to reach the endpoint of an upstream connection.
    pub fn way(&self, up: UpId) -> Option<Way> {
        let upstream = self.ups.get(up)?;
        let cluster = self.snapshot.clusters.get(upstream.cluster)?;
        let protocol = upstream.protocol.and_then(|at| self.snapshot.protocols.get(at));
        let streams = cluster.http2
            && protocol.is_some_and(|enabled| enabled.protocol.streams(b"") != Probe::No);
        Some(Way {
            cluster: upstream.cluster,
            endpoint: upstream.endpoint,
            streams,
            ends: upstream.ends,
        })
    }

    /// Whether an upstream connection still waits to be set up.
    pub fn is_connecting(&self, up: UpId) -> bool {
        self.ups.get(up).is_some_and(|up| matches!(up.phase, UpPhase::Connecting(_)))
    }

    /// A connection that begins with `prefix` carries many streams of `protocol`: it
    /// leaves the engine.
    pub(super) fn hand_over(&mut self, id: DownId, protocol: usize, prefix: &[u8]) {
        let Some(down) = self.downs.remove(id) else { return };
        let series = self.series.as_mut();
        let open = series.and_then(|of| of.handed(&self.snapshot, down.listener, protocol));
        self.handed.push(Handed {
            conn: ConnId::Down(id),
            listener: down.listener,
            protocol,
            peer: down.peer,
            bytes: prefix.to_vec(),
            open,
        });
        self.counters.accepted = self.counters.accepted.saturating_sub(1);
    }

    /// The next connection that leaves.
    pub fn next_handed(&mut self) -> Option<Handed> {
        self.handed.pop()
    }
}

/// A connection's metadata between messages: what the proxy itself knows of it, but for
/// its protocol.
pub(super) fn facts_of(snapshot: &Snapshot, listener: usize, peer: &Peer) -> Metadata {
    let mut metadata = Metadata::new(&snapshot.interest);
    if let (Some(slot), Some(listener)) =
        (snapshot.facts.listener, snapshot.listeners.get(listener))
    {
        metadata.keep(slot, listener.name.as_bytes());
    }
    peer.keep(&snapshot.facts, &mut metadata);
    metadata
}
