//! The life of a job on the books: it begins a try, waits for the next, and ends.
//!
//! These steps alone move a job from one status to another, and keep the figures of its lane equal
//! to the rows. A step changes the books first and then, with nothing borrowed, drops what the job
//! owns and tells of it. So a destructor or a hook may add, cancel and ask.

use std::sync::Arc;

use super::books::Books;
use super::id::JobId;
use super::info::{Fault, Status};
use super::row::{Extra, JobRef, Slot};
use super::running::{Running, Shared};
use super::work::TaskFuture;
use crate::executor::caught::{self, drop_payload, drop_silently, panic_text};
use crate::executor::id::TaskKey;

/// What a try is to do.
pub(super) enum Start {
    /// Poll this.
    Plain(TaskFuture),
    /// Go through [`attempt`](super::run::attempt).
    Full,
    /// Nothing: the job is over.
    Gone,
}

impl Books {
    /// Notes which task runs a job from now on, unless it is plain and has not begun.
    #[inline]
    pub(super) fn run_by(&self, job: JobRef, key: TaskKey) {
        self.with(job, |row| {
            if let (work @ Slot::Number(_), false) = (&mut row.work, row.status.is_final()) {
                *work = Slot::run_by(key);
            }
        });
    }

    /// Takes a job's work to begin it in task `key`. A plain one begins at once; for any other see
    /// [`Start`].
    #[inline]
    pub(super) fn start(&self, job: JobRef, key: TaskKey) -> Start {
        let recent = self.recent();
        let mut rows = self.rows.borrow_mut();
        let Some(row) = rows.get_mut(job.row as usize).filter(|row| row.id == job.id) else { return Start::Gone };
        if row.status.is_final() {
            return Start::Gone;
        }
        match std::mem::replace(&mut row.work, Slot::run_by(key)) {
            Slot::Future(future) => {
                row.begin(recent, &self.lanes[row.lane as usize]);
                Start::Plain(future)
            }
            // Its own task, if it has one yet, and never that of a group: `cancel` aborts it.
            number @ Slot::Number(_) => {
                row.work = number;
                Start::Full
            }
        }
    }

    /// The work of the only try of a job that is not plain.
    pub(super) fn take_once(&self, job: JobRef) -> Option<TaskFuture> {
        self.with_extra(job, |extra| extra.once.take()).flatten()
    }

    /// A try begins.
    pub(super) fn begin(&self, job: JobRef) {
        let now = self.now();
        self.with(job, |row| {
            row.begin(now, &self.lanes[row.lane as usize]);
            row.extra.get_or_insert_default().began = now;
        });
        self.tell(job, None);
    }

    /// A try has failed, and another follows.
    pub(super) fn wait_again(&self, job: JobRef, fault: &Fault) {
        let text = text_of(fault);
        self.with(job, |row| {
            self.lanes[row.lane as usize].wait_again();
            row.status = Status::Waiting;
            row.extra.get_or_insert_default().fault = Some(text);
        });
        self.tell(job, Some(fault));
    }

    /// What a try is told and what tells of it.
    pub(super) fn running(&self, job: JobRef) -> Option<Running> {
        self.with(job, |row| {
            let extra = row.extra.get_or_insert_default();
            let outcome = row.group.as_ref().and_then(|group| group.outcome.get());
            // An earlier try may have been told that it took too long; this one was not.
            extra.shared = extra.shared.take().filter(|shared| !shared.is_cancelled());
            let shared = extra
                .shared
                .get_or_insert_with(|| Arc::new(Shared::new(row.id, self.number, outcome, Arc::clone(&self.stopping))));
            Running::new(Arc::clone(shared), extra.attempt)
        })
    }

    /// A job is over. Its work must be gone, except where it never began.
    pub(super) fn end(&self, job: JobRef, status: Status, fault: Option<&Fault>) {
        let now = self.now();
        let text = fault.map(text_of);
        let mut rows = self.rows.borrow_mut();
        let Some(row) = rows.get_mut(job.row as usize).filter(|row| row.id == job.id) else { return };
        if row.status.is_final() {
            return;
        }
        let is_fresh = row.is_fresh();
        let before = std::mem::replace(&mut row.status, status);
        let mut ran = 0;
        if before == Status::Running {
            ran = now.saturating_sub(row.began());
        }
        if is_fresh {
            row.waited = u32::try_from(now.saturating_sub(row.added)).unwrap_or(u32::MAX);
        }
        self.lanes[row.lane as usize].end(before, status, ran);
        let work = std::mem::replace(&mut row.work, Slot::Number(ran));
        if let Some(share) = row.group.as_ref().and_then(|group| group.share.as_ref()) {
            share.give_back(1);
        }
        // A job that went well is found by its id; its group's memory is free for the next one.
        let went_well = status == Status::Done && self.settings.on_event.is_none();
        let group = if went_well { row.group.take() } else { None };
        let has_group = row.group.is_some();
        let rest = if row.extra.is_some() || !went_well {
            // A plain job has one try, which it did not count.
            let attempt = u32::from(!is_fresh);
            let extra = row.extra.get_or_insert_with(|| Box::new(Extra { attempt, ..Extra::default() }));
            extra.fault = text.or_else(|| extra.fault.take());
            Some(((extra.make.take(), extra.once.take(), extra.retry.take()), extra.key.clone()))
        } else {
            None
        };
        drop(rows);
        if let Slot::Future(work) = work {
            drop_silently(work);
        }
        if let Some((of_user, key)) = rest {
            drop_silently(of_user);
            if let Some(key) = key {
                self.keys.end(&key, job.id);
            }
        }
        self.tell(job, fault);
        drop(group);
        if has_group {
            self.leave_group(job);
        }
        if status != Status::Unfinished {
            self.ended.set(self.ended.get() + 1);
        }
        self.kept.add(job, now);
        self.forget_old(now);
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() == 0 {
            self.give_back_memory();
            self.quiet.notify_waiters();
        }
    }

    /// Takes a job that is over out of its group: the two would keep each other, and the books.
    fn leave_group(&self, job: JobRef) {
        let left = self.with(job, |row| {
            let group = row.group.take()?;
            row.extra.get_or_insert_default().followed = Some((group.label(), group.number));
            Some(group)
        });
        drop(left);
    }

    /// Cancels a job. True if it was not over.
    pub(super) fn cancel(&self, id: JobId) -> bool {
        let Some(job) = self.find(id) else { return false };
        let found = self.with(job, |row| {
            if row.status.is_final() {
                return None;
            }
            row.cancelled = true;
            if let Some(shared) = row.extra.as_ref().and_then(|extra| extra.shared.as_ref()) {
                shared.cancel();
            }
            Some((row.status, row.work.runner()))
        });
        let Some((status, runner)) = found.flatten() else { return false };
        if status == Status::Waiting {
            // Nothing of it runs: it ends here. Its task, if it has one, only waits.
            self.end(job, Status::Cancelled, None);
            runner.into_iter().for_each(|runner| self.abort(runner));
        } else {
            runner.into_iter().for_each(|runner| self.wake(runner));
        }
        true
    }

    /// Ends a job that the end of the queue cuts off, and keeps what the report says of it.
    pub(super) fn cut(&self, job: JobRef) {
        let info = self.info(job).filter(|info| !info.status.is_final());
        if let Some(info) = info {
            self.unfinished.borrow_mut().push(info);
            self.end(job, Status::Unfinished, None);
        }
    }

    /// Removes rows that are over, as far as there are too many or they are too old.
    pub(super) fn forget_old(&self, now: u64) {
        while let Some(job) = self.kept.take_old(now) {
            self.index.borrow_mut().remove(job.id);
            let row = self.rows.borrow_mut().try_remove(job.row as usize);
            drop_silently(row);
        }
    }

    /// Called when no job is pending.
    fn give_back_memory(&self) {
        let mut rows = self.rows.borrow_mut();
        if rows.capacity() > 64 && rows.capacity() / 4 > rows.len() {
            rows.shrink_to_fit();
        }
        drop(rows);
        self.index.borrow_mut().shrink();
        self.kept.shrink();
    }
}

/// The text of a fault: that of an error is the user's code.
fn text_of(fault: &Fault) -> String {
    caught::call(|| fault.to_string()).unwrap_or_else(|payload| {
        let text = format!("an error whose text panicked: {}", panic_text(&payload));
        drop_payload(payload);
        text
    })
}
