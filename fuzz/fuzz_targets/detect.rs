//! Detection is of one mind: once a prefix has a protocol, or none, more bytes
//! change nothing; and it never asks for bytes that it has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::{Detection, Registry, detect};

fuzz_target!(|data: &[u8]| {
    let registry = Registry::builtin();
    let mut decided: Option<Option<&str>> = None;
    for end in 0..=data.len().min(2048) {
        let now = match detect(registry.protocols(), &data[..end]) {
            Detection::Matched(protocol) => Some(Some(protocol.name())),
            Detection::Unmatched => Some(None),
            Detection::Need(need) => {
                assert!(need > end);
                None
            }
        };
        if let Some(decided) = decided {
            assert_eq!(now, Some(decided), "changed its mind at byte {end}");
        }
        decided = now.or(decided);
    }
});
