//! Hooks: each event is told once, in order, and whatever a hook does, the loop goes on as it would
//! have.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use postlude::net::UdpSocket;
use postlude::task::{self, Current, scope, yield_now};
use postlude::time::{now, sleep, timeout};
use postlude::{Handle, Hooks, JoinHandle, RemoteHandle, Runtime, TaskEnd, TaskId, defer, spawn, spawn_blocking};

const PATIENCE: Duration = Duration::from_secs(20);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Hooks as one closure.
struct All<F>(F);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Spawned(u64),
    Woken(u64),
    Begins(u64),
    Ends(u64),
    Parks,
}

impl<F: Fn(Event)> Hooks for All<F> {
    fn spawned(&self, task: &Current) {
        assert_eq!(task.location.unwrap().file(), file!());
        (self.0)(Event::Spawned(task.id.get()));
    }

    fn woken(&self, task: TaskId) {
        (self.0)(Event::Woken(task.get()));
    }

    fn poll_begins(&self, task: TaskId) {
        (self.0)(Event::Begins(task.get()));
    }

    fn poll_ends(&self, task: TaskId) {
        (self.0)(Event::Ends(task.get()));
    }

    fn parks(&self) {
        (self.0)(Event::Parks);
    }
}

fn traced() -> (Runtime, Rc<RefCell<Vec<Event>>>) {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let events = trace.clone();
    let hooks = All(move |event| events.borrow_mut().push(event));
    (Runtime::builder().paused_clock().hooks(hooks).build().unwrap(), trace)
}

/// A future that leaves its waker in a cell and never ends.
fn parked(waker: &Rc<RefCell<Option<Waker>>>) -> impl Future<Output = ()> + use<> {
    let waker = waker.clone();
    poll_fn(move |cx| {
        *waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    })
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow().clone();
    waker.into_iter().for_each(Waker::wake);
}

#[test]
fn every_event_of_a_small_program_is_told_in_order() {
    use Event::{Begins, Ends, Parks, Spawned, Woken};
    let (runtime, trace) = traced();
    runtime
        .block_on(async {
            let task = spawn(async { yield_now().await });
            let later = defer(async {});
            task.await.unwrap();
            later.await.unwrap();
            sleep(ms(1)).await;
        })
        .unwrap();
    let expected = [
        Begins(1), // `block_on`'s future
        Spawned(2),
        Spawned(3),
        Ends(1),
        Begins(2),
        Woken(2), // by itself, for the next turn
        Ends(2),
        Begins(3), // the deferred one
        Ends(3),
        Begins(2),
        Ends(2),
        Woken(1), // the task has ended
        Begins(1),
        Ends(1),
        Parks, // the clock jumps
        Woken(1),
        Begins(1),
        Ends(1),
    ];
    assert_eq!(*trace.borrow(), expected);
}

#[test]
fn a_scopes_children_are_told_of_within_the_poll_of_its_owner_and_their_polls_are_counted() {
    use Event::{Begins, Ends, Spawned, Woken};
    let (runtime, trace) = traced();
    runtime
        .block_on(async {
            let two = scope::<_, (), _>(async |s| {
                s.spawn(yield_now());
                Ok(())
            });
            two.await.unwrap();
        })
        .unwrap();
    let child = 3; // the body's slot has a number as well
    let expected = [
        Begins(1),
        Spawned(child),
        Begins(child),
        Woken(child),
        Ends(child),
        Woken(1),
        Ends(1),
        Begins(1),
        Begins(child),
        Ends(child),
        Ends(1),
    ];
    assert_eq!(*trace.borrow(), expected);
    assert_eq!(runtime.stats().polls, 4);
    assert_eq!(runtime.stats().spawned, 1);
}

#[test]
fn a_wake_by_another_thread_is_told_on_the_loops_own() {
    let (runtime, trace) = traced();
    let waker = Rc::default();
    let task = runtime.spawn(parked(&waker));
    runtime
        .block_on(async {
            yield_now().await;
            let held = waker.borrow().clone().unwrap();
            trace.borrow_mut().clear();
            thread::spawn(move || held.wake()).join().unwrap();
            assert!(!trace.borrow().contains(&Event::Woken(1)));
            yield_now().await;
            assert!(trace.borrow().contains(&Event::Woken(1)), "{trace:?}");
        })
        .unwrap();
    drop(task);
}

// W1
#[test]
fn a_task_woken_at_every_park_keeps_the_loop_from_neither_timers_nor_sockets() {
    let waker = Rc::new(RefCell::new(None));
    let woken = waker.clone();
    let parks = Rc::new(Cell::new(0_u64));
    let counted = parks.clone();
    let hooks = All(move |event| {
        if event == Event::Parks {
            counted.set(counted.get() + 1);
            wake(&woken);
        }
    });
    let runtime = Runtime::builder().hooks(hooks).build().unwrap();
    drop(runtime.spawn(parked(&waker)));
    runtime
        .block_on(async {
            timeout(PATIENCE, sleep(ms(10))).await.unwrap();
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = receiver.local_addr().unwrap();
            let sender = thread::spawn(move || {
                thread::sleep(ms(10));
                std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"datagram", address).unwrap();
            });
            let mut buffer = [0; 16];
            let (length, _) = timeout(PATIENCE, receiver.recv_from(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(&buffer[..length], b"datagram");
            sender.join().unwrap();
        })
        .unwrap();
    assert!(parks.get() > 2);
    assert!(runtime.stats().parks >= parks.get(), "the system was asked each time");
}

// W2
#[test]
fn what_a_hook_makes_ready_as_the_loop_parks_runs_before_it_sleeps() {
    // In virtual time: the clock must not have jumped.
    let (waker, times) = (Rc::new(RefCell::new(None::<Waker>)), Rc::new(RefCell::new(Vec::new())));
    let (woken, seen) = (waker.clone(), times.clone());
    let parks = Cell::new(0);
    let hooks = All(move |event| {
        if event == Event::Parks {
            parks.set(parks.get() + 1);
            match parks.get() {
                1 => wake(&woken),
                2 => {
                    let seen = seen.clone();
                    drop(spawn(async move { seen.borrow_mut().push(now()) }));
                }
                _ => {}
            }
        }
    });
    let runtime = Runtime::builder().paused_clock().hooks(hooks).build().unwrap();
    let (noted, stored) = (times.clone(), waker.clone());
    drop(runtime.spawn(poll_fn(move |cx| {
        *stored.borrow_mut() = Some(cx.waker().clone());
        noted.borrow_mut().push(now());
        Poll::<()>::Pending
    })));
    let began = runtime.block_on(async {
        let began = now();
        sleep(Duration::from_secs(3600)).await;
        began
    });
    assert_eq!(*times.borrow(), [began.unwrap(); 3]);

    // In real time: the turn must not have slept.
    let spawned = Rc::new(Cell::new(false));
    let once = spawned.clone();
    let hooks = All(move |event| {
        if event == Event::Parks && !once.replace(true) {
            drop(spawn(async {}));
        }
    });
    let mut runtime = Runtime::builder().hooks(hooks).build().unwrap();
    let began = Instant::now();
    let turn = runtime.turn(Some(PATIENCE)).unwrap();
    assert!(spawned.get() && turn.has_more);
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_hook_that_panics_is_reported_and_the_loop_goes_on() {
    let reports = Rc::new(Cell::new(0));
    let reported = reports.clone();
    let runtime = Runtime::builder()
        .paused_clock()
        .hooks(All(|_| resume_unwind(Box::new("a hook"))))
        .on_panic(move |panic| {
            assert!(panic.task.is_none());
            assert!(panic.to_string().contains("a hook"), "{panic}");
            reported.set(reported.get() + 1);
        })
        .build()
        .unwrap();
    let output = runtime.block_on(async {
        let task = spawn(async {
            yield_now().await;
            5
        });
        sleep(ms(1)).await;
        scope::<_, (), _>(async |s| Ok(s.spawn(async { 1 }).await.unwrap())).await.unwrap() + task.await.unwrap()
    });
    assert_eq!(output.unwrap(), 6);
    assert!(reports.get() > 10);
}

#[test]
fn a_hook_may_do_whatever_a_task_may() {
    for kind in 0..5 {
        let (waker, victims) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(Vec::<JoinHandle<()>>::new())));
        let (woken, aborted) = (waker.clone(), victims.clone());
        let (events, inside) = (Rc::new(Cell::new(0)), Cell::new(false));
        let counted = events.clone();
        let act = move |event: Event| {
            let chosen = match event {
                Event::Spawned(_) => 0,
                Event::Woken(_) => 1,
                Event::Begins(_) => 2,
                Event::Ends(_) => 3,
                Event::Parks => 4,
            };
            if chosen != kind || counted.get() > 200 || inside.replace(true) {
                return;
            }
            counted.set(counted.get() + 1);
            wake(&woken);
            drop(spawn(yield_now()));
            drop(defer(async { drop(spawn(async {})) }));
            let victim = aborted.borrow_mut().pop();
            victim.iter().for_each(JoinHandle::abort);
            drop(victim);
            let nested = postlude::run(async {}).unwrap_err();
            assert!(nested.to_string().contains("inside a runtime"), "{nested}");
            assert!(postlude::task::Local::<u32>::new().get().is_none());
            inside.set(false);
        };
        let runtime = Runtime::builder().hooks(All(act)).build().unwrap();
        runtime
            .block_on(async {
                drop(spawn(parked(&waker)));
                let spawned: Vec<_> = (0..50).map(|_| spawn(pending())).collect();
                *victims.borrow_mut() = spawned;
                for n in 0..20 {
                    timeout(PATIENCE, sleep(ms(n % 3))).await.unwrap();
                    wake(&waker);
                    spawn(yield_now()).await.unwrap();
                    scope::<_, (), _>(async |s| {
                        s.spawn(yield_now());
                        Ok(())
                    })
                    .await
                    .unwrap();
                }
            })
            .unwrap();
        assert!(events.get() > 0, "kind {kind}");
        assert_eq!(runtime.stats().panics, 0, "kind {kind}: the hook itself has failed");
        // Its end is not told: there is nobody to run what a hook would spawn.
        let before = events.get();
        drop(runtime);
        assert_eq!(events.get(), before);
    }
}

#[test]
fn an_abort_is_told_as_a_wake_and_a_scopes_body_as_its_owner() {
    let (runtime, trace) = traced();
    let told = |of: &Event| matches!(of, Event::Woken(_));
    let woken = || trace.take().into_iter().filter(told).collect::<Vec<_>>();
    runtime
        .block_on(async {
            let task = spawn(pending::<()>());
            yield_now().await;
            trace.take();
            task.abort();
            assert_eq!((task.id().get(), woken()), (2, vec![Event::Woken(2)]));
            assert!(task.await.is_err());
            trace.take();
            let slept: Result<(), postlude::task::ScopeError<()>> = scope(async |_| {
                sleep(ms(1)).await;
                Ok(())
            })
            .await;
            assert!(slept.is_ok());
            assert_eq!(woken(), [Event::Woken(1)]);
        })
        .unwrap();
}

/// How each task ended, by its number.
#[derive(Clone, Default)]
struct Ends {
    spawned: Rc<RefCell<Vec<TaskId>>>,
    ended: Rc<RefCell<Vec<(TaskId, TaskEnd)>>>,
}

impl Hooks for Ends {
    fn spawned(&self, task: &Current) {
        self.spawned.borrow_mut().push(task.id);
    }

    fn ended(&self, task: TaskId, how: TaskEnd) {
        self.ended.borrow_mut().push((task, how));
    }
}

#[test]
fn of_every_task_that_was_spawned_it_is_told_once_that_and_how_it_ended() {
    let ends = Ends::default();
    let runtime = Runtime::builder().hooks(ends.clone()).on_panic(|_| ()).build().unwrap();
    runtime
        .block_on(async {
            for n in 0..1000 {
                match n % 5 {
                    0 => drop(spawn(async {})),
                    1 => drop(defer(async { std::panic::resume_unwind(Box::new("on purpose")) })),
                    2 => spawn(std::future::pending::<()>()).abort(),
                    3 => assert!(spawn(yield_now()).await.is_ok()),
                    _ => drop(spawn(std::future::pending::<()>())),
                }
            }
            let scope = task::scope(async |scope| {
                scope.spawn(async {}).await.unwrap();
                drop(scope.spawn(std::future::pending::<()>()));
                yield_now().await;
                Err::<(), _>("enough")
            });
            assert!(scope.await.is_err());
            for _ in 0..50 {
                yield_now().await;
            }
        })
        .unwrap();
    drop(runtime);
    let (mut spawned, mut ended) = (ends.spawned.take(), ends.ended.take());
    let count = |wanted: TaskEnd| ended.iter().filter(|(_, how)| *how == wanted).count();
    // The future of `block_on` returned, and was not spawned.
    assert_eq!(count(TaskEnd::Returned), 200 + 200 + 1 + 1);
    assert_eq!(count(TaskEnd::Panicked), 200);
    assert_eq!(count(TaskEnd::Aborted), 200 + 200 + 1);
    spawned.push(ended.iter().map(|(task, _)| *task).min().unwrap());
    spawned.sort();
    ended.sort_by_key(|(task, _)| *task);
    assert_eq!(spawned, ended.into_iter().map(|(task, _)| task).collect::<Vec<_>>());
}

#[test]
fn a_blocking_job_that_its_runtime_does_not_wait_for_has_ended_for_the_hooks() {
    let ends = Ends::default();
    let runtime = Runtime::builder().hooks(ends.clone()).build().unwrap();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let job = async move {
        drop(spawn_blocking(move || {
            let _ = gate.recv();
        }));
        yield_now().await;
    };
    runtime.block_on(job).unwrap();
    drop(runtime);
    let spawned = ends.spawned.take();
    assert_eq!(spawned.len(), 1);
    assert!(ends.ended.borrow().contains(&(spawned[0], TaskEnd::Aborted)));
    drop(release);
}

/// How each task of a program ended, in the order they were spawned, behind how the future of
/// `block_on` did.
fn told(program: impl Future<Output = ()>) -> (Option<TaskEnd>, Vec<TaskEnd>) {
    let ends = Ends::default();
    let runtime = Runtime::builder().hooks(ends.clone()).on_panic(|_| ()).build().unwrap();
    let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(program)));
    drop(runtime);
    let mut ended = ends.ended.take();
    let end_of = |task: TaskId| {
        let at = ended.iter().position(|(ended, _)| *ended == task).expect("told of the end");
        ended.remove(at).1
    };
    let spawned = ends.spawned.take().into_iter().map(end_of).collect();
    assert!(ended.len() <= 1, "{ended:?} were told twice, or of nothing spawned");
    (ended.pop().map(|(_, how)| how), spawned)
}

/// Panics as it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("in a drop"));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Returns,
    Panics,
    PanicsInDrop,
    Aborted,
    PanicsInDropAborted,
}

impl Fate {
    const ALL: [Self; 5] = [Self::Returns, Self::Panics, Self::PanicsInDrop, Self::Aborted, Self::PanicsInDropAborted];

    /// A future that meets it; its poll takes two turns.
    fn future(self) -> Pin<Box<dyn Future<Output = ()>>> {
        let holding = |ready: bool| {
            let (bomb, mut polls) = (Bomb, 0);
            poll_fn(move |cx| {
                let _held = &bomb;
                polls += 1;
                if polls == 1 {
                    cx.waker().wake_by_ref();
                }
                if polls > 1 && ready { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        match self {
            Self::Returns => Box::pin(yield_now()),
            Self::Panics => Box::pin(async {
                yield_now().await;
                resume_unwind(Box::new("in a poll"));
            }),
            Self::PanicsInDrop => Box::pin(holding(true)),
            Self::Aborted => Box::pin(pending()),
            Self::PanicsInDropAborted => Box::pin(holding(false)),
        }
    }

    fn is_aborted(self) -> bool {
        matches!(self, Self::Aborted | Self::PanicsInDropAborted)
    }

    fn told(self) -> TaskEnd {
        match self {
            Self::Returns => TaskEnd::Returned,
            Self::Aborted => TaskEnd::Aborted,
            Self::Panics | Self::PanicsInDrop | Self::PanicsInDropAborted => TaskEnd::Panicked,
        }
    }
}

async fn some_turns() {
    for _ in 0..8 {
        yield_now().await;
    }
}

/// Aborts the task, if that is its fate, and lets it come to its end.
async fn meet(fate: Fate, abort: impl Fn()) {
    yield_now().await;
    yield_now().await;
    if fate.is_aborted() {
        abort();
    }
    some_turns().await;
}

#[test]
fn a_task_is_told_as_panicked_or_aborted_however_it_was_spawned_and_whoever_hears_of_it() {
    for fate in Fate::ALL {
        let local = task::Local::new();
        let (_, ends) = told(async {
            for kept in [true, false] {
                let mut tasks = vec![spawn(fate.future()), defer(fate.future())];
                tasks.push(task::Builder::new().spawn(fate.future()));
                local.scope(1, async { tasks.push(spawn(fate.future())) }).await;
                for task in tasks {
                    let own = if fate.is_aborted() || kept { Some(task) } else { None };
                    meet(fate, || own.iter().for_each(JoinHandle::abort)).await;
                    drop(own);
                }
                let mut set = task::JoinSet::new();
                set.spawn(fate.future());
                set.spawn_named("named", fate.future());
                meet(fate, || set.abort_all()).await;
                let handle = Handle::current();
                for remote in [handle.spawn(move || fate.future()), handle.defer(move || fate.future())] {
                    let own = if fate.is_aborted() || kept { Some(remote) } else { None };
                    meet(fate, || own.iter().for_each(RemoteHandle::abort)).await;
                    drop(own);
                }
            }
        });
        assert_eq!(ends, vec![fate.told(); 16], "{fate:?}");
    }
}

#[test]
fn a_remote_task_whose_closure_panics_is_told_as_panicked_and_an_unmade_one_as_aborted() {
    let (_, ends) = told(async {
        let handle = Handle::current();
        let never_made = || -> std::future::Ready<()> { resume_unwind(Box::new("in the closure")) };
        assert!(handle.spawn(never_made).await.unwrap_err().is_panic());
        drop(handle.spawn(never_made));
        some_turns().await;
        let unmade = handle.spawn(yield_now);
        unmade.abort();
        assert!(unmade.await.unwrap_err().is_cancelled());
        let bomb = Bomb;
        let unmade = handle.spawn(move || {
            let _held = &bomb;
            yield_now()
        });
        unmade.abort();
        assert!(unmade.await.unwrap_err().is_cancelled());
    });
    assert_eq!(ends, [TaskEnd::Panicked, TaskEnd::Panicked, TaskEnd::Aborted, TaskEnd::Panicked]);
}

#[test]
fn a_remote_tasks_panic_goes_to_its_handle_or_is_reported_by_name_and_never_both() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let reported = reports.clone();
    let runtime =
        Runtime::builder().on_panic(move |panic| reported.borrow_mut().push(panic.to_string())).build().unwrap();
    runtime
        .block_on(async {
            let handle = Handle::current();
            let fails = |text: &'static str| handle.spawn(move || async move { resume_unwind(Box::new(text)) });
            let heard: Result<(), _> = fails("heard").await;
            assert!(heard.unwrap_err().to_string().contains("heard"));
            assert!(reports.borrow().is_empty());
            drop::<RemoteHandle<()>>(fails("unheard"));
            some_turns().await;
            let late: RemoteHandle<()> = fails("late");
            some_turns().await;
            assert_eq!(reports.borrow().len(), 1, "{reports:?}");
            drop(late);
            let aborted = handle.spawn(|| Fate::PanicsInDropAborted.future());
            some_turns().await;
            aborted.abort();
            assert!(aborted.await.unwrap_err().is_cancelled());
        })
        .unwrap();
    let reports = reports.take();
    assert_eq!(reports.len(), 3, "{reports:?}");
    for (report, text) in reports.iter().zip(["unheard", "late", "in a drop"]) {
        assert!(report.starts_with("task ") && report.contains("hooks.rs") && report.contains(text), "{reports:?}");
    }
    assert_eq!(runtime.stats().panics, 3);
}

#[test]
fn a_scopes_child_is_told_as_panicked_or_aborted_by_itself_and_with_its_scope() {
    for fate in Fate::ALL {
        let (root, ends) = told(async {
            let alone = scope::<_, (), _>(async |s| {
                let child = s.spawn(fate.future());
                meet(fate, || child.abort()).await;
                Ok(())
            });
            assert_eq!(alone.await.is_err(), fate.told() == TaskEnd::Panicked);
        });
        assert_eq!((root, ends), (Some(TaskEnd::Returned), vec![fate.told()]), "{fate:?}");
    }
    let (_, ends) = told(async {
        let failed = scope(async |s| {
            s.spawn(Fate::Aborted.future());
            s.spawn(Fate::PanicsInDropAborted.future());
            yield_now().await;
            Err::<(), _>("enough")
        });
        assert!(failed.await.is_err());
    });
    assert_eq!(ends, [TaskEnd::Aborted, TaskEnd::Panicked]);
}

#[test]
fn the_children_of_a_scope_dropped_between_turns_are_told_of_in_the_next_or_as_the_runtime_ends() {
    for has_next in [true, false] {
        let ends = Ends::default();
        let runtime = Runtime::builder().hooks(ends.clone()).on_panic(|_| ()).build().unwrap();
        let mut opened = Box::pin(scope::<(), (), _>(async |s| {
            s.spawn(Fate::Aborted.future());
            s.spawn(Fate::PanicsInDropAborted.future());
            pending().await
        }));
        runtime
            .block_on(poll_fn(|cx| {
                assert!(opened.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            }))
            .unwrap();
        drop(opened);
        if has_next {
            runtime.block_on(some_turns()).unwrap();
        }
        drop(runtime);
        let (spawned, ended) = (ends.spawned.take(), ends.ended.take());
        assert_eq!(spawned.len(), 2);
        for (task, how) in spawned.into_iter().zip([TaskEnd::Aborted, TaskEnd::Panicked]) {
            let told: Vec<_> = ended.iter().filter(|(ended, _)| *ended == task).collect();
            assert_eq!(told, [&(task, how)], "with a turn to come: {has_next}");
        }
    }
}

#[test]
fn a_blocking_job_is_told_as_panicked_or_aborted() {
    let (_, ends) = told(async {
        spawn_blocking(|| ()).await.unwrap();
        let panics = || -> () { resume_unwind(Box::new("on a thread")) };
        assert!(spawn_blocking(panics).await.unwrap_err().is_panic());
        let pool = postlude::blocking::Pool::new(1);
        drop(pool.spawn(panics));
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let holds = pool.spawn(move || gate.recv().is_ok());
        let queued = pool.spawn(|| ());
        queued.abort();
        assert!(queued.await.unwrap_err().is_cancelled());
        drop(release);
        assert!(!holds.await.unwrap());
    });
    use TaskEnd::{Aborted, Panicked, Returned};
    assert_eq!(ends, [Returned, Panicked, Panicked, Returned, Aborted]);
}

#[test]
fn the_future_of_block_on_is_told_as_panicked_also_if_its_drop_panics() {
    for fate in [Fate::Returns, Fate::Panics, Fate::PanicsInDrop] {
        assert_eq!(told(fate.future()).0, Some(fate.told()), "{fate:?}");
    }
    // One panic in its poll and another one in its drop: the first goes on, and the process lives.
    let bomb = Bomb;
    let twice = poll_fn(move |_| -> Poll<()> {
        let _held = &bomb;
        resume_unwind(Box::new("first"))
    });
    assert_eq!(told(twice).0, Some(TaskEnd::Panicked));
}
