//! How endpoints are reached: by the loop itself, or by a task where more than a TCP
//! handshake is wanted.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Worker;
use crate::engine::Way;
use crate::engine::state::{ConnId, UpId};
use crate::streams::{client, pipe};
use crate::worker::dial::dial;
use crate::worker::inbox::Arrival;
use crate::worker::ready::Ready;
use crate::worker::wire::Wire;

impl Worker {
    /// Begins to connect to an endpoint.
    pub(super) fn connect(&mut self, up: UpId, address: SocketAddr) {
        if let Some(way) = self.engine.way(up)
            && let Some(cluster) = self.snapshot.clusters.get(way.cluster)
            && (way.streams || cluster.tls.is_some() || cluster.proxy_protocol.is_some())
        {
            self.reach(up, way);
            return;
        }
        match begin_connect(address) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let conn = ConnId::Up(up);
                self.sockets.insert(conn, Wire::Tcp(stream), &self.list, true);
                self.again.push(Ready::Conn(conn));
            }
            Err(error) => {
                tracing::debug!(%error, %address, "an endpoint refused");
                self.engine.connect_failed(up);
            }
        }
    }

    /// Has a task reach an endpoint that wants more than a TCP handshake.
    fn reach(&mut self, up: UpId, way: Way) {
        let (snapshot, inbox) = (self.snapshot.clone(), self.inbox.clone());
        let all = self.sessions.clone();
        let task = tokio::task::spawn_local(async move {
            let Some(cluster) = snapshot.clusters.get(way.cluster) else { return };
            let Some(endpoint) = cluster.endpoints.get(way.endpoint) else { return };
            if !way.streams {
                let wire = dial(cluster, endpoint, way.ends).await;
                inbox.push(Arrival::Up { up, wire });
                return;
            }
            let sessions = all
                .borrow_mut()
                .entry((way.cluster, cluster.epoch, endpoint.address))
                .or_insert_with(|| {
                    client::Sessions::new(cluster.idle_timeout, cluster.tls.is_some())
                })
                .clone();
            let dial_in_time = async || {
                let dialed = dial(cluster, endpoint, None);
                match tokio::time::timeout(cluster.connect_timeout, dialed).await {
                    Ok(dialed) => dialed,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            };
            if let Err(error) = sessions.reach(dial_in_time).await {
                inbox.push(Arrival::Up { up, wire: Err(error) });
                return;
            }
            let (near, far) = pipe::pair();
            inbox.push(Arrival::Up { up, wire: Ok(Wire::Stream(far)) });
            let authority = endpoint.host.clone();
            let snapshot = snapshot.clone();
            // Its own task: the engine may give up this attempt, but not this connection.
            tokio::task::spawn_local(async move {
                let again = async || match snapshot.clusters.get(way.cluster) {
                    Some(cluster) => match cluster.endpoints.get(way.endpoint) {
                        Some(endpoint) => dial(cluster, endpoint, None).await,
                        None => Err(io::ErrorKind::NotFound.into()),
                    },
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                client::carry(near, sessions, authority, again).await;
            });
        });
        if let Some(had) = self.dials.insert(up, task.abort_handle()) {
            had.abort();
        }
    }
}

fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        // EINPROGRESS: the socket becomes writable when it is decided.
        Err(error) if error.raw_os_error() == Some(115) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    TcpStream::from_std(socket.into())
}
