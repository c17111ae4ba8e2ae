//! The deferred-task queue: work for when the loop has nothing more urgent.
//!
//! A deferred task is a task in the low class; spawning one is all there is to it. The loop's second phase polls deferred tasks: one a turn
//! in any case, so that a busy loop cannot starve them, and up to `deferred_polls_per_turn` while no foreground task is ready, so
//! that an event waiting in the kernel is never behind more than that many polls.
//!
//! The HTTP server's background tasks are the first users: they run after the answer, and give way to the next request.

use std::future::Future;
use std::panic::Location;

use crate::task::table::Class;
use crate::task::{JoinHandle, spawn_as};

/// Runs a future as a task of the low class: when the loop has nothing more urgent, and at least one poll of such tasks per turn.
///
/// Deferred tasks run first in, first out among themselves. A foreground task that awaits the handle does not raise the class.
/// Dropping the handle lets the task run on.
///
/// # Panics
///
/// Outside a runtime, and when the runtime already holds 2²⁶ tasks.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::{cell::RefCell, rc::Rc};
/// let order = Rc::new(RefCell::new(Vec::new()));
/// postlude::run(async {
///     let (first, second) = (order.clone(), order.clone());
///     let after = postlude::defer(async move { second.borrow_mut().push("after") });
///     drop(postlude::spawn(async move { first.borrow_mut().push("before") }));
///     after.await.unwrap();
/// })?;
/// assert_eq!(*order.borrow(), ["before", "after"]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn defer<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_as(future, Class::Deferred, None, Location::caller(), "defer")
}
