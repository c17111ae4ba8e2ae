//! Timers: never early, exact on the paused clock, and nothing left behind.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::{FutureExt, join_all};
use postlude::net::UnixStream;
use postlude::task::yield_now;
use postlude::time::{self, MissedTick, sleep, sleep_until, timeout, timeout_at};
use postlude::{Runtime, spawn};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn paused_runtime() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

fn paused<F: Future>(future: F) -> F::Output {
    paused_runtime().block_on(future).unwrap()
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

fn panic_text(code: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(code)).expect_err("it should panic");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref().map(|text: &&str| text.to_string()))
        .unwrap()
}

#[test]
fn a_sleep_never_ends_early_on_the_real_clock() {
    postlude::run(async {
        for n in 0..100 {
            let length = Duration::from_micros(n * 37 % 4000);
            let before = Instant::now();
            sleep(length).await;
            assert!(before.elapsed() >= length, "{:?} is less than {length:?}", before.elapsed());
        }
        let all = (0..100).map(|n| async move {
            let deadline = Instant::now() + Duration::from_micros(n * 311);
            sleep_until(deadline).await;
            assert!(Instant::now() >= deadline);
        });
        join_all(all).await;
    })
    .unwrap();
}

#[test]
fn a_timeout_never_ends_early_on_the_real_clock() {
    postlude::run(async {
        for n in 1..50 {
            let (limit, before) = (Duration::from_micros(n * 41), Instant::now());
            timeout(limit, pending::<()>()).await.unwrap_err();
            assert!(before.elapsed() >= limit);
        }
    })
    .unwrap();
}

#[test]
fn a_sleep_of_less_than_a_millisecond_takes_two_polls_at_most() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(sleep(Duration::from_micros(400))).unwrap();
    // One, if the first poll came too late to wait.
    assert!(runtime.stats().polls <= 2);
    assert!(runtime.stats().turns < 6, "it does not spin until the deadline: {:?}", runtime.stats());
}

#[test]
fn a_sleep_is_exact_on_the_paused_clock_from_the_first_one_on() {
    let lengths =
        [1, 63, 64, 65, 4095, 4096, 65_537, 999_999, 1_000_001, 1 << 40, (1 << 50) + 12_345, u64::pow(10, 17)];
    for nanos in lengths {
        paused(async {
            let (length, before) = (Duration::from_nanos(nanos), time::now());
            sleep(length).await;
            assert_eq!(time::now() - before, length, "as the first sleep");
            sleep(length).await;
            assert_eq!(time::now() - before, 2 * length, "as the second");
        });
    }
}

#[test]
fn a_deadline_that_is_now_or_past_is_ready_at_the_first_poll() {
    for runtime in [paused_runtime(), Runtime::new().unwrap()] {
        runtime
            .block_on(async {
                let before = time::now();
                sleep(Duration::ZERO).await;
                sleep_until(before).await;
                sleep_until(before - ms(1)).await;
                timeout(Duration::ZERO, pending::<()>()).await.unwrap_err();
            })
            .unwrap();
        let stats = runtime.stats();
        assert_eq!((stats.polls, stats.parks, stats.timers, stats.timers_set), (1, 0, 0, 0));
    }
}

#[test]
fn a_sleep_of_the_longest_duration_never_ends_and_never_panics() {
    paused(async {
        let before = time::now();
        for far in [Duration::MAX, Duration::MAX - Duration::from_nanos(1), Duration::from_secs(u64::MAX), 40 * YEAR] {
            timeout(YEAR, sleep(far)).await.unwrap_err();
            timeout(ms(1), timeout(far, pending::<()>())).await.unwrap_err();
            assert_eq!(timeout(far, async { sleep(ms(1)).await }).await, Ok(()));
        }
        assert_eq!(time::now() - before, 4 * (YEAR + ms(2)), "and it delays nobody else");
    });
}

#[test]
fn a_far_instant_never_comes_and_never_panics() {
    paused(async {
        let mut far = time::now();
        while let Some(farther) = far.checked_add(1000 * YEAR).filter(|_| far < time::now() + 100_000 * YEAR) {
            far = farther;
            timeout(ms(1), sleep_until(far)).await.unwrap_err();
            timeout(ms(1), timeout_at(far, pending::<()>())).await.unwrap_err();
            timeout(ms(1), time::interval_at(far, Duration::MAX).tick()).await.unwrap_err();
            let mut sleep = sleep(ms(1));
            sleep.reset(far);
            timeout(ms(1), sleep).await.unwrap_err();
        }
    });
}

#[test]
fn a_duration_about_the_largest_32_bit_number_of_milliseconds_is_exact() {
    paused(async {
        for length in [ms(i32::MAX as u64 - 1), ms(i32::MAX as u64), ms(i32::MAX as u64 + 1), ms(u32::MAX as u64 + 1)] {
            let before = time::now();
            sleep(length).await;
            assert_eq!(time::now() - before, length);
        }
    });
}

#[test]
fn a_far_deadline_does_not_end_early_or_spin_on_the_real_clock() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            for far in [ms(i32::MAX as u64 + 1), YEAR, 29 * YEAR, 31 * YEAR, Duration::MAX] {
                timeout(ms(20), sleep(far)).await.unwrap_err();
            }
        })
        .unwrap();
    let stats = runtime.stats();
    assert!(stats.turns < 40, "five waits took {} turns", stats.turns);
    assert_eq!(stats.timers_set, 0);
}

#[test]
fn an_interval_of_the_longest_period_ticks_once() {
    paused(async {
        for policy in [MissedTick::Burst, MissedTick::Delay, MissedTick::Skip] {
            let mut every = time::interval(Duration::MAX);
            every.set_missed_tick(policy);
            every.tick().await;
            timeout(YEAR, every.tick()).await.unwrap_err();
            every.reset();
            timeout(YEAR, every.tick()).await.unwrap_err();
        }
    });
}

#[test]
fn a_deadline_counts_from_the_creation_of_the_sleep_not_its_first_poll() {
    let runtime = paused_runtime();
    runtime
        .block_on(async {
            let mut done = sleep(ms(40));
            let mut limited = timeout(ms(40), pending::<()>());
            let going_on = sleep(ms(70));
            time::advance(ms(50)).await;
            let before = time::now();
            assert!(done.is_elapsed());
            assert!(poll_once(&mut done).await.is_ready());
            assert!(matches!(poll_once(&mut limited).await, Poll::Ready(Err(_))));
            going_on.await;
            assert_eq!(time::now() - before, ms(20));
        })
        .unwrap();
    assert_eq!(runtime.stats().timers, 1, "only the one that was waited for was ever in the wheel");
}

#[test]
fn a_sleep_that_is_not_polled_costs_nothing() {
    let runtime = paused_runtime();
    runtime
        .block_on(async {
            let sleeps: Vec<_> = (0..1000).map(|n| sleep(ms(n))).collect();
            assert_eq!(runtime.stats().timers_set, 0);
            drop(sleeps);
        })
        .unwrap();
    assert_eq!((runtime.stats().timers, runtime.stats().parks), (0, 0));
}

#[test]
fn a_timeout_touches_no_timer_when_its_future_is_ready() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let mut limited = timeout(ms(1), ready(7));
            assert_eq!(poll_once(&mut limited).await, Poll::Ready(Ok(7)));
            assert_eq!(runtime.stats().timers_set, 0, "though the timeout is still alive");
        })
        .unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.polls, stats.parks, stats.timers, stats.timers_set), (1, 0, 0, 0));
}

#[test]
fn a_ready_future_is_ready_though_its_deadline_has_passed() {
    paused(async {
        let limited = timeout(ms(1), ready(7));
        time::advance(ms(10)).await;
        assert_eq!(limited.await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, ready(8)).await, Ok(8));
    });
}

#[test]
fn a_timeout_leaves_its_future_alone_after_the_deadline_and_drops_it_with_itself() {
    paused(async {
        let (polls, alive) = (Rc::new(Cell::new(0)), Rc::new(()));
        let (count, held) = (Rc::clone(&polls), Rc::clone(&alive));
        let mut limited = timeout(
            ms(5),
            poll_fn(move |_| {
                let _held = &held;
                count.set(count.get() + 1);
                Poll::<()>::Pending
            }),
        );
        (&mut limited).await.unwrap_err();
        sleep(ms(10)).await;
        assert_eq!((polls.get(), Rc::strong_count(&alive)), (2, 2), "polled once at first and once at the deadline");
        drop(limited);
        assert_eq!(Rc::strong_count(&alive), 1);
    });
}

/// Ticks of a period of 10 ms after a stall of 55: when each was due and when it came, in
/// milliseconds.
fn ticks_after_a_stall(policy: MissedTick) -> Vec<(u128, u128)> {
    paused(async {
        let start = time::now();
        let since = |at: Instant| (at - start).as_millis();
        let mut every = time::interval(ms(10));
        every.set_missed_tick(policy);
        let mut trace = Vec::new();
        trace.push((since(every.tick().await), since(time::now())));
        time::advance(ms(55)).await;
        for _ in 0..7 {
            trace.push((since(every.tick().await), since(time::now())));
        }
        trace
    })
}

#[test]
fn an_interval_that_bursts_makes_up_for_every_missed_period() {
    let expected = [(0, 0), (10, 55), (20, 55), (30, 55), (40, 55), (50, 55), (60, 60), (70, 70)];
    assert_eq!(ticks_after_a_stall(MissedTick::Burst), expected);
}

#[test]
fn an_interval_that_delays_starts_anew_from_the_late_tick() {
    let expected = [(0, 0), (10, 55), (65, 65), (75, 75), (85, 85), (95, 95), (105, 105), (115, 115)];
    assert_eq!(ticks_after_a_stall(MissedTick::Delay), expected);
}

#[test]
fn an_interval_that_skips_keeps_its_phase() {
    let expected = [(0, 0), (10, 55), (60, 60), (70, 70), (80, 80), (90, 90), (100, 100), (110, 110)];
    assert_eq!(ticks_after_a_stall(MissedTick::Skip), expected);
}

#[test]
fn a_tick_less_than_a_period_late_shifts_nothing_under_any_policy() {
    for policy in [MissedTick::Burst, MissedTick::Delay, MissedTick::Skip] {
        paused(async {
            let start = time::now();
            let mut every = time::interval(ms(10));
            every.set_missed_tick(policy);
            for n in 0..100 {
                assert_eq!(every.tick().await - start, ms(10 * n), "{policy:?}");
                let prompt = start + ms(10 * n);
                time::advance((prompt + ms(10) + Duration::from_micros(400)) - time::now()).await;
            }
        });
    }
}

#[test]
fn a_skipping_interval_late_by_whole_periods_ticks_a_whole_period_later() {
    paused(async {
        let start = time::now();
        let mut every = time::interval(ms(10));
        every.set_missed_tick(MissedTick::Skip);
        every.tick().await;
        time::advance(ms(50)).await;
        assert_eq!(every.tick().await - start, ms(10));
        assert_eq!(every.tick().await - start, ms(60), "the tick at 50 is the one just taken");
    });
}

#[test]
fn a_tick_whose_future_is_dropped_is_still_to_come() {
    paused(async {
        let start = time::now();
        let mut every = time::interval(ms(10));
        every.tick().await;
        timeout(ms(3), every.tick()).await.unwrap_err();
        timeout(ms(3), every.tick()).await.unwrap_err();
        assert_eq!(every.tick().await - start, ms(10));
        assert_eq!(time::now() - start, ms(10));
    });
}

#[test]
fn resetting_an_interval_puts_its_next_tick_a_period_away() {
    paused(async {
        let start = time::now();
        let mut every = time::interval(ms(10));
        every.reset();
        assert_eq!(every.tick().await - start, ms(10));
        sleep(ms(7)).await;
        every.reset();
        assert_eq!(every.tick().await - start, ms(27));
        assert_eq!(every.tick().await - start, ms(37));
    });
}

#[test]
fn an_interval_without_a_period_is_refused_with_advice() {
    let text = panic_text(|| drop(time::interval(Duration::ZERO)));
    assert!(text.contains("zero") && text.contains("yield_now"), "{text}");
}

#[test]
fn a_sleep_that_is_reset_goes_by_its_new_deadline_only() {
    let runtime = paused_runtime();
    runtime
        .block_on(async {
            let start = time::now();
            let mut sleep = pin!(sleep(ms(100)));
            assert!(poll_once(&mut sleep).await.is_pending());
            sleep.reset(start + ms(10));
            sleep.as_mut().await;
            assert_eq!(time::now() - start, ms(10), "earlier than it was");
            sleep.reset(start + ms(50));
            assert!(poll_once(&mut sleep).await.is_pending());
            sleep.reset(start + ms(300));
            sleep.as_mut().await;
            assert_eq!(time::now() - start, ms(300), "later than it was");
            sleep.reset(start);
            assert!(poll_once(&mut sleep).await.is_ready(), "in the past");
            assert_eq!(runtime.stats().timers_set, 0);
        })
        .unwrap();
    assert_eq!(runtime.stats().timers, 2, "the deadlines that were given up never fired");
}

#[test]
fn a_storm_of_resets_keeps_one_timer() {
    let runtime = paused_runtime();
    runtime
        .block_on(async {
            let mut sleep = sleep(YEAR);
            for n in 0..100_000 {
                sleep.reset(time::now() + YEAR + ms(n));
                assert!(poll_once(&mut sleep).await.is_pending());
            }
            assert_eq!(runtime.stats().timers_set, 1);
        })
        .unwrap();
    assert_eq!(runtime.stats().timers_set, 0);
}

#[test]
fn a_hundred_thousand_timers_set_and_cancelled_leave_none_behind() {
    let runtime = paused_runtime();
    runtime
        .block_on(async {
            for n in 0..100_000 {
                assert!(poll_once(&mut sleep(ms(n + 1))).await.is_pending());
            }
            assert_eq!(runtime.stats().timers_set, 0, "one at a time");
            let mut all: Vec<_> = (0..100_000).map(|n| sleep(ms(n + 1))).collect();
            for sleep in &mut all {
                assert!(poll_once(sleep).await.is_pending());
            }
            assert_eq!(runtime.stats().timers_set, 100_000);
            drop(all);
            assert_eq!(runtime.stats().timers_set, 0, "all at once");
        })
        .unwrap();
    assert_eq!(runtime.stats().timers, 0);
}

#[test]
fn a_sleep_dropped_on_another_thread_leaves_the_wheel() {
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let mut far = sleep(YEAR);
            assert!(poll_once(&mut far).await.is_pending());
            assert_eq!(runtime.stats().timers_set, 1);
            thread::spawn(move || drop(far)).join().unwrap();
            yield_now().await;
            yield_now().await;
            assert_eq!(runtime.stats().timers_set, 0);
        })
        .unwrap();
}

#[test]
fn a_sleep_moved_to_another_task_wakes_the_new_one_only() {
    paused(async {
        let (first_polls, mut moved) = (Rc::new(Cell::new(0)), sleep(ms(10)));
        let (hand_over, receive) = oneshot::channel();
        let count = Rc::clone(&first_polls);
        let mut hand_over = Some(hand_over);
        let first = spawn(async move {
            assert!(poll_once(&mut moved).await.is_pending());
            drop(hand_over.take().unwrap().send(moved));
            poll_fn(|_| {
                count.set(count.get() + 1);
                Poll::<()>::Pending
            })
            .await;
        });
        let start = time::now();
        let second = spawn(async move {
            receive.await.unwrap().await;
            time::now()
        });
        assert_eq!(timeout(ms(100), second).await.unwrap().unwrap() - start, ms(10));
        sleep(ms(100)).await;
        assert_eq!(first_polls.get(), 1, "the first task was not woken for it");
        drop(first);
    });
}

#[test]
fn two_tasks_that_poll_one_sleep_in_turns_both_learn_of_its_end() {
    paused(async {
        let start = time::now();
        let shared = Rc::new(RefCell::new(sleep(ms(10))));
        let tasks: Vec<_> = [3, 5]
            .into_iter()
            .map(|step| {
                let shared = Rc::clone(&shared);
                spawn(async move {
                    // Each polls the sleep at its own times, so its waker goes back and forth
                    // between the two.
                    while poll_fn(|cx| Poll::Ready(Pin::new(&mut *shared.borrow_mut()).poll(cx))).await.is_pending() {
                        sleep(ms(step)).await;
                    }
                    time::now()
                })
            })
            .collect();
        let ends: Vec<_> = join_all(tasks).await.into_iter().map(|end| end.unwrap() - start).collect();
        assert!(ends.iter().all(|end| (ms(10)..=ms(15)).contains(end)), "{ends:?}");
    });
}

#[test]
fn every_clone_of_a_shared_sleep_is_woken_at_its_deadline() {
    paused(async {
        let start = time::now();
        let shared = sleep(ms(10)).shared();
        let tasks = (0..5).map(|_| {
            let shared = shared.clone();
            spawn(async move {
                shared.await;
                time::now()
            })
        });
        for end in join_all(tasks).await {
            assert_eq!(end.unwrap() - start, ms(10));
        }
    });
}

#[test]
fn an_earlier_timer_from_another_thread_shortens_the_wait() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (entered, parked) = mpsc::channel();
    let (finish, finished) = oneshot::channel();
    let other = thread::spawn(move || {
        parked.recv().unwrap();
        thread::sleep(ms(50));
        let before = Instant::now();
        let done = handle.spawn(|| sleep(ms(5))).wait(ms(9000)).is_some();
        let took = before.elapsed();
        finish.send(()).unwrap();
        (done, took)
    });
    runtime
        .block_on(async {
            entered.send(()).unwrap();
            timeout(ms(10_000), finished).await
        })
        .unwrap()
        .expect("it should not have to wait for its own deadline")
        .unwrap();
    let (done, took) = other.join().unwrap();
    assert!(done && took >= ms(5) && took < ms(3000), "it took {took:?}");
}

#[test]
fn advancing_the_clock_runs_what_has_become_due_and_nothing_else() {
    paused(async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = [30, 10, 20, 40]
            .into_iter()
            .map(|n| {
                let log = Rc::clone(&log);
                spawn(async move {
                    sleep(ms(n)).await;
                    log.borrow_mut().push(n);
                })
            })
            .collect();
        yield_now().await;
        let start = time::now();
        time::advance(ms(9)).await;
        assert!(log.borrow().is_empty());
        time::advance(ms(21)).await;
        assert_eq!(*log.borrow(), [10, 20, 30], "in the order of their deadlines");
        assert_eq!(time::now() - start, ms(30), "and the clock stands where it was put");
        join_all(handles).await;
        assert_eq!(time::now() - start, ms(40));
    });
}

#[test]
fn advancing_by_nothing_or_by_everything_does_no_harm() {
    paused(async {
        let start = time::now();
        time::advance(Duration::ZERO).await;
        assert_eq!(time::now(), start);
        let mut far = sleep(YEAR);
        assert!(poll_once(&mut far).await.is_pending());
        time::advance(Duration::MAX).await;
        assert!(poll_once(&mut far).await.is_ready());
        assert!(time::now() > start + 29 * YEAR);
        sleep(Duration::ZERO).await;
    });
}

#[test]
fn advancing_a_real_clock_is_refused_with_advice() {
    let text = panic_text(|| postlude::run(time::advance(ms(1))).unwrap());
    assert!(text.contains("paused_clock"), "{text}");
    let text = panic_text(|| assert!(time::advance(ms(1)).now_or_never().is_none()));
    assert!(text.contains("time::advance"), "{text}");
}

#[test]
fn timers_of_one_deadline_fire_in_the_order_they_were_set() {
    paused(async {
        let (log, deadline) = (Rc::new(RefCell::new(Vec::new())), time::now() + ms(123_456));
        let tasks: Vec<_> = (0..300)
            .map(|n| {
                let log = Rc::clone(&log);
                spawn(async move {
                    // Set at different times, so that they stand on different levels of the wheel
                    // at first.
                    sleep(ms(n)).await;
                    sleep_until(deadline).await;
                    log.borrow_mut().push(n);
                })
            })
            .collect();
        join_all(tasks).await;
        assert!(log.borrow().is_sorted(), "{:?}", log.borrow());
        assert_eq!(log.borrow().len(), 300);
    });
}

#[test]
fn two_runs_on_the_paused_clock_leave_the_same_trace() {
    let trace = || {
        paused(async {
            let (log, start) = (Rc::new(RefCell::new(Vec::new())), time::now());
            let tasks: Vec<_> = (0..50_u64)
                .map(|n| {
                    let log = Rc::clone(&log);
                    spawn(async move {
                        for step in 1..20 {
                            let limit = Duration::from_nanos(n * 7919 % 1000 * step);
                            let ended =
                                timeout(limit, sleep(Duration::from_nanos(n * 104_729 % 900 * step))).await.is_ok();
                            log.borrow_mut().push((n, step, ended, time::now() - start));
                        }
                    })
                })
                .collect();
            join_all(tasks).await;
            log.take()
        })
    };
    assert_eq!(trace(), trace());
    assert!(trace().iter().any(|entry| entry.2) && trace().iter().any(|entry| !entry.2));
}

#[test]
fn an_event_that_comes_before_a_jump_keeps_the_paused_clock_from_being_late() {
    paused(async {
        let (mut far, start) = (sleep(Duration::from_secs(3600)), time::now());
        assert!(poll_once(&mut far).await.is_pending());
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let reader = UnixStream::from_std(reader).unwrap();
        let woken = spawn(async move {
            reader.read_exact(&mut [0]).await.unwrap();
            sleep(ms(1)).await;
            time::now()
        });
        yield_now().await;
        writer.write_all(b"x").unwrap();
        assert_eq!(woken.await.unwrap() - start, ms(1));
        far.await;
        assert_eq!(time::now() - start, Duration::from_secs(3600));
    });
}

#[test]
fn an_idle_loop_with_one_far_timer_takes_fewer_than_five_turns_in_a_second() {
    for far in [Duration::from_secs(10), YEAR, Duration::MAX] {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        drop(runtime.spawn(sleep(far)));
        let (sender, receiver) = oneshot::channel();
        let other = thread::spawn(move || {
            thread::sleep(ms(1000));
            drop(handle.spawn(move || async move { sender.send(()) }));
        });
        runtime.block_on(receiver).unwrap().unwrap();
        other.join().unwrap();
        // Two of them set the timer and two take in the message.
        assert!(runtime.stats().turns < 5 + 4, "{far:?}: {:?}", runtime.stats());
    }
}

#[test]
fn a_loop_of_empty_sleeps_starves_neither_tasks_nor_timers_nor_sockets() {
    postlude::run(async {
        let spinning = spawn(async {
            loop {
                sleep(Duration::ZERO).await;
            }
        });
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let reader = UnixStream::from_std(reader).unwrap();
        let reading = spawn(async move { reader.read_exact(&mut [0]).await });
        for _ in 0..100 {
            yield_now().await;
        }
        sleep(ms(5)).await;
        writer.write_all(b"x").unwrap();
        reading.await.unwrap().unwrap();
        spinning.abort();
        assert!(spinning.await.unwrap_err().is_cancelled());
    })
    .unwrap();
}

#[test]
fn a_turn_fires_each_due_timer_once_and_its_task_runs_in_the_next_one() {
    let mut runtime = Runtime::new().unwrap();
    for _ in 0..3 {
        drop(runtime.spawn(sleep(ms(2))));
    }
    assert_eq!(runtime.turn(Some(Duration::ZERO)).unwrap().polls, 3);
    assert_eq!(runtime.stats().timers_set, 3);
    thread::sleep(ms(10));
    let turn = runtime.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((turn.polls, turn.has_more, runtime.stats().timers), (0, true, 3));
    let turn = runtime.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((turn.polls, turn.has_more, runtime.stats().timers), (3, false, 3));
    assert_eq!((runtime.stats().tasks, runtime.stats().timers_set), (0, 0));
}

#[test]
fn a_turn_without_patience_says_when_it_wants_to_be_called_again() {
    let mut runtime = Runtime::new().unwrap();
    assert_eq!(runtime.next_deadline(), None);
    let before = Instant::now();
    let sleep = sleep(ms(500));
    let due = sleep.deadline();
    drop(runtime.spawn(sleep));
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert!(before.elapsed() < ms(400), "it did not wait for the timer");
    let mut calls = 0;
    while let Some(deadline) = runtime.next_deadline() {
        assert!(deadline <= Instant::now().max(due + ms(1)), "never later than the deadline, unless that has passed");
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
        runtime.turn(Some(Duration::ZERO)).unwrap();
        calls += 1;
    }
    assert!(Instant::now() >= due && runtime.stats().tasks == 0);
    assert!(calls < 8, "it asked for {calls} calls");
}

#[test]
fn a_sleep_polled_away_from_its_runtime_panics_with_advice() {
    let runtime = Runtime::new().unwrap();
    let mut far = sleep(YEAR);
    assert!(runtime.block_on(poll_once(&mut far)).unwrap().is_pending());
    let text = panic_text(|| drop(postlude::run(poll_once(&mut far))));
    assert!(text.contains("another runtime"), "{text}");
    let text = panic_text(|| assert!(poll_once(&mut far).now_or_never().is_none()));
    assert!(text.contains("no runtime") && text.contains("Handle::spawn"), "{text}");
    assert!(runtime.block_on(poll_once(&mut far)).unwrap().is_pending(), "and at home it goes on");
}

#[test]
fn a_sleep_that_outlives_its_runtime_is_dropped_silently() {
    let runtime = Runtime::new().unwrap();
    let mut far = sleep(YEAR);
    assert!(runtime.block_on(poll_once(&mut far)).unwrap().is_pending());
    drop(runtime);
    let other = Runtime::new().unwrap();
    let mut its_own = sleep(YEAR);
    assert!(other.block_on(poll_once(&mut its_own)).unwrap().is_pending());
    other.block_on(async { drop(far) }).unwrap();
    assert_eq!(other.stats().timers_set, 1, "it cancels nothing of another runtime's");
}

#[test]
fn a_loop_whose_last_timer_was_cancelled_sleeps_on_when_its_time_has_come() {
    let runtime = Runtime::new().unwrap();
    // With a handle alive the loop does not wait for a deadlock, but for the next deadline.
    let _handle = runtime.handle();
    let turns = runtime
        .block_on(async {
            assert!(timeout(ms(10), yield_now()).await.is_ok(), "a timer was set, and cancelled");
            let (send, receive) = oneshot::channel();
            let waking = thread::spawn(move || {
                // Real time is the point: that of the cancelled timer passes meanwhile.
                thread::sleep(ms(100));
                send.send(()).unwrap();
            });
            receive.await.unwrap();
            waking.join().unwrap();
        })
        .map(|()| runtime.stats().turns)
        .unwrap();
    assert!(turns < 20, "{turns} turns");
}

#[test]
fn an_advance_lets_all_that_are_due_run_in_whatever_order_and_class() {
    for seed in 0..100 {
        let runtime = Runtime::builder().paused_clock().seed(seed).build().unwrap();
        for (count, is_deferred) in [(1, true), (5, true), (64, false), (200, false)] {
            let ran = Rc::new(Cell::new(0));
            let sleeper = || {
                let (ran, due) = (ran.clone(), sleep(ms(1000)));
                async move {
                    due.await;
                    ran.set(ran.get() + 1);
                }
            };
            let before = runtime.block_on(async {
                for _ in 0..count {
                    drop(if is_deferred { postlude::defer(sleeper()) } else { spawn(sleeper()) });
                }
                time::advance(ms(999)).await;
                let before = ran.get();
                time::advance(ms(1)).await;
                before
            });
            assert_eq!((before.unwrap(), ran.get()), (0, count), "seed {seed}, deferred: {is_deferred}");
        }
    }
}

#[test]
fn an_advance_ends_though_a_task_is_busy_without_end() {
    paused(async {
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        time::advance(ms(1)).await;
    });
}
