//! How a result crosses threads: written once by the side that works, awaited or waited for by the
//! side that asked.
//!
//! It knows no runtime. How the side that works can be asked to stop depends on what that is, a
//! task or a blocking job, and stands with the handles.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::executor::about::Current;
use crate::executor::caught::{drop_caught, drop_silently};
use crate::executor::error::JoinError;

/// A result that is on its way to a handle.
pub(crate) struct Promise<T> {
    state: Mutex<State<T>>,
    finished: Condvar,
}

/// | state     | set by    | left by |
/// |-----------|-----------|---------|
/// | Waiting   | `new`     | `finish`, `abandon` |
/// | Done      | `finish`  | `poll`, `take_if_finished`, `wait`, `abandon` |
/// | Taken     | `poll`, `take_if_finished`, `wait`, `abandon` | |
/// | Abandoned | `abandon` | `finish` |
enum State<T> {
    /// Nothing has come. The waker is that of the handle, once it was polled. `is_blocked` tells
    /// that a thread is in `wait`: a signal is a system call even if no thread is there.
    Waiting { waker: Option<Waker>, is_blocked: bool },
    /// The result, and the task it is of, if that panicked.
    Done(Result<T, JoinError>, Option<Current>),
    /// The handle has had it, or has left it to be dropped.
    Taken,
    /// The handle is gone and waits for nothing.
    Abandoned,
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Waiting { waker: None, is_blocked: false }), finished: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the promise; only the first time counts. Returns the result if no handle will come for
    /// it. A result that comes too late is dropped here.
    pub(crate) fn finish(&self, result: Result<T, JoinError>, failed: Option<Current>) -> Option<Result<T, JoinError>> {
        let mut state = self.lock();
        let (waker, is_blocked) = match &mut *state {
            State::Waiting { waker, is_blocked } => (waker.take(), *is_blocked),
            State::Abandoned => {
                *state = State::Taken;
                return Some(result);
            }
            State::Done(..) | State::Taken => {
                drop(state);
                drop(result);
                return None;
            }
        };
        *state = State::Done(result, failed);
        drop(state);
        if is_blocked {
            self.finished.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// The handle is dropped. Returns a panic that it has not handed out, or that dropping the
    /// output caused, and the task it is of.
    pub(crate) fn abandon(&self) -> Option<(JoinError, Option<Current>)> {
        let mut state = self.lock();
        let before = std::mem::replace(&mut *state, State::Taken);
        if matches!(before, State::Waiting { .. }) {
            *state = State::Abandoned;
        }
        drop(state);
        match before {
            State::Done(Err(error), task) if error.is_panic() => Some((error, task)),
            State::Done(result, task) => drop_caught(result).map(|panic| (JoinError::panicked(panic), task)),
            State::Waiting { waker, .. } => {
                drop_silently(waker);
                None
            }
            State::Taken | State::Abandoned => None,
        }
    }

    /// Whether there is a result, or was.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(*self.lock(), State::Done(..) | State::Taken)
    }

    fn take(state: &mut State<T>) -> Option<Result<T, JoinError>> {
        match std::mem::replace(state, State::Taken) {
            State::Done(result, _) => Some(result),
            State::Waiting { .. } | State::Taken | State::Abandoned => None,
        }
    }

    /// Takes the result if there is one. Leaves no waker: the caller learns in another way when to
    /// look.
    pub(crate) fn take_if_finished(&self) -> Option<Result<T, JoinError>> {
        let mut state = self.lock();
        if matches!(*state, State::Waiting { .. }) { None } else { Self::take(&mut state) }
    }

    /// The result, unless it was taken.
    pub(crate) fn into_result(self) -> Option<Result<T, JoinError>> {
        Self::take(&mut self.state.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the result, or leaves the waker.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let State::Waiting { waker: place, .. } = &mut *state {
            let before = place.replace(waker);
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        let result = Self::take(&mut state);
        drop(state);
        Poll::Ready(result.expect("a handle was polled after it was ready; keep its output instead"))
    }

    /// Blocks until there is a result, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Result<T, JoinError>> {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while let State::Waiting { is_blocked, .. } = &mut *state {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            *is_blocked = left != Some(Duration::ZERO);
            state = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => self.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.finished.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Self::take(&mut state)
    }
}
