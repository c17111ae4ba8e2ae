//! The cooperative budget: how a task whose socket is always ready still lets the others run.
//!
//! Before each poll of a task the loop sets a counter. Each operation of this crate that completes
//! at once, with success or with an error, takes one off it; at zero the operations say `Pending`
//! and wake their task, so it goes to the end of the queue and is polled again with a full counter.
//! An operation that would wait spends nothing. Outside our polls the budget is unlimited, so our
//! types work under any executor.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Operations a task may complete in one poll.
///
/// Large enough that the detour through the queue (some 10 ns) disappears beside 128 system calls
/// (some 300 ns each), small enough that a task is done with them in well under a tenth of a
/// millisecond.
pub(crate) const OPERATIONS_PER_POLL: u64 = 128;

/// More than a thread can spend in its lifetime, at one a nanosecond 584 years, so that spending
/// need not ask whether there is a limit.
const UNLIMITED: u64 = u64::MAX;

thread_local! {
    // Written by the loop around each poll, by `spend`; unlimited where no loop polls.
    static LEFT: Cell<u64> = const { Cell::new(UNLIMITED) };
}

/// Gives the poll that is about to begin its budget; the guard's drop ends it.
#[inline]
pub(crate) fn begin() -> Limited {
    LEFT.set(OPERATIONS_PER_POLL);
    Limited(())
}

/// A poll with a budget is going on.
pub(crate) struct Limited(());

impl Drop for Limited {
    fn drop(&mut self) {
        // No loop runs within another's poll, so there is no other budget to go back to.
        LEFT.set(UNLIMITED);
    }
}

/// Whether the current poll may complete another operation.
///
/// An executor inside a task (a `FuturesUnordered`, a `select` loop) can ask this before it polls
/// its next child and yield on `false`: every operation of this crate would say `Pending` now.
/// Outside a task it is `true`.
#[must_use]
#[inline]
pub fn has_budget() -> bool {
    LEFT.get() > 0
}

/// Spends one operation of the current poll's budget; `Pending`, with the task woken, when none is
/// left.
///
/// For your own leaf futures that can be ready many times in a row: call it once the operation has
/// completed, or, as here, before it begins.
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

/// [`poll_proceed`] as a future: for what has nothing to do, and so no operation that would spend.
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
/// For completed work of about an operation's length: copied bytes, handled items. It never waits;
/// ask [`has_budget`] or [`poll_proceed`] before the next piece. Outside a task's poll it does
/// nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     while postlude::task::has_budget() {
///         postlude::task::spend();
///     }
///     // The next operation of this crate gives way to the other tasks.
///     postlude::task::yield_now().await;
/// })
/// # }
/// ```
#[inline]
pub fn spend() {
    LEFT.set(LEFT.get().saturating_sub(1));
}

/// What is left, for [`spend_unless_spent`].
#[inline]
pub(crate) fn left() -> u64 {
    LEFT.get()
}

/// Takes one operation off the budget, unless something was spent since `before` was [`left`].
///
/// For what is ready when a future of the caller's is: that one has spent if it is ours, and not if
/// it is not.
#[inline]
pub(crate) fn spend_unless_spent(before: u64) {
    if left() == before {
        spend();
    }
}
