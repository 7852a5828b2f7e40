//! What one worker holds right now, for people who look: connections one by one, and what
//! each endpoint has in flight. Written down when it is asked for; nothing is kept for it.

use std::net::SocketAddr;

use serde::Serialize;

use super::Engine;
use super::state::DownState;

/// A client's connection, or one stream of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Its name among the worker's: the number of its place, and which tenant of it.
    pub id: String,
    /// The client; where a PROXY header named one, that.
    pub source: SocketAddr,
    /// The listener's name.
    pub listener: String,
    /// What it speaks; `None` while that is not known, and for opaque bytes.
    pub protocol: Option<&'static str>,
    /// Which of the protocol's dialects its latest message is, or its session; where the
    /// protocol has none, its name.
    pub dialect: Option<&'static str>,
    /// It came over TLS that was opened here.
    pub tls: bool,
    /// It is one of many streams on a connection.
    pub stream: bool,
    /// It is joined to an upstream connection, or in a session whose messages are looked at.
    pub session: bool,
    /// It has an upstream connection to itself.
    pub held: bool,
    /// Its last words are being written.
    pub closing: bool,
    /// Requests in flight.
    pub in_flight: usize,
    /// Since it was accepted, ms.
    pub age_ms: u64,
    /// Since bytes last came from it, ms.
    pub idle_ms: u64,
}

/// What one worker has with an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EndpointLoad {
    /// Connections of any sort.
    pub connections: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Sessions.
    pub sessions: usize,
    /// Who waits for a connection of its own.
    pub waiting: usize,
}

impl Engine {
    /// Clients' connections, at most so many.
    pub fn connections(&self, most: usize) -> Vec<Connection> {
        let shown = self.downs.iter().take(most).map(|(key, down)| Connection {
            id: format!("{key:?}"),
            source: down.peer.source,
            listener: self
                .snapshot
                .listeners
                .get(down.listener)
                .map(|listener| listener.name.clone())
                .unwrap_or_default(),
            protocol: down
                .protocol
                .and_then(|at| self.snapshot.protocols.get(at))
                .map(|enabled| enabled.protocol.name()),
            dialect: down
                .protocol
                .and_then(|at| self.snapshot.protocols.get(at))
                .map(|enabled| enabled.protocol.dialect(down.track.dialect)),
            tls: down.peer.tls.is_some(),
            stream: down.stream,
            session: down.dialogue.is_some() || matches!(down.state, DownState::Session(_)),
            held: down.held.is_some(),
            closing: matches!(down.state, DownState::Closing { .. }),
            in_flight: down.in_flight,
            age_ms: self.now.saturating_sub(down.opened),
            idle_ms: self.now.saturating_sub(down.last_read),
        });
        shown.collect()
    }

    /// By cluster, then endpoint: what this worker has with each.
    pub fn loads(&self) -> Vec<Vec<EndpointLoad>> {
        let one = |state: &super::pool::EndpointState| EndpointLoad {
            connections: state.connections,
            in_flight: state.in_flight,
            sessions: state.sessions,
            waiting: state.waiting.len(),
        };
        self.endpoints.iter().map(|cluster| cluster.iter().map(one).collect()).collect()
    }
}
