//! CRC-32 as in Ethernet and zip (reflected, polynomial 0x04c11db7), eight bytes
//! at a time: each of eight tables says what a byte so far from the end adds.

const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut far = 1;
    while far < 8 {
        let mut byte = 0;
        while byte < 256 {
            let near = tables[far - 1][byte];
            tables[far][byte] = near >> 8 ^ tables[0][(near & 0xff) as usize];
            byte += 1;
        }
        far += 1;
    }
    tables
};

/// What byte `byte` adds from `far` bytes before the end of a step.
fn adds(far: usize, byte: u8) -> u32 {
    TABLES[far][usize::from(byte)]
}

/// The checksum of `bytes`.
pub(super) fn of(bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<8>();
    let mut sum = !0u32;
    for [a, b, c, d, e, f, g, h] in steps {
        let [w, x, y, z] = sum.to_le_bytes();
        sum = adds(7, a ^ w)
            ^ adds(6, b ^ x)
            ^ adds(5, c ^ y)
            ^ adds(4, d ^ z)
            ^ adds(3, *e)
            ^ adds(2, *f)
            ^ adds(1, *g)
            ^ adds(0, *h);
    }
    for byte in rest {
        let [low, ..] = sum.to_le_bytes();
        sum = sum >> 8 ^ adds(0, byte ^ low);
    }
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn known_texts_have_their_known_checksums() {
        for (text, sum) in [
            ("", 0),
            ("a", 0xe8b7_be43),
            // The check value in the catalogues of CRCs.
            ("123456789", 0xcbf4_3926),
            ("The quick brown fox jumps over the lazy dog", 0x414f_a339),
        ] {
            assert_eq!(super::of(text.as_bytes()), sum, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_bit_after_bit_gives(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut sum = !0u32;
            for byte in &bytes {
                sum ^= u32::from(*byte);
                for _ in 0..8 {
                    sum = if sum & 1 == 1 { sum >> 1 ^ super::POLYNOMIAL } else { sum >> 1 };
                }
            }
            prop_assert_eq!(super::of(&bytes), !sum);
        }
    }
}
