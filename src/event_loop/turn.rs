//! The event loop.
//!
//! [`Parts::turn`] is one turn of it, in five phases. `block_on` calls it until its future is
//! ready. A host with a loop of its own calls it through [`Runtime::turn`](crate::Runtime::turn).
//! Every phase does a bounded amount of work, so that no busy phase keeps the others from their
//! turn.
//!
//! 1. **run** ready foreground tasks, up to `polls_per_turn` (64) polls. A task woken by another
//!    task meanwhile still runs in this phase. A task that woke itself, or used up its budget, runs
//!    in the next turn, after the system was polled.
//! 2. **defer**: poll ready deferred tasks, at least one. All of them run while no foreground task
//!    is ready, otherwise the [`Share`](super::share::Share) of the class. The phase ends after
//!    about a millisecond.
//! 3. **inbox**: handle messages from other threads, up to [`MESSAGES_PER_TURN`].
//! 4. **timers**: fire the timers that are due, up to [`TIMERS_PER_TURN`].
//! 5. **park**: poll the system for events. Skip that while there is work and no source; do not
//!    wait while there is work; otherwise wait until the next deadline.

use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use super::hooks::TaskEnd;
use super::inbox::Message;
use super::park::Patience;
use super::parts::Parts;
use super::waker;
use crate::executor::budget;
use crate::executor::id::TaskKey;
use crate::executor::queue::{QueueId, WakeTarget};
use crate::executor::stage::Boxed;
use crate::executor::table::Visit;

/// Messages taken from the inbox in a turn: a message is about as much work as a short poll.
const MESSAGES_PER_TURN: usize = 256;
/// Timers fired (or moved within the wheel) in a turn: each takes a few nanoseconds, so this many
/// stay under 20 µs.
const TIMERS_PER_TURN: usize = 1024;

/// Polls the future given to `block_on`, which stays pinned there.
type Root<'a> = dyn FnMut(&mut Context<'_>) -> Poll<()> + 'a;

/// The outcome of one turn of the loop: see [`Runtime::turn`](crate::Runtime::turn).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let mut runtime = postlude::Runtime::new()?;
/// drop(runtime.spawn(async {}));
/// let turn = runtime.turn(Some(std::time::Duration::ZERO))?;
/// assert_eq!((turn.polls, turn.has_more), (1, false));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Tasks polled or cancelled in this turn; a task counts once for each time.
    pub polls: usize,
    /// Whether there is work for another turn already.
    pub has_more: bool,
    pub(crate) root_is_ready: bool,
}

impl Parts {
    /// One turn. This right here is the event loop; the rest of this file is its steps.
    pub(crate) fn turn(&self, mut root: Option<&mut Root<'_>>, patience: Patience) -> io::Result<Turn> {
        let mut turn = Turn::default();
        self.insight.turns.add(1);
        // 1. run
        let began = self.time_of_deferred_work();
        self.run(&mut root, &mut turn);
        if turn.root_is_ready {
            return Ok(turn);
        }
        // 2. defer
        self.run_deferred(began, &mut turn);
        // 3. inbox
        self.take_messages();
        // 4. timers
        self.fire_timers();
        // 5. park
        self.park(patience)?;
        self.end_by_panic()?;
        Ok(turn)
    }

    /// Ends the loop if an unobserved panic was reported and the policy asks for it.
    fn end_by_panic(&self) -> io::Result<()> {
        if self.fatal.borrow().is_none() {
            return Ok(());
        }
        let fatal = self.fatal.borrow_mut().take();
        fatal.map_or(Ok(()), |panic| Err(io::Error::other(format!("the runtime was shut down because {panic}"))))
    }

    fn run(&self, root: &mut Option<&mut Root<'_>>, turn: &mut Turn) {
        self.tasks.borrow_mut().take_up_later(QueueId::FOREGROUND);
        while turn.polls < self.config.polls_per_turn {
            if !self.visit_next(QueueId::FOREGROUND, root, turn) || turn.root_is_ready {
                return;
            }
        }
    }

    /// The time, if deferred tasks are ready and the phase is limited by time.
    fn time_of_deferred_work(&self) -> Option<Instant> {
        (self.tasks.borrow().has_ready(QueueId::DEFERRED) && self.config.times_phases()).then(Instant::now)
    }

    /// `began` is the start of phase 1, if a deferred task was ready then.
    fn run_deferred(&self, began: Option<Instant>, turn: &mut Turn) {
        if !self.tasks.borrow().has_ready(QueueId::DEFERRED) {
            return;
        }
        self.tasks.borrow_mut().take_up_later(QueueId::DEFERRED);
        let mut share = self.share.get();
        let mut phase = share.begin(began, self.time_of_deferred_work());
        while self.visit_next(QueueId::DEFERRED, &mut None, turn) {
            let tasks = self.tasks.borrow();
            if !tasks.has_more(QueueId::DEFERRED) || phase.is_over(tasks.has_ready(QueueId::FOREGROUND)) {
                break;
            }
        }
        share.adapt(self.tasks.borrow().has_more(QueueId::DEFERRED));
        self.share.set(share);
    }

    /// Visits the next ready task of a queue. False if there is none.
    #[inline(always)] // a call would be a tenth of a short poll
    fn visit_next(&self, queue: QueueId, root: &mut Option<&mut Root<'_>>, turn: &mut Turn) -> bool {
        let next = self.tasks.borrow_mut().pop(queue);
        let Some(Visit { key, task, is_aborted }) = next else { return false };
        turn.polls += 1;
        match task {
            Some(task) if is_aborted => self.cancel_task(key, task),
            Some(task) => self.poll_task(key, task),
            None => turn.root_is_ready = self.poll_root(root, key),
        }
        true
    }

    /// Polls a task taken out of its slot, then puts it back or finishes it. Nothing is borrowed
    /// during the poll.
    #[inline(always)] // like `visit_next`
    fn poll_task(&self, key: TaskKey, mut task: Boxed) {
        match self.polling(key, |cx| task.as_mut().poll(cx)) {
            Poll::Pending => self.tasks.borrow_mut().put_back(key, Some(task)),
            Poll::Ready(()) => self.finish(key, task),
        }
    }

    #[cold]
    fn cancel_task(&self, key: TaskKey, mut task: Boxed) {
        task.as_mut().cancel();
        self.finish(key, task);
    }

    fn finish(&self, key: TaskKey, mut task: Boxed) {
        if self.has_hooks() {
            self.tell_ended(key, TaskEnd::of(task.as_mut().error()));
        }
        let finished = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.finish(key, task) {
                Ok(Some(WakeTarget::Task(joiner))) if !self.has_hooks() => {
                    Ok(tasks.wake(joiner).map(WakeTarget::Foreign))
                }
                finished => finished,
            }
        };
        match finished {
            Ok(None) => {}
            Ok(Some(joiner)) => self.wake_target(joiner),
            Err(task) => drop(self.drop_detached(key, task)),
        }
    }

    /// Polls the future of `block_on`; true if it is ready. `drive` has caught its panic.
    fn poll_root(&self, root: &mut Option<&mut Root<'_>>, key: TaskKey) -> bool {
        let Some(root) = root else { return false };
        let poll = self.polling(key, root);
        self.tasks.borrow_mut().put_back(key, None);
        poll.is_ready()
    }

    /// Surrounds every poll: hooks, the running task, the budget, the waker.
    fn polling(&self, key: TaskKey, poll: impl FnOnce(&mut Context<'_>) -> Poll<()>) -> Poll<()> {
        self.poll_begins(key);
        self.running.set(key);
        let budget = budget::begin();
        // Its drop does nothing, so spare the call.
        let waker = ManuallyDrop::new(waker::waker(key));
        let result = poll(&mut Context::from_waker(&waker));
        drop(budget);
        self.running.set(TaskKey::NONE);
        self.poll_ends(key);
        result
    }

    /// Handles the messages in the inbox, up to `MESSAGES_PER_TURN`.
    pub(super) fn take_messages(&self) {
        if self.inbox.has_mail() {
            self.read_messages();
        }
    }

    #[inline(never)] // keeps the common path short
    fn read_messages(&self) {
        self.inbox.open();
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.inbox.take() else { return };
            self.insight.messages.add(1);
            self.handle(message);
        }
        self.inbox.leave_rest();
    }

    fn handle(&self, message: Message) {
        match message {
            Message::Wake(key) => self.wake(key),
            Message::Abort(key) => self.abort(key),
            Message::Detach(key) => self.detach(key),
            Message::EndScope(queue, members, ended) => {
                let owner = self.tasks.borrow_mut().remove_queue(queue, &members);
                self.guarded(|| drop(owner));
                self.tell_ended_ids(ended);
            }
            Message::Spawn(spawn) => self.guarded(spawn),
            Message::CancelTimer(key) => {
                let waker = self.wheel.borrow_mut().cancel(key);
                self.guarded(|| drop(waker));
            }
            Message::Close(key, source) => {
                let wakers = self.reactor.borrow_mut().deregister(key);
                self.guarded(|| drop(wakers));
                self.guarded(|| drop(source));
            }
            Message::Panicked(task, panic) => self.report_error(task.as_ref(), panic),
            Message::JobEnded(key) => {
                self.jobs.set(self.jobs.get().saturating_sub(1));
                self.wake(key);
            }
        }
    }

    /// Wakes the tasks whose deadlines have passed, up to `TIMERS_PER_TURN`.
    fn fire_timers(&self) {
        if self.wheel.borrow().is_empty() {
            return;
        }
        let now = self.clock.ticks_passed();
        let mut fired = std::mem::take(&mut *self.woken.borrow_mut());
        self.wheel.borrow_mut().advance(now, &mut fired, TIMERS_PER_TURN);
        self.insight.timers.add(fired.len() as u64);
        self.wake_all(&mut fired);
        *self.woken.borrow_mut() = fired;
    }

    /// Runs turns until `future` is ready, or panics.
    pub(crate) fn drive<F: Future>(&self, mut future: Pin<&mut F>) -> io::Result<thread::Result<F::Output>> {
        let mut output = None;
        let mut poll = |cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            ended => {
                keep(&mut output, ended);
                Poll::Ready(())
            }
        };
        while !self.turn(Some(&mut poll), Patience::Endless)?.root_is_ready {}
        match output {
            Some(Ok(Poll::Ready(value))) => Ok(Ok(value)),
            Some(Err(panic)) => Ok(Err(panic)),
            Some(Ok(Poll::Pending)) | None => unreachable!("a ready root has left its output"),
        }
    }
}

#[cold] // keeps the common path short
fn keep<T>(place: &mut Option<T>, value: T) {
    *place = Some(value);
}
