//! A deadline on a future: [`timeout`].
//!
//! The future goes first, so one that is ready touches no timer; and one whose deadline has passed but that is ready is still ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::sleep::{Sleep, sleep, sleep_until};

/// Runs a future for at most `limit`.
///
/// When the time is over the future is not polled again; it is dropped with the returned future, so what it had not handed out by then
/// is as lost as its own documentation says. A limit beyond 30 years never ends.
///
/// # Errors
///
/// [`Elapsed`] if the time is over first.
///
/// # Panics
///
/// As [`sleep`](super::sleep), if the future is not ready at once.
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
    Timeout { future, sleep: sleep(limit) }
}

/// Runs a future until `deadline`: like [`timeout`].
///
/// # Errors
///
/// [`Elapsed`] if the deadline comes first.
///
/// # Panics
///
/// As [`timeout`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::time;
/// postlude::run(async {
///     assert!(time::timeout_at(time::now(), std::future::pending::<()>()).await.is_err());
/// })
/// # }
/// ```
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline) }
}

pin_project! {
    /// The future of [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll_deadline(cx).map(|()| Err(Elapsed { _private: () }))
    }
}

/// The time was over before the future was ready.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// postlude::run(async {
///     let late = postlude::time::timeout(Duration::ZERO, std::future::pending::<()>()).await;
///     assert_eq!(late.unwrap_err().to_string(), "the time limit has passed");
/// })
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    _private: (),
}

impl Elapsed {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }
}

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
