//! CRC-32C (Castagnoli), as RFC 4960, appendix B, defines it.

/// The polynomial 0x1EDC6F41 with its bits in reverse.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The checksum of `parts`, one after the other.
pub(super) fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = !0u32;
    for byte in parts.into_iter().flatten() {
        // The index has 8 bits and the table 256 places.
        crc = crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn it_is_what_rfc_3720_says() {
        // RFC 3720, appendix B.4; and the customary check value.
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([&b"1234"[..], b"56789"]), 0xe306_9283);
    }
}
