//! Waiting for a task: [`JoinHandle`], which is plain data, and [`JoinError`].
//!
//! A handle holds a key, not a pointer, and finds the task through the runtime that is current when it is polled. So it is `Send`
//! whatever its task owns, and nothing is freed or kept alive by it but the slot in which the output waits.
//!
//! The handle also carries its runtime's serial, which is never reused, so a handle that outlives its runtime cannot reach
//! into another's table. Away from its loop (another thread, or between turns) `abort` and drop travel through the inbox.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker, ready};

use super::budget;
use super::id::{Key, TaskId};
use super::stage::{Output, Payload, drop_payload};
use super::table::Joining;
use crate::blocking::JobControl;
use crate::runtime::context::{self, Home};
use crate::runtime::inbox::Message;

/// Waits for a task, and can abort it.
///
/// Awaiting it gives the task's output, or a [`JoinError`] if the task panicked or was aborted, or if its runtime is gone. By the
/// time it is ready the task's future has been dropped. Dropping the handle detaches the task: it runs on by itself, and if it
/// panics, that is reported.
///
/// # Cancel safety
///
/// A handle polled in a `select` and dropped loses only itself; keep it (poll `&mut handle`) to go on waiting.
///
/// # Panics
///
/// Polled where its runtime is not current although it still exists (on another thread, say), or polled again after it was ready.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let task = postlude::spawn(std::future::pending::<()>());
///     task.abort();
///     assert!(task.await.unwrap_err().is_cancelled());
/// })
/// # }
/// ```
pub struct JoinHandle<T> {
    key: Key,
    home: Home,
    id: TaskId,
    /// Set when the output was taken: the key means nothing any more.
    taken: bool,
    /// The blocking job this task waits for, if it is one of those.
    job: Option<JobControl>,
    /// `fn() -> T`: a handle of a task with an `Rc` output is `Send` all the same, since it holds none.
    _output: PhantomData<fn() -> T>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(key: Key, home: Home, id: TaskId) -> Self {
        Self { key, home, id, taken: false, job: None, _output: PhantomData }
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// A handle whose `abort` asks the job first.
    pub(crate) fn with_job(mut self, job: JobControl) -> Self {
        self.job = Some(job);
        self
    }

    /// The task's number.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async { assert_ne!(postlude::spawn(async {}).id().get(), 0) })
    /// # }
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Has the loop drop the task's future on its next visit; the handle then gives `Cancelled`.
    ///
    /// Nothing is dropped inside this call, which may be made from any thread and at any time. A task that aborts itself and
    /// returns a value from the same poll has finished: the value is its output. A finished task is left as it is. A blocking job
    /// (`spawn_blocking`) is only cancelled if it has not started.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(std::future::pending::<()>());
    ///     std::thread::scope(|s| { s.spawn(|| task.abort()); });
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// })
    /// # }
    /// ```
    pub fn abort(&self) {
        if self.taken || self.job.as_ref().is_some_and(|job| !job.cancel()) {
            return;
        }
        match context::current_of(self.home) {
            Some(parts) => parts.abort(self.key),
            None => self.home.send(Message::Abort(self.key)),
        }
    }

    /// Whether the task's future is gone: it returned, panicked or was aborted.
    ///
    /// # Panics
    ///
    /// Where the task's runtime exists but is not current.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(async {});
    ///     assert!(!task.is_finished());
    ///     postlude::task::yield_now().await;
    ///     assert!(task.is_finished());
    /// })
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn is_finished(&self) -> bool {
        if self.taken {
            return true;
        }
        match context::current_of(self.home) {
            Some(parts) => !parts.tasks.borrow_mut().is_pending(self.key),
            None => self.gone_or_panic("`JoinHandle::is_finished` was called"),
        }
    }

    /// Turns the handle into one that aborts the task when it is dropped.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(async { 5 }).abort_on_drop();
    ///     assert_eq!(task.await.unwrap(), 5);
    /// })
    /// # }
    /// ```
    #[must_use = "dropping it aborts the task at once"]
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop { handle: self }
    }

    /// True if the runtime is gone. Otherwise somebody asks in the wrong place.
    #[track_caller]
    fn gone_or_panic(&self, what: &str) -> bool {
        if self.home.is_alive() {
            panic!("{}", context::Misuse::elsewhere(what));
        }
        true
    }
}

impl<T: 'static> JoinHandle<T> {
    /// What `poll` does, whatever budget is left.
    #[track_caller]
    pub(crate) fn poll_output(&mut self, waker: &Waker) -> Poll<Result<T, JoinError>> {
        assert!(!self.taken, "`JoinHandle` was polled after it was ready; keep its output instead");
        let Some(parts) = context::current_of(self.home) else {
            self.taken = self.gone_or_panic("`JoinHandle` was polled");
            return Poll::Ready(Err(JoinError::cancelled()));
        };
        let found = parts.tasks.borrow_mut().poll_join(self.key, waker);
        match found {
            Joining::Waits => Poll::Pending,
            Joining::Pending => {
                let waker = waker.clone();
                let before = parts.tasks.borrow_mut().set_joiner(self.key, waker);
                drop(before);
                Poll::Pending
            }
            Joining::Done(mut task) => {
                self.taken = true;
                let output = task.as_mut().output().and_then(<dyn Any>::downcast_mut::<Output<T>>);
                Poll::Ready(output.and_then(Option::take).unwrap_or_else(|| Err(JoinError::cancelled())))
            }
            Joining::Gone => {
                self.taken = true;
                Poll::Ready(Err(JoinError::cancelled()))
            }
        }
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.taken, "`JoinHandle` was polled after it was ready; keep its output instead");
        ready!(budget::poll_available(cx));
        let output = ready!(self.poll_output(cx.waker()));
        budget::spend();
        Poll::Ready(output)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        match context::current_of(self.home) {
            Some(parts) => parts.detach(self.key),
            None => self.home.send(Message::Detach(self.key)),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id.get()).finish_non_exhaustive()
    }
}

/// A [`JoinHandle`] that aborts its task when dropped: see [`JoinHandle::abort_on_drop`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let token = std::rc::Rc::new(());
///     let held = token.clone();
///     let task = postlude::spawn(async move { let _held = held; std::future::pending::<()>().await });
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
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(std::future::pending::<()>()).abort_on_drop();
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// })
    /// # }
    /// ```
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Like [`JoinHandle::is_finished`].
    ///
    /// # Panics
    ///
    /// Where the task's runtime exists but is not current.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     assert!(!postlude::spawn(async {}).abort_on_drop().is_finished());
    /// })
    /// # }
    /// ```
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

/// Why a task has no output.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// postlude::run(async {
///     let error = postlude::spawn(async { panic!("oh") }).await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: `oh`");
/// })
/// # }
/// ```
pub struct JoinError {
    reason: Reason,
}

enum Reason {
    Cancelled,
    /// In a mutex only to be `Sync`, as errors are expected to be: a payload is just `Send`.
    Panicked(Mutex<Payload>),
    NotStarted(std::io::Error),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self { reason: Reason::Cancelled }
    }

    pub(crate) fn panicked(payload: Payload) -> Self {
        Self { reason: Reason::Panicked(Mutex::new(payload)) }
    }

    pub(crate) fn not_started(error: std::io::Error) -> Self {
        Self { reason: Reason::NotStarted(error) }
    }

    /// The task was aborted, or its runtime ended before it did.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.reason, Reason::Cancelled)
    }

    /// The task panicked.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// postlude::run(async {
    ///     assert!(postlude::spawn(async { panic!() }).await.unwrap_err().is_panic());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.reason, Reason::Panicked(_))
    }

    /// The panic's payload, for [`std::panic::resume_unwind`]; `None` if the task did not panic.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// postlude::run(async {
    ///     let error = postlude::spawn(async { panic!("oh") }).await.unwrap_err();
    ///     assert_eq!(*error.into_panic().unwrap().downcast::<&str>().unwrap(), "oh");
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn into_panic(mut self) -> Option<Box<dyn Any + Send + 'static>> {
        match std::mem::replace(&mut self.reason, Reason::Cancelled) {
            Reason::Panicked(payload) => Some(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
            Reason::Cancelled | Reason::NotStarted(_) => None,
        }
    }
}

impl Drop for JoinError {
    /// A payload whose drop panics must not harm whoever drops the error.
    fn drop(&mut self) {
        if let Reason::Panicked(payload) = std::mem::replace(&mut self.reason, Reason::Cancelled) {
            drop_payload(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

impl JoinError {
    /// The text of the panic, if it is one.
    pub(crate) fn text_of_panic(&self) -> Option<String> {
        let Reason::Panicked(payload) = &self.reason else { return None };
        let payload = payload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Some(panic_text(&payload).to_owned())
    }
}

/// The text of a panic, where it has one.
pub(crate) fn panic_text(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Cancelled => f.write_str("the task was cancelled"),
            Reason::Panicked(payload) => {
                let payload = payload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                write!(f, "the task panicked: `{}`", panic_text(&payload))
            }
            Reason::NotStarted(error) => write!(f, "the blocking job was not started: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::NotStarted(error) => Some(error),
            Reason::Cancelled | Reason::Panicked(_) => None,
        }
    }
}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}
