//! What the core costs: spawn and join, yield, wake, timers. `cargo bench --bench runtime`.

#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use postlude::{Runtime, spawn, task, time};

/// Times `rounds` rounds of an async operation inside one `block_on`.
fn inside<F: Future<Output = ()>>(runtime: &Runtime, rounds: u64, operation: impl Fn() -> F) -> Duration {
    runtime
        .block_on(async {
            let start = Instant::now();
            for _ in 0..rounds {
                operation().await;
            }
            start.elapsed()
        })
        .expect("this thread runs no other loop")
}

fn tasks(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    c.bench_function("spawn + join", |b| {
        b.iter_custom(|rounds| inside(&runtime, rounds, async || drop(spawn(async {}).await)));
    });
    c.bench_function("yield", |b| b.iter_custom(|rounds| inside(&runtime, rounds, task::yield_now)));
    c.bench_function("spawn 1000, join 1000 (per task)", |b| {
        b.iter_custom(|rounds| {
            let batches = rounds.div_ceil(1000);
            inside(&runtime, batches, async || {
                let handles: Vec<_> = (0..1000).map(|n| spawn(async move { n })).collect();
                for handle in handles {
                    drop(handle.await);
                }
            })
        });
    });
    c.bench_function("block_on a ready future", |b| b.iter(|| runtime.block_on(async {})));
}

fn poll_once<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

fn timers(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for armed in [0, 100_000_u64] {
        let sleeps: Vec<_> =
            (0..armed).map(|n| time::sleep(Duration::from_secs(600) + Duration::from_millis(n))).collect();
        let held = runtime.spawn(async move {
            let mut sleeps = sleeps;
            std::future::poll_fn(|cx| {
                for sleep in &mut sleeps {
                    let _armed = std::pin::Pin::new(sleep).poll(cx);
                }
                Poll::<()>::Pending
            })
            .await;
        });
        runtime.block_on(task::yield_now()).expect("this thread runs no other loop");
        c.bench_function(&format!("timeout set + cancel, {armed} armed"), |b| {
            b.iter_custom(|rounds| {
                inside(&runtime, rounds, async || {
                    poll_once(time::timeout(Duration::from_secs(10), std::future::pending::<()>()));
                })
            });
        });
        held.abort();
    }
}

criterion_group!(benches, tasks, timers);
criterion_main!(benches);
