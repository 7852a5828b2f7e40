//! Choosing among 10,000 routes beside choosing among 10.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use polyport_codecs::{Interest, Metadata, Slot};
use polyport_router::{Matcher, Predicate, Route, Table};

/// Routes that share a protocol and differ in `matcher` of the service.
fn table(count: usize, matcher: impl Fn(String) -> Matcher) -> Table<usize> {
    let predicate = |slot, matcher| Predicate { slot: Slot(slot), matcher };
    let routes = (0..count).map(|at| Route {
        name: format!("route {at}"),
        when: vec![
            predicate(0, Matcher::Exact((*b"dubbo").into())),
            predicate(1, matcher(format!("com.shop.Service{at:05}"))),
        ],
        then: at,
    });
    Table::compile(routes.collect())
}

fn bench(c: &mut Criterion) {
    let interest = Interest::of(["protocol", "service"]);
    let mut group = c.benchmark_group("choose the last route");
    for count in [10usize, 10_000] {
        let mut metadata = Metadata::new(&interest);
        metadata.set_static(Slot(0), "dubbo");
        metadata.set_text(Slot(1), format!("com.shop.Service{:05}", count - 1).as_bytes());
        let view = metadata.view(b"");
        let exact = table(count, |text| Matcher::Exact(text.into_bytes().into()));
        group.bench_function(format!("of {count}, by exact value"), |b| {
            b.iter(|| assert_eq!(exact.choose(&view).map(|(at, _)| at), Some(count - 1)));
        });
        let prefix = table(count, |text| Matcher::Prefix(text.into_bytes().into()));
        group.bench_function(format!("of {count}, by prefix"), |b| {
            b.iter(|| assert_eq!(prefix.choose(&view).map(|(at, _)| at), Some(count - 1)));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
