//! One deadline: [`Sleep`], an entry in the wheel while a task waits for it.
//!
//! The deadline is fixed when the sleep is made. The first poll that finds it in the future sets a
//! timer in the wheel. The wheel removes a timer when it fires, so a sleep whose key is stale is
//! over, without a look at the clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::now;
use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::event_loop::misuse::Misuse;
use crate::executor::budget;
use crate::timer::clock::deadline_after;
use crate::timer::wheel::TimerKey;

/// Waits for `duration`, never less.
///
/// The time counts from this call, not from the first poll. A zero duration is ready at the first
/// poll. A duration of 30 years or more never ends. The resolution is about a millisecond: see
/// docs/contract.md.
///
/// # Cancel safety
///
/// Dropping it removes its timer and loses nothing: the deadline is a point in time.
///
/// # Panics
///
/// When polled outside a runtime: "`sleep` was polled on thread …, which runs no runtime; do it
/// inside `postlude::run` or `Runtime::block_on`, …". When polled inside another runtime than the
/// one that polled it first: "…, which runs another runtime; …".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// postlude::run(postlude::time::sleep(Duration::from_millis(1)))
/// # }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(deadline_after(now(), duration))
}

/// Waits until `deadline`; ready at the first poll if that has passed. Otherwise like [`sleep`],
/// with the same cancel safety and panics.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// The future of [`sleep`] and [`sleep_until`]. It can be reset and polled again any number of
/// times.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::time;
/// postlude::run(async {
///     let mut sleep = time::sleep(Duration::MAX);
///     sleep.reset(time::now() + Duration::from_millis(1));
///     sleep.await;
/// })
/// # }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    /// The timer in the wheel of a runtime, once a poll has set one.
    timer: Option<(Home, TimerKey)>,
}

impl Sleep {
    /// The deadline.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        now() >= self.deadline
    }

    /// Changes the deadline. A task that waits for this future must poll it again, as awaiting
    /// does.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = deadline;
    }

    /// Removes the timer from the wheel, also from another thread.
    fn cancel(&mut self) {
        let Some((home, key)) = self.timer.take() else { return };
        match context::current_of(home) {
            Some(parts) => {
                let waker = parts.wheel.borrow_mut().cancel(key);
                drop(waker);
            }
            None => home.send(Message::CancelTimer(key)),
        }
    }

    /// Polls without a check of the budget: a time limit must also end a future that uses it all
    /// up.
    #[track_caller]
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((home, key)) = self.timer else { return self.set_timer(cx) };
        let Some(parts) = context::current_of(home) else { panic!("{}", Misuse::elsewhere("`sleep` was polled")) };
        let is_known = parts.wheel.borrow().waker(key).map(|waker| waker.will_wake(cx.waker()));
        let Some(is_known) = is_known else {
            self.timer = None;
            budget::spend();
            return Poll::Ready(());
        };
        if !is_known {
            let waker = cx.waker().clone();
            let before = parts.wheel.borrow_mut().replace_waker(key, waker);
            drop(before);
        }
        Poll::Pending
    }

    fn set_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`sleep` was polled")) };
        if parts.clock.now() >= self.deadline {
            budget::spend();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let key = parts.wheel.borrow_mut().insert(parts.clock.tick_of(self.deadline), waker);
        self.timer = Some((parts.home, key));
        Poll::Pending
    }
}

impl Future for Sleep {
    type Output = ();

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(budget::poll_available(cx));
        self.poll_deadline(cx)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
