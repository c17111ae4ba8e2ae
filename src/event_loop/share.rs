//! How much of a turn the deferred class gets.
//!
//! While no foreground task is ready, the deferred tasks have the loop to themselves, and only the clock ends their phase, so that
//! an event in the kernel is not left waiting. Once a foreground task is ready, the phase ends after a *share* of polls, or when
//! it has taken as long as the foreground phase before it. The share follows demand: it doubles when a phase leaves tasks over and halves
//! when none is left. A fixed share cannot do: one poll a turn lets 64 busy connections pile up tasks faster than they run,
//! and a large one would make a single client wait for work nobody is in a hurry for.
//!
//! Where a seed must replay (`seed`, `paused_clock`) there is no clock here, and the counts alone decide.

use std::time::{Duration, Instant};

/// How long the phase may last. A client feels no millisecond, and beside it what a turn costs disappears.
const LONGEST_PHASE: Duration = Duration::from_millis(1);
/// Polls between two looks at the clock, at most, so that cheap polls share the cost of a look.
const POLLS_PER_LOOK: u32 = 16;

/// Polls the deferred class gets in a turn beside ready foreground tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    pub(crate) const fn new() -> Self {
        Self(1)
    }

    /// Begins a phase. `foreground` is when phase 1 began, if that is known, and `now` the time, if there is a clock.
    pub(crate) fn begin(self, foreground: Option<Instant>, now: Option<Instant>) -> Phase {
        let took = foreground.zip(now).map(|(began, now)| now.saturating_duration_since(began));
        Phase { share: self.0, polls: 0, next_look: 1, began: now, beside_foreground: took.unwrap_or(LONGEST_PHASE) }
    }

    /// Ends a phase that left tasks over, or none.
    pub(crate) fn adapt(&mut self, left_over: bool) {
        self.0 = if left_over { self.0.saturating_mul(2) } else { (self.0 / 2).max(1) };
    }
}

/// A deferred phase that is going on.
pub(crate) struct Phase {
    share: u32,
    polls: u32,
    /// The poll after which the clock is read next.
    next_look: u32,
    /// `None` without a clock.
    began: Option<Instant>,
    /// How long it may last once a foreground task is ready: as long as phase 1.
    beside_foreground: Duration,
}

impl Phase {
    /// Counts a poll. True if it was the phase's last.
    pub(crate) fn is_over(&mut self, foreground_is_ready: bool) -> bool {
        self.polls += 1;
        if foreground_is_ready && self.polls >= self.share {
            return true;
        }
        self.polls >= self.next_look && self.time_is_over(foreground_is_ready)
    }

    fn time_is_over(&mut self, foreground_is_ready: bool) -> bool {
        // After one poll, two, four and so on: a phase of slow polls lasts at most twice as long as it should.
        self.next_look = self.polls + self.polls.min(POLLS_PER_LOOK);
        let limit = if foreground_is_ready { self.beside_foreground.min(LONGEST_PHASE) } else { LONGEST_PHASE };
        self.began.is_some_and(|began| began.elapsed() >= limit)
    }
}
