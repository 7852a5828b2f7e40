//! Answers every Thrift call (framed, binary, strict) with its first argument, a string.

use crate::load::thrift::{CALL, REPLY, message, read, string};

/// One call in, its reply out, with the call's own seqid.
pub fn serve(buf: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let Some((len, start, seqid, body)) = read(buf)? else { return Ok(0) };
    if start != CALL {
        return Err("not a Thrift call");
    }
    let argument = string(body, 1).ok_or("the argument is not a string")?;
    message(REPLY, seqid, 0, argument, out);
    Ok(len)
}
