//! Whose turn it is: first in first out, one's own wake waits for the next turn, and every phase of
//! a turn is bounded.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use postlude::net::{TcpListener, TcpStream};
use postlude::task::{has_budget, poll_proceed, yield_now};
use postlude::time::{interval, sleep, timeout};
use postlude::{Runtime, defer, spawn};

const NOW: Option<Duration> = Some(Duration::ZERO);
const GENEROUS: Duration = Duration::from_secs(10);

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

/// Who was polled, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn take(&self) -> String {
        self.0.take().join(" ")
    }

    /// A task that notes each of its polls and yields `yields` times.
    fn task(&self, name: &'static str, yields: usize) -> impl Future<Output = ()> + use<> {
        let (trace, mut left) = (self.clone(), yields);
        poll_fn(move |cx| {
            trace.note(name);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// What the polls of one turn were.
fn turn(runtime: &mut Runtime, trace: &Trace) -> String {
    runtime.turn(NOW).unwrap();
    trace.take()
}

/// Ready once `waker` was used.
fn parked(place: &Rc<RefCell<Option<Waker>>>) -> impl Future<Output = ()> + use<> {
    let (place, mut polled) = (place.clone(), false);
    poll_fn(move |cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        *place.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    })
}

#[test]
fn tasks_are_polled_in_the_order_they_were_spawned() {
    let (mut runtime, trace) = (paused(), Trace::default());
    for name in ["a", "b", "c", "d"] {
        drop(runtime.spawn(trace.task(name, 0)));
    }
    assert_eq!(turn(&mut runtime, &trace), "a b c d");
}

#[test]
fn a_task_that_wakes_itself_runs_again_next_turn_after_those_that_were_ready_before() {
    let mut runtime = Runtime::builder().paused_clock().polls_per_turn(3).build().unwrap();
    let trace = Trace::default();
    drop(runtime.spawn(trace.task("a", 1)));
    for name in ["b", "c", "d", "e"] {
        drop(runtime.spawn(trace.task(name, 0)));
    }
    assert_eq!(turn(&mut runtime, &trace), "a b c");
    assert_eq!(turn(&mut runtime, &trace), "d e a");
}

#[test]
fn each_turn_polls_a_task_that_wakes_itself_once() {
    let (mut runtime, trace) = (paused(), Trace::default());
    drop(runtime.spawn(trace.task("a", 2)));
    drop(runtime.spawn(trace.task("b", 1)));
    let first = runtime.turn(NOW).unwrap();
    assert_eq!((trace.take().as_str(), first.polls, first.has_more), ("a b", 2, true));
    assert_eq!(turn(&mut runtime, &trace), "a b");
    let last = runtime.turn(NOW).unwrap();
    assert_eq!((trace.take().as_str(), last.polls, last.has_more), ("a", 1, false));
    assert_eq!(runtime.turn(NOW).unwrap().polls, 0);
}

#[test]
fn a_task_woken_by_another_runs_in_the_same_turn_behind_the_ready_ones() {
    let (mut runtime, trace) = (paused(), Trace::default());
    let place = Rc::new(RefCell::new(None));
    let (noted, waiting) = (trace.clone(), parked(&place));
    drop(runtime.spawn(async move {
        noted.note("waits");
        waiting.await;
        noted.note("woken");
    }));
    let noted = trace.clone();
    drop(runtime.spawn(async move {
        noted.note("wakes");
        place.borrow_mut().take().unwrap().wake();
    }));
    drop(runtime.spawn(trace.task("other", 0)));
    assert_eq!(turn(&mut runtime, &trace), "waits wakes other woken");
}

#[test]
fn a_task_spawned_by_another_runs_in_the_same_turn() {
    let (mut runtime, trace) = (paused(), Trace::default());
    let noted = trace.clone();
    drop(runtime.spawn(async move {
        noted.note("parent");
        let child = spawn(noted.task("child", 0));
        child.await.unwrap();
        noted.note("joined");
    }));
    drop(runtime.spawn(trace.task("other", 0)));
    assert_eq!(turn(&mut runtime, &trace), "parent other child joined");
}

#[test]
fn two_tasks_that_wake_each_other_share_a_turn_until_its_polls_are_used_up() {
    let mut runtime = Runtime::builder().paused_clock().polls_per_turn(10).build().unwrap();
    let wakers: Rc<RefCell<[Option<Waker>; 2]>> = Rc::default();
    for me in 0..2 {
        let wakers = wakers.clone();
        drop(runtime.spawn(poll_fn(move |cx| {
            wakers.borrow_mut()[me] = Some(cx.waker().clone());
            if let Some(other) = &wakers.borrow()[1 - me] {
                other.wake_by_ref();
            }
            Poll::<()>::Pending
        })));
    }
    for _ in 0..3 {
        let turn = runtime.turn(NOW).unwrap();
        assert_eq!((turn.polls, turn.has_more), (10, true));
    }
}

#[test]
fn the_main_future_takes_its_turn_like_any_task() {
    let trace = Trace::default();
    let runtime = paused();
    drop(runtime.spawn(trace.task("first", 1)));
    runtime
        .block_on(async {
            trace.note("main");
            drop(spawn(trace.task("second", 1)));
            yield_now().await;
            trace.note("main");
            yield_now().await;
            trace.note("main");
        })
        .unwrap();
    assert_eq!(trace.take(), "first main second first main second main");
}

#[test]
fn block_on_returns_as_soon_as_its_future_is_ready() {
    let (trace, runtime) = (Trace::default(), paused());
    runtime
        .block_on(async {
            drop(spawn(trace.task("never", 0)));
            drop(defer(trace.task("never", 0)));
        })
        .unwrap();
    assert_eq!(trace.take(), "");
    runtime.block_on(yield_now()).unwrap();
    assert_eq!(trace.take(), "never never", "but what it left behind goes on with the next one");
}

#[test]
fn a_turn_polls_sixty_four_tasks_and_leaves_the_rest_to_the_next() {
    let mut runtime = paused();
    for _ in 0..150 {
        drop(runtime.spawn(async {}));
    }
    let polls: Vec<_> = (0..4).map(|_| runtime.turn(NOW).unwrap().polls).collect();
    assert_eq!(polls, [64, 64, 22, 0]);
}

#[test]
fn a_turn_that_leaves_work_does_not_sleep() {
    let mut runtime = Runtime::new().unwrap();
    for _ in 0..65 {
        drop(runtime.spawn(async {}));
    }
    let before = Instant::now();
    assert!(runtime.turn(Some(GENEROUS)).unwrap().has_more);
    drop(runtime.defer(Trace::default().task("deferred", 1)));
    assert!(runtime.turn(Some(GENEROUS)).unwrap().has_more);
    assert!(before.elapsed() < GENEROUS);
    assert_eq!(runtime.stats().parks, 0, "nothing is registered, so the system has nothing to tell");
}

#[test]
fn deferred_tasks_run_after_the_foreground_ones_and_all_of_them_while_none_of_those_is_ready() {
    let (mut runtime, trace) = (paused(), Trace::default());
    for _ in 0..40 {
        drop(runtime.defer(trace.task("d", 0)));
    }
    drop(runtime.spawn(trace.task("f", 0)));
    assert_eq!(turn(&mut runtime, &trace), format!("f{}", " d".repeat(40)));
    assert_eq!(runtime.turn(NOW).unwrap().polls, 0);
}

#[test]
fn what_a_deferred_task_wakes_or_spawns_in_its_class_waits_for_the_next_turn() {
    let (mut runtime, trace) = (paused(), Trace::default());
    let noted = trace.clone();
    drop(runtime.defer(async move {
        noted.note("a");
        drop(defer(noted.task("c", 0)));
    }));
    drop(runtime.defer(trace.task("b", 0)));
    assert_eq!(turn(&mut runtime, &trace), "a b");
    assert_eq!(turn(&mut runtime, &trace), "c");
}

#[test]
fn deferred_tasks_are_first_in_first_out_and_their_own_wakes_wait_for_the_next_turn() {
    let (mut runtime, trace) = (paused(), Trace::default());
    drop(runtime.defer(trace.task("a", 2)));
    drop(runtime.defer(trace.task("b", 0)));
    drop(runtime.defer(trace.task("c", 1)));
    assert_eq!(turn(&mut runtime, &trace), "a b c");
    assert_eq!(turn(&mut runtime, &trace), "a c");
    assert_eq!(turn(&mut runtime, &trace), "a");
}

#[test]
fn a_deferred_task_that_wakes_a_foreground_one_lets_it_go_first() {
    let (mut runtime, trace) = (paused(), Trace::default());
    let noted = trace.clone();
    drop(runtime.defer(async move {
        noted.note("d1");
        drop(spawn(noted.task("f", 0)));
    }));
    drop(runtime.defer(trace.task("d2", 0)));
    drop(runtime.defer(trace.task("d3", 0)));
    assert_eq!(turn(&mut runtime, &trace), "d1");
    assert_eq!(turn(&mut runtime, &trace), "f d2 d3");
}

#[test]
fn beside_a_busy_foreground_the_deferred_share_doubles_while_tasks_are_left_over_and_halves_when_none_is() {
    let mut runtime = Runtime::builder().paused_clock().polls_per_turn(2).build().unwrap();
    let trace = Trace::default();
    for _ in 0..3 {
        drop(runtime.spawn(trace.task("f", usize::MAX)));
    }
    let mut polls = |deferred: usize| {
        for _ in 0..deferred {
            drop(runtime.defer(trace.task("d", 0)));
        }
        turn(&mut runtime, &trace).matches('d').count()
    };
    assert_eq!([20, 0, 0, 0, 0, 0].map(&mut polls), [1, 2, 4, 8, 5, 0], "15 of 20 in four phases, then the rest");
    // The share is 8 now: none was left over once, and phases without deferred tasks do not count.
    assert_eq!([1, 1, 1, 1].map(&mut polls), [1, 1, 1, 1], "halved to one");
    assert_eq!([4, 0, 0].map(&mut polls), [1, 2, 1]);
}

#[test]
fn at_least_one_deferred_task_is_polled_every_turn_however_busy_the_loop_is() {
    let mut runtime = Runtime::builder().polls_per_turn(4).build().unwrap();
    let trace = Trace::default();
    for _ in 0..6 {
        drop(runtime.spawn(trace.task("f", usize::MAX)));
    }
    drop(runtime.defer(trace.task("d", usize::MAX)));
    for _ in 0..50 {
        assert_eq!(turn(&mut runtime, &trace), "f f f f d");
    }
}

/// Keeps the thread busy for so long.
fn spin(duration: Duration) {
    let began = Instant::now();
    while began.elapsed() < duration {}
}

#[test]
fn deferred_tasks_that_take_long_leave_the_loop_after_a_millisecond() {
    let mut runtime = Runtime::new().unwrap();
    for _ in 0..100 {
        drop(runtime.defer(async { spin(Duration::from_millis(2)) }));
    }
    let polls: Vec<_> = (0..5).map(|_| runtime.turn(NOW).unwrap().polls).collect();
    assert_eq!(polls, [1; 5], "one poll has used the phase up, and the next waits until the system was asked");
}

#[test]
fn no_single_look_at_the_clock_lets_a_deferred_phase_take_more_than_twice_its_time() {
    let mut runtime = Runtime::new().unwrap();
    for _ in 0..1000 {
        drop(runtime.defer(async { spin(Duration::from_micros(100)) }));
    }
    for _ in 0..10 {
        let polls = runtime.turn(NOW).unwrap().polls;
        assert!((1..=16).contains(&polls), "{polls} polls of 100 µs");
    }
}

#[test]
fn beside_a_busy_foreground_the_deferred_phase_takes_no_longer_than_the_foreground_did() {
    let mut runtime = Runtime::new().unwrap();
    drop(runtime.spawn(async {
        loop {
            spin(Duration::from_micros(10));
            yield_now().await;
        }
    }));
    for _ in 0..1000 {
        drop(runtime.defer(async { spin(Duration::from_micros(50)) }));
    }
    let mut polls: Vec<_> = (0..41).map(|_| runtime.turn(NOW).unwrap().polls).collect();
    polls.sort_unstable();
    // The median, as a turn may be longer than it is meant to be where others use the processor.
    assert_eq!(polls[20], 2, "one of each, however much the share has grown: {polls:?}");
}

#[test]
fn the_polls_of_a_turn_can_be_set_and_zero_counts_as_one() {
    let (trace, builder) = (Trace::default(), Runtime::builder().paused_clock());
    let mut runtime = builder.polls_per_turn(0).build().unwrap();
    for _ in 0..2 {
        drop(runtime.spawn(trace.task("f", 0)));
    }
    let turns: Vec<_> = (0..3).map(|_| turn(&mut runtime, &trace)).collect();
    assert_eq!(turns, ["f", "f", ""]);
}

#[test]
fn waiting_for_a_deferred_task_does_not_raise_its_class() {
    let (mut runtime, trace) = (paused(), Trace::default());
    let waited_for = runtime.defer(trace.task("d", 0));
    let noted = trace.clone();
    drop(runtime.spawn(async move {
        noted.note("waits");
        waited_for.await.unwrap();
        noted.note("has");
    }));
    drop(runtime.spawn(trace.task("f", 1)));
    assert_eq!(turn(&mut runtime, &trace), "waits f d");
    // The deferred task wakes its joiner when the foreground phase is over, and who woke itself
    // joins the queue after that.
    assert_eq!(turn(&mut runtime, &trace), "has f");
}

/// A thousand deferred tasks that yield, sleep and wake each other beside foreground tasks that
/// never rest; what is polled when.
fn deferred_trace(seed: u64) -> Vec<(usize, u32)> {
    let runtime = Runtime::builder().seed(seed).paused_clock().build().unwrap();
    let trace = Rc::new(RefCell::new(Vec::new()));
    runtime
        .block_on(async {
            for _ in 0..3 {
                drop(spawn(async {
                    loop {
                        yield_now().await;
                    }
                }));
            }
            let told = Rc::new(postlude::sync::Notify::new());
            let tasks: Vec<_> = (0..1000)
                .map(|n| {
                    let (trace, told) = (Rc::clone(&trace), Rc::clone(&told));
                    defer(async move {
                        for step in 0..1 + n as u32 % 4 {
                            trace.borrow_mut().push((n, step));
                            match n % 3 {
                                0 => yield_now().await,
                                1 => {
                                    told.notify_one();
                                    yield_now().await;
                                }
                                _ => drop(timeout(Duration::from_millis(5), told.notified()).await),
                            }
                        }
                    })
                })
                .collect();
            // Time stands still beside tasks that are always ready.
            let moves = spawn(async {
                loop {
                    postlude::time::advance(Duration::from_millis(1)).await;
                }
            });
            for task in tasks {
                task.await.unwrap();
            }
            moves.abort();
        })
        .unwrap();
    trace.take()
}

#[test]
fn a_seed_replays_the_whole_order_of_a_thousand_deferred_tasks() {
    let first = deferred_trace(7);
    assert_eq!(first.len(), (0..1000).map(|n| 1 + n % 4).sum::<usize>());
    assert_eq!(first, deferred_trace(7));
    assert_ne!(first, deferred_trace(8), "the seed is what decides");
}

/// Forty tasks of both classes that spawn, yield and wake; what is polled when.
fn seeded_trace(seed: Option<u64>) -> String {
    let builder = Runtime::builder().paused_clock();
    let runtime = match seed {
        Some(seed) => builder.seed(seed).build(),
        None => builder.build(),
    };
    let trace = Trace::default();
    runtime
        .unwrap()
        .block_on(async {
            let tasks: Vec<_> = (0..20_u64)
                .map(|n| {
                    let trace = trace.clone();
                    spawn(async move {
                        trace.note(n.to_string());
                        yield_now().await;
                        let name = trace.clone();
                        let child = defer(async move { name.note(format!("d{n}")) });
                        sleep(Duration::from_millis(n % 3)).await;
                        child.await.unwrap();
                        trace.note(n.to_string());
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .unwrap();
    trace.take()
}

#[test]
fn a_seed_gives_the_same_order_every_time() {
    for seed in 0..20 {
        assert_eq!(seeded_trace(Some(seed)), seeded_trace(Some(seed)), "seed {seed}");
    }
    assert_eq!(seeded_trace(None), seeded_trace(None));
}

#[test]
fn another_seed_gives_another_order_of_the_same_polls() {
    let traces: Vec<_> = (0..20).map(|seed| seeded_trace(Some(seed))).chain([seeded_trace(None)]).collect();
    let sorted = |trace: &str| {
        let mut polls: Vec<_> = trace.split(' ').map(str::to_owned).collect();
        polls.sort();
        polls
    };
    for (n, trace) in traces.iter().enumerate() {
        assert_eq!(sorted(trace), sorted(&traces[0]));
        assert!(!traces[..n].contains(trace), "{n}");
    }
}

#[test]
fn a_seed_starves_nobody() {
    for seed in 0..20 {
        let mut runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        let polls = Rc::new(Cell::new(0));
        for _ in 0..40 {
            drop(runtime.spawn(Trace::default().task("greedy", usize::MAX)));
        }
        let count = polls.clone();
        drop(runtime.spawn(poll_fn(move |cx| {
            count.set(count.get() + 1);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        for _ in 0..10 {
            runtime.turn(NOW).unwrap();
        }
        assert_eq!(polls.get(), 10, "seed {seed}");
    }
}

#[test]
fn a_greedy_task_starves_neither_timers_nor_sockets() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let greedy = spawn(Trace::default().task("greedy", usize::MAX));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let echo = spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).await.unwrap() > 0 {
                    stream.write_all(&byte).await.unwrap();
                }
            });
            let peer = std::thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                for n in 0..50 {
                    stream.write_all(&[n]).unwrap();
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    assert_eq!(byte, [n]);
                }
            });
            let mut ticks = interval(Duration::from_millis(5));
            for _ in 0..10 {
                timeout(GENEROUS, ticks.tick()).await.unwrap();
            }
            timeout(GENEROUS, echo).await.unwrap().unwrap();
            greedy.abort();
            peer.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_yielding_task_sees_a_ready_socket_served_within_two_yields() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let reader = spawn(async move {
                let mut byte = [0];
                stream.read(&mut byte).await.unwrap()
            });
            yield_now().await;
            yield_now().await;
            assert!(!reader.is_finished());
            // On loopback the data is there when the write returns.
            peer.write_all(b"x").unwrap();
            yield_now().await;
            yield_now().await;
            assert!(reader.is_finished());
        })
        .unwrap();
}

#[test]
fn a_timer_armed_in_a_turn_fires_in_a_later_one() {
    let mut runtime = paused();
    drop(runtime.spawn(async {
        loop {
            sleep(Duration::from_nanos(1)).await;
        }
    }));
    runtime.turn(NOW).unwrap();
    for _ in 0..50 {
        let before = runtime.stats();
        runtime.turn(NOW).unwrap();
        let after = runtime.stats();
        assert!(after.timers - before.timers <= 1 && after.polls - before.polls <= 1);
    }
    assert!(runtime.stats().timers >= 20);
}

#[test]
fn a_sleep_of_zero_is_ready_at_once_and_spends_budget() {
    let mut runtime = paused();
    let trace = Trace::default();
    let noted = trace.clone();
    drop(runtime.spawn(async move {
        for _ in 0..300 {
            sleep(Duration::ZERO).await;
        }
        noted.note("sleeper");
    }));
    drop(runtime.spawn(trace.task("other", 3)));
    assert_eq!(turn(&mut runtime, &trace), "other");
    assert_eq!(turn(&mut runtime, &trace), "other");
    assert_eq!(turn(&mut runtime, &trace), "sleeper other", "300 operations are two budgets and a part of a third");
}

#[test]
fn an_operation_that_fails_at_once_spends_budget() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
            drop(listener);
            let (errors, polls) = (Cell::new(0), Cell::new(0));
            let mut writing = pin!(async {
                for _ in 0..1000 {
                    stream.write(b"x").await.unwrap_err();
                    errors.set(errors.get() + 1);
                }
            });
            poll_fn(|cx| {
                let before = errors.get();
                polls.set(polls.get() + 1);
                let poll = writing.as_mut().poll(cx);
                assert!(errors.get() - before <= 128);
                poll
            })
            .await;
            assert_eq!(polls.get(), 8);
        })
        .unwrap();
}

#[test]
fn an_operation_that_would_block_spends_nothing() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            yield_now().await;
            for _ in 0..1000 {
                let mut accepting = pin!(listener.accept());
                assert!(poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx).is_pending())).await);
            }
            assert!(has_budget());
        })
        .unwrap();
}

#[test]
fn a_budget_is_a_hundred_and_twenty_eight_operations_a_poll_and_unlimited_elsewhere() {
    let spend =
        || (0..1000).take_while(|_| poll_proceed(&mut std::task::Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(spend().count(), 1000);
    let runtime = paused();
    runtime
        .block_on(async {
            for _ in 0..3 {
                assert!(has_budget());
                assert_eq!(spend().count(), 128);
                assert!(!has_budget());
                yield_now().await;
            }
        })
        .unwrap();
    assert!(has_budget());
}

#[test]
fn a_task_that_joins_a_thousand_finished_tasks_lets_others_run_in_between() {
    let runtime = paused();
    runtime
        .block_on(async {
            let tasks: Vec<_> = (0..1000).map(|_| spawn(async {})).collect();
            sleep(Duration::from_secs(1)).await;
            let polls = Rc::new(Cell::new(0));
            let count = polls.clone();
            drop(spawn(poll_fn(move |cx| {
                count.set(count.get() + 1);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            })));
            for task in tasks {
                task.await.unwrap();
            }
            assert!((7..=9).contains(&polls.get()), "{}", polls.get());
        })
        .unwrap();
}

#[test]
fn an_executor_inside_a_task_is_not_driven_mad_by_the_budget() {
    let runtime = paused();
    let polls = Cell::new(0);
    runtime
        .block_on(async {
            let all: FuturesUnordered<_> = (0..10_000)
                .map(|_| {
                    let mut sleeping = Box::pin(sleep(Duration::ZERO));
                    let polls = &polls;
                    poll_fn(move |cx| {
                        polls.set(polls.get() + 1);
                        sleeping.as_mut().poll(cx)
                    })
                })
                .collect();
            assert_eq!(all.count().await, 10_000);
        })
        .unwrap();
    assert!(polls.get() < 30_000, "{}", polls.get());
}

#[test]
fn a_turn_takes_a_bounded_number_of_messages_and_of_timers() {
    let mut runtime = paused();
    let place = Rc::new(RefCell::new(None));
    drop(runtime.spawn(parked(&place)));
    while runtime.turn(NOW).unwrap().has_more {}
    let waker = place.borrow_mut().take().unwrap();
    // Between turns the runtime is not current, so these go through the inbox.
    (0..1000).for_each(|_| waker.wake_by_ref());
    let mut turns = 0;
    let mut before = runtime.stats().messages;
    while runtime.turn(NOW).unwrap().has_more {
        let now = runtime.stats().messages;
        assert!(now - before <= 256);
        (before, turns) = (now, turns + 1);
    }
    assert!(turns >= 3);

    let mut runtime = paused();
    for _ in 0..3000 {
        drop(runtime.spawn(sleep(Duration::from_secs(1))));
    }
    let mut before = 0;
    while runtime.stats().tasks > 0 {
        runtime.turn(NOW).unwrap();
        let now = runtime.stats().timers;
        assert!(now - before <= 1024);
        before = now;
    }
    assert_eq!(before, 3000);
}

#[test]
fn a_loop_with_one_far_timer_sleeps() {
    let mut runtime = Runtime::new().unwrap();
    drop(runtime.spawn(sleep(Duration::from_secs(3600))));
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        runtime.turn(Some(end.saturating_duration_since(Instant::now()))).unwrap();
    }
    assert!(runtime.stats().turns < 5, "{:?}", runtime.stats());
}

#[test]
fn a_loop_that_waits_for_a_timer_sleeps_but_for_a_stop_per_level_of_the_wheel() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(sleep(Duration::from_millis(300))).unwrap();
    assert!(runtime.stats().turns < 10, "{:?}", runtime.stats());
}
