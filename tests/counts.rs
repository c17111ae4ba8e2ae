//! What the runtime asks of the allocator, counted by an allocator that counts, on the thread that
//! asks.

#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use postlude::sync::mpsc;
use postlude::task::{join, race, try_join, yield_now};
use postlude::time::{sleep, timeout};
use postlude::{Runtime, defer, spawn};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    // Plain integers without a destructor: reading them allocates nothing, at any time of a
    // thread's life.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static REQUESTED: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    REQUESTED.set(REQUESTED.get() + bytes);
}

// SAFETY: every method hands its arguments to `System` unchanged and returns what that returns;
// counting touches no allocation, does not allocate and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promises about `layout` are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller got `pointer` from us with this `layout`, so we got it from `System`
        // with the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`; the caller's promises about `size` are those `System` asks for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// This thread's allocations so far.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes this thread has requested and not given back.
fn requested() -> i64 {
    REQUESTED.get()
}

/// How many allocations a future makes from its first poll to its last.
async fn allocations_of<T>(future: impl Future<Output = T>) -> (u64, T) {
    let before = allocations();
    let value = future.await;
    (allocations() - before, value)
}

/// A future of 88 bytes that never ends.
struct Parked([u64; 11]);

impl Future for Parked {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        assert_eq!(self.0[0], 7);
        Poll::Pending
    }
}

#[test]
fn a_spawn_allocates_once_and_so_does_one_whose_output_is_awaited() {
    Runtime::new()
        .unwrap()
        .block_on(async {
            async fn spawn_and_await() {
                spawn(async { 7 }).await.unwrap();
                defer(async { 7 }).await.unwrap();
            }
            spawn_and_await().await;
            let (count, ()) = allocations_of(async {
                for _ in 0..1000 {
                    spawn_and_await().await;
                }
            })
            .await;
            assert_eq!(count, 2000);
        })
        .unwrap();
}

#[test]
fn a_detached_spawn_allocates_once() {
    Runtime::new()
        .unwrap()
        .block_on(async {
            async fn spawn_many() {
                for _ in 0..1000 {
                    drop(spawn(async {}));
                }
                for _ in 0..100 {
                    yield_now().await;
                }
            }
            spawn_many().await;
            let (count, ()) = allocations_of(spawn_many()).await;
            assert_eq!(count, 1000);
        })
        .unwrap();
}

#[test]
fn neither_a_poll_nor_a_yield_allocates() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            yield_now().await;
            let polls = runtime.stats().polls;
            let other = spawn(async {
                for _ in 0..10_000 {
                    yield_now().await;
                }
            });
            let (count, ()) = allocations_of(async {
                for _ in 0..10_000 {
                    yield_now().await;
                }
            })
            .await;
            assert_eq!(count, 0);
            assert!(runtime.stats().polls - polls >= 20_000);
            other.await.unwrap();
        })
        .unwrap();
}

#[test]
fn neither_a_wake_nor_a_clone_nor_a_drop_of_a_waker_allocates() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let wakers: Rc<RefCell<Vec<Option<Waker>>>> = Rc::new(RefCell::new(vec![None; 100]));
            for n in 0..100 {
                let wakers = Rc::clone(&wakers);
                drop(spawn(poll_fn(move |cx| {
                    wakers.borrow_mut()[n] = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })));
            }
            let all = || wakers.borrow().iter().flatten().cloned().for_each(Waker::wake);
            for _ in 0..5 {
                yield_now().await;
            }
            let wakes = runtime.stats().wakes;
            let (count, ()) = allocations_of(async {
                for _ in 0..1000 {
                    all();
                    yield_now().await;
                    yield_now().await;
                }
            })
            .await;
            assert_eq!(count, 0);
            assert!(runtime.stats().wakes - wakes >= 99_000, "they were really woken");
        })
        .unwrap();
}

#[test]
fn neither_a_message_nor_a_wait_for_room_allocates() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (sender, mut receiver) = mpsc::channel(4);
            for n in 0..10 {
                let sender = sender.clone();
                drop(spawn(async move { while sender.send(n).await.is_ok() {} }));
            }
            let mut receive = async |messages: u32| {
                for _ in 0..messages {
                    receiver.recv().await.unwrap();
                }
            };
            // The queues of items and of waiting senders grow once.
            receive(100).await;
            let (count, ()) = allocations_of(receive(1000)).await;
            assert_eq!(count, 0);
        })
        .unwrap();
}

#[test]
fn a_channel_gives_back_what_a_burst_took_when_its_receiver_waits_again() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (sender, mut receiver) = mpsc::unbounded();
            let before = requested();
            (0..100_000).for_each(|n| sender.send(n).unwrap());
            assert!(requested() - before >= 400_000);
            for _ in 0..100_000 {
                receiver.recv().await.unwrap();
            }
            assert!(timeout(Duration::from_millis(1), receiver.recv()).await.is_err());
            assert!(requested() - before < 10_000, "{} bytes", requested() - before);
            // And with a waker that is not ours.
            (0..100_000).for_each(|n| sender.send(n).unwrap());
            let mut cx = Context::from_waker(Waker::noop());
            let mut polled = || Box::pin(receiver.recv()).as_mut().poll(&mut cx).is_ready();
            for _ in 0..1000 {
                while polled() {}
                yield_now().await;
            }
            assert!(requested() - before < 10_000, "{} bytes", requested() - before);
        })
        .unwrap();
}

#[test]
fn a_timer_set_and_cancelled_or_fired_does_not_allocate() {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    runtime
        .block_on(async {
            async fn use_timers() {
                timeout(Duration::from_millis(1), sleep(Duration::from_secs(3600))).await.unwrap_err();
                timeout(Duration::from_secs(3600), sleep(Duration::from_millis(1))).await.unwrap();
                timeout(Duration::from_nanos(77), sleep(Duration::MAX)).await.unwrap_err();
            }
            use_timers().await;
            let (count, ()) = allocations_of(async {
                for _ in 0..1000 {
                    use_timers().await;
                }
            })
            .await;
            assert_eq!(count, 0);
        })
        .unwrap();
    assert_eq!(runtime.stats().timers, 3 * 1001);
}

#[test]
fn an_idle_turn_does_not_allocate() {
    let mut runtime = Runtime::new().unwrap();
    runtime.turn(Some(Duration::ZERO)).unwrap();
    let before = allocations();
    for _ in 0..1000 {
        runtime.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(allocations(), before);
}

#[test]
fn a_block_on_does_not_allocate() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {}).unwrap();
    let before = allocations();
    for _ in 0..100 {
        runtime.block_on(yield_now()).unwrap();
    }
    assert_eq!(allocations(), before);
}

#[test]
fn a_parked_task_of_88_bytes_costs_at_most_138() {
    const TASKS: i64 = 100_000;
    assert_eq!(size_of::<Parked>(), 88);
    let runtime = Runtime::new().unwrap();
    let before = requested();
    for _ in 0..TASKS {
        drop(runtime.spawn(Parked([7; 11])));
    }
    // Handles dropped away from the loop send a message each.
    runtime
        .block_on(async {
            while runtime.stats().polls < TASKS as u64 || runtime.stats().messages < TASKS as u64 {
                yield_now().await;
            }
        })
        .unwrap();
    assert_eq!(runtime.stats().tasks, TASKS as usize);
    let bytes = requested() - before;
    eprintln!("{} bytes per parked task of 88 bytes", bytes as f64 / TASKS as f64);
    assert!(bytes <= 138 * TASKS, "{} per task", bytes as f64 / TASKS as f64);
}

#[test]
fn what_a_burst_of_tasks_took_is_given_back_when_the_loop_has_nothing_to_do() {
    let mut runtime = Runtime::new().unwrap();
    let burst = |runtime: &Runtime| {
        let tasks: Vec<_> = (0..100_000).map(|_| runtime.spawn(yield_now())).collect();
        runtime
            .block_on(async {
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .unwrap();
    };
    runtime.turn(Some(Duration::ZERO)).unwrap();
    let before = requested();
    burst(&runtime);
    let (kept, stale) = (requested(), runtime.spawn(std::future::pending::<()>()));
    runtime.turn(Some(Duration::from_millis(1))).unwrap();
    runtime.turn(Some(Duration::from_millis(1))).unwrap();
    let after = requested();
    assert!(kept - before > 3_000_000, "{} bytes in use", kept - before);
    assert!(after - before < 100_000, "{} bytes are kept", after - before);
    // Slots that come back start with generations that nobody has.
    burst(&runtime);
    assert_eq!(runtime.stats().tasks, 1);
    assert!(!runtime.block_on(async { stale.is_finished() }).unwrap());
}

#[test]
fn a_parked_child_of_a_scope_of_88_bytes_costs_at_most_240_in_two_allocations() {
    const CHILDREN: i64 = 100_000;
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let (before, allocations_before) = (requested(), allocations());
            let mut waits = Box::pin(postlude::task::scope::<(), (), _>(async |s| {
                for _ in 0..CHILDREN {
                    drop(s.spawn(Parked([7; 11])));
                }
                std::future::pending().await
            }));
            for _ in 0..CHILDREN / 64 + 2 {
                assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
                yield_now().await;
            }
            let bytes = requested() - before;
            eprintln!("{} bytes per parked child of 88 bytes", bytes as f64 / CHILDREN as f64);
            assert!(bytes <= 240 * CHILDREN, "{} per child", bytes as f64 / CHILDREN as f64);
            // Beside the child and what it shares with its handle: pages of the table, and two
            // slabs that grow.
            let beside = allocations() - allocations_before - 2 * CHILDREN as u64;
            assert!(beside < 1000, "{beside}");
            let (count, ()) = allocations_of(async {
                for _ in 0..100 {
                    assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
                }
            })
            .await;
            assert_eq!(count, 0, "a poll of a scope does not allocate");
        })
        .unwrap();
}

#[test]
fn an_empty_runtime_requests_less_than_100_kibibytes() {
    drop(Runtime::new().unwrap());
    let before = requested();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {}).unwrap();
    let bytes = requested() - before;
    eprintln!("{bytes} bytes for an empty runtime");
    assert!(bytes < 100 * 1024, "{bytes}");
    assert!(bytes > 0, "the counting does not work");
}

#[test]
fn a_hundred_thousand_tasks_spawned_and_finished_leave_no_memory_behind() {
    let runtime = Runtime::new().unwrap();
    let wave = || async {
        for _ in 0..100 {
            let handles: Vec<_> = (0..1000_u64).map(|n| spawn(async move { n })).collect();
            for handle in handles {
                handle.await.unwrap();
            }
        }
    };
    runtime.block_on(wave()).unwrap();
    let before = requested();
    runtime.block_on(wave()).unwrap();
    assert_eq!(requested(), before);
    assert_eq!(runtime.stats().spawned, 200_000);
}

#[test]
fn a_runtime_that_is_dropped_gives_everything_back() {
    drop(Runtime::new().unwrap());
    let before = requested();
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            for _ in 0..10_000 {
                drop(spawn(Parked([7; 11])));
                drop(defer(sleep(Duration::from_secs(3600))));
            }
            sleep(Duration::from_millis(5)).await;
        })
        .unwrap();
    assert!(requested() - before > 1_000_000);
    drop(runtime);
    // The process-wide list of runtimes may have grown by some entries: other tests make runtimes
    // too.
    let left = requested() - before;
    assert!(left.abs() < 512, "{left} bytes are left");
}

#[test]
fn a_storm_of_timers_set_and_cancelled_leaves_no_memory_behind() {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    runtime
        .block_on(async {
            let mut far = sleep(Duration::from_secs(1));
            let mut storm = async |rounds: u64| {
                for n in 0..rounds {
                    far.reset(postlude::time::now() + Duration::from_secs(n % 1_000_000 + 1));
                    poll_fn(|cx| Poll::Ready(Pin::new(&mut far).poll(cx).is_ready())).await;
                }
            };
            storm(100).await;
            let before = (allocations(), requested());
            storm(100_000).await;
            assert_eq!((allocations(), requested()), before);
        })
        .unwrap();
}

#[test]
fn a_generator_allocates_once_and_no_item_does() {
    let runtime = Runtime::new().expect("a runtime");
    let generator = async {
        let mut numbers = std::pin::pin!(postlude::iter::generate(async |out| {
            for n in 0..10_000_u64 {
                out.emit(n).await;
            }
        }));
        let mut sum = 0;
        while let Some(n) = std::future::poll_fn(|cx| futures::Stream::poll_next(numbers.as_mut(), cx)).await {
            sum += n;
        }
        sum
    };
    let (count, sum) = runtime.block_on(allocations_of(generator)).expect("this thread runs no other loop");
    assert_eq!((count, sum), (1, 49_995_000));
}

#[test]
fn a_coroutine_allocates_once_and_no_value_does() {
    let runtime = Runtime::new().expect("a runtime");
    let coroutine = async {
        let mut double = std::pin::pin!(postlude::iter::coroutine(async |mut n: u64, out| {
            while n < 10_000 {
                n = out.ask(2 * n).await;
            }
        }));
        let mut n = 0;
        while let postlude::iter::Resumed::Yielded(twice) = double.as_mut().resume(n).await {
            assert_eq!(twice, 2 * n);
            n += 1;
        }
        n
    };
    let (count, n) = runtime.block_on(allocations_of(coroutine)).expect("this thread runs no other loop");
    assert_eq!((count, n), (1, 10_000));
}

#[test]
fn branches_of_a_tuple_are_not_allocated_and_those_of_a_list_once_each() {
    postlude::run(async {
        let (count, _) = allocations_of(join((yield_now(), async { 1 }, yield_now()))).await;
        assert_eq!(count, 0, "a join of three");
        let (count, _) = allocations_of(try_join((async { Ok::<_, ()>(1) }, async { Ok("two") }))).await;
        assert_eq!(count, 0, "a join of two results");
        let (count, _) = allocations_of(race((yield_now(), sleep(Duration::ZERO)))).await;
        assert!(count <= 1, "a race of two; the wheel may grow for the timer: {count}");
        let (count, _) = allocations_of(race((yield_now(), std::future::pending()))).await;
        assert_eq!(count, 0, "a race of two");
        let (count, _) = allocations_of(race([yield_now(), yield_now()])).await;
        assert_eq!(count, 2, "a race of an array of two");
        let ten: Vec<_> = (0..10).map(|_| yield_now()).collect();
        let (count, _) = allocations_of(race(ten)).await;
        assert_eq!(count, 10 + 1, "a race of a vector of ten: the boxes and their vector");
    })
    .unwrap();
}

#[test]
fn a_child_of_a_scope_is_two_allocations_one_more_if_it_has_a_name() {
    let runtime = Runtime::new().unwrap();
    let children = async |named: bool| {
        postlude::task::scope::<_, (), _>(async |s| {
            for _ in 0..100 {
                drop(if named { s.named("child").spawn(yield_now()) } else { s.spawn(yield_now()) });
            }
            Ok(())
        })
        .await
        .unwrap();
    };
    runtime.block_on(children(true)).unwrap();
    let (plain, ()) = runtime.block_on(allocations_of(children(false))).unwrap();
    let (named, ()) = runtime.block_on(allocations_of(children(true))).unwrap();
    eprintln!("{plain} allocations for a scope of 100 children, {named} if they have names");
    assert!((200..=220).contains(&plain), "{plain}: two each, one for the scope, and those of its list as it grows");
    assert_eq!(named - plain, 100);
}

#[test]
fn a_pending_group_of_one_job_takes_at_most_300_bytes_and_a_burst_leaves_nothing_behind() {
    use postlude::deferred::{Outcome, Queue};
    const GROUPS: i64 = 100_000;
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let queue =
                || Queue::builder().pending(1_000_000).per_group(1_000_000).keep_finished(0, Duration::ZERO).build();
            // Groups that wait for their answer, then groups that wait for their turn.
            let many = queue();
            let before = requested();
            let groups: Vec<_> = (0..GROUPS as u64).map(|n| many.group("", n)).collect();
            for group in &groups {
                group.add(async {}).unwrap();
            }
            let vector = (groups.capacity() * size_of_val(&groups[0])) as i64;
            let waiting = requested() - before - vector;
            groups.iter().for_each(|group| group.release(Outcome::Delivered));
            let released = requested() - before - vector;
            many.idle().await;
            drop(groups);
            // Memory is given back before a sleep.
            sleep(Duration::from_millis(1)).await;
            let left = requested() - before;
            eprintln!(
                "{} bytes while the gate is shut, {} once it is open, {left} left in all",
                waiting / GROUPS,
                released / GROUPS
            );
            assert!(released <= 300 * GROUPS, "{} bytes each", released / GROUPS);
            assert!(left < waiting / 10, "{left} bytes are left of {waiting}");
            // All in one group.
            let one = queue();
            let before = requested();
            let group = one.group("", 1);
            for _ in 0..GROUPS {
                group.add(async {}).unwrap();
            }
            let waiting = requested() - before;
            group.release(Outcome::Delivered);
            one.idle().await;
            drop(group);
            // Memory is given back before a sleep.
            sleep(Duration::from_millis(1)).await;
            let left = requested() - before;
            eprintln!("{} bytes for each in one group, {left} left in all", waiting / GROUPS);
            assert!(left < waiting / 10, "{left} bytes are left of {waiting}");
        })
        .unwrap();
}
