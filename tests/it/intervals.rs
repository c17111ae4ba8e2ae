//! Intervals that last: they keep their phase, are never early, make up for a long pause without
//! holding anybody up; and what many timers cost together.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use postlude::task::{JoinSet, yield_now};
use postlude::time::{MissedTick, advance, interval, interval_at, now, sleep, sleep_until, timeout};
use postlude::{Runtime, spawn};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

fn paused() -> Runtime {
    Runtime::builder().paused_clock().build().unwrap()
}

#[test]
fn an_interval_on_the_real_clock_is_never_early_and_does_not_drift() {
    const PERIOD: Duration = Duration::from_millis(2);
    postlude::run(async {
        let begin = Instant::now();
        let mut every = interval(PERIOD);
        let first = every.tick().await;
        for n in 1..=50 {
            let due = every.tick().await;
            assert_eq!(due, first + PERIOD * n, "the ticks keep their distance however late each is");
            assert!(Instant::now() >= due && begin.elapsed() >= PERIOD * n);
            // Work of less than a period shifts nothing.
            while Instant::now() < due + PERIOD / 4 {
                std::hint::spin_loop();
            }
        }
    })
    .unwrap();
}

#[test]
fn work_between_ticks_shifts_no_tick() {
    paused()
        .block_on(async {
            for missed in [MissedTick::Burst, MissedTick::Delay, MissedTick::Skip] {
                let begin = now();
                let mut every = interval(SECOND);
                every.set_missed_tick(missed);
                for n in 0..100 {
                    assert_eq!(every.tick().await, begin + SECOND * n);
                    assert_eq!(now(), begin + SECOND * n);
                    sleep(Duration::from_millis(u64::from(n) * 9)).await;
                }
            }
        })
        .unwrap();
}

#[test]
fn after_a_pause_of_five_periods_each_policy_ticks_as_it_says() {
    // The clock jumps, as one that counts the time a machine sleeps would.
    for (missed, expected) in [
        (MissedTick::Burst, [5500, 5500, 5500, 5500, 5500, 6000, 7000]),
        (MissedTick::Delay, [5500, 6500, 7500, 8500, 9500, 10_500, 11_500]),
        (MissedTick::Skip, [5500, 6000, 7000, 8000, 9000, 10_000, 11_000]),
    ] {
        paused()
            .block_on(async {
                let begin = now();
                let mut every = interval(SECOND);
                every.set_missed_tick(missed);
                every.tick().await;
                advance(SECOND * 11 / 2).await;
                let mut taken = Vec::new();
                for _ in 0..expected.len() {
                    every.tick().await;
                    taken.push((now() - begin).as_millis());
                }
                assert_eq!(taken, expected, "{missed:?}");
            })
            .unwrap();
    }
}

#[test]
fn an_interval_that_makes_up_for_a_day_holds_nobody_up() {
    paused()
        .block_on(async {
            let mut every = interval(SECOND);
            every.tick().await;
            advance(DAY).await;
            let others = Rc::new(Cell::new(0));
            let count = Rc::clone(&others);
            let other = spawn(async move {
                loop {
                    count.set(count.get() + 1);
                    yield_now().await;
                }
            });
            let before = now();
            for _ in 0..DAY.as_secs() {
                every.tick().await;
            }
            assert_eq!(now(), before, "all of them were due");
            assert!(others.get() >= DAY.as_secs() / 256, "{}", others.get());
            other.abort();
            every.tick().await;
            assert_eq!(now(), before + SECOND);

            every.set_missed_tick(MissedTick::Skip);
            advance(DAY).await;
            assert_eq!(every.tick().await, before + SECOND * 2, "one tick stands for all of them");
            let next = every.tick().await;
            assert_eq!((next, now()), (before + DAY + SECOND * 2, before + DAY + SECOND * 2));
        })
        .unwrap();
}

#[test]
fn the_shortest_period_of_all_holds_nobody_up() {
    let runtime = Runtime::new().unwrap();
    let other = async {
        drop(spawn(async {
            let mut every = interval_at(Instant::now(), Duration::from_nanos(1));
            loop {
                every.tick().await;
            }
        }));
        sleep(Duration::from_millis(10)).await;
        interval(Duration::from_millis(2)).take(5).count().await
    };
    assert_eq!(runtime.block_on(timeout(LIMIT, other)).unwrap().unwrap(), 5);
}

#[test]
fn an_interval_is_handed_from_task_to_task_and_misses_nothing() {
    paused()
        .block_on(async {
            let begin = now();
            let mut every = interval(SECOND);
            every.tick().await;
            for n in 1..10 {
                // Each task gives up half way, and the next one goes on.
                assert!(timeout(SECOND / 2, every.tick()).await.is_err());
                every = spawn(async move {
                    assert_eq!(every.tick().await, begin + SECOND * n);
                    every
                })
                .await
                .unwrap();
            }
            assert_eq!(now(), begin + SECOND * 9);
        })
        .unwrap();
}

#[test]
fn intervals_of_many_tasks_tick_as_often_as_they_should() {
    let runtime = paused();
    let ticks = runtime.block_on(async {
        let mut set = JoinSet::new();
        for n in 1..=50_u32 {
            set.spawn(async move {
                let mut every = interval(Duration::from_millis(u64::from(n) * 7));
                let end = now() + Duration::from_secs(10);
                let mut ticks = 0;
                while every.tick().await < end {
                    ticks += 1;
                }
                (n, ticks)
            });
        }
        set.map(Result::unwrap).collect::<Vec<_>>().await
    });
    for (n, ticks) in ticks.unwrap() {
        assert_eq!(ticks, 10_000_u32.div_ceil(n * 7), "every {} ms", n * 7);
    }
    assert_eq!(runtime.stats().timers_set, 0);
}

// Many timers.

#[test]
fn a_thousand_timers_of_one_deadline_end_one_wait() {
    let runtime = Runtime::new().unwrap();
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(30);
    runtime.block_on(async { join_all((0..1000).map(|_| sleep_until(deadline))).await }).unwrap();
    assert!(Instant::now() >= deadline);
    let stats = runtime.stats();
    assert_eq!(stats.timers, 1000);
    // One for each level of the wheel on the way, and those the system's milliseconds cut short.
    assert!(stats.parks < 12, "{stats:?}");
}

#[test]
fn deadlines_a_little_apart_share_a_wait_when_they_are_rounded_to_a_grid() {
    const GRID: u128 = 20;
    let runtime = Runtime::new().unwrap();
    let begin = Instant::now();
    let grid = |after: u64| {
        let rounded = u128::from(after).div_ceil(GRID) * GRID;
        begin + Duration::from_millis(rounded as u64)
    };
    runtime.block_on(async { join_all((0..1000_u64).map(|n| sleep_until(grid(20 + n % 20)))).await }).unwrap();
    assert!(runtime.stats().parks < 20, "{:?}", runtime.stats());
}
