//! Answers every Bolt v1 request with its own content.

use crate::load::bolt::{ID, REQUEST, RESPONSE};

const CLASS: &str = "com.alipay.sofa.rpc.core.response.SofaResponse";

/// One request in, its response out; heartbeats too.
pub fn serve(buf: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let Some((header, rest)) = buf.split_first_chunk::<REQUEST>() else { return Ok(0) };
    let [1, kind, 0, command @ (0 | 1), 1, _, _, _, _, codec, _, _, _, _, lens @ ..] = *header
    else {
        return Err("not a Bolt v1 request");
    };
    let [c1, c0, h1, h0, l3, l2, l1, l0] = lens;
    let skipped =
        usize::from(u16::from_be_bytes([c1, c0])) + usize::from(u16::from_be_bytes([h1, h0]));
    let len = skipped + u32::from_be_bytes([l3, l2, l1, l0]) as usize;
    let Some(body) = rest.get(..len) else { return Ok(0) };
    let content = &body[skipped..];
    // Type 1 wants a response, 2 is one-way.
    if kind == 1 {
        let beat = command == 0;
        let class = if beat { "" } else { CLASS };
        let mut response = [0; RESPONSE];
        response[..5].copy_from_slice(&[1, 0, 0, if beat { 0 } else { 2 }, 1]);
        response[ID].copy_from_slice(&header[ID]);
        response[9] = codec;
        response[12..14].copy_from_slice(&(class.len() as u16).to_be_bytes());
        response[16..].copy_from_slice(&(content.len() as u32).to_be_bytes());
        out.extend_from_slice(&response);
        out.extend_from_slice(class.as_bytes());
        out.extend_from_slice(content);
    }
    Ok(REQUEST + len)
}
