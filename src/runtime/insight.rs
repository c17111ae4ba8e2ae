//! What can be seen of the loop at work: five events, each reported from one place.
//!
//! The loop calls a method here when a task was spawned, when one was woken, before and after each poll, and when it parks. That keeps
//! counting and timing out of its text. Today they feed [`Stats`] and the report of slow polls.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::task::table::Described;

/// Counts since a runtime was made: see [`Runtime::stats`](crate::Runtime::stats).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = postlude::Runtime::new()?;
/// runtime.block_on(postlude::task::yield_now())?;
/// assert_eq!(runtime.stats().polls, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop begun.
    pub turns: u64,
    /// Polls of tasks, `block_on`'s future among them.
    pub polls: u64,
    /// Tasks spawned, deferred ones among them.
    pub spawned: u64,
    /// Times a waiting task became ready.
    pub wakes: u64,
    /// Messages taken from the inbox: wakes, spawns and drops from elsewhere.
    pub messages: u64,
    /// System calls made to wake the loop out of its sleep.
    pub wake_calls: u64,
    /// Times the operating system was asked for events.
    pub parks: u64,
    /// Events it gave.
    pub events: u64,
    /// Timers that fired.
    pub timers: u64,
    /// Panics of detached tasks that were reported.
    pub panics: u64,
    /// Tasks alive now.
    pub tasks: usize,
    /// Timers set now.
    pub timers_set: usize,
    /// Sockets and other sources registered now.
    pub sources: usize,
}

/// The counters behind [`Stats`]: one cell each, so that counting is one addition.
#[derive(Default)]
pub(crate) struct Insight {
    pub(crate) turns: Count,
    pub(crate) polls: Count,
    pub(crate) spawned: Count,
    pub(crate) wakes: Count,
    pub(crate) messages: Count,
    pub(crate) parks: Count,
    pub(crate) events: Count,
    pub(crate) timers: Count,
    pub(crate) panics: Count,
    slow_poll: Option<Duration>,
    poll_began: Cell<Option<Instant>>,
}

#[derive(Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Insight {
    pub(crate) fn new(slow_poll: Option<Duration>) -> Self {
        Self { slow_poll, ..Self::default() }
    }

    pub(crate) fn spawned(&self) {
        self.spawned.add(1);
    }

    pub(crate) fn woken(&self) {
        self.wakes.add(1);
    }

    pub(crate) fn poll_begins(&self) {
        self.polls.add(1);
        if self.slow_poll.is_some() {
            self.poll_began.set(Some(Instant::now()));
        }
    }

    /// Reports a poll that took too long. `task` is only asked for then.
    pub(crate) fn poll_ends(&self, task: impl FnOnce() -> Option<Described>) {
        let Some(limit) = self.slow_poll else { return };
        if let Some(began) = self.poll_began.take() {
            let took = began.elapsed();
            if took > limit {
                Self::report_slow(task(), took, limit);
            }
        }
    }

    #[cold]
    fn report_slow(task: Option<Described>, took: Duration, limit: Duration) {
        let task = task.map_or_else(|| "a finished task".to_owned(), |task| task.to_string());
        eprintln!(
            "postlude: a poll of {task} took {took:?} (limit {limit:?}) and nothing else ran meanwhile; \
             move such work to `spawn_blocking`"
        );
    }

    pub(crate) fn parked(&self, events: usize) {
        self.parks.add(1);
        self.events.add(events as u64);
    }
}
