//! The row of a job: what the books know of it, in 64 bytes.
//!
//! A plain job, a future that is polled as it is, has its work in the row. What most jobs do not
//! have (a name, a timeout, tries) stands in a box beside it, an [`Extra`].

use std::borrow::Cow;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::group::Members;
use super::id::JobId;
use super::info::{Info, Outcome, Status};
use super::lane::LaneBooks;
use super::retry::Retry;
use super::running::Shared;
use super::work::{Make, TaskFuture};
use crate::executor::id::TaskKey;

/// Names a job within the books: its row, and its id to tell whether the row is still its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobRef {
    pub(super) row: u32,
    pub(super) id: JobId,
}

impl JobRef {
    /// No job: ids are never 0.
    pub(super) const NONE: Self = Self { row: u32::MAX, id: JobId(0) };
}

/// The row of a job.
pub(super) struct Row {
    pub(super) work: Slot,
    pub(super) extra: Option<Box<Extra>>,
    /// The list it belongs to.
    pub(super) group: Option<Rc<Members>>,
    pub(super) id: JobId,
    /// Microseconds on the queue's clock.
    pub(super) added: u64,
    pub(super) location: &'static Location<'static>,
    /// Microseconds before it began, at most 71 minutes; `Extra::began` is exact.
    pub(super) waited: u32,
    pub(super) lane: u8,
    pub(super) status: Status,
    pub(super) condition: Condition,
    /// Set by `cancel`, seen by the task that runs the job.
    pub(super) cancelled: bool,
}

/// The work of a plain job that has not begun, or a number in its place.
pub(super) enum Slot {
    Future(TaskFuture),
    /// The key of the task that runs the job; once it is over, for how many microseconds it ran.
    Number(u64),
}

impl Slot {
    pub(super) const EMPTY: Self = Self::run_by(TaskKey::NONE);

    pub(super) const fn run_by(key: TaskKey) -> Self {
        Self::Number(key.0)
    }

    pub(super) fn runner(&self) -> Option<TaskKey> {
        let Self::Number(bits) = *self else { return None };
        (bits != TaskKey::NONE.0).then_some(TaskKey(bits))
    }
}

/// The outcomes of its group on which a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Answer,
    Delivered,
    Failure,
    Always,
}

impl Condition {
    pub(super) fn holds(self, outcome: Outcome) -> bool {
        match self {
            Self::Answer => outcome.is_answer(),
            Self::Delivered => outcome == Outcome::Delivered,
            Self::Failure => !outcome.is_answer(),
            Self::Always => true,
        }
    }
}

/// What few jobs have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) make: Option<Make>,
    /// The future of a job that is not plain, before its only try.
    pub(super) once: Option<TaskFuture>,
    pub(super) timeout: Option<Duration>,
    pub(super) after: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) key: Option<Rc<str>>,
    /// Tries begun.
    pub(super) attempt: u32,
    pub(super) shared: Option<Arc<Shared>>,
    /// When the last try began, in microseconds on the queue's clock.
    pub(super) began: u64,
    pub(super) fault: Option<String>,
    /// It waits for its delay or its next try.
    pub(super) asleep: bool,
    /// A thread has it.
    pub(super) on_thread: bool,
    /// The label and number of its group, once it has left that.
    pub(super) followed: Option<(String, u64)>,
}

impl Extra {
    pub(super) fn named(name: Cow<'static, str>) -> Box<Self> {
        Box::new(Self { name: Some(name), ..Self::default() })
    }

    /// Whether the work can be polled as it is, without a try around it.
    pub(super) fn is_plain(&self) -> bool {
        self.make.is_none() && self.timeout.is_none() && self.after.is_none() && self.key.is_none()
    }
}

impl Row {
    /// Whether no try has begun. (A plain job has one try, and does not count it.)
    pub(super) fn is_fresh(&self) -> bool {
        self.status == Status::Waiting && self.extra.as_ref().is_none_or(|extra| extra.attempt == 0)
    }

    pub(super) fn name(&self) -> Cow<'static, str> {
        match self.extra.as_ref().and_then(|extra| extra.name.clone()) {
            Some(name) => name,
            None => Cow::Owned(format!("{}:{}", self.location.file(), self.location.line())),
        }
    }

    #[inline]
    pub(super) fn begin(&mut self, now: u64, lane: &LaneBooks) {
        let waited = now.saturating_sub(self.added);
        let attempt = self.extra.as_mut().map_or(1, |extra| {
            extra.attempt += 1;
            extra.began = now;
            extra.attempt
        });
        if attempt == 1 {
            self.waited = u32::try_from(waited).unwrap_or(u32::MAX);
        }
        self.status = Status::Running;
        lane.begin(waited, attempt == 1);
    }

    /// When its last try began.
    pub(super) fn began(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.began).max(self.added + u64::from(self.waited))
    }

    pub(super) fn info(&self, now: u64, lane: &LaneBooks) -> Info {
        let extra = self.extra.as_deref();
        let waited = if self.is_fresh() { now.saturating_sub(self.added) } else { u64::from(self.waited) };
        let (label, group) = match (&self.group, extra.and_then(|extra| extra.followed.clone())) {
            (Some(group), _) => (group.label(), group.number),
            (None, followed) => followed.unwrap_or_default(),
        };
        let ran = match (self.status, &self.work) {
            (Status::Running, _) => now.saturating_sub(self.began()),
            (Status::Waiting, _) | (_, Slot::Future(_)) => 0,
            (_, Slot::Number(ran)) => *ran,
        };
        Info {
            id: self.id,
            name: self.name(),
            lane: lane.name,
            status: self.status,
            attempt: extra
                .map_or(u32::from(self.status != Status::Waiting && self.status != Status::Skipped), |extra| {
                    extra.attempt
                }),
            progress: extra.and_then(|extra| extra.shared.as_ref()?.progress()),
            age: Duration::from_micros(now.saturating_sub(self.added)),
            waited: Duration::from_micros(waited),
            ran: Duration::from_micros(ran),
            label,
            group,
            fault: extra.and_then(|extra| extra.fault.clone()),
            location: self.location,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_takes_64_bytes() {
        assert_eq!(size_of::<super::Row>(), 64);
    }
}
