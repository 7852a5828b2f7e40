//! One message with no end in each direction: the hello, or the server's first bytes,
//! and all that follows.

use std::sync::Arc;

use super::hello::{self, ClientHello, LONGEST, Stop};
use super::{DECODE_ERROR, NAME};
use crate::codec::{Decoder, Side};
use crate::error::{DecodeError, ErrorKind};
use crate::frame::{Body, Head, Kind, Lease, ReplyTo, Step};
use crate::interest::{Interest, Slot};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::shared::SharedSlots;

/// Slots and limits, shared by all decoders of a config.
pub(super) struct Plan {
    /// Bytes that the hello's records may take.
    longest: usize,
    shared: SharedSlots,
    sni: Option<Slot>,
    alpn: Option<Slot>,
}

impl Plan {
    pub(super) fn new(limits: &Limits, interest: &Interest) -> Self {
        Self {
            longest: limits.head.min(LONGEST),
            shared: SharedSlots::new(interest),
            sni: interest.slot("tls.sni"),
            alpn: interest.slot("tls.alpn"),
        }
    }

    fn fill(&self, hello: &ClientHello, meta: &mut Metadata) {
        if let (Some(slot), Some(name)) = (self.sni, &hello.sni) {
            meta.set_text(slot, name.as_bytes());
        }
        if let Some(slot) = self.alpn {
            // Names that could not be told apart once joined are nobody's to match.
            let plain = |name: &&[u8]| name.iter().all(|b| b.is_ascii_graphic() && *b != b',');
            let names: Vec<&[u8]> =
                hello.alpn.iter().map(Vec::as_slice).filter(|name| plain(name)).collect();
            if !names.is_empty() {
                meta.set_text(slot, &names.join(&b','));
            }
        }
    }
}

pub(super) struct TlsDecoder {
    plan: Arc<Plan>,
    side: Side,
    /// The head is out: all that follows is its body.
    begun: bool,
}

impl TlsDecoder {
    pub(super) fn new(plan: Arc<Plan>, side: Side) -> Self {
        Self { plan, side, begun: false }
    }
}

impl Decoder for TlsDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        if buf.is_empty() {
            return Ok(Step::Need(1));
        }
        if self.begun {
            return Ok(Step::Body(buf.len()));
        }
        let mut head = match self.side {
            Side::Request => {
                let hello = match hello::read(buf, self.plan.longest) {
                    Ok(hello) => hello,
                    Err(Stop::Need(need)) => return Ok(Step::Need(need)),
                    Err(Stop::NotTls) => {
                        let why = "no TLS connection begins so";
                        return Err(DecodeError::new(NAME, ErrorKind::Malformed, 0, why));
                    }
                    Err(Stop::Bad(kind, why)) => {
                        let error = DecodeError::new(NAME, kind, 0, why);
                        return Err(error.with_status(u16::from(DECODE_ERROR)));
                    }
                };
                let mut head = Head::whole(Kind::Request, hello.len);
                head.lease = Lease::Session;
                head.reply_to = ReplyTo { id: 0, token: u64::from(hello.version) };
                meta.clear();
                self.plan.fill(&hello, meta);
                head
            }
            Side::Reply => {
                meta.clear();
                Head::whole(Kind::Response, buf.len())
            }
        };
        head.body = Body::Steps;
        self.plan.shared.fill(meta, NAME, head.kind, None);
        self.begun = true;
        Ok(Step::Head(head))
    }

    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if self.begun || unread.is_empty() {
            // The end of the connection is the only end there is.
            return Ok(self.begun);
        }
        Err(DecodeError::new(NAME, ErrorKind::Truncated, unread.len(), "half a hello"))
    }
}
