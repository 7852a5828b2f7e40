//! Numbers in groups of seven bits, low group first (compact protocol, THeader).

/// The number at `at` and how many bytes it takes. `Err(true)`: the bytes end
/// inside it; `Err(false)`: it is longer than a 64-bit number can be.
pub(super) fn read(buf: &[u8], at: usize) -> Result<(u64, usize), bool> {
    let mut value = 0u64;
    for count in 0..10 {
        let Some(byte) = buf.get(at + count) else { return Err(true) };
        value |= u64::from(byte & 0x7f) << (7 * count);
        if byte & 0x80 == 0 {
            return Ok((value, count + 1));
        }
    }
    Err(false)
}

/// Appends a number.
pub(super) fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The signed number that zigzag made unsigned.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The unsigned number for a signed one.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(read(&out, 0), Ok((value, out.len())));
            assert_eq!(read(&out, 1).is_err(), out.len() == 1);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(read(&[0xff; 11], 0), Err(false));
    }
}
