//! Deferred tasks: work that runs when the loop has nothing more urgent.
//!
//! A deferred task is an ordinary task in the deferred class. The loop's second phase polls these
//! tasks; `src/event_loop/share.rs` decides how many, so that a busy loop neither starves them nor
//! is starved by them. The background tasks of the HTTP server run in this class, after the
//! response.
//!
//! A [`Queue`] keeps books about such work. A job is described by a [`Task`], runs in a [`Lane`],
//! may belong to a [`Group`] behind a gate, and is told of as an [`Info`].
//!
//! | file | contents |
//! | --- | --- |
//! | `queue` | the queue, its builder, its handle for other threads, permits |
//! | `admission` | whether a job is taken, and its way into the books |
//! | `books`, `row`, `id`, `index` | a row for each job, found by its id |
//! | `life`, `keys`, `kept` | its tries and its end, its turn among those of its key, the time after |
//! | `info`, `telling` | the record of a job, and what is told of it |
//! | `task`, `work`, `retry`, `running` | a job: its description, its work, its tries, its view of itself |
//! | `lane`, `group`, `run` | where and when jobs run, and the tasks of the loop that run them |
//! | `share`, `pressure` | how much of the queue one source of groups holds, and how busy the loop is |
//! | `voice`, `trace` | lines on stderr, and events of `tracing` |

mod admission;
mod books;
mod group;
mod id;
mod index;
mod info;
mod kept;
mod keys;
mod lane;
mod life;
mod pressure;
mod queue;
mod retry;
mod row;
mod run;
mod running;
mod share;
mod task;
mod telling;
#[cfg(feature = "tracing")]
mod trace;
#[cfg(not(feature = "tracing"))]
#[path = "no_trace.rs"]
mod trace;
mod voice;
mod work;

use std::future::Future;
use std::panic::Location;

pub use admission::NewJob;
pub use group::Group;
pub use id::JobId;
pub use info::{AddError, Fault, Histogram, Info, LaneStats, Limit, Outcome, Report, Stats, Status};
pub use lane::Lane;
pub use queue::{Periodic, Permit, Queue, QueueBuilder, QueueHandle};
pub use retry::Retry;
pub use running::Running;
pub use share::Share;
pub use task::{InGroup, InQueue, Once, Repeated, Task};
pub use work::{RunAgain, RunBlocking, RunBlockingAgain, RunOnce, SendTaskOutput, TaskOutput};

use crate::executor::queue::QueueId;
use crate::executor::stage::Stage;
use crate::task::{JoinHandle, spawn_task};

/// Spawns a deferred task, which runs when the loop has nothing more urgent.
///
/// Beside foreground tasks that are always ready, the deferred class still gets at least one poll a
/// turn. It gets as many as it needs to keep up, as long as they take no longer than the foreground
/// tasks' polls.
///
/// Deferred tasks run first in, first out. A foreground task that awaits the handle does not raise
/// the class. Dropping the handle detaches the task, which runs on.
///
/// # Panics
///
/// As [`spawn`](crate::spawn) does, with "`defer` was called on thread …" in the text.
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
