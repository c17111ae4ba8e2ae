//! The parts a runtime is made of, and which runtime is current on this thread.
//!
//! A runtime is current while its loop runs and while it is being dropped. Everything that needs it (`spawn`, a timer, a socket)
//! finds it here instead of holding a pointer to it, which is what lets those things be plain data.
//!
//! # Invariants
//!
//! - User code never runs while one of the parts' `RefCell`s is borrowed: what a part removes is returned and dropped here.
//! - The thread-local has no destructor, so it can be reached while a thread ends; the guard of [`enter`] empties it, on unwind too.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::thread;

use super::builder::{Config, PanicPolicy, TaskPanic};
pub(crate) use super::inbox::Home;
use super::inbox::Inbox;
use super::insight::Insight;
use super::share::Share;
use crate::blocking::Pool;
use crate::reactor::Reactor;
use crate::task::id::{Key, MAX_TASKS, TaskId, WakeId};
use crate::task::join::{JoinError, JoinHandle, panic_text};
use crate::task::local::{self, Scoped};
use crate::task::stage::{Payload, Stage, drop_caught, drop_payload};
use crate::task::table::{Boxed, Class, Described, Finished, Table, Woken};
use crate::time::clock::Clock;
use crate::time::wheel::Wheel;

/// Everything the phases of the loop work on.
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) tasks: RefCell<Table>,
    pub(crate) inbox: Inbox,
    pub(crate) reactor: RefCell<Reactor>,
    pub(crate) wheel: RefCell<Wheel>,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) insight: Insight,
    /// What the deferred class gets of a turn beside ready foreground tasks. Read and written by phase 2.
    pub(crate) share: Cell<Share>,
    /// The task being polled.
    pub(crate) running: Cell<Option<Key>>,
    /// Blocking jobs handed out and not yet reported back.
    pub(crate) jobs: Cell<usize>,
    /// Wakers on their way from the reactor or the wheel to their call: kept for its capacity.
    pub(crate) woken: RefCell<Vec<Waker>>,
    /// Where the `block_on` or `turn` in progress was entered.
    pub(crate) entered: Cell<Option<&'static Location<'static>>>,
    /// The deadlock report is made once.
    pub(crate) deadlock_reported: Cell<bool>,
    /// The runtime is being dropped. What is spawned now is dropped by it.
    pub(crate) closing: Cell<bool>,
    /// Tasks spawned while the runtime was being dropped.
    pub(crate) doomed: RefCell<Vec<Boxed>>,
    /// The panic that ends the loop, set by `end_with` and taken by the turn it ends.
    pub(crate) fatal: RefCell<Option<TaskPanic>>,
    /// Joins and races begun: where each starts is made of its number.
    pub(crate) races: Cell<u64>,
}

thread_local! {
    // Set and reset by `enter` alone; empty on a thread that runs no loop at the moment.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Parts>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Makes a runtime current until the guard is dropped.
pub(crate) fn enter(parts: &Rc<Parts>) -> Entered {
    let outer = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(parts)));
    // What is set around a `block_on` would be seen by every task the loop polls.
    Entered { outer, _locals: local::enter(None) }
}

/// See [`enter`].
pub(crate) struct Entered {
    outer: Option<Rc<Parts>>,
    _locals: local::Entered,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        drop(CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), outer)));
    }
}

/// The current runtime. To be kept no longer than a call.
pub(crate) fn current() -> Option<Rc<Parts>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// The current runtime, if it is the one asked for.
pub(crate) fn current_of(home: Home) -> Option<Rc<Parts>> {
    current().filter(|parts| parts.home == home)
}

/// Wakes a task of the current runtime. False if it belongs to another, or none is current.
pub(crate) fn wake_here(id: WakeId) -> bool {
    let reached = CURRENT.with(|current| match &*current.borrow() {
        Some(parts) if parts.home.number != id.runtime() => Reached::Elsewhere,
        Some(parts) if parts.has_hooks() => Reached::Watched(Rc::clone(parts)),
        Some(parts) => Reached::Here(parts.mark_ready(id.key())),
        None => Reached::Elsewhere,
    });
    let owner = match reached {
        Reached::Elsewhere => return false,
        Reached::Here(owner) => owner,
        Reached::Watched(parts) => parts.mark_ready_and_tell(id.key()),
    };
    if let Some(owner) = owner {
        owner.wake();
    }
    true
}

/// Whether the task that is being polled on this thread was woken since its poll began.
#[cfg(feature = "http")]
pub(crate) fn running_is_woken() -> bool {
    CURRENT.with(|current| {
        let Some(parts) = &*current.borrow() else { return false };
        parts.running.get().is_some_and(|key| parts.tasks.borrow_mut().is_queued(key))
    })
}

/// Where a wake has come to.
enum Reached {
    Elsewhere,
    /// The task is marked; this one is to be woken as well.
    Here(Option<Waker>),
    /// A hook is to be called, and it may do anything, so nothing was done while the thread-local is borrowed.
    Watched(Rc<Parts>),
}

impl Parts {
    /// Moves a future into the table.
    pub(crate) fn spawn<F>(
        &self,
        future: F,
        class: Class,
        name: Option<Box<str>>,
        location: &'static Location<'static>,
    ) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let task = match local::current() {
            None => Stage::boxed(future),
            Some(map) => Stage::boxed(Scoped::new(map, future)),
        };
        self.spawn_boxed(task, class, name, location)
    }

    /// Moves a task into the table. Its output must be an `Output<T>`.
    pub(crate) fn spawn_boxed<T>(
        &self,
        task: Boxed,
        class: Class,
        name: Option<Box<str>>,
        location: &'static Location<'static>,
    ) -> JoinHandle<T> {
        if self.closing.get() {
            self.doomed.borrow_mut().push(task);
            return JoinHandle::new(Key::NONE, self.home, TaskId(0));
        }
        let inserted = self.tasks.borrow_mut().insert(task, class, location, name);
        match inserted {
            Ok((key, id)) => {
                self.spawned(key);
                JoinHandle::new(key, self.home, id)
            }
            Err(task) => {
                drop(task);
                panic!("this runtime holds {MAX_TASKS} tasks, the most it can; wait for some before spawning more")
            }
        }
    }

    pub(crate) fn wake(&self, key: Key) {
        let owner = if self.has_hooks() { self.mark_ready_and_tell(key) } else { self.mark_ready(key) };
        if let Some(owner) = owner {
            self.guarded(|| owner.wake());
        }
    }

    /// Marks a task ready. Returns who is to be woken, with nothing borrowed, if it is a child of a scope.
    #[inline(always)] // a call would be a tenth of a wake
    fn mark_ready(&self, key: Key) -> Option<Waker> {
        let mut tasks = self.tasks.borrow_mut();
        let woken = tasks.wake(key);
        if woken != Woken::No {
            self.insight.wakes.add(1);
        }
        let Woken::Member(group) = woken else { return None };
        tasks.take_owner(group)
    }

    #[cold]
    fn mark_ready_and_tell(&self, key: Key) -> Option<Waker> {
        let wakes = self.insight.wakes.get();
        let owner = self.mark_ready(key);
        let task = if self.insight.wakes.get() == wakes { None } else { self.tasks.borrow_mut().id(key) };
        if let Some(task) = task {
            self.tell_woken(task);
        }
        owner
    }

    /// Has a task dropped on its next visit.
    pub(crate) fn abort(&self, key: Key) {
        self.tasks.borrow_mut().mark_aborted(key);
        self.wake(key);
    }

    /// A handle lets go of its task.
    pub(crate) fn detach(&self, key: Key) {
        let left = self.tasks.borrow_mut().detach(key);
        if let Some(Finished { joiner, detached }) = left {
            self.guarded(|| drop(joiner));
            self.drop_detached(detached);
        }
    }

    /// Drops a finished task nobody waits for, and reports the panic it may have left.
    pub(crate) fn drop_detached(&self, detached: Option<(Boxed, Described)>) {
        let Some((mut task, described)) = detached else { return };
        for payload in [task.as_mut().take_panic(), drop_caught(task)].into_iter().flatten() {
            self.report(Some(&described), &payload);
            drop_payload(payload);
        }
    }

    /// Reports a panic that has nobody else to go to.
    #[cold]
    pub(crate) fn report(&self, task: Option<&Described>, payload: &Payload) {
        self.insight.panics.add(1);
        let panic = TaskPanic::new(task.cloned(), panic_text(payload).to_owned());
        match self.config.panic_policy {
            PanicPolicy::Ignore => return,
            PanicPolicy::Report => {}
            PanicPolicy::ShutdownIfUnobserved | PanicPolicy::ShutdownAlways => self.end_with(panic.clone()),
        }
        let Some(hook) = &self.config.on_panic else {
            eprintln!("postlude: {panic}");
            return;
        };
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| hook(&panic))) {
            eprintln!("postlude: {panic}; the hook for it panicked too: `{}`", panic_text(&again));
            drop_payload(again);
        }
    }

    pub(crate) fn report_error(&self, task: Option<&Described>, error: JoinError) {
        if let Some(payload) = error.into_panic() {
            self.report(task, &payload);
            drop_payload(payload);
        }
    }

    /// Takes note of how a task ended whose handle will hear of it: a panic may be one that the policy does not let pass.
    pub(crate) fn note_error(&self, task: Option<&Described>, error: &JoinError) {
        if self.config.panic_policy != PanicPolicy::ShutdownAlways {
            return;
        }
        if let Some(text) = error.text_of_panic() {
            self.end_with(TaskPanic::new(task.cloned(), text));
        }
    }

    /// Has the turn in progress end the loop. The first panic counts.
    #[cold]
    fn end_with(&self, panic: TaskPanic) {
        if !self.closing.get() {
            self.fatal.borrow_mut().get_or_insert(panic);
        }
    }

    /// Runs a foreign piece of code (a waker's wake or drop, a dropped closure) and reports its panic.
    pub(crate) fn guarded(&self, code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
            self.report(None, &payload);
            drop_payload(payload);
        }
    }

    /// Wakes and empties `wakers`, whoever they belong to.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        for waker in wakers.drain(..) {
            self.guarded(|| waker.wake());
        }
    }
}

/// Using a part of this crate in the wrong place, and what to do instead.
pub(crate) struct Misuse {
    what: String,
    place: &'static str,
    right_place: &'static str,
}

impl Misuse {
    /// Nothing runs here, and any runtime will do.
    pub(crate) fn no_runtime(what: &str) -> Self {
        let right_place = "inside `postlude::run` or `Runtime::block_on`";
        Self { what: what.to_owned(), place: "which runs no runtime", right_place }
    }

    /// `what` belongs to a runtime that is alive, but not the current one.
    pub(crate) fn elsewhere(what: &str) -> Self {
        let place = if current().is_some() { "which runs another runtime" } else { "which runs no runtime" };
        Self { what: what.to_owned(), place, right_place: "inside the `Runtime::block_on` it belongs to" }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        write!(
            f,
            "{} on thread `{name}`, {}; do it {}, or send the work there with `Handle::spawn`",
            self.what, self.place, self.right_place
        )
    }
}
