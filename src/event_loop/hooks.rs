//! Statistics and hooks: what the loop reports about its work.
//!
//! The loop calls a method here when a task is spawned, woken or ended, before and after each poll,
//! and when it parks. That keeps counting and timing out of the loop's text. The methods feed
//! [`Stats`], the report of slow polls, and the user's [`Hooks`]. A hook is user code, so it is
//! called with nothing borrowed. Without hooks an event costs one branch.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::config::Config;
use super::parts::Parts;
use crate::executor::about::Current;
use crate::executor::error::JoinError;
use crate::executor::id::{TaskId, TaskKey};
use crate::stderr;

/// Counters of a runtime since its start: see [`Runtime::stats`](crate::Runtime::stats).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = postlude::Runtime::new()?;
/// runtime.block_on(postlude::task::yield_now())?;
/// assert_eq!(runtime.stats().polls, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop begun.
    pub turns: u64,
    /// Polls of tasks, scopes' children and the future given to `block_on`.
    pub polls: u64,
    /// Tasks spawned, including deferred tasks and scopes' children.
    pub spawned: u64,
    /// Times a task became ready: a waiting one, or a running one that is to be polled again.
    pub wakes: u64,
    /// Messages taken from the inbox: wakes, spawns and drops from elsewhere.
    pub messages: u64,
    /// System calls made to wake the sleeping loop.
    pub wake_calls: u64,
    /// Times the operating system was polled for events.
    pub parks: u64,
    /// Events the operating system reported.
    pub events: u64,
    /// Timers that fired.
    pub timers: u64,
    /// Unobserved panics, reported or ignored: see [`PanicPolicy`](crate::PanicPolicy).
    pub panics: u64,
    /// Current tasks: running, waiting, or ended with the output still kept for a `JoinHandle`.
    pub tasks: usize,
    /// Timers currently set.
    pub timers_set: usize,
    /// Sockets and other sources currently registered.
    pub sources: usize,
}

/// The counters behind [`Stats`], one cell each, so that counting is one addition.
#[derive(Default)]
pub(crate) struct Insight {
    pub(crate) turns: Count,
    pub(crate) polls: Count,
    pub(crate) spawned: Count,
    pub(crate) messages: Count,
    pub(crate) parks: Count,
    pub(crate) events: Count,
    pub(crate) timers: Count,
    pub(crate) panics: Count,
    /// Whether polls are reported to hooks or timed.
    watches_polls: bool,
    /// The starts of the polls in progress, if they are timed: a task's, then, nested within it,
    /// those of scopes' children.
    began: RefCell<Vec<Instant>>,
}

#[derive(Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Observes the loop, for a trace, a profile or a metric: see
/// [`Builder::hooks`](crate::Builder::hooks).
///
/// Each method does nothing by default. The loop calls it on its own thread, between its steps, so
/// it may do whatever a task may: spawn, wake, abort, drop. A panic in it is reported as one that
/// belongs to no task. Its cost adds to every event.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::{cell::Cell, rc::Rc};
///
/// struct Polls(Rc<Cell<u32>>);
/// impl postlude::Hooks for Polls {
///     fn poll_begins(&self, _: postlude::TaskId) {
///         self.0.set(self.0.get() + 1);
///     }
/// }
/// let polls = Rc::new(Cell::new(0));
/// let runtime = postlude::Runtime::builder().hooks(Polls(Rc::clone(&polls))).build()?;
/// runtime.block_on(postlude::task::yield_now())?;
/// assert_eq!(polls.get(), 2);
/// # Ok(())
/// # }
/// ```
pub trait Hooks {
    /// A task was spawned and is queued; deferred tasks and scopes' children count. A hook that
    /// spawns calls itself. When [`Runtime::spawn`](crate::Runtime::spawn) is called between turns,
    /// no runtime is current here.
    fn spawned(&self, task: &Current) {
        let _ = task;
    }

    /// A task has become ready. Called within the call of the waker, if that is on the loop's
    /// thread.
    fn woken(&self, task: TaskId) {
        let _ = task;
    }

    /// A task is about to be polled. The future given to `block_on` counts, and so does a scope's
    /// child, within the poll of its owner.
    fn poll_begins(&self, task: TaskId) {
        let _ = task;
    }

    /// A poll is over. If the future was ready, it has been dropped.
    fn poll_ends(&self, task: TaskId) {
        let _ = task;
    }

    /// A task has ended, and its future is gone. Called once for each spawned task, each scope's
    /// child and the future given to `block_on`, also for tasks that an ending runtime drops. A
    /// panic makes it [`TaskEnd::Panicked`], wherever that goes: to a handle, a scope or a report.
    fn ended(&self, task: TaskId, how: TaskEnd) {
        let _ = (task, how);
    }

    /// The loop has nothing to do and is about to sleep. If this call makes work, the loop polls
    /// the operating system and goes on. So a virtual clock stands still while each call makes
    /// work.
    fn parks(&self) {}
}

/// How a task ended: see [`Hooks::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskEnd {
    /// Its future was ready.
    Returned,
    /// Its future panicked, in a poll or as it was dropped.
    Panicked,
    /// It was dropped before it was ready: aborted, cancelled with its scope, or left by its
    /// runtime.
    Aborted,
}

impl TaskEnd {
    pub(crate) fn of(error: Option<&JoinError>) -> Self {
        match error {
            None => Self::Returned,
            Some(error) if error.is_panic() => Self::Panicked,
            Some(_) => Self::Aborted,
        }
    }
}

impl Parts {
    pub(crate) fn has_hooks(&self) -> bool {
        self.config.hooks.is_some()
    }

    /// Calls a hook, if there are hooks. Nothing may be borrowed.
    pub(crate) fn tell(&self, event: impl FnOnce(&dyn Hooks)) {
        if let Some(hooks) = &self.config.hooks {
            self.guarded(|| event(&**hooks));
        }
    }

    /// Calls a hook about a live task.
    fn tell_of(&self, key: TaskKey, event: impl FnOnce(&dyn Hooks, TaskId)) {
        let task = self.tasks.borrow_mut().id(key);
        if let Some(task) = task {
            self.tell(|hooks| event(hooks, task));
        }
    }

    pub(crate) fn spawned(&self, key: TaskKey) {
        self.insight.spawned.add(1);
        if self.has_hooks() {
            self.tell_spawned(key);
        }
    }

    #[cold]
    fn tell_spawned(&self, key: TaskKey) {
        let task = self.tasks.borrow_mut().describe_key(key);
        if let Some(task) = task {
            self.tell(|hooks| hooks.spawned(&task));
        }
    }

    /// Call it only if there are hooks, and before the task's slot is freed.
    #[cold]
    pub(crate) fn tell_ended(&self, key: TaskKey, how: TaskEnd) {
        self.tell_of(key, |hooks, task| hooks.ended(task, how));
    }

    pub(crate) fn tell_ended_ids(&self, ended: Vec<(TaskId, TaskEnd)>) {
        ended.into_iter().for_each(|(task, how)| self.tell(|hooks| hooks.ended(task, how)));
    }

    pub(crate) fn poll_begins(&self, key: TaskKey) {
        self.insight.polls.add(1);
        if self.insight.watches_polls {
            self.watch_poll(key);
        }
    }

    #[cold]
    fn watch_poll(&self, key: TaskKey) {
        self.tell_of(key, |hooks, task| hooks.poll_begins(task));
        if self.config.slow_poll.is_some() {
            self.insight.began.borrow_mut().push(Instant::now());
        }
    }

    pub(crate) fn poll_ends(&self, key: TaskKey) {
        if self.insight.watches_polls {
            self.end_watch(key);
        }
    }

    /// Reports a slow poll, then calls the hook.
    #[cold]
    fn end_watch(&self, key: TaskKey) {
        if let Some(limit) = self.config.slow_poll {
            let began = self.insight.began.borrow_mut().pop();
            let took = began.map_or(Duration::ZERO, |began| began.elapsed());
            if took > limit {
                let task = self.tasks.borrow_mut().describe_key(key);
                let task = task.map_or_else(|| "a finished task".to_owned(), |task| task.to_string());
                stderr::line(format_args!(
                    "postlude: a poll of {task} took {took:?} (limit {limit:?}) and nothing else ran meanwhile; \
                     move such work to `spawn_blocking`"
                ));
                // The owner's poll took at least as long but is not to blame: take the time off it.
                if let Some(outer) = self.insight.began.borrow_mut().last_mut() {
                    *outer = outer.checked_add(took).unwrap_or(*outer);
                }
            }
        }
        self.tell_of(key, |hooks, task| hooks.poll_ends(task));
    }

    /// The loop is about to sleep. True if a hook was called, which may have made work.
    pub(crate) fn parks(&self) -> bool {
        self.tell(|hooks| hooks.parks());
        self.has_hooks()
    }
}

impl Insight {
    pub(crate) fn new(config: &Config) -> Self {
        Self { watches_polls: config.slow_poll.is_some() || config.hooks.is_some(), ..Self::default() }
    }

    pub(crate) fn parked(&self, events: usize) {
        self.parks.add(1);
        self.events.add(events as u64);
    }
}
