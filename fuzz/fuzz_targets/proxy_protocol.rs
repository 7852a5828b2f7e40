//! The answer to any bytes is the same however they come, and what was read is read
//! again when it is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::proxy_protocol::{Found, Version, read, write};

fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    for end in 0..data.len().min(256) {
        match read(&data[..end]) {
            Found::Need(need) => assert!(need > end),
            decided => assert_eq!(decided, whole, "changed its mind after byte {end}"),
        }
    }
    let Found::Header(header) = whole else { return };
    assert!(header.len <= data.len());
    let (Some(source), Some(destination)) = (header.source, header.destination) else { return };
    for version in [Version::V1, Version::V2] {
        let mut out = Vec::new();
        write(version, source, destination, &mut out);
        let Found::Header(again) = read(&out) else { panic!("wrote {}", out.escape_ascii()) };
        assert_eq!((again.source, again.destination), (header.source, header.destination));
        assert_eq!(again.len, out.len());
    }
});
