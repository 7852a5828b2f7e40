//! Line protocols, one for each way of exchange: `iiiiiiiiiiiiiiii:text\n`, with a
//! hexadecimal id; the reply is the same line with `=` for `:`, an error has `!`.
//! A line `Lnnnn…` announces a body of that many bytes after it; after `Tnnnn…` its
//! sender waits for that many milliseconds.

use std::sync::Arc;

use polyport_codecs::*;

pub(super) struct Toy {
    pub(super) name: &'static str,
    exchange: Exchange,
    /// Its servers are said to answer in order, without repeating ids.
    pub(super) ordered_servers: bool,
}

pub(super) static CORRELATED: Toy =
    Toy { name: "correlated", exchange: Exchange::Correlated, ordered_servers: false };
pub(super) static IN_ORDER: Toy =
    Toy { name: "in order", exchange: Exchange::Correlated, ordered_servers: true };
pub(super) static PIPELINED: Toy =
    Toy { name: "pipelined", exchange: Exchange::Ordered { shared: true }, ordered_servers: false };
pub(super) static ALONE: Toy =
    Toy { name: "alone", exchange: Exchange::Ordered { shared: false }, ordered_servers: false };

pub(super) fn id_of(line: &[u8]) -> u64 {
    u64::from_str_radix(std::str::from_utf8(&line[..16]).unwrap_or("0"), 16).unwrap_or(0)
}

impl Protocol for Toy {
    fn name(&self) -> &'static str {
        self.name
    }
    fn probe(&self, _: &[u8]) -> Probe {
        Probe::Yes { confidence: CERTAIN }
    }
    fn exchange(&self) -> Exchange {
        self.exchange
    }
    fn keys(&self) -> &'static [KeySpec] {
        &[]
    }
    fn compile(&self, _: &Limits, _: &Interest) -> Arc<dyn Codec> {
        Arc::new(ToyCodec)
    }
    fn set_correlation(&self, head: &mut [u8], id: u64) {
        if let Some(place) = head.get_mut(..16) {
            place.copy_from_slice(format!("{id:016x}").as_bytes());
        }
    }
    fn relay(&self, _: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        let start = out.len();
        match hop.timeout {
            Some(left) => out.extend([&bytes[..18], format!("{left}\n").as_bytes()].concat()),
            None => out.extend_from_slice(bytes),
        }
        if let (Some(id), Some(head)) = (hop.id, out.get_mut(start..)) {
            self.set_correlation(head, id);
        }
    }
    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        _: &str,
        out: &mut Vec<u8>,
    ) -> After {
        out.extend_from_slice(format!("{:016x}!{fault:?}\n", to.id).as_bytes());
        After::Keep
    }
}

struct ToyCodec;

impl Codec for ToyCodec {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(ToyDecoder { side })
    }
}

struct ToyDecoder {
    side: Side,
}

impl Decoder for ToyDecoder {
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError> {
        let Some(end) = buf.iter().position(|byte| *byte == b'\n') else {
            return Ok(Step::Need(buf.len() + 1));
        };
        meta.clear();
        let kind = if self.side == Side::Request { Kind::Request } else { Kind::Response };
        let mut head = Head::whole(kind, end + 1);
        head.reply_to.id = id_of(buf);
        if buf.get(17) == Some(&b'L') {
            let digits = std::str::from_utf8(&buf[18..end]).unwrap_or("0");
            let length: u64 = digits.parse().unwrap_or(0);
            if length > 0 {
                head.body = Body::Length(length);
            }
        }
        if buf.get(17) == Some(&b'T') {
            let digits = std::str::from_utf8(&buf[18..end]).unwrap_or("0");
            head.timeout = digits.parse().unwrap_or(0);
        }
        head.idempotent = true;
        if self.side == Side::Reply && buf.get(16) == Some(&b'?') {
            head.outcome = Outcome::Unavailable;
        }
        Ok(Step::Head(head))
    }
    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError> {
        if unread.is_empty() {
            Ok(false)
        } else {
            Err(DecodeError::new("toy", ErrorKind::Truncated, 0, "half a line"))
        }
    }
}
