//! `postlude::test`: one number is a whole run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use postlude::task::yield_now;
use postlude::time::{self, sleep};

/// Runs three tasks that yield and sleep, and returns who came when, with the virtual time of each
/// step.
async fn trace() -> String {
    let log = Rc::new(RefCell::new(String::new()));
    let start = time::now();
    let tasks: Vec<_> = ['a', 'b', 'c']
        .into_iter()
        .map(|name| {
            let log = Rc::clone(&log);
            postlude::spawn(async move {
                for step in 0..3 {
                    log.borrow_mut().push_str(&format!("{name}{step}@{} ", (time::now() - start).as_millis()));
                    yield_now().await;
                    sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    log.take()
}

fn traces(seeds: std::ops::Range<u64>) -> Vec<String> {
    let traces = RefCell::new(Vec::new());
    postlude::test(seeds, async || {
        let trace = trace().await;
        traces.borrow_mut().push(trace);
    });
    traces.into_inner()
}

fn failure(body: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("the test should have failed");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a text")
}

#[test]
fn the_same_seeds_give_the_same_traces_timers_included() {
    assert_eq!(traces(0..30), traces(0..30));
}

#[test]
fn different_seeds_give_different_traces_of_the_same_steps() {
    let traces = traces(0..30);
    let steps = |trace: &String| trace.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(traces.iter().collect::<BTreeSet<_>>().len() > 3, "{traces:?}");
    assert!(traces.iter().all(|trace| steps(trace) == steps(&traces[0])), "{traces:?}");
}

#[test]
fn an_order_that_a_queue_never_shows_is_found_and_found_again_by_its_seed() {
    // The second task takes it for granted that the first one ran before it.
    let body = async || {
        let ready = Rc::new(Cell::new(false));
        let set = Rc::clone(&ready);
        let first = postlude::spawn(async move { set.set(true) });
        let second = postlude::spawn(async move { ready.get() });
        first.await.unwrap();
        assert!(second.await.unwrap(), "the second ran first");
    };
    postlude::run(body()).expect("a runtime");
    let failing: Vec<u64> =
        (0..50).filter(|seed| catch_unwind(AssertUnwindSafe(|| postlude::test([*seed], body))).is_err()).collect();
    assert!(!failing.is_empty() && failing.len() < 50, "{failing:?}");
    for seed in failing {
        assert_eq!(failure(|| postlude::test([seed], body)), "the second ran first");
    }
}

#[test]
fn an_error_fails_the_test_and_names_the_seed() {
    let text = failure(|| postlude::test([41], async || Err::<(), _>("no such file")));
    assert!(text.contains("returned an error") && text.contains("POSTLUDE_SEED=41"), "{text}");
}

#[test]
fn a_panic_of_a_task_nobody_joins_fails_the_test() {
    let text = failure(|| {
        postlude::test([5], async || {
            drop(postlude::spawn(async { panic!("unseen") }));
            yield_now().await;
        });
    });
    assert!(text.contains("`unseen`") && text.contains("POSTLUDE_SEED=5"), "{text}");
}

#[test]
fn a_panic_of_a_task_that_is_dropped_at_the_end_fails_the_test() {
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("at the end");
        }
    }
    let text = failure(|| {
        postlude::test([5], async || {
            drop(postlude::spawn(async {
                let _held = PanicOnDrop;
                std::future::pending::<()>().await;
            }));
            yield_now().await;
            yield_now().await;
        });
    });
    assert!(text.contains("`at the end`"), "{text}");
}

#[test]
fn waiting_for_ever_fails_the_test_and_names_the_tasks() {
    let text = failure(|| {
        postlude::test([5], async || {
            let task = postlude::task::Builder::new().name("stuck").spawn(std::future::pending::<()>());
            let _ = task.await;
        });
    });
    assert!(text.contains("they wait for ever") && text.contains("`stuck`"), "{text}");
    assert!(text.contains("given to `block_on` at tests/it/replay.rs:"), "{text}");
}

#[test]
fn the_failure_of_a_wait_for_another_reactor_names_the_handle_that_tells_the_loop_otherwise() {
    let text = failure(|| {
        postlude::test([5], async || {
            // Stands for a timer of another reactor: nothing but a thread of its own knows the
            // waker.
            let (over, waits) = futures::channel::oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(9));
                let _ = over.send(());
            });
            waits.await.unwrap();
        });
    });
    assert!(text.contains("unless another thread holds a waker"), "{text}");
    assert!(text.contains("keep a `Handle::current()` until then: it tells the loop to wait"), "{text}");
}

#[test]
fn a_timer_that_never_comes_is_nothing_to_wait_for() {
    let (waits_for_ever, never) = ("they wait for ever", Duration::MAX);
    let limited = async || time::timeout(never, std::future::pending::<()>()).await;
    assert!(failure(|| postlude::test([5], limited)).contains(waits_for_ever));
    let ticks = async || {
        let mut ticks = time::interval(never);
        ticks.tick().await;
        ticks.tick().await;
    };
    assert!(failure(|| postlude::test([5], ticks)).contains(waits_for_ever));
    let items = async || {
        let mut items = std::pin::pin!(postlude::iter::timeout(futures::stream::pending::<()>(), never));
        items.next().await.unwrap()
    };
    assert!(failure(|| postlude::test([5], items)).contains(waits_for_ever));
}

#[test]
fn a_sleep_ends_however_much_virtual_time_has_passed() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    postlude::test([5], async || {
        let start = time::now();
        for years in 1..=100 {
            sleep(YEAR).await;
            assert_eq!(time::now() - start, years * YEAR);
        }
    });
}

#[test]
fn a_test_that_keeps_a_handle_may_wait_for_a_thread_that_has_only_a_waker() {
    postlude::test(0..3, async || {
        let _handle = postlude::Handle::current();
        let (answer, answered) = futures::channel::oneshot::channel();
        let thread = std::thread::spawn(move || {
            // Real time is the point: the loop has gone to sleep.
            std::thread::sleep(Duration::from_millis(20));
            answer.send(42)
        });
        assert_eq!(answered.await, Ok(42));
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn every_seed_has_a_runtime_and_a_clock_of_its_own() {
    let (runs, clock) = (Cell::new(0), RefCell::new(Vec::new()));
    let real = std::time::Instant::now();
    postlude::test(0..20, async || {
        let start = time::now();
        sleep(Duration::from_secs(3600)).await;
        clock.borrow_mut().push(time::now() - start);
        runs.set(runs.get() + 1);
    });
    assert_eq!(runs.get(), 20);
    assert!(clock.into_inner().iter().all(|slept| *slept == Duration::from_secs(3600)));
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[test]
fn no_seeds_are_refused_rather_than_passed() {
    assert!(failure(|| postlude::test([], async || ())).contains("no seeds"));
}
