//! Line protocols, one for each way of exchange: `iiiiiiiiiiiiiiii:text\n`, with a
//! hexadecimal id; the reply is the same line with `=` for `:`, an error has `!`.
//! A line `Lnnnn…` announces a body of that many bytes after it, as does `Mnnnn…`; after
//! `Tnnnn…` its sender waits for that many milliseconds. `O…` expects no reply, and `J…`
//! opens a session. From `H…` to `E…` a client keeps its connection. Whatever begins with
//! `M` or `N` must not be done twice. A line with `~` asks its reader to leave; a reply whose
//! sign is `.`, and an error that ends in one, say that the connection ends. A session that
//! was joined ends with a line of `~` between two of the server's.

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
pub(super) static TALK: Toy =
    Toy { name: "talk", exchange: Exchange::Session, ordered_servers: false };

/// Of a request's token: nobody hears an answer to it; the answer is the connection's last.
const UNHEARD: u64 = 1;
const LAST: u64 = 2;

/// The number that follows the letter which says what a line is.
pub(super) fn number_of(line: &[u8]) -> u64 {
    let digits = line.get(18..).unwrap_or_default();
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..count]).unwrap_or("0").parse().unwrap_or(0)
}

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
        Arc::new(ToyCodec {
            held: matches!(self.exchange, Exchange::Ordered { .. }),
            leave: match self.exchange {
                Exchange::Correlated if !self.ordered_servers => Leave::Told,
                Exchange::Ordered { shared: false } => Leave::Reply,
                Exchange::Session => Leave::Farewell,
                _ => Leave::Silent,
            },
        })
    }
    fn set_correlation(&self, head: &mut [u8], id: u64) {
        if let Some(place) = head.get_mut(..16) {
            place.copy_from_slice(format!("{id:016x}").as_bytes());
        }
    }
    fn relay(&self, _: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        let start = out.len();
        match hop.timeout {
            Some(left) => {
                let digits = bytes[18..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                out.extend(
                    [&bytes[..18], left.to_string().as_bytes(), &bytes[18 + digits..]].concat(),
                );
            }
            None => out.extend_from_slice(bytes),
        }
        if hop.close
            && hop.side == Side::Reply
            && let Some(sign) = out.get_mut(start + 16)
        {
            *sign = b'.';
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
        let last = to.token & LAST != 0;
        if to.token & UNHEARD == 0 {
            let end = if last { "." } else { "" };
            out.extend_from_slice(format!("{:016x}!{fault:?}{end}\n", to.id).as_bytes());
        }
        if last { After::Close } else { After::Keep }
    }
    fn seam(&self, _: ReplyTo) -> Option<Box<dyn Seam>> {
        Some(Box::new(Lines { begun: false }))
    }
    fn last(&self, to: ReplyTo) -> ReplyTo {
        ReplyTo { token: to.token | LAST, ..to }
    }
}

/// Finds where lines end.
struct Lines {
    begun: bool,
}

impl Seam for Lines {
    fn advance(&mut self, bytes: &[u8], stop: bool) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if stop && !self.begun {
                return at;
            }
            self.begun = *byte != b'\n';
        }
        bytes.len()
    }
    fn is_between(&self) -> bool {
        !self.begun
    }
    fn farewell(&self, fault: Fault, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:016x}~{fault:?}\n", 0).as_bytes());
    }
}

struct ToyCodec {
    /// Clients may keep connections.
    held: bool,
    leave: Leave,
}

impl Codec for ToyCodec {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        Box::new(ToyDecoder { side, held: self.held, holding: false })
    }
    fn leave(&self, spoke: ReplyTo, out: &mut Vec<u8>) -> Leave {
        if self.leave == Leave::Told {
            out.extend_from_slice(format!("{:016x}~\n", spoke.id).as_bytes());
        }
        self.leave
    }
}

struct ToyDecoder {
    side: Side,
    held: bool,
    holding: bool,
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
        let number = number_of(&buf[..end]);
        match buf.get(17) {
            Some(b'L' | b'M') if number > 0 => head.body = Body::Length(number),
            Some(b'T') => head.timeout = u32::try_from(number).unwrap_or(0),
            _ => {}
        }
        head.idempotent = !matches!(buf.get(17), Some(b'M' | b'N'));
        if self.side == Side::Request {
            match buf.get(17) {
                // Nobody wants to hear of it, not even that it was refused.
                Some(b'O') => (head.kind, head.reply_to.token) = (Kind::Oneway, UNHEARD),
                Some(b'J') => head.lease = Lease::Session,
                Some(b'H') if self.held => (self.holding, head.lease) = (true, Lease::Hold),
                Some(b'E') if self.held => (self.holding, head.lease) = (false, Lease::Release),
                _ if self.holding => head.lease = Lease::Hold,
                _ => {}
            }
        }
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
