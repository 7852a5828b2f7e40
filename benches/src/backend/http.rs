//! Answers `GET /item/STAMP` with the stamp, twice.

use crate::load::STAMP;

const PATH: &[u8] = b"GET /item/";
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n";

/// One request in, its reply out.
pub fn serve(buf: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let Some(end) = memchr::memmem::find(buf, b"\r\n\r\n") else { return Ok(0) };
    let stamp = buf
        .strip_prefix(PATH)
        .and_then(|rest| rest.get(..STAMP))
        .ok_or("not a request for /item/STAMP")?;
    out.extend_from_slice(HEAD);
    out.extend_from_slice(stamp);
    out.extend_from_slice(stamp);
    Ok(end + 4)
}
