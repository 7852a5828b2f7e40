//! Dubbo 2 calls of an echo method, hessian2, with attachments as real clients send them.

use super::{Dialect, Found, STAMP, stamp};

/// The interface called.
pub const INTERFACE: &str = "com.shop.OrderService";

const HEADER: usize = 16;

/// Dubbo 2.
#[derive(Debug)]
pub struct Dubbo {
    request: Vec<u8>,
    /// Where the argument is in it.
    argument: usize,
}

impl Default for Dubbo {
    fn default() -> Self {
        Self::new()
    }
}

impl Dubbo {
    /// Makes the request that all calls are stamped from.
    pub fn new() -> Self {
        let mut request = vec![0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for text in ["2.0.2", INTERFACE, "1.0.0", "echo", "Ljava/lang/String;"] {
            string(text.as_bytes(), &mut request);
        }
        string(&[b'-'; STAMP], &mut request);
        let argument = request.len() - STAMP;
        request.push(b'H');
        let attachments = [
            ("path", INTERFACE),
            ("interface", INTERFACE),
            ("version", "1.0.0"),
            ("group", "shop"),
            ("tenant", "acme"),
            ("timeout", "1000"),
        ];
        for (name, value) in attachments {
            string(name.as_bytes(), &mut request);
            string(value.as_bytes(), &mut request);
        }
        request.push(b'Z');
        let body = (request.len() - HEADER) as u32;
        request[12..HEADER].copy_from_slice(&body.to_be_bytes());
        Self { request, argument }
    }
}

/// Appends a hessian2 string of ASCII text of at most 1,023 characters.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    let len = text.len();
    if len < 32 {
        out.push(len as u8);
    } else {
        out.extend_from_slice(&[0x30 | (len >> 8) as u8, len as u8]);
    }
    out.extend_from_slice(text);
}

impl Dialect for Dubbo {
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        out[start + 4..start + 12].copy_from_slice(&id.to_be_bytes());
        let argument = start + self.argument;
        out[argument..argument + STAMP].copy_from_slice(&stamp(conn, id));
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        _next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let Some((header, rest)) = buf.split_first_chunk::<HEADER>() else {
            return Ok(Found::Part);
        };
        let [0xda, 0xbb, flags, status, id @ .., l3, l2, l1, l0] = *header else {
            return Err(format!("not a Dubbo reply: {header:02x?}"));
        };
        let id = u64::from_be_bytes(id);
        let len = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        if flags & 0xa0 != 0 || status != 20 {
            let text = String::from_utf8_lossy(&rest[..rest.len().min(len)]);
            return Err(format!("call {id}: flags {flags:02x}, status {status}: {text}"));
        }
        let Some(body) = rest.get(..len) else { return Ok(Found::Part) };
        // A value (with attachments: 4), then a string of 32 characters.
        match body {
            [0x91 | 0x94, 0x30, 0x20, value @ ..] if value.starts_with(&stamp(conn, id)) => {
                Ok(Found::Reply(HEADER + len, id))
            }
            _ => Err(format!(
                "call {id} of connection {conn} was answered with {:?}",
                String::from_utf8_lossy(body)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::dubbo::serve;

    #[test]
    fn the_backends_reply_to_another_call_is_refused() {
        let mut dubbo = Dubbo::new();
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let out = &mut Vec::new();
        dubbo.request(5, 77, &mut request);
        assert_eq!(serve(&request[..40], &mut reply).unwrap(), 0);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(dubbo.reply(5, &reply, 0, out), Ok(Found::Reply(reply.len(), 77)));
        assert_eq!(dubbo.reply(5, &reply[..30], 0, out), Ok(Found::Part));
        assert!(dubbo.reply(6, &reply, 0, out).is_err(), "another connection's");
        reply[11] = 78;
        assert!(dubbo.reply(5, &reply, 0, out).is_err(), "another call's");
    }
}
