//! Periodic ticks: [`interval`].
//!
//! An interval is one `Sleep`, reset after each tick. [`MissedTick`] decides the deadline after a
//! late tick.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::now;
use super::sleep::{Sleep, sleep_until};
use crate::timer::clock::deadline_after;

/// The schedule of an [`Interval`] after a late tick, taken a period or more after it was due.
///
/// With a period of 1 s, a tick due at 2 s that is taken at 5.3 s is followed by ticks due at:
///
/// | policy  | next ticks | |
/// |---------|------------|-|
/// | `Burst` | 3, 4, 5, 6 … | as many ticks as periods, at once until it has caught up |
/// | `Delay` | 6.3, 7.3 … | a whole period from the late tick on |
/// | `Skip`  | 6, 7 … | the next whole multiple: keeps the phase, drops the missed ticks |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTick {
    /// As many ticks as periods.
    #[default]
    Burst,
    /// A whole period from the late tick on.
    Delay,
    /// The next whole multiple of the period.
    Skip,
}

/// Ticks every `period`, for the first time now.
///
/// # Panics
///
/// If the period is zero: "the period of an interval is zero; to run without pause, use
/// `task::yield_now` in a loop". When polled, as [`sleep`](super::sleep).
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// Ticks every `period`, for the first time at `start`. Otherwise like [`interval`], with the same
/// panics.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "the period of an interval is zero; to run without pause, use `task::yield_now` in a loop"
    );
    Interval { period, missed: MissedTick::default(), sleep: sleep_until(start) }
}

/// Regular ticks: see [`interval`]. It is also a [`Stream`] of its ticks, which never ends.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::time::{MissedTick, interval};
/// postlude::run(async {
///     let mut every = interval(Duration::from_millis(1));
///     every.set_missed_tick(MissedTick::Skip);
///     let first = every.tick().await;
///     assert!(every.tick().await > first);
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    missed: MissedTick,
    /// Due at the next tick.
    sleep: Sleep,
}

impl Interval {
    /// Waits for the next tick, and returns the time it was due.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no tick.
    ///
    /// # Panics
    ///
    /// As [`sleep`](super::sleep).
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick, like [`tick`](Self::tick). The last waker wins.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let due = self.sleep.deadline();
        ready!(Pin::new(&mut self.sleep).poll(cx));
        self.sleep.reset(self.after(due));
        Poll::Ready(due)
    }

    fn after(&self, due: Instant) -> Instant {
        let next = deadline_after(due, self.period);
        let now = now();
        if now < next {
            // Less than a period late is not missed: even a prompt tick is taken a little after it
            // was due.
            return next;
        }
        match self.missed {
            MissedTick::Burst => next,
            MissedTick::Delay => deadline_after(now, self.period),
            MissedTick::Skip => {
                let late = now.saturating_duration_since(due).as_nanos() % self.period.as_nanos();
                let into_period = Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX));
                deadline_after(now, self.period - into_period)
            }
        }
    }

    /// Sets the schedule after a late tick. Default [`MissedTick::Burst`].
    pub fn set_missed_tick(&mut self, missed: MissedTick) {
        self.missed = missed;
    }

    /// The schedule after a late tick.
    #[must_use]
    pub fn missed_tick(&self) -> MissedTick {
        self.missed
    }

    /// The time between ticks.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Moves the next tick to a whole period from now.
    pub fn reset(&mut self) {
        self.sleep.reset(deadline_after(now(), self.period));
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedStream for Interval {
    fn is_terminated(&self) -> bool {
        false
    }
}
