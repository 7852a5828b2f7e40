//! HTTP/1.1 heads and bodies as text, made from HTTP/2's parts and back.
//!
//! What is read here was written by our own engine or is about to be read by our
//! own decoders, which are strict; so reading is simple, and writing is careful.

use std::io::Write;

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

/// Fields that are of one connection and never of a message (RFC 9113 section 8.2.2).
fn for_one_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::TE
            | header::HOST
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// How the bytes after a head are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There are none.
    Nothing,
    /// So many.
    Length(u64),
    /// Chunks, then trailers.
    Chunks,
    /// All until the end.
    UntilEnd,
}

impl Framing {
    /// Whether no byte follows the head.
    pub(super) fn is_empty(self) -> bool {
        matches!(self, Self::Nothing | Self::Length(0))
    }
}

/// Whether a message is gRPC's, whose status comes in trailers.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A request for a head.
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) host: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) framing: Framing,
    /// The request asks to become a WebSocket, with this key.
    pub(super) websocket: Option<&'a str>,
    /// What the client speaks.
    pub(super) version: &'a str,
}

impl RequestHead<'_> {
    /// Appends the head. The caller has seen to it that nothing in it can end a line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = [self.method, " ", self.target, " ", self.version, "\r\nhost: ", self.host];
        for part in start {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        let mut cookies = 0;
        for (name, value) in self.headers {
            let skip = for_one_hop(name) && !(name == header::TE && value == "trailers")
                || name == header::CONTENT_LENGTH;
            if skip {
                continue;
            }
            if name == header::COOKIE {
                // One field may come in crumbs (RFC 9113 section 8.2.3).
                cookies += 1;
                continue;
            }
            field(name, value, out);
        }
        if cookies > 0 {
            out.extend_from_slice(b"cookie: ");
            for (at, value) in self.headers.get_all(header::COOKIE).iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(b"; ");
                }
                out.extend_from_slice(value.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        if let Some(key) = self.websocket {
            let _ = write!(
                out,
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {key}\r\n"
            );
        }
        framing(self.framing, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a response's head.
pub(super) fn response_head(
    status: StatusCode,
    headers: &HeaderMap,
    body: Framing,
    more: &str,
    out: &mut Vec<u8>,
) {
    let reason = status.canonical_reason().unwrap_or("");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        let framed = name == header::CONTENT_LENGTH && body != Framing::Nothing;
        if !for_one_hop(name) && !framed {
            field(name, value, out);
        }
    }
    out.extend_from_slice(more.as_bytes());
    framing(body, out);
    out.extend_from_slice(b"\r\n");
}

fn field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Nothing | Framing::UntilEnd => {}
        Framing::Length(length) => {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        Framing::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

/// Appends the start of a chunk; two bytes of line end follow its data.
pub(super) fn chunk_size(len: usize, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{len:x}\r\n");
}

/// Appends the last chunk and the trailers.
pub(super) fn last_chunk(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !for_one_hop(name) && name != header::CONTENT_LENGTH {
            field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A head that was read.
#[derive(Debug)]
pub(super) struct Head {
    /// The start line's three parts.
    pub(super) start: [String; 3],
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// It asks for, or agrees to, another protocol.
    pub(super) upgrade: Option<String>,
}

/// Something the engine should not have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

/// Takes a head from the front of `buf`; `None` where it is not all there.
pub(super) fn head(buf: &mut BytesMut) -> Result<Option<Head>, Garbled> {
    head_bytes(buf).map(|bytes| parse(&bytes)).transpose()
}

/// Takes the bytes of a head from the front of `buf`; `None` where it is not all there.
pub(super) fn head_bytes(buf: &mut BytesMut) -> Option<BytesMut> {
    find(buf, b"\r\n\r\n").map(|end| buf.split_to(end + 4))
}

/// Reads a whole head.
pub(super) fn parse(bytes: &[u8]) -> Result<Head, Garbled> {
    let mut lines = bytes.strip_suffix(b"\r\n\r\n").ok_or(Garbled)?.split(|byte| *byte == b'\n');
    let start = text(lines.next().unwrap_or_default())?;
    let mut parts = start.splitn(3, ' ').map(str::to_owned);
    let start = [(); 3].map(|()| parts.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    let (mut framing, mut upgrade) = (Framing::Nothing, None);
    for line in lines {
        let (name, value) = split(line)?;
        match name {
            header::TRANSFER_ENCODING => framing = Framing::Chunks,
            header::UPGRADE => upgrade = value.to_str().ok().map(str::to_owned),
            header::CONTENT_LENGTH => {
                let length = value.to_str().ok().and_then(|text| text.parse().ok());
                framing = Framing::Length(length.ok_or(Garbled)?);
                headers.append(name, value);
            }
            _ if for_one_hop(&name) && name != header::TE && name != header::HOST => {}
            _ => {
                headers.append(name, value);
            }
        }
    }
    Ok(Head { start, headers, framing, upgrade })
}

impl Head {
    /// The status of a response's head.
    pub(super) fn status(&self) -> Result<StatusCode, Garbled> {
        StatusCode::from_bytes(self.start[1].as_bytes()).map_err(|_| Garbled)
    }

    /// The method of a request's head.
    pub(super) fn method(&self) -> Result<Method, Garbled> {
        Method::from_bytes(self.start[0].as_bytes()).map_err(|_| Garbled)
    }
}

fn text(line: &[u8]) -> Result<&str, Garbled> {
    std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| Garbled)
}

fn split(line: &[u8]) -> Result<(HeaderName, HeaderValue), Garbled> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Garbled)?;
    let name = HeaderName::from_bytes(line.get(..colon).unwrap_or_default());
    let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
    let value = HeaderValue::from_bytes(value);
    Ok((name.map_err(|_| Garbled)?, value.map_err(|_| Garbled)?))
}

fn find(buf: &[u8], what: &[u8]) -> Option<usize> {
    buf.windows(what.len()).position(|window| window == what)
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Data.
    Data(bytes::Bytes),
    /// It is over, with these trailers.
    End(Option<HeaderMap>),
    /// More bytes are needed.
    Short,
}

/// Takes a body apart.
pub(super) struct Body {
    framing: Framing,
    /// Bytes of the current chunk that are to come.
    chunk: Option<u64>,
    /// The last chunk's size was read.
    trailers: bool,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, chunk: None, trailers: false }
    }

    /// The next piece at the front of `buf`. `ended`: no more bytes will come.
    pub(super) fn next(&mut self, buf: &mut BytesMut, ended: bool) -> Result<Piece, Garbled> {
        match self.framing {
            Framing::Nothing => Ok(Piece::End(None)),
            Framing::Length(0) => Ok(Piece::End(None)),
            Framing::Length(left) => {
                if buf.is_empty() {
                    return if ended { Err(Garbled) } else { Ok(Piece::Short) };
                }
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                self.framing = Framing::Length(left - count as u64);
                Ok(Piece::Data(buf.split_to(count).freeze()))
            }
            Framing::UntilEnd if buf.is_empty() => {
                Ok(if ended { Piece::End(None) } else { Piece::Short })
            }
            Framing::UntilEnd => Ok(Piece::Data(buf.split().freeze())),
            Framing::Chunks => self.chunk(buf, ended),
        }
    }

    fn chunk(&mut self, buf: &mut BytesMut, ended: bool) -> Result<Piece, Garbled> {
        let short = || if ended { Err(Garbled) } else { Ok(Piece::Short) };
        loop {
            match self.chunk {
                Some(0) => {
                    if buf.len() < 2 {
                        return short();
                    }
                    buf.advance(2);
                    self.chunk = None;
                }
                Some(left) => {
                    if buf.is_empty() {
                        return short();
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    self.chunk = Some(left - count as u64);
                    return Ok(Piece::Data(buf.split_to(count).freeze()));
                }
                None if self.trailers => {
                    let end = match buf.get(..2) {
                        Some(b"\r\n") => 0,
                        _ => match find(buf, b"\r\n\r\n") {
                            Some(end) => end + 2,
                            None => return short(),
                        },
                    };
                    let lines = buf.split_to(end + 2);
                    self.framing = Framing::Nothing;
                    if end == 0 {
                        return Ok(Piece::End(None));
                    }
                    let mut trailers = HeaderMap::new();
                    let lines = lines.get(..end - 2).unwrap_or_default();
                    for line in lines.split(|byte| *byte == b'\n') {
                        let (name, value) = split(line)?;
                        trailers.append(name, value);
                    }
                    return Ok(Piece::End(Some(trailers)));
                }
                None => {
                    let Some(end) = find(buf, b"\r\n") else { return short() };
                    let line = buf.split_to(end + 2);
                    let size = text(line.get(..end).unwrap_or_default())?;
                    let size = size.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(size, 16).map_err(|_| Garbled)?;
                    match size {
                        0 => self.trailers = true,
                        size => self.chunk = Some(size),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("x-a"));
        let mut out = Vec::new();
        RequestHead {
            method: "POST",
            target: "/a?b",
            host: "h",
            headers: &headers,
            framing: Framing::Chunks,
            websocket: None,
            version: "HTTP/2.0",
        }
        .write(&mut out);
        let mut buf = BytesMut::from(&out[..]);
        let head = head(&mut buf).expect("a head").expect("a whole one");
        assert_eq!(head.start, ["POST", "/a?b", "HTTP/2.0"]);
        assert_eq!(head.framing, Framing::Chunks);
        assert_eq!(head.headers.get(header::COOKIE).expect("cookies"), "a=1; b=2");
        assert!(head.headers.get(header::CONNECTION).is_none());
        assert!(buf.is_empty());
    }

    #[test]
    fn chunks_and_trailers_come_apart_wherever_they_are_cut() {
        let text = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\ngrpc-status: 0\r\nx: y\r\n\r\n";
        for cut in 0..text.len() {
            let mut body = Body::new(Framing::Chunks);
            let mut buf = BytesMut::from(&text[..cut]);
            let (mut data, mut more) = (Vec::new(), true);
            let trailers = loop {
                match body.next(&mut buf, false).expect("a body") {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::End(found) => break found,
                    Piece::Short if more => {
                        buf.extend_from_slice(&text[cut..]);
                        more = false;
                    }
                    Piece::Short => panic!("cut at {cut}: no end"),
                }
            };
            assert_eq!(data, b"abcdefg");
            assert_eq!(trailers.expect("trailers").get("grpc-status").expect("one"), "0");
        }
    }
}
