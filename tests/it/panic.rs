//! Panics: whatever of the user's panics, it ends there, somebody hears of it, and the loop and the
//! other tasks go on.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use postlude::net::TcpListener;
use postlude::task::{self, yield_now};
use postlude::time::{interval, sleep};
use postlude::{Builder, PanicPolicy, RemoteHandle, Runtime, defer, spawn, spawn_blocking};

const NOW: Option<Duration> = Some(Duration::ZERO);
const GENEROUS: Duration = Duration::from_secs(10);

/// A panic that says nothing on stderr.
fn quietly(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

struct PanicOnDrop(&'static str);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        quietly(self.0);
    }
}

/// What the hook was told.
#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    fn listen(&self, builder: Builder) -> Builder {
        let reports = self.0.clone();
        builder.on_panic(move |panic| reports.borrow_mut().push(panic.text.clone()))
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

fn paused() -> (Runtime, Reports) {
    let reports = Reports::default();
    let runtime = reports.listen(Runtime::builder().paused_clock()).build().unwrap();
    (runtime, reports)
}

fn text(error: postlude::JoinError) -> &'static str {
    *error.into_panic().expect("a panic").downcast::<&str>().expect("a text")
}

#[test]
fn a_panic_in_a_task_of_any_class_goes_to_its_handle_and_the_loop_goes_on() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let bystander = spawn(async {
                sleep(Duration::from_secs(1)).await;
                "fine"
            });
            for class in [spawn::<Pin<Box<dyn Future<Output = ()>>>>, defer] {
                let error = class(Box::pin(async { quietly("first poll") })).await.unwrap_err();
                assert_eq!((error.is_panic(), error.is_cancelled()), (true, false));
                assert_eq!(error.to_string(), "the task panicked: `first poll`");
                assert_eq!(text(error), "first poll");
                let late = class(Box::pin(async {
                    yield_now().await;
                    quietly("second poll")
                }));
                assert_eq!(text(late.await.unwrap_err()), "second poll");
            }
            assert_eq!(bystander.await.unwrap(), "fine");
        })
        .unwrap();
    assert_eq!(reports.take(), [""; 0]);
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_panics_payload_reaches_the_handle_as_it_is() {
    let (runtime, _) = paused();
    runtime
        .block_on(async {
            let error = spawn(async { panic_any(42_u64) }).await.unwrap_err();
            assert_eq!(error.to_string(), "the task panicked: `a panic without a text`");
            assert_eq!(*error.into_panic().unwrap().downcast::<u64>().unwrap(), 42);
            let error = spawn(async { panic!("{} {}", "two", "words") }).await.unwrap_err();
            assert_eq!(error.to_string(), "the task panicked: `two words`");
            let cancelled = spawn(pending::<()>());
            cancelled.abort();
            assert!(cancelled.await.unwrap_err().into_panic().is_none());
        })
        .unwrap();
}

#[test]
fn a_panic_while_a_future_is_dropped_makes_it_panicked_however_it_ends() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            // Ready, then the drop.
            let guard = PanicOnDrop("drop");
            let ready = poll_fn(move |_| {
                let _held = &guard;
                Poll::Ready(1)
            });
            assert_eq!(text(spawn(ready).await.unwrap_err()), "drop");
            // Aborted.
            let guard = PanicOnDrop("drop");
            let task = spawn(async move {
                let _held = guard;
                pending::<()>().await;
            });
            yield_now().await;
            task.abort();
            assert_eq!(text(task.await.unwrap_err()), "drop");
            // Aborted before the first poll.
            let guard = PanicOnDrop("drop");
            let task = defer(async move { drop(guard) });
            task.abort();
            assert_eq!(text(task.await.unwrap_err()), "drop");
            // Both panic: one of them is heard of.
            let guard = PanicOnDrop("drop");
            let both = poll_fn(move |_| -> Poll<()> {
                let _held = &guard;
                quietly("poll")
            });
            let heard = text(spawn(both).await.unwrap_err());
            assert!(["poll", "drop"].contains(&heard));
        })
        .unwrap();
    assert_eq!(reports.take(), [""; 0]);
}

#[test]
fn an_output_that_panics_when_dropped_is_reported_if_nobody_takes_it() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            drop(spawn(async { PanicOnDrop("detached") }));
            yield_now().await;
            assert_eq!(reports.take(), ["detached"]);
            let task = spawn(async { PanicOnDrop("let go of") });
            yield_now().await;
            assert_eq!(reports.take(), [""; 0]);
            drop(task);
            assert_eq!(reports.take(), ["let go of"]);
            // Whoever takes it has it.
            let taken = spawn(async { PanicOnDrop("taken") }).await.unwrap();
            let payload = catch_unwind(AssertUnwindSafe(|| drop(taken))).unwrap_err();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "taken");
        })
        .unwrap();
    assert_eq!((reports.take(), runtime.stats().panics, runtime.stats().tasks), (vec![], 2, 0));
}

#[test]
fn an_output_that_panics_when_dropped_gives_way_to_the_panic_of_its_future() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let guard = PanicOnDrop("future");
            let task = spawn(poll_fn(move |_| {
                let _held = &guard;
                Poll::Ready(PanicOnDrop("output"))
            }));
            assert_eq!(text(task.await.map(std::mem::forget).unwrap_err()), "future");
        })
        .unwrap();
    assert_eq!(reports.take(), [""; 0]);
}

/// A payload that panics when it is dropped, with a payload that does, and so on.
struct Hydra;

impl Drop for Hydra {
    fn drop(&mut self) {
        resume_unwind(Box::new(Self));
    }
}

#[test]
fn a_payload_that_panics_when_dropped_harms_nobody() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let error = spawn(async { resume_unwind(Box::new(Hydra)) }).await.unwrap_err();
            drop(error);
            let error: std::io::Error = spawn(async { resume_unwind(Box::new(Hydra)) }).await.unwrap_err().into();
            drop(error);
            drop(spawn(async { resume_unwind(Box::new(Hydra)) }));
            yield_now().await;
            let task = spawn(async { resume_unwind(Box::new(Hydra)) });
            yield_now().await;
            drop(task);
            drop(spawn(async { Hydra }));
            yield_now().await;
            drop(spawn(async { resume_unwind(Box::new(Hydra)) }));
        })
        .unwrap();
    drop(runtime);
    assert_eq!(reports.take(), ["a panic without a text"; 3]);
}

#[test]
fn a_payload_that_panics_when_dropped_harms_nobody_at_the_end_either() {
    let (runtime, reports) = paused();
    let kept = runtime
        .block_on(async {
            let kept = spawn(async { resume_unwind(Box::new(Hydra)) });
            let output = spawn(async { PanicOnDrop("output") });
            let future = PanicOnDrop("future");
            drop(spawn(async move {
                let _held = future;
                pending::<()>().await;
            }));
            yield_now().await;
            (kept, output)
        })
        .unwrap();
    let dropped = Rc::new(Cell::new(false));
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let flag = Flag(dropped.clone());
    drop(runtime.spawn(async move { drop(flag) }));
    drop(runtime);
    drop(kept);
    let mut reported = reports.take();
    reported.sort();
    assert_eq!(reported, ["a panic without a text", "future", "output"]);
    assert!(dropped.get(), "the task after those that panicked is dropped as well");
}

#[test]
fn a_panic_nobody_waits_for_is_reported_once_with_name_and_place_though_an_endless_task_runs() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let reports = seen.clone();
    let hook = move |panic: &postlude::TaskPanic| {
        let task = panic.task.clone().expect("it is a task's");
        let line = task.location.expect("it was spawned").line();
        reports.borrow_mut().push((task.id, task.name, line, panic.to_string()));
    };
    let runtime = Runtime::builder().paused_clock().on_panic(hook).build().unwrap();
    let (id, line) = runtime
        .block_on(async {
            drop(spawn(async {
                let mut ticks = interval(Duration::from_millis(1));
                loop {
                    ticks.tick().await;
                }
            }));
            let line = line!() + 1;
            let task = task::Builder::new().name("mail").spawn(async { quietly("no paper") });
            let id = task.id();
            drop(task);
            sleep(Duration::from_secs(1)).await;
            (id, line)
        })
        .unwrap();
    let seen = seen.borrow();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].0, seen[0].1.as_deref(), seen[0].2), (id, Some("mail"), line));
    let text = &seen[0].3;
    assert!(text.contains("mail") && text.contains("no paper") && text.contains(file!()), "{text}");
    assert_eq!(runtime.stats().panics, 1);
}

#[test]
fn a_panic_that_waits_for_its_handle_is_reported_when_the_handle_is_dropped() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let task = spawn(async { quietly("unseen") });
            yield_now().await;
            assert_eq!(reports.take(), [""; 0]);
            drop(task);
            assert_eq!(reports.take(), ["unseen"]);
            let task = spawn(async { quietly("seen") });
            yield_now().await;
            assert!(task.await.is_err());
        })
        .unwrap();
    assert_eq!(reports.take(), [""; 0]);
}

#[test]
fn a_panic_that_a_remote_handle_does_not_hand_out_is_reported_whenever_that_handle_is_dropped() {
    let (runtime, reports) = paused();
    let handle = runtime.handle();
    let spawn = |text| -> RemoteHandle<()> { handle.spawn(move || async move { quietly(text) }) };
    runtime
        .block_on(async {
            drop(spawn("before it ran"));
            let (after, elsewhere, told) = (spawn("after"), spawn("elsewhere"), spawn("told"));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(reports.take(), ["before it ran"]);
            drop(after);
            assert_eq!(reports.take(), ["after"]);
            thread::spawn(move || drop(elsewhere)).join().unwrap();
            assert!(told.await.unwrap_err().is_panic());
            sleep(Duration::from_secs(1)).await;
            assert_eq!(reports.take(), ["elsewhere"]);
        })
        .unwrap();
    runtime
        .block_on(async {
            let _until_the_end = spawn("with the main future");
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!(reports.take(), ["with the main future"]);
    let between = spawn("between two turns");
    runtime.block_on(async { sleep(Duration::from_secs(1)).await }).unwrap();
    drop(between);
    drop(runtime);
    assert_eq!(reports.take(), ["between two turns"]);
}

#[test]
fn an_output_that_panics_when_its_remote_handle_is_dropped_is_reported() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let task = runtime.handle().spawn(|| async { PanicOnDrop("output") });
            sleep(Duration::from_secs(1)).await;
            drop(task);
        })
        .unwrap();
    assert_eq!(reports.take(), ["output"]);
}

#[test]
fn a_panic_dropped_with_its_remote_handle_ends_the_loop_if_the_policy_says_so() {
    let runtime = Runtime::builder().paused_clock().panic_policy(PanicPolicy::ShutdownIfUnobserved).build().unwrap();
    let handle = runtime.handle();
    let ended = runtime.block_on(async {
        let task = handle.spawn(|| async { quietly("oh") });
        sleep(Duration::from_secs(1)).await;
        drop(task);
        sleep(Duration::from_secs(1)).await;
    });
    let text = ended.unwrap_err().to_string();
    assert!(text.contains("`oh`") && text.contains("spawned at tests/it/panic.rs:"), "{text}");
}

#[test]
fn a_hook_may_panic_spawn_and_wake() {
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    let hook = move |_: &postlude::TaskPanic| {
        count.set(count.get() + 1);
        drop(spawn(async {}));
        drop(spawn(pending::<()>()).abort_on_drop());
        quietly("the hook");
    };
    let runtime = Runtime::builder().paused_clock().on_panic(hook).build().unwrap();
    runtime
        .block_on(async {
            drop(spawn(async { quietly("detached") }));
            drop(spawn(async { PanicOnDrop("output") }));
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!((calls.get(), runtime.stats().panics, runtime.stats().tasks), (2, 2, 0));
    let guard = PanicOnDrop("at the end");
    drop(runtime.spawn(async move { drop(guard) }));
    drop(runtime);
    assert_eq!(calls.get(), 3);
}

/// Panics in one of a waker's functions.
#[derive(Default)]
struct Bad {
    in_wake: bool,
    in_drop: bool,
    woken: Arc<AtomicUsize>,
}

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        if self.in_wake {
            quietly("wake");
        }
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        if self.in_drop && !std::thread::panicking() {
            quietly("drop of a waker");
        }
    }
}

#[test]
fn a_waker_that_panics_when_woken_is_reported_and_the_others_are_woken() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let woken = Arc::new(AtomicUsize::new(0));
            let bad = || Waker::from(Arc::new(Bad { in_wake: true, woken: woken.clone(), ..Bad::default() }));
            // A timer's, a task's, a socket's; each beside a good one.
            let deadline = postlude::time::now() + Duration::from_secs(1);
            let mut sleeping = Box::pin(postlude::time::sleep_until(deadline));
            assert!(sleeping.as_mut().poll(&mut Context::from_waker(&bad())).is_pending());
            let good = spawn(postlude::time::sleep_until(deadline));
            let mut joined = spawn(postlude::time::sleep_until(deadline));
            assert!(Pin::new(&mut joined).poll(&mut Context::from_waker(&bad())).is_pending());
            let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
            assert!(listener.poll_accept(&mut Context::from_waker(&bad())).is_pending());
            let also = listener.clone();
            let accepting = spawn(async move { also.accept().await.map(drop) });
            yield_now().await;
            drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            accepting.await.unwrap().unwrap();
            good.await.unwrap();
            sleep(Duration::from_secs(1)).await;
            assert_eq!(woken.load(Ordering::SeqCst), 3);
        })
        .unwrap();
    assert_eq!(reports.take(), ["wake"; 3]);
}

#[test]
fn a_waker_that_panics_when_dropped_harms_nobody() {
    let (runtime, reports) = paused();
    let left = runtime
        .block_on(async {
            let bad = || {
                let bad = Arc::new(Bad { in_wake: false, in_drop: true, woken: Arc::default() });
                (Waker::from(bad.clone()), bad)
            };
            let mut left = Vec::new();
            // The `Arc` in hand goes first, so the one in the runtime is the last.
            let (waker, hand) = bad();
            let mut sleeping = Box::pin(sleep(Duration::from_secs(500)));
            assert!(sleeping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            left.push((waker, hand));
            let (waker, hand) = bad();
            let mut task = spawn(pending::<()>());
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            left.push((waker, hand));
            let (waker, hand) = bad();
            let mut done = spawn(async {});
            assert!(Pin::new(&mut done).poll(&mut Context::from_waker(&waker)).is_pending());
            left.push((waker, hand));
            let (waker, hand) = bad();
            let mut let_go = spawn(pending::<()>());
            assert!(Pin::new(&mut let_go).poll(&mut Context::from_waker(&waker)).is_pending());
            left.push((waker, hand));
            drop(left);
            drop(let_go);
            yield_now().await;
            assert!(done.is_finished());
            spawn(async {}).await.unwrap();
            (sleeping, task)
        })
        .unwrap();
    let before = reports.take();
    drop(runtime);
    drop(left);
    assert_eq!((before.len(), reports.take().len()), (2, 2));
}

#[test]
fn a_panic_of_the_main_future_reaches_the_caller_and_the_runtime_can_go_on() {
    let (runtime, reports) = paused();
    let done = Rc::new(Cell::new(false));
    let say = done.clone();
    let left = runtime.spawn(async move {
        sleep(Duration::from_secs(1)).await;
        say.set(true);
    });
    for late in [false, true] {
        let main = async {
            if late {
                yield_now().await;
            }
            quietly("main");
        };
        let payload = catch_unwind(AssertUnwindSafe(|| runtime.block_on(main))).unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "main");
        assert!(task::current().is_none());
        assert!(task::has_budget());
    }
    runtime.block_on(left).unwrap().unwrap();
    assert!(done.get());
    assert_eq!((reports.take(), runtime.stats().tasks), (vec![], 0));
    // And another runtime can be entered: this one is no longer current.
    assert_eq!(postlude::run(async { 5 }).unwrap(), 5);
}

#[test]
fn a_main_future_that_panics_when_dropped_leaves_the_runtime_as_it_should_be() {
    let (runtime, _) = paused();
    let guard = PanicOnDrop("drop");
    let main = poll_fn(move |_| {
        let _held = &guard;
        Poll::Ready(())
    });
    assert!(catch_unwind(AssertUnwindSafe(|| runtime.block_on(main))).is_err());
    assert!(task::current().is_none());
    assert_eq!(runtime.block_on(async { spawn(async { 5 }).await.unwrap() }).unwrap(), 5);
    assert_eq!(runtime.stats().tasks, 0);
}

#[test]
fn a_turn_lets_no_panic_out() {
    let (mut runtime, reports) = paused();
    drop(runtime.spawn(async { quietly("first") }));
    let task = runtime.spawn(async { quietly("second") });
    drop(runtime.defer(async { quietly("third") }));
    assert_eq!(runtime.turn(NOW).unwrap().polls, 3);
    assert_eq!(reports.take(), ["first", "third"]);
    assert_eq!(text(runtime.block_on(task).unwrap().unwrap_err()), "second");
}

#[test]
fn a_task_that_panics_frees_what_it_held_and_its_place() {
    let (runtime, reports) = paused();
    let token = Rc::new(());
    runtime
        .block_on(async {
            for _ in 0..1000 {
                let held = token.clone();
                let task = spawn(async move {
                    let _held = held;
                    quietly("on purpose");
                });
                assert!(task.await.is_err());
            }
        })
        .unwrap();
    assert_eq!((Rc::strong_count(&token), runtime.stats().tasks, reports.take()), (1, 0, vec![]));
}

#[test]
fn what_a_remote_spawn_panics_with_reaches_its_handle() {
    let reports = Reports::default();
    let runtime = reports.listen(Runtime::builder()).build().unwrap();
    let handle = runtime.handle();
    let remote = std::thread::spawn(move || {
        let mut errors = Vec::new();
        let mut first = handle.spawn(|| async { quietly("poll") });
        errors.push(text(first.wait(GENEROUS).unwrap().unwrap_err()));
        let mut make = handle.spawn(|| -> std::future::Ready<()> { quietly("make") });
        errors.push(text(make.wait(GENEROUS).unwrap().unwrap_err()));
        let mut guarded = handle.spawn(|| {
            let guard = PanicOnDrop("drop");
            poll_fn(move |_| {
                let _held = &guard;
                Poll::Ready(())
            })
        });
        errors.push(text(guarded.wait(GENEROUS).unwrap().unwrap_err()));
        // Nobody is there for this one; it harms nobody either.
        drop(handle.spawn(|| async { quietly("let go of") }));
        let mut last = handle.spawn(|| async { 7 });
        (errors, last.wait(GENEROUS).unwrap().unwrap())
    });
    runtime
        .block_on(async {
            while !remote.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
    assert_eq!(remote.join().unwrap(), (vec!["poll", "make", "drop"], 7));
}

#[test]
fn a_blocking_job_that_panics_goes_to_its_handle_or_is_reported() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let error = spawn_blocking(|| quietly("job")).await.unwrap_err();
            assert_eq!(text(error), "job");
            let task = spawn_blocking(|| quietly("let go of"));
            drop(task);
            assert_eq!(spawn_blocking(|| 5).await.unwrap(), 5);
            sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
    assert_eq!(reports.take(), ["let go of"]);
}

#[test]
fn a_panic_in_one_runtime_leaves_another_on_the_same_thread_alone() {
    let (runtime, reports) = paused();
    runtime
        .block_on(async {
            let task = spawn(async {
                let (other, _) = paused();
                let guard = PanicOnDrop("other");
                drop(other.spawn(async move { drop(guard) }));
                drop(other);
                sleep(Duration::from_secs(1)).await;
                task::current().map(|task| task.id)
            });
            let id = task.id();
            assert_eq!(task.await.unwrap(), Some(id));
        })
        .unwrap();
    assert_eq!(reports.take(), [""; 0]);
}

#[test]
fn the_policy_says_what_follows_an_unobserved_panic_though_timers_go_on_for_ever() {
    for policy in [PanicPolicy::Ignore, PanicPolicy::Report, PanicPolicy::ShutdownIfUnobserved] {
        let reports = Reports::default();
        let builder = reports.listen(Runtime::builder().paused_clock().panic_policy(policy));
        let runtime = builder.build().unwrap();
        let ticks = endless_ticks(&runtime);
        let ended = runtime.block_on(async {
            sleep(Duration::from_secs(9)).await;
            drop(task::Builder::new().name("culprit").spawn(async { quietly("unobserved") }));
            sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(runtime.stats().panics, 1);
        match policy {
            PanicPolicy::Ignore => assert!(reports.take().is_empty()),
            _ => assert_eq!(reports.take(), ["unobserved"]),
        }
        match policy {
            PanicPolicy::Ignore | PanicPolicy::Report => {
                ended.unwrap();
                assert_eq!(ticks.get(), 69);
            }
            _ => {
                let text = ended.unwrap_err().to_string();
                assert!(text.contains("`culprit`") && text.contains("`unobserved`"), "{text}");
                assert_eq!(ticks.get(), 10, "it ended at once: at 0, 1, … 9 s");
            }
        }
        runtime.block_on(yield_now()).unwrap();
    }
}

/// Counts seconds.
fn endless_ticks(runtime: &Runtime) -> Rc<Cell<u32>> {
    let count = Rc::new(Cell::new(0));
    let ticked = count.clone();
    drop(runtime.spawn(async move {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            ticked.set(ticked.get() + 1);
        }
    }));
    count
}

// J8
#[test]
fn no_policy_ends_the_loop_for_a_panic_that_is_handed_out() {
    type Ways = [(&'static str, fn(&Runtime) -> Pin<Box<dyn Future<Output = bool>>>); 6];
    let ways: Ways = [
        ("task", |_| Box::pin(async { spawn(async { quietly("observed") }).await.unwrap_err().is_panic() })),
        ("deferred", |_| Box::pin(async { defer(async { quietly("observed") }).await.unwrap_err().is_panic() })),
        ("blocking job", |_| Box::pin(async { spawn_blocking(|| quietly("observed")).await.unwrap_err().is_panic() })),
        ("remote task", |runtime| {
            let handle = runtime.handle();
            Box::pin(async move { handle.spawn(|| async { quietly("observed") }).await.unwrap_err().is_panic() })
        }),
        ("aborted task", |_| {
            Box::pin(async {
                let task = spawn(async {
                    let _loud = PanicOnDrop("observed");
                    pending::<()>().await;
                });
                yield_now().await;
                task.abort();
                task.await.unwrap_err().is_panic()
            })
        }),
        ("child of a scope", |_| {
            Box::pin(async {
                let scope = task::scope::<(), (), _>(async |s| {
                    s.spawn(async { quietly("observed") });
                    pending().await
                });
                scope.await.unwrap_err().first.into_panic().is_some()
            })
        }),
    ];
    for (name, way) in ways {
        for policy in [PanicPolicy::Report, PanicPolicy::ShutdownIfUnobserved] {
            let reports = Reports::default();
            let builder = reports.listen(Runtime::builder().paused_clock().panic_policy(policy));
            let runtime = builder.build().unwrap();
            let ticks = endless_ticks(&runtime);
            let heard = runtime.spawn(way(&runtime));
            let ended = runtime.block_on(async {
                sleep(Duration::from_secs(60)).await;
                heard.await.unwrap()
            });
            assert_eq!((reports.take().len(), runtime.stats().panics), (0, 0), "{name}");
            assert!(ended.unwrap(), "{name}");
            assert_eq!(ticks.get(), 60, "{name}");
        }
    }
}
