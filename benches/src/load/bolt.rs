//! Bolt v1 calls of an echo method, with class and headers as SOFA clients send
//! them. The content is opaque to proxies; here it is what a call is stamped with.

use super::{Dialect, Found, STAMP, stamp};

/// Length of a request's header.
pub const REQUEST: usize = 22;
/// Length of a response's header.
pub const RESPONSE: usize = 20;
/// Where both have the request id.
pub const ID: std::ops::Range<usize> = 5..9;

const CLASS: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";
const SERVICE: &str = "com.shop.OrderService:1.0";
const HEADERS: [(&str, &str); 6] = [
    ("service", SERVICE),
    ("sofa_head_target_service", SERVICE),
    ("sofa_head_method_name", "echo"),
    ("sofa_head_target_app", "orders"),
    ("sofa_head_generic_type", "0"),
    ("tenant", "acme"),
];

/// Bolt.
#[derive(Debug)]
pub struct Bolt {
    request: Vec<u8>,
}

impl Default for Bolt {
    fn default() -> Self {
        Self::new()
    }
}

impl Bolt {
    /// Makes the request that all calls are stamped from.
    pub fn new() -> Self {
        let mut headers = Vec::new();
        for text in HEADERS.into_iter().flat_map(|(name, value)| [name, value]) {
            headers.extend_from_slice(&(text.len() as u32).to_be_bytes());
            headers.extend_from_slice(text.as_bytes());
        }
        // v1, a request, command 1, version 1, the id, hessian2.
        let mut request = vec![1, 1, 0, 1, 1, 0, 0, 0, 0, 1];
        request.extend_from_slice(&3000_i32.to_be_bytes());
        request.extend_from_slice(&(CLASS.len() as u16).to_be_bytes());
        request.extend_from_slice(&(headers.len() as u16).to_be_bytes());
        request.extend_from_slice(&(STAMP as u32).to_be_bytes());
        request.extend_from_slice(CLASS.as_bytes());
        request.extend_from_slice(&headers);
        request.extend_from_slice(&[b'-'; STAMP]);
        Self { request }
    }
}

impl Dialect for Bolt {
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        // A run is over long before the 32 bits are.
        out[start + ID.start..start + ID.end].copy_from_slice(&(id as u32).to_be_bytes());
        let content = out.len() - STAMP;
        out[content..].copy_from_slice(&stamp(conn, id));
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        _next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let Some((header, rest)) = buf.split_first_chunk::<RESPONSE>() else {
            return Ok(Found::Part);
        };
        let [1, 0, 0, 2, 1, i3, i2, i1, i0, 1, status @ .., c1, c0, h1, h0, l3, l2, l1, l0] =
            *header
        else {
            return Err(format!("not a Bolt response: {header:02x?}"));
        };
        let id = u64::from(u32::from_be_bytes([i3, i2, i1, i0]));
        let skipped =
            usize::from(u16::from_be_bytes([c1, c0])) + usize::from(u16::from_be_bytes([h1, h0]));
        let len = skipped + u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let Some(body) = rest.get(..len) else { return Ok(Found::Part) };
        if status != [0, 0] || body[skipped..] != stamp(conn, id) {
            return Err(format!(
                "call {id} of connection {conn} was answered with status {status:?}, {:?}",
                String::from_utf8_lossy(body)
            ));
        }
        Ok(Found::Reply(RESPONSE + len, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::bolt::serve;

    #[test]
    fn the_backends_reply_to_another_call_is_refused() {
        let mut bolt = Bolt::new();
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let out = &mut Vec::new();
        bolt.request(5, 77, &mut request);
        assert_eq!(serve(&request[..request.len() - 1], &mut reply).unwrap(), 0);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(bolt.reply(5, &reply, 0, out), Ok(Found::Reply(reply.len(), 77)));
        assert_eq!(bolt.reply(5, &reply[..30], 0, out), Ok(Found::Part));
        assert!(bolt.reply(6, &reply, 0, out).is_err(), "another connection's");
        reply[8] = 78;
        assert!(bolt.reply(5, &reply, 0, out).is_err(), "another call's");
        reply[8] = 77;
        reply[11] = 7;
        assert!(bolt.reply(5, &reply, 0, out).is_err(), "a timeout");
    }
}
