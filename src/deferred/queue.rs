//! The queue: [`Queue`], its builder, its handle for other threads, and permits.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use super::admission::NewJob;
use super::books::{Books, Phase, Settings, find};
use super::group::Group;
use super::id::JobId;
use super::info::{AddError, Fault, Info, Report, Stats};
use super::lane::{Kind, LOOP, LOOP_LANE, Lane, LaneBooks, THREADS, THREADS_LANE};
use super::retry::Retry;
use super::row::JobRef;
use super::run::{Single, spawn};
use super::share::Share;
use super::task::{InQueue, Once, Task};
use super::work::{self, RunAgain, SendTaskOutput, TaskOutput, Work};
use crate::event_loop::context;
use crate::event_loop::misuse::Misuse;
use crate::runtime::{Handle, RemoteHandle};
use crate::time;

/// Jobs that may be pending by default.
const PENDING: usize = 10_000;
/// Jobs of one group that may wait by default.
const PER_GROUP: usize = 1_000;
/// Jobs that are over and can still be asked for, by default, and for how long.
const KEEP: (usize, Duration) = (1_000, Duration::from_secs(600));

/// A queue of deferred work that keeps books. Clones are the same queue.
///
/// Jobs run in the deferred class, when the loop has nothing more urgent, or on threads. Each that
/// was accepted ends in one of [five ways](super::Status), and the books say in which.
///
/// Dropping the last clone does not end the jobs. If the runtime ends first, or is dropped, the
/// jobs that are left are unfinished and reported on stderr; [`drain`](Self::drain) waits for them.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{Queue, Status};
/// postlude::run(async {
///     let queue = Queue::new();
///     let id = queue.add(async { println!("when nothing is urgent") }).unwrap();
///     queue.idle().await;
///     assert_eq!(queue.get(id).unwrap().status, Status::Done);
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    books: Rc<Books>,
}

/// Configures a [`Queue`]: see [`Queue::builder`].
#[must_use = "`build` makes the queue"]
pub struct QueueBuilder {
    settings: Settings,
    /// Unset: a part of `Settings::pending`.
    per_share: Option<usize>,
    lanes: Vec<Lane>,
}

impl QueueBuilder {
    /// Jobs that may be pending: waiting, running and reserved. 10 000 by default.
    pub fn pending(mut self, jobs: usize) -> Self {
        self.settings.pending = jobs;
        self
    }

    /// Jobs of one group that may wait. 1 000 by default.
    pub fn per_group(mut self, jobs: usize) -> Self {
        self.settings.per_group = jobs;
        self
    }

    /// Jobs of one [`Share`] that may be pending: waiting, running and reserved. Three quarters of
    /// [`pending`](Self::pending) by default.
    pub fn per_share(mut self, jobs: usize) -> Self {
        self.per_share = Some(jobs);
        self
    }

    /// Adds a lane, or replaces the one of that name.
    ///
    /// # Panics
    ///
    /// If the one that it replaces takes another kind of work: "the lane `threads` is one of
    /// threads".
    pub fn lane(mut self, lane: Lane) -> Self {
        match self.lanes.iter_mut().find(|one| one.name == lane.name) {
            Some(one) => {
                let of = if one.kind == Kind::Threads { "threads" } else { "the loop" };
                assert!(one.kind == lane.kind, "the lane `{}` is one of {of}", lane.name);
                *one = lane;
            }
            None => self.lanes.push(lane),
        }
        self
    }

    /// Calls `hook` for each job that fails for good, is not run, or is cut off. A job with a
    /// [condition](super::Task::only_delivered) of its own that does not hold is only counted. By
    /// default stderr is told: of failures in a line each, of jobs of a group that are not run in
    /// one line, and of jobs that a runtime's end cuts off in one report.
    ///
    /// A panic of the hook is reported and ends there.
    pub fn on_fault(mut self, hook: impl Fn(&Info, Option<&Fault>) + 'static) -> Self {
        self.settings.on_fault = Some(Box::new(hook));
        self
    }

    /// Calls `hook` whenever a job is accepted, begins a try, waits for another one, or is over.
    /// The [`Fault`] comes with the step that it caused. A plain future that begins is not told of.
    ///
    /// A panic of the hook is reported and ends there.
    pub fn on_event(mut self, hook: impl Fn(&Info, Option<&Fault>) + 'static) -> Self {
        self.settings.on_event = Some(Box::new(hook));
        self
    }

    /// Keeps jobs that are over for [`Queue::get`] and [`Queue::list`]: at most so many, and each
    /// for this long. 1 000 for ten minutes by default.
    pub fn keep_finished(mut self, jobs: usize, longest: Duration) -> Self {
        self.settings.keep = (jobs, longest);
        self
    }

    /// Makes the queue.
    ///
    /// # Panics
    ///
    /// With more than 256 lanes: "a queue has at most 256 lanes".
    #[must_use]
    pub fn build(mut self) -> Queue {
        assert!(self.lanes.len() <= 256, "a queue has at most 256 lanes");
        let pending = self.settings.pending;
        self.settings.per_share = self.per_share.unwrap_or(pending - pending / 4);
        let lanes = self.lanes.iter().map(LaneBooks::new).collect();
        Queue { books: Books::new(self.settings, lanes) }
    }
}

impl fmt::Debug for QueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("pending", &self.settings.pending)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// A queue with the default limits and lanes.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Configures a queue.
    pub fn builder() -> QueueBuilder {
        let settings = Settings {
            pending: PENDING,
            per_group: PER_GROUP,
            per_share: 0,
            keep: KEEP,
            on_event: None,
            on_fault: None,
        };
        QueueBuilder { settings, per_share: None, lanes: vec![Lane::on_loop(LOOP), Lane::on_threads(THREADS)] }
    }

    pub(super) fn books(&self) -> &Rc<Books> {
        &self.books
    }

    /// Adds a future. Reports name it by this line of your code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the future is dropped.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[track_caller]
    pub fn add<F, M>(&self, future: F) -> Result<JobId, AddError>
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        self.books.admit(None, [(LOOP_LANE, 1)])?;
        Ok(self.enter(NewJob::future(future)))
    }

    /// Adds a closure that blocks, for the lane of threads. Reports name it by this line of your
    /// code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the closure is dropped.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[track_caller]
    pub fn add_blocking<F, T, M>(&self, closure: F) -> Result<JobId, AddError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        self.books.admit(None, [(THREADS_LANE, 1)])?;
        Ok(self.enter(NewJob::blocking(closure)))
    }

    /// Adds a job that was admitted.
    #[track_caller]
    pub(super) fn enter(&self, job: NewJob) -> JobId {
        if context::current().is_none() {
            panic!("{}", Misuse::no_runtime("a job was added to a `deferred::Queue`"));
        }
        let job = self.books.enter(job, None);
        Single::spawn(&self.books, None, job);
        job.id
    }

    /// Describes a job with a name, which `run` or `run_blocking` adds.
    #[track_caller]
    pub fn task(&self, name: impl Into<std::borrow::Cow<'static, str>>) -> Task<'_, InQueue, Once> {
        Task::in_queue(self, name.into(), Location::caller())
    }

    /// Begins a group: jobs in order behind a gate. Reports show the label, cut to 128 bytes, and
    /// the number.
    #[must_use]
    pub fn group(&self, label: impl AsRef<[u8]>, number: u64) -> Group {
        Group::new(&self.books, label.as_ref(), number, None)
    }

    /// Begins a group whose jobs count in a share, beside those of its other groups: see
    /// [`QueueBuilder::per_share`].
    #[must_use]
    pub fn group_within(&self, share: &Share, label: impl AsRef<[u8]>, number: u64) -> Group {
        Group::new(&self.books, label.as_ref(), number, Some(share.clone()))
    }

    /// Keeps places for `n` jobs, to be added after work that must not be done in vain.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn reserve(&self, n: usize) -> Result<Permit, AddError> {
        self.books.admit(None, [(LOOP_LANE, n)])?;
        Ok(Permit::new(&self.books, None, n))
    }

    /// Adds a job each `period`, the first after one. A run that is late is not made up for, and no
    /// two runs overlap. Ends when the queue drains, or with [`Periodic::stop`].
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[track_caller]
    pub fn every<F, M>(&self, period: Duration, name: &'static str, work: F) -> Periodic
    where
        F: RunAgain<M> + Clone,
    {
        if context::current().is_none() {
            panic!("{}", Misuse::no_runtime("`deferred::Queue::every` was called"));
        }
        let stop = self.books.stop.child();
        let (books, stopped, location) = (Rc::downgrade(&self.books), stop.clone(), Location::caller());
        spawn(&self.books, async move {
            loop {
                if stopped.run_until_cancelled(time::sleep(period)).await.is_none() {
                    return;
                }
                let Some(books) = Weak::upgrade(&books) else { return };
                let queue = Self { books };
                let task = Task::in_queue(&queue, name.into(), location).key(name).retry(Retry::times(1));
                if let Err(error) = task.run(work.clone()) {
                    queue.books.voice.say(&format!("the periodic task '{name}' was not run: {error}"));
                }
            }
        });
        Periodic { stop }
    }

    /// What the books say of a job: `None` if there is none of that id, or it has been over for too
    /// long.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<Info> {
        self.books.get(id)
    }

    /// Every job that is not over, and those that are and are still kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Info> {
        self.books.list()
    }

    /// Cancels a job; false if it was over. One that waits is over at once. A future is dropped at
    /// its task's next visit; a thread is told by
    /// [`Running::is_cancelled`](super::Running::is_cancelled).
    pub fn cancel(&self, id: JobId) -> bool {
        self.books.cancel(id)
    }

    /// The books of each lane.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.books.stats()
    }

    /// Jobs that are ready to run on the loop. Jobs that sleep or wait for a lane are not.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.books.pressure.ready()
    }

    /// Jobs that are not over.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.books.pending.get()
    }

    /// Whether more than half of the [limit](QueueBuilder::pending) is pending.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.books.pending.get() > self.books.settings.pending / 2
    }

    /// Whether more than half of the [limit](QueueBuilder::pending) is ready to run on the loop, so
    /// that the source of jobs should pause.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.books.pressure.is_busy()
    }

    /// Waits while the queue [is busy](Self::is_busy). Dropping the future loses nothing.
    pub async fn room(&self) {
        self.books.pressure.room().await;
    }

    /// Waits until no job is pending. Dropping the future loses nothing.
    pub async fn idle(&self) {
        while self.books.pending.get() > 0 {
            self.books.quiet.notified().await;
        }
    }

    /// Lets no job begin until [`release`](Self::release): for tests of what happens before.
    pub fn hold(&self) {
        self.books.held.set(true);
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&self) {
        self.books.held.set(false);
        let held_up = std::mem::take(&mut *self.books.held_up.borrow_mut());
        held_up.into_iter().for_each(|key| self.books.wake(key));
    }

    /// Tells the jobs that the queue will end: see [`Running::stopping`](super::Running::stopping).
    /// What waits for a delay or its next try is cut off. Jobs are still accepted.
    pub fn begin_drain(&self) {
        self.books.begin_drain();
        let asleep = self.books.jobs_left().into_iter().filter(|&job| self.books.is_asleep(job));
        asleep.for_each(|job| self.abort(job));
    }

    /// Ends the queue: waits for the pending jobs, at most `limit`, then cuts off the rest.
    ///
    /// Jobs may add others meanwhile. What waits for a delay or its next try is not waited for.
    /// The thread of a job that is cut off goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the queue draining: call it again.
    pub async fn drain(&self, limit: Duration) -> Report {
        let books = &self.books;
        let before = books.ended.get();
        self.begin_drain();
        let _in_time = time::timeout(limit, self.idle()).await;
        books.phase.set(Phase::Closed);
        self.release();
        books.jobs_left().into_iter().for_each(|job| self.abort(job));
        while books.runners.get() > 0 {
            books.quiet.notified().await;
        }
        books.jobs_left().into_iter().for_each(|job| books.cut(job));
        let mut unfinished = std::mem::take(&mut *books.unfinished.borrow_mut());
        unfinished.sort_unstable_by_key(|info| info.id);
        books.voice.tell_of_gap();
        Report { unfinished, ended: books.ended.get() - before }
    }

    fn abort(&self, job: JobRef) {
        if let Some(runner) = self.books.runner_of(job) {
            self.books.abort(runner);
        }
    }

    /// A handle for other threads.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[must_use]
    #[track_caller]
    pub fn handle(&self) -> QueueHandle {
        QueueHandle { runtime: Handle::current(), queue: self.books.number }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("pending", &self.pending()).field("ready", &self.ready()).finish_non_exhaustive()
    }
}

/// Stops a periodic job: see [`Queue::every`]. Dropping it does not.
#[derive(Debug)]
pub struct Periodic {
    stop: crate::task::CancelToken,
}

impl Periodic {
    /// Lets no further run begin. One that runs goes on.
    pub fn stop(self) {
        self.stop.cancel();
    }
}

/// Places kept for jobs: see [`Queue::reserve`]. Dropping it gives back what is left.
#[must_use = "dropping a permit gives its places back"]
pub struct Permit {
    books: Rc<Books>,
    group: Option<Group>,
    left: usize,
}

impl Permit {
    pub(super) fn new(books: &Rc<Books>, group: Option<Group>, n: usize) -> Self {
        books.reserved.set(books.reserved.get() + n);
        if let Some(share) = share_of(group.as_ref()) {
            share.take(n);
        }
        Self { books: Rc::clone(books), group, left: n }
    }

    /// The places that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    fn give_back(&mut self, places: usize) {
        self.left -= places;
        self.books.reserved.set(self.books.reserved.get() - places);
        if let Some(share) = share_of(self.group.as_ref()) {
            share.give_back(places);
        }
    }

    /// Adds a future in one of the places, also while the queue drains.
    ///
    /// # Errors
    ///
    /// `Full` if no place is left, `ShuttingDown` if the queue has ended.
    #[track_caller]
    pub fn add<F, M>(&mut self, future: F) -> Result<JobId, AddError>
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        if self.left == 0 {
            return Err(AddError::Full(super::info::Limit::Queue));
        }
        if self.books.phase.get() == Phase::Closed {
            return Err(AddError::ShuttingDown);
        }
        self.give_back(1);
        let job = NewJob::future(future);
        Ok(match &self.group {
            Some(group) => group.members().enter_reserved(job),
            None => Queue { books: Rc::clone(&self.books) }.enter(job),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.left);
    }
}

fn share_of(group: Option<&Group>) -> Option<&Share> {
    group?.members().share.as_ref()
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Reaches a queue from other threads: see [`Queue::handle`].
#[derive(Clone, Debug)]
pub struct QueueHandle {
    runtime: Handle,
    queue: u64,
}

impl QueueHandle {
    /// Adds a job: `make` crosses threads, and the future that it makes need not.
    ///
    /// The answer comes from the loop, so it is awaited or waited for. A queue that is gone refuses
    /// with [`ShuttingDown`](AddError::ShuttingDown).
    #[track_caller]
    pub fn add<F, M>(&self, make: impl FnOnce() -> F + Send + 'static) -> RemoteHandle<Result<JobId, AddError>>
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        let (queue, location) = (self.queue, Location::caller());
        self.runtime.spawn(move || {
            let mut make = Some(make);
            poll_fn(move |_| {
                let Some(books) = find(queue) else { return Poll::Ready(Err(AddError::ShuttingDown)) };
                if let Err(error) = books.admit(None, [(LOOP_LANE, 1)]) {
                    return Poll::Ready(Err(error));
                }
                let Some(make) = make.take() else { return Poll::Pending };
                let job = NewJob::new(Work::Future(work::boxed(make())), LOOP_LANE, location);
                Poll::Ready(Ok(Queue { books }.enter(job)))
            })
        })
    }

    /// Cancels a job: see [`Queue::cancel`].
    pub fn cancel(&self, id: JobId) -> RemoteHandle<bool> {
        let queue = self.queue;
        self.runtime.spawn(move || std::future::ready(find(queue).is_some_and(|books| books.cancel(id))))
    }

    /// What the books say of a job: see [`Queue::get`].
    pub fn get(&self, id: JobId) -> RemoteHandle<Option<Info>> {
        let queue = self.queue;
        self.runtime.spawn(move || std::future::ready(find(queue).and_then(|books| books.get(id))))
    }
}

#[allow(dead_code, reason = "pins that the handle crosses threads")]
fn handle_is_send(handle: QueueHandle) -> impl Send {
    handle
}
