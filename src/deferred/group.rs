//! Groups: jobs in order, behind a gate that an outcome opens.
//!
//! A request's background tasks are a group, and its answer opens the gate. Then one deferred task,
//! the [`Runner`], runs the group's jobs one after the other. It polls plain futures itself. Any
//! other job (with a timeout, tries, a thread …) is a deferred task of its own, [`Single`], and the
//! runner waits until that has ended or has begun to wait for a delay or its next try.
//!
//! A job may add to its group while it runs. The group closes when its last job is over.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use super::admission::NewJob;
use super::books::{Books, Phase};
use super::id::JobId;
use super::info::{AddError, Fault, Outcome, Status};
use super::lane::{LOOP_LANE, THREADS_LANE};
use super::queue::Permit;
use super::row::{Condition, JobRef};
use super::run::{Runner, spawn};
use super::share::Share;
use super::task::{InGroup, Once, Task};
use super::work::{SendTaskOutput, TaskOutput};
use crate::event_loop::context;
use crate::executor::caught::drop_silently;
use crate::executor::id::TaskKey;

/// Jobs in order, which begin when the group is [released](Self::release). Clones are the same
/// group.
///
/// Dropping the last clone of a group that was not released releases it as
/// [`Aborted`](Outcome::Aborted). A job that has a clone of its own group keeps it from that, so
/// such a group must be released.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{Outcome, Queue};
/// postlude::run(async {
///     let queue = Queue::new();
///     let order = queue.group("order 7", 7);
///     order.add(async { println!("first") }).unwrap();
///     order.add(async { println!("then") }).unwrap();
///     order.release(Outcome::Delivered);
///     queue.idle().await;
///     assert_eq!(queue.stats().total().done, 2);
/// })
/// # }
/// ```
pub struct Group {
    members: Rc<Members>,
}

/// What a group's handles, its jobs and its tasks share.
pub(super) struct Members {
    pub(super) books: Rc<Books>,
    label: Vec<u8>,
    pub(super) number: u64,
    /// Counts its jobs that are not over, if it was made within one.
    pub(super) share: Option<Share>,
    /// The jobs that have not begun.
    line: RefCell<Line>,
    /// Clones of the group.
    handles: Cell<u32>,
    gate: Cell<Gate>,
    pub(super) outcome: Cell<Option<Outcome>>,
    pub(super) concurrent: Cell<bool>,
    stop_on_error: Cell<bool>,
    /// Some job has a condition of its own.
    chooses: Cell<bool>,
    /// The task that runs the group, if one does.
    pub(super) runner: Cell<TaskKey>,
    /// The job that runs as a task of its own while the runner waits for it, or `NONE`.
    pub(super) awaited: Cell<JobId>,
    /// Jobs of the group that are tasks of their own.
    pub(super) singles: Cell<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// The outcome is not known yet: no job begins.
    Shut,
    /// The jobs run.
    Open,
    /// The last job is over.
    Closed,
}

/// First in, first out. The first has its place in here: most requests leave one job, or none.
///
/// (A `JobRef` for it and a `VecDeque` would take eight bytes more in each pending request.)
struct Line {
    /// The first one's row and id, which is that of `NONE` if it has left.
    row: u32,
    id: JobId,
    rest: Vec<JobRef>,
    /// Jobs at the beginning of `rest` that have left: less than half of it.
    left: u32,
}

impl Default for Line {
    fn default() -> Self {
        let JobRef { row, id } = JobRef::NONE;
        Self { row, id, rest: Vec::new(), left: 0 }
    }
}

impl Line {
    fn push(&mut self, job: JobRef) {
        if self.is_empty() { (self.row, self.id) = (job.row, job.id) } else { self.rest.push(job) }
    }

    #[inline]
    fn pop(&mut self) -> Option<JobRef> {
        let id = std::mem::replace(&mut self.id, JobRef::NONE.id);
        if id != JobRef::NONE.id {
            return Some(JobRef { row: self.row, id });
        }
        if self.rest.is_empty() { None } else { self.pop_rest() }
    }

    #[inline(never)] // few lines have one
    fn pop_rest(&mut self) -> Option<JobRef> {
        let job = *self.rest.get(self.left as usize)?;
        self.left += 1;
        // So each job is moved at most twice, however long the line is.
        if self.left as usize * 2 >= self.rest.len() {
            self.rest.drain(..self.left as usize);
            self.left = 0;
        }
        Some(job)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.id == JobRef::NONE.id && self.rest.is_empty()
    }

    fn len(&self) -> usize {
        usize::from(self.id != JobRef::NONE.id) + self.rest.len() - self.left as usize
    }

    fn into_jobs(mut self) -> impl Iterator<Item = JobRef> {
        std::iter::from_fn(move || self.pop())
    }
}

impl Group {
    pub(super) fn new(books: &Rc<Books>, label: &[u8], number: u64, share: Option<Share>) -> Self {
        let members = Members {
            label: books.label(label),
            books: Rc::clone(books),
            number,
            share,
            line: RefCell::default(),
            handles: Cell::new(1),
            gate: Cell::new(Gate::Shut),
            outcome: Cell::new(None),
            concurrent: Cell::new(false),
            stop_on_error: Cell::new(false),
            chooses: Cell::new(false),
            runner: Cell::new(TaskKey::NONE),
            awaited: Cell::new(JobRef::NONE.id),
            singles: Cell::new(0),
        };
        Self { members: Rc::new(members) }
    }

    /// Adds a future. Reports name it by this line of your code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the future is dropped.
    #[track_caller]
    pub fn add<F, M>(&self, future: F) -> Result<JobId, AddError>
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        self.admit([(LOOP_LANE, 1)])?;
        Ok(self.members.enter(NewJob::future(future)))
    }

    /// Adds a closure that blocks, for the lane of threads. Reports name it by this line of your
    /// code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the closure is dropped.
    #[track_caller]
    pub fn add_blocking<F, T, M>(&self, closure: F) -> Result<JobId, AddError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        self.admit([(THREADS_LANE, 1)])?;
        Ok(self.members.enter(NewJob::blocking(closure)))
    }

    /// Adds all of these jobs, or none if they do not all fit.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the jobs are dropped. The refusal is the answer, so a panic of their
    /// destructors ends there.
    pub fn extend(&self, jobs: Vec<NewJob>) -> Result<(), AddError> {
        let blocking = jobs.iter().filter(|job| job.lane == THREADS_LANE).count();
        if let Err(refused) = self.admit([(LOOP_LANE, jobs.len() - blocking), (THREADS_LANE, blocking)]) {
            jobs.into_iter().for_each(drop_silently);
            return Err(refused);
        }
        jobs.into_iter().for_each(|job| {
            self.members.enter(job);
        });
        Ok(())
    }

    /// Describes a job with a name, which `run` or `run_blocking` adds.
    #[track_caller]
    pub fn task(&self, name: impl Into<std::borrow::Cow<'static, str>>) -> Task<'_, InGroup, Once> {
        Task::in_group(self, name.into(), Location::caller())
    }

    /// Keeps places for `n` jobs, to be added after work that must not be done in vain.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn reserve(&self, n: usize) -> Result<Permit, AddError> {
        self.admit([(LOOP_LANE, n)])?;
        Ok(Permit::new(&self.members.books, Some(self.clone()), n))
    }

    /// Runs the jobs at the same time, not one after the other, from the next one to begin on.
    pub fn concurrent(&self) {
        self.members.concurrent.set(true);
    }

    /// Skips the jobs that have not begun when one of the group fails. Jobs that run go on.
    pub fn stop_on_error(&self) {
        self.members.stop_on_error.set(true);
    }

    /// The outcome that opened the gate; `None` before that.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.members.outcome.get()
    }

    /// Opens the gate: jobs whose condition holds run, the others are skipped. Only the first call
    /// counts.
    pub fn release(&self, outcome: Outcome) {
        self.members.release(outcome);
    }

    /// Jobs that have not begun.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.members.line.borrow().len()
    }

    pub(super) fn members(&self) -> &Rc<Members> {
        &self.members
    }

    /// See [`Books::admit`].
    #[inline]
    fn admit<const N: usize>(&self, jobs: [(u8, usize); N]) -> Result<(), AddError> {
        self.members.books.admit(Some(&self.members), jobs)
    }
}

impl Clone for Group {
    fn clone(&self) -> Self {
        self.members.handles.set(self.members.handles.get() + 1);
        Self { members: Rc::clone(&self.members) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let handles = self.members.handles.get() - 1;
        self.members.handles.set(handles);
        if handles == 0 {
            self.members.release(Outcome::Aborted);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("label", &self.members.label())
            .field("number", &self.members.number)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Members {
    pub(super) fn label(&self) -> String {
        String::from_utf8_lossy(&self.label).into_owned()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.gate.get() == Gate::Closed
    }

    /// Adds a job in a place that was kept for it, also when the last of the others is over.
    pub(super) fn enter_reserved(self: &Rc<Self>, job: NewJob) -> JobId {
        if self.is_closed() {
            self.gate.set(Gate::Open);
        }
        self.enter(job)
    }

    /// Adds a job that was admitted.
    pub(super) fn enter(self: &Rc<Self>, job: NewJob) -> JobId {
        let condition = job.condition;
        if condition != Condition::Answer {
            self.chooses.set(true);
        }
        let job = self.books.enter(job, Some(Rc::clone(self)));
        match self.outcome.get() {
            Some(outcome) if !condition.holds(outcome) => {
                self.line.borrow_mut().push(job);
                self.skip(|_, one| one == job, Vec::new(), &Fault::Condition(outcome));
            }
            _ => {
                self.line.borrow_mut().push(job);
                self.run();
            }
        }
        job.id
    }

    fn release(self: &Rc<Self>, outcome: Outcome) {
        if self.gate.get() != Gate::Shut {
            return;
        }
        self.gate.set(Gate::Open);
        self.outcome.set(Some(outcome));
        if !outcome.is_answer() || self.chooses.get() {
            self.skip_excluded(outcome);
        }
        self.run();
    }

    #[inline(never)] // most groups run all of their jobs
    fn skip_excluded(&self, outcome: Outcome) {
        self.skip(|books, job| !books.condition(job).holds(outcome), Vec::new(), &Fault::Condition(outcome));
    }

    /// Whether every job that waits will run, unless it is cancelled or the queue ends.
    pub(super) fn skips_nothing_more(&self) -> bool {
        self.outcome.get().is_some() && !self.stop_on_error.get()
    }

    /// Ends the jobs in line that are meant, and these, and says so in one line.
    fn skip(&self, is_meant: impl Fn(&Books, JobRef) -> bool, singles: Vec<JobRef>, why: &Fault) {
        let line = std::mem::take(&mut *self.line.borrow_mut());
        let (mut kept, mut skipped, mut first) = (Line::default(), 0_usize, None);
        let mut meant = singles;
        for job in line.into_jobs() {
            if is_meant(&self.books, job) { meant.push(job) } else { kept.push(job) }
        }
        for job in meant {
            if self.books.is_waiting(job) {
                if !self.books.is_by_choice(job, why) {
                    skipped += 1;
                    first.get_or_insert_with(|| self.books.name(job));
                }
                // The task of one that waits for a delay or a lane.
                let runner = self.books.runner_of(job);
                self.books.end(job, Status::Skipped, Some(why));
                runner.into_iter().for_each(|runner| self.books.abort(runner));
            }
        }
        // What was added by a destructor of one of them comes behind.
        let added = std::mem::replace(&mut *self.line.borrow_mut(), kept);
        for job in added.into_jobs() {
            self.line.borrow_mut().push(job);
        }
        if let (Some(first), false) = (first, self.books.has_hook()) {
            let (label, number) = (self.label(), self.number);
            let of = if label.is_empty() { String::new() } else { format!(" ({label}, request {number})") };
            self.books.voice.say(&match skipped {
                1 => format!("background task '{first}' not run: {why}{of}"),
                n => format!("{n} background tasks not run, '{first}' the first of them: {why}{of}"),
            });
        }
    }

    /// Has the loop run the jobs that wait, if the gate is open and they are not run already.
    fn run(self: &Rc<Self>) {
        if self.gate.get() != Gate::Open || self.runner.get() != TaskKey::NONE || self.line.borrow().is_empty() {
            return self.close_if_over();
        }
        if self.books.phase.get() == Phase::Closed || context::current().is_none() {
            return self.give_up();
        }
        let runner = spawn(&self.books, Runner::new(Rc::clone(self)));
        // It may have been dropped at once, by a runtime that ends.
        if !self.line.borrow().is_empty() {
            self.runner.set(runner);
        }
    }

    #[inline]
    pub(super) fn next(&self) -> Option<JobRef> {
        self.line.borrow_mut().pop()
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.borrow().len()
    }

    /// A job is over.
    pub(super) fn ended(&self, job: JobRef, status: Status) {
        if status == Status::Failed && self.stop_on_error.get() {
            let name = self.books.name(job).into_owned();
            let singles = if self.singles.get() == 0 { Vec::new() } else { self.books.fresh_ones_of(self) };
            self.skip(|_, _| true, singles, &Fault::After(name));
        }
    }

    /// A job that is a task of its own has ended or waits: the next may begin.
    pub(super) fn pass_on(&self, job: JobRef) {
        if self.awaited.get() == job.id {
            self.awaited.set(JobRef::NONE.id);
            self.books.wake(self.runner.get());
        }
    }

    /// Ends the jobs that have not begun: nothing will run them.
    pub(super) fn give_up(&self) {
        while let Some(job) = self.next() {
            self.books.cut(job);
        }
        self.close_if_over();
    }

    pub(super) fn close_if_over(&self) {
        let is_over = self.gate.get() == Gate::Open
            && self.runner.get() == TaskKey::NONE
            && self.singles.get() == 0
            && self.line.borrow().is_empty();
        if is_over {
            self.gate.set(Gate::Closed);
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.books.keep_label(std::mem::take(&mut self.label));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn a_line_gives_jobs_as_a_queue_does_and_keeps_no_more_than_twice_its_length() {
        let (mut line, mut model, mut dice) = (Line::default(), VecDeque::new(), 1_u32);
        for n in 1..100_000_u32 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // It grows to some hundred jobs, then shrinks to none, again and again.
            let grows = if n / 1_000 % 2 == 0 { 3 } else { 1 };
            if dice >> 30 < grows {
                let job = JobRef { row: n, id: JobId(u64::from(n)) };
                line.push(job);
                model.push_back(job);
            } else {
                assert_eq!(line.pop(), model.pop_front());
            }
            assert_eq!((line.len(), line.is_empty()), (model.len(), model.is_empty()));
            assert!(line.rest.len() <= 2 * line.len());
        }
        assert!(line.into_jobs().eq(model));
    }
}
