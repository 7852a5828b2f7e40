//! Decoding: messages of each protocol, with and without interest in what is deep inside.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

mod samples;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use polyport_codecs::{Body, Decoder, Interest, Limits, Metadata, Registry, Step};
use samples::Sample;

/// Decodes `input`, which holds whole messages only, and says how many there were.
fn run(decoder: &mut dyn Decoder, metadata: &mut Metadata, input: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < input.len() {
        match decoder.decode(&input[at..], metadata).expect("valid input") {
            Step::Head(head) => {
                at += head.len;
                if let Body::Length(len) = head.body {
                    at += len as usize;
                }
                metadata.clear();
                count += 1;
            }
            Step::Body(len) | Step::Framing(len) => at += len,
            Step::End => {}
            Step::Need(len) => panic!("the sample is not whole: {len} bytes are wanted"),
        }
    }
    count
}

fn bench(c: &mut Criterion) {
    let registry = Registry::builtin();
    let mut group = c.benchmark_group("decode 16 messages");
    for sample in samples::all(&registry).expect("samples") {
        let Sample { name, protocol, side, opening, message, keys } = sample;
        let input = message.repeat(16);
        let interest = Interest::of(keys);
        let protocol = registry.get(protocol).expect("registered");
        let codec = protocol.compile(&Limits::default(), &interest);
        let mut decoder = codec.decoder(side);
        let mut metadata = Metadata::new(&interest);
        run(decoder.as_mut(), &mut metadata, &opening);
        group.throughput(Throughput::Elements(16));
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(run(decoder.as_mut(), &mut metadata, &input), 16));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
