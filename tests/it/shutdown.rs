//! The end of a runtime: everything is dropped once, nobody waits for ever, nothing is left running
//! that could be stopped.

#![allow(clippy::async_yields_async, reason = "a handle is made on the loop and looked at outside")]

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postlude::net::TcpListener;
use postlude::task::yield_now;
use postlude::time::{interval, sleep};
use postlude::{JoinHandle, Runtime, defer, spawn, spawn_blocking};

const NOW: Option<Duration> = Some(Duration::ZERO);
const GENEROUS: Duration = Duration::from_secs(10);

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

fn on_drop<F: FnOnce()>(action: F) -> OnDrop<F> {
    OnDrop(Some(action))
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0.take().expect("dropped once"))();
    }
}

fn count(drops: &Rc<Cell<usize>>) -> impl Sized + use<> {
    let drops = drops.clone();
    on_drop(move || drops.set(drops.get() + 1))
}

/// It must not wait for anything.
fn at_once<T>(what: impl FnOnce() -> T) -> T {
    let before = Instant::now();
    let result = what();
    assert!(before.elapsed() < GENEROUS);
    result
}

#[test]
fn a_thousand_tasks_in_any_state_are_dropped_exactly_once() {
    let drops = Rc::new(Cell::new(0));
    let mut runtime = paused();
    let mut handles = Vec::new();
    for n in 0..1000 {
        let token = count(&drops);
        handles.push(match n % 5 {
            0 => runtime.spawn(async move {
                let _held = token;
                sleep(Duration::from_secs(3600)).await;
            }),
            1 => runtime.defer(async move {
                let _held = token;
                pending::<()>().await;
            }),
            2 => runtime.spawn(async move {
                let _held = token;
                loop {
                    yield_now().await;
                }
            }),
            3 => runtime.spawn(async move { drop(token) }),
            _ => runtime.spawn(async move {
                let _held = token;
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                if n % 50 == 4 {
                    drop(listener.accept().await);
                }
                pending::<()>().await;
            }),
        });
        if n % 2 == 0 {
            handles.pop();
        }
        if n % 100 == 0 {
            runtime.turn(NOW).unwrap();
        }
    }
    drop(runtime);
    assert_eq!(drops.get(), 1000);
    drop(handles);
    assert_eq!(drops.get(), 1000);
}

#[test]
fn run_drops_what_its_future_left_behind_before_it_returns() {
    let drops = Rc::new(Cell::new(0));
    let (first, second, third) = (count(&drops), count(&drops), count(&drops));
    postlude::run(async move {
        drop(spawn(async move {
            let _held = first;
            pending::<()>().await;
        }));
        drop(defer(async move { drop(second) }));
        drop(spawn(async { third }));
    })
    .unwrap();
    assert_eq!(drops.get(), 3);
}

#[test]
fn a_handle_gives_cancelled_once_its_runtime_has_ended() {
    let runtime = paused();
    let (waiting, finished, queued) =
        runtime.block_on(async { (spawn(pending::<()>()), spawn(async {}), spawn(async {})) }).unwrap();
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert!(waiting.is_finished() && finished.is_finished());
    waiting.abort();
    for handle in [waiting, finished, queued] {
        // The output of a finished task is gone with its runtime as well.
        assert!(futures::executor::block_on(handle).unwrap_err().is_cancelled());
    }
}

#[test]
fn a_handle_of_an_ended_runtime_gives_cancelled_inside_another() {
    let first = paused();
    let handle: JoinHandle<i32> =
        first.block_on(std::future::poll_fn(|_| std::task::Poll::Ready(spawn(async { 1 })))).unwrap();
    drop(first);
    let second = paused();
    second
        .block_on(async {
            let same_place: JoinHandle<i32> = spawn(async { 2 });
            handle.abort();
            assert!(handle.await.unwrap_err().is_cancelled());
            assert_eq!(same_place.await.unwrap(), 2);
        })
        .unwrap();
}

#[test]
fn what_a_destructor_spawns_while_the_runtime_ends_is_never_polled_and_dropped_once() {
    let (drops, results) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let runtime = paused();
    for class in 0..3 {
        let (token, results, late) = (count(&drops), results.clone(), count(&drops));
        let guard = on_drop(move || {
            let work = async move {
                let _held = late;
                panic!("it was polled");
            };
            let mut handle: JoinHandle<()> = match class {
                0 => spawn(work),
                1 => defer(work),
                _ => postlude::task::Builder::new().name("late").spawn(work),
            };
            handle.abort();
            let finished = handle.is_finished();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(result) = std::future::Future::poll(std::pin::Pin::new(&mut handle), &mut cx)
            else {
                panic!("it would wait for ever");
            };
            results.borrow_mut().push((finished, result.unwrap_err().is_cancelled()));
        });
        drop(runtime.spawn(async move {
            let _held = (guard, token);
            pending::<()>().await;
        }));
    }
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert_eq!(*results.borrow(), [(true, true); 3]);
    assert_eq!(drops.get(), 6);
}

#[test]
fn tasks_are_dropped_one_by_one_while_the_others_are_still_there() {
    let runtime = paused();
    let others = Rc::new(RefCell::new(vec![true; 10]));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for n in 0..10 {
        let (others, seen) = (others.clone(), seen.clone());
        let guard = on_drop(move || {
            others.borrow_mut()[n] = false;
            seen.borrow_mut().push(others.borrow().iter().filter(|&&alive| alive).count());
        });
        drop(runtime.spawn(async move {
            let _held = guard;
            pending::<()>().await;
        }));
    }
    drop(runtime);
    assert_eq!(*seen.borrow(), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn destructors_that_spawn_in_a_chain_all_run() {
    let runtime = paused();
    let drops = Rc::new(Cell::new(0));
    fn link(left: usize, drops: Rc<Cell<usize>>) -> impl Sized {
        on_drop(move || {
            drops.set(drops.get() + 1);
            if left > 0 {
                let next: Box<dyn std::any::Any> = Box::new(link(left - 1, drops));
                drop(spawn(async move { drop(next) }));
            }
        })
    }
    let first = link(1000, drops.clone());
    drop(runtime.spawn(async move { drop(first) }));
    drop(runtime);
    assert_eq!(drops.get(), 1001);
}

#[test]
fn a_destructor_that_always_spawns_another_does_not_keep_a_runtime_from_ending() {
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            let next = Self;
            drop(spawn(async move { drop(next) }));
        }
    }
    let runtime = paused();
    let first = Endless;
    drop(runtime.spawn(async move { drop(first) }));
    drop(runtime);
}

#[test]
fn what_is_sent_home_while_the_runtime_ends_is_cancelled() {
    let runtime = paused();
    let handle = runtime.handle();
    let (sender, receiver) = mpsc::channel();
    let never_taken = runtime.handle().spawn(|| async { 1 });
    let guard = on_drop(move || sender.send(handle.spawn(|| async { 2 })).unwrap());
    drop(runtime.spawn(async move {
        let _held = guard;
        pending::<()>().await;
    }));
    let handle = runtime.handle();
    drop(runtime);
    let too_late = handle.spawn(|| async { 3 });
    for mut remote in [never_taken, receiver.recv().unwrap(), too_late] {
        assert!(remote.is_finished());
        remote.abort();
        assert!(at_once(|| remote.wait(GENEROUS)).unwrap().unwrap_err().is_cancelled());
    }
    assert!(!handle.is_alive());
}

#[test]
fn a_remote_handle_of_a_task_that_waits_is_cancelled_with_its_runtime() {
    let mut runtime = Runtime::new().unwrap();
    let mut remote = runtime.handle().spawn(pending::<()>);
    let waiting = std::thread::spawn(move || (remote.wait(GENEROUS), Instant::now()));
    while runtime.stats().tasks == 0 {
        runtime.turn(Some(GENEROUS)).unwrap();
    }
    let before = Instant::now();
    drop(runtime);
    let (result, after) = waiting.join().unwrap();
    assert!(result.expect("an answer").unwrap_err().is_cancelled());
    assert!(after.saturating_duration_since(before) < GENEROUS);
}

#[test]
fn a_runtime_may_be_dropped_inside_a_task_of_another() {
    let (drops, outer) = (Rc::new(Cell::new(0)), paused());
    let drops_inside = drops.clone();
    outer
        .block_on(async move {
            let inner = paused();
            let (token, late) = (count(&drops_inside), count(&drops_inside));
            let guard = on_drop(move || drop(spawn(async move { drop(late) })));
            drop(inner.spawn(async move {
                let _held = (token, guard);
                sleep(Duration::from_secs(1)).await;
            }));
            drop(inner.spawn(async {
                let _job = spawn_blocking(|| std::thread::sleep(Duration::from_millis(50)));
            }));
            let task = spawn(async move {
                at_once(|| drop(inner));
                let id = postlude::task::current().map(|task| task.id);
                sleep(Duration::from_secs(1)).await;
                (id, spawn(async { 5 }).await.unwrap())
            });
            let id = task.id();
            assert_eq!(task.await.unwrap(), (Some(id), 5), "the outer one is current again");
        })
        .unwrap();
    assert_eq!(drops.get(), 2);
    assert_eq!(outer.stats().tasks, 0);
}

#[test]
fn a_job_outlives_its_runtime_without_holding_it_up_and_its_result_is_dropped() {
    let runtime = Runtime::new().unwrap();
    let (started, running) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let (dropped, result) = mpsc::channel();
    let job = runtime
        .block_on(async {
            let job = spawn_blocking(move || {
                started.send(()).unwrap();
                let _released = gate.recv();
                on_drop(move || dropped.send(std::thread::current().name().map(str::to_owned)).unwrap())
            });
            running.recv().unwrap();
            job
        })
        .unwrap();
    at_once(|| drop(runtime));
    assert!(job.is_finished());
    assert!(futures::executor::block_on(job).map(drop).unwrap_err().is_cancelled());
    assert_eq!(result.try_recv(), Err(mpsc::TryRecvError::Empty));
    release.send(()).unwrap();
    assert_eq!(result.recv_timeout(GENEROUS).unwrap().as_deref(), Some("postlude-blocking"));
}

#[test]
fn a_job_that_waits_is_cancelled_and_its_closure_dropped_when_the_runtime_ends() {
    let runtime = Runtime::builder().max_blocking_threads(1).build().unwrap();
    let (started, running) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let (dropped, drops) = mpsc::channel();
    runtime
        .block_on(async {
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                let _released = gate.recv();
            }));
            running.recv().unwrap();
            for n in 0..5 {
                let dropped = dropped.clone();
                let guard = on_drop(move || dropped.send(n).unwrap());
                drop(spawn_blocking(move || {
                    let _held = guard;
                    panic!("it ran");
                }));
            }
        })
        .unwrap();
    at_once(|| drop(runtime));
    let mut dropped: Vec<_> = drops.try_iter().collect();
    dropped.sort_unstable();
    assert_eq!(dropped, [0, 1, 2, 3, 4]);
    drop(release);
}

#[test]
fn a_job_given_while_the_runtime_ends_is_cancelled_and_its_closure_dropped() {
    let runtime = paused();
    let drops = mpsc::channel();
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (say, dropped) = (ran.clone(), drops.0);
    let handle = Rc::new(RefCell::new(None));
    let place = handle.clone();
    let guard = on_drop(move || {
        let token = on_drop(move || dropped.send(()).unwrap());
        *place.borrow_mut() = Some(spawn_blocking(move || {
            let _held = token;
            say.store(true, std::sync::atomic::Ordering::SeqCst);
        }));
    });
    drop(runtime.spawn(async move {
        let _held = guard;
        pending::<()>().await;
    }));
    drop(runtime);
    assert_eq!(drops.1.try_recv(), Ok(()));
    let handle = handle.borrow_mut().take().unwrap();
    assert!(futures::executor::block_on(handle).unwrap_err().is_cancelled());
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn a_job_that_waits_for_a_task_of_a_runtime_that_ends_gets_an_error() {
    let runtime = Runtime::new().unwrap();
    let (handle, told) = (runtime.handle(), mpsc::channel());
    runtime
        .block_on(async {
            let job = spawn_blocking(move || {
                let mut remote = handle.spawn(|| sleep(Duration::from_secs(3600)));
                told.0.send(remote.wait(GENEROUS)).unwrap();
                // And whoever asks after the end is told at once.
                told.0.send(handle.spawn(|| async {}).wait(GENEROUS)).unwrap();
            });
            while postlude::task::current().is_some() && runtime.stats().timers_set == 0 {
                yield_now().await;
            }
            drop(job);
        })
        .unwrap();
    drop(runtime);
    for _ in 0..2 {
        let result = told.1.recv_timeout(GENEROUS).unwrap();
        assert!(result.expect("not by the limit").unwrap_err().is_cancelled());
    }
}

#[test]
fn shutdown_waits_for_running_jobs_and_every_task_is_dropped_when_it_returns() {
    let drops = Rc::new(Cell::new(0));
    let runtime = Runtime::new().unwrap();
    let (started, running) = mpsc::channel();
    let (done, ended) = mpsc::channel();
    let token = count(&drops);
    runtime
        .block_on(async move {
            drop(spawn(async move {
                let _held = token;
                let mut ticks = interval(Duration::from_millis(1));
                loop {
                    ticks.tick().await;
                }
            }));
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                done.send(()).unwrap();
            }));
            running.recv().unwrap();
        })
        .unwrap();
    at_once(|| runtime.shutdown(GENEROUS)).unwrap();
    assert_eq!((ended.try_recv(), drops.get()), (Ok(()), 1));
}

#[test]
fn shutdown_gives_up_at_its_limit_and_says_so() {
    let drops = Rc::new(Cell::new(0));
    let runtime = Runtime::new().unwrap();
    let (started, running) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let token = count(&drops);
    runtime
        .block_on(async {
            drop(spawn(async move {
                let _held = token;
                pending::<()>().await;
            }));
            yield_now().await;
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                let _released = gate.recv();
            }));
            running.recv().unwrap();
        })
        .unwrap();
    let before = Instant::now();
    let error = runtime.shutdown(Duration::from_millis(30)).unwrap_err();
    assert!((Duration::from_millis(30)..GENEROUS).contains(&before.elapsed()));
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().starts_with("1 blocking job(s) still run after 30ms"), "{error}");
    assert_eq!(drops.get(), 1, "its tasks are gone all the same");
    drop(release);
}

#[test]
fn shutdown_of_an_idle_runtime_returns_at_once_whatever_the_limit() {
    for limit in [Duration::ZERO, Duration::MAX] {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { spawn_blocking(|| ()).await.unwrap() }).unwrap();
        at_once(|| runtime.shutdown(limit)).unwrap();
    }
}

#[test]
fn a_runtime_that_goes_with_a_panic_drops_its_tasks_though_they_panic_too() {
    let drops = Rc::new(Cell::new(0));
    let payload = catch_unwind(AssertUnwindSafe(|| {
        let runtime = Runtime::builder().on_panic(|_| {}).build().unwrap();
        for _ in 0..3 {
            let token = count(&drops);
            let bad = on_drop(|| std::panic::resume_unwind(Box::new("drop")));
            drop(runtime.spawn(async move {
                let _held = (token, bad);
                pending::<()>().await;
            }));
        }
        runtime.block_on(async {
            yield_now().await;
            std::panic::resume_unwind(Box::new("main"));
        })
    }))
    .unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "main");
    assert_eq!(drops.get(), 3);
}

#[test]
fn hundreds_of_runtimes_come_and_go_and_leave_no_descriptor() {
    let open = || std::fs::read_dir("/dev/fd").unwrap().count();
    // The other tests open descriptors meanwhile, so a leak of one per round must stand out.
    let before = open();
    for _ in 0..1000 {
        let runtime = Runtime::new().unwrap();
        runtime
            .block_on(async {
                drop(spawn(async {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    drop(listener.accept().await);
                }));
                yield_now().await;
            })
            .unwrap();
    }
    assert!(open() < before + 900);
}

#[test]
fn runtimes_dropped_in_any_order_inside_a_task_leave_its_own_one_current() {
    let outer = paused();
    let place = || postlude::task::current().map(|task| task.id);
    outer
        .block_on(async {
            let id = place();
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let mut inner: [Option<Runtime>; 3] = std::array::from_fn(|_| Some(paused()));
                for runtime in inner.iter().flatten() {
                    runtime.block_on(async {}).unwrap_err();
                    drop(runtime.spawn(sleep(Duration::from_secs(1))));
                    // What is dropped with it spawns into it, not into the outer one.
                    let guard = on_drop(|| drop(spawn(async {})));
                    drop(runtime.spawn(async move {
                        std::future::pending::<()>().await;
                        drop(guard);
                    }));
                }
                let before = outer.stats().spawned;
                for n in order {
                    drop(inner[n].take());
                    assert_eq!(place(), id);
                    assert_eq!(outer.stats().spawned, before);
                }
                assert_eq!(spawn(async { 5 }).await.unwrap(), 5);
            }
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!((place(), outer.stats().tasks), (None, 0));
}
