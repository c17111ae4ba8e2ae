//! One deadline: [`Sleep`], a slot in the wheel while a task waits for it.
//!
//! The deadline is fixed when the sleep is made. The first poll that finds it in the future puts it
//! in the wheel. The wheel drops an entry when it fires, so a sleep with a stale key is over, and
//! needs no clock to know it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::now;
use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::Parts;
use crate::executor::budget;
use crate::timer::clock::deadline_after;
use crate::timer::wheel::TimerKey;

/// Waits for `duration`, never less.
///
/// The time counts from this call, not from the first poll. Zero is ready at once. A duration
/// beyond 30 years never ends. The resolution is about a millisecond: see docs/contract.md.
///
/// # Cancel safety
///
/// Dropping it frees its slot in the wheel and loses nothing: the deadline is a point in time.
///
/// # Panics
///
/// When polled where no runtime is current, or another one than polled it first.
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

/// Waits until `deadline`; ready at once if that has passed.
///
/// # Cancel safety
///
/// As [`sleep`].
///
/// # Panics
///
/// As [`sleep`].
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
    /// The entry in the wheel, once there was one.
    timer: Option<Timer>,
}

#[derive(Clone, Copy)]
struct Timer {
    home: Home,
    key: TimerKey,
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

    /// Sets another deadline. A task that waits for it must poll it again, as awaiting does.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = deadline;
    }

    /// Takes the entry out of the wheel, wherever this is called.
    fn cancel(&mut self) {
        let Some(Timer { home, key }) = self.timer.take() else { return };
        match context::current_of(home) {
            Some(parts) => {
                let waker = parts.wheel.borrow_mut().cancel(key);
                drop(waker);
            }
            None => home.send(Message::CancelTimer(key)),
        }
    }

    /// The poll without the question for budget: a time limit must end even what uses all of it up.
    #[track_caller]
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.timer {
            None => self.poll_unset(cx),
            Some(Timer { home, key }) => match context::current_of(home) {
                Some(parts) => self.poll_set(&parts, key, cx),
                None => panic!("{}", Misuse::elsewhere("`sleep` was polled")),
            },
        }
    }

    fn poll_set(&mut self, parts: &Parts, key: TimerKey, cx: &mut Context<'_>) -> Poll<()> {
        let armed = parts.wheel.borrow().waker(key).map(|waker| waker.will_wake(cx.waker()));
        match armed {
            None => {
                self.timer = None;
                budget::spend();
                Poll::Ready(())
            }
            Some(true) => Poll::Pending,
            Some(false) => {
                let waker = cx.waker().clone();
                let before = parts.wheel.borrow_mut().replace_waker(key, waker);
                drop(before);
                Poll::Pending
            }
        }
    }

    fn poll_unset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`sleep` was polled")) };
        if parts.clock.now() >= self.deadline {
            budget::spend();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let key = parts.wheel.borrow_mut().insert(parts.clock.tick_of(self.deadline), waker);
        self.timer = Some(Timer { home: parts.home, key });
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
