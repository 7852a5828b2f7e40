//! Clients' streams, each given to the engine as a connection of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::body::{into_pipe, send_data};
use super::leave::Leaving;
use super::pipe::{self, End, Reader};
use super::text::{self, Framing, Garbled, Piece, RequestHead};
use super::watch::Watched;
use super::{CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW, websocket};
use tokio::sync::Notify;

use crate::engine::Peer;
use crate::worker::inbox::{Arrival, Inbox};
use crate::worker::wire::{Rewound, Wire};

/// A connection that carried something within this time is not idle.
const LATELY: Duration = Duration::from_secs(1);

/// What all connections with streams of one worker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) inbox: Rc<Inbox>,
    /// Whose clients are to open no new streams.
    pub(crate) leaving: Rc<Leaving>,
    /// How many such connections there are.
    pub(crate) open: Rc<Cell<usize>>,
    /// So many of those without streams are to leave, as the process runs out of something.
    pub(crate) relief: Rc<(Cell<usize>, Notify)>,
    /// Bytes of a head.
    pub(crate) head: usize,
    /// How long a connection without streams is kept.
    pub(crate) idle: Duration,
    /// How long a frame or a header block that was begun may take.
    pub(crate) read: Duration,
}

/// Where a connection came from.
#[derive(Clone)]
pub(crate) struct From {
    pub(crate) listener: usize,
    pub(crate) protocol: usize,
    pub(crate) peer: Rc<Peer>,
}

/// Longer than any connection is waited for.
const FAR: Duration = Duration::from_secs(86_400);

/// Counts a connection for as long as it lives.
struct Counted(Shared);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.inbox.wake();
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(wire: Rewound<Wire>, from: From, shared: Shared) {
    shared.open.set(shared.open.get() + 1);
    let counted = Counted(shared.clone());
    let (wire, at_rest) = Watched::new(wire);
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        // Twice of what the engine takes: it is the engine's to refuse a head, with an answer.
        .max_header_list_size(u32::try_from(shared.head * 2).unwrap_or(u32::MAX))
        .max_send_buffer_size(pipe::CAPACITY)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(wire);
    let mut connection = match tokio::time::timeout(Duration::from_secs(10), handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(source = %from.peer.source, %error, "no HTTP/2 after its preface");
            return;
        }
        Err(_) => return,
    };
    let streams: Rc<Cell<usize>> = Rc::default();
    let mut going = false;
    let period = shared.read.min(shared.idle).max(Duration::from_millis(10)) / 2;
    let mut look = tokio::time::interval(period);
    let (mut half_since, mut busy_at) = (None, Instant::now());
    let mut going_since = None;
    let mut told = std::pin::pin!(shared.leaving.told());
    let mut deadline = std::pin::pin!(tokio::time::sleep(FAR));
    let mut leaves = false;
    loop {
        if !leaves && let Some(until) = shared.leaving.until(from.listener) {
            (leaves, going) = (true, true);
            deadline.as_mut().reset(until);
            // First a GOAWAY that refuses nothing, as streams may be under way to us; when the
            // client has surely seen it, the one that names the last stream.
            connection.graceful_shutdown();
        }
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    busy_at = Instant::now();
                    let stream = Stream { from: from.clone(), shared: shared.clone() };
                    let count = streams.clone();
                    count.set(count.get() + 1);
                    // In a box: the runtime moves a task's future about.
                    let running = Box::pin(stream.run(request, respond));
                    tokio::task::spawn_local(async move {
                        running.await;
                        count.set(count.get() - 1);
                    });
                }
                Some(Err(error)) => {
                    tracing::debug!(source = %from.peer.source, %error, "an HTTP/2 connection broke");
                    break;
                }
                None => break,
            },
            () = &mut told, if !leaves => told.set(shared.leaving.told()),
            () = &mut deadline, if leaves => break,
            () = shared.relief.1.notified(), if !going => {
                let wanted = shared.relief.0.get();
                if wanted > 0 && streams.get() == 0 && busy_at.elapsed() >= LATELY {
                    shared.relief.0.set(wanted - 1);
                    going = true;
                    connection.graceful_shutdown();
                }
            }
            _ = look.tick() => {
                let now = Instant::now();
                if at_rest.get() {
                    half_since = None;
                } else if now - *half_since.get_or_insert(now) >= shared.read {
                    tracing::debug!(source = %from.peer.source, "half a frame does not go on");
                    break;
                }
                if streams.get() > 0 {
                    busy_at = now;
                } else if going && now - *going_since.get_or_insert(now) >= shared.read {
                    // It was told to go, and does not even answer that.
                    break;
                } else if now - busy_at >= shared.idle && !going {
                    going = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }
    drop(counted);
}

struct Stream {
    from: From,
    shared: Shared,
}

/// What a stream's request asks, as HTTP/1.1 would.
struct Asked {
    head: Vec<u8>,
    framing: Framing,
    /// The reply has no body.
    bodiless: bool,
    websocket: bool,
    grpc: bool,
}

impl Stream {
    async fn run(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (asked, body) = {
            let (parts, body) = request.into_parts();
            match ask(&parts, body.is_end_stream()) {
                Ok(asked) => (asked, body),
                Err(status) => {
                    let mut response = Response::new(());
                    *response.status_mut() = status;
                    let _ = respond.send_response(response, true);
                    return;
                }
            }
        };
        let (near, far) = pipe::pair();
        self.shared.inbox.push(Arrival::Stream {
            listener: self.from.listener,
            protocol: self.from.protocol,
            peer: self.from.peer.clone(),
            end: far,
        });
        let End { reader, mut writer } = near;
        if writer.write_all(&asked.head).await.is_err() {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let framing = asked.framing;
        let sending = async move {
            if !framing.is_empty() && into_pipe(body, &mut writer, framing).await.is_err() {
                // Dropped without having ended, the pipe breaks, and the request with it.
                return;
            }
            if framing == Framing::UntilEnd {
                writer.shut();
            }
            // The request is over, its connection is not: the reply is still to come.
            writer.broken().await;
        };
        let mut sending = std::pin::pin!(sending);
        let mut replying = std::pin::pin!(reply(reader, respond, &asked));
        tokio::select! {
            () = &mut replying => {}
            () = &mut sending => replying.await,
        }
    }
}

/// The request in HTTP/1.1's words; or the status that refuses it.
fn ask(parts: &http::request::Parts, ended: bool) -> Result<Asked, StatusCode> {
    let headers = &parts.headers;
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let host = match (parts.uri.authority(), headers.get(header::HOST)) {
        (Some(authority), Some(host)) if host.as_bytes() != authority.as_str().as_bytes() => {
            return Err(StatusCode::BAD_REQUEST);
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| StatusCode::BAD_REQUEST)?,
        (None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    let length = match headers.get(header::CONTENT_LENGTH) {
        None => None,
        Some(length) => {
            let length = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            Some(length.ok_or(StatusCode::BAD_REQUEST)?)
        }
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let key;
    let (method, target, framing, socket) = match (&parts.method, protocol) {
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() == "websocket" => {
            key = websocket::key();
            ("GET", target, Framing::UntilEnd, Some(key.as_str()))
        }
        (&Method::CONNECT, Some(_)) => return Err(StatusCode::NOT_IMPLEMENTED),
        (&Method::CONNECT, None) => ("CONNECT", host, Framing::UntilEnd, None),
        (method, _) => {
            let framing = match (ended, length) {
                (true, Some(1..)) => return Err(StatusCode::BAD_REQUEST),
                (true, _) if matches!(*method, Method::GET | Method::HEAD | Method::DELETE) => {
                    Framing::Nothing
                }
                (true, _) => Framing::Length(0),
                // A length of nothing with frames still to come frames nothing.
                (false, Some(length @ 1..)) if !headers.contains_key(header::TRAILER) => {
                    Framing::Length(length)
                }
                (false, _) => Framing::Chunks,
            };
            (method.as_str(), target, framing, None)
        }
    };
    // What HTTP/1.1 would trim, HTTP/2 must not have (RFC 9113 section 8.2.1).
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers
        .values()
        .any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last()))
    {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut head = Vec::with_capacity(512);
    RequestHead { method, target, host, headers, framing, websocket: socket, version: "HTTP/2.0" }
        .write(&mut head);
    let grpc = text::is_grpc(headers);
    Ok(Asked {
        head,
        framing,
        bodiless: parts.method == Method::HEAD,
        websocket: socket.is_some(),
        grpc,
    })
}

/// Why a reply could not be carried to its end.
enum Failed {
    /// The engine gave up half way.
    Broken,
    /// The client is gone.
    Gone,
}

impl std::convert::From<Garbled> for Failed {
    fn from(_: Garbled) -> Self {
        Self::Broken
    }
}

impl std::convert::From<h2::Error> for Failed {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

impl std::convert::From<std::io::Error> for Failed {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

/// Carries the engine's reply to the client.
async fn reply(mut reader: Reader, mut respond: SendResponse<Bytes>, asked: &Asked) {
    let mut buf = BytesMut::new();
    let head = loop {
        let head = tokio::select! {
            head = read_head(&mut reader, &mut buf) => head,
            // The client has given up: the pipe breaks as the reader is dropped.
            _ = std::future::poll_fn(|context| respond.poll_reset(context)) => return,
        };
        match head {
            Ok(head) => match head.status() {
                Ok(StatusCode::SWITCHING_PROTOCOLS) => break Ok(head),
                Ok(status) if status.is_informational() => {
                    let mut interim = Response::new(());
                    *interim.status_mut() = status;
                    *interim.headers_mut() = head.headers;
                    if respond.send_informational(interim).is_err() {
                        return;
                    }
                }
                _ => break Ok(head),
            },
            Err(failed) => break Err(failed),
        }
    };
    let Ok(head) = head else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    let (response, framing) = response(head, asked);
    let over = framing.is_empty();
    let Ok(mut stream) = respond.send_response(response, over) else { return };
    if over {
        return;
    }
    match send_reply(&mut reader, &mut buf, framing, &mut stream).await {
        Ok(()) | Err(Failed::Gone) => {}
        Err(Failed::Broken) if asked.grpc => {
            // gRPC has a word for it.
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("14"));
            let why = HeaderValue::from_static("polyport: upstream connection lost");
            trailers.insert("grpc-message", why);
            let _ = stream.send_trailers(trailers);
        }
        Err(Failed::Broken) => stream.send_reset(Reason::INTERNAL_ERROR),
    }
}

/// The next head of a reply.
async fn read_head(reader: &mut Reader, buf: &mut BytesMut) -> Result<text::Head, Failed> {
    loop {
        if let Some(head) = text::head(buf)? {
            return Ok(head);
        }
        if !reader.more(buf).await? {
            return Err(Failed::Broken);
        }
    }
}

fn response(mut head: text::Head, asked: &Asked) -> (Response<()>, Framing) {
    let status = head.status().unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = Response::new(());
    let opened = asked.websocket && status == StatusCode::SWITCHING_PROTOCOLS;
    let tunnel = asked.framing == Framing::UntilEnd && !asked.websocket && status.is_success();
    let framing = match head.framing {
        _ if opened || tunnel => Framing::UntilEnd,
        _ if asked.bodiless => Framing::Nothing,
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => {
            Framing::Nothing
        }
        Framing::Nothing => Framing::UntilEnd,
        framing => framing,
    };
    head.headers.remove(header::HOST);
    if opened {
        head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    }
    *response.status_mut() = if opened { StatusCode::OK } else { status };
    *response.headers_mut() = head.headers;
    (response, framing)
}

async fn send_reply(
    reader: &mut Reader,
    buf: &mut BytesMut,
    framing: Framing,
    stream: &mut SendStream<Bytes>,
) -> Result<(), Failed> {
    let mut body = text::Body::new(framing);
    let mut ended = false;
    loop {
        match body.next(buf, ended)? {
            Piece::Data(data) => {
                send_data(stream, data).await?;
            }
            Piece::End(None) => {
                stream.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Piece::End(Some(trailers)) => {
                stream.send_trailers(trailers)?;
                return Ok(());
            }
            Piece::Short => {
                let more = tokio::select! {
                    more = reader.more(buf) => more?,
                    _ = std::future::poll_fn(|context| stream.poll_reset(context)) => {
                        return Err(Failed::Gone);
                    }
                };
                ended = !more;
            }
        }
    }
}
