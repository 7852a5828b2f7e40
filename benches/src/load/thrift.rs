//! Thrift calls of an echo method: framed transport, binary protocol, strict.

use super::{Dialect, Found, STAMP, stamp};

/// The method called.
pub const METHOD: &str = "echo";

/// The version of the strict binary protocol and a message's type, as they are written.
pub const CALL: [u8; 4] = [0x80, 1, 0, 1];
/// The same of a reply.
pub const REPLY: [u8; 4] = [0x80, 1, 0, 2];

/// Bytes up to the struct: frame length, version and type, the name's length,
/// the name, seqid.
pub const HEAD: usize = SEQID + 4;
const SEQID: usize = 12 + METHOD.len();

/// What a struct with one string begins with, before the string's length.
const FIELD: usize = 3;

/// Thrift.
#[derive(Debug)]
pub struct Thrift {
    request: Vec<u8>,
}

impl Default for Thrift {
    fn default() -> Self {
        Self::new()
    }
}

impl Thrift {
    /// Makes the request that all calls are stamped from.
    pub fn new() -> Self {
        let mut request = Vec::new();
        message(CALL, [0; 4], 1, &[b'-'; STAMP], &mut request);
        Self { request }
    }
}

/// Appends a message whose struct holds one string of this field id.
pub fn message(start: [u8; 4], seqid: [u8; 4], field: u8, text: &[u8], out: &mut Vec<u8>) {
    let len = (HEAD - 4 + FIELD + 4 + text.len() + 1) as u32;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&start);
    out.extend_from_slice(&(METHOD.len() as u32).to_be_bytes());
    out.extend_from_slice(METHOD.as_bytes());
    out.extend_from_slice(&seqid);
    out.extend_from_slice(&[11, 0, field]);
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
    out.push(0);
}

/// A frame that is a message of [`METHOD`]: its length, version and type, seqid,
/// and the bytes of its struct.
pub type Message<'a> = (usize, [u8; 4], [u8; 4], &'a [u8]);

/// Reads the first frame of `buf`; `None` where it is not all there.
pub fn read(buf: &[u8]) -> Result<Option<Message<'_>>, &'static str> {
    let Some((len, rest)) = buf.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*len) as usize;
    let Some(frame) = rest.get(..len) else { return Ok(None) };
    let (start, rest) = frame.split_first_chunk::<4>().ok_or("a short frame")?;
    let (name, rest) = rest.split_first_chunk::<4>().ok_or("a short frame")?;
    let name = u32::from_be_bytes(*name) as usize;
    if rest.get(..name) != Some(METHOD.as_bytes()) {
        return Err("not the method");
    }
    let (seqid, body) = rest[name..].split_first_chunk::<4>().ok_or("a short frame")?;
    Ok(Some((4 + len, *start, *seqid, body)))
}

/// The string that a struct begins with, if its field id is `field`.
pub fn string(body: &[u8], field: u8) -> Option<&[u8]> {
    let (head, rest) = body.split_first_chunk::<{ FIELD + 4 }>()?;
    let [11, 0, id, len @ ..] = *head else { return None };
    rest.get(..u32::from_be_bytes(len) as usize).filter(|_| id == field)
}

impl Dialect for Thrift {
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        // A run is over long before the 32 bits are.
        out[start + SEQID..start + HEAD].copy_from_slice(&(id as u32).to_be_bytes());
        let text = start + HEAD + FIELD + 4;
        out[text..text + STAMP].copy_from_slice(&stamp(conn, id));
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        _next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let message = read(buf).map_err(|why| {
            format!("{why}: {:?}", String::from_utf8_lossy(&buf[..buf.len().min(200)]))
        })?;
        let Some((len, start, seqid, body)) = message else { return Ok(Found::Part) };
        let id = u64::from(u32::from_be_bytes(seqid));
        // The success of a reply is its field 0.
        if start != REPLY || string(body, 0) != Some(&stamp(conn, id)) {
            return Err(format!(
                "call {id} of connection {conn} was answered with {start:02x?} {:?}",
                String::from_utf8_lossy(body)
            ));
        }
        Ok(Found::Reply(len, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::thrift::serve;

    #[test]
    fn the_backends_reply_to_another_call_is_refused() {
        let mut thrift = Thrift::new();
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let out = &mut Vec::new();
        thrift.request(5, 77, &mut request);
        assert_eq!(serve(&request[..40], &mut reply).unwrap(), 0);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(thrift.reply(5, &reply, 0, out), Ok(Found::Reply(reply.len(), 77)));
        assert_eq!(thrift.reply(5, &reply[..30], 0, out), Ok(Found::Part));
        assert!(thrift.reply(6, &reply, 0, out).is_err(), "another connection's");
        reply[SEQID + 3] = 78;
        assert!(thrift.reply(5, &reply, 0, out).is_err(), "another call's");
        reply[SEQID + 3] = 77;
        reply[7] = 3;
        assert!(thrift.reply(5, &reply, 0, out).is_err(), "an exception");
    }
}
