//! Tasks: starting, yielding, joining, waiting, and what a waiting one occupies.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::hint::black_box;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{CPU, Countdown, Job, Load, MEMORY, Meter, Metric, Outcome, Unit, growing, p99, resident};
use crate::peer::Peer;

pub fn loads<P: Peer>() -> Vec<Load> {
    vec![
        Load::new("spawn_join", "a task is spawned and its output awaited, in batches", 200_000, spawn_join::<P>)
            .sizes(growing("tasks at a time")),
        Load::new("spawn_detached", "a task is spawned and runs, 100 000 at a time", 200_000, spawn_detached::<P>),
        Load::new("yield", "a task gives way to the others once", 500_000, yields::<P>).sizes(growing("ready tasks")),
        Load::new(
            "task_memory",
            "resident bytes of a task that waits, with a future of 88 bytes",
            100_000,
            memory::<P>,
        )
        .metrics(&[MEMORY])
        .once(),
        Load::new("race2", "a race of two futures that are ready, u64 output", 500_000, race2::<P>),
        Load::new("race8", "a race of eight futures that are ready, u64 output", 500_000, race8::<P>),
        Load::new("join_vec", "a branch of a join of 300, one of which ends in each turn", 30_000, join_vec::<P>),
        Load::new("scope", "a child that borrows, 100 in a scope; each yields once", 50_000, scope::<P>),
        Load::new(
            "defer",
            "a deferred task of about a microsecond, 10 000 of them beside 64 tasks that always yield",
            10_000,
            deferred::<P>,
        )
        .metrics(&[CPU, Metric { name: "p99 of a foreground task's wait", unit: Unit::Nanoseconds }])
        .once(),
    ]
}

fn spawn_join<P: Peer>(job: Job) -> Outcome {
    let operations = job.operations.max(job.size);
    P::run(Job { operations, ..job }.time(async move |operations| {
        let mut handles = Vec::with_capacity(job.size as usize);
        let mut joined = 0;
        while joined < operations {
            let batch = job.size.min(operations - joined);
            handles.extend((0..batch).map(|n| P::spawn(async move { black_box(n) })));
            let mut sum = 0;
            for handle in handles.drain(..) {
                sum += handle.await;
                joined += 1;
            }
            assert_eq!(sum, batch * (batch - 1) / 2, "each task's output is its number");
        }
        joined
    }))
}

fn spawn_detached<P: Peer>(job: Job) -> Outcome {
    const BATCH: u64 = 100_000;
    P::run(job.time(async |operations| {
        let ran = Rc::new(Cell::new(0));
        while ran.get() < operations {
            let batch = BATCH.min(operations - ran.get());
            let countdown = Countdown::new(batch);
            for _ in 0..batch {
                let (ran, countdown) = (Rc::clone(&ran), countdown.clone());
                P::detach(async move {
                    ran.set(ran.get() + 1);
                    countdown.tick();
                });
            }
            countdown.ended().await;
        }
        ran.get()
    }))
}

/// The main task yields beside `size - 1` others, which never end.
fn yields<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let yielded = Rc::new(Cell::new(0_u64));
        let stop = Rc::new(Cell::new(false));
        let others = Countdown::new(job.size - 1);
        for _ in 1..job.size {
            let (yielded, stop, others) = (Rc::clone(&yielded), Rc::clone(&stop), others.clone());
            P::detach(async move {
                while !stop.get() {
                    P::yield_now().await;
                    yielded.set(yielded.get() + 1);
                }
                others.tick();
            });
        }
        let outcome = job.time(async |operations| {
            let before = yielded.get();
            while yielded.get() - before < operations {
                P::yield_now().await;
                yielded.set(yielded.get() + 1);
            }
            yielded.get() - before
        });
        let outcome = outcome.await;
        stop.set(true);
        others.ended().await;
        outcome
    })
}

/// A future of 88 bytes that never ends, and counts its first poll. It keeps its waker, as one that
/// waits for something does: monoio drops a task that nothing can wake.
struct Parked {
    content: [u64; 8],
    waker: Option<Waker>,
    polled: Option<Countdown>,
}

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        black_box(&self.content);
        self.waker = Some(cx.waker().clone());
        if let Some(polled) = self.polled.take() {
            polled.tick();
        }
        Poll::Pending
    }
}

const _: () = assert!(size_of::<Parked>() == 88);

fn memory<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let before = resident();
        let polled = Countdown::new(job.operations);
        for n in 0..job.operations {
            P::detach(Parked { content: [n; 8], waker: None, polled: Some(polled.clone()) });
        }
        polled.ended().await;
        Outcome { count: job.operations, values: vec![(resident() - before) / job.operations as f64] }
    })
}

fn race2<P: Peer>(job: Job) -> Outcome {
    P::run(job.time(async |operations| {
        let mut won = 0;
        for _ in 0..operations {
            won += P::race2(ready(black_box(1)), ready(black_box(1))).await;
        }
        won
    }))
}

fn race8<P: Peer>(job: Job) -> Outcome {
    P::run(job.time(async |operations| {
        let mut won = 0;
        for _ in 0..operations {
            won += P::race8(black_box([1; 8]).map(ready)).await;
        }
        won
    }))
}

/// Where the branches of a join wait for their turns.
struct Board {
    turn: Cell<u64>,
    wakers: RefCell<Vec<Option<Waker>>>,
}

fn join_vec<P: Peer>(job: Job) -> Outcome {
    const BRANCHES: u64 = 300;
    P::run(job.time(async |operations| {
        let mut ended = 0;
        while ended < operations {
            let board = Rc::new(Board { turn: Cell::new(0), wakers: RefCell::new(vec![None; BRANCHES as usize]) });
            let branches = (0..BRANCHES).map(|number| {
                let board = Rc::clone(&board);
                std::future::poll_fn(move |cx| {
                    if board.turn.get() > number {
                        return Poll::Ready(1);
                    }
                    board.wakers.borrow_mut()[number as usize] = Some(cx.waker().clone());
                    Poll::Pending
                })
            });
            let branches: Vec<_> = branches.collect();
            let turns = Rc::clone(&board);
            P::detach(async move {
                for number in 0..BRANCHES {
                    turns.turn.set(number + 1);
                    let waker = turns.wakers.borrow_mut()[number as usize].take();
                    waker.expect("the branch waits").wake();
                    P::yield_now().await;
                }
            });
            ended += P::join(branches).await.iter().sum::<u64>();
        }
        ended
    }))
}

fn scope<P: Peer>(job: Job) -> Outcome {
    const CHILDREN: u64 = 100;
    P::run(job.time(async |operations| {
        let ran = Cell::new(0);
        while ran.get() < operations {
            P::scope(CHILDREN, &ran).await;
        }
        assert_eq!(ran.get() % CHILDREN, 0, "a scope ends with its last child");
        ran.get()
    }))
}

pub const FOREGROUND: u64 = 64;

/// Additions that take about a microsecond.
pub const DEFERRED_WORK: u64 = 1000;

pub fn work(additions: u64) -> u64 {
    (0..additions).fold(0, |sum, n| black_box(sum + n))
}

fn deferred<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let stop = Rc::new(Cell::new(false));
        let waits = Rc::new(RefCell::new(Vec::new()));
        let others = Countdown::new(FOREGROUND);
        for number in 0..FOREGROUND {
            let (stop, waits, others) = (Rc::clone(&stop), Rc::clone(&waits), others.clone());
            P::detach(async move {
                let mut last = Instant::now();
                while !stop.get() {
                    P::yield_now().await;
                    // One of them looks at the clock.
                    if number == 0 {
                        let now = Instant::now();
                        waits.borrow_mut().push((now - last).as_nanos() as f64);
                        last = now;
                    }
                }
                others.tick();
            });
        }
        let meter = Meter::start();
        let (ran, left) = (Rc::new(Cell::new(0)), Countdown::new(job.operations));
        for _ in 0..job.operations {
            let (ran, left) = (Rc::clone(&ran), left.clone());
            P::defer(async move {
                black_box(work(DEFERRED_WORK));
                ran.set(ran.get() + 1);
                left.tick();
            });
        }
        left.ended().await;
        let mut outcome = meter.stop(ran.get());
        stop.set(true);
        others.ended().await;
        outcome.values = vec![outcome.values[0], p99(waits.take())];
        outcome
    })
}
