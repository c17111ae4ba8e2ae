//! How a result crosses threads: written once by the side that works, awaited or waited for by the side that asked.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::task::JoinError;

/// A result that is still to come.
pub(crate) struct Outcome<T> {
    state: Mutex<State<T>>,
    finished: Condvar,
}

struct State<T> {
    /// Set by `finish`, taken by whoever asked.
    result: Option<Result<T, JoinError>>,
    ended: bool,
    /// Who awaits it.
    waker: Option<Waker>,
}

impl<T> Outcome<T> {
    pub(crate) fn new() -> Self {
        let state = State { result: None, ended: false, waker: None };
        Self { state: Mutex::new(state), finished: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the result and wakes whoever waits for it. Only the first counts.
    pub(crate) fn finish(&self, result: Result<T, JoinError>) {
        let mut state = self.lock();
        if state.ended {
            drop(state);
            return drop(result);
        }
        state.ended = true;
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.finished.notify_all();
        if let Some(waker) = waker {
            waker.wake();
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
