//! Access from other threads: [`Handle`] spawns on a runtime, [`RemoteHandle`] waits for the work.
//!
//! A closure that makes the future crosses threads, so the future itself need not be `Send`. The
//! loop polls it as a task that gives its output (or its panic, or the fact that it was dropped) to
//! a [`Promise`] shared with the `RemoteHandle`. A blocking job started without a runtime has the
//! same handle.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::event_loop::context::{self, Home};
use crate::event_loop::inbox::{Message, Outside};
use crate::event_loop::misuse::Misuse;
use crate::event_loop::wake::guarded;
use crate::executor::about::Current;
use crate::executor::budget;
use crate::executor::caught::{Payload, drop_caught, drop_payload, drop_silently};
use crate::executor::error::JoinError;
use crate::executor::id::TaskKey;
use crate::executor::queue::QueueId;
use crate::executor::stage::{Output, Task};
use crate::promise::Promise;
use crate::task::JoinHandle;
use crate::task::job::JobControl;

/// Spawns on a runtime from any thread, at any time.
///
/// While a handle lives, `block_on` assumes that work or a wake may still come and reports no
/// deadlock. So keep one while only another thread, or another reactor's timer, can wake a task. It
/// does not keep the runtime alive.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = postlude::Runtime::new()?;
/// let handle = runtime.handle();
/// let thread = std::thread::spawn(move || {
///     let mut task = handle.spawn(|| async {
///         let not_send = std::rc::Rc::new(42);
///         *not_send
///     });
///     task.wait(std::time::Duration::from_secs(10))
/// });
/// runtime.block_on(postlude::time::sleep(std::time::Duration::from_millis(20)))?;
/// assert_eq!(thread.join().unwrap().unwrap().unwrap(), 42);
/// # Ok(()) }
/// ```
pub struct Handle {
    home: Home,
    outside: Arc<Outside>,
}

impl Handle {
    pub(crate) fn new(home: Home, outside: &Arc<Outside>) -> Self {
        outside.handles.fetch_add(1, Ordering::SeqCst);
        Self { home, outside: Arc::clone(outside) }
    }

    /// Returns a handle of the runtime that runs this code.
    ///
    /// # Panics
    ///
    /// Outside a runtime: "`Handle::current` was called on thread …, which runs no runtime".
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`Handle::current` was called")) };
        Self::new(parts.home, &parts.inbox.outside)
    }

    /// Has the runtime call `make` and run the future it returns.
    ///
    /// If the runtime has ended or ends before the task does, the returned handle gives
    /// `Cancelled`. Dropping the returned handle detaches the task.
    #[track_caller]
    pub fn spawn<F, T>(&self, make: impl FnOnce() -> F + Send + 'static) -> RemoteHandle<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.spawn_as(make, QueueId::FOREGROUND, Location::caller())
    }

    /// Like [`spawn`](Self::spawn), for a deferred task: see [`defer`](crate::defer).
    #[track_caller]
    pub fn defer<F, T>(&self, make: impl FnOnce() -> F + Send + 'static) -> RemoteHandle<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.spawn_as(make, QueueId::DEFERRED, Location::caller())
    }

    fn spawn_as<F, T>(
        &self,
        make: impl FnOnce() -> F + Send + 'static,
        queue: QueueId,
        location: &'static Location<'static>,
    ) -> RemoteHandle<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let promise = Arc::new(Promise::new());
        let link = Arc::new(Link::default());
        let unbroken = Unbroken(Arc::clone(&promise));
        let started = Arc::clone(&link);
        let home = self.home;
        let spawn = move || {
            let Some(parts) = context::current() else { return };
            let remote = Remote { make: Some(make), future: None, promise: unbroken, end: None, unheard: None };
            let task = parts.spawn(Box::pin(remote), queue, None, location);
            started.set(home, task.key);
            drop(JoinHandle::<()>::new(task));
        };
        // A runtime that has ended gives the message back, whose drop breaks the promise.
        drop(self.outside.send(Message::Spawn(Box::new(spawn))));
        RemoteHandle { promise, worker: Worker::Task(home, link) }
    }

    /// Returns whether the runtime still exists.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.home.is_alive()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(self.home, &self.outside)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.outside.handles.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("is_alive", &self.is_alive()).finish()
    }
}

/// The task's side of a promise. Its drop breaks a promise that has not been kept.
struct Unbroken<T>(Arc<Promise<T>>);

impl<T> Unbroken<T> {
    /// Keeps the promise. Returns the result if no handle will come for it. The handle's waker may
    /// panic: that is not the task's panic.
    fn keep(&self, result: Result<T, JoinError>, failed: Option<Current>) -> Option<Result<T, JoinError>> {
        let mut unheard = None;
        guarded(|| unheard = self.0.finish(result, failed));
        unheard
    }
}

impl<T> Drop for Unbroken<T> {
    fn drop(&mut self) {
        drop(self.keep(Err(JoinError::cancelled()), None));
    }
}

/// The task that works for a handle, once its loop has made it.
#[derive(Default)]
struct Link(Mutex<LinkState>);

#[derive(Default)]
struct LinkState {
    key: Option<TaskKey>,
    /// Set if the handle asked to abort, perhaps before there was a task.
    abort: bool,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, home: Home, key: TaskKey) {
        let mut link = self.lock();
        link.key = Some(key);
        if link.abort {
            home.send(Message::Abort(key));
        }
    }

    fn abort(&self, home: Home) {
        let mut link = self.lock();
        link.abort = true;
        if let Some(key) = link.key {
            home.send(Message::Abort(key));
        }
    }
}

pin_project! {
    /// The task: makes the future in its first poll, polls it, and keeps the promise once the
    /// future is dropped.
    struct Remote<M, F: Future> {
        // Taken by the first poll, or by `cancel`.
        make: Option<M>,
        #[pin]
        future: Option<F>,
        promise: Unbroken<F::Output>,
        // How the task has ended, once it has, for hooks. The payload of a panic is elsewhere.
        end: Output<()>,
        // A panic that the handle will not hear of.
        unheard: Option<Payload>,
    }
}

impl<M, F: Future> Remote<M, F> {
    /// Drops the future, or what would have made it. `Some` if that panics.
    fn drop_future(self: Pin<&mut Self>) -> Option<Payload> {
        let mut this = self.project();
        let making = drop_caught(this.make.take());
        catch_unwind(AssertUnwindSafe(|| this.future.set(None))).err().or(making)
    }

    /// The future has ended: gives its result to the handle.
    #[inline(never)] // once per task
    fn finish(mut self: Pin<&mut Self>, mut result: Result<F::Output, JoinError>) {
        if let Some(panic) = self.as_mut().drop_future() {
            drop_silently(std::mem::replace(&mut result, Err(JoinError::panicked(panic))));
        }
        let this = self.project();
        let mut failed = None;
        if let (Err(_), Some(parts)) = (&result, context::current()) {
            failed = parts.tasks.borrow_mut().describe_key(parts.running.get());
        }
        *this.end = Some(match &result {
            Ok(_) => Ok(()),
            Err(error) if error.is_panic() => Err(panicked_elsewhere()),
            Err(_) => Err(JoinError::cancelled()),
        });
        // Nobody holds the handle, so a panic goes the way of any detached task's.
        if let Some(Err(error)) = this.promise.keep(result, failed) {
            *this.unheard = error.into_panic();
        }
    }
}

/// Says that there was a panic. It needs no allocation, as the payload has no size.
fn panicked_elsewhere() -> JoinError {
    JoinError::panicked(Box::new(()))
}

impl<M, F> Task for Remote<M, F>
where
    M: FnOnce() -> F + 'static,
    F: Future + 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.as_mut().project();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let Some(make) = this.make.take() {
                this.future.set(Some(make()));
            }
            match this.future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx).map(Some),
                None => Poll::Ready(None),
            }
        }));
        self.finish(match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(value))) => Ok(value),
            Ok(Poll::Ready(None)) => Err(JoinError::cancelled()),
            Err(panic) => Err(JoinError::panicked(panic)),
        });
        Poll::Ready(())
    }

    /// The handle gives `Cancelled`, as `abort` says; the panic of a destructor is reported.
    fn cancel(mut self: Pin<&mut Self>) {
        let panic = self.as_mut().drop_future();
        drop(self.promise.keep(Err(JoinError::cancelled()), None));
        let this = self.as_mut().project();
        *this.end = Some(Err(JoinError::cancelled()));
        if let Some(panic) = panic {
            self.fail(panic);
        }
    }

    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        let end = self.project().end;
        if end.is_some() { Some(end) } else { None }
    }

    fn error(self: Pin<&mut Self>) -> Option<&JoinError> {
        self.project().end.as_ref()?.as_ref().err()
    }

    fn fail(self: Pin<&mut Self>, panic: Payload) {
        let this = self.project();
        *this.end = Some(Err(panicked_elsewhere()));
        if let Some(before) = this.unheard.replace(panic) {
            drop_payload(before);
        }
    }

    fn take_panic(self: Pin<&mut Self>) -> Option<Payload> {
        self.project().unheard.take()
    }
}

/// Waits for work started from plain code: a task of [`Handle::spawn`] or [`Handle::defer`], or a
/// blocking job of [`Pool::submit`](crate::blocking::Pool::submit). Await it anywhere, or block a
/// plain thread with [`wait`](Self::wait).
///
/// Dropping it lets the work continue. If the task panics, or has panicked unobserved, the panic is
/// then reported like that of any detached task, while the runtime exists.
///
/// # Cancel safety
///
/// Dropping it while it waits loses the output and nothing else; poll `&mut handle` to go on
/// waiting later.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = postlude::Runtime::new()?;
/// let task = runtime.handle().spawn(|| async { 1 });
/// assert_eq!(runtime.block_on(task)?.unwrap(), 1);
/// let task = runtime.handle().spawn(|| std::future::pending::<()>());
/// task.abort();
/// assert!(runtime.block_on(task)?.unwrap_err().is_cancelled());
/// # Ok(()) }
/// ```
#[must_use = "dropping it lets the work go on by itself"]
pub struct RemoteHandle<T> {
    promise: Arc<Promise<T>>,
    worker: Worker,
}

/// The worker behind a handle, for `abort`. A task is found by its key, once its loop has made it;
/// a blocking job can only be kept from starting.
enum Worker {
    Task(Home, Arc<Link>),
    Job(JobControl),
}

impl<T> RemoteHandle<T> {
    pub(crate) fn of_job(promise: Arc<Promise<T>>, control: JobControl) -> Self {
        Self { promise, worker: Worker::Job(control) }
    }

    /// Blocks this thread until the work has ended, at most `limit`, and returns its result: the
    /// output, or a [`JoinError`] that says whether it panicked or was cancelled. `None` if it has
    /// not ended by then (ask again later), or if the result has been taken.
    ///
    /// On a loop's thread it blocks that loop; await the handle there instead.
    ///
    /// # Panics
    ///
    /// On the thread of the task's own loop, which would wait for itself: "`RemoteHandle::wait` was
    /// called on the thread that runs the task".
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = postlude::Runtime::new()?;
    /// let mut task = runtime.handle().spawn(|| async { 1 });
    /// assert!(task.wait(std::time::Duration::ZERO).is_none());
    /// drop(runtime);
    /// assert!(task.wait(std::time::Duration::MAX).unwrap().unwrap_err().is_cancelled());
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        let is_own_loop = matches!(self.worker, Worker::Task(home, _) if context::current_of(home).is_some());
        assert!(
            !is_own_loop,
            "`RemoteHandle::wait` was called on the thread that runs the task, which would wait for itself; await the handle instead"
        );
        self.promise.wait(limit)
    }

    /// Has the task's loop drop it on its next visit; the handle then gives `Cancelled`, unless the
    /// task had already ended. A blocking job is cancelled at once if it has not started; otherwise
    /// it ends by itself.
    pub fn abort(&self) {
        match &self.worker {
            Worker::Task(home, link) => link.abort(*home),
            Worker::Job(control) if control.cancel() => {
                drop(self.promise.finish(Err(JoinError::cancelled()), None));
            }
            Worker::Job(_) => {}
        }
    }

    /// Returns whether the work has ended: its result is here or has been taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.promise.is_finished()
    }
}

impl<T> Drop for RemoteHandle<T> {
    fn drop(&mut self) {
        let (Some((panic, task)), Worker::Task(home, _)) = (self.promise.abandon(), &self.worker) else { return };
        match context::current_of(*home) {
            Some(parts) => parts.report_error(task.as_ref(), panic),
            None => home.send(Message::Panicked(task, panic)),
        }
    }
}

impl<T> Future for RemoteHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::poll_available(cx));
        let result = ready!(self.promise.poll(cx));
        budget::spend();
        Poll::Ready(result)
    }
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").field("is_finished", &self.is_finished()).finish()
    }
}
