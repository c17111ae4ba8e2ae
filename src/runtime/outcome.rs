//! How a result crosses threads: written once by the side that works, awaited or waited for by the side that asked.
//!
//! The way back, asking the side that works to stop, depends on which that is ([`Worker`]): a task is found by its key, once its loop
//! has made it; a blocking job can only be kept from starting.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::inbox::{Home, Message};
use super::{context, drop_silently};
use crate::blocking::JobControl;
use crate::task::JoinError;
use crate::task::id::Key;
use crate::task::stage::drop_caught;
use crate::task::table::Described;

/// A result that is still to come.
pub(crate) struct Outcome<T> {
    state: Mutex<State<T>>,
    finished: Condvar,
    worker: Worker,
}

/// Who is to write a result, and how it is asked to stop.
enum Worker {
    Task(Home, Mutex<Link>),
    Job(JobControl),
}

/// How a handle finds its task, and the other way round, whichever is there first.
#[derive(Default)]
struct Link {
    /// The task, once the loop has spawned it.
    key: Option<Key>,
    /// The handle was asked to abort it.
    abort: bool,
}

struct State<T> {
    /// Set by `finish`, taken by whoever asked.
    result: Option<Result<T, JoinError>>,
    ended: bool,
    /// Set by `abandon`, read by `finish`, which then hands the result back.
    abandoned: bool,
    /// The task whose error the result is.
    failed: Option<Described>,
    /// Who awaits it.
    waker: Option<Waker>,
}

impl<T> Outcome<T> {
    /// Of a task that the loop of `home` is to spawn.
    pub(crate) fn of_task(home: Home) -> Self {
        Self::new(Worker::Task(home, Mutex::default()))
    }

    /// Of a blocking job.
    pub(crate) fn of_job(control: JobControl) -> Self {
        Self::new(Worker::Job(control))
    }

    fn new(worker: Worker) -> Self {
        let state = State { result: None, ended: false, abandoned: false, failed: None, waker: None };
        Self { state: Mutex::new(state), finished: Condvar::new(), worker }
    }

    /// The loop whose task this is.
    pub(crate) fn home(&self) -> Option<Home> {
        if let Worker::Task(home, _) = &self.worker { Some(*home) } else { None }
    }

    /// Says which task it became.
    pub(crate) fn started(&self, key: Key) {
        let Worker::Task(home, link) = &self.worker else { return };
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        link.key = Some(key);
        if link.abort {
            home.send(Message::Abort(key));
        }
    }

    /// Asks for no result: `Cancelled` takes its place, now or when the task was dropped, unless it is too late.
    pub(crate) fn abort(&self) {
        let (home, link) = match &self.worker {
            Worker::Task(home, link) => (home, link),
            Worker::Job(control) if control.cancel() => return drop(self.finish(Err(JoinError::cancelled()))),
            Worker::Job(_) => return,
        };
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        link.abort = true;
        if let Some(key) = link.key {
            home.send(Message::Abort(key));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the result and wakes whoever waits for it. Only the first counts. Gives it back if the handle is gone.
    pub(crate) fn finish(&self, result: Result<T, JoinError>) -> Option<Result<T, JoinError>> {
        let mut state = self.lock();
        if state.ended {
            drop(state);
            drop(result);
            return None;
        }
        state.ended = true;
        if state.abandoned {
            return Some(result);
        }
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.finished.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Says whose error the result will be.
    pub(crate) fn failed(&self, task: Option<Described>) {
        self.lock().failed = task;
    }

    /// The handle is gone. A panic that nobody asked for is reported, as any detached task's is.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        let (result, task, waker) = (state.result.take(), state.failed.take(), state.waker.take());
        drop(state);
        drop_silently(waker);
        // Kept as an error, whose drop is harmless where there is nobody to report it to.
        let panic = match result {
            Some(Err(error)) => Some(error).filter(JoinError::is_panic),
            result => drop_caught(result).map(JoinError::panicked),
        };
        let (Some(panic), Worker::Task(home, _)) = (panic, &self.worker) else { return };
        match context::current_of(*home) {
            Some(parts) => parts.report_error(task.as_ref(), panic),
            None => home.send(Message::Panicked(task, panic)),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.lock().ended
    }

    /// The result, once. The last waker wins.
    ///
    /// # Panics
    ///
    /// If the result was taken already.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if !state.ended {
            let before = state.waker.replace(waker);
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        let result = state.result.take();
        drop(state);
        Poll::Ready(result.expect("a handle was polled after it was ready; keep its output instead"))
    }

    /// The result, if it comes within `limit` and was not taken already.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Result<T, JoinError>> {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while !state.ended {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => self.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.finished.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.result.take()
    }
}
