//! Other threads: a wake from one, and blocking work on some.

use std::cell::Cell;
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

use futures::task::AtomicWaker;

use super::{CPU, Countdown, Job, Load, Outcome, WALL};
use crate::peer::Peer;

/// Blocking jobs that are awaited at the same time.
const IN_FLIGHT: u64 = 64;

pub fn loads<P: Peer>() -> Vec<Load> {
    let blocking = "a job for the blocking pool and its result, 64 in flight";
    vec![
        Load::new("wake_remote", "another thread is unparked and wakes the task, two cores", 10_000, wake::<P>)
            .metrics(&[CPU, WALL])
            .cores(2)
            .uncounted(),
        Load::new("blocking_one_core", blocking, 20_000, jobs::<P>).metrics(&[CPU, WALL]).uncounted(),
        Load::new("blocking_two_cores", blocking, 20_000, jobs::<P>).metrics(&[CPU, WALL]).cores(2).uncounted(),
    ]
}

const STOP: u64 = u64::MAX;

/// The other thread answers a number by the same one.
#[derive(Default)]
struct Line {
    asked: AtomicU64,
    answered: AtomicU64,
    waker: AtomicWaker,
}

impl Line {
    fn answer(&self) {
        let mut last = 0;
        loop {
            match self.asked.load(SeqCst) {
                STOP => return,
                asked if asked == last => thread::park(),
                asked => {
                    last = asked;
                    self.answered.store(asked, SeqCst);
                    self.waker.wake();
                }
            }
        }
    }
}

fn wake<P: Peer>(job: Job) -> Outcome {
    let line = Arc::new(Line::default());
    let other = thread::spawn({
        let line = Arc::clone(&line);
        move || line.answer()
    });
    let thread = other.thread().clone();
    let stop = Arc::clone(&line);
    let outcome = P::run(job.time(async move |operations| {
        let before = line.answered.load(SeqCst);
        for number in before + 1..=before + operations {
            line.asked.store(number, SeqCst);
            thread.unpark();
            poll_fn(|cx| {
                line.waker.register(cx.waker());
                if line.answered.load(SeqCst) == number { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        line.answered.load(SeqCst) - before
    }));
    stop.asked.store(STOP, SeqCst);
    other.thread().unpark();
    other.join().expect("the other thread does not panic");
    outcome
}

fn jobs<P: Peer>(job: Job) -> Outcome {
    P::run(job.time(async |operations| {
        let done = Rc::new(Cell::new(0));
        let ended = Countdown::new(IN_FLIGHT);
        for number in 0..IN_FLIGHT {
            let (done, ended) = (Rc::clone(&done), ended.clone());
            P::detach(async move {
                let share = operations / IN_FLIGHT + u64::from(number < operations % IN_FLIGHT);
                for _ in 0..share {
                    let one = P::spawn_blocking(|| black_box(1)).await;
                    done.set(done.get() + one);
                }
                ended.tick();
            });
        }
        ended.ended().await;
        done.get()
    }))
}
