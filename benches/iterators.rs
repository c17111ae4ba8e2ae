//! What an item of a generator costs, beside a hand-written `poll_next`: `cargo bench --bench iterators`.

#![allow(missing_docs, reason = "`criterion_group` makes a public function")]

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::{Stream, StreamExt};
use postlude::{Runtime, iter};

const ITEMS: u64 = 1000;

/// The iterator one would write by hand.
struct Counter(u64);

impl Stream for Counter {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.0 == ITEMS {
            return Poll::Ready(None);
        }
        self.0 += 1;
        Poll::Ready(Some(self.0))
    }
}

async fn sum(numbers: impl Stream<Item = u64>) -> u64 {
    let mut numbers = pin!(numbers);
    let mut sum = 0;
    while let Some(n) = numbers.next().await {
        sum += black_box(n);
    }
    sum
}

fn items(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    c.bench_function("1000 items, poll_next by hand", |b| {
        b.iter(|| runtime.block_on(sum(Counter(0))).expect("this thread runs no other loop"));
    });
    c.bench_function("1000 items, generator", |b| {
        b.iter(|| {
            let numbers = iter::generate(async |out| {
                let mut n = 0;
                while n != ITEMS {
                    n += 1;
                    out.emit(n).await;
                }
            });
            runtime.block_on(sum(numbers)).expect("this thread runs no other loop")
        });
    });
}

criterion_group!(benches, items);
criterion_main!(benches);
