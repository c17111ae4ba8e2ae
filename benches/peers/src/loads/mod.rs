//! The loads: what is measured, once for all peers.
//!
//! A load does so many operations and counts them from its results. It is run in a process of its
//! own, on one thread unless it says otherwise: first a warm-up, then the operations that are
//! timed.

mod channels;
mod iterators;
mod sockets;
mod tasks;
mod threads;
mod timers;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::peer::Peer;
pub use iterators::{LINES, Ones, text};
pub use sockets::{MESSAGE, pair, raise_limit};
pub use tasks::{DEFERRED_WORK, FOREGROUND, work};
pub use timers::{RATE, late};

/// A kind of work, and the function that does it for one peer.
#[derive(Clone)]
pub struct Load {
    pub name: &'static str,
    /// One operation, and what surrounds it.
    pub about: &'static str,
    pub operations: u64,
    /// Operations before those that are timed.
    pub warm_up: u64,
    pub sizes: Sizes,
    pub metrics: &'static [Metric],
    /// How many cores the process may use.
    pub cores: usize,
    /// Whether instructions and system calls of an operation can be told from the difference
    /// between two runs.
    pub countable: bool,
    pub run: fn(Job) -> Outcome,
}

/// The sizes a load is run at: a row each. Of some the cost is plotted against the size.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub values: &'static [u64],
    /// The unit of a size, as a plural; empty if there is just one.
    pub of: &'static str,
    pub plotted: bool,
}

const ONE_SIZE: Sizes = Sizes { values: &[0], of: "", plotted: false };

/// Flat is the goal.
const fn growing(of: &'static str) -> Sizes {
    Sizes { values: &[1, 100, 10_000, 1_000_000], of, plotted: true }
}

const fn sizes(values: &'static [u64], of: &'static str) -> Sizes {
    Sizes { values, of, plotted: false }
}

/// A number that a load gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Bytes,
    Instructions,
    SystemCalls,
    /// The only one of which more is better.
    PerSecond,
}

impl Unit {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Bytes => "B",
            Self::Instructions => "instructions",
            Self::SystemCalls => "system calls",
            Self::PerSecond => "1/s",
        }
    }
}

/// CPU time of all threads: that of a load that never waits, without what other processes take.
pub const CPU: Metric = Metric { name: "CPU", unit: Unit::Nanoseconds };
/// From begin to end.
const WALL: Metric = Metric { name: "wall", unit: Unit::Nanoseconds };
const MEMORY: Metric = Metric { name: "memory", unit: Unit::Bytes };

impl Load {
    /// A load on one core that gives the CPU time of an operation, and a tenth more operations as
    /// warm-up.
    fn new(name: &'static str, about: &'static str, operations: u64, run: fn(Job) -> Outcome) -> Self {
        Self {
            name,
            about,
            operations,
            warm_up: operations / 10,
            sizes: ONE_SIZE,
            metrics: &[CPU],
            cores: 1,
            countable: true,
            run,
        }
    }

    fn sizes(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    fn metrics(self, metrics: &'static [Metric]) -> Self {
        Self { metrics, ..self }
    }

    fn cores(self, cores: usize) -> Self {
        Self { cores, ..self }
    }

    /// Threads that race do not ask the system for the same things twice.
    fn uncounted(self) -> Self {
        Self { countable: false, ..self }
    }

    /// What is not a repetition of one operation: no warm-up, nothing to count.
    fn once(self) -> Self {
        Self { warm_up: 0, countable: false, ..self }
    }
}

/// All loads, as one peer does them.
pub fn all<P: Peer>() -> Vec<Load> {
    [
        tasks::loads::<P>(),
        channels::loads::<P>(),
        timers::loads::<P>(),
        threads::loads::<P>(),
        sockets::loads::<P>(),
        iterators::loads::<P>(),
    ]
    .concat()
}

/// What one process is to do.
#[derive(Clone, Copy)]
pub struct Job {
    pub operations: u64,
    pub warm_up: u64,
    /// 0 if the load has just one.
    pub size: u64,
}

/// What it did.
pub struct Outcome {
    /// Operations, counted from their results.
    pub count: u64,
    /// A value for each metric of the load.
    pub values: Vec<f64>,
}

impl Job {
    /// Does some work twice, as warm-up and timed. The work is told how many operations to do, and
    /// returns how many it has done.
    pub async fn time(self, work: impl AsyncFn(u64) -> u64) -> Outcome {
        let warm = work(self.warm_up).await;
        assert!(warm >= self.warm_up, "{warm} operations of {} in the warm-up", self.warm_up);
        let meter = Meter::start();
        let count = work(self.operations).await;
        meter.stop(count)
    }

    /// The same without a runtime.
    pub fn time_plain(self, mut work: impl FnMut(u64) -> u64) -> Outcome {
        let warm = work(self.warm_up);
        assert!(warm >= self.warm_up, "{warm} operations of {} in the warm-up", self.warm_up);
        let meter = Meter::start();
        let count = work(self.operations);
        meter.stop(count)
    }
}

/// CPU time and wall time.
pub struct Meter {
    began: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_time() }
    }

    /// Per operation: [`CPU`] and [`WALL`].
    pub fn stop(self, count: u64) -> Outcome {
        let wall = self.began.elapsed();
        let cpu = cpu_time() - self.cpu;
        let per = |time: Duration| time.as_nanos() as f64 / count as f64;
        Outcome { count, values: vec![per(cpu), per(wall)] }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of this process that are resident.
pub fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.expect("/proc/self/statm has a second number") as f64 * rustix::param::page_size() as f64
}

/// The value below which 99 of a hundred are.
pub fn p99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 99 / 100]
}

/// Waits until so many tasks have ended, at the cost of a counter: the last one wakes.
#[derive(Clone)]
struct Countdown(Rc<(Cell<u64>, RefCell<Option<Waker>>)>);

impl Countdown {
    fn new(from: u64) -> Self {
        Self(Rc::new((Cell::new(from), RefCell::new(None))))
    }

    fn tick(&self) {
        let (left, waker) = &*self.0;
        left.set(left.get() - 1);
        if left.get() == 0
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    async fn ended(&self) {
        let (left, waker) = &*self.0;
        poll_fn(|cx| {
            if left.get() == 0 {
                return Poll::Ready(());
            }
            waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
