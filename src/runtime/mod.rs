//! The runtime: the loop, the parts it works on, and the handles that reach it.

pub(crate) mod builder;
pub(crate) mod handle;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use handle::{Handle, RemoteHandle};

pub use crate::event_loop::hooks::{Hooks, Stats, TaskEnd};
pub use crate::event_loop::panics::{PanicPolicy, TaskPanic};
pub use crate::event_loop::turn::Turn;

use crate::event_loop::config::Config;
use crate::event_loop::context;
use crate::event_loop::hooks::Insight;
use crate::event_loop::inbox::{self, Message};
use crate::event_loop::park::Patience;
use crate::event_loop::parts::Parts;
use crate::event_loop::share::Share;
use crate::executor::caught::{drop_payload, drop_silently};
use crate::executor::id::TaskKey;
use crate::executor::queue::QueueId;
use crate::executor::stage::Stage;
use crate::executor::table::Table;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::stderr;
use crate::task::JoinHandle;
use crate::timer::clock::Clock;
use crate::timer::wheel::Wheel;

/// How many tasks that destructors spawn are dropped while a runtime ends; the rest are leaked. A
/// destructor that always spawned a task with such a destructor would otherwise never end.
const DOOMED_TASKS: usize = 1 << 20;

/// Runs a future on a new runtime with default settings, and drops that runtime when the future is
/// ready.
///
/// # Errors
///
/// If the system refuses a descriptor, or if a runtime is already running on this thread: await the
/// future there instead.
///
/// # Panics
///
/// If the future panics.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let sum = postlude::run(async { postlude::spawn(async { 1 }).await.unwrap() + 1 })?;
/// assert_eq!(sum, 2);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    Runtime::new()?.block_on(future)
}

/// A single-threaded runtime: an executor, a reactor and a timer wheel, driven by
/// [`block_on`](Self::block_on) or [`turn`](Self::turn).
///
/// It stays on the thread that made it. Other threads reach it through a [`Handle`].
///
/// Dropping it first cancels blocking jobs that have not started. Then it drops every task:
/// `spawn`, wakers and sockets still work in their destructors, and tasks spawned there are dropped
/// too. It does not wait for running jobs, and drops their outputs; [`shutdown`](Self::shutdown)
/// waits.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = postlude::Runtime::new()?;
/// let task = runtime.spawn(async { 3 });
/// let name = String::from("borrowed");
/// assert_eq!(runtime.block_on(async { name.len() })?, 8);
/// assert_eq!(runtime.block_on(task)?.unwrap(), 3);
/// # Ok(()) }
/// ```
pub struct Runtime {
    parts: Rc<Parts>,
    /// The selector's descriptor, for `AsFd`, which must lend it as long as the runtime is
    /// borrowed.
    registry: mio::Registry,
}

impl Runtime {
    /// Makes a runtime with default settings.
    ///
    /// # Errors
    ///
    /// If the system refuses a descriptor, or 4096 runtimes are alive in this process.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// Returns a builder, for other settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn with_config(config: Config) -> io::Result<Self> {
        let (reactor, registry, waker) = Reactor::new()?;
        let (home, inbox, generation) = inbox::register(waker)?;
        let parts = Parts {
            home,
            tasks: RefCell::new(Table::new(home.number(), generation, config.seed)),
            inbox,
            reactor: RefCell::new(reactor),
            wheel: RefCell::new(Wheel::new()),
            clock: Clock::new(config.paused_clock),
            pool: Pool::new(config.max_blocking_threads),
            other_pools: RefCell::default(),
            insight: Insight::new(&config),
            share: Cell::new(Share::new()),
            running: Cell::new(TaskKey::NONE),
            jobs: Cell::new(0),
            process: Cell::new((0, std::process::id())),
            woken: RefCell::new(Vec::new()),
            entered: Cell::new(None),
            deadlock_reported: Cell::new(false),
            doomed: RefCell::new(Vec::new()),
            fatal: RefCell::new(None),
            races: Cell::new(0),
            config,
        };
        Ok(Self { parts: Rc::new(parts), registry })
    }

    /// Runs the loop until `future` is ready, and returns its output. Spawned tasks run meanwhile,
    /// and continue in the next `block_on`.
    ///
    /// When it has slept for 5 s (on a paused clock: at once) and has no timer, socket or blocking
    /// job to wait for, it says on stderr which tasks wait, once, and continues. A live [`Handle`]
    /// keeps it silent: it stands for work or a wake still to come.
    ///
    /// # Errors
    ///
    /// If this thread already runs a loop (the text says where it was entered), or if the system
    /// call for events fails.
    ///
    /// # Panics
    ///
    /// If the future panics, in a poll or as it is dropped. (If in both, the second panic is
    /// reported.)
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        self.block_on_for(Location::caller(), future)
    }

    /// `block_on` that reports name `caller` as its place.
    pub(crate) fn block_on_for<F: Future>(
        &self,
        caller: &'static Location<'static>,
        future: F,
    ) -> io::Result<F::Output> {
        let parts = &self.parts;
        let _entered = self.enter(caller, "block_on")?;
        let mut future = pin!(Some(future));
        let key = parts.tasks.borrow_mut().begin_root();
        let _root = RootSlot { parts };
        let result = match future.as_mut().as_pin_mut() {
            Some(future) => parts.drive(future),
            None => unreachable!("it was given just now"),
        };
        // While the runtime is entered and the slot is the future's own: its destructors may spawn,
        // and hooks know it by number.
        let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None))).err();
        if parts.has_hooks() {
            let how = match (&result, &dropped) {
                (Ok(Err(_)), _) | (_, Some(_)) => TaskEnd::Panicked,
                (Ok(Ok(_)), None) => TaskEnd::Returned,
                (Err(_), None) => TaskEnd::Aborted,
            };
            parts.tell_ended(key, how);
        }
        match (result, dropped) {
            (Ok(Err(panic)), dropped) => {
                // One panic goes on to the caller; a second one at the same time would abort the
                // process.
                if let Some(second) = dropped {
                    parts.report(None, &second);
                    drop_payload(second);
                }
                resume_unwind(panic)
            }
            (result, Some(panic)) => {
                drop_silently(result);
                resume_unwind(panic)
            }
            (Ok(Ok(output)), None) => Ok(output),
            (Err(error), None) => Err(error),
        }
    }

    /// Runs one turn of the loop, waiting for events at most `timeout` (`None`: until something
    /// happens; zero: not at all).
    ///
    /// For a host with a loop of its own: wait until the runtime's descriptor ([`AsFd`]) is
    /// readable or [`next_deadline`](Self::next_deadline) has come, then call this until
    /// [`Turn::has_more`] is false. Wakes between turns, also from this thread, make the descriptor
    /// readable. On a paused clock a turn without work jumps to the next deadline whatever the
    /// `timeout`, which is real time.
    ///
    /// # Errors
    ///
    /// As [`block_on`](Self::block_on).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::{Duration, Instant};
    /// let mut runtime = postlude::Runtime::new()?;
    /// let task = runtime.spawn(postlude::time::sleep(Duration::from_millis(1)));
    /// drop(task);
    /// while runtime.stats().tasks > 0 {
    ///     runtime.turn(Some(Duration::from_millis(50)))?;
    /// }
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        let _entered = self.enter(Location::caller(), "turn")?;
        let turn = self.parts.turn(None, Patience::Limit(timeout));
        self.parts.inbox.arm_for_pause();
        turn.map(|turn| Turn { has_more: self.parts.has_work(), ..turn })
    }

    /// Like [`spawn`](crate::spawn), from outside: the task first runs in the next `block_on` or
    /// `turn`.
    ///
    /// # Panics
    ///
    /// When the runtime already holds 67 108 608 tasks.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        JoinHandle::new(self.parts.spawn(Stage::boxed(future), QueueId::FOREGROUND, None, Location::caller()))
    }

    /// Like [`spawn`](Self::spawn), for a deferred task: see [`defer`](crate::defer).
    #[track_caller]
    pub fn defer<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        JoinHandle::new(self.parts.spawn(Stage::boxed(future), QueueId::DEFERRED, None, Location::caller()))
    }

    /// Returns a handle with which other threads reach this runtime.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.parts.home, &self.parts.inbox.outside)
    }

    /// Returns when the next turn is due without any event: now while there is work, else no later
    /// than the next timer; `None` if only events can bring work.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let now = self.parts.clock.now();
        if self.parts.has_work() {
            return Some(now);
        }
        self.parts.until_deadline().map(|wait| now + wait)
    }

    /// Returns counts of the loop's activity.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Parts { insight, tasks, inbox, wheel, reactor, .. } = &*self.parts;
        Stats {
            turns: insight.turns.get(),
            polls: insight.polls.get(),
            spawned: insight.spawned.get(),
            wakes: tasks.borrow().wakes(),
            messages: insight.messages.get(),
            wake_calls: inbox.outside.writes.load(Ordering::Relaxed),
            parks: insight.parks.get(),
            events: insight.events.get(),
            timers: insight.timers.get(),
            panics: insight.panics.get(),
            tasks: tasks.borrow().live(),
            timers_set: wheel.borrow().len(),
            sources: reactor.borrow().len(),
        }
    }

    /// Ends the runtime as its drop does, and then waits for running blocking jobs, at most
    /// `limit`: those of `spawn_blocking`, and those of the thread lanes of deferred queues. A
    /// [`Pool`](crate::blocking::Pool) of your own is not waited for.
    ///
    /// # Errors
    ///
    /// `TimedOut` if some still run; they continue, and their outputs are dropped.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::{Duration, Instant};
    /// let runtime = postlude::Runtime::new()?;
    /// runtime.block_on(async { drop(postlude::spawn_blocking(|| ())) })?;
    /// runtime.shutdown(Duration::from_secs(10))
    /// # }
    /// ```
    pub fn shutdown(self, limit: Duration) -> io::Result<()> {
        let mut pools = vec![self.parts.pool.clone()];
        pools.append(&mut self.parts.other_pools.borrow_mut());
        drop(self);
        let began = Instant::now();
        match pools.iter().map(|pool| pool.shutdown(limit.saturating_sub(began.elapsed()))).sum::<usize>() {
            0 => Ok(()),
            running => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{running} blocking job(s) still run after {limit:?}; they go on without the runtime"),
            )),
        }
    }

    fn enter(&self, caller: &'static Location<'static>, what: &str) -> io::Result<Busy<'_>> {
        if let Some(outer) = context::current() {
            let place =
                outer.entered.get().map_or_else(|| "a runtime that is ending".to_owned(), |at| format!("`{at}`"));
            return Err(io::Error::other(format!(
                "`{what}` was called inside a runtime entered at {place}; await the future instead, or block on another thread \
                 with `spawn_blocking`"
            )));
        }
        self.parts.entered.set(Some(caller));
        Ok(Busy { parts: &self.parts, _entered: context::enter(&self.parts) })
    }

    /// Drops every task, one by one. `drop_late` drops the tasks that their destructors spawn.
    fn drop_tasks(&self) {
        let parts = &self.parts;
        parts.tasks.borrow_mut().close();
        let mut from = 0;
        loop {
            let next = parts.tasks.borrow_mut().take_next(&mut from);
            let Some((key, task)) = next else { break };
            // A member of a scope is dropped with the scope.
            let Some(mut task) = task else { continue };
            let id = parts.tasks.borrow_mut().id(key);
            let is_unfinished = task.as_mut().output().is_none();
            let has_panicked = parts.drop_detached(key, task);
            if let (true, Some(id)) = (is_unfinished, id) {
                let how = if has_panicked { TaskEnd::Panicked } else { TaskEnd::Aborted };
                parts.tell(|hooks| hooks.ended(id, how));
            }
        }
    }

    /// Empties the parts that may hold wakers or messages of the user.
    fn drop_parts(&self) {
        let parts = &self.parts;
        inbox::deregister(parts.home, parts.tasks.borrow().next_generation());
        self.drop_late();
        let mut wakers = parts.wheel.borrow_mut().clear();
        wakers.extend(parts.reactor.borrow_mut().clear());
        for waker in wakers {
            parts.guarded(|| drop(waker));
        }
        self.drop_late();
    }

    /// Drops the messages left and the tasks that destructors spawned, and all that their drop
    /// spawns and sends, up to a bound.
    fn drop_late(&self) {
        let parts = &self.parts;
        for _ in 0..DOOMED_TASKS {
            let task = parts.doomed.borrow_mut().pop();
            let message = if task.is_none() { parts.inbox.take() } else { None };
            if task.is_none() && message.is_none() {
                return;
            }
            parts.guarded(|| drop(task));
            match message {
                Some(Message::Panicked(task, panic)) => parts.report_error(task.as_ref(), panic),
                Some(Message::EndScope(_, _, ended)) => parts.tell_ended_ids(ended),
                message => parts.guarded(|| drop(message)),
            }
        }
        let left = std::mem::take(&mut *parts.doomed.borrow_mut());
        stderr::line(format_args!(
            "postlude: destructors have spawned {DOOMED_TASKS} tasks while their runtime ended; {} more are leaked",
            left.len()
        ));
        std::mem::forget(left);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _entered = context::enter(&self.parts);
        self.parts.entered.set(None);
        // Before the tasks, whose drop cancels their jobs: a pool thread that found a cancelled job
        // would drop its closure over there.
        self.parts.pool.shutdown(Duration::ZERO);
        self.drop_tasks();
        self.drop_parts();
    }
}

/// Marks this thread as running the loop, until its drop.
struct Busy<'a> {
    parts: &'a Parts,
    _entered: context::Entered,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.parts.entered.set(None);
    }
}

/// The slot of `block_on`'s future, freed on unwind too.
struct RootSlot<'a> {
    parts: &'a Parts,
}

impl Drop for RootSlot<'_> {
    fn drop(&mut self) {
        self.parts.tasks.borrow_mut().end_root();
    }
}

impl AsFd for Runtime {
    /// Returns the selector's descriptor: readable when a turn has events or messages to handle.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.as_fd()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
