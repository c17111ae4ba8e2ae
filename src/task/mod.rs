//! Tasks: spawning them, waiting for them, and what one can ask about itself.
//!
//! From [`spawn`] to the ready queue are two steps: the future is boxed as a `Stage`, and the box is moved into a slot of
//! the table, which appends the slot's number to the queue. The loop pops it, polls it, and puts it back.
//!
//! | a task is… | when | what happens next |
//! |---|---|---|
//! | queued | it was spawned, woken or aborted | the loop visits it, first in first out |
//! | running | the loop polls it | pending: it waits; ready: it is done |
//! | waiting | its last poll was pending | its waker queues it |
//! | done | its future returned, panicked or was aborted | the future is gone; the output waits for the handle, or is dropped |
//!
//! The exact states, and who moves a task between them, are drawn in `table.rs`.
//!
//! A task may borrow nothing, since it lives on by itself. The children of a [`scope`](scope()) may: the scope's future keeps and polls them.

mod branches;
pub(crate) mod budget;
mod cancel;
pub(crate) mod id;
pub(crate) mod join;
pub(crate) mod local;

mod scope;
mod set;
pub(crate) mod stage;
pub(crate) mod table;
pub(crate) mod wake;

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use branches::{Join, Race, TryJoin, join, race, try_join};
pub use budget::{has_budget, poll_proceed};
pub use cancel::{CancelGuard, CancelToken, Cancelled};
pub use id::TaskId;
pub use join::{AbortOnDrop, JoinError, JoinHandle};
pub use local::{Local, Scoped};

pub use scope::{Cause, Child, Failure, NamedChild, Scope, ScopeError, scope};
pub use set::JoinSet;

use crate::runtime::context;
use table::Class;

/// Runs a future as a task of the current runtime, beside the caller.
///
/// The task is queued at once and first polled when the caller yields. The future need not be `Send`: it never leaves this thread.
/// Dropping the returned handle lets the task run on by itself.
///
/// # Panics
///
/// Outside a runtime, and when the runtime already holds 2²⁶ tasks.
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
    spawn_as(future, Class::Foreground, None, Location::caller(), "spawn")
}

#[track_caller]
pub(crate) fn spawn_as<F>(
    future: F,
    class: Class,
    name: Option<Box<str>>,
    location: &'static Location<'static>,
    what: &str,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match context::current() {
        Some(parts) => parts.spawn(future, class, name, location),
        None => panic!("{}", context::Misuse::no_runtime(&format!("`{what}` was called"))),
    }
}

/// Spawns with a name, for reports and logs.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let task = postlude::task::Builder::new().name("clock").spawn(async {
///         postlude::task::current().and_then(|task| task.name().map(str::to_owned))
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
    ///
    /// ```
    /// let builder = postlude::task::Builder::new();
    /// # drop(builder);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task. Names need not be unique.
    ///
    /// ```
    /// let builder = postlude::task::Builder::new().name("mail");
    /// # drop(builder);
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Like [`spawn`].
    ///
    /// # Panics
    ///
    /// As [`spawn`] does.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     assert_eq!(postlude::task::Builder::new().name("seven").spawn(async { 7 }).await.unwrap(), 7);
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_as(future, Class::Foreground, self.name, Location::caller(), "task::Builder::spawn")
    }

    /// Like [`defer`](crate::defer).
    ///
    /// # Panics
    ///
    /// As [`defer`](crate::defer) does.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     assert_eq!(postlude::task::Builder::new().name("later").defer(async { 7 }).await.unwrap(), 7);
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn defer<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_as(future, Class::Deferred, self.name, Location::caller(), "task::Builder::defer")
    }
}

/// What a task knows of itself: see [`current`].
#[derive(Clone, Debug)]
pub struct Current {
    id: TaskId,
    name: Option<Box<str>>,
    location: Option<&'static Location<'static>>,
}

impl Current {
    /// Its number.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let task = postlude::spawn(async { postlude::task::current().unwrap().id() });
    ///     let id = task.id();
    ///     assert_eq!(task.await.unwrap(), id);
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Its name, if it was given one.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async { assert_eq!(postlude::task::current().unwrap().name(), None) })
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned; `None` for the future given to `block_on`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let place = postlude::spawn(async { postlude::task::current().unwrap().location() });
    ///     assert_eq!(place.await.unwrap().unwrap().file(), file!());
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }
}

/// The task being polled on this thread; `None` outside tasks.
///
/// The future given to `block_on` counts as one, without a place of its own.
///
/// ```
/// assert!(postlude::task::current().is_none());
/// # postlude::run(async { assert!(postlude::task::current().is_some()) }).unwrap();
/// ```
#[must_use]
pub fn current() -> Option<Current> {
    let parts = context::current()?;
    let key = parts.running.get()?;
    let described = parts.tasks.borrow_mut().describe_key(key);
    described.map(Current::from)
}

/// Lets the other tasks run: the caller is polled again in the next turn, after the operating system was asked for events.
///
/// Works under any executor. Dropping the future loses nothing.
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

impl From<table::Described> for Current {
    fn from(task: table::Described) -> Self {
        Self { id: task.id, name: task.name, location: task.location }
    }
}
