//! The decoders as `tokio_util` codecs, for programs that want framed streams of
//! whole messages rather than steps.

use bytes::{Bytes, BytesMut};

use crate::codec::{Codec, Decoder, Side};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Step};
use crate::interest::Interest;
use crate::metadata::Metadata;

/// A whole message.
#[derive(Debug, Clone)]
pub struct Message {
    /// What the decoder said of it.
    pub head: Head,
    /// The wanted keys that it has, with their values, in slot order.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// All of its bytes as they came, head first.
    pub bytes: Bytes,
}

/// Why a framed stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The bytes break the protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Gathers whole messages of one direction; as an encoder it writes bytes as
/// they are. Memory is bounded by the `longest` message accepted.
pub struct MessageCodec {
    decoder: Box<dyn Decoder>,
    interest: Interest,
    metadata: Metadata,
    longest: usize,
    need: usize,
    current: Option<Gathering>,
}

/// The message being gathered.
struct Gathering {
    head: Head,
    metadata: Vec<(String, Vec<u8>)>,
    /// How many of the buffered bytes are its own so far.
    len: usize,
    rest: Rest,
}

enum Rest {
    Bytes(u64),
    Steps,
}

impl MessageCodec {
    /// A codec for the bytes that `side` writes; messages over `longest` bytes are an error.
    pub fn new(codec: &dyn Codec, interest: &Interest, side: Side, longest: usize) -> Self {
        Self {
            decoder: codec.decoder(side),
            interest: interest.clone(),
            metadata: Metadata::new(interest),
            longest,
            need: 0,
            current: None,
        }
    }

    /// Tells the decoder of a request written on this connection; see [`Decoder::expect`].
    pub fn expect(&mut self, request: crate::ReplyTo) {
        self.decoder.expect(request);
    }

    fn finish(&mut self, src: &mut BytesMut) -> Option<Message> {
        let Gathering { head, metadata, len, .. } = self.current.take()?;
        Some(Message { head, metadata, bytes: src.split_to(len.min(src.len())).freeze() })
    }

    fn too_long(&self) -> StreamError {
        let reason = format!("a message of more than {} bytes", self.longest);
        DecodeError::new("stream", ErrorKind::TooLarge, self.longest, reason).into()
    }
}

impl tokio_util::codec::Decoder for MessageCodec {
    type Item = Message;
    type Error = StreamError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Message>, StreamError> {
        loop {
            let taken = self.current.as_ref().map_or(0, |current| current.len);
            if taken > self.longest {
                return Err(self.too_long());
            }
            if let Some(Gathering { len, rest: Rest::Bytes(left), .. }) = &mut self.current {
                let more = (src.len() - *len).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *len += more;
                *left -= more as u64;
                if *left == 0 {
                    return Ok(self.finish(src));
                }
                return if *len > self.longest { Err(self.too_long()) } else { Ok(None) };
            }
            let buf = src.get(taken..).unwrap_or_default();
            if buf.len() < self.need || (buf.is_empty() && self.current.is_none()) {
                return Ok(None);
            }
            let step = self.decoder.decode(buf, &mut self.metadata)?;
            self.need = 0;
            match step {
                Step::Need(need) => {
                    self.need = need;
                    return Ok(None);
                }
                Step::Head(head) => {
                    let metadata = self
                        .metadata
                        .view(buf)
                        .iter(&self.interest)
                        .map(|(key, value)| (key.to_owned(), value.to_vec()))
                        .collect();
                    let rest = match head.body {
                        Body::None => Rest::Bytes(0),
                        Body::Length(len) => Rest::Bytes(len),
                        Body::Steps => Rest::Steps,
                    };
                    self.current = Some(Gathering { head, metadata, len: head.len, rest });
                }
                Step::Body(more) | Step::Framing(more) => {
                    if let Some(current) = &mut self.current {
                        current.len += more;
                    }
                }
                Step::End => return Ok(self.finish(src)),
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Message>, StreamError> {
        if let Some(message) = self.decode(src)? {
            return Ok(Some(message));
        }
        let taken = self.current.as_ref().map_or(0, |current| current.len);
        if self.decoder.eof(src.get(taken..).unwrap_or_default())? {
            return Ok(self.finish(src));
        }
        Ok(None)
    }
}

impl tokio_util::codec::Encoder<Bytes> for MessageCodec {
    type Error = StreamError;

    fn encode(&mut self, bytes: Bytes, dst: &mut BytesMut) -> Result<(), StreamError> {
        dst.extend_from_slice(&bytes);
        Ok(())
    }
}
