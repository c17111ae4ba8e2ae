//! The parts a runtime is made of: everything the phases of the loop work on.
//!
//! # Invariant
//!
//! User code never runs while one of the parts' `RefCell`s is borrowed: what a part removes is returned and dropped here.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::task::Waker;

use super::config::Config;
use super::hooks::Insight;
use super::inbox::{Home, Inbox};
use super::panics::TaskPanic;
use super::share::Share;
use super::waker;
use crate::executor::about::Current;
use crate::executor::caught::{drop_caught, drop_payload};
use crate::executor::id::{MAX_TASKS, TaskId, TaskKey};
use crate::executor::queue::{QueueId, WakeTarget};
use crate::executor::stage::Boxed;
use crate::executor::table::{Finished, Table};
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::timer::clock::Clock;
use crate::timer::wheel::Wheel;

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
    pub(crate) running: Cell<Option<TaskKey>>,
    /// Blocking jobs handed out and not yet reported back.
    pub(crate) jobs: Cell<usize>,
    /// The number of this process, and before it the turn that has asked for it.
    pub(crate) process: Cell<(u64, u32)>,
    /// Wakers on their way from the reactor or the wheel to their call: kept for its capacity.
    pub(crate) woken: RefCell<Vec<Waker>>,
    /// Where the `block_on` or `turn` in progress was entered.
    pub(crate) entered: Cell<Option<&'static Location<'static>>>,
    /// The deadlock report is made once.
    pub(crate) deadlock_reported: Cell<bool>,
    /// Tasks spawned while the runtime was being dropped.
    pub(crate) doomed: RefCell<Vec<Boxed>>,
    /// The panic that ends the loop, set by `end_with` and taken by the turn it ends.
    pub(crate) fatal: RefCell<Option<TaskPanic>>,
    /// Joins and races begun: where each starts is made of its number.
    pub(crate) races: Cell<u64>,
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

    /// Moves a task into the table. A runtime that is being dropped takes none: the key is then `TaskKey::NONE`.
    pub(crate) fn spawn(
        &self,
        task: Boxed,
        queue: QueueId,
        name: Option<Box<str>>,
        location: &'static Location<'static>,
    ) -> (TaskKey, TaskId) {
        let inserted = self.tasks.borrow_mut().insert(task, queue, location, name);
        match inserted {
            Ok((key, id)) => {
                self.spawned(key);
                (key, id)
            }
            Err(task) if self.tasks.borrow().is_closed() => {
                self.doomed.borrow_mut().push(task);
                (TaskKey::NONE, TaskId(0))
            }
            Err(task) => {
                drop(task);
                panic!("this runtime holds {MAX_TASKS} tasks, the most it can; wait for some before spawning more")
            }
        }
    }

    /// Wakes a task, and with the first member of a scope the task that polls the scope.
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
                self.tell_woken(task);
            }
            match owner {
                Some(WakeTarget::Task(owner)) => key = owner,
                Some(WakeTarget::Foreign(owner)) => return self.guarded(|| owner.wake()),
                None => return,
            }
        }
    }

    pub(crate) fn wake_target(&self, target: WakeTarget) {
        match target {
            WakeTarget::Task(key) => self.wake(key),
            WakeTarget::Foreign(waker) => self.guarded(|| waker.wake()),
        }
    }

    /// Has a task dropped on its next visit.
    pub(crate) fn abort(&self, key: TaskKey) {
        self.tasks.borrow_mut().mark_aborted(key);
        self.wake(key);
    }

    /// A handle lets go of its task.
    pub(crate) fn detach(&self, key: TaskKey) {
        let left = self.tasks.borrow_mut().detach(key);
        if let Some(Finished { joiner, detached }) = left {
            self.guarded(|| drop(joiner));
            self.drop_detached(detached);
        }
    }

    /// Drops a finished task nobody waits for, and reports the panic it may have left.
    /// True if there was one.
    pub(crate) fn drop_detached(&self, detached: Option<(Boxed, Current)>) -> bool {
        let Some((mut task, described)) = detached else { return false };
        let mut has_panicked = false;
        for payload in [task.as_mut().take_panic(), drop_caught(task)].into_iter().flatten() {
            has_panicked = true;
            self.report(Some(&described), &payload);
            drop_payload(payload);
        }
        has_panicked
    }

    /// Wakes and empties `wakers`: this runtime's own tasks in one borrow, the others outside of it.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        if wakers.is_empty() {
            return;
        }
        if !self.has_hooks() {
            let mut tasks = self.tasks.borrow_mut();
            let (mut owners, mut foreign) = (Vec::new(), 0);
            for index in 0..wakers.len() {
                match waker::task_of(&wakers[index], self.home) {
                    Some(key) => owners.extend(tasks.wake(key)),
                    None => {
                        wakers.swap(foreign, index);
                        foreign += 1;
                    }
                }
            }
            drop(tasks);
            // Dropping a waker of our own runs no code.
            wakers.truncate(foreign);
            wakers.append(&mut owners);
        }
        for waker in wakers.drain(..) {
            self.guarded(|| waker.wake());
        }
    }
}
