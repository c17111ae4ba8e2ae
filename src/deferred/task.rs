//! Describing a job: [`Task`], a builder.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::admission::NewJob;
use super::group::Group;
use super::id::JobId;
use super::info::AddError;
use super::lane::{Kind, LOOP, THREADS};
use super::queue::Queue;
use super::retry::Retry;
use super::row::{Condition, Extra};
use super::work::{
    Again, AnyWork, Blocking, BlockingAgain, Once as OnceWork, RunAgain, RunBlocking, RunBlockingAgain, RunOnce,
};

/// A job about to be added: see [`Queue::task`] and [`Group::task`].
///
/// `P` says where it is added, `K` whether its work runs once or may be tried again.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{Queue, Retry};
/// use std::time::Duration;
/// postlude::run(async {
///     let queue = Queue::new();
///     let id = queue
///         .task("mail")
///         .timeout(Duration::from_secs(10))
///         .retry(Retry::times(3))
///         .run(async || Ok::<(), std::io::Error>(()))
///         .unwrap();
///     queue.idle().await;
///     assert_eq!(queue.get(id).unwrap().attempt, 1);
/// })
/// # }
/// ```
#[must_use = "a job is added by `run` or `run_blocking`"]
pub struct Task<'a, P, K> {
    place: Place<'a>,
    lane: Option<&'static str>,
    condition: Condition,
    extra: Box<Extra>,
    location: &'static Location<'static>,
    _kind: PhantomData<(P, K)>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Queue(&'a Queue),
    Group(&'a Group),
}

/// Of a [`Task`] that is added to a group.
#[derive(Debug)]
pub enum InGroup {}
/// Of a [`Task`] that is added to a queue.
#[derive(Debug)]
pub enum InQueue {}
/// Of a [`Task`] whose work runs once.
#[derive(Debug)]
pub enum Once {}
/// Of a [`Task`] whose work may be tried again.
#[derive(Debug)]
pub enum Repeated {}

impl<'a> Task<'a, InGroup, Once> {
    pub(super) fn in_group(group: &'a Group, name: Cow<'static, str>, location: &'static Location<'static>) -> Self {
        Self::new(Place::Group(group), name, location)
    }
}

impl<'a> Task<'a, InQueue, Once> {
    pub(super) fn in_queue(queue: &'a Queue, name: Cow<'static, str>, location: &'static Location<'static>) -> Self {
        Self::new(Place::Queue(queue), name, location)
    }
}

impl<'a, P> Task<'a, P, Once> {
    fn new(place: Place<'a>, name: Cow<'static, str>, location: &'static Location<'static>) -> Self {
        let extra = Extra::named(name);
        Self { place, lane: None, condition: Condition::Answer, extra, location, _kind: PhantomData }
    }

    /// Tries the work again after errors, as this says.
    pub fn retry(mut self, retry: Retry) -> Task<'a, P, Repeated> {
        self.extra.retry = Some(retry);
        let Self { place, lane, condition, extra, location, .. } = self;
        Task { place, lane, condition, extra, location, _kind: PhantomData }
    }

    /// Adds it, from an async closure, with or without a [`Running`](super::Running) parameter.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run<F: RunOnce<M>, M>(self, work: F) -> Result<JobId, AddError> {
        self.add(Kind::Loop, OnceWork::work(work))
    }

    /// Adds it, from a closure that blocks, with or without a [`Running`](super::Running)
    /// parameter.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run_blocking<F: RunBlocking<M>, M>(self, work: F) -> Result<JobId, AddError> {
        self.add(Kind::Threads, Blocking::work(work))
    }
}

impl<P> Task<'_, P, Repeated> {
    /// Adds it, from an async closure, with or without a [`Running`](super::Running) parameter,
    /// which is called for each try.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run<F: RunAgain<M>, M>(self, work: F) -> Result<JobId, AddError> {
        self.add(Kind::Loop, Again::work(work))
    }

    /// Adds it, from a closure that blocks, with or without a [`Running`](super::Running)
    /// parameter, which is called for each try.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run_blocking<F: RunBlockingAgain<M>, M>(self, work: F) -> Result<JobId, AddError> {
        self.add(Kind::Threads, BlockingAgain::work(work))
    }
}

impl<P, K> Task<'_, P, K> {
    /// Runs it in this lane instead of the first of its kind.
    pub fn lane(mut self, name: &'static str) -> Self {
        self.lane = Some(name);
        self
    }

    /// Ends a try that takes longer than this. A future is dropped; a thread is told by
    /// [`Running::is_cancelled`](super::Running::is_cancelled), and the job counts as running until
    /// the thread lets go.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.extra.timeout = Some(limit);
        self
    }

    /// Begins it no sooner than this after its turn has come. The jobs behind it in a group do not
    /// wait for it.
    pub fn after(mut self, delay: Duration) -> Self {
        self.extra.after = Some(delay);
        self
    }

    /// Makes it one with another job of this key that waits: then `run` returns the id of that one
    /// and drops this one's work. While a job of the key runs, it waits for its end.
    ///
    /// It stays apart from a job that another group may still skip, because that group's gate is
    /// shut or it [stops on errors](Group::stop_on_error).
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        self.extra.key = Some(Rc::from(key.as_ref()));
        self
    }

    fn add(self, kind: Kind, AnyWork(work): AnyWork) -> Result<JobId, AddError> {
        let (books, group) = match self.place {
            Place::Queue(queue) => (queue.books(), None),
            Place::Group(group) => (&group.members().books, Some(group.members())),
        };
        let lane = books.find_lane(self.lane.unwrap_or(if kind == Kind::Loop { LOOP } else { THREADS }), kind)?;
        let key = self.extra.key.clone();
        if let Some(waiting) = key.as_ref().and_then(|key| books.waiting_with(key, group, self.condition)) {
            return Ok(waiting);
        }
        books.admit(group.map(|members| &**members), [(lane, 1)])?;
        let job = NewJob { work, extra: Some(self.extra), lane, condition: self.condition, location: self.location };
        Ok(match self.place {
            Place::Queue(queue) => queue.enter(job),
            Place::Group(group) => group.members().enter(job),
        })
    }
}

/// The outcomes of its group on which a job runs. By default it runs on an answer, whether that
/// could be delivered or not.
impl<K> Task<'_, InGroup, K> {
    /// Runs it only if the answer was handed to the operating system to its last byte.
    pub fn only_delivered(mut self) -> Self {
        self.condition = Condition::Delivered;
        self
    }

    /// Runs it only if there was no answer but an error.
    pub fn on_failure(mut self) -> Self {
        self.condition = Condition::Failure;
        self
    }

    /// Runs it however its group ends.
    pub fn always(mut self) -> Self {
        self.condition = Condition::Always;
        self
    }
}

impl<P, K> fmt::Debug for Task<'_, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.extra.name).field("lane", &self.lane).finish_non_exhaustive()
    }
}
