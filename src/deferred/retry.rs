//! Trying again: [`Retry`].

use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::id::JobId;
use super::info::Fault;

/// How often a job is tried, and how long it waits in between.
///
/// The wait doubles from [`first`](Self::first) to at most [`most`](Self::most), and a share of it
/// is random so that jobs that failed together do not come back together.
///
/// ```
/// use postlude::deferred::Retry;
/// use std::time::Duration;
/// let retry = Retry::times(5)
///     .first(Duration::from_secs(2))
///     .only(|error| error.downcast_ref::<std::io::Error>().is_some());
/// # drop(retry);
/// ```
#[derive(Clone)]
pub struct Retry {
    times: u32,
    first: Duration,
    most: Duration,
    jitter: f64,
    only: Option<Only>,
}

/// Says whether an error is worth another try.
type Only = Rc<dyn Fn(&(dyn Error + 'static)) -> bool>;

impl Retry {
    /// At most so many tries, the first included. The waits begin with one second and grow to at
    /// most a minute; half of each is random.
    #[must_use]
    pub fn times(tries: u32) -> Self {
        Self { times: tries, first: Duration::from_secs(1), most: Duration::from_secs(60), jitter: 0.5, only: None }
    }

    /// The wait after the first try.
    #[must_use]
    pub fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// The longest wait.
    #[must_use]
    pub fn most(mut self, wait: Duration) -> Self {
        self.most = wait;
        self
    }

    /// The share of each wait that is random, from 0 to 1.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share.clamp(0.0, 1.0);
        self
    }

    /// Tries again only after errors for which this is true. A timeout always is worth another
    /// try, a panic never.
    #[must_use]
    pub fn only(mut self, is_worth_it: impl Fn(&(dyn Error + 'static)) -> bool + 'static) -> Self {
        self.only = Some(Rc::new(is_worth_it));
        self
    }

    /// The wait before the try that follows number `attempt`; `None` if that was the last.
    pub(super) fn wait_after(&self, attempt: u32, fault: &Fault, id: JobId) -> Option<Duration> {
        let is_worth_it = match fault {
            Fault::Error(error) => self.only.as_ref().is_none_or(|only| only(&**error)),
            Fault::TimedOut { .. } => true,
            _ => false,
        };
        if attempt >= self.times || !is_worth_it {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let wait = doubled.min(self.most);
        // The count alone: a seeded run waits as long as the one before.
        let random = spread(id.count() | u64::from(attempt) << 32);
        Some(wait.mul_f64(1.0 - self.jitter * random))
    }
}

/// A number from 0 to 1, far from those of neighbouring seeds. (The finalizer of SplitMix64, which
/// keeps a seeded run the same without a state of its own.)
fn spread(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("times", &self.times)
            .field("first", &self.first)
            .field("most", &self.most)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}
