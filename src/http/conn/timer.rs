//! One deadline for a connection: a field that moves, and a sleep that is re-armed only when it
//! fires.
//!
//! Moving the deadline away, which happens with every request, touches no timer. The sleep then
//! fires at the old time, finds the deadline in the future and goes to sleep again.
//!
//! Two rules say where the deadline lies, so that a client that moves a byte just in time gains
//! nothing over one that moves none: [`head_deadline`] for heads, which are small, and [`Patience`]
//! for bodies and answers, which may be of any size.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::time::{Sleep, now, sleep_until};

/// How long the end of a connection may take: saying goodbye, and reading what a client that was
/// told off goes on to send.
pub(super) const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Timer {
    /// None while the connection waits for nothing.
    deadline: Option<Instant>,
    /// Made when the first deadline is waited for.
    sleep: Option<Sleep>,
}

impl Timer {
    /// Sets the deadline this far away; a time beyond the range of `Instant` means no deadline.
    pub(super) fn set(&mut self, limit: Duration) {
        self.set_at(now().checked_add(limit));
    }

    pub(super) fn set_at(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    pub(super) fn clear(&mut self) {
        self.deadline = None;
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
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

/// A rate in bytes a second, below which a client is cut off; 0 for none.
pub(super) fn time_for(bytes: u64, rate: u32) -> Duration {
    Duration::try_from_secs_f64(bytes as f64 / f64::from(rate)).unwrap_or(Duration::MAX)
}

/// When a head that began at `since`, and of which `bytes` have come, must be complete: within
/// `limit`, and, after a time of grace, not later than its bytes pay for.
pub(super) fn head_deadline(
    since: Instant,
    bytes: usize,
    rate: u32,
    grace: Duration,
    limit: Duration,
) -> Option<Instant> {
    since.checked_add(time_for(bytes as u64, rate).max(grace).min(limit))
}

/// How much longer the server waits for a client: waiting uses the time up, bytes earn it back.
///
/// So any number of bytes may come, but not for long at less than the rate.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    /// The time at first, and the most it can become.
    most: Duration,
    rate: u32,
    /// Set while it waits.
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(most: Duration, rate: u32) -> Self {
        Self { left: most, most, rate, since: None }
    }

    /// Begins or continues to wait and returns the end of it. None: beyond the range of `Instant`.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.since.get_or_insert_with(now).checked_add(self.left)
    }

    /// Stops waiting: from here on no time passes.
    pub(super) fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now().saturating_duration_since(since));
        }
    }

    /// Bytes went over the wire.
    pub(super) fn earn(&mut self, bytes: u64) {
        self.pause();
        if self.left < self.most {
            self.left = self.left.saturating_add(time_for(bytes, self.rate)).min(self.most);
        }
    }

    /// Starts anew for another client.
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
            let mut patience = Patience::new(10 * SECOND, 100);
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
            assert_eq!(Patience::new(Duration::MAX, 0).deadline(), None);
        };
        runtime.block_on(waited).unwrap();
    }
}
