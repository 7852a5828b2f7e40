//! The PROXY protocol, versions 1 and 2: the header with which a load balancer says
//! whose connection it passes on.
//!
//! It stands before the protocol of a connection and is none itself, so it is not in
//! the registry. [`read`] is as strict as the specification ("The PROXY protocol",
//! HAProxy, 2020/03/05) lets it be: rules trust what it says, so nothing that
//! two readers could take for different addresses may pass.

mod checksum;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes it takes from the start of the buffer: at most 107 in version 1 and
    /// 4,112 in version 2.
    pub len: usize,
    /// The client's address; an IPv4 address that was written as an IPv6 one
    /// (`::ffff:…`) is an IPv4 address again. `None` where the header tells none that can
    /// be used: version 1 `UNKNOWN`, version 2 `LOCAL`, `UNSPEC`, unix and datagram
    /// addresses. The connection's own addresses hold then.
    pub source: Option<SocketAddr>,
    /// The address the client connected to; `None` where `source` is.
    pub destination: Option<SocketAddr>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Cannot say before the buffer holds so many bytes (always more than it holds).
    Need(usize),
    /// A header; what follows its [`Header::len`] bytes is the connection's own.
    Header(Header),
    /// Something else: a byte differs from both signatures.
    Absent,
    /// It begins as a header and is none; the reason. The connection must be
    /// closed, as the specification asks (sections 2.1 and 2.2).
    Malformed(&'static str),
}

/// Reads the header at the start of a connection. Pure; called again with more bytes
/// it never contradicts an answer other than [`Found::Need`].
pub fn read(buf: &[u8]) -> Found {
    for (signature, rest) in
        [(v1::SIGNATURE, v1::read as fn(&[u8]) -> Found), (v2::SIGNATURE, v2::read)]
    {
        if buf.starts_with(signature) {
            return rest(buf);
        }
        if signature.starts_with(buf) {
            return Found::Need(buf.len() + 1);
        }
    }
    Found::Absent
}

/// A version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// One line of text (section 2.1).
    V1,
    /// Binary (section 2.2).
    V2,
}

/// Appends the header of a TCP connection from `source` to `destination`. Where one is
/// an IPv4 and the other an IPv6 address, both are written as IPv6, the first as
/// `::ffff:…`. Scopes and flow labels have no place in it. At most 107 bytes.
pub fn write(version: Version, source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (from, to) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), to @ IpAddr::V6(_)) => (from.to_ipv6_mapped().into(), to),
        (from @ IpAddr::V6(_), IpAddr::V4(to)) => (from, to.to_ipv6_mapped().into()),
        same => same,
    };
    let ports = (source.port(), destination.port());
    match version {
        Version::V1 => v1::write(from, to, ports, out),
        Version::V2 => v2::write(from, to, ports, out),
    }
}

/// A header with two addresses.
fn addressed(len: usize, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Found {
    let address = |(ip, port): (IpAddr, u16)| Some(SocketAddr::new(ip.to_canonical(), port));
    Found::Header(Header { len, source: address(source), destination: address(destination) })
}

/// A header without.
fn addressless(len: usize) -> Found {
    Found::Header(Header { len, source: None, destination: None })
}

#[cfg(test)]
mod tests;
