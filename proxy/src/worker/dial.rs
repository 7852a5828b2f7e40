//! Connections to endpoints that want more than a TCP handshake: a PROXY header
//! first, then TLS.

use std::io;
use std::net::SocketAddr;

use polyport_codecs::proxy_protocol;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::wire::{Rewound, Wire};
use crate::snapshot::{Cluster, Endpoint};

/// Sets up a connection to `endpoint`. `ends`: the client's address and the one it
/// connected to, for a PROXY header; `None`: the proxy is the client.
pub(crate) async fn dial(
    cluster: &Cluster,
    endpoint: &Endpoint,
    ends: Option<(SocketAddr, SocketAddr)>,
) -> io::Result<Wire> {
    let mut stream = TcpStream::connect(endpoint.address).await?;
    let _ = stream.set_nodelay(true);
    if let Some(version) = cluster.proxy_protocol {
        // Where there is no client, the proxy speaks for itself.
        let (source, local) = match ends {
            Some(ends) => ends,
            None => (stream.local_addr()?, endpoint.address),
        };
        let mut header = Vec::new();
        proxy_protocol::write(version, source, local, &mut header);
        stream.write_all(&header).await?;
    }
    let Some(tls) = &cluster.tls else { return Ok(Wire::Tcp(stream)) };
    let name = tls.name(&endpoint.host);
    let name = name.ok_or_else(|| io::Error::other("the endpoint has no name to prove"))?;
    let connector = TlsConnector::from(tls.config());
    let stream = connector.connect(name, Rewound::new(Vec::new(), stream)).await;
    let stream = stream.inspect_err(|error| {
        tracing::warn!(cluster = %cluster.name, endpoint = %endpoint.address, %error, "TLS failed");
    })?;
    Ok(Wire::Tls(Box::new(TlsStream::Client(stream))))
}
