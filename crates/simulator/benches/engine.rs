//! An M/M/8 queue at 87.5 % load: on a bare binary heap, and on the engine. Both draw the same numbers.
//! `scripts/ci/bench-simulator` adds SimPy and prints the ratios.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use simulator::engine::{Distribution, Engine, Millis, Purpose, Random, Seed};

const EVENTS: u64 = 1_000_000;
const SERVERS: u32 = 8;
const GAP: Distribution = Distribution::Exponential { mean: Millis(100_000) };
const SERVICE: Distribution = Distribution::Exponential { mean: Millis(700_000) };

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Departure,
}

/// Waiting and served customers.
#[derive(Default)]
struct Queue {
    waiting: u64,
    busy: u32,
    served: u64,
}

impl Queue {
    /// Calls `schedule` with the next event and its delay.
    fn handle(&mut self, event: Event, rng: &mut Random, mut schedule: impl FnMut(Millis, Event)) {
        match event {
            Event::Arrival => {
                schedule(rng.sample(&GAP), Event::Arrival);
                self.waiting += 1;
            }
            Event::Departure => {
                self.busy -= 1;
                self.served += 1;
            }
        }
        if self.waiting > 0 && self.busy < SERVERS {
            self.waiting -= 1;
            self.busy += 1;
            schedule(rng.sample(&SERVICE), Event::Departure);
        }
    }
}

fn bare_heap() -> u64 {
    let mut rng = Seed(1).stream(Purpose::Test, 0);
    let mut heap = BinaryHeap::from([Reverse((0, 0, Event::Arrival))]);
    let mut scheduled = 1_u64;
    let mut queue = Queue::default();
    for _ in 0..EVENTS {
        let Some(Reverse((now, _, event))) = heap.pop() else { break };
        queue.handle(event, &mut rng, |delay, event| {
            heap.push(Reverse((now + delay.0, scheduled, event)));
            scheduled += 1;
        });
    }
    queue.served
}

fn engine() -> u64 {
    let mut rng = Seed(1).stream(Purpose::Test, 0);
    let mut engine = Engine::new();
    engine.schedule(Millis::ZERO, Event::Arrival);
    let mut queue = Queue::default();
    for _ in 0..EVENTS {
        let Some(event) = engine.next_event() else { break };
        queue.handle(event, &mut rng, |delay, event| engine.schedule_in(delay, event));
    }
    queue.served
}

fn m_m_8(criterion: &mut Criterion) {
    assert_eq!(bare_heap(), engine(), "both are the same queue");
    let mut group = criterion.benchmark_group("m_m_8");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(20);
    group.bench_function("bare_heap", |bencher| bencher.iter(|| black_box(bare_heap())));
    group.bench_function("engine", |bencher| bencher.iter(|| black_box(engine())));
    group.finish();
}

criterion_group!(benches, m_m_8);
criterion_main!(benches);
