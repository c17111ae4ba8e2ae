//! What the loop does not do: polls, turns, system calls that nobody asked for. The counts of the
//! allocator are in a binary of their own.

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::join_all;
use postlude::task::yield_now;
use postlude::time::sleep;
use postlude::{Runtime, Stats, defer, spawn, spawn_blocking};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Runs a future on a new runtime; what the runtime counted.
fn stats_of(future: impl Future) -> Stats {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(future).unwrap();
    runtime.stats()
}

/// Waits until `done`, and leaves its waker where others find it.
async fn wait_for(done: Rc<Cell<bool>>, place: Rc<Cell<Option<Waker>>>) {
    poll_fn(|cx| {
        place.set(Some(cx.waker().clone()));
        if done.get() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Wakes itself `times` times.
async fn wake_itself(times: u64) {
    let mut left = times;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn a_ready_future_takes_one_poll_one_turn_and_no_look_at_the_system() {
    let runtime = Runtime::new().unwrap();
    assert_eq!(runtime.stats(), Stats::default());
    assert_eq!(runtime.block_on(ready(7)).unwrap(), 7);
    let stats = runtime.stats();
    assert_eq!((stats.polls, stats.turns, stats.parks), (1, 1, 0));
    assert_eq!((stats.wakes, stats.wake_calls, stats.messages, stats.spawned), (0, 0, 0, 0));
}

#[test]
fn a_task_that_wakes_itself_n_times_is_polled_once_more_than_that() {
    let runtime = Runtime::new().unwrap();
    drop(runtime.spawn(wake_itself(10_000)));
    runtime
        .block_on(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if runtime.stats().tasks > 1 { Poll::Pending } else { Poll::Ready(()) }
        }))
        .unwrap();
    let alone = stats_of(wake_itself(10_000));
    assert_eq!((alone.polls, alone.wakes), (10_001, 10_000), "as the root");
    // One more turn for the root than for the task.
    let root_polls = runtime.stats().turns;
    assert_eq!(runtime.stats().polls, 10_001 + root_polls);
}

#[test]
fn waking_a_task_a_thousand_times_polls_it_once() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (done, place) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
            let task = spawn(wait_for(Rc::clone(&done), Rc::clone(&place)));
            yield_now().await;
            let waker: Waker = place.take().unwrap();
            let before = runtime.stats();
            for _ in 0..1000 {
                waker.wake_by_ref();
                let another = waker.clone();
                another.wake_by_ref();
            }
            yield_now().await;
            assert_eq!(runtime.stats().wakes - before.wakes, 2, "the task's and this one's");
            assert_eq!(runtime.stats().polls - before.polls, 2, "likewise");
            done.set(true);
            waker.wake();
            task.await.unwrap();
        })
        .unwrap();
}

#[test]
fn a_wake_from_the_loops_own_thread_makes_no_system_call_and_sends_no_message() {
    let stats = stats_of(async {
        let (done, place) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None::<Waker>)));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let (done, place) = (Rc::clone(&done), Rc::clone(&place));
                spawn(async move {
                    yield_now().await;
                    if n == 99 {
                        // The root future is woken by a task.
                        done.set(true);
                        place.take().unwrap().wake();
                    }
                })
            })
            .collect();
        wait_for(done, place).await;
        join_all(tasks).await;
        let (sender, receiver) = oneshot::channel();
        defer(async move { sender.send(7) }).await.unwrap().unwrap();
        assert_eq!(receiver.await, Ok(7));
    });
    assert_eq!((stats.wake_calls, stats.messages), (0, 0));
    assert!(stats.wakes >= 3);
}

#[test]
fn a_wake_by_a_timer_makes_no_system_call() {
    let stats = stats_of(async {
        let sleeps = (0..10).map(|n| spawn(sleep(ms(n))));
        join_all(sleeps).await;
    });
    assert_eq!((stats.wake_calls, stats.messages), (0, 0));
}

#[test]
fn a_thousand_wakes_from_another_thread_during_one_busy_poll_make_at_most_one_system_call() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (done, place) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
            let task = spawn(wait_for(Rc::clone(&done), Rc::clone(&place)));
            yield_now().await;
            let waker: Waker = place.take().unwrap();
            let before = runtime.stats();
            // The loop's thread stands still in this poll until the other thread has woken the task
            // a thousand times.
            thread::spawn(move || {
                for _ in 0..1000 {
                    waker.wake_by_ref();
                }
            })
            .join()
            .unwrap();
            assert!(runtime.stats().wake_calls - before.wake_calls <= 1);
            done.set(true);
            task.await.unwrap();
            while runtime.stats().messages - before.messages < 1000 {
                yield_now().await;
            }
            let after = runtime.stats();
            assert!(after.wake_calls - before.wake_calls <= 1, "{after:?}");
            assert_eq!(after.messages - before.messages, 1000, "each wake was a message");
        })
        .unwrap();
}

#[test]
fn wakes_from_other_threads_make_at_most_one_system_call_per_park() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let handle = handle.clone();
            thread::spawn(move || {
                for n in 0..1000 {
                    drop(handle.spawn(|| async {}));
                    if n % 50 == 0 {
                        thread::sleep(ms(1));
                    }
                }
            })
        })
        .collect();
    runtime
        .block_on(async {
            while runtime.stats().spawned < 4000 {
                sleep(ms(5)).await;
            }
        })
        .unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = runtime.stats();
    assert!(stats.wake_calls <= stats.parks, "{stats:?}");
    assert!(stats.wake_calls < 2000, "4000 messages made {} calls", stats.wake_calls);
}

#[test]
fn a_parked_loop_is_woken_by_one_system_call() {
    let runtime = Runtime::new().unwrap();
    let (entered, parked) = mpsc::channel();
    let (sender, receiver) = oneshot::channel();
    let other = thread::spawn(move || {
        parked.recv().unwrap();
        thread::sleep(ms(100));
        sender.send(()).unwrap();
    });
    runtime
        .block_on(async {
            entered.send(()).unwrap();
            receiver.await.unwrap();
        })
        .unwrap();
    other.join().unwrap();
    assert_eq!((runtime.stats().wake_calls, runtime.stats().messages), (1, 1));
    assert_eq!(runtime.stats().polls, 2);
}

#[test]
fn an_idle_loop_takes_no_turns() {
    let runtime = Runtime::new().unwrap();
    // As long as it exists, the loop waits for it without a second thought.
    let handle = runtime.handle();
    let (sender, receiver) = oneshot::channel();
    let other = thread::spawn(move || {
        thread::sleep(ms(300));
        sender.send(()).unwrap();
    });
    runtime.block_on(receiver).unwrap().unwrap();
    other.join().unwrap();
    let stats = runtime.stats();
    // One to poll and park, one to take in the message, one to poll again.
    assert_eq!((stats.turns, stats.polls, stats.parks, stats.wake_calls), (3, 2, 1, 1), "{stats:?}");
    drop(handle);
}

#[test]
fn a_loop_that_waits_for_a_job_takes_no_turns() {
    let stats = stats_of(async { spawn_blocking(|| thread::sleep(ms(200))).await.unwrap() });
    assert!(stats.turns <= 6, "{stats:?}");
    assert!(stats.wake_calls <= 2, "{stats:?}");
}

#[test]
fn a_turn_polls_no_more_tasks_than_it_is_told_to() {
    let mut runtime = Runtime::builder().polls_per_turn(8).build().unwrap();
    for _ in 0..20 {
        drop(runtime.spawn(async {}));
    }
    let polls: Vec<_> = (0..4).map(|_| runtime.turn(Some(Duration::ZERO)).unwrap().polls).collect();
    assert_eq!(polls, [8, 8, 4, 0]);
}

#[test]
fn a_task_that_is_never_woken_is_polled_once() {
    let runtime = Runtime::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    for _ in 0..100 {
        let polls = Rc::clone(&polls);
        drop(runtime.spawn(poll_fn(move |_| {
            polls.set(polls.get() + 1);
            Poll::<()>::Pending
        })));
    }
    runtime.block_on(sleep(ms(20))).unwrap();
    assert_eq!(polls.get(), 100);
    assert_eq!(runtime.stats().tasks, 100);
}
