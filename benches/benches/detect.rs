//! Detection: from first bytes to a protocol.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "keys are for decoding")]
mod samples;

use criterion::{Criterion, criterion_group, criterion_main};
use polyport_codecs::{Detection, Registry, Side, detect};

fn bench(c: &mut Criterion) {
    let registry = Registry::builtin();
    let mut group = c.benchmark_group("detect");
    let mut seen = Vec::new();
    for sample in samples::all(&registry).expect("samples") {
        let bytes = [sample.opening, sample.message].concat();
        // Clients begin; by which keys they are routed makes no difference.
        if sample.side == Side::Reply || seen.contains(&bytes) {
            continue;
        }
        group.bench_function(sample.name, |b| {
            b.iter(|| match detect(registry.protocols(), &bytes) {
                Detection::Matched(protocol) => assert_eq!(protocol.name(), sample.protocol),
                _ => panic!("not detected"),
            });
        });
        seen.push(bytes);
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
