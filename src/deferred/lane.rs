//! Lanes: where jobs run, how many at once, how many may wait.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::info::{LaneStats, Status};
use crate::blocking::Pool;
use crate::event_loop::context;
use crate::sync::Semaphore;

/// The lane of futures that name none.
pub(super) const LOOP: &str = "loop";
/// The lane of blocking jobs that name none.
pub(super) const THREADS: &str = "threads";
/// Their numbers.
pub(super) const LOOP_LANE: u8 = 0;
pub(super) const THREADS_LANE: u8 = 1;
/// Threads of that lane, and of any thread lane that does not say.
const DEFAULT_THREADS: usize = 4;
/// How long a lane that is full may be still before that is reported.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Describes a lane: a kind of job with limits of its own.
///
/// A queue has two lanes from the start: `loop` for futures, without a limit of its own, and
/// `threads` for blocking jobs, with four threads. A lane of one of these names replaces it.
///
/// ```
/// use postlude::deferred::{Lane, Queue};
/// let queue = Queue::builder()
///     .lane(Lane::on_loop("email").at_once(8).waiting(1_000))
///     .lane(Lane::on_threads("thumbnails").at_once(2))
///     .build();
/// # drop(queue);
/// ```
#[derive(Clone, Debug)]
pub struct Lane {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    at_once: Option<usize>,
    waiting: Option<usize>,
    stalled_after: Duration,
}

/// Where a lane's jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Loop,
    Threads,
}

impl Kind {
    /// The call that adds to such a lane.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Loop => "run",
            Self::Threads => "run_blocking",
        }
    }
}

impl Lane {
    /// A lane of futures, which run on the loop. By default any number runs at once.
    #[must_use]
    pub fn on_loop(name: &'static str) -> Self {
        Self { name, kind: Kind::Loop, at_once: None, waiting: None, stalled_after: STALLED_AFTER }
    }

    /// A lane of blocking closures, which run on threads of their own. By default four run at once.
    #[must_use]
    pub fn on_threads(name: &'static str) -> Self {
        Self { kind: Kind::Threads, at_once: Some(DEFAULT_THREADS), ..Self::on_loop(name) }
    }

    /// Jobs of the lane that run at the same time, at least one. For a thread lane, its threads.
    #[must_use]
    pub fn at_once(mut self, jobs: usize) -> Self {
        self.at_once = Some(jobs.max(1));
        self
    }

    /// Jobs of the lane that may wait; more are refused as `Full(Limit::Lane)`. By default only the
    /// queue's own limit counts.
    #[must_use]
    pub fn waiting(mut self, jobs: usize) -> Self {
        self.waiting = Some(jobs);
        self
    }

    /// Reports the lane on stderr when jobs wait for it and none has begun or ended for this long.
    /// 30 seconds by default.
    #[must_use]
    pub fn stalled_after(mut self, limit: Duration) -> Self {
        self.stalled_after = limit;
        self
    }
}

/// A lane at work.
pub(super) struct LaneBooks {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Places to run in; `None` if any number may.
    places: Option<(Rc<Semaphore>, usize)>,
    max_waiting: usize,
    pub(super) stalled_after: Duration,
    pool: OnceCell<Pool>,
    stats: RefCell<LaneStats>,
    /// Counts what begins and ends.
    pub(super) moves: Cell<u64>,
    /// A task watches for the lane to stall.
    pub(super) watched: Cell<bool>,
}

impl LaneBooks {
    pub(super) fn new(lane: &Lane) -> Self {
        Self {
            name: lane.name,
            kind: lane.kind,
            places: lane.at_once.map(|jobs| (Rc::new(Semaphore::new(jobs)), jobs)),
            max_waiting: lane.waiting.unwrap_or(usize::MAX),
            stalled_after: lane.stalled_after,
            pool: OnceCell::new(),
            stats: RefCell::new(LaneStats { lane: lane.name, ..LaneStats::default() }),
            moves: Cell::new(0),
            watched: Cell::new(false),
        }
    }

    /// Whether any number of its jobs may run at once, on the loop.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.places.is_none()
    }

    pub(super) fn places(&self) -> Option<&Rc<Semaphore>> {
        self.places.as_ref().map(|(places, _)| places)
    }

    pub(super) fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| {
            let pool = Pool::new(self.places.as_ref().map_or(DEFAULT_THREADS, |(_, jobs)| *jobs));
            if let Some(parts) = context::current() {
                parts.other_pools.borrow_mut().push(pool.clone());
            }
            pool
        })
    }

    #[inline]
    pub(super) fn has_room_for(&self, more: usize) -> bool {
        self.max_waiting == usize::MAX
            || (self.stats.borrow().waiting as usize).saturating_add(more) <= self.max_waiting
    }

    #[inline]
    pub(super) fn accept(&self) {
        let mut stats = self.stats.borrow_mut();
        stats.accepted += 1;
        stats.waiting += 1;
    }

    /// A job begins a try, after so many microseconds.
    #[inline]
    pub(super) fn begin(&self, waited: u64, is_first: bool) {
        self.moves.set(self.moves.get() + 1);
        let mut stats = self.stats.borrow_mut();
        stats.waiting -= 1;
        stats.running += 1;
        if is_first {
            stats.wait.note(waited);
        }
    }

    /// A try has failed; the job waits for the next.
    pub(super) fn wait_again(&self) {
        self.moves.set(self.moves.get() + 1);
        let mut stats = self.stats.borrow_mut();
        stats.running -= 1;
        stats.waiting += 1;
    }

    /// A job is over; `ran` is for how many microseconds it ran, if it did.
    #[inline]
    pub(super) fn end(&self, before: Status, status: Status, ran: u64) {
        self.moves.set(self.moves.get() + 1);
        let mut stats = self.stats.borrow_mut();
        if before == Status::Running {
            stats.running -= 1;
            stats.run.note(ran);
        } else {
            stats.waiting -= 1;
        }
        let place = match status {
            Status::Done => &mut stats.done,
            Status::Failed => &mut stats.failed,
            Status::Skipped => &mut stats.skipped,
            Status::Cancelled => &mut stats.cancelled,
            _ => &mut stats.unfinished,
        };
        *place += 1;
    }

    pub(super) fn stats(&self) -> LaneStats {
        self.stats.borrow().clone()
    }

    /// Jobs that wait, and jobs that are not over.
    pub(super) fn load(&self) -> (u64, u64) {
        let stats = self.stats.borrow();
        (stats.waiting, stats.running)
    }
}
