//! A quick side-by-side: spawn and join, yield, and a time limit that is set and cancelled, in one
//! process, the contestants taking turns; three uses of channels, per message (`channels.rs`); and
//! an item of an async iterator (`iterators.rs`). Prints the median of the rounds in nanoseconds
//! and the ratio to ours.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`

mod channels;
mod iterators;

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

const ROUNDS: usize = 11;
const OPERATIONS: u32 = 200_000;
const LIMIT: Duration = Duration::from_secs(10);

/// Nanoseconds per operation, inside whatever runs this future.
async fn time(operation: impl AsyncFn()) -> f64 {
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        operation().await;
    }
    start.elapsed().as_nanos() as f64 / f64::from(OPERATIONS)
}

/// Polls a future once and drops it.
async fn once(future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
}

fn tokio_runs<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn ours<T>(future: impl Future<Output = T>) -> T {
    postlude::run(future).expect("this thread runs no other loop")
}

type Contestant = (&'static str, fn() -> f64);

fn main() {
    let races: [(&str, &[Contestant]); 3] = [
        (
            "spawn + join",
            &[
                ("postlude", || ours(time(async || drop(postlude::spawn(async {}).await)))),
                ("tokio", || tokio_runs(time(async || drop(tokio::spawn(async {}).await)))),
                ("async-executor", || {
                    let executor = async_executor::LocalExecutor::new();
                    futures_lite::future::block_on(executor.run(time(async || executor.spawn(async {}).await)))
                }),
            ],
        ),
        (
            "yield",
            &[
                ("postlude", || ours(time(postlude::task::yield_now))),
                ("tokio", || tokio_runs(time(tokio::task::yield_now))),
                ("async-executor", || {
                    let executor = async_executor::LocalExecutor::new();
                    let task = executor.spawn(time(futures_lite::future::yield_now));
                    futures_lite::future::block_on(executor.run(task))
                }),
            ],
        ),
        (
            "timeout set + cancel",
            &[
                ("postlude", || ours(time(async || once(postlude::time::timeout(LIMIT, pending::<()>())).await))),
                ("tokio", || tokio_runs(time(async || once(tokio::time::timeout(LIMIT, pending::<()>())).await))),
            ],
        ),
    ];
    races.into_iter().for_each(|(race, contestants)| compete(race, contestants));
    channels::races().into_iter().chain(iterators::races()).for_each(|(race, contestants)| compete(race, &contestants));
}

/// Runs the contestants in turns and prints their medians.
fn compete(race: &str, contestants: &[Contestant]) {
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(contestants) {
            times.push(run());
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        })
        .collect();
    for ((name, _), median) in contestants.iter().zip(&medians) {
        println!("{race:22} {name:16} {median:7.1} ns  {:5.2} x", median / medians[0]);
    }
}
