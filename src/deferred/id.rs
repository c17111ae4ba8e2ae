//! Ids of jobs: none is that of another queue, or of an earlier run of the program.
//!
//! An id is a moment: Unix time in units of 2⁻³² seconds. A queue takes a range of 2²⁰ ids and
//! counts through it, then takes another. A range begins now, or behind the last one that this
//! process took if that is later. So two queues never share an id, and a later run begins with a
//! higher one, since nobody adds 2³² jobs a second.

use std::cell::Cell;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Ids taken at a time: 0.24 ms. A power of two.
const RANGE: u64 = 1 << 20;

/// The first id of the last range.
static LAST_RANGE: AtomicU64 = AtomicU64::new(0);

/// The id of a job, unique among the queues of a process and across restarts of the program.
///
/// Ids of a queue count up from the moment at which it was made, so a status URL from an earlier
/// run never finds another job. They are written as decimal text, because JavaScript rounds numbers
/// above 2⁵³. An id is no secret: ids of other jobs are easy to guess.
///
/// **Not guaranteed:** ids of different processes may be alike if both made a queue in the same
/// quarter of a millisecond. So may those of an earlier run if the system's clock was set back.
///
/// ```
/// use postlude::deferred::JobId;
/// let id: JobId = "7508183040000001".parse().unwrap();
/// assert_eq!(id.to_string(), "7508183040000001");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub(super) u64);

impl JobId {
    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its place in its range, from 1: the same in each run of a seed.
    pub(super) const fn count(self) -> u64 {
        self.0 % RANGE
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(feature = "http")]
impl serde::Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "http")]
impl<'de> serde::Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The ids of a queue.
pub(super) struct Ids {
    /// The last one given, or the first of a range, which is never given.
    last: Cell<u64>,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { last: Cell::new(take_range()) }
    }

    /// The next one, greater than all before it.
    #[inline]
    pub(super) fn next(&self) -> JobId {
        let mut id = self.last.get() + 1;
        if id % RANGE == 0 {
            id = take_range() + 1;
        }
        self.last.set(id);
        JobId(id)
    }
}

#[cold]
fn take_range() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let now = ((now.as_secs() << 32) + fraction) / RANGE * RANGE;
    let next = |last: u64| now.max(last + RANGE);
    match LAST_RANGE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))) {
        Ok(last) | Err(last) => next(last),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn queues_of_one_moment_share_no_id_however_many_and_on_whatever_thread() {
        let take = || (0..1_000).map(|_| Ids::new().last.get()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(take)).collect();
        let ranges: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ranges.len(), 4_000);
        assert!(ranges.iter().all(|range| range % RANGE == 0));
    }

    #[test]
    fn a_queue_that_has_used_up_its_ids_goes_on_behind_those_of_all_others() {
        let (one, other) = (Ids::new(), Ids::new());
        let begin = one.last.get();
        one.last.set(begin + RANGE - 2);
        let (last, next) = (one.next(), one.next());
        assert_eq!(last.0, begin + RANGE - 1);
        assert!(next.0 > other.next().0 + RANGE - 2, "behind the other's range");
        assert_eq!((next.count(), one.next().0), (1, next.0 + 1));
    }
}
