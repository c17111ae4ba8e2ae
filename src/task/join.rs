//! Waiting for a task: [`JoinHandle`], which is plain data.
//!
//! A handle holds a key, not a pointer, and finds the task through the runtime that is current when
//! it is polled. So it is `Send` whatever its task owns, and keeps nothing alive but the slot in
//! which the output waits.
//!
//! The handle also carries its runtime's serial, which is never reused, so a handle that outlives
//! its runtime cannot reach into the table of another. Away from its loop (on another thread, or
//! between turns) `abort` and drop go through the inbox.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::job::JobControl;
use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::Message;
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::Spawned;
use crate::event_loop::waker;
use crate::executor::budget;
use crate::executor::error::JoinError;
use crate::executor::id::{TaskId, TaskKey};
use crate::executor::queue::WakeTarget;
use crate::executor::stage::{Boxed, Output};
use crate::executor::table::JoinState;

/// Waits for a task, and can abort it.
///
/// Awaiting it gives the task's output, or a [`JoinError`] if the task panicked or was aborted, or
/// if its runtime is gone. By the time it is ready, the task's future has been dropped. Dropping
/// the handle detaches the task: it runs on by itself, and a panic of it is reported.
///
/// # Cancel safety
///
/// Dropping a polled handle detaches the task and loses its output. Poll `&mut handle` in a
/// `select` to go on waiting later.
///
/// # Panics
///
/// When polled where its runtime exists but is not current (on another thread, say): "`JoinHandle`
/// was polled on thread …, which runs no runtime; do it inside the `Runtime::block_on` it belongs
/// to, …". When polled again after it was ready: "`JoinHandle` was polled after it was ready; keep
/// its output instead".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     assert_eq!(postlude::spawn(async { 5 }).await.unwrap(), 5);
///     let endless = postlude::spawn(std::future::pending::<()>());
///     std::thread::scope(|s| { s.spawn(|| endless.abort()); });
///     assert!(endless.await.unwrap_err().is_cancelled());
/// })
/// # }
/// ```
pub struct JoinHandle<T> {
    /// Its key is `TaskKey::TAKEN` once the output was handed out.
    task: Spawned,
    /// The blocking job this task waits for, if any.
    job: Option<JobControl>,
    /// `fn() -> T` keeps the handle `Send` for any `T`: the handle holds no output.
    _output: PhantomData<fn() -> T>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: Spawned) -> Self {
        Self { task, job: None, _output: PhantomData }
    }

    /// Whether the output was handed out.
    fn is_taken(&self) -> bool {
        self.task.key == TaskKey::TAKEN
    }

    /// Makes `abort` cancel this job first, and do nothing if the job has started.
    pub(crate) fn with_job(mut self, job: JobControl) -> Self {
        self.job = Some(job);
        self
    }

    /// The task's number.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.id
    }

    /// Aborts the task: the loop drops its future on the next visit, and the handle returns a
    /// cancelled [`JoinError`].
    ///
    /// Works from any thread and at any time. Nothing is dropped inside this call. A task that
    /// aborts itself and returns a value from the same poll has finished with that value. A
    /// finished task stays as it is. A blocking job (`spawn_blocking`) is cancelled only if it has
    /// not started.
    pub fn abort(&self) {
        if self.is_taken() || self.job.as_ref().is_some_and(|job| !job.cancel()) {
            return;
        }
        self.task.abort();
    }

    /// Whether the task's future is gone: it returned, panicked or was aborted.
    ///
    /// # Panics
    ///
    /// Where the task's runtime exists but is not current: "`JoinHandle::is_finished` was called on
    /// thread …; do it inside the `Runtime::block_on` it belongs to, …".
    #[must_use]
    #[track_caller]
    pub fn is_finished(&self) -> bool {
        if self.is_taken() {
            return true;
        }
        match context::current_of(self.task.home) {
            Some(parts) => !parts.tasks.borrow_mut().is_pending(self.task.key),
            None => {
                gone_or_panic(self.task.home, "`JoinHandle::is_finished` was called");
                true
            }
        }
    }

    /// Turns the handle into one that aborts the task when it is dropped.
    #[must_use = "dropping it aborts the task at once"]
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop { handle: self }
    }
}

/// Waits until a task is done. Ready with its box, or with `None` if the task or its runtime is
/// gone.
#[track_caller]
fn poll_task(key: TaskKey, home: Home, waker: &Waker) -> Poll<Option<Boxed>> {
    let joiner = waker::task_of(waker, home).ok_or(waker);
    let found = context::with(home, |parts| parts.tasks.borrow_mut().poll_join(key, joiner));
    match found {
        Some(JoinState::Done(task)) => Poll::Ready(Some(task)),
        Some(JoinState::Waits(before)) => {
            drop(before);
            Poll::Pending
        }
        Some(JoinState::Pending) => {
            let joiner = WakeTarget::Foreign(waker.clone());
            let before = context::with(home, |parts| parts.tasks.borrow_mut().set_joiner(key, joiner));
            drop(before);
            Poll::Pending
        }
        Some(JoinState::Gone) => Poll::Ready(None),
        None => {
            gone_or_panic(home, "`JoinHandle` was polled");
            Poll::Ready(None)
        }
    }
}

/// Panics if the runtime is alive: the caller is in the wrong place then.
#[track_caller]
fn gone_or_panic(home: Home, what: &str) {
    if home.is_alive() {
        panic!("{}", Misuse::elsewhere(what));
    }
}

impl<T: 'static> JoinHandle<T> {
    /// Polls without a check of the budget.
    #[track_caller]
    pub(crate) fn poll_output(&mut self, waker: &Waker) -> Poll<Result<T, JoinError>> {
        assert!(!self.is_taken(), "`JoinHandle` was polled after it was ready; keep its output instead");
        let task = ready!(poll_task(self.task.key, self.task.home, waker));
        let output = task.and_then(|mut task| task.as_mut().output()?.downcast_mut::<Output<T>>()?.take());
        self.task.key = TaskKey::TAKEN;
        Poll::Ready(output.unwrap_or_else(|| Err(JoinError::cancelled())))
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::poll_available(cx));
        let output = ready!(self.poll_output(cx.waker()));
        budget::spend();
        Poll::Ready(output)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.is_taken() {
            return;
        }
        match context::current_of(self.task.home) {
            Some(parts) => parts.detach(self.task.key),
            None => self.task.home.send(Message::Detach(self.task.key)),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.task.id.get()).finish_non_exhaustive()
    }
}

/// A [`JoinHandle`] that aborts its task when dropped: see [`JoinHandle::abort_on_drop`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let token = std::rc::Rc::new(());
///     let held = token.clone();
///     let task = postlude::spawn(async move {
///         let _held = held;
///         std::future::pending::<()>().await
///     });
///     drop(task.abort_on_drop());
///     postlude::task::yield_now().await;
///     assert_eq!(std::rc::Rc::strong_count(&token), 1);
/// })
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it aborts the task at once"]
pub struct AbortOnDrop<T> {
    handle: JoinHandle<T>,
}

impl<T> AbortOnDrop<T> {
    /// Like [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Like [`JoinHandle::is_finished`], with the same panic.
    #[must_use]
    #[track_caller]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T: 'static> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
