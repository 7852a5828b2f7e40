//! Detection: from first bytes to a protocol.

#![allow(missing_docs, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use polyport_codecs::{Detection, Registry, detect};

fn bench(c: &mut Criterion) {
    let registry = Registry::builtin();
    let cases: [(&str, &[u8]); 4] = [
        ("redis", b"*2\r\n$3\r\nGET\r\n$7\r\nuser:42\r\n"),
        ("http", b"GET /shop HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("http", b"POST /shop HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("dubbo", b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\x01\0\0\0\0"),
    ];
    let mut group = c.benchmark_group("detect");
    for (at, (name, bytes)) in cases.into_iter().enumerate() {
        group.bench_function(format!("{at} {name}"), |b| {
            b.iter(|| match detect(registry.protocols(), bytes) {
                Detection::Matched(protocol) => assert_eq!(protocol.name(), name),
                _ => panic!("not detected"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
