//! Timers: setting and cancelling, firing, and what a pending one occupies.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{CPU, Countdown, Job, Load, MEMORY, Meter, Metric, Outcome, Unit, growing, p99, resident};
use crate::peer::Peer;

const LIMIT: Duration = Duration::from_secs(10);
/// Longer than any measurement.
const LONG: Duration = Duration::from_secs(3600);

/// Sleeps that end per second in the load `timer_fire`.
pub const RATE: u32 = 10_000;
const SLEEPERS: u32 = 100;

pub fn loads<P: Peer>() -> Vec<Load> {
    vec![
        Load::new(
            "timeout",
            "a time limit is set in a task and cancelled, beside pending sleeps",
            200_000,
            timeout::<P>,
        )
        .sizes(growing("pending timers")),
        Load::new("timer_fire", "a sleep that ends, 100 tasks with 10 000 sleeps a second", 3000, fire::<P>)
            .metrics(&[CPU, Metric { name: "lateness p99", unit: Unit::Nanoseconds }])
            .once(),
        Load::new("sleep_memory", "resident bytes of a task that sleeps", 100_000, memory::<P>)
            .metrics(&[MEMORY])
            .once(),
    ]
}

fn timeout<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        sleepers::<P>(job.size).await;
        let outcome = job.time(async |operations| {
            let mut set = 0;
            for _ in 0..operations {
                let mut limited = pin!(P::timeout(LIMIT, pending::<()>()));
                set += poll_fn(|cx| Poll::Ready(u64::from(limited.as_mut().poll(cx).is_pending()))).await;
            }
            set
        });
        outcome.await
    })
}

/// Starts tasks that sleep, and waits until all of them do.
async fn sleepers<P: Peer>(count: u64) {
    let begun = Countdown::new(count);
    for _ in 0..count {
        let begun = begun.clone();
        P::detach(async move {
            begun.tick();
            P::sleep(LONG).await;
        });
    }
    begun.ended().await;
}

/// How late it is after a deadline, in nanoseconds.
pub fn late(deadline: Instant) -> f64 {
    Instant::now().saturating_duration_since(deadline).as_nanos() as f64
}

fn fire<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let lateness = Rc::new(RefCell::new(Vec::with_capacity(job.operations as usize)));
        let ended = Countdown::new(SLEEPERS.into());
        let meter = Meter::start();
        let began = Instant::now() + Duration::from_millis(5);
        for number in 0..SLEEPERS {
            let (lateness, ended) = (Rc::clone(&lateness), ended.clone());
            let mut deadline = began + Duration::from_secs(1) * number / RATE;
            P::detach(async move {
                for _ in 0..job.operations / u64::from(SLEEPERS) {
                    P::sleep(deadline.saturating_duration_since(Instant::now())).await;
                    lateness.borrow_mut().push(late(deadline));
                    deadline += Duration::from_secs(1) * SLEEPERS / RATE;
                }
                ended.tick();
            });
        }
        ended.ended().await;
        let mut outcome = meter.stop(lateness.borrow().len() as u64);
        outcome.values = vec![outcome.values[0], p99(lateness.take())];
        outcome
    })
}

fn memory<P: Peer>(job: Job) -> Outcome {
    P::run(async move {
        let before = resident();
        sleepers::<P>(job.operations).await;
        Outcome { count: job.operations, values: vec![(resident() - before) / job.operations as f64] }
    })
}
