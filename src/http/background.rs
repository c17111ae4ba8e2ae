//! Background tasks: work that a request leaves behind for after its answer.
//!
//! Each request has one list, a [`Group`] of the server's [`Queue`]. Extractors, the handler and
//! the returned response add to it. When the socket has accepted the last byte of the answer, the
//! list is released and runs in order in the deferred class. The connection goes on with the next
//! request, or closes; nothing that happens to it afterwards reaches the tasks, and no task can
//! reach the connection.
//!
//! A [`Trigger`] stands for the answer. It fires exactly once, from `Drop` too.
//!
//! While more than half of the queue's limit is ready to run on the loop, a connection pauses
//! before it begins another request. So under load clients wait a moment instead of being refused.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use http::StatusCode;

use crate::deferred::{
    AddError, Group, InGroup, JobId, NewJob, Once, Outcome, Permit, Queue, SendTaskOutput, Share, Task, TaskOutput,
};
use crate::stderr;

/// Seconds after which a refused client may try again (RFC 9110, section 10.2.3): no pause of the
/// server lasts longer.
pub(crate) const RETRY_AFTER: &str = "1";

/// A request's list of background tasks: an extractor, and a handle that can be cloned and kept.
///
/// The tasks run after the answer, in the order they were added, one after the other. Lists of
/// different requests overlap. They run whether or not the client is still there, but not if the
/// handler failed; [`Task`] names the other conditions, and what else a task can have.
///
/// ```
/// use postlude::http::{self, BackgroundTasks, Router};
/// let router = Router::new().post("/orders", async |tasks: BackgroundTasks| {
///     tasks.add(async { println!("the client has its answer") })?;
///     tasks.add_blocking(|| std::fs::write("/tmp/orders", "one more"))?;
///     let mail = tasks.task("mail").run(async || println!("sent"))?;
///     Ok::<_, http::Error>(format!("ordered, task {mail} sends the mail"))
/// });
/// ```
#[derive(Clone)]
pub struct BackgroundTasks {
    group: Group,
}

impl BackgroundTasks {
    /// The list of the request with this method and target, which counts in its client's share.
    pub(crate) fn new(queue: &Queue, share: Option<&Share>, line: &[u8], number: u64) -> Self {
        let group = match share {
            Some(share) => queue.group_within(share, line, number),
            None => queue.group(line, number),
        };
        Self { group }
    }

    /// Adds a future. Reports name it by this line of your code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the future is dropped.
    #[track_caller]
    pub fn add<F, M>(&self, task: F) -> Result<JobId, AddError>
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        self.group.add(task)
    }

    /// Adds a closure that blocks. It runs on the server's background threads.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the closure is dropped.
    #[track_caller]
    pub fn add_blocking<F, T, M>(&self, task: F) -> Result<JobId, AddError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        self.group.add_blocking(task)
    }

    /// Describes a task with a name, which `run` or `run_blocking` adds.
    #[track_caller]
    pub fn task(&self, name: impl Into<Cow<'static, str>>) -> Task<'_, InGroup, Once> {
        self.group.task(name)
    }

    /// Keeps places for `n` tasks, to be added after work that must not be done in vain.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    ///
    /// ```
    /// use postlude::http::{self, BackgroundTasks, Router};
    /// # async fn commit() {}
    /// let router = Router::new().post("/orders", async |tasks: BackgroundTasks| {
    ///     let mut place = tasks.reserve(1)?;
    ///     commit().await;
    ///     place.add(async { println!("cannot be refused for want of room") })?;
    ///     Ok::<_, http::Error>("ordered")
    /// });
    /// ```
    pub fn reserve(&self, n: usize) -> Result<Permit, AddError> {
        self.group.reserve(n)
    }

    /// Runs the tasks of this request at the same time, not one after the other, from the next one
    /// to begin on.
    pub fn concurrent(&self) {
        self.group.concurrent();
    }

    /// Skips the tasks of this request that have not begun when one of them fails, and reports
    /// them. Tasks that run already, on a [concurrent](Self::concurrent) list, go on.
    ///
    /// ```
    /// use postlude::http::{BackgroundTasks, Error, Router};
    /// let router = Router::new().get("/", async |tasks: BackgroundTasks| {
    ///     tasks.stop_on_error();
    ///     tasks.task("charge").run(async || Err::<(), _>("no money"))?;
    ///     tasks.task("ship").run(async || println!("not without the money"))?;
    ///     Ok::<_, Error>("answer")
    /// });
    /// ```
    pub fn stop_on_error(&self) {
        self.group.stop_on_error();
    }

    /// Moves the tasks of a response to the end of the list. If they do not all fit, none is added.
    pub(crate) fn extend(&self, tasks: Vec<NewJob>) -> Result<(), AddError> {
        self.group.extend(tasks)
    }
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackgroundTasks").field(&self.group).finish()
    }
}

/// Stands for the answer to one request, and releases its tasks when it fires.
pub(crate) struct Trigger {
    /// Set until it fires.
    group: Option<Group>,
    /// The status of the answer if the handler failed.
    failed: Option<StatusCode>,
}

impl Trigger {
    pub(crate) fn new(tasks: &BackgroundTasks, failed: Option<StatusCode>) -> Self {
        Self { group: Some(tasks.group.clone()), failed }
    }

    /// The answer has ended; `Failed` is only for the handler.
    pub(crate) fn fire(mut self, outcome: Outcome) {
        self.release(outcome);
    }

    fn release(&mut self, outcome: Outcome) {
        if let Some(group) = self.group.take() {
            group.release(self.failed.map_or(outcome, |status| Outcome::Failed(status.as_u16())));
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.release(Outcome::Aborted);
    }
}

/// The text of a panic. The payload's own destructor may panic too.
pub(crate) fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| String::from(*text));
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text.unwrap_or_else(|| String::from("a panic without a text"))
}

/// Drops a value of the user. A panic of its destructor goes unreported.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        drop(text_of(payload));
    }
}

/// Writes a line to stderr, or drops it.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    stderr::line(format_args!("postlude: {text}"));
}
