//! Admission: whether the books take a job, and its way into them.
//!
//! A job is refused before any of its code runs. One that was admitted gets an id, counts in its
//! lane and its share, and is a row from then on. (Whether anything runs it then is the matter of
//! its [group](super::group), or of the task that [`Queue::add`](super::Queue::add) spawns for it.)

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use super::books::{Books, Phase};
use super::group::Members;
use super::info::{AddError, Limit, Status};
use super::lane::{Kind, LOOP_LANE, THREADS_LANE};
use super::row::{Condition, Extra, JobRef, Row, Slot};
use super::trace;
use super::work::{self, SendTaskOutput, TaskOutput, Work};
use crate::executor::local;
use crate::slabs;

/// A job that is about to be added: for code that keeps jobs until their group is known.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{NewJob, Outcome, Queue};
/// postlude::run(async {
///     let jobs = vec![NewJob::future(async {}), NewJob::blocking(|| {})];
///     let queue = Queue::new();
///     let group = queue.group("", 0);
///     group.extend(jobs).unwrap();
///     group.release(Outcome::Delivered);
///     queue.idle().await;
/// })
/// # }
/// ```
#[must_use = "a job is added by `Group::extend`"]
pub struct NewJob {
    pub(super) work: Work,
    pub(super) extra: Option<Box<Extra>>,
    pub(super) lane: u8,
    pub(super) condition: Condition,
    pub(super) location: &'static Location<'static>,
}

impl NewJob {
    /// A future, for the loop's lane. Reports name it by this line of your code.
    #[track_caller]
    pub fn future<F, M>(future: F) -> Self
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        Self::new(Work::Future(work::boxed(future)), LOOP_LANE, Location::caller())
    }

    /// A closure that blocks, for the lane of threads. Reports name it by this line of your code.
    #[track_caller]
    pub fn blocking<F, T, M>(closure: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        Self::new(work::once(move |_| closure().into_result()).0, THREADS_LANE, Location::caller())
    }

    pub(super) fn new(work: Work, lane: u8, location: &'static Location<'static>) -> Self {
        Self { work, extra: None, lane, condition: Condition::Answer, location }
    }
}

impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Books {
    /// Whether so many more jobs of these lanes may be added, all of one group or of none.
    #[inline]
    pub(super) fn admit<const N: usize>(
        &self,
        group: Option<&Members>,
        jobs: [(u8, usize); N],
    ) -> Result<(), AddError> {
        let more = jobs.iter().fold(0_usize, |sum, (_, more)| sum.saturating_add(*more));
        let settings = &self.settings;
        if let Some(group) = group {
            if group.is_closed() {
                return Err(AddError::Closed);
            }
            if group.waiting().saturating_add(more) > settings.per_group {
                return Err(AddError::Full(Limit::Group));
            }
        }
        if self.phase.get() == Phase::Closed {
            return Err(AddError::ShuttingDown);
        }
        let taken = self.pending.get() + self.reserved.get();
        if taken.saturating_add(more) > settings.pending {
            return Err(AddError::Full(Limit::Queue));
        }
        if let Some(share) = group.and_then(|group| group.share.as_ref()) {
            if share.held().saturating_add(more) > settings.per_share {
                return Err(AddError::Full(Limit::Share));
            }
        }
        let has_room = |(lane, more): &(u8, usize)| self.lanes[*lane as usize].has_room_for(*more);
        if jobs.iter().all(has_room) { Ok(()) } else { Err(AddError::Full(Limit::Lane)) }
    }

    /// Enters a job that was admitted.
    pub(super) fn enter(&self, job: NewJob, group: Option<Rc<Members>>) -> JobRef {
        let NewJob { work, mut extra, lane, condition, location } = job;
        let work = match local::current() {
            None => work,
            Some(locals) => work.with_locals(locals),
        };
        let work = trace::carry(work);
        let id = self.ids.next();
        self.pending.set(self.pending.get() + 1);
        self.lanes[lane as usize].accept();
        if let Some(share) = group.as_ref().and_then(|group| group.share.as_ref()) {
            share.take(1);
        }
        let added = self.recent();
        let key = extra.as_ref().and_then(|extra| extra.key.clone());
        let is_plain = self.lanes[lane as usize].is_open() && extra.as_ref().is_none_or(|extra| extra.is_plain());
        let work = match work {
            Work::Future(future) if is_plain => Slot::Future(future),
            Work::Future(future) => {
                extra.get_or_insert_default().once = Some(future);
                Slot::EMPTY
            }
            Work::Make(make) => {
                extra.get_or_insert_default().make = Some(make);
                Slot::EMPTY
            }
        };
        let row = Row {
            work,
            extra,
            group,
            id,
            added,
            location,
            waited: 0,
            lane,
            status: Status::Waiting,
            condition,
            cancelled: false,
        };
        let mut rows = self.rows.borrow_mut();
        slabs::grow_gently(&mut rows);
        let row = rows.insert(row) as u32;
        drop(rows);
        if let Some(key) = key {
            self.keys.add(key, id);
        }
        self.index.borrow_mut().insert(id, row);
        let job = JobRef { row, id };
        self.tell(job, None);
        job
    }

    /// The lane of this name and kind.
    pub(super) fn find_lane(&self, name: &'static str, kind: Kind) -> Result<u8, AddError> {
        match self.lanes.iter().position(|lane| lane.name == name) {
            None => Err(AddError::Lane { lane: name, takes: None }),
            Some(place) if self.lanes[place].kind == kind => Ok(place as u8),
            Some(place) => Err(AddError::Lane { lane: name, takes: Some(self.lanes[place].kind.call()) }),
        }
    }
}
