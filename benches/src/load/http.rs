//! `GET` requests whose reply's body repeats what the path asked for.

use memchr::memmem::Finder;

use super::{Dialect, Found, STAMP, stamp};

/// HTTP/1.1, keep-alive.
#[derive(Debug)]
pub struct Http {
    head_end: Finder<'static>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// Ready to drive.
    pub fn new() -> Self {
        Self { head_end: Finder::new(b"\r\n\r\n") }
    }
}

impl Dialect for Http {
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET /item/");
        out.extend_from_slice(&stamp(conn, id));
        out.extend_from_slice(
            b" HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: compare\r\nAccept: */*\r\n\r\n",
        );
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let Some(end) = self.head_end.find(buf) else { return Ok(Found::Part) };
        let head = &buf[..end];
        let shown = || String::from_utf8_lossy(head).into_owned();
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!("not a 200: {}", shown()));
        }
        let len = content_length(head).ok_or_else(|| format!("no content-length: {}", shown()))?;
        let Some(body) = buf[end + 4..].get(..len) else { return Ok(Found::Part) };
        let want = stamp(conn, next);
        if len != 2 * STAMP || body[..STAMP] != want || body[STAMP..] != want {
            return Err(format!(
                "request {next} of connection {conn} was answered with {:?}",
                String::from_utf8_lossy(body)
            ));
        }
        Ok(Found::Reply(end + 4 + len, next))
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        if !name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::http::serve;

    #[test]
    fn the_backends_reply_to_another_request_is_refused() {
        let mut http = Http::new();
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let out = &mut Vec::new();
        http.request(5, 77, &mut request);
        assert_eq!(serve(&request[..40], &mut reply).unwrap(), 0);
        assert_eq!(serve(&request, &mut reply).unwrap(), request.len());
        assert_eq!(http.reply(5, &reply, 77, out), Ok(Found::Reply(reply.len(), 77)));
        assert_eq!(http.reply(5, &reply[..reply.len() - 1], 77, out), Ok(Found::Part));
        assert!(http.reply(5, &reply, 78, out).is_err());
        assert!(http.reply(5, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 77, out).is_err());
    }
}
