//! WebSocket's opening, which HTTP/1.1 and HTTP/2 word differently (RFC 6455
//! section 4, RFC 8441).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What the accepting side appends to the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A fresh key.
pub(super) fn key() -> String {
    // Its only use is that caches do not repeat an answer: any random bytes do.
    STANDARD.encode(SmallRng::from_os_rng().random::<[u8; 16]>())
}

/// The answer to a key.
pub(super) fn accept(key: &str) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID.as_bytes());
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rfcs_own_example() {
        assert_eq!(super::accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
