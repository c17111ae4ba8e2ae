//! Other crates' adapters, channels and locks on this executor: none of them knows it.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use postlude::task::yield_now;
use postlude::time::sleep;
use postlude::{Runtime, iter, spawn};

fn run<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future).unwrap()
}

fn paused<F: Future>(future: F) -> F::Output {
    Runtime::builder().paused_clock().build().unwrap().block_on(future).unwrap()
}

/// 1, 2, 3 … `to`, a millisecond apart.
fn numbers(to: u64) -> impl futures_core::Stream<Item = u64> {
    iter::generate(async move |out| {
        for n in 1..=to {
            sleep(Duration::from_millis(1)).await;
            out.emit(n).await;
        }
    })
}

#[test]
fn adapters_of_futures_lite_work_on_a_generator() {
    use futures_lite::StreamExt;
    paused(async {
        let odd_squares = numbers(9).filter(|n| n % 2 == 1).map(|n| n * n).take(4);
        assert_eq!(odd_squares.collect::<Vec<_>>().await, [1, 9, 25, 49]);
        assert_eq!(numbers(4).chain(numbers(2)).fold(0, |sum, n| sum + n).await, 13);
        assert_eq!(numbers(3).boxed_local().or(numbers(3).boxed_local()).count().await, 6);
        let mut pairs = pin!(numbers(2).zip(numbers(3)));
        assert_eq!(pairs.next().await, Some((1, 1)));
        assert_eq!(pairs.next().await, Some((2, 2)));
        assert_eq!(pairs.next().await, None);
    });
}

#[test]
fn adapters_of_futures_util_work_on_a_generator() {
    use futures::StreamExt;
    paused(async {
        let odd_squares = numbers(9).filter(|n| std::future::ready(n % 2 == 1)).map(|n| n * n).take(4);
        assert_eq!(odd_squares.collect::<Vec<_>>().await, [1, 9, 25, 49]);
        assert_eq!(numbers(5).chunks(2).collect::<Vec<_>>().await, [vec![1, 2], vec![3, 4], vec![5]]);
        let doubled = numbers(8).map(|n| async move {
            sleep(Duration::from_millis(10 - n)).await;
            2 * n
        });
        let mut doubled = doubled.buffer_unordered(3).collect::<Vec<_>>().await;
        doubled.sort_unstable();
        assert_eq!(doubled, [2, 4, 6, 8, 10, 12, 14, 16]);
        let merged = futures::stream::select(numbers(3), numbers(3)).collect::<Vec<_>>().await;
        assert_eq!(merged.len(), 6);
    });
}

#[test]
fn select_of_futures_util_works_between_a_generator_and_a_timer() {
    use futures::{FutureExt, StreamExt};
    paused(async {
        let mut numbers = pin!(numbers(100).fuse());
        let mut end = pin!(sleep(Duration::from_micros(5500)).fuse());
        let mut seen = 0;
        loop {
            futures::select! {
                n = numbers.next() => seen = n.unwrap(),
                () = end => break,
            }
        }
        assert_eq!(seen, 5);
    });
}

#[test]
fn async_channel_works_between_tasks() {
    run(async {
        let (sender, receiver) = async_channel::bounded(2);
        let producers: Vec<_> = (0..10_u64)
            .map(|n| {
                let sender = sender.clone();
                spawn(async move {
                    for k in 0..100 {
                        sender.send(100 * n + k).await.unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let mut seen = Vec::new();
        while let Ok(n) = receiver.recv().await {
            seen.push(n);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        for producer in producers {
            producer.await.unwrap();
        }
    });
}

#[test]
fn async_channel_works_across_threads_in_both_directions() {
    let (to_us, ours) = async_channel::bounded::<u64>(4);
    let (to_them, theirs) = async_channel::bounded::<u64>(4);
    let thread = thread::spawn(move || {
        for n in 0..1000 {
            to_us.send_blocking(n).unwrap();
        }
        drop(to_us);
        std::iter::from_fn(|| theirs.recv_blocking().ok()).sum::<u64>()
    });
    run(async {
        let mut next = 0;
        while let Ok(n) = ours.recv().await {
            assert_eq!(n, next);
            next += 1;
        }
        assert_eq!(next, 1000);
        for n in 1..=1000 {
            to_them.send(n).await.unwrap();
        }
        drop(to_them);
    });
    assert_eq!(thread.join().unwrap(), 500_500);
}

#[test]
fn async_channel_works_between_two_runtimes() {
    let (ping, pings) = async_channel::bounded::<u32>(1);
    let (pong, pongs) = async_channel::bounded::<u32>(1);
    let other = thread::spawn(move || {
        run(async move {
            while let Ok(n) = pings.recv().await {
                pong.send(n + 1).await.unwrap();
            }
        });
    });
    run(async move {
        for n in 0..1000 {
            ping.send(n).await.unwrap();
            assert_eq!(pongs.recv().await, Ok(n + 1));
        }
    });
    other.join().unwrap();
}

#[test]
fn event_listener_notifies_tasks_and_from_another_thread() {
    let event = std::sync::Arc::new(event_listener::Event::new());
    run(async {
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let listener = event.listen();
                spawn(listener)
            })
            .collect();
        yield_now().await;
        event.notify(2);
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(waiting.iter().filter(|task| task.is_finished()).count(), 2);
        let theirs = std::sync::Arc::clone(&event);
        let thread = thread::spawn(move || theirs.notify(usize::MAX));
        for task in waiting {
            task.await.unwrap();
        }
        thread.join().unwrap();
    });
}

#[test]
fn async_lock_serves_tasks_one_after_the_other() {
    run(async {
        let sum = Rc::new(async_lock::Mutex::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let sum = Rc::clone(&sum);
                spawn(async move {
                    let mut guard = sum.lock().await;
                    let before = *guard;
                    yield_now().await;
                    *guard = before + 1;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*sum.lock().await, 50);
    });
}

#[test]
fn async_lock_semaphores_and_barriers_hold_tasks_back() {
    run(async {
        let permits = Rc::new(async_lock::Semaphore::new(2));
        let barrier = Rc::new(async_lock::Barrier::new(4));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (permits, barrier) = (Rc::clone(&permits), Rc::clone(&barrier));
                spawn(async move {
                    let permit = permits.acquire().await;
                    yield_now().await;
                    drop(permit);
                    barrier.wait().await.is_leader()
                })
            })
            .collect();
        let mut leaders = 0;
        for task in tasks {
            leaders += u32::from(task.await.unwrap());
        }
        assert_eq!(leaders, 1);
    });
}
