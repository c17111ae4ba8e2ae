//! A connection's deadline: a field that moves, and a sleep that is re-armed only when it fires.
//!
//! Every request moves the deadline later, which touches no timer. The sleep then fires at the old
//! time, sees that the deadline is in the future, and sleeps again.
//!
//! Two rules set the deadline: [`head_deadline`] for heads, which are small, and [`RateLimit`] for
//! bodies and answers of any size. By both, a client that sends a byte just in time gains nothing
//! over one that sends none.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::time::{Sleep, now, sleep_until};

/// The time that closing a connection may take, and reading what a refused client still sends.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// The bytes that are read from a refused client: what may be on its way when the answer goes out.
/// A client that sends more is not read any further, and has the rest of `LINGER` to take its
/// answer.
pub(super) const LINGER_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct ConnectionTimer {
    /// Unset while the connection waits for nothing.
    deadline: Option<Instant>,
    /// Created when the connection first waits for a deadline.
    sleep: Option<Sleep>,
}

impl ConnectionTimer {
    /// Sets the deadline to `limit` from now, or to none if that is beyond the range of `Instant`.
    pub(super) fn set(&mut self, limit: Duration) {
        self.set_at(now().checked_add(limit));
    }

    pub(super) fn set_at(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    pub(super) fn clear(&mut self) {
        self.deadline = None;
    }

    /// Returns whether the deadline has passed; if not, it will wake the task.
    pub(super) fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(deadline));
        if sleep.deadline() > deadline {
            sleep.reset(deadline);
        }
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if now() >= deadline {
                return true;
            }
            sleep.reset(deadline);
        }
        false
    }
}

/// Returns the time that `bytes` take at `rate` bytes per second: endless at rate 0.
fn time_for(bytes: u64, rate: u32) -> Duration {
    Duration::try_from_secs_f64(bytes as f64 / f64::from(rate)).unwrap_or(Duration::MAX)
}

/// Returns when a head must be complete that began at `since` and has `bytes` so far: after `grace`
/// it must keep the rate, and it may take no longer than `limit`.
pub(super) fn head_deadline(
    since: Instant,
    bytes: usize,
    rate: u32,
    grace: Duration,
    limit: Duration,
) -> Option<Instant> {
    since.checked_add(time_for(bytes as u64, rate).max(grace).min(limit))
}

/// The time the server still waits for a client: waiting uses it up, bytes earn it back. So a
/// transfer may have any size, but may not stay below the rate for long.
#[derive(Debug)]
pub(super) struct RateLimit {
    left: Duration,
    /// The initial and the largest value of `left`.
    most: Duration,
    rate: u32,
    /// Set while the server waits.
    since: Option<Instant>,
}

impl RateLimit {
    pub(super) fn new(most: Duration, rate: u32) -> Self {
        Self { left: most, most, rate, since: None }
    }

    /// Begins or continues to wait, and returns the deadline, unless it is beyond the range of
    /// `Instant`.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.since.get_or_insert_with(now).checked_add(self.left)
    }

    /// Stops waiting, which stops the loss of time.
    pub(super) fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now().saturating_duration_since(since));
        }
    }

    pub(super) fn earn(&mut self, bytes: u64) {
        self.pause();
        if self.left < self.most {
            self.left = self.left.saturating_add(time_for(bytes, self.rate)).min(self.most);
        }
    }

    /// Starts over for another client.
    pub(super) fn reset(&mut self) {
        (self.left, self.since) = (self.most, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_head_is_given_its_grace_then_what_its_bytes_pay_for_then_no_more() {
        let start = Instant::now();
        let at = |bytes, rate| head_deadline(start, bytes, rate, 5 * SECOND, 10 * SECOND).unwrap() - start;
        assert_eq!([at(1, 100), at(700, 100), at(5000, 100), at(1, 0)], [5, 7, 10, 10].map(|n| n * SECOND));
        let hasty = head_deadline(start, 1, 100, 5 * SECOND, 2 * SECOND).unwrap();
        assert_eq!(hasty - start, 2 * SECOND);
        assert_eq!(head_deadline(start, 1, 0, SECOND, Duration::MAX), None);
    }

    #[test]
    fn waiting_uses_patience_up_and_bytes_earn_it_back_up_to_the_most() {
        let runtime = crate::Runtime::builder().paused_clock().build().unwrap();
        let waited = async {
            let mut patience = RateLimit::new(10 * SECOND, 100);
            let start = now();
            assert_eq!(patience.deadline(), Some(start + 10 * SECOND));
            crate::time::sleep(4 * SECOND).await;
            assert_eq!(patience.deadline(), Some(start + 10 * SECOND));
            patience.earn(100);
            assert_eq!(patience.deadline(), Some(start + 11 * SECOND));
            patience.pause();
            crate::time::sleep(100 * SECOND).await;
            assert_eq!(patience.deadline(), Some(now() + 7 * SECOND));
            patience.earn(1_000_000);
            assert_eq!(patience.deadline(), Some(now() + 10 * SECOND));
            assert_eq!(RateLimit::new(Duration::MAX, 0).deadline(), None);
        };
        runtime.block_on(waited).unwrap();
    }
}
