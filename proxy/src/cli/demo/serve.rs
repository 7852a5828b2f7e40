//! The demo's servers: a thread, a listener each, a task a connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use polyport_codecs::tokio_codec::{Message, MessageCodec};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Decoder;

/// The longest message a demo server accepts.
pub(super) const LONGEST: usize = 1 << 20;

/// Answers one protocol's messages. Replies are appended to `out`.
pub(super) trait Answer: Send + Sync + 'static {
    /// What it speaks.
    fn protocol(&self) -> &'static dyn Protocol;
    /// The keys it wants to see.
    fn keys(&self) -> &'static [&'static str];
    /// Answers one message.
    fn answer(&self, message: &Message, out: &mut Vec<u8>);
}

/// Where the demo's servers are.
pub(super) struct Servers {
    pub(super) redis: SocketAddr,
    pub(super) blue: SocketAddr,
    pub(super) green: SocketAddr,
    pub(super) orders: SocketAddr,
    pub(super) canary: SocketAddr,
    pub(super) stock: SocketAddr,
    pub(super) goods: SocketAddr,
    pub(super) pumps: SocketAddr,
}

impl Servers {
    /// Starts them all on ports that the system chooses.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            redis: serve(super::redis::Store::default())?,
            blue: serve(super::http::Page { colour: "blue" })?,
            green: serve(super::http::Page { colour: "green" })?,
            orders: serve(super::dubbo::Orders { version: "v1" })?,
            canary: serve(super::dubbo::Orders { version: "v2" })?,
            stock: serve(super::bolt::Stock)?,
            goods: serve(super::thrift::Goods)?,
            pumps: super::mqtt::broker()?,
        })
    }
}

/// Runs one server on a thread of its own, for as long as the process lives.
fn serve(server: impl Answer) -> io::Result<SocketAddr> {
    let server = Arc::new(server);
    accept(move |stream| {
        let server = server.clone();
        async move { connection(stream, server.as_ref()).await }
    })
}

/// Gives each connection to `each`, on a thread of its own.
pub(super) fn accept<F, Served>(each: F) -> io::Result<SocketAddr>
where
    F: Fn(TcpStream) -> Served + Send + 'static,
    Served: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-server".into()).spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                // A client that leaves in the middle is no matter to a demo.
                let served = each(stream);
                tokio::spawn(async move { served.await.ok() });
            }
            #[expect(unreachable_code, reason = "names the block's type")]
            Ok::<_, io::Error>(())
        })
    })?;
    Ok(address)
}

async fn connection(mut stream: TcpStream, server: &dyn Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let interest = Interest::of(server.keys());
    let codec = server.protocol().compile(&Limits::default(), &interest);
    let mut messages = MessageCodec::new(codec.as_ref(), &interest, Side::Request, LONGEST);
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    while stream.read_buf(&mut input).await? > 0 {
        while let Some(message) = messages.decode(&mut input).map_err(io::Error::other)? {
            server.answer(&message, &mut out);
        }
        stream.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// The value of a key of `message`, as text.
pub(super) fn value<'a>(message: &'a Message, key: &str) -> Option<std::borrow::Cow<'a, str>> {
    let (_, value) = message.metadata.iter().find(|(name, _)| name == key)?;
    Some(String::from_utf8_lossy(value))
}
