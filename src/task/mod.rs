//! Tasks: spawning, joining, scopes, cancellation, and queries about the current task.
//!
//! From [`spawn`] to the ready queue it takes two steps. The future is boxed as a `Stage`. The box
//! moves into a slot of the table, which appends the slot's number to the queue. The loop pops the
//! task, polls it, and puts it back.
//!
//! | a task is… | when | what follows |
//! |---|---|---|
//! | queued | it was spawned, woken or aborted | the loop visits it, first in, first out |
//! | running | the loop polls it | pending: it waits; ready: it is done |
//! | waiting | its last poll was pending | its waker queues it |
//! | done | it returned, panicked or was aborted | its handle takes the output, or it is dropped |
//!
//! `src/executor/slots.rs` draws the exact states, and names the function behind each transition.
//!
//! A task must be `'static`, since it lives on by itself. The children of a [`scope`](scope()) may
//! borrow: the scope's future keeps and polls them.

mod branches;
mod cancel;
pub(crate) mod job;
pub(crate) mod join;
mod scope;
mod set;

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use crate::executor::about::Current;
pub use crate::executor::budget::{has_budget, poll_proceed, spend};
pub use crate::executor::error::JoinError;
pub use crate::executor::id::TaskId;
pub use crate::executor::local::{Local, Scoped};
pub use branches::{Join, Race, TryJoin, join, race, try_join};
pub use cancel::{CancelGuard, CancelToken, Cancelled};
pub use join::{AbortOnDrop, JoinHandle};
pub use scope::{Cause, Child, Failure, NamedChild, Scope, ScopeError, scope};
pub use set::JoinSet;

use crate::event_loop::context;
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::Spawned;
use crate::executor::queue::QueueId;
use crate::executor::stage::{Boxed, Stage};

/// Runs a future as a task of the current runtime, concurrently with the caller.
///
/// The task is queued at once and first polled after the caller has yielded. The future need not be
/// `Send`: it never leaves this thread. Dropping the returned handle detaches the task, which runs
/// on.
///
/// # Panics
///
/// Outside a runtime: "`spawn` was called on thread …, which runs no runtime; do it inside
/// `postlude::run` or `Runtime::block_on`, …". When the runtime already holds 67 108 608 tasks:
/// "this runtime holds 67108608 tasks, the most it can; wait for some before spawning more".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let task = postlude::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// })
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    JoinHandle::new(spawn_task(Stage::boxed(future), QueueId::FOREGROUND, None, Location::caller(), "spawn"))
}

/// Spawns a boxed future on the current runtime; `what` is the public function, for the panic's
/// text.
///
/// Callers box the future themselves: without optimization each call by value is another copy of it
/// on the stack.
#[track_caller]
pub(crate) fn spawn_task(
    task: Boxed,
    queue: QueueId,
    name: Option<Box<str>>,
    location: &'static Location<'static>,
    what: &str,
) -> Spawned {
    match context::current() {
        Some(parts) => parts.spawn(task, queue, name, location),
        None => panic!("{}", Misuse::no_runtime(&format!("`{what}` was called"))),
    }
}

/// Spawns tasks with a name, for reports and logs.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let task = postlude::task::Builder::new().name("clock").spawn(async {
///         postlude::task::current().and_then(|task| task.name)
///     });
///     assert_eq!(task.await.unwrap().as_deref(), Some("clock"));
/// })
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<Box<str>>,
}

impl Builder {
    /// A builder without a name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task. Names need not be unique.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Spawns the task, like [`spawn`], with the same panics.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (task, caller) = (Stage::boxed(future), Location::caller());
        JoinHandle::new(spawn_task(task, QueueId::FOREGROUND, self.name, caller, "task::Builder::spawn"))
    }

    /// Spawns the task as a deferred one, like [`defer`](crate::defer), with the same panics.
    #[track_caller]
    pub fn defer<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (task, caller) = (Stage::boxed(future), Location::caller());
        JoinHandle::new(spawn_task(task, QueueId::DEFERRED, self.name, caller, "task::Builder::defer"))
    }
}

/// The task being polled on this thread; `None` outside tasks.
///
/// The future given to `block_on` counts as a task, without a spawn site.
///
/// ```
/// assert!(postlude::task::current().is_none());
/// # postlude::run(async { assert!(postlude::task::current().is_some()) }).unwrap();
/// ```
#[must_use]
pub fn current() -> Option<Current> {
    let parts = context::current()?;
    parts.tasks.borrow_mut().describe_key(parts.running.get())
}

/// Whether the task being polled was woken since its poll began, so that it is polled again in the
/// next turn. False outside tasks.
///
/// An executor inside a task can tell by this whether the child it has just polled waits, or has
/// only yielded. Wakes of a scope's body do not count for the scope's owner.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::{future::poll_fn, task::Poll};
/// postlude::run(poll_fn(|cx| {
///     assert!(!postlude::task::is_woken());
///     cx.waker().wake_by_ref();
///     assert!(postlude::task::is_woken());
///     Poll::Ready(())
/// }))
/// # }
/// ```
#[must_use]
pub fn is_woken() -> bool {
    context::current().is_some_and(|parts| parts.tasks.borrow_mut().is_queued(parts.running.get()))
}

/// Lets the other tasks run: the caller is polled again in the next turn, after the operating
/// system was polled for events.
///
/// Works under any executor.
///
/// # Cancel safety
///
/// Dropping the future loses nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let other = postlude::spawn(async {});
///     postlude::task::yield_now().await;
///     assert!(other.is_finished());
/// })
/// # }
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
