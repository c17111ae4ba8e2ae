//! Join sets: every task appears once, in the order they finish, and none outlives its set.

use std::future::pending;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use postlude::Runtime;
use postlude::task::{JoinSet, yield_now};
use postlude::time::sleep;

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

#[test]
fn outputs_come_in_the_order_the_tasks_finish() {
    paused()
        .block_on(async {
            let mut set = JoinSet::new();
            for n in [3, 1, 2] {
                set.spawn(async move {
                    sleep(Duration::from_secs(n)).await;
                    n
                });
            }
            let outputs: Vec<u64> = set.by_ref().map(Result::unwrap).collect().await;
            assert_eq!(outputs, [1, 2, 3]);
            assert!(set.is_empty() && set.join_next().await.is_none());
        })
        .unwrap();
}

#[test]
fn a_panicking_and_an_aborted_task_appear_too() {
    paused()
        .block_on(async {
            let mut set = JoinSet::new();
            set.spawn(async { resume_unwind(Box::new("oh")) });
            assert!(set.join_next().await.unwrap().unwrap_err().is_panic());
            set.spawn(pending::<()>());
            set.abort_all();
            assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
        })
        .unwrap();
}

#[test]
fn a_finish_costs_one_poll_of_the_waiter_however_many_wait() {
    let runtime = paused();
    runtime
        .block_on(async {
            let mut set = JoinSet::new();
            for n in 0..1000 {
                set.spawn(async move { sleep(Duration::from_millis(n)).await });
            }
            while set.join_next().await.is_some() {}
        })
        .unwrap();
    // Two per task, one of the waiter per finish, and some for budgets.
    assert!(runtime.stats().polls < 3100, "{}", runtime.stats().polls);
}

#[test]
fn dropping_aborts_detaching_does_not_and_shutdown_waits() {
    let runtime = paused();
    runtime
        .block_on(async {
            let held = Rc::new(());
            let member = || {
                let held = held.clone();
                async move {
                    let _held = held;
                    sleep(Duration::from_secs(1)).await;
                }
            };
            let mut set = JoinSet::new();
            set.spawn(member());
            set.shutdown().await;
            assert_eq!(Rc::strong_count(&held), 1);
            set.spawn(member());
            drop(set);
            yield_now().await;
            assert_eq!(Rc::strong_count(&held), 1);
            let mut set = JoinSet::new();
            set.spawn(member());
            set.detach_all();
            set.spawn(async {});
            assert!(set.join_next().await.unwrap().is_ok());
            drop(set);
            yield_now().await;
            assert_eq!(Rc::strong_count(&held), 2);
            sleep(Duration::from_secs(2)).await;
            assert_eq!(Rc::strong_count(&held), 1);
        })
        .unwrap();
}

#[test]
fn a_dropped_join_next_loses_no_output() {
    paused()
        .block_on(async {
            let mut set = JoinSet::new();
            set.spawn(async { 1 });
            drop(Box::pin(set.join_next()));
            yield_now().await;
            assert_eq!(set.try_join_next().unwrap().unwrap(), 1);
            assert!(set.try_join_next().is_none());
        })
        .unwrap();
}
