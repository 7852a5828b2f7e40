//! Decoding: messages of each protocol, with and without interest in what is deep inside.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use polyport_codecs::dubbo::call::Call;
use polyport_codecs::{Interest, Limits, Metadata, Registry, Side, Step};

/// Name, protocol, who wrote it, the message, the keys that are wanted.
type Case<'a> = (&'a str, &'a str, Side, Vec<u8>, &'a [&'a str]);

/// Decodes `input`, which holds whole messages only, and says how many there were.
fn run(decoder: &mut dyn polyport_codecs::Decoder, metadata: &mut Metadata, input: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < input.len() {
        match decoder.decode(&input[at..], metadata).expect("valid input") {
            Step::Head(head) => {
                at += head.len;
                count += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    count
}

fn bench(c: &mut Criterion) {
    let registry = Registry::builtin();
    let mut call = Vec::new();
    Call {
        id: 1,
        interface: "com.shop.Orders",
        version: Some("1.0.0"),
        method: "find",
        arguments: &["42", "a somewhat longer argument of a call"],
        attachments: &[("path", "com.shop.Orders"), ("tenant", "acme"), ("trace", "0123456789")],
        oneway: false,
    }
    .encode(&mut call);
    let get = "GET /shop/cart?page=2 HTTP/1.1\r\nhost: shop.example\r\nuser-agent: curl/8\r\naccept: */*\r\nx-tenant: acme\r\n\r\n";
    let cases: [Case<'_>; 8] = [
        (
            "redis get",
            "redis",
            Side::Request,
            b"*2\r\n$3\r\nGET\r\n$7\r\nuser:42\r\n".to_vec(),
            &["command"],
        ),
        (
            "redis set, by key",
            "redis",
            Side::Request,
            b"*3\r\n$3\r\nSET\r\n$7\r\nuser:42\r\n$5\r\nalice\r\n".to_vec(),
            &["command", "key"],
        ),
        ("redis bulk reply", "redis", Side::Reply, b"$5\r\nalice\r\n".to_vec(), &[]),
        ("http get, by path", "http", Side::Request, get.into(), &["path"]),
        ("http get, by header", "http", Side::Request, get.into(), &["path", "header.x-tenant"]),
        ("dubbo, framing only", "dubbo", Side::Request, call.clone(), &[]),
        ("dubbo, by method", "dubbo", Side::Request, call.clone(), &["interface", "method"]),
        ("dubbo, by attachment", "dubbo", Side::Request, call, &["attachment.tenant"]),
    ];
    let mut group = c.benchmark_group("decode 16 messages");
    for (name, protocol, side, message, keys) in cases {
        let input = message.repeat(16);
        let interest = Interest::of(keys);
        let protocol = registry.get(protocol).expect("registered");
        let codec = protocol.compile(&Limits::default(), &interest);
        let mut decoder = codec.decoder(side);
        let mut metadata = Metadata::new(&interest);
        group.throughput(Throughput::Elements(16));
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(run(decoder.as_mut(), &mut metadata, &input), 16));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
