//! The sockets that workers accept from: those that were given, and new ones.
//!
//! A socket that nobody accepts from swallows its share of connections, so every one that
//! was given gets a worker, and a worker may get several.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;
use crate::snapshot::Snapshot;

/// Pending connections of a listening socket; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket that was opened elsewhere.
#[derive(Debug)]
pub struct Given {
    /// The address that was configured where it was opened; it tells which listener is meant
    /// where the system chose the port.
    pub configured: Option<SocketAddr>,
    /// The socket.
    pub socket: TcpListener,
}

/// One worker's sockets, each with its listener's index.
pub(super) type Own = Vec<(usize, TcpListener)>;

/// Binds all listeners for all workers; `given` is used first. Where each listener listens,
/// and what each worker accepts from.
pub(super) fn bind_all(
    snapshot: &Snapshot,
    given: Vec<Given>,
) -> Result<(Vec<SocketAddr>, Vec<Own>), StartError> {
    let workers = snapshot.workers.max(1);
    let mut given: Vec<(Option<SocketAddr>, SocketAddr, TcpListener)> = given
        .into_iter()
        .filter_map(|given| Some((given.configured, given.socket.local_addr().ok()?, given.socket)))
        .collect();
    let mut addresses = Vec::new();
    let mut all: Vec<Own> = (0..workers).map(|_| Own::new()).collect();
    for (at, listener) in snapshot.listeners.iter().enumerate() {
        if listener.retired {
            addresses.push(listener.address);
            continue;
        }
        let failed = |address| {
            move |source| StartError::Listen { name: listener.name.clone(), address, source }
        };
        // The first one that fits says where; others may have had the same words in the config.
        let wanted = listener.address;
        let fits = |(configured, address, _): &&(Option<SocketAddr>, SocketAddr, _)| {
            *address == wanted || *configured == Some(wanted)
        };
        let address = given.iter().find(fits).map(|(_, address, _)| *address);
        let mut had = Vec::new();
        if let Some(address) = address {
            for (_, _, socket) in given.extract_if(.., |(_, its, _)| *its == address) {
                socket.set_nonblocking(true).map_err(failed(address))?;
                had.push(socket);
            }
        }
        let address = match address {
            Some(address) => address,
            None => {
                let socket = bind(wanted).map_err(failed(wanted))?;
                let address = socket.local_addr().map_err(failed(wanted))?;
                had.push(socket);
                address
            }
        };
        addresses.push(address);
        // Where the system chose the port, all workers take the same.
        for worker in had.len()..workers {
            let more = match (bind(address), had.get(worker % had.len().max(1))) {
                (Ok(socket), _) => Ok(socket),
                // What was opened elsewhere may be alone at its address, or privileged.
                (Err(_), Some(shared)) => shared.try_clone(),
                (Err(error), None) => Err(error),
            };
            had.push(more.map_err(failed(address))?);
        }
        for (turn, socket) in had.into_iter().enumerate() {
            if let Some(own) = all.get_mut(turn % workers) {
                own.push((at, socket));
            }
        }
    }
    for (_, address, _) in given {
        tracing::info!(%address, "closed a socket that no listener names");
    }
    Ok((addresses, all))
}

/// A listening socket that every worker has for itself.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
