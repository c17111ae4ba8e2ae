//! Handles: waiting for a task, aborting it, letting go of it.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use postlude::task::{self, yield_now};
use postlude::time::{interval, sleep, timeout};
use postlude::{JoinError, JoinHandle, Runtime, defer, spawn};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Sets a flag when it is dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn flag() -> (Flag, Rc<Cell<bool>>) {
    let dropped = Rc::new(Cell::new(false));
    (Flag(dropped.clone()), dropped)
}

#[test]
fn a_handle_gives_the_output_whether_it_is_polled_before_or_after_the_end() {
    paused()
        .block_on(async {
            let early = spawn(async {
                sleep(Duration::from_secs(1)).await;
                "early"
            });
            let late = spawn(async { "late" });
            assert_eq!(early.await.unwrap(), "early");
            assert!(late.is_finished());
            assert_eq!(late.await.unwrap(), "late");
        })
        .unwrap();
}

#[test]
fn an_output_need_not_be_send_or_of_any_size() {
    paused()
        .block_on(async {
            let shared = Rc::new(RefCell::new(vec![1]));
            let moved = shared.clone();
            spawn(async move { moved }).await.unwrap().borrow_mut().push(2);
            assert_eq!(*shared.borrow(), [1, 2]);
            spawn(async {}).await.unwrap();
            let large = spawn(async { [7_u8; 10_000] }).await.unwrap();
            assert!(large.iter().all(|&byte| byte == 7));
            let error: Result<i32, String> = spawn(async { Err("no".to_owned()) }).await.unwrap();
            assert_eq!(error, Err("no".to_owned()));
        })
        .unwrap();
}

#[test]
fn a_handle_can_be_awaited_in_a_later_block_on() {
    let runtime = paused();
    let task = runtime.block_on(std::future::poll_fn(|_| std::task::Poll::Ready(spawn(async { 5 })))).unwrap();
    assert_eq!(runtime.block_on(task).unwrap().unwrap(), 5);
}

#[test]
fn abort_drops_nothing_itself_but_the_loop_does_on_its_next_visit() {
    let mut runtime = paused();
    let (guard, dropped) = flag();
    let seen = dropped.clone();
    let task = runtime.spawn(async move {
        let _held = guard;
        pending::<()>().await;
    });
    runtime.turn(NOW).unwrap();
    drop(runtime.spawn(async move {
        task.abort();
        assert!(!seen.get() && !task.is_finished());
        let seen_after = seen.clone();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(seen_after.get());
    }));
    runtime.turn(NOW).unwrap();
    assert!(dropped.get());
    assert_eq!((runtime.stats().tasks, runtime.stats().panics), (0, 0));
}

#[test]
fn aborting_and_dropping_the_handle_at_once_aborts() {
    let mut runtime = paused();
    let dropped: Vec<_> = (0..4)
        .map(|way| {
            let (guard, dropped) = flag();
            let task = runtime.spawn(async move {
                let _held = guard;
                pending::<()>().await;
            });
            drop(runtime.spawn(async move {
                match way {
                    0 => {
                        task.abort();
                        drop(task);
                    }
                    1 => drop(task.abort_on_drop()),
                    2 => drop(timeout(Duration::from_secs(1), task.abort_on_drop()).await),
                    _ => {
                        let task = task.abort_on_drop();
                        yield_now().await;
                        task.abort();
                        drop(task);
                    }
                }
            }));
            dropped
        })
        .collect();
    while runtime.stats().tasks > 0 {
        runtime.turn(NOW).unwrap();
    }
    assert!(dropped.iter().all(|dropped| dropped.get()));
}

// Between turns the runtime is not current, so both are messages.
#[test]
fn aborting_and_dropping_the_handle_between_turns_aborts() {
    let mut runtime = paused();
    let (guard, dropped) = flag();
    let task = runtime.spawn(async move {
        let _held = guard;
        pending::<()>().await;
    });
    runtime.turn(NOW).unwrap();
    task.abort();
    drop(task);
    assert!(!dropped.get());
    runtime.turn(NOW).unwrap();
    runtime.turn(NOW).unwrap();
    assert!(dropped.get());
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_task_aborted_before_its_first_poll_is_never_polled() {
    let runtime = paused();
    for class in [spawn::<Pin<Box<dyn Future<Output = ()>>>>, defer] {
        runtime
            .block_on(async {
                let (guard, dropped) = flag();
                let task = class(Box::pin(async move {
                    let _held = guard;
                    panic!("it was polled");
                }));
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
                assert!(dropped.get());
            })
            .unwrap();
    }
}

#[test]
fn a_queued_task_that_is_aborted_is_not_polled_again() {
    paused()
        .block_on(async {
            let polls = Rc::new(Cell::new(0));
            let count = polls.clone();
            let task = spawn(poll_fn(move |cx| {
                count.set(count.get() + 1);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
            yield_now().await;
            let before = polls.get();
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(polls.get(), before);
        })
        .unwrap();
}

#[test]
fn aborting_twice_or_after_the_end_changes_nothing() {
    paused()
        .block_on(async {
            let task = spawn(pending::<()>());
            task.abort();
            task.abort();
            yield_now().await;
            task.abort();
            assert!(task.is_finished());
            assert!(task.await.unwrap_err().is_cancelled());
            let task = spawn(async { 5 });
            yield_now().await;
            task.abort();
            assert_eq!(task.await.unwrap(), 5, "a finished task is left as it is");
        })
        .unwrap();
}

#[test]
fn a_handle_that_was_ready_aborts_nothing_though_its_place_is_taken() {
    paused()
        .block_on(async {
            let mut first = spawn(async {});
            (&mut first).await.unwrap();
            let second = spawn(async {
                sleep(Duration::from_secs(1)).await;
                2
            });
            assert!(first.is_finished());
            first.abort();
            drop(first.abort_on_drop());
            assert_eq!(second.await.unwrap(), 2);
        })
        .unwrap();
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn polling_a_handle_after_it_was_ready_panics() {
    drop(paused().block_on(async {
        let mut task = spawn(async {});
        (&mut task).await.unwrap();
        drop((&mut task).await);
    }));
}

/// A task that aborts itself through its own handle in its first poll and then does `then`.
async fn aborts_itself(then: fn() -> Poll<i32>) -> (Result<i32, JoinError>, usize) {
    let place = Rc::new(RefCell::new(None::<JoinHandle<i32>>));
    let (own, polls) = (place.clone(), Rc::new(Cell::new(0)));
    let count = polls.clone();
    let task = spawn(poll_fn(move |_| {
        count.set(count.get() + 1);
        own.borrow().as_ref().expect("put there before the first poll").abort();
        then()
    }));
    *place.borrow_mut() = Some(task);
    yield_now().await;
    yield_now().await;
    let task = place.borrow_mut().take().expect("still there");
    (task.await, polls.get())
}

#[test]
fn a_task_that_aborts_itself_and_waits_is_dropped_after_that_poll() {
    paused()
        .block_on(async {
            let (result, polls) = aborts_itself(|| Poll::Pending).await;
            assert!(result.unwrap_err().is_cancelled());
            assert_eq!(polls, 1);
        })
        .unwrap();
}

#[test]
fn a_task_that_aborts_itself_and_is_ready_has_its_output() {
    paused()
        .block_on(async {
            let (result, polls) = aborts_itself(|| Poll::Ready(3)).await;
            assert_eq!((result.unwrap(), polls), (3, 1));
        })
        .unwrap();
}

#[test]
fn a_task_that_aborts_itself_and_panics_has_panicked() {
    paused()
        .block_on(async {
            let (result, polls) = aborts_itself(|| std::panic::resume_unwind(Box::new("on purpose"))).await;
            assert!(result.unwrap_err().is_panic());
            assert_eq!(polls, 1);
        })
        .unwrap();
}

#[test]
fn a_task_may_hold_and_await_its_own_handle_and_is_freed_by_an_abort() {
    let runtime = paused();
    let (guard, dropped) = flag();
    runtime
        .block_on(async {
            let place = Rc::new(RefCell::new(None::<JoinHandle<()>>));
            let own = place.clone();
            let task = spawn(async move {
                let _held = guard;
                let own = own.borrow_mut().take().expect("put there");
                let _gone = timeout(Duration::from_secs(1), own).await;
            });
            *place.borrow_mut() = Some(task);
            sleep(Duration::from_secs(2)).await;
        })
        .unwrap();
    assert!(dropped.get());
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn dropping_a_handle_detaches_and_dropping_one_that_aborts_aborts() {
    paused()
        .block_on(async {
            let done = Rc::new(Cell::new(0));
            let work = |done: &Rc<Cell<i32>>| {
                let done = done.clone();
                async move {
                    sleep(Duration::from_secs(1)).await;
                    done.set(done.get() + 1);
                }
            };
            drop(spawn(work(&done)));
            drop(spawn(work(&done)).abort_on_drop());
            drop(defer(work(&done)));
            drop(defer(work(&done)).abort_on_drop());
            sleep(Duration::from_secs(2)).await;
            assert_eq!(done.get(), 2);
            spawn(work(&done)).abort_on_drop().await.unwrap();
            assert_eq!(done.get(), 3);
        })
        .unwrap();
}

#[test]
fn a_task_nobody_holds_runs_to_its_end() {
    let runtime = paused();
    let done = Rc::new(Cell::new(0));
    let count = done.clone();
    runtime
        .block_on(async move {
            drop(spawn(async move {
                for _ in 0..100 {
                    let count = count.clone();
                    drop(spawn(async move {
                        sleep(Duration::from_millis(5)).await;
                        count.set(count.get() + 1);
                    }));
                    sleep(Duration::from_millis(1)).await;
                }
            }));
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!((done.get(), runtime.stats().tasks), (100, 0));
}

#[test]
fn aborting_a_task_that_waits_for_another_leaves_the_other_alone() {
    paused()
        .block_on(async {
            let done = Rc::new(Cell::new(false));
            let say = done.clone();
            let inner = spawn(async move {
                sleep(Duration::from_secs(1)).await;
                say.set(true);
            });
            let outer = spawn(inner);
            yield_now().await;
            outer.abort();
            assert!(outer.await.unwrap_err().is_cancelled());
            sleep(Duration::from_secs(2)).await;
            assert!(done.get());
        })
        .unwrap();
}

#[test]
fn a_handle_dropped_in_a_select_detaches_and_one_kept_goes_on() {
    paused()
        .block_on(async {
            let mut task = spawn(async {
                sleep(Duration::from_secs(10)).await;
                10
            });
            for _ in 0..5 {
                assert!(timeout(Duration::from_secs(1), &mut task).await.is_err());
            }
            assert_eq!(timeout(Duration::from_secs(6), &mut task).await.unwrap().unwrap(), 10);
        })
        .unwrap();
}

#[test]
fn is_finished_turns_true_with_the_end_and_stays_so() {
    paused()
        .block_on(async {
            for abort in [false, true] {
                let mut task = spawn(sleep(Duration::from_secs(1)));
                assert!(!task.is_finished());
                yield_now().await;
                assert!(!task.is_finished());
                if abort {
                    task.abort();
                    yield_now().await;
                } else {
                    sleep(Duration::from_secs(2)).await;
                }
                assert!(task.is_finished());
                assert_eq!((&mut task).await.is_err(), abort);
                assert!(task.is_finished());
            }
        })
        .unwrap();
}

#[test]
fn ids_count_up_and_are_never_used_again() {
    let runtime = paused();
    let mut ids = Vec::new();
    for _ in 0..3 {
        runtime
            .block_on(async {
                ids.push(task::current().expect("the main future is a task").id);
                for _ in 0..10 {
                    let task = spawn(async { task::current().expect("polled").id });
                    ids.push(task.id());
                    assert_eq!(task.await.unwrap(), ids[ids.len() - 1]);
                }
            })
            .unwrap();
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(ids[0].get(), 1);
}

#[test]
fn a_task_knows_its_name_and_place() {
    paused()
        .block_on(async {
            let about = || async {
                let about = task::current().expect("polled");
                yield_now().await;
                let again = task::current().expect("polled again");
                assert_eq!((about.id, &about.name), (again.id, &again.name));
                (about.name, about.location.map(std::panic::Location::line))
            };
            let line = line!();
            let plain = spawn(about());
            let named = task::Builder::new().name("named").spawn(about());
            let deferred = task::Builder::new().name("deferred").defer(about());
            assert_eq!(plain.await.unwrap(), (None, Some(line + 1)));
            assert_eq!(named.await.unwrap(), (Some("named".into()), Some(line + 2)));
            assert_eq!(deferred.await.unwrap(), (Some("deferred".into()), Some(line + 3)));
            assert_eq!(task::current().expect("the main future").location, None);
        })
        .unwrap();
    assert!(task::current().is_none());
}

#[test]
fn a_name_survives_being_joined() {
    paused()
        .block_on(async {
            let named = task::Builder::new().name("named").spawn(async {
                sleep(Duration::from_secs(1)).await;
                task::current().and_then(|task| task.name)
            });
            assert_eq!(named.await.unwrap().as_deref(), Some("named"));
        })
        .unwrap();
}

#[test]
fn errors_say_what_happened() {
    fn is_an_error<E: Error + Send + Sync + 'static>(_: &E) {}
    paused()
        .block_on(async {
            let task = spawn(pending::<()>());
            task.abort();
            let error = task.await.unwrap_err();
            is_an_error(&error);
            assert_eq!((error.is_cancelled(), error.is_panic()), (true, false));
            assert_eq!(error.to_string(), "the task was cancelled");
            assert_eq!(format!("{error:?}"), "JoinError(the task was cancelled)");
            assert!(error.source().is_none());
            assert_eq!(std::io::Error::from(error).to_string(), "the task was cancelled");
        })
        .unwrap();
}

#[test]
fn ten_thousand_tasks_are_joined_each_with_its_own_output() {
    let runtime = paused();
    runtime
        .block_on(async {
            let tasks: Vec<_> = (0..10_000_u32)
                .map(|n| {
                    spawn(async move {
                        if n % 3 == 0 {
                            sleep(Duration::from_millis(u64::from(n % 7))).await;
                        }
                        n * n
                    })
                })
                .collect();
            for (n, task) in (0..10_000_u32).zip(tasks).rev() {
                assert_eq!(task.await.unwrap(), n * n);
            }
            assert_eq!(runtime.stats().tasks, 1);
        })
        .unwrap();
}

#[test]
fn an_endless_task_ends_with_an_abort_at_any_await() {
    paused()
        .block_on(async {
            let ticks = Rc::new(Cell::new(0));
            let count = ticks.clone();
            let task = spawn(async move {
                let mut every = interval(Duration::from_secs(1));
                loop {
                    every.tick().await;
                    count.set(count.get() + 1);
                }
            });
            sleep(Duration::from_millis(3500)).await;
            task.abort();
            let error: JoinError = task.await.map(|never: ()| never).unwrap_err();
            assert!(error.is_cancelled());
            sleep(Duration::from_secs(10)).await;
            assert_eq!(ticks.get(), 4);
        })
        .unwrap();
}
