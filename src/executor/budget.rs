//! The cooperative budget: a task whose socket is always ready still lets the other tasks run.
//!
//! The loop sets a counter before each poll of a task. Each operation of this crate that completes
//! at once, with success or an error, takes one off the counter. At zero the operations return
//! `Pending` and wake their task, which is then polled again in the next turn, with a full counter.
//! An operation that would wait spends nothing. Outside this crate's loop the budget is unlimited,
//! so our types work under any executor.

use std::cell::Cell;
use std::task::{Context, Poll};

/// The operations a task may complete in one poll.
///
/// Large enough that the detour through the queue (some 10 ns: `yield` in `benches/runtime.rs`) is
/// negligible beside 128 system calls. Small enough that 128 of them, at some 300 ns each, take
/// well under a tenth of a millisecond.
pub(crate) const OPERATIONS_PER_POLL: u64 = 128;

/// More than a thread can spend in its lifetime (584 years at one a nanosecond), so that spending
/// needs no check for a limit.
const UNLIMITED: u64 = u64::MAX;

thread_local! {
    // Written by the loop around each poll and by `spend`; unlimited outside a poll.
    static LEFT: Cell<u64> = const { Cell::new(UNLIMITED) };
}

/// Sets the budget of the poll that is about to begin, until the guard is dropped.
#[inline]
pub(crate) fn begin() -> Limited {
    LEFT.set(OPERATIONS_PER_POLL);
    Limited(())
}

/// Limits the budget while it lives: see [`begin`].
pub(crate) struct Limited(());

impl Drop for Limited {
    fn drop(&mut self) {
        // Loops do not nest, so there is no outer budget to restore.
        LEFT.set(UNLIMITED);
    }
}

/// Whether the current poll may complete another operation.
///
/// An executor inside a task (a `FuturesUnordered`, a `select` loop) can check this before it polls
/// its next child. On `false` it should yield: every operation of this crate would return
/// `Pending`. Always `true` outside a task.
#[must_use]
#[inline]
pub fn has_budget() -> bool {
    LEFT.get() > 0
}

/// Spends one operation of the current poll's budget; `Pending`, with the task woken, when the
/// budget is used up.
///
/// Meant for leaf futures of your own that can be ready many times in a row. Call it before the
/// operation begins, as here.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     for _ in 0..1000 {
///         std::future::poll_fn(postlude::task::poll_proceed).await;
///     }
/// })
/// # }
/// ```
#[inline]
pub fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    if poll_available(cx).is_pending() {
        return Poll::Pending;
    }
    spend();
    Poll::Ready(())
}

/// [`poll_proceed`] as a future, for an async fn that completes without any operation.
pub(crate) async fn proceed() {
    std::future::poll_fn(poll_proceed).await;
}

/// Ready while there is budget; otherwise the task is woken, to go on in its next poll.
#[inline]
pub(crate) fn poll_available(cx: &mut Context<'_>) -> Poll<()> {
    if has_budget() {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Spends one operation of the current poll's budget.
///
/// Meant for completed work about as long as an operation: copied bytes, handled items. It never
/// waits; check [`has_budget`] or call [`poll_proceed`] before the next piece. Does nothing outside
/// a task's poll.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     while postlude::task::has_budget() {
///         postlude::task::spend();
///     }
///     // The next operation of this crate lets the other tasks run.
///     postlude::task::yield_now().await;
/// })
/// # }
/// ```
#[inline]
pub fn spend() {
    LEFT.set(LEFT.get().saturating_sub(1));
}

/// The budget left, for [`spend_unless_spent`].
#[inline]
pub(crate) fn left() -> u64 {
    LEFT.get()
}

/// Spends one operation, unless the budget has changed since `before` was [`left`].
///
/// For a combinator that is ready when its caller's future is: a future of this crate has spent
/// already, a foreign one has not.
#[inline]
pub(crate) fn spend_unless_spent(before: u64) {
    if left() == before {
        spend();
    }
}
