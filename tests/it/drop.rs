//! Drops: everything once, on its own thread, and whatever a destructor does is allowed.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use postlude::net::{TcpListener, TcpStream};
use postlude::task::{self, yield_now};
use postlude::time::{self, sleep, timeout};
use postlude::{JoinHandle, Runtime, defer, spawn, spawn_blocking};

const NOW: Option<Duration> = Some(Duration::ZERO);

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

/// Counts drops.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

impl Count {
    fn get(&self) -> usize {
        self.0.get()
    }

    fn token(&self) -> impl Sized + use<> {
        let count = self.0.clone();
        on_drop(move || count.set(count.get() + 1))
    }
}

async fn poll_once<F: Future + Unpin>(future: &mut F) {
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await);
}

type Action = Box<dyn FnOnce()>;

/// What a destructor may do, prepared inside a runtime.
async fn actions() -> Vec<(&'static str, Action)> {
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let place = waker.clone();
    drop(spawn(poll_fn(move |cx| {
        *place.borrow_mut() = Some(cx.waker().clone());
        Poll::<()>::Pending
    })));
    let aborted = spawn(pending::<()>());
    let waiting: JoinHandle<()> = spawn(pending());
    let finished = spawn(async { "an output".to_owned() });
    let aborted_by_drop = spawn(pending::<()>()).abort_on_drop();
    let mut joined = spawn(pending::<()>());
    poll_once(&mut joined).await;
    let mut sleeping = Box::pin(sleep(Duration::from_secs(3600)));
    poll_once(&mut sleeping).await;
    let mut reset = Box::pin(sleep(Duration::from_secs(3600)));
    poll_once(&mut reset).await;
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut byte = [0];
    poll_once(&mut Box::pin(stream.read(&mut byte))).await;
    let also = listener.clone();
    let mut accepting = Box::pin(async move { also.accept().await.map(drop) });
    drop(listener.accept().await.unwrap());
    poll_once(&mut accepting).await;
    drop(listener);
    let mut used = Box::pin(TcpListener::bind("127.0.0.1:0").unwrap());
    assert!(poll_fn(|cx| Poll::Ready(used.as_mut().poll_accept(cx).is_pending())).await);
    yield_now().await;
    let waker = waker.borrow_mut().take().expect("it was polled");
    let also = waker.clone();
    let parts = finished.id();
    vec![
        ("wake", Box::new(move || waker.wake())),
        ("wake by reference and drop", Box::new(move || also.wake_by_ref())),
        ("spawn", Box::new(|| drop(spawn(pending::<()>())))),
        ("spawn what is ready", Box::new(|| drop(spawn(async {})))),
        ("spawn by name", Box::new(|| drop(task::Builder::new().name("late").spawn(async {})))),
        ("defer", Box::new(|| drop(defer(async {})))),
        ("spawn_blocking", Box::new(|| drop(spawn_blocking(|| ())))),
        ("abort", Box::new(move || aborted.abort())),
        ("drop a handle", Box::new(move || drop(waiting))),
        ("drop a handle that was polled", Box::new(move || drop(joined))),
        ("drop a handle with an output", Box::new(move || drop(finished))),
        ("drop a handle that aborts", Box::new(move || drop(aborted_by_drop))),
        ("drop a timer", Box::new(move || drop(sleeping))),
        ("reset a timer", Box::new(move || reset.reset(time::now()))),
        ("drop a socket that waits", Box::new(move || drop(accepting))),
        ("drop a socket", Box::new(move || drop(stream))),
        ("drop a listener", Box::new(move || drop(used))),
        (
            "poll a timer",
            Box::new(|| {
                let mut late = Box::pin(sleep(Duration::from_secs(1)));
                assert!(late.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }),
        ),
        (
            "poll a handle",
            Box::new(|| {
                let mut late = spawn(pending::<()>());
                let _poll = Pin::new(&mut late).poll(&mut Context::from_waker(Waker::noop()));
                let _finished = late.is_finished();
            }),
        ),
        ("ask", Box::new(move || assert!(task::current().is_none_or(|task| task.id != parts)))),
        ("nest", Box::new(|| assert!(postlude::run(async {}).is_err()))),
        ("nest a runtime", Box::new(|| drop(paused()))),
    ]
}

/// Lets a future's drop perform each action, after `end` has brought the drop about. Says what
/// panicked or was not done.
fn each_action(end: impl Fn(Runtime, Box<dyn FnOnce()>)) {
    let count = paused().block_on(actions()).unwrap().len();
    for n in 0..count {
        let panics = Rc::new(RefCell::new(Vec::new()));
        let reported = panics.clone();
        let hook = move |panic: &postlude::TaskPanic| reported.borrow_mut().push(panic.to_string());
        let runtime = Runtime::builder().paused_clock().on_panic(hook).build().unwrap();
        let (name, action) = runtime.block_on(actions()).unwrap().swap_remove(n);
        let done = Rc::new(Cell::new(false));
        let say = done.clone();
        end(
            runtime,
            Box::new(move || {
                action();
                say.set(true);
            }),
        );
        assert!(done.get(), "{name}: {:?}", panics.borrow());
        assert!(panics.borrow().is_empty(), "{name}: {:?}", panics.borrow());
    }
}

#[test]
fn a_future_that_is_ready_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                let guard = on_drop(action);
                let task = spawn(poll_fn(move |_| {
                    let _held = &guard;
                    Poll::Ready(())
                }));
                task.await.unwrap();
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn a_future_may_do_anything_in_its_drop_while_it_is_polled() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                spawn(async move { drop(on_drop(action)) }).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn an_aborted_future_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                let guard = on_drop(action);
                let task = spawn(async move {
                    let _held = guard;
                    pending::<()>().await;
                });
                yield_now().await;
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn a_future_may_do_anything_in_its_drop_while_the_runtime_ends() {
    each_action(|runtime, action| {
        let guard = on_drop(action);
        drop(runtime.spawn(async move {
            let _held = guard;
            pending::<()>().await;
        }));
        runtime.block_on(yield_now()).unwrap();
        drop(runtime);
    });
}

#[test]
fn an_output_nobody_takes_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                let guard = on_drop(action);
                let task = spawn(async move { guard });
                yield_now().await;
                drop(task);
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn the_output_of_a_detached_task_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                let guard = on_drop(action);
                drop(spawn(async move { guard }));
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn an_output_that_waits_for_its_handle_may_do_anything_in_its_drop_while_the_runtime_ends() {
    each_action(|runtime, action| {
        let guard = on_drop(action);
        let task = runtime.spawn(async move { guard });
        runtime.block_on(yield_now()).unwrap();
        drop(runtime);
        drop(task);
    });
}

#[test]
fn a_future_that_panics_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        runtime
            .block_on(async {
                let guard = on_drop(action);
                let task = spawn(async move {
                    let _held = guard;
                    yield_now().await;
                    std::panic::resume_unwind(Box::new("on purpose"));
                });
                assert!(task.await.unwrap_err().is_panic());
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn the_payload_of_a_panic_may_do_anything_in_its_drop() {
    struct Payload(Option<Action>);
    impl Drop for Payload {
        fn drop(&mut self) {
            (self.0.take().expect("dropped once"))();
        }
    }
    thread_local! {
        // A payload is `Send`, which what it does here is not.
        static ACTION: RefCell<Option<Action>> = const { RefCell::new(None) };
    }
    struct Carrier;
    impl Drop for Carrier {
        fn drop(&mut self) {
            drop(Payload(ACTION.take()));
        }
    }
    each_action(|runtime, action| {
        ACTION.set(Some(action));
        runtime
            .block_on(async {
                let task = spawn(async { std::panic::resume_unwind(Box::new(Carrier)) });
                drop(task.await.unwrap_err());
                sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
    });
}

#[test]
fn the_main_future_may_do_anything_in_its_drop() {
    each_action(|runtime, action| {
        let guard = on_drop(action);
        let main = poll_fn(move |_| {
            let _held = &guard;
            Poll::Ready(())
        });
        runtime.block_on(main).unwrap();
        runtime.block_on(sleep(Duration::from_secs(1))).unwrap();
    });
}

#[test]
fn a_queued_job_may_do_anything_in_its_drop_while_the_runtime_ends() {
    let panics = Rc::new(Cell::new(0));
    let count = panics.clone();
    let runtime =
        Runtime::builder().max_blocking_threads(1).on_panic(move |_| count.set(count.get() + 1)).build().unwrap();
    let (done, spawned) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let (release, gate) = std::sync::mpsc::channel::<()>();
    runtime
        .block_on(async {
            drop(spawn_blocking(move || gate.recv()));
            let guard = on_drop(move || {
                // Even what is spawned this late is dropped where it may spawn.
                let again = on_drop(move || {
                    drop(spawn(async move { drop(spawned.0) }));
                    done.0.send(()).unwrap();
                });
                drop(spawn(async move { drop(again) }));
            });
            drop(spawn_blocking(move || drop(guard)));
        })
        .unwrap();
    drop(runtime);
    drop(release);
    assert_eq!(done.1.try_recv(), Ok(()));
    assert_eq!(spawned.1.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    assert_eq!(panics.get(), 0);
}

#[test]
fn a_message_that_was_not_taken_may_do_anything_in_its_drop_while_the_runtime_ends() {
    let panics = Rc::new(Cell::new(0));
    let count = panics.clone();
    let runtime = Runtime::builder().on_panic(move |_| count.set(count.get() + 1)).build().unwrap();
    let (done, spawned) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let guard = on_drop(move || {
        let again = on_drop(move || {
            drop(spawn(async move { drop(spawned.0) }));
            done.0.send(()).unwrap();
        });
        drop(spawn(async move { drop(again) }));
    });
    drop(runtime.handle().spawn(move || async move { drop(guard) }));
    drop(runtime);
    assert_eq!(done.1.try_recv(), Ok(()));
    assert_eq!(spawned.1.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    assert_eq!(panics.get(), 0);
}

#[test]
fn a_waker_may_do_anything_when_it_is_woken_cloned_or_dropped() {
    use std::sync::Arc;
    use std::task::Wake;
    /// What it does needs no `Send`: it looks for its runtime where it runs.
    struct Busy;
    impl Busy {
        fn act() {
            drop(spawn(async {}));
            drop(Box::pin(sleep(Duration::from_secs(1))));
            let mut late = Box::pin(sleep(Duration::from_secs(1)));
            assert!(late.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }
    impl Wake for Busy {
        fn wake(self: Arc<Self>) {
            Self::act();
        }
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            Self::act();
        }
    }
    let panics = Rc::new(RefCell::new(Vec::new()));
    let reported = panics.clone();
    let hook = move |panic: &postlude::TaskPanic| reported.borrow_mut().push(panic.to_string());
    let runtime = Runtime::builder().paused_clock().on_panic(hook).build().unwrap();
    let stay = runtime.block_on(async {
        let busy = || Waker::from(Arc::new(Busy));
        // Woken, replaced, and dropped while waiting: by a timer, a task, a socket.
        let mut waiting = Box::pin(sleep(Duration::from_secs(5)));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&busy())).is_pending());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&busy())).is_pending());
        let mut dropped = Box::pin(sleep(Duration::from_secs(5)));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(&busy())).is_pending());
        drop(dropped);
        let mut joined = spawn(async { yield_now().await });
        for _ in 0..2 {
            assert!(Pin::new(&mut joined).poll(&mut Context::from_waker(&busy())).is_pending());
        }
        let mut let_go = spawn(pending::<()>());
        assert!(Pin::new(&mut let_go).poll(&mut Context::from_waker(&busy())).is_pending());
        drop(let_go);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 {
            assert!(listener.poll_accept(&mut Context::from_waker(&busy())).is_pending());
        }
        {
            let mut accepting = pin!(listener.accept());
            for _ in 0..2 {
                assert!(accepting.as_mut().poll(&mut Context::from_waker(&busy())).is_pending());
            }
        }
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(listener.accept().await.unwrap());
        drop(peer);
        sleep(Duration::from_secs(60)).await;
        // And some that are left to the end of the runtime.
        let mut left = Box::pin(sleep(Duration::from_secs(500)));
        assert!(left.as_mut().poll(&mut Context::from_waker(&busy())).is_pending());
        assert!(listener.poll_accept(&mut Context::from_waker(&busy())).is_pending());
        let mut task = spawn(pending::<()>());
        assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&busy())).is_pending());
        (left, listener, task)
    });
    drop(runtime);
    drop(stay);
    assert!(panics.borrow().is_empty(), "{panics:?}");
}

#[test]
fn a_future_is_gone_by_the_time_its_handle_resolves() {
    paused()
        .block_on(async {
            for end in ["ready", "panic", "abort", "abort before the first poll"] {
                let count = Count::default();
                let token = count.token();
                let task = spawn(poll_fn(move |_| {
                    let _held = &token;
                    match end {
                        "ready" => Poll::Ready(()),
                        "panic" => std::panic::resume_unwind(Box::new("on purpose")),
                        _ => Poll::Pending,
                    }
                }));
                if end == "abort" {
                    yield_now().await;
                }
                if end.starts_with("abort") {
                    task.abort();
                }
                let result = task.await;
                assert_eq!((result.is_ok(), count.get()), (end == "ready", 1), "{end}");
            }
        })
        .unwrap();
}

#[test]
fn what_a_future_holds_is_dropped_before_its_output_is_seen() {
    paused()
        .block_on(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let (held, out) = (order.clone(), order.clone());
            let held = on_drop(move || held.borrow_mut().push("future"));
            let task = spawn(async move {
                let _held = held;
                on_drop(move || out.borrow_mut().push("output"))
            });
            drop(task.await.unwrap());
            assert_eq!(*order.borrow(), ["future", "output"]);
        })
        .unwrap();
}

#[test]
fn an_output_nobody_wants_is_dropped_once_whenever_the_handle_goes() {
    paused()
        .block_on(async {
            let count = Count::default();
            // Before the first poll, between polls, and after the end.
            for yields in [0, 1, 3] {
                let token = count.token();
                let task = spawn(async move {
                    yield_now().await;
                    token
                });
                for _ in 0..yields {
                    yield_now().await;
                }
                drop(task);
            }
            sleep(Duration::from_secs(1)).await;
            assert_eq!(count.get(), 3);
        })
        .unwrap();
}

#[test]
fn an_output_that_was_taken_belongs_to_whoever_took_it() {
    let count = Count::default();
    let runtime = paused();
    let token = count.token();
    let output = runtime.block_on(async { spawn(async move { token }).await.unwrap() }).unwrap();
    drop(runtime);
    assert_eq!(count.get(), 0);
    drop(output);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_slot_is_free_again_when_its_handle_has_the_output_or_is_dropped() {
    let mut runtime = paused();
    let task = runtime.spawn(async { 1 });
    runtime.turn(NOW).unwrap();
    assert_eq!(runtime.stats().tasks, 1, "the output waits in it");
    assert_eq!(runtime.block_on(task).unwrap().unwrap(), 1);
    assert_eq!(runtime.stats().tasks, 0);
    let task = runtime.spawn(async { 1 });
    runtime.turn(NOW).unwrap();
    drop(task);
    // Between turns a handle's drop is a message.
    runtime.turn(NOW).unwrap();
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_hundred_thousand_tasks_leave_nothing() {
    let runtime = paused();
    let count = Count::default();
    runtime
        .block_on(async {
            for n in 0..1000 {
                let tasks: Vec<_> = (0..100)
                    .map(|_| {
                        let token = count.token();
                        spawn(async move { token })
                    })
                    .collect();
                if n % 2 == 0 {
                    yield_now().await;
                }
                drop(tasks);
                yield_now().await;
            }
            yield_now().await;
            assert_eq!(runtime.stats().tasks, 1, "this one");
        })
        .unwrap();
    assert_eq!((count.get(), runtime.stats().spawned), (100_000, 100_000));
}

#[test]
fn tasks_that_hold_handles_of_their_own_runtime_do_not_keep_it() {
    let runtime = paused();
    let (count, handle) = (Count::default(), runtime.handle());
    let (token, held) = (count.token(), runtime.handle());
    drop(runtime.spawn(async move {
        let _held = (token, held);
        pending::<()>().await;
    }));
    runtime.block_on(yield_now()).unwrap();
    assert!(handle.is_alive());
    drop(runtime);
    assert!(!handle.is_alive());
    assert_eq!(count.get(), 1);
}

#[test]
fn a_socket_that_outlives_its_runtime_gives_errors() {
    let runtime = Runtime::new().unwrap();
    let (listener, stream, mut peer) = runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            // Both are registered by waiting.
            poll_once(&mut Box::pin(stream.read(&mut byte))).await;
            poll_once(&mut Box::pin(listener.accept())).await;
            (listener, stream, peer)
        })
        .unwrap();
    drop(runtime);
    peer.write_all(b"x").unwrap();
    let use_it = async {
        let mut byte = [0];
        let read = stream.read(&mut byte).await;
        let write = stream.write(b"x").await;
        let accepted = listener.accept().await.map(drop);
        [read.map(drop), write.map(drop), accepted, stream.readable().await]
    };
    let expected = "the socket's runtime is gone";
    for result in futures::executor::block_on(use_it) {
        let error = result.expect_err("no runtime serves it");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // In another runtime it is no better, but it can be taken there.
    let other = Runtime::new().unwrap();
    let mut byte = [0];
    let error = other.block_on(stream.read(&mut byte)).unwrap().expect_err("another runtime");
    assert!(error.to_string().contains(expected), "{error}");
    let moved = TcpStream::from_std(stream.into_std().unwrap()).unwrap();
    assert_eq!(other.block_on(moved.read(&mut byte)).unwrap().unwrap(), 1);
}

#[test]
fn a_timer_and_a_handle_that_outlive_their_runtime_can_be_dropped() {
    let runtime = paused();
    let kept = runtime
        .block_on(async {
            let mut sleeping = Box::pin(sleep(Duration::from_secs(9)));
            poll_once(&mut sleeping).await;
            let mut limited = Box::pin(timeout(Duration::from_secs(9), pending::<()>()));
            poll_once(&mut limited).await;
            (sleeping, limited, spawn(async { "output" }), spawn(pending::<()>()))
        })
        .unwrap();
    drop(runtime);
    drop(kept);
}

#[test]
fn whatever_is_done_to_tasks_in_whatever_order_each_future_is_dropped_once() {
    /// A splitmix64 generator.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    for seed in 0..200 {
        let runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let (futures, outputs) = (Count::default(), Count::default());
        let (mut state, spawned, finished) = (seed, Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let left = runtime.block_on(async {
            let mut handles = Vec::new();
            let wakers = Rc::new(RefCell::new(Vec::<Waker>::new()));
            for _ in 0..200 {
                let pick = next(&mut state) as usize;
                match pick % 9 {
                    0..=2 => {
                        let (future, output, wakers) = (futures.token(), outputs.clone(), wakers.clone());
                        let (mut polls, finished) = (pick % 5, finished.clone());
                        spawned.set(spawned.get() + 1);
                        let task = poll_fn(move |cx| {
                            let _held = &future;
                            wakers.borrow_mut().push(cx.waker().clone());
                            if polls > 0 {
                                polls -= 1;
                                return Poll::Pending;
                            }
                            finished.set(finished.get() + 1);
                            Poll::Ready(output.token())
                        });
                        handles.push(if pick % 2 == 0 { spawn(task) } else { defer(task) });
                    }
                    3 if !wakers.borrow().is_empty() => {
                        let at = pick / 9 % wakers.borrow().len();
                        wakers.borrow()[at].wake_by_ref();
                    }
                    4 if !wakers.borrow().is_empty() => {
                        let at = pick / 9 % wakers.borrow().len();
                        let waker = wakers.borrow_mut().swap_remove(at);
                        waker.wake();
                    }
                    5 if !handles.is_empty() => handles[pick / 9 % handles.len()].abort(),
                    6 if !handles.is_empty() => drop(handles.swap_remove(pick / 9 % handles.len())),
                    7 if !handles.is_empty() => {
                        let mut joined = handles.swap_remove(pick / 9 % handles.len());
                        match poll_fn(|cx| Poll::Ready(Pin::new(&mut joined).poll(cx))).await {
                            Poll::Ready(result) => drop(result),
                            Poll::Pending => handles.push(joined),
                        }
                    }
                    8 => yield_now().await,
                    _ => {}
                }
                assert!(futures.get() <= spawned.get() && outputs.get() <= finished.get());
            }
            handles
        });
        let left = left.unwrap();
        drop(runtime);
        assert_eq!((futures.get(), outputs.get()), (spawned.get(), finished.get()), "seed {seed}");
        drop(left);
        assert_eq!((futures.get(), outputs.get()), (spawned.get(), finished.get()), "seed {seed}");
    }
}
