//! The deferred-task queue: work for when the loop has nothing more urgent.
//!
//! A deferred task is a task in the low class; spawning one is all there is to it. The loop's second phase polls the deferred
//! tasks that are ready: all of them while no foreground task is ready, beside foreground tasks a share that follows demand, so
//! that a busy loop can neither starve them nor be starved by them. The phase ends after about a millisecond, so an event that
//! waits in the kernel is seen soon, unless a single poll takes longer.
//!
//! The HTTP server's background tasks are the first users: they run after the answer, and give way to the next request.

mod books;
mod group;
mod index;
mod info;
mod lane;
mod queue;
mod retry;
mod run;
mod running;
mod task;
mod voice;
mod work;

use std::future::Future;
use std::panic::Location;

pub use books::NewJob;
pub use group::Group;
pub use info::{AddError, Fault, Histogram, Info, JobId, LaneStats, Limit, Outcome, Report, Stats, Status};
pub use lane::Lane;
pub use queue::{Periodic, Permit, Queue, QueueBuilder, QueueHandle};
pub use retry::Retry;
pub use running::Running;
pub use task::{InGroup, InQueue, Once, Repeated, Task};
pub use work::{RunAgain, RunBlocking, RunBlockingAgain, RunOnce, SendTaskOutput, TaskOutput};

use crate::executor::queue::QueueId;
use crate::executor::stage::Stage;
use crate::task::{JoinHandle, spawn_task};

/// Spawns a task of the low class: it runs when the loop has nothing more urgent.
///
/// Beside foreground tasks that are always ready, the deferred class as a whole still gets at least one poll a turn, and as many as it
/// needs to keep up, as long as they take no longer than the foreground's.
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
    JoinHandle::new(spawn_task(Stage::boxed(future), QueueId::DEFERRED, None, Location::caller(), "defer"))
}
