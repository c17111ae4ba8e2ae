//! The deferred class's share of a turn.
//!
//! While no foreground task is ready, deferred tasks have the loop to themselves. Only the clock
//! then ends their phase, so that an event in the kernel does not wait long. Once a foreground task
//! is ready, the phase ends after a *share* of polls, or when it has taken as long as phase 1.
//!
//! The share follows demand: it doubles when a phase leaves ready tasks over and halves when it
//! leaves none. docs/design.md says why no fixed share will do.
//!
//! With `seed` or `paused_clock` the phase reads no clock and counts alone decide, so that a seed
//! replays.

use std::time::{Duration, Instant};

/// The limit of the phase: too short for a client to notice, long beside the cost of a turn.
const LONGEST_PHASE: Duration = Duration::from_millis(1);
/// The most polls between two reads of the clock, so that cheap polls share the cost of a read.
const POLLS_PER_LOOK: u32 = 16;

/// Polls the deferred class gets in a turn beside ready foreground tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    pub(crate) const fn new() -> Self {
        Self(1)
    }

    /// Begins a phase. `foreground` is the start of phase 1, if known; `now` is `None` without a
    /// clock.
    pub(crate) fn begin(self, foreground: Option<Instant>, now: Option<Instant>) -> Phase {
        let took = foreground.zip(now).map(|(began, now)| now.saturating_duration_since(began));
        Phase { share: self.0, polls: 0, next_look: 1, began: now, beside_foreground: took.unwrap_or(LONGEST_PHASE) }
    }

    /// Adapts the share at the end of a phase; `left_over` says whether ready tasks remain.
    pub(crate) fn adapt(&mut self, left_over: bool) {
        self.0 = if left_over { self.0.saturating_mul(2) } else { (self.0 / 2).max(1) };
    }
}

/// A deferred phase in progress.
pub(crate) struct Phase {
    share: u32,
    polls: u32,
    /// The poll after which the clock is read next.
    next_look: u32,
    /// `None` without a clock.
    began: Option<Instant>,
    /// The limit once a foreground task is ready: the duration of phase 1.
    beside_foreground: Duration,
}

impl Phase {
    /// Counts a poll. True if it was the last of the phase.
    pub(crate) fn is_over(&mut self, foreground_is_ready: bool) -> bool {
        self.polls += 1;
        if foreground_is_ready && self.polls >= self.share {
            return true;
        }
        self.polls >= self.next_look && self.time_is_over(foreground_is_ready)
    }

    fn time_is_over(&mut self, foreground_is_ready: bool) -> bool {
        // Read after one poll, two, four and so on: slow polls overrun the limit at most twofold.
        self.next_look = self.polls + self.polls.min(POLLS_PER_LOOK);
        let limit = if foreground_is_ready { self.beside_foreground.min(LONGEST_PHASE) } else { LONGEST_PHASE };
        self.began.is_some_and(|began| began.elapsed() >= limit)
    }
}
