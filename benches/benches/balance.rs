//! Choosing an endpoint, by each balance, of 3 and of 100.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use polyport_router::balance::{
    Bound, Eligible, Keyed, Maglev, Member, Pace, Rules, Smooth, less_busy,
};
use polyport_router::{Ring, hash_key};

/// Endpoints with requests in flight, and numbers as if by chance.
struct World {
    set: Eligible,
    in_flight: Vec<usize>,
    paces: Vec<Pace>,
    drawn: u64,
}

impl World {
    fn new(count: usize, weight: impl Fn(usize) -> u32) -> Self {
        let member = |at| Member { weight: weight(at), ..Member::default() };
        let members: Vec<Member> = (0..count).map(member).collect();
        let mut set = Eligible::default();
        Rules::default().apply(&members, &mut set);
        let mut paces = vec![Pace::default(); count];
        for (at, pace) in paces.iter_mut().enumerate() {
            pace.observe(1_000_000, 1_000 + at as u64);
        }
        let in_flight = (0..count).map(|at| at * 7 % 5).collect();
        Self { set, in_flight, paces, drawn: 0 }
    }

    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        hash_key(&self.drawn.to_le_bytes())
    }
}

fn bench(c: &mut Criterion) {
    for count in [3usize, 100] {
        let mut group = c.benchmark_group(format!("choose an endpoint of {count}"));
        let names: Vec<String> = (0..count).map(|at| format!("10.0.0.{at}:80")).collect();
        for (shares, weight) in [("even", 0), ("weighted", 3)] {
            let mut world = World::new(count, |at| 1 + (at as u32 & weight));
            let mut smooth = Smooth::default();
            group.bench_function(format!("round-robin, {shares}"), |b| {
                b.iter(|| black_box(smooth.turn(&world.set, |_| false)));
            });
            group.bench_function(format!("random, {shares}"), |b| {
                b.iter(|| {
                    let point = world.draw();
                    black_box(world.set.draw(point, |_| false))
                });
            });
            group.bench_function(format!("least-request, {shares}"), |b| {
                b.iter(|| {
                    let (one, two) = (world.draw(), world.draw());
                    let (set, in_flight) = (&world.set, &world.in_flight);
                    let cost = |at: usize| in_flight[at] as f64 / set.relative(at);
                    black_box(less_busy(set, one, two, |_| false, cost))
                });
            });
            group.bench_function(format!("ewma, {shares}"), |b| {
                b.iter(|| {
                    let (one, two) = (world.draw(), world.draw());
                    let (set, in_flight) = (&world.set, &world.in_flight);
                    let cost = |at: usize| {
                        world.paces[at].cost(1_500_000, in_flight[at], set.relative(at))
                    };
                    black_box(less_busy(set, one, two, |_| false, cost))
                });
            });
        }
        let mut world = World::new(count, |_| 1);
        let members = || names.iter().map(|name| (name.as_str(), 1));
        for (name, table) in [
            ("hash", Keyed::Ring(Ring::new(members()))),
            ("maglev", Keyed::Maglev(Maglev::new(members()))),
        ] {
            group.bench_function(name, |b| {
                b.iter(|| {
                    let hash = world.draw();
                    black_box(table.find(hash, |at| world.set.contains(at)))
                });
            });
            group.bench_function(format!("{name}, bounded"), |b| {
                b.iter(|| {
                    let hash = world.draw();
                    let bound = Bound::new(125, world.in_flight.iter().sum(), count as f64);
                    let room = |at: usize| bound.has_room(world.in_flight[at], 1.0);
                    black_box(table.find(hash, |at| world.set.contains(at) && room(at)))
                });
            });
        }
        let members: Vec<Member> = (0..count)
            .map(|at| Member { usable: at % 10 > 0, priority: (at % 2) as u8, ..Member::default() })
            .collect();
        let mut set = Eligible::default();
        group.bench_function("who may be chosen, after a change", |b| {
            b.iter(|| black_box(Rules::default().apply(&members, &mut set)));
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
