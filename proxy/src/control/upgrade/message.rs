//! What the two processes of an upgrade say to each other, over a pair of Unix sockets
//! that nobody else has: a JSON header, bytes, and descriptors that go with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use polyport_codecs::Profile;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// What is said is understood by processes that name the same number.
pub(super) const VERSION: u32 = 1;

/// Longest header and most bytes of one message: ten times what anybody says.
const HEADER: usize = 1 << 20;
const BYTES: usize = 4 << 20;

/// One thing said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum Message {
    /// The old one, first: so many messages with sockets follow.
    Hello { version: u32, sockets: usize },
    /// A listening socket of a listener.
    Listener { configured: SocketAddr, address: SocketAddr },
    /// Another listening socket, by what its owner calls it.
    Other { name: String },
    /// The new one: it listens, and takes connections to these.
    Ready { version: u32, listeners: Vec<Takes> },
    /// The old one: it accepts no more.
    Go,
    /// A client's connection, with its bytes: of the memory, the profile and unread ones.
    Connection {
        listener: SocketAddr,
        protocol: Option<String>,
        source: SocketAddr,
        local: SocketAddr,
        memory: usize,
        preamble: usize,
        replies: usize,
    },
}

/// A listener whose connections the new process takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Takes {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The protocols that are spoken there.
    pub(crate) protocols: Vec<String>,
}

/// A client's connection on its way from one process to the other.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) socket: OwnedFd,
    /// Where it was accepted.
    pub(crate) listener: SocketAddr,
    /// What is spoken on it, where that is known.
    pub(crate) protocol: Option<String>,
    /// The client, and where it connected to.
    pub(crate) source: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The state that the client has set up. May hold secrets: never logged.
    pub(crate) profile: Profile,
    /// What its decoder remembers.
    pub(crate) memory: Vec<u8>,
    /// What was read of it and not consumed.
    pub(crate) bytes: Vec<u8>,
}

impl Moved {
    pub(super) fn send(&self, to: &UnixStream) -> io::Result<()> {
        let message = Message::Connection {
            listener: self.listener,
            protocol: self.protocol.clone(),
            source: self.source,
            local: self.local,
            memory: self.memory.len(),
            preamble: self.profile.preamble.len(),
            replies: self.profile.replies,
        };
        let bytes = [&self.memory[..], &self.profile.preamble, &self.bytes].concat();
        send(to, &message, &bytes, Some(self.socket.as_fd()))
    }

    /// The connection that a message brings; `None` where it brings none.
    pub(super) fn from(heard: Heard) -> Option<Self> {
        let Message::Connection { listener, protocol, source, local, memory, preamble, replies } =
            heard.message
        else {
            return None;
        };
        let (memory, rest) = heard.bytes.split_at_checked(memory)?;
        let (preamble, bytes) = rest.split_at_checked(preamble)?;
        let profile = Profile { preamble: preamble.to_vec(), replies };
        let (memory, bytes) = (memory.to_vec(), bytes.to_vec());
        let socket = heard.fd?;
        Some(Self { socket, listener, protocol, source, local, profile, memory, bytes })
    }
}

/// One thing heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) message: Message,
    pub(super) bytes: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
}

/// Says one thing, all of it.
pub(super) fn send(
    to: &UnixStream,
    message: &Message,
    bytes: &[u8],
    fd: Option<std::os::fd::BorrowedFd<'_>>,
) -> io::Result<()> {
    let header = serde_json::to_vec(message)?;
    let mut all = Vec::with_capacity(8 + header.len() + bytes.len());
    for part in [&header[..], bytes] {
        let len = u32::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        all.extend_from_slice(&len.to_be_bytes());
    }
    all.extend_from_slice(&header);
    all.extend_from_slice(bytes);
    let mut rest = all.as_slice();
    // A descriptor goes with the first byte.
    let mut fd = fd;
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match sendmsg(to, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                fd = None;
            }
            Err(rustix::io::Errno::INTR) => {}
            // So many are under way that the kernel takes no more for now.
            Err(rustix::io::Errno::TOOMANYREFS) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Hears one thing; `None` where the other end has nothing more to say.
pub(super) fn receive(from: &UnixStream) -> io::Result<Option<Heard>> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut fd = None;
    let mut lengths = [0; 8];
    if !fill(from, &mut lengths, &mut fd)? {
        return Ok(None);
    }
    let [a, b, c, d, rest @ ..] = lengths;
    let header = u32::from_be_bytes([a, b, c, d]) as usize;
    let bytes = u32::from_be_bytes(rest) as usize;
    if header > HEADER || bytes > BYTES {
        return Err(refuse("a message longer than any"));
    }
    let (mut header, mut bytes) = (vec![0; header], vec![0; bytes]);
    if !fill(from, &mut header, &mut fd)? || !fill(from, &mut bytes, &mut fd)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = serde_json::from_slice(&header)?;
    Ok(Some(Heard { message, bytes, fd }))
}

/// Reads until `into` is full; false where the end comes first.
fn fill(from: &UnixStream, into: &mut [u8], fd: &mut Option<OwnedFd>) -> io::Result<bool> {
    let mut at = 0;
    while at < into.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let part = into.get_mut(at..).unwrap_or_default();
        let got =
            recvmsg(from, &mut [IoSliceMut::new(part)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let got = match got {
            Ok(got) => got,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for had in fds {
                    *fd = Some(had);
                }
            }
        }
        if got.bytes == 0 {
            return Ok(false);
        }
        at += got.bytes;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_arrives_with_all_that_is_known_of_it_and_works() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (socket, source) = listener.accept().unwrap();
        let moved = Moved {
            socket: socket.into(),
            listener: address,
            protocol: Some("toy".into()),
            source,
            local: address,
            profile: Profile { preamble: b"AUTH secret".to_vec(), replies: 1 },
            memory: vec![1, 2, 3],
            bytes: vec![b'x'; 100_000],
        };
        let sender = std::thread::spawn(move || {
            moved.send(&ours).unwrap();
            send(&ours, &Message::Go, b"", None).unwrap();
        });
        let heard = Moved::from(receive(&theirs).unwrap().unwrap()).unwrap();
        assert_eq!(heard.protocol.as_deref(), Some("toy"));
        assert_eq!((heard.source, heard.local, heard.listener), (source, address, address));
        assert_eq!(heard.profile.preamble, b"AUTH secret");
        assert_eq!((heard.profile.replies, &heard.memory[..]), (1, &[1, 2, 3][..]));
        assert_eq!(heard.bytes, vec![b'x'; 100_000]);
        TcpStream::from(heard.socket).write_all(b"hello").unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        assert!(matches!(receive(&theirs).unwrap().unwrap().message, Message::Go));
        sender.join().unwrap();
        assert!(receive(&theirs).unwrap().is_none(), "an end is an end");
    }

    #[test]
    fn what_no_upgrade_says_is_refused() {
        for said in [&[0xff_u8; 16][..], &[0, 0, 0, 2, 0, 0, 0, 0, b'{', b'}'], &[0, 0, 0, 9, 0]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(said).unwrap();
            drop(ours);
            assert!(!matches!(receive(&theirs), Ok(Some(_))), "{said:?}");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let message = Message::Connection {
            listener: ([127, 0, 0, 1], 1).into(),
            protocol: None,
            source: ([127, 0, 0, 1], 1).into(),
            local: ([127, 0, 0, 1], 1).into(),
            memory: 7,
            preamble: 0,
            replies: 0,
        };
        send(&ours, &message, b"short", None).unwrap();
        assert!(Moved::from(receive(&theirs).unwrap().unwrap()).is_none());
    }
}
