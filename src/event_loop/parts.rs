//! The parts of a runtime: the state that the phases of the loop work on.
//!
//! # Invariant
//!
//! User code never runs while a `RefCell` of the parts is borrowed. A part returns each value it
//! removes, and the value is dropped here, after the borrow.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::task::Waker;

use super::config::Config;
use super::context;
use super::hooks::Insight;
use super::inbox::{Home, Inbox, Message};
use super::panics::TaskPanic;
use super::share::Share;
use super::waker;
use crate::executor::caught::{drop_caught, drop_payload};
use crate::executor::id::{MAX_TASKS, TaskId, TaskKey};
use crate::executor::local;
use crate::executor::queue::{QueueId, WakeTarget};
use crate::executor::stage::{Boxed, Localized};
use crate::executor::table::Table;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::timer::clock::Clock;
use crate::timer::wheel::Wheel;

/// The state of a runtime, shared by the phases of its loop.
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) tasks: RefCell<Table>,
    pub(crate) inbox: Inbox,
    pub(crate) reactor: RefCell<Reactor>,
    pub(crate) wheel: RefCell<Wheel>,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    /// Pools that parts of this runtime made for themselves: `shutdown` waits for their jobs, too.
    pub(crate) other_pools: RefCell<Vec<Pool>>,
    pub(crate) insight: Insight,
    /// The deferred class's share of a turn. Read and written by phase 2.
    pub(crate) share: Cell<Share>,
    /// The task being polled, or `TaskKey::NONE`.
    pub(crate) running: Cell<TaskKey>,
    /// Blocking jobs handed out and not yet reported back.
    pub(crate) jobs: Cell<usize>,
    /// The number of this process, and before it the turn that has asked for it.
    pub(crate) process: Cell<(u64, u32)>,
    /// A buffer for wakers collected from the reactor or the wheel, kept for its capacity.
    pub(crate) woken: RefCell<Vec<Waker>>,
    /// The caller of the `block_on` or `turn` in progress.
    pub(crate) entered: Cell<Option<&'static Location<'static>>>,
    /// Whether the deadlock report was made. It is made once.
    pub(crate) deadlock_reported: Cell<bool>,
    /// Tasks spawned while the runtime was being dropped.
    pub(crate) doomed: RefCell<Vec<Boxed>>,
    /// The panic that ends the loop, set by `report` and taken by the turn it ends.
    pub(crate) fatal: RefCell<Option<TaskPanic>>,
    /// The number of joins and races begun; it decides which branch each polls first.
    pub(crate) races: Cell<u64>,
}

/// A spawned task, as its handle knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spawned {
    pub(crate) key: TaskKey,
    pub(crate) home: Home,
    pub(crate) id: TaskId,
}

impl Spawned {
    /// Aborts the task, from any thread.
    pub(crate) fn abort(&self) {
        match context::current_of(self.home) {
            Some(parts) => parts.abort(self.key),
            None => self.home.send(Message::Abort(self.key)),
        }
    }
}

/// Panics: every slot is taken.
#[cold]
#[track_caller]
pub(crate) fn table_is_full() -> ! {
    panic!("this runtime holds {MAX_TASKS} tasks, the most it can; wait for some before spawning more")
}

impl Parts {
    /// The number of this process. Asking is a system call and made once a turn at most, so a fork
    /// later in a turn is noticed in the next one.
    pub(crate) fn process(&self) -> u32 {
        let turn = self.insight.turns.get();
        if self.process.get().0 != turn {
            self.process.set((turn, std::process::id()));
        }
        self.process.get().1
    }

    /// Moves a task into the table, with the current task-locals. A runtime that is being dropped
    /// accepts no task: the key is then `TaskKey::NONE`.
    #[inline]
    pub(crate) fn spawn(
        &self,
        task: Boxed,
        queue: QueueId,
        name: Option<Box<str>>,
        location: &'static Location<'static>,
    ) -> Spawned {
        let task = match local::current() {
            None => task,
            Some(map) => Localized::boxed(map, task),
        };
        let inserted = self.tasks.borrow_mut().insert(task, queue, location, name);
        match inserted {
            Ok((key, id)) => {
                self.spawned(key);
                Spawned { key, home: self.home, id }
            }
            Err(task) => self.spawn_late(task),
        }
    }

    #[cold]
    fn spawn_late(&self, task: Boxed) -> Spawned {
        if !self.tasks.borrow().is_closed() {
            drop(task);
            table_is_full()
        }
        self.doomed.borrow_mut().push(task);
        Spawned { key: TaskKey::NONE, home: self.home, id: TaskId(0) }
    }

    /// Wakes a task. For the first ready member of a scope, also wakes the task that polls the
    /// scope.
    #[inline]
    pub(crate) fn wake(&self, key: TaskKey) {
        if self.has_hooks() {
            return self.wake_and_tell(key);
        }
        let owner = self.tasks.borrow_mut().wake(key);
        if let Some(owner) = owner {
            self.guarded(|| owner.wake());
        }
    }

    #[cold]
    fn wake_and_tell(&self, mut key: TaskKey) {
        loop {
            let (woken, owner) = self.tasks.borrow_mut().wake_and_tell(key);
            if let Some(task) = woken {
                self.tell(|hooks| hooks.woken(task));
            }
            match owner {
                Some(WakeTarget::Task(owner)) => key = owner,
                Some(WakeTarget::Foreign(owner)) => return self.guarded(|| owner.wake()),
                None => return,
            }
        }
    }

    #[inline]
    pub(crate) fn wake_target(&self, target: WakeTarget) {
        match target {
            WakeTarget::Task(key) => self.wake(key),
            WakeTarget::Foreign(waker) => self.guarded(|| waker.wake()),
        }
    }

    /// Marks a task to be dropped on its next visit, and wakes it.
    pub(crate) fn abort(&self, key: TaskKey) {
        self.tasks.borrow_mut().mark_aborted(key);
        self.wake(key);
    }

    /// Detaches a task from its handle, which is being dropped.
    pub(crate) fn detach(&self, key: TaskKey) {
        let (joiner, task) = self.tasks.borrow_mut().detach(key);
        self.guarded(|| drop(joiner));
        if let Some(task) = task {
            self.drop_detached(key, task);
        }
    }

    /// Drops a finished task without a handle, then frees its slot. Reports its panic, and a panic
    /// of its drop; true if there was one.
    pub(crate) fn drop_detached(&self, key: TaskKey, mut task: Boxed) -> bool {
        let mut has_panicked = false;
        for payload in [task.as_mut().take_panic(), drop_caught(task)].into_iter().flatten() {
            has_panicked = true;
            let described = self.tasks.borrow_mut().describe_key(key);
            self.report(described.as_ref(), &payload);
            drop_payload(payload);
        }
        let joiner = self.tasks.borrow_mut().remove(key);
        self.guarded(|| drop(joiner));
        has_panicked
    }

    /// Wakes and empties `wakers`: this runtime's own tasks in one borrow, the others outside it.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        if wakers.is_empty() {
            return;
        }
        if !self.has_hooks() {
            let mut tasks = self.tasks.borrow_mut();
            // Dropping one of our own wakers runs no user code.
            wakers.retain_mut(|waker| {
                let Some(key) = waker::task_of(waker, self.home) else { return true };
                let owner = tasks.wake(key);
                owner.is_some_and(|owner| {
                    *waker = owner;
                    true
                })
            });
        }
        for waker in wakers.drain(..) {
            self.guarded(|| waker.wake());
        }
    }
}
