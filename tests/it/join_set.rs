//! Join sets: every task appears once, in the order they finish, and none outlives its set.

use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use postlude::net::{TcpListener, TcpStream};
use postlude::task::{JoinSet, race, yield_now};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, spawn};

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

#[test]
fn a_task_may_abort_its_own_set_in_its_first_poll() {
    paused()
        .block_on(async {
            let set = Rc::new(RefCell::new(JoinSet::new()));
            let own = Rc::clone(&set);
            set.borrow_mut().spawn(async { "before" });
            set.borrow_mut().spawn(async move {
                own.borrow().abort_all();
                pending().await
            });
            set.borrow_mut().spawn(async { panic!("aborted before its first poll") });
            yield_now().await;
            let set = set.take();
            let results: Vec<_> = timeout(Duration::from_secs(1), set.collect()).await.expect("it hangs");
            assert_eq!(results[0].as_ref().unwrap(), &"before");
            assert!(results[1..].iter().all(|result| result.as_ref().unwrap_err().is_cancelled()), "{results:?}");
            assert_eq!(results.len(), 3);
        })
        .unwrap();
}

#[test]
fn an_owner_aborted_while_it_joins_takes_its_set_along_and_nothing_else() {
    let runtime = paused();
    runtime
        .block_on(async {
            let held = Rc::new(());
            let (inside, outside) = (held.clone(), held.clone());
            let stranger = spawn(async move {
                sleep(Duration::from_secs(5)).await;
                drop(outside);
            });
            let owner = spawn(async move {
                let mut set = JoinSet::new();
                for _ in 0..10 {
                    let held = inside.clone();
                    set.spawn(async move {
                        pending::<()>().await;
                        drop(held);
                    });
                }
                set.join_next().await
            });
            sleep(Duration::from_secs(1)).await;
            assert_eq!(Rc::strong_count(&held), 13);
            owner.abort();
            assert!(owner.await.unwrap_err().is_cancelled());
            yield_now().await;
            assert_eq!(Rc::strong_count(&held), 2, "the stranger's, and ours");
            stranger.await.unwrap();
        })
        .unwrap();
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_spawn_that_panics_leaves_nothing_behind() {
    let runtime = paused();
    let mut set = JoinSet::new();
    let refused = |set: &mut JoinSet<u32>| {
        let len = set.len();
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let spawned = catch_unwind(AssertUnwindSafe(|| {
            set.spawn(async move {
                drop(inside);
                0
            })
        }));
        assert!(spawned.is_err(), "no runtime is current");
        assert_eq!((set.len(), Rc::strong_count(&held)), (len, 1));
    };
    refused(&mut set);
    let first = |set: &mut JoinSet<u32>| {
        set.spawn(async { 1 });
        set.spawn(async {
            sleep(Duration::from_secs(1)).await;
            2
        });
    };
    runtime.block_on(async { first(&mut set) }).unwrap();
    refused(&mut set);
    refused(&mut set);
    let mut outputs = runtime
        .block_on(async {
            set.spawn(async { 3 });
            let mut outputs = vec![set.join_next().await.unwrap().unwrap()];
            outputs.push(set.join_next().await.unwrap().unwrap());
            outputs
        })
        .unwrap();
    refused(&mut set);
    runtime
        .block_on(async {
            while let Some(output) = set.join_next().await {
                outputs.push(output.unwrap());
            }
        })
        .unwrap();
    assert_eq!(outputs, [1, 3, 2]);
    refused(&mut set);
}

#[test]
fn a_race_with_next_finished_waits_while_the_set_is_empty_and_loses_no_output() {
    let runtime = paused();
    let events = runtime.block_on(async {
        let (listener, mut set) = (TcpListener::bind("127.0.0.1:0").unwrap(), JoinSet::new());
        let address = listener.local_addr().unwrap();
        let client = spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..3 {
                sleep(Duration::from_secs(10)).await;
                streams.push(TcpStream::connect(address).await.unwrap());
            }
            streams
        });
        let mut events = Vec::new();
        while events.len() < 6 {
            let accepted = async { listener.accept().await.map(|_| None).unwrap() };
            let finished = async { Some(set.next_finished().await) };
            match race((accepted, finished)).await.1 {
                Some(result) => events.push(result.unwrap()),
                None => {
                    events.push("accepted");
                    set.spawn(async {
                        sleep(Duration::from_secs(1)).await;
                        "finished"
                    });
                }
            }
        }
        client.await.unwrap();
        assert!(set.join_next().await.is_none(), "the other kind of loop ends here");
        events
    });
    assert_eq!(events.unwrap(), ["accepted", "finished"].repeat(3));
    assert!(runtime.stats().polls < 50, "{} polls: the race was busy", runtime.stats().polls);
}

#[test]
fn next_finished_gives_each_output_once_and_then_waits() {
    paused()
        .block_on(async {
            let mut set = JoinSet::new();
            set.spawn(async { 1 });
            assert_eq!(set.next_finished().await.unwrap(), 1);
            assert!(timeout(Duration::from_secs(9), set.next_finished()).await.is_err());
            set.spawn(async { resume_unwind(Box::new("oh")) });
            assert!(set.next_finished().await.unwrap_err().is_panic());
        })
        .unwrap();
}
