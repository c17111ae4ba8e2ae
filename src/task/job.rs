//! A blocking job: a closure on its way to a thread of a pool, and the task or handle that awaits
//! its result.
//!
//! The result travels through a [`Promise`]. Inside a runtime a task in the table awaits that, so
//! callers get an ordinary [`JoinHandle`]; elsewhere a `RemoteHandle` does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use super::JoinHandle;
use crate::event_loop::context::Home;
use crate::event_loop::inbox::Message;
use crate::event_loop::parts::Parts;
use crate::executor::caught::{Payload, drop_payload, drop_silently};
use crate::executor::error::JoinError;
use crate::executor::id::TaskKey;
use crate::executor::queue::QueueId;
use crate::executor::stage::{Output, Task};
use crate::pool::{Job, Pool};
use crate::promise::Promise;

/// Runs a closure on a thread of `pool`, for a task of this runtime.
pub(crate) fn spawn<T: Send + 'static>(
    parts: &Parts,
    pool: &Pool,
    closure: impl FnOnce() -> T + Send + 'static,
    location: &'static Location<'static>,
) -> JoinHandle<T> {
    let control = JobControl::new();
    let promise = Arc::new(Promise::new());
    let task = Waiting { promise: Arc::clone(&promise), control: control.clone(), output: None };
    let task = parts.spawn(Box::pin(task), QueueId::FOREGROUND, None, location);
    let handle = JoinHandle::new(task).with_job(control.clone());
    let home = Some((parts.home, task.key));
    let work = Box::new(Work { closure: Some(closure), result: None, control, promise, home });
    if parts.tasks.borrow().is_closed() {
        work.refuse(JoinError::cancelled());
        return handle;
    }
    parts.jobs.set(parts.jobs.get() + 1);
    pool.enqueue(work, parts.process());
    handle
}

/// Runs a closure on a thread of `pool`, for no runtime.
pub(crate) fn submit<T: Send + 'static>(
    pool: &Pool,
    closure: impl FnOnce() -> T + Send + 'static,
) -> (Arc<Promise<T>>, JobControl) {
    let control = JobControl::new();
    let promise = Arc::new(Promise::new());
    let (work_control, work_promise) = (control.clone(), Arc::clone(&promise));
    let work = Work { closure: Some(closure), result: None, control: work_control, promise: work_promise, home: None };
    pool.enqueue(Box::new(work), std::process::id());
    (promise, control)
}

/// Whether a job may still be cancelled: shared by its handle, its task and its thread.
#[derive(Clone, Debug)]
pub(crate) struct JobControl(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

impl JobControl {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    pub(crate) fn start(&self) -> bool {
        self.0.compare_exchange(QUEUED, STARTED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// False if the job has started, and so will end by itself.
    pub(crate) fn cancel(&self) -> bool {
        self.0.compare_exchange(QUEUED, CANCELLED, Ordering::AcqRel, Ordering::Acquire) != Err(STARTED)
    }
}

/// A closure on its way to a thread, and where its result goes.
struct Work<F, T> {
    /// Taken by the run.
    closure: Option<F>,
    /// Left by the run.
    result: Option<Result<T, JoinError>>,
    control: JobControl,
    promise: Arc<Promise<T>>,
    /// The loop that counts this job, and its task that awaits the result; `None` for `submit`.
    home: Option<(Home, TaskKey)>,
}

impl<F, T> Job for Work<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send + 'static,
{
    fn run(&mut self) {
        let Some(closure) = self.closure.take() else { return };
        if self.control.start() {
            self.result = Some(catch_unwind(AssertUnwindSafe(closure)).map_err(JoinError::panicked));
        } else {
            drop_silently(closure);
        }
    }

    fn deliver(self: Box<Self>) -> Option<Box<dyn Send>> {
        let Self { result, promise, home, .. } = *self;
        let unclaimed = end(promise, home, result.unwrap_or_else(|| Err(JoinError::cancelled())));
        unclaimed.map(|result| Box::new(result) as Box<dyn Send>)
    }

    fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    fn refuse(self: Box<Self>, reason: JoinError) {
        let Self { closure, promise, home, .. } = *self;
        drop_silently(closure);
        drop_silently(end(promise, home, Err(reason)));
    }
}

/// Keeps the promise, and tells the loop in one message that the job has ended and its task can go
/// on. Returns the result if no handle is left to fetch it. Lets no panic of a foreign waker out.
fn end<T>(
    promise: Arc<Promise<T>>,
    home: Option<(Home, TaskKey)>,
    result: Result<T, JoinError>,
) -> Option<Result<T, JoinError>> {
    let unclaimed = catch_unwind(AssertUnwindSafe(|| promise.finish(result, None))).unwrap_or_else(|panic| {
        drop_payload(panic);
        None
    });
    if let Some((home, task)) = home {
        home.send(Message::JobEnded(task));
    }
    // If the other side has gone without the result, it is still in the promise.
    unclaimed.or_else(|| Arc::into_inner(promise)?.into_result())
}

/// The task that stands for a job in the table.
struct Waiting<T> {
    promise: Arc<Promise<T>>,
    control: JobControl,
    output: Output<T>,
}

/// Nothing in it is polled in place.
impl<T> Unpin for Waiting<T> {}

impl<T: 'static> Task for Waiting<T> {
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // No waker is left: `Message::JobEnded` names this task.
        self.output = self.promise.take_if_finished();
        if self.output.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn cancel(mut self: Pin<&mut Self>) {
        self.control.cancel();
        self.output = Some(Err(JoinError::cancelled()));
    }

    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        let output = &mut self.get_mut().output;
        if output.is_some() { Some(output) } else { None }
    }

    fn error(self: Pin<&mut Self>) -> Option<&JoinError> {
        self.get_mut().output.as_ref()?.as_ref().err()
    }

    fn fail(mut self: Pin<&mut Self>, panic: Payload) {
        drop_silently(self.output.replace(Err(JoinError::panicked(panic))));
    }

    fn take_panic(mut self: Pin<&mut Self>) -> Option<Payload> {
        self.output.take_if(|result| result.as_ref().is_err_and(JoinError::is_panic))?.err()?.into_panic()
    }
}

impl<T> Drop for Waiting<T> {
    /// The runtime ends, so no task will fetch the result of a job that has not started.
    fn drop(&mut self) {
        if self.output.is_none() {
            self.control.cancel();
        }
    }
}
