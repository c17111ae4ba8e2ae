//! Phase 5: polls the system for events, and sleeps when there is nothing else to do.
//!
//! The loop polls once a turn: without waiting while there is work (and not at all if there is no
//! source either), otherwise until an event, a message or the next deadline. Before it sleeps it
//! arms the inbox, so that a sender on another thread wakes it. With a paused clock it does not
//! sleep but jumps to the next deadline. A loop that nothing inside the runtime can wake reports
//! that once.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::parts::Parts;
use crate::executor::queue::QueueId;
use crate::stderr;

/// `block_on` reports a deadlock after sleeping this long with nothing that could wake it.
const DEADLOCK_AFTER: Duration = Duration::from_secs(5);
/// The longest sleep of a loop whose wake-up call is broken, before it checks its inbox.
const BROKEN_WAKE_INTERVAL: Duration = Duration::from_millis(1);

/// The longest wait of a turn for events.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Until an event, message or deadline: `block_on`.
    Endless,
    /// At most this long: `turn`.
    Limit(Option<Duration>),
}

impl Parts {
    /// Whether the next turn has work to do without any new event.
    pub(crate) fn has_work(&self) -> bool {
        let tasks = self.tasks.borrow();
        tasks.has_ready(QueueId::FOREGROUND)
            || tasks.has_ready(QueueId::DEFERRED)
            || self.inbox.has_mail()
            || self.fatal.borrow().is_some()
            || self.timer_is_due()
    }

    fn timer_is_due(&self) -> bool {
        self.until_deadline().is_some_and(|wait| wait.is_zero())
    }

    /// The time until a timer may be due; `None` if no timer is set.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        let next = self.wheel.borrow().next_deadline()?;
        Some(self.clock.until(next))
    }

    /// Polls the system for events, and waits for them if there is no work.
    pub(super) fn park(&self, patience: Patience) -> io::Result<()> {
        if self.has_work() {
            return if self.reactor.borrow().is_idle() { Ok(()) } else { self.poll_events(Some(Duration::ZERO)) };
        }
        if self.parks() && self.has_work() {
            return self.poll_events(Some(Duration::ZERO));
        }
        self.give_back_memory();
        if !self.inbox.arm() {
            self.inbox.disarm();
            return self.poll_events(Some(Duration::ZERO));
        }
        let parked = match patience {
            Patience::Limit(limit) => self.sleep(limit),
            Patience::Endless => self.sleep_until_woken(),
        };
        self.inbox.disarm();
        parked
    }

    /// Gives back the memory of past bursts, before a sleep.
    fn give_back_memory(&self) {
        self.tasks.borrow_mut().shrink();
        self.wheel.borrow_mut().shrink();
        self.reactor.borrow_mut().shrink();
    }

    /// Sleeps until an event, a message, a deadline or `limit`.
    fn sleep(&self, limit: Option<Duration>) -> io::Result<()> {
        if self.config.paused_clock && self.jobs.get() == 0 {
            return self.jump(limit);
        }
        let deadline = if self.config.paused_clock { None } else { self.until_deadline() };
        let broken = self.inbox.outside.broken.load(Ordering::Relaxed).then_some(BROKEN_WAKE_INTERVAL);
        self.poll_events([deadline, limit, broken].into_iter().flatten().min())
    }

    /// Jumps virtual time to the next deadline, unless one poll of the system finds work first.
    fn jump(&self, limit: Option<Duration>) -> io::Result<()> {
        if !self.wheel.borrow().has_deadline() {
            return self.poll_events(limit);
        }
        self.poll_events(Some(Duration::ZERO))?;
        self.take_messages();
        let tasks = self.tasks.borrow();
        let waits = !tasks.has_ready(QueueId::FOREGROUND) && !tasks.has_ready(QueueId::DEFERRED);
        if waits && !self.inbox.has_mail() {
            // `next_exact` moves the wheel's cursor, so call it only when time certainly follows.
            // It is `None` if a message has just cancelled the last timer.
            if let Some(next) = self.wheel.borrow_mut().next_exact() {
                self.clock.jump_to(next);
            }
        }
        Ok(())
    }

    /// Sleeps without limit, and reports a deadlock if nothing can end the sleep.
    fn sleep_until_woken(&self) -> io::Result<()> {
        if !self.nothing_can_wake() {
            return self.sleep(None);
        }
        if !self.config.paused_clock {
            let start = Instant::now();
            self.poll_events(Some(DEADLOCK_AFTER))?;
            // A signal may have ended the wait early: epoll_wait(2), EINTR.
            if self.inbox.has_mail() || start.elapsed() < DEADLOCK_AFTER {
                return Ok(());
            }
        }
        self.deadlock_reported.set(true);
        let report = self.describe_deadlock();
        if self.config.deadlock_is_error {
            return Err(io::Error::new(io::ErrorKind::Deadlock, report));
        }
        stderr::line(format_args!("postlude: {report}"));
        self.poll_events(None)
    }

    fn nothing_can_wake(&self) -> bool {
        !self.deadlock_reported.get()
            && (self.wheel.borrow().is_empty() || !self.wheel.borrow().has_deadline())
            && self.reactor.borrow().is_idle()
            && self.jobs.get() == 0
            && self.inbox.outside.handles.load(Ordering::SeqCst) == 0
            // Checked after the handles: the last one may have sent a message before its drop.
            && !self.inbox.has_mail()
    }

    #[cold]
    fn describe_deadlock(&self) -> String {
        let mut report = String::from(
            "nothing inside this runtime can wake its tasks, so unless another thread holds a waker they wait for ever \
             (if one does, such as another reactor's timer, keep a `Handle::current()` until then: it tells the loop to wait):",
        );
        if let Some(entered) = self.entered.get() {
            report.push_str(&format!("\n  the future given to `block_on` at {entered}"));
        }
        for task in self.tasks.borrow_mut().describe_all() {
            report.push_str(&format!("\n  {task}"));
        }
        report
    }

    /// Polls the system, and wakes the waiters of ready sources once the reactor is not borrowed.
    fn poll_events(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut woken = std::mem::take(&mut *self.woken.borrow_mut());
        let result = self.reactor.borrow_mut().poll(timeout, &mut woken);
        self.insight.parked(*result.as_ref().unwrap_or(&0));
        self.wake_all(&mut woken);
        *self.woken.borrow_mut() = woken;
        result.map(|_| ())
    }
}
