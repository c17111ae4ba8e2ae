//! Calls stored wakers, and catches their panics.
//!
//! A waker belongs to the executor that polled the future, and its `wake` and its drop may panic.
//! The caller here only sends a value, drops a permit or cancels a token, and has nothing to do
//! with the waker. An uncaught panic would leave the waiters behind that waker asleep, and abort
//! the process if the caller is a destructor in an unwind. So every stored waker of `task`, `sync`
//! and `iter` is woken here, and its panic is reported like that of a detached task.
//!
//! Not for `cx.waker()`: a panic of that waker belongs to the poll.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::context;
use super::panics::TaskPanic;
use crate::executor::caught::{Payload, drop_payload, panic_text};
use crate::stderr;

/// Wakes a task. Call it with nothing borrowed: the waker may run any code.
#[inline(never)] // few wakers are foreign, and catching a panic would lengthen each caller's path
pub(crate) fn wake(waker: Waker) {
    guarded(|| waker.wake());
}

/// Wakes tasks in order; a panic of one waker does not keep the next from being woken.
#[inline]
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake);
}

/// Drops a waker that is no longer needed, if there is one.
#[inline]
pub(crate) fn discard(waker: Option<Waker>) {
    if let Some(waker) = waker {
        guarded(|| drop(waker));
    }
}

/// Runs code that calls such wakers, and reports its panic.
#[inline]
pub(crate) fn guarded(code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        report(payload);
    }
}

#[cold]
fn report(payload: Payload) {
    match context::current() {
        Some(parts) => parts.report(None, &payload),
        // Without a runtime there is no hook and no policy.
        None => {
            let panic = TaskPanic::new(None, panic_text(&payload).to_owned());
            stderr::line(format_args!("postlude: {panic}"));
        }
    }
    drop_payload(payload);
}
