//! Answers every Dubbo 2 call with its first argument, a hessian2 string.

const HEADER: usize = 16;

/// One request in, its reply out; heartbeats too.
pub fn serve(buf: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let Some((header, rest)) = buf.split_first_chunk::<HEADER>() else { return Ok(0) };
    let [0xda, 0xbb, flags, _, id @ .., l3, l2, l1, l0] = *header else {
        return Err("not a Dubbo frame");
    };
    let len = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
    let Some(body) = rest.get(..len) else { return Ok(0) };
    let (request, event) = (flags & 0x80 != 0, flags & 0x20 != 0);
    if request && flags & 0x40 != 0 {
        out.extend_from_slice(&[0xda, 0xbb, if event { 0x22 } else { 0x02 }, 20]);
        out.extend_from_slice(&id);
        if event {
            out.extend_from_slice(&[0, 0, 0, 1, b'N']);
        } else {
            let argument = argument(body).ok_or("the argument is not a string")?;
            out.extend_from_slice(&(argument.len() as u32 + 1).to_be_bytes());
            out.push(0x91);
            out.extend_from_slice(argument);
        }
    }
    Ok(HEADER + len)
}

/// The sixth value of the body, as it is written: after the versions, the path,
/// the method and the types.
fn argument(mut body: &[u8]) -> Option<&[u8]> {
    for _ in 0..5 {
        body = body.get(string(body)?..)?;
    }
    body.get(..string(body)?)
}

/// Length of the ASCII string (or null) that `body` begins with.
fn string(body: &[u8]) -> Option<usize> {
    match *body {
        [len @ 0..=31, ..] => Some(1 + usize::from(len)),
        [high @ 0x30..=0x33, low, ..] => Some(2 + usize::from(high & 3) * 256 + usize::from(low)),
        [b'S', high, low, ..] => Some(3 + usize::from(high) * 256 + usize::from(low)),
        [b'N', ..] => Some(1),
        _ => None,
    }
}
