//! Version 1: one line of text (section 2.1).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Found, addressed, addressless};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, its end included: the most that two IPv6 addresses can take.
const LONGEST: usize = 107;

/// Reads a line of which the signature is there.
pub(super) fn read(buf: &[u8]) -> Found {
    let shown = buf.get(..LONGEST).unwrap_or(buf);
    let Some(end) = memchr::memchr2(b'\r', b'\n', shown) else {
        return match shown.len() {
            LONGEST => Found::Malformed("a line without an end in its first 107 bytes"),
            len => Found::Need(len + 1),
        };
    };
    match shown.get(end..end + 2) {
        Some(b"\r\n") => {}
        // Only a CR that may yet have its LF within the longest line can be waited for.
        None if shown.ends_with(b"\r") && shown.len() < LONGEST => {
            return Found::Need(shown.len() + 1);
        }
        _ => return Found::Malformed("a line that does not end in CR LF"),
    }
    let line = shown.get(SIGNATURE.len()..end).unwrap_or_default();
    match parse(line, end + 2) {
        Ok(found) => found,
        Err(why) => Found::Malformed(why),
    }
}

/// Reads what stands between the signature and the line's end.
fn parse(line: &[u8], len: usize) -> Result<Found, &'static str> {
    // Whatever follows UNKNOWN has to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(addressless(len));
    }
    let line = std::str::from_utf8(line).map_err(|_| "a line that is not text")?;
    let mut words = line.split(' ');
    let mut next = || words.next().ok_or("a line of too few words");
    let address: fn(&str) -> Result<IpAddr, &'static str> = match next()? {
        "TCP4" => ip::<Ipv4Addr>,
        "TCP6" => ip::<Ipv6Addr>,
        _ => return Err("a family other than TCP4, TCP6 and UNKNOWN"),
    };
    let (source, destination) = (address(next()?)?, address(next()?)?);
    let (from, to) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err("a line of too many words");
    }
    Ok(addressed(len, (source, from), (destination, to)))
}

fn ip<A: FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, &'static str> {
    word.parse::<A>().map(Into::into).map_err(|_| "an address that is none of its family")
}

/// A port without sign or leading zeros.
fn port(word: &str) -> Result<u16, &'static str> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading = word.len() > 1 && word.starts_with('0');
    match word.parse() {
        Ok(port) if digits && !leading => Ok(port),
        _ => Err("a port that is none"),
    }
}

/// Appends a line; both addresses are of one family.
pub(super) fn write(from: IpAddr, to: IpAddr, ports: (u16, u16), out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(if from.is_ipv4() { b"TCP4" } else { b"TCP6" });
    for address in [from, to] {
        // Writing to a Vec cannot fail.
        let _ = match address {
            IpAddr::V4(address) => write!(out, " {address}"),
            // The specification's grammar has no dots in a TCP6 address.
            IpAddr::V6(address) => match address.segments() {
                [0, 0, 0, 0, 0, 0xffff, high, low] => write!(out, " ::ffff:{high:x}:{low:x}"),
                _ => write!(out, " {address}"),
            },
        };
    }
    let _ = write!(out, " {} {}\r\n", ports.0, ports.1);
}
