//! Jobs that are over and still on the books, so that a status route can tell of them: a bounded
//! number, for a bounded time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use super::books::micros;
use super::row::JobRef;

pub(super) struct Kept {
    most: usize,
    longest: u64,
    /// The jobs, and when they ended on the queue's clock, oldest first.
    over: RefCell<VecDeque<(JobRef, u64)>>,
}

impl Kept {
    pub(super) fn new(most: usize, longest: Duration) -> Self {
        Self { most, longest: micros(longest), over: RefCell::default() }
    }

    pub(super) fn add(&self, job: JobRef, now: u64) {
        self.over.borrow_mut().push_back((job, now));
    }

    /// Takes out the oldest one, if there are too many or it is too old.
    #[inline]
    pub(super) fn take_old(&self, now: u64) -> Option<JobRef> {
        let mut over = self.over.borrow_mut();
        let &(job, ended) = over.front()?;
        if over.len() <= self.most && ended >= now.saturating_sub(self.longest) {
            return None;
        }
        over.pop_front();
        Some(job)
    }

    /// Gives back memory after a burst.
    pub(super) fn shrink(&self) {
        let mut over = self.over.borrow_mut();
        let len = over.len();
        if over.capacity() / 4 > len {
            over.shrink_to(len.max(16));
        }
    }
}
