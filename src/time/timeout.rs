//! A time limit on a future: [`timeout`].
//!
//! The future is polled first. If it is ready, it touches no timer and wins even past its deadline.
//! Without budget a future returns `Pending` although it may be ready, so it is not polled then. If
//! it has used up the whole budget, its timeout is put off by a turn. That happens only once, or a
//! future that uses up every turn's budget would have no limit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::sleep::{Sleep, sleep, sleep_until};
use crate::executor::budget;

/// Runs a future for at most `limit`.
///
/// A future that is ready wins even when the time is over. A limit of zero polls it once, and once
/// more if it used up the task's [budget](crate::task::has_budget). A limit of 30 years or more
/// never ends.
///
/// # Errors
///
/// [`Elapsed`] if the time is over first.
///
/// # Cancel safety
///
/// Dropping it drops the future, whose own cancel safety applies. So does the end of the time.
///
/// # Panics
///
/// As [`sleep`](super::sleep), if the future is not ready at the first poll.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use postlude::time::timeout;
/// postlude::run(async {
///     assert_eq!(timeout(Duration::from_secs(5), async { 1 }).await, Ok(1));
///     assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
/// })
/// # }
/// ```
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(limit), put_off: false }
}

/// Runs a future until `deadline` at most. Otherwise like [`timeout`], with the same errors, cancel
/// safety and panics.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline), put_off: false }
}

pin_project! {
    /// The future of [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
        // Whether the timeout was put off once for lack of budget.
        put_off: bool,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Check the deadline even without budget: a busy sibling future in the same task could
        // postpone it forever.
        if budget::poll_available(cx).is_ready() {
            let before = budget::left();
            if let Poll::Ready(output) = this.future.poll(cx) {
                budget::spend_unless_spent(before);
                return Poll::Ready(Ok(output));
            }
        }
        let has_had_its_turn = budget::has_budget();
        ready!(this.sleep.poll_deadline(cx));
        if !has_had_its_turn && !std::mem::replace(this.put_off, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(Elapsed))
    }
}

/// The error of [`timeout`]: the time was over before the future was ready. It converts to an
/// `io::Error` of kind `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}
