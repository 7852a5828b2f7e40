//! The process that takes over.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Message, Moved, Takes, VERSION, receive, send};
use super::{Found, VARIABLE, found};
use crate::snapshot::Snapshot;
use crate::worker::{Given, Hands, Proxy};

/// How long the old process may take for its next word, while we are not in charge.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this process has from the one that it takes over from.
pub struct Inherited {
    from: UnixStream,
    listeners: Vec<Given>,
    others: HashMap<String, OwnedFd>,
}

impl Inherited {
    /// Hears what the process that started this one hands over; `None` where it was started
    /// like any other. Call it first: standard input is the way it comes.
    ///
    /// # Errors
    /// Where the old process says what this one does not understand.
    pub fn receive() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let from = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Its end shall be seen by the other side, which it is not while we hold it twice.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        from.set_read_timeout(Some(PATIENCE))?;
        let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let hear = || receive(&from)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        let hello: io::Result<_> = hear();
        let Message::Hello { version: VERSION, sockets } = hello?.message else {
            return Err(refuse("the process that started this one is of another kind"));
        };
        let (mut listeners, mut others) = (Vec::new(), HashMap::new());
        for _ in 0..sockets {
            let heard: io::Result<_> = hear();
            let heard = heard?;
            let fd = heard.fd.ok_or_else(|| refuse("a socket did not come"))?;
            match heard.message {
                Message::Listener { configured, .. } => listeners
                    .push(Given { configured: Some(configured), socket: TcpListener::from(fd) }),
                Message::Other { name } => {
                    others.insert(name, fd);
                }
                _ => {}
            }
        }
        Ok(Some(Self { from, listeners, others }))
    }

    /// The listeners' sockets, for [`Proxy::start_with`].
    pub fn listeners(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.listeners)
    }

    /// The socket that its owner calls `name` ([`super::Upgrades::pass`]).
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.others.remove(name)
    }

    /// The endpoints that the old process had found; none where it did not say.
    pub(crate) fn found(&mut self) -> Found {
        self.take(found::NAME).map(Found::unpack).unwrap_or_default()
    }

    /// Says that this process runs, and takes in the connections that come; returns when the
    /// old process accepts no more.
    ///
    /// # Errors
    /// Where the old process cannot be told. It has gone, then, or will end this one.
    pub fn take_over(self, proxy: &Proxy, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let addresses = proxy.addresses();
        let names = |protocols: &[usize]| {
            let enabled = protocols.iter().filter_map(|at| snapshot.protocols.get(*at));
            enabled.map(|enabled| enabled.protocol.name().to_owned()).collect()
        };
        let listeners = snapshot.listeners.iter().zip(&addresses).map(|(listener, address)| {
            Takes { address: *address, protocols: names(&listener.protocols) }
        });
        let ready = Message::Ready { version: VERSION, listeners: listeners.collect() };
        send(&self.from, &ready, b"", None)?;
        match receive(&self.from) {
            Ok(Some(_)) => {}
            // It has ended; somebody has to serve.
            Ok(None) => {
                tracing::warn!("the old process has ended before it handed over");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.from.set_read_timeout(None)?;
        let (hands, snapshot) = (proxy.hands(), snapshot.clone());
        // Before this process can be asked to leave itself.
        hands.expect(true);
        std::thread::Builder::new()
            .name("upgrade".to_owned())
            .spawn(move || take_in(&self.from, &hands, &snapshot, &addresses))?;
        Ok(())
    }
}

/// Gives connections that come to the workers in turn.
fn take_in(from: &UnixStream, hands: &Hands, snapshot: &Snapshot, addresses: &[SocketAddr]) {
    let mut taken = 0_usize;
    loop {
        let moved = match receive(from) {
            Ok(Some(heard)) => Moved::from(heard),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the old process hands over no more connections");
                break;
            }
        };
        let Some(moved) = moved else { continue };
        let listener = addresses.iter().position(|address| *address == moved.listener);
        let protocol = moved.protocol.as_ref().map(|name| {
            snapshot.protocols.iter().position(|enabled| enabled.protocol.name() == name)
        });
        // The old process was told which of them we take.
        let (Some(listener), None | Some(Some(_))) = (listener, protocol) else {
            tracing::warn!(source = %moved.source, "closed: nothing here takes this connection");
            continue;
        };
        hands.adopt(taken, listener, protocol.flatten(), moved);
        taken += 1;
    }
    hands.expect(false);
    tracing::info!(connections = taken, "all that could move has come over");
}
