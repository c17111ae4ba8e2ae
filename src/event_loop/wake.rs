//! Calls the wakers that this crate keeps for others, and lets no panic of theirs out.
//!
//! A waker belongs to whichever executor polled the future, and its `wake` and its drop may panic. The caller here has nothing to do with
//! it: it sends a value, drops a permit, cancels a token. A panic that got through would leave the waiters behind that waker asleep, and
//! abort the process where the caller is a destructor in an unwind. So every list of wakers in `task`, `sync` and `iter` is woken here,
//! and the panic is reported like that of a detached task.
//!
//! Not for `cx.waker()`: its panic belongs to the poll it was given to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::context;
use super::panics::TaskPanic;
use crate::executor::caught::{Payload, drop_payload, panic_text};

/// Wakes a task. Call it with nothing borrowed: the waker may run any code.
#[inline(never)] // few wakers are foreign, and what catches a panic would lengthen each caller's path
pub(crate) fn wake(waker: Waker) {
    guarded(|| waker.wake());
}

/// Wakes tasks in their order, each of them whatever those before it did.
#[inline]
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake);
}

/// Drops a waker that is not needed any more, if there is one.
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
        // No hook and no policy applies here.
        None => eprintln!("postlude: {}", TaskPanic::new(None, panic_text(&payload).to_owned())),
    }
    drop_payload(payload);
}
