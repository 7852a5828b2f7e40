//! Streams towards endpoints: each connection that the engine asks for is carried
//! by streams of the few HTTP/2 connections that a worker has to an endpoint.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::Notify;

use super::body::{into_pipe, send_data};
use super::pipe::{End, Reader, Writer};
use super::text::{self, Framing, Piece};
use super::{UPSTREAM_STREAMS, UPSTREAM_WINDOW, pipe, websocket};
use crate::worker::wire::Wire;

/// How often a connection looks whether it is still of use.
const LOOK: Duration = Duration::from_secs(5);

/// One HTTP/2 connection to an endpoint.
struct Session {
    send: SendRequest<Bytes>,
    /// Streams open on it.
    active: Rc<Cell<usize>>,
    /// It takes no new ones.
    closed: Rc<Cell<bool>>,
    /// It has carried an exchange to its end.
    served: Rc<Cell<bool>>,
    used: Rc<Cell<Instant>>,
}

/// What a stream needs of its connection.
struct Seat {
    send: SendRequest<Bytes>,
    /// Counts the stream for as long as it lives.
    _counted: Counted,
    closed: Rc<Cell<bool>>,
    served: Rc<Cell<bool>>,
}

/// The connections of one worker to one endpoint of one cluster.
pub(crate) struct Sessions {
    list: RefCell<Vec<Session>>,
    /// Whether one is being set up; others wait for it, so that no herd of them is.
    dialing: Cell<bool>,
    /// Tells all who wait at once. Handed on from one to the next, as a lock is, each
    /// would wait for a turn of the busy worker, and the last of them for too many.
    dialed: Notify,
    /// How long one without streams is kept.
    idle: Duration,
    /// Whether it is TLS that carries them.
    secure: bool,
}

/// By cluster and address.
pub(crate) type AllSessions = Rc<RefCell<HashMap<(usize, u32, SocketAddr), Rc<Sessions>>>>;

impl Sessions {
    pub(crate) fn new(idle: Duration, secure: bool) -> Rc<Self> {
        let (list, dialing, dialed) = (RefCell::default(), Cell::new(false), Notify::new());
        Rc::new(Self { list, dialing, dialed, idle, secure })
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.list.borrow().iter().filter(|session| !session.closed.get()).count()
    }

    /// A connection with room for one more stream.
    fn ready(&self) -> Option<Seat> {
        let mut list = self.list.borrow_mut();
        list.retain(|session| !session.closed.get());
        let room = |session: &&Session| {
            session.active.get()
                < session.send.current_max_send_streams().min(UPSTREAM_STREAMS as usize)
        };
        let session = list.iter().find(room)?;
        session.used.set(Instant::now());
        Some(Seat {
            send: session.send.clone(),
            _counted: Counted::new(session.active.clone()),
            closed: session.closed.clone(),
            served: session.served.clone(),
        })
    }

    /// Sees to it that there is a connection, set up by `dial` if need be.
    pub(crate) async fn reach<F>(&self, dial: F) -> io::Result<()>
    where
        F: AsyncFnOnce() -> io::Result<Wire>,
    {
        loop {
            if self.ready().is_some() {
                return Ok(());
            }
            if !self.dialing.replace(true) {
                break;
            }
            self.dialed.notified().await;
        }
        let _dialing = Dialing(self);
        let wire = dial().await?;
        if let Wire::Tls(stream) = &wire
            && stream.get_ref().1.alpn_protocol() != Some(b"h2")
        {
            return Err(io::Error::other("the endpoint does not speak h2 over TLS"));
        }
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(UPSTREAM_WINDOW)
            .initial_connection_window_size(UPSTREAM_WINDOW * UPSTREAM_STREAMS)
            .max_send_buffer_size(pipe::CAPACITY)
            .enable_push(false)
            .handshake::<_, Bytes>(wire)
            .await
            .map_err(io::Error::other)?;
        let mut pings = connection.ping_pong();
        let session = Session {
            send,
            active: Rc::default(),
            closed: Rc::default(),
            served: Rc::default(),
            used: Rc::new(Cell::new(Instant::now())),
        };
        let (active, closed) = (session.active.clone(), session.closed.clone());
        let (used, idle) = (session.used.clone(), self.idle);
        let ended = closed.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    ended = &mut connection => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "an upstream HTTP/2 connection broke");
                        }
                        closed.set(true);
                        return;
                    }
                    () = tokio::time::sleep(LOOK) => {
                        if active.get() == 0 && used.get().elapsed() >= idle {
                            closed.set(true);
                            return;
                        }
                    }
                }
            }
        });
        // Its answer follows its settings, which tell what it can; and whoever
        // speaks something else gives none.
        if let Some(pings) = &mut pings {
            pings.ping(h2::Ping::opaque()).await.map_err(io::Error::other)?;
        }
        if ended.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.list.borrow_mut().push(session);
        Ok(())
    }
}

/// Whoever sets up a connection; it may be given up amid that.
struct Dialing<'a>(&'a Sessions);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        self.0.dialed.notify_waiters();
    }
}

/// Counts a stream for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Carries what the engine says on one of its connections, exchange by exchange,
/// until it ends or one of them fails: then the connection breaks.
pub(crate) async fn carry<F>(end: End, sessions: Rc<Sessions>, authority: String, dial: F)
where
    F: AsyncFn() -> io::Result<Wire>,
{
    let End { mut reader, mut writer } = end;
    let mut buf = BytesMut::new();
    // The head, for as long as it may have to be said again.
    let mut kept: Vec<u8> = Vec::new();
    loop {
        kept.clear();
        loop {
            if let Some(bytes) = text::head_bytes(&mut buf) {
                kept.extend_from_slice(&bytes);
                break;
            }
            if !matches!(reader.more(&mut buf).await, Ok(true)) {
                return;
            }
        }
        let mut left = TRIES;
        loop {
            let Ok(head) = text::parse(&kept) else { return };
            if sessions.reach(&dial).await.is_err() {
                return;
            }
            let done =
                exchange(head, &mut reader, &mut buf, &mut writer, &sessions, &authority).await;
            left -= 1;
            match done {
                Ok(true) => break,
                // A session is over: all was said, on both sides.
                Ok(false) => {
                    writer.shut();
                    return;
                }
                Err(Broken { error, again: true }) if left > 0 => {
                    tracing::debug!(%error, "a stream that its endpoint did not serve goes again");
                }
                Err(Broken { error, .. }) => {
                    tracing::debug!(%error, "an upstream stream broke");
                    return;
                }
            }
        }
    }
}

/// How often a request is said at most, where its endpoint is known not to have
/// served it: connections that end, one after the other, each refuse it once.
const TRIES: usize = 3;

/// An exchange that failed.
struct Broken {
    error: io::Error,
    /// It may be tried again: nothing of the request was served (RFC 9113, section 8.7),
    /// or nothing that matters and the connection was an old one, as of HTTP/1.1's
    /// (RFC 9110, section 9.2.2); and nothing of it is lost, nor of the reply out.
    again: bool,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self { error, again: false }
    }
}

fn bad(why: &'static str) -> io::Error {
    io::Error::other(why)
}

/// Whether the endpoint says that it did nothing about the stream.
fn unserved(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Carries one exchange; whether another may follow.
async fn exchange(
    head: text::Head,
    reader: &mut Reader,
    buf: &mut BytesMut,
    writer: &mut Writer,
    sessions: &Sessions,
    authority: &str,
) -> Result<bool, Broken> {
    let seat = sessions.ready().ok_or_else(|| bad("no connection has room"))?;
    // A connection that says GOAWAY still carries its other streams; no more are begun on it.
    let refused = |error: h2::Error| {
        seat.closed.set(true);
        Broken { error: io::Error::other(error), again: true }
    };
    let mut send = seat.send.clone().ready().await.map_err(refused)?;
    let method = head.method().map_err(|_| bad("no method"))?;
    let key = head.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let socket = head.upgrade.as_deref().is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    if socket && !send.is_extended_connect_protocol_enabled() {
        // It would have said so; an upgrade that it cannot make is refused as HTTP/1.1 does.
        writer.write_all(b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n").await?;
        return Ok(false);
    }
    let tunnel = socket || method == Method::CONNECT;
    let framing = if tunnel { Framing::UntilEnd } else { head.framing };
    let bodiless = framing.is_empty();
    let old = seat.served.get();
    let request = request(head, &method, socket, sessions.secure, authority)?;
    let head_only = method == Method::HEAD;
    let (response, mut stream) = send.send_request(request, bodiless).map_err(refused)?;
    let sent = Cell::new(bodiless);
    let up = async {
        if !bodiless {
            send_body(reader, buf, framing, &mut stream).await?;
            sent.set(true);
        }
        // The engine may give up while the endpoint is silent.
        reader.broken().await
    };
    let key = key.as_ref().filter(|_| socket).and_then(|key| key.to_str().ok());
    let down = async {
        let begun = begin(response, writer).await.map_err(|error| {
            let unserved = unserved(&error);
            if unserved {
                seat.closed.set(true);
            }
            // An endpoint that resets a stream for a reason of its own has seen it.
            let lost = old && method.is_idempotent() && !error.is_reset();
            Broken { error: io::Error::other(error), again: bodiless && (unserved || lost) }
        })?;
        seat.served.set(true);
        receive(begun, writer, head_only, key).await.map_err(Broken::from)
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        // Where both have ended it is the endpoint that says why.
        biased;
        received = &mut down => {
            received?;
            // A reply that comes before its request is over ends both.
            Ok(sent.get() && !tunnel)
        }
        given_up = &mut up => Err(given_up.err().unwrap_or_else(|| bad("given up")).into()),
    }
}

fn request(
    head: text::Head,
    method: &Method,
    socket: bool,
    secure: bool,
    authority: &str,
) -> io::Result<Request<()>> {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or(authority);
    let mut uri = Uri::builder().authority(host);
    if *method != Method::CONNECT {
        let scheme = if secure { "https" } else { "http" };
        uri = uri.scheme(scheme).path_and_query(head.start[1].as_str());
    }
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().map_err(io::Error::other)?;
    *request.method_mut() = method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    if text::is_grpc(headers) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if socket {
        headers.remove(header::SEC_WEBSOCKET_KEY);
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    Ok(request)
}

/// Carries the engine's body to the endpoint.
async fn send_body(
    reader: &mut Reader,
    buf: &mut BytesMut,
    framing: Framing,
    stream: &mut SendStream<Bytes>,
) -> io::Result<()> {
    let mut body = text::Body::new(framing);
    let mut ended = false;
    loop {
        match body.next(buf, ended).map_err(|_| bad("half a request"))? {
            Piece::Data(data) => send_data(stream, data).await.map_err(io::Error::other)?,
            Piece::End(None) => {
                return stream.send_data(Bytes::new(), true).map_err(io::Error::other);
            }
            Piece::End(Some(trailers)) => {
                return stream.send_trailers(trailers).map_err(io::Error::other);
            }
            Piece::Short => ended = !reader.more(buf).await?,
        }
    }
}

/// A response on its way.
enum Come {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}

/// Waits for the response that counts, passing on those before it.
async fn begin(
    mut response: ResponseFuture,
    writer: &mut Writer,
) -> Result<Response<RecvStream>, h2::Error> {
    loop {
        // Either an interim response comes, or the one that counts.
        let come = std::future::poll_fn(|context| {
            if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
                return Poll::Ready(interim.map(Come::Interim));
            }
            Pin::new(&mut response).poll(context).map_ok(Come::Final)
        });
        match come.await? {
            Come::Final(response) => return Ok(response),
            Come::Interim(interim) => {
                let mut out = Vec::with_capacity(512);
                let (status, headers) = (interim.status(), interim.headers());
                text::response_head(status, headers, Framing::Nothing, "", &mut out);
                // Whether anybody reads it shows with the next one.
                let _ = writer.write_all(&out).await;
            }
        }
    }
}

/// Carries the endpoint's reply to the engine.
async fn receive(
    response: Response<RecvStream>,
    writer: &mut Writer,
    head_only: bool,
    key: Option<&str>,
) -> io::Result<()> {
    let mut out = Vec::with_capacity(512);
    let (parts, body) = response.into_parts();
    let grpc = text::is_grpc(&parts.headers);
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    let opened = key.filter(|_| parts.status.is_success());
    let bodiless =
        head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if opened.is_some() => Framing::UntilEnd,
        _ if bodiless => Framing::Nothing,
        _ if body.is_end_stream() => Framing::Length(0),
        // Trailers come behind the body, where only chunks have room for them.
        Some(length) if !grpc && !parts.headers.contains_key(header::TRAILER) => {
            Framing::Length(length)
        }
        _ => Framing::Chunks,
    };
    out.clear();
    match opened {
        Some(key) => {
            let accept = websocket::accept(key);
            let more = format!(
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n"
            );
            let status = StatusCode::SWITCHING_PROTOCOLS;
            text::response_head(status, &parts.headers, framing, &more, &mut out);
        }
        None => text::response_head(parts.status, &parts.headers, framing, "", &mut out),
    }
    writer.write_all(&out).await?;
    if framing.is_empty() {
        return Ok(());
    }
    into_pipe(body, writer, framing).await
}
