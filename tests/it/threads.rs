//! Threads: what may cross them does so safely, what may not says so.

#![allow(clippy::async_yields_async, reason = "a handle is made on the loop and looked at outside")]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use postlude::net::{TcpListener, TcpStream, UnixStream};
use postlude::task::{self, yield_now};
use postlude::time::{self, Interval, Sleep, interval, sleep, timeout};
use postlude::{Handle, JoinError, JoinHandle, RemoteHandle, Runtime, TaskPanic, spawn, spawn_blocking};

const NOW: Option<Duration> = Some(Duration::ZERO);
const GENEROUS: Duration = Duration::from_secs(10);

// What the types promise, checked when this is compiled.
const _: () = {
    const fn send<T: Send>() {}
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<JoinHandle<Rc<()>>>();
    send_and_sync::<task::AbortOnDrop<Rc<()>>>();
    send_and_sync::<JoinError>();
    send_and_sync::<Sleep>();
    send_and_sync::<time::Timeout<Sleep>>();
    send_and_sync::<Interval>();
    send_and_sync::<task::YieldNow>();
    send_and_sync::<TcpListener>();
    send_and_sync::<TcpStream>();
    send_and_sync::<UnixStream>();
    send_and_sync::<Handle>();
    send_and_sync::<RemoteHandle<i32>>();
    // A `Cell` is `Send` but not `Sync`; its handle is both.
    send_and_sync::<RemoteHandle<Cell<i32>>>();
    send_and_sync::<postlude::blocking::Pool>();
    send_and_sync::<Waker>();
    send_and_sync::<task::Current>();
    #[cfg(feature = "signal")]
    send_and_sync::<postlude::signal::Signal>();
    #[cfg(feature = "signal")]
    send_and_sync::<postlude::signal::Hold>();
    send::<TaskPanic>();
};

/// Compiles only if `$type` lacks `$auto`: otherwise two implementations fit and the `_` cannot be
/// inferred.
macro_rules! lacks {
    ($type:ty: $auto:ident) => {
        const _: () = {
            trait Ambiguous<A> {
                fn check() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Both;
            impl<T: ?Sized + $auto> Ambiguous<Both> for T {}
            let _: fn() = <$type as Ambiguous<_>>::check;
        };
    };
}

lacks!(Runtime: Send);
lacks!(Runtime: Sync);
lacks!(postlude::Builder: Send);
lacks!(RemoteHandle<Rc<()>>: Send);

/// Sends the id of the thread it is dropped on.
struct Where(mpsc::Sender<ThreadId>);

impl Drop for Where {
    fn drop(&mut self) {
        let _nobody_asks = self.0.send(thread::current().id());
    }
}

/// Runs `code` on another thread, to its end.
fn elsewhere<T: Send>(code: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        thread::Builder::new().name("elsewhere".to_owned()).spawn_scoped(scope, code).unwrap().join().unwrap()
    })
}

/// The text `code` panics with on a thread named `elsewhere`.
fn panics_elsewhere(code: impl FnOnce() + Send) -> String {
    elsewhere(|| panics(code))
}

fn panics(code: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(code)).expect_err("a panic");
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a text")
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A task that leaves its waker and says how often it was polled.
fn parked(polls: &Arc<AtomicUsize>) -> (impl Future<Output = ()> + use<>, Arc<Mutex<Option<Waker>>>) {
    let place = Arc::new(Mutex::new(None));
    let (polls, left) = (polls.clone(), place.clone());
    let task = poll_fn(move |cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        *left.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    });
    (task, place)
}

#[test]
fn no_wake_of_four_threads_is_lost_while_the_task_parks_again_and_again() {
    const WAKES: usize = 20_000;
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (count, place) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<Waker>)));
            let (counted, left) = (count.clone(), place.clone());
            let task = spawn(poll_fn(move |cx| {
                left.lock().unwrap().get_or_insert_with(|| cx.waker().clone());
                // Relaxed: it is the wake that must make the count seen.
                if counted.load(Ordering::Relaxed) == 4 * WAKES { Poll::Ready(()) } else { Poll::Pending }
            }));
            yield_now().await;
            let waker = place.lock().unwrap().clone().expect("it was polled");
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (waker, count) = (waker.clone(), count.clone());
                    thread::spawn(move || {
                        for _ in 0..WAKES {
                            count.fetch_add(1, Ordering::Relaxed);
                            waker.wake_by_ref();
                        }
                    })
                })
                .collect();
            timeout(GENEROUS, task).await.expect("the last wake is not lost").unwrap();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        })
        .unwrap();
}

#[test]
fn a_runtime_driven_by_hand_runs_what_other_threads_spawn_wake_and_abort() {
    let mut runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let remote = thread::spawn(move || {
        let mut sum = 0;
        for n in 0..500_u64 {
            let mut task = handle.spawn(move || async move {
                yield_now().await;
                let inner = Rc::new(spawn(async move { n }).await.unwrap());
                yield_now().await;
                *inner
            });
            if n % 2 == 0 {
                sum += task.wait(GENEROUS).expect("in time").unwrap();
            } else {
                task.abort();
                let result = task.wait(GENEROUS).expect("in time");
                sum += result.unwrap_or(n);
            }
        }
        sum
    });
    while !remote.is_finished() {
        runtime.turn(Some(Duration::from_millis(20))).unwrap();
    }
    assert_eq!(remote.join().unwrap(), (0..500).sum::<u64>());
    while runtime.turn(NOW).unwrap().has_more {}
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_sleeping_loop_starts_what_another_thread_spawns() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    let remote = thread::spawn(move || {
        // Long enough for the loop to fall asleep; if it has not, the test still holds.
        thread::sleep(Duration::from_millis(30));
        let before = Instant::now();
        let result = handle.spawn(|| async { thread::current().id() }).wait(GENEROUS);
        stop.send(()).unwrap();
        (result.expect("in time").unwrap(), before.elapsed())
    });
    runtime.block_on(stopped).unwrap().unwrap();
    let (id, took) = remote.join().unwrap();
    assert_eq!(id, thread::current().id());
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_remote_handle_awaited_on_a_foreign_executor_resolves_every_time() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    let remote = thread::spawn(move || {
        futures::executor::block_on(async {
            for n in 0..10_000 {
                assert_eq!(handle.spawn(move || async move { n }).await.unwrap(), n);
            }
        });
        stop.send(()).unwrap();
    });
    runtime.block_on(timeout(3 * GENEROUS, stopped)).unwrap().expect("in time").unwrap();
    remote.join().unwrap();
}

#[test]
fn a_waker_used_by_a_plain_thread_ends_the_sleep_of_the_loop() {
    let runtime = Runtime::new().unwrap();
    let took = runtime.block_on(async {
        let woken = Arc::new(Mutex::new(None));
        let (place, mut polled) = (woken.clone(), false);
        poll_fn(move |cx| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(());
            }
            let (waker, place) = (cx.waker().clone(), place.clone());
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(100));
                *place.lock().unwrap() = Some(Instant::now());
                waker.wake();
            });
            Poll::Pending
        })
        .await;
        let woken = woken.lock().unwrap().expect("not before the wake");
        woken.elapsed()
    });
    assert!(took.unwrap() < Duration::from_secs(2));
    assert!(runtime.stats().turns < 5, "it slept meanwhile");
}

#[test]
fn a_thread_may_wake_a_task_while_its_runtime_comes_to_an_end() {
    let (waker, done) = (Arc::new(Mutex::new(None::<Waker>)), Arc::new(AtomicBool::new(false)));
    let (hammered, stop) = (waker.clone(), done.clone());
    let hammer = thread::spawn(move || {
        let mut wakes = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            let waker = hammered.lock().unwrap().clone();
            for _ in 0..50 {
                if let Some(waker) = &waker {
                    waker.wake_by_ref();
                    wakes += 1;
                }
            }
        }
        wakes
    });
    let polls = Arc::new(AtomicUsize::new(0));
    for _ in 0..500 {
        let runtime = Runtime::new().unwrap();
        let (task, place) = parked(&polls);
        drop(runtime.spawn(task));
        runtime.block_on(yield_now()).unwrap();
        *waker.lock().unwrap() = place.lock().unwrap().clone();
        for _ in 0..3 {
            runtime.block_on(yield_now()).unwrap();
        }
    }
    done.store(true, Ordering::SeqCst);
    assert!(hammer.join().unwrap() > 0);
}

#[test]
fn a_future_is_dropped_on_its_own_thread_whoever_holds_the_last_waker() {
    let runtime = Runtime::new().unwrap();
    let (sender, dropped) = mpsc::channel();
    let (polls, guard) = (Arc::new(AtomicUsize::new(0)), Where(sender));
    let (task, place) = parked(&polls);
    drop(runtime.spawn(async move {
        let _held = (guard, Rc::new(()));
        task.await;
    }));
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
    elsewhere(move || {
        let waker = place.lock().unwrap().take().expect("it was polled");
        waker.wake_by_ref();
        drop(waker);
    });
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

#[test]
fn wake_end_abort_and_join_may_race() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    let (wakers, to_wake) = mpsc::channel::<Waker>();
    let (tasks, to_join) = mpsc::channel::<RemoteHandle<ThreadId>>();
    let (sender, dropped) = mpsc::channel();
    let waking = thread::spawn(move || {
        for waker in to_wake {
            let clone = waker.clone();
            clone.wake();
            waker.wake_by_ref();
        }
    });
    let joining = thread::spawn(move || {
        let mut ends = [0; 2];
        for (n, task) in to_join.into_iter().enumerate() {
            if n % 3 == 0 {
                task.abort();
            }
            match futures::executor::block_on(task) {
                Ok(_) => ends[0] += 1,
                Err(error) => {
                    assert!(error.is_cancelled());
                    ends[1] += 1;
                }
            }
        }
        ends
    });
    let spawning = thread::spawn(move || {
        for _ in 0..2000 {
            let (wakers, guard) = (wakers.clone(), Where(sender.clone()));
            let task = handle.spawn(move || {
                let mut polls = 0;
                poll_fn(move |cx| {
                    let _held = &guard;
                    wakers.send(cx.waker().clone()).unwrap();
                    polls += 1;
                    if polls < 3 { Poll::Pending } else { Poll::Ready(thread::current().id()) }
                })
            });
            tasks.send(task).unwrap();
        }
        drop((tasks, wakers));
        let ends = joining.join().unwrap();
        stop.send(()).unwrap();
        ends
    });
    runtime.block_on(timeout(3 * GENEROUS, stopped)).unwrap().expect("nobody hangs").unwrap();
    let ends = spawning.join().unwrap();
    drop(runtime);
    waking.join().unwrap();
    assert_eq!(ends.iter().sum::<i32>(), 2000);
    let here = thread::current().id();
    let drops: Vec<_> = dropped.iter().collect();
    assert!(drops.len() == 2000 && drops.iter().all(|&id| id == here));
}

#[test]
fn what_is_kept_in_thread_locals_goes_with_its_thread_in_peace() {
    #[derive(Default)]
    struct Kept {
        runtime: RefCell<Option<Runtime>>,
        things: RefCell<Vec<Box<dyn std::any::Any>>>,
    }
    /// Uses its waker when it is dropped.
    struct Wakes(Waker);
    impl Drop for Wakes {
        fn drop(&mut self) {
            self.0.wake_by_ref();
            drop(self.0.clone());
            drop(postlude::task::current());
            let _now = time::now();
            assert!(task::has_budget());
        }
    }
    thread_local! {
        static FIRST: Kept = Kept::default();
        static SECOND: Kept = Kept::default();
    }
    let (sender, dropped) = mpsc::channel();
    // Whichever of the two is destroyed first: once the things outlive the runtime, once they do
    // not.
    for round in 0..4 {
        let sender = sender.clone();
        let work = move || {
            if round % 2 == 0 {
                FIRST.with(|_| SECOND.with(|_| ()));
            } else {
                SECOND.with(|_| FIRST.with(|_| ()));
            }
            let runtime = Runtime::new().unwrap();
            let things = runtime.block_on(async {
                let mut things: Vec<Box<dyn std::any::Any>> = Vec::new();
                let guard = Where(sender);
                things.push(Box::new(spawn(async move {
                    let _held = guard;
                    let late = Rc::new(Cell::new(0));
                    sleep(Duration::from_secs(9)).await;
                    drop(late);
                })));
                things.push(Box::new(spawn(async { "output" })));
                things.push(Box::new(spawn(pending::<()>()).abort_on_drop()));
                things.push(Box::new(Wakes(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await)));
                let mut sleeping = Box::pin(sleep(Duration::from_secs(9)));
                assert!(poll_once(&mut sleeping).is_pending());
                things.push(Box::new(sleeping));
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                assert!(poll_once(&mut Box::pin(listener.accept())).is_pending());
                things.push(Box::new(listener));
                things.push(Box::new(runtime.handle()));
                things.push(Box::new(runtime.handle().spawn(|| async { 1 })));
                things.push(Box::new(spawn_blocking(|| ())));
                yield_now().await;
                things
            });
            let things = things.unwrap();
            if round < 2 {
                FIRST.with(|kept| *kept.runtime.borrow_mut() = Some(runtime));
                SECOND.with(|kept| *kept.things.borrow_mut() = things);
            } else {
                // The runtime is used once more before the thread ends.
                runtime.block_on(yield_now()).unwrap();
                FIRST.with(|kept| {
                    *kept.things.borrow_mut() = things;
                    *kept.runtime.borrow_mut() = Some(runtime);
                });
            }
            thread::current().id()
        };
        let id = thread::spawn(work).join().unwrap();
        assert_eq!(dropped.recv_timeout(GENEROUS), Ok(id));
    }
}

#[test]
fn a_task_can_be_aborted_from_another_thread_another_runtime_and_after_the_end() {
    let runtime = Runtime::new().unwrap();
    let tasks = runtime
        .block_on(async {
            let (sender, dropped) = mpsc::channel();
            let guard = Where(sender);
            let task = spawn(async move {
                let _held = guard;
                pending::<()>().await;
            });
            yield_now().await;
            elsewhere(|| task.abort());
            assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Empty), "not by the call");
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(dropped.try_recv(), Ok(thread::current().id()));

            let task = spawn(pending::<()>());
            elsewhere(|| {
                Runtime::new().unwrap().block_on(async { task.abort() }).unwrap();
            });
            assert!(task.await.unwrap_err().is_cancelled());

            let task = spawn(pending::<()>());
            elsewhere(move || drop(task.abort_on_drop()));
            let task = spawn(pending::<()>());
            elsewhere(move || {
                task.abort();
                drop(task);
            });
            [spawn(pending::<()>()), spawn(pending::<()>())]
        })
        .unwrap();
    // Inside another runtime on this thread.
    let other = Runtime::new().unwrap();
    other.block_on(async { tasks[0].abort() }).unwrap();
    for _ in 0..3 {
        runtime.block_on(yield_now()).unwrap();
    }
    assert_eq!(runtime.stats().tasks, 2, "one aborted whose handle is kept, and one that waits");
    drop(runtime);
    for task in &tasks {
        task.abort();
        elsewhere(|| task.abort());
        assert!(elsewhere(|| task.is_finished()));
    }
    let [first, _] = tasks;
    assert!(elsewhere(|| futures::executor::block_on(first)).unwrap_err().is_cancelled());
}

#[test]
fn a_handle_dropped_on_another_thread_detaches_and_the_output_is_dropped_at_home() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (sender, dropped) = mpsc::channel();
            // Before and after the end of its task.
            for finished in [false, true] {
                let guard = Where(sender.clone());
                let task = spawn(async move {
                    yield_now().await;
                    (guard, Rc::new(()))
                });
                if finished {
                    yield_now().await;
                    yield_now().await;
                    assert!(task.is_finished());
                }
                elsewhere(move || drop(task));
                for _ in 0..4 {
                    yield_now().await;
                }
                assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
            }
            assert_eq!(runtime.stats().tasks, 1);
        })
        .unwrap();
}

#[test]
fn a_handle_used_where_its_runtime_is_not_current_says_so() {
    let runtime = Runtime::new().unwrap();
    let mut task = runtime.spawn(async {});
    let text = panics_elsewhere(|| assert!(task.is_finished()));
    assert_eq!(
        text,
        "`JoinHandle::is_finished` was called on thread `elsewhere`, which runs no runtime; \
         do it inside the `Runtime::block_on` it belongs to, or send the work there with `Handle::spawn`"
    );
    let text = panics_elsewhere(|| drop(poll_once(&mut task)));
    assert!(text.starts_with("`JoinHandle` was polled on thread `elsewhere`, which runs no runtime;"), "{text}");
    let text = panics_elsewhere(|| {
        Runtime::new().unwrap().block_on(async { drop(poll_once(&mut task)) }).unwrap();
    });
    assert!(text.starts_with("`JoinHandle` was polled on thread `elsewhere`, which runs another runtime;"), "{text}");
    // None of that has harmed it.
    runtime.block_on(task).unwrap().unwrap();
}

#[test]
fn what_needs_a_runtime_says_so_on_a_thread_without_one() {
    let what = |code: fn()| panics_elsewhere(code);
    let expected = |name: &str| {
        format!(
            "`{name}` was called on thread `elsewhere`, which runs no runtime; \
             do it inside `postlude::run` or `Runtime::block_on`, or send the work there with `Handle::spawn`"
        )
    };
    assert_eq!(what(|| drop(spawn(async {}))), expected("spawn"));
    assert_eq!(what(|| drop(postlude::defer(async {}))), expected("defer"));
    assert_eq!(what(|| drop(Handle::current())), expected("Handle::current"));
    assert_eq!(what(|| drop(spawn_blocking(|| ()))), expected("spawn_blocking"));
    assert_eq!(what(|| drop(task::Builder::new().spawn(async {}))), expected("task::Builder::spawn"));
    assert_eq!(what(|| drop(task::Builder::new().defer(async {}))), expected("task::Builder::defer"));
    assert_eq!(what(|| drop(postlude::blocking::Pool::new(1).spawn(|| ()))), expected("blocking::Pool::spawn"));
    let text = what(|| futures::executor::block_on(sleep(Duration::from_secs(1))));
    assert_eq!(text, expected("sleep").replace("called", "polled"));
    let text = what(|| {
        futures::executor::block_on(interval(Duration::from_secs(1)).tick());
        futures::executor::block_on(async {
            let mut ticks = interval(Duration::from_secs(1));
            ticks.tick().await;
            ticks.tick().await;
        });
    });
    assert!(text.contains("which runs no runtime"), "{text}");
    let text = what(|| futures::executor::block_on(timeout(Duration::from_secs(1), pending::<()>())).unwrap());
    assert!(text.contains("which runs no runtime"), "{text}");
    let text = what(|| futures::executor::block_on(time::advance(Duration::from_secs(1))));
    assert_eq!(text, expected("time::advance"));
}

#[test]
fn a_timer_polled_or_dropped_on_another_thread_says_so_or_goes_home() {
    let mut runtime = Runtime::new().unwrap();
    let mut sleeping = runtime
        .block_on(async {
            let mut sleeping = Box::pin(sleep(Duration::from_secs(3600)));
            assert!(poll_once(&mut sleeping).is_pending());
            sleeping
        })
        .unwrap();
    assert!(elsewhere(|| !sleeping.is_elapsed()));
    let text = panics_elsewhere(|| assert!(poll_once(&mut sleeping).is_ready()));
    assert!(text.starts_with("`sleep` was polled on thread `elsewhere`, which runs no runtime;"), "{text}");
    let text = panics_elsewhere(|| {
        Runtime::new().unwrap().block_on(async { assert!(poll_once(&mut sleeping).is_ready()) }).unwrap();
    });
    assert!(text.starts_with("`sleep` was polled on thread `elsewhere`, which runs another runtime;"), "{text}");
    assert_eq!(runtime.stats().timers_set, 1);
    elsewhere(move || drop(sleeping));
    runtime.turn(NOW).unwrap();
    assert_eq!(runtime.stats().timers_set, 0);
}

#[test]
fn a_timer_reset_on_another_thread_is_armed_anew_at_home() {
    let mut runtime = Runtime::new().unwrap();
    let mut sleeping = Box::pin(sleep(Duration::from_secs(3600)));
    runtime.block_on(async { assert!(poll_once(&mut sleeping).is_pending()) }).unwrap();
    elsewhere(|| sleeping.reset(Instant::now() + Duration::from_millis(5)));
    runtime.turn(NOW).unwrap();
    assert_eq!(runtime.stats().timers_set, 0);
    runtime.block_on(timeout(GENEROUS, sleeping)).unwrap().unwrap();
}

#[test]
fn a_registered_socket_used_on_another_thread_gives_an_error_and_still_works_at_home() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(poll_once(&mut Box::pin(listener.accept())).is_pending());
            let (none, another) = elsewhere(|| {
                let none = futures::executor::block_on(listener.accept()).map(drop).unwrap_err();
                let another = Runtime::new().unwrap().block_on(listener.accept()).unwrap().map(drop).unwrap_err();
                (none.to_string(), another.to_string())
            });
            assert_eq!(
                none,
                "a socket was used on thread `elsewhere`, which runs no runtime; \
                 do it inside the `Runtime::block_on` it belongs to, or send the work there with `Handle::spawn`"
            );
            assert!(another.contains("which runs another runtime"), "{another}");
            let peer = elsewhere(|| std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            assert_eq!(listener.accept().await.unwrap().1, peer.local_addr().unwrap());
        })
        .unwrap();
}

#[test]
fn a_registered_socket_dropped_on_another_thread_is_closed_by_its_loop() {
    let mut runtime = Runtime::new().unwrap();
    let (stream, mut peer) = runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            assert!(poll_once(&mut Box::pin(stream.read(&mut byte))).is_pending());
            (stream, peer)
        })
        .unwrap();
    assert_eq!(runtime.stats().sources, 1);
    elsewhere(move || drop(stream));
    peer.set_nonblocking(true).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "not closed yet");
    runtime.turn(NOW).unwrap();
    assert_eq!(runtime.stats().sources, 0);
    peer.set_nonblocking(false).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn an_unregistered_socket_belongs_to_no_loop_and_may_move() {
    let runtime = Runtime::new().unwrap();
    let (listener, stream) = runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener, TcpStream::from_std(peer).unwrap())
        })
        .unwrap();
    let byte = elsewhere(move || {
        Runtime::new()
            .unwrap()
            .block_on(async move {
                let (accepted, _) = listener.accept().await.unwrap();
                stream.write_all(b"x").await.unwrap();
                let mut byte = [0];
                timeout(GENEROUS, accepted.read_exact(&mut byte)).await.unwrap().unwrap();
                byte
            })
            .unwrap()
    });
    assert_eq!(&byte, b"x");
}

#[test]
fn a_remote_handle_waits_no_longer_than_asked_and_can_wait_again() {
    let mut runtime = Runtime::new().unwrap();
    let mut remote = runtime.handle().spawn(|| async { Rc::new(5).as_ref() + 1 });
    assert!(remote.wait(Duration::from_millis(1)).is_none(), "nobody has run the loop");
    assert!(!remote.is_finished());
    while !remote.is_finished() {
        runtime.turn(NOW).unwrap();
    }
    assert_eq!(remote.wait(Duration::ZERO).unwrap().unwrap(), 6);
    assert!(remote.wait(Duration::ZERO).is_none(), "it has been taken");
}

#[test]
fn a_remote_handle_can_be_aborted_before_and_after_its_task_has_begun() {
    let mut runtime = Runtime::new().unwrap();
    let (sender, dropped) = mpsc::channel();
    let guard = Where(sender.clone());
    let mut before = runtime.handle().spawn(move || async move {
        let _held = guard;
        panic!("it was polled");
    });
    elsewhere(|| before.abort());
    while runtime.turn(NOW).unwrap().has_more {}
    assert!(before.wait(Duration::ZERO).unwrap().unwrap_err().is_cancelled());
    assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
    let guard = Where(sender);
    let mut after = runtime.handle().spawn(move || async move {
        let _held = guard;
        pending::<()>().await;
    });
    while runtime.turn(NOW).unwrap().has_more {}
    assert!(!after.is_finished());
    elsewhere(|| after.abort());
    assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Empty));
    while runtime.turn(NOW).unwrap().has_more {}
    assert!(after.wait(Duration::ZERO).unwrap().unwrap_err().is_cancelled());
    assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
    // And long after: nothing.
    after.abort();
    while runtime.turn(NOW).unwrap().has_more {}
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_remote_handle_that_is_dropped_lets_its_task_run_on() {
    let mut runtime = Runtime::new().unwrap();
    let (sender, done) = mpsc::channel();
    drop(runtime.handle().spawn(move || async move {
        yield_now().await;
        sender.send(()).unwrap();
    }));
    while runtime.turn(NOW).unwrap().has_more {}
    assert_eq!(done.try_recv(), Ok(()));
}

#[test]
fn a_remote_handle_may_be_awaited_on_its_own_loop_but_not_waited_for() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    runtime
        .block_on(async {
            assert_eq!(handle.spawn(|| async { 5 }).await.unwrap(), 5);
            let mut remote = handle.spawn(|| async { 6 });
            let text = panics(|| drop(remote.wait(GENEROUS)));
            assert!(text.starts_with("`RemoteHandle::wait` was called on the thread that runs the task"), "{text}");
            assert_eq!(remote.await.unwrap(), 6);
        })
        .unwrap();
}

#[test]
fn entering_a_runtime_inside_a_runtime_is_an_error_that_names_where_the_outer_one_was_entered() {
    let runtime = Runtime::new().unwrap();
    let other = RefCell::new(Runtime::new().unwrap());
    let line = line!() + 1;
    let texts = runtime.block_on(async {
        let same = runtime.block_on(async {}).unwrap_err().to_string();
        let run = postlude::run(async {}).unwrap_err().to_string();
        let block_on = other.borrow().block_on(async {}).unwrap_err().to_string();
        let turn = other.borrow_mut().turn(NOW).unwrap_err().to_string();
        [same, run, block_on, turn]
    });
    let place = format!("{}:{line}:", file!());
    for (text, what) in texts.unwrap().iter().zip(["block_on", "block_on", "block_on", "turn"]) {
        assert!(text.starts_with(&format!("`{what}` was called inside a runtime entered at `{place}")), "{text}");
        assert!(text.ends_with("await the future instead, or block on another thread with `spawn_blocking`"), "{text}");
    }
    // The documented way out.
    let sum = runtime.block_on(async { spawn_blocking(|| postlude::run(async { 6 * 7 }).unwrap()).await.unwrap() });
    assert_eq!(sum.unwrap(), 42);
    // None of that has harmed either of them.
    assert_eq!(other.borrow().block_on(async { spawn(async { 5 }).await.unwrap() }).unwrap(), 5);
    assert_eq!(other.borrow_mut().turn(NOW).unwrap().polls, 0);
}

#[test]
fn entering_a_runtime_inside_a_turn_names_the_turn() {
    let mut runtime = Runtime::new().unwrap();
    let task = runtime.spawn(async { postlude::run(async {}).unwrap_err().to_string() });
    let line = line!() + 1;
    runtime.turn(NOW).unwrap();
    let text = runtime.block_on(task).unwrap().unwrap();
    assert!(text.contains(&format!("entered at `{}:{line}:", file!())), "{text}");
}

#[test]
fn a_runtime_is_made_used_and_dropped_on_a_stack_of_64_kib() {
    let small = thread::Builder::new().stack_size(64 * 1024);
    let work = || {
        let runtime = Runtime::new().unwrap();
        runtime
            .block_on(async {
                let tasks: Vec<_> = (0..300).map(|n| spawn(async move { n })).collect();
                for (n, task) in tasks.into_iter().enumerate() {
                    assert_eq!(task.await.unwrap(), n);
                }
                sleep(Duration::from_millis(1)).await;
                drop(spawn(pending::<()>()));
            })
            .unwrap();
    };
    small.spawn(work).unwrap().join().unwrap();
}

#[test]
fn two_runtimes_on_one_thread_take_turns_and_wake_each_other() {
    let mut runtimes = [Runtime::new().unwrap(), Runtime::new().unwrap()];
    let wakers: Rc<RefCell<[Option<Waker>; 2]>> = Rc::default();
    let polls = Rc::new(Cell::new([0_u32; 2]));
    for (me, runtime) in runtimes.iter().enumerate() {
        let (wakers, polls) = (wakers.clone(), polls.clone());
        drop(runtime.spawn(poll_fn(move |cx| {
            let mut counts = polls.get();
            counts[me] += 1;
            polls.set(counts);
            wakers.borrow_mut()[me] = Some(cx.waker().clone());
            if let Some(other) = &wakers.borrow()[1 - me] {
                other.wake_by_ref();
            }
            Poll::<()>::Pending
        })));
    }
    for _ in 0..100 {
        for runtime in &mut runtimes {
            runtime.turn(NOW).unwrap();
        }
    }
    let [first, second] = polls.get();
    // A wake from outside is taken after the polls of a turn, so it takes three turns to get there
    // and back.
    assert!(first >= 30 && first.abs_diff(second) <= 1, "{first} {second}");
}

#[test]
fn between_turns_the_descriptor_is_readable_once_there_is_something_to_do() {
    let mut runtime = Runtime::new().unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let (task, place) = parked(&polls);
    drop(runtime.spawn(task));
    while runtime.turn(NOW).unwrap().has_more {}
    let mut host = mio::Poll::new().unwrap();
    let fd = std::os::fd::AsFd::as_fd(&runtime).as_raw_fd();
    let interest = mio::Interest::READABLE;
    host.registry().register(&mut mio::unix::SourceFd(&fd), mio::Token(0), interest).unwrap();
    let mut events = mio::Events::with_capacity(8);
    let mut readable = |host: &mut mio::Poll, limit| {
        host.poll(&mut events, Some(limit)).unwrap();
        !events.is_empty()
    };
    assert!(!readable(&mut host, Duration::ZERO));
    let waker = place.lock().unwrap().clone().expect("it was polled");
    // From another thread, and from this one.
    for round in 0..4 {
        if round % 2 == 0 {
            elsewhere(|| waker.wake_by_ref());
        } else {
            waker.wake_by_ref();
        }
        assert!(readable(&mut host, GENEROUS));
        assert!(runtime.next_deadline().is_some_and(|deadline| deadline <= Instant::now()));
        let before = polls.load(Ordering::SeqCst);
        while runtime.turn(NOW).unwrap().has_more {}
        assert_eq!(polls.load(Ordering::SeqCst), before + 1);
    }
}

#[test]
fn the_panic_of_a_remote_task_nobody_waits_for_is_reported() {
    let runtime = Runtime::builder().on_panic(|_| ()).build().unwrap();
    let handle = runtime.handle();
    let mut kept = handle.spawn(|| async { std::panic::resume_unwind(Box::new("kept")) });
    drop(handle.spawn(|| async { std::panic::resume_unwind(Box::new("detached")) }));
    runtime.block_on(async { postlude::time::sleep(std::time::Duration::from_millis(10)).await }).unwrap();
    assert_eq!(runtime.stats().panics, 1);
    let result: Result<(), _> = kept.wait(std::time::Duration::ZERO).unwrap();
    assert!(result.unwrap_err().is_panic());
}

#[test]
fn what_another_thread_defers_runs_after_what_is_urgent_and_can_be_waited_for() {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = order.clone();
        move || async move { order.lock().unwrap().push(name) }
    };
    let handle = runtime.handle();
    let (mut first, mut second, mut third) =
        (handle.defer(note("deferred")), handle.defer(note("deferred too")), handle.spawn(note("urgent")));
    assert!(first.wait(Duration::ZERO).is_none());
    runtime.block_on(postlude::time::sleep(Duration::from_millis(1))).unwrap();
    let results = elsewhere(move || [&mut first, &mut second, &mut third].map(|task| task.wait(Duration::ZERO)));
    assert!(results.into_iter().all(|result| result.unwrap().is_ok()));
    assert_eq!(*order.lock().unwrap(), ["urgent", "deferred", "deferred too"]);
}
