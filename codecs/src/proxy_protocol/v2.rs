//! Version 2: binary (section 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Found, addressed, addressless, checksum};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses: signature, version and command, family, length.
const FIXED: usize = 16;

/// The most bytes after those. The format allows 65,535; no sender comes near this,
/// and a stranger must not make us buffer more.
const LONGEST: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The type of the extension that is a checksum over the header.
const CRC32C: u8 = 0x03;

/// Reads a header of which the signature is there.
pub(super) fn read(buf: &[u8]) -> Found {
    // Each byte is judged as soon as it is there, so that no wait is for nothing.
    let Some(command) = buf.get(12) else { return Found::Need(13) };
    if *command >> 4 != 2 {
        return Found::Malformed("a version other than 2");
    }
    if !matches!(*command, LOCAL | PROXY) {
        return Found::Malformed("a command other than LOCAL and PROXY");
    }
    let Some(family) = buf.get(13) else { return Found::Need(14) };
    let addresses = match *family {
        // A local connection's family has to be ignored.
        _ if *command == LOCAL => 0,
        UNSPECIFIED => 0,
        TCP4 | 0x12 => 12,
        TCP6 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Found::Malformed("an unknown family or transport"),
    };
    let Some(&[high, low]) = buf.get(14..FIXED) else {
        return Found::Need(buf.len() + 1);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Found::Malformed("more than 4096 bytes after the fixed part");
    }
    if length < addresses {
        return Found::Malformed("too short for its addresses");
    }
    let len = FIXED + length;
    let Some(header) = buf.get(..len) else { return Found::Need(len) };
    if *command == LOCAL {
        return addressless(len);
    }
    if let Err(why) = extensions(header, FIXED + addresses) {
        return Found::Malformed(why);
    }
    let block = header.get(FIXED..).unwrap_or_default();
    match *family {
        TCP4 => {
            let Some(&[a, b, c, d, e, f, g, h, s0, s1, d0, d1]) = block.first_chunk() else {
                return Found::Malformed("too short for its addresses");
            };
            let source = (Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([s0, s1]));
            let destination = (Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([d0, d1]));
            addressed(len, source, destination)
        }
        TCP6 => match (ipv6(block, 0), ipv6(block, 16), block.get(32..36)) {
            (Some(from), Some(to), Some(&[s0, s1, d0, d1])) => addressed(
                len,
                (from, u16::from_be_bytes([s0, s1])),
                (to, u16::from_be_bytes([d0, d1])),
            ),
            _ => Found::Malformed("too short for its addresses"),
        },
        // Unspecified, unix, and datagrams, which no connection here came by.
        _ => addressless(len),
    }
}

fn ipv6(block: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = *block.get(at..)?.first_chunk()?;
    Some(Ipv6Addr::from(octets).into())
}

/// Passes over the extensions from `at`; the checksum among them, if any, must hold.
fn extensions(header: &[u8], mut at: usize) -> Result<(), &'static str> {
    let mut checked = false;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let [kind, high, low, ..] = *rest else { return Err("an extension cut short") };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(3..3 + length).ok_or("an extension longer than the header")?;
        if kind == CRC32C {
            let told: [u8; 4] = value.try_into().map_err(|_| "a checksum not of 4 bytes")?;
            if checked {
                return Err("a second checksum");
            }
            checked = true;
            let (before, after) = (header.get(..at + 3), header.get(at + 7..));
            // It is computed with zeros in its own place.
            let parts = [before.unwrap_or_default(), &[0; 4], after.unwrap_or_default()];
            if checksum::crc32c(parts) != u32::from_be_bytes(told) {
                return Err("a checksum that does not hold");
            }
        }
        at += 3 + length;
    }
    Ok(())
}

/// Appends a header without extensions; both addresses are of one family.
pub(super) fn write(from: IpAddr, to: IpAddr, ports: (u16, u16), out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let (family, length) = if from.is_ipv4() { (TCP4, 12) } else { (TCP6, 36) };
    out.extend_from_slice(&[PROXY, family, 0, length]);
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    out.extend_from_slice(&ports.0.to_be_bytes());
    out.extend_from_slice(&ports.1.to_be_bytes());
}
