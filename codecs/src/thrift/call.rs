//! Whole messages, for tools, demos and tests: the proxy itself never builds a call.

use super::envelope::{self, Envelope};
pub use super::envelope::{Encoding, Transport};
pub use super::fields::{Value, fields};
use super::{header, varint};

/// A message to be written.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// How it is delimited.
    pub transport: Transport,
    /// How it is written.
    pub encoding: Encoding,
    /// 1 call, 2 reply, 3 exception, 4 one-way.
    pub kind: u8,
    /// The method's name.
    pub name: &'a [u8],
    /// The sequence id.
    pub seqid: u32,
    /// Headers, which only [`Transport::Header`] carries.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The struct, already encoded, its end included.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Appends the message. Headers beyond 256 KiB are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self.transport {
            Transport::Unframed => {}
            Transport::Framed => out.extend_from_slice(&[0; 4]),
            Transport::Header => {
                out.extend_from_slice(&[0, 0, 0, 0, 0x0f, 0xff, 0, 0]);
                out.extend_from_slice(&self.seqid.to_be_bytes());
                let block = out.len();
                if header::write(self.encoding, &[], self.headers, out).is_err() {
                    out.truncate(block);
                    // Without any header it is short.
                    let _ = header::write(self.encoding, &[], &[], out);
                }
            }
        }
        match self.encoding {
            Encoding::Binary => {
                out.extend_from_slice(&[0x80, 0x01, 0, self.kind]);
                out.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
                out.extend_from_slice(self.name);
                out.extend_from_slice(&self.seqid.to_be_bytes());
            }
            Encoding::BinaryOld => {
                out.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
                out.extend_from_slice(self.name);
                out.push(self.kind);
                out.extend_from_slice(&self.seqid.to_be_bytes());
            }
            Encoding::Compact => {
                out.extend_from_slice(&[0x82, self.kind << 5 | 1]);
                varint::write(u64::from(self.seqid), out);
                varint::write(self.name.len() as u64, out);
                out.extend_from_slice(self.name);
            }
        }
        out.extend_from_slice(self.body);
        if self.transport != Transport::Unframed {
            let size = (out.len() - start).saturating_sub(4) as u32;
            if let Some(place) = out.get_mut(start..start + 4) {
                place.copy_from_slice(&size.to_be_bytes());
            }
        }
    }
}

/// Appends a struct of one text field, with its end.
pub fn text_field(encoding: Encoding, id: u8, text: &[u8], out: &mut Vec<u8>) {
    field(encoding, id, text, out);
    out.push(0);
}

/// Appends the struct of a call's arguments, all of them text, as fields from 1 on.
/// No more than 255 are written.
pub fn text_arguments(encoding: Encoding, texts: &[&str], out: &mut Vec<u8>) {
    for (id, text) in (1..=u8::MAX).zip(texts) {
        field(encoding, id, text.as_bytes(), out);
    }
    out.push(0);
}

fn field(encoding: Encoding, id: u8, text: &[u8], out: &mut Vec<u8>) {
    if encoding == Encoding::Compact {
        // The id in full, which needs no knowledge of the field before.
        out.push(8);
        varint::write(varint::zigzag(i64::from(id)), out);
        varint::write(text.len() as u64, out);
    } else {
        out.extend_from_slice(&[11, 0, id]);
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(text);
}

/// A whole message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// 1 call, 2 reply, 3 exception, 4 one-way.
    pub kind: u8,
    /// The method's name.
    pub name: Vec<u8>,
    /// The sequence id.
    pub seqid: u32,
    /// How it was delimited.
    pub transport: Transport,
    /// How it was written.
    pub encoding: Encoding,
    /// The struct.
    pub body: Vec<u8>,
}

/// Reads one whole message; `None` where `message` is not one.
pub fn read(message: &[u8]) -> Option<Read> {
    let found: Envelope = envelope::read(message, true, usize::MAX).ok()?;
    Some(Read {
        kind: found.kind,
        name: message.get(found.name.0..)?.get(..found.name.1)?.to_vec(),
        seqid: found.seqid,
        transport: found.transport,
        encoding: found.encoding,
        body: message.get(found.body..)?.to_vec(),
    })
}
