//! Channels and locks between tasks of one thread: `Rc` inside, no atomics.
//!
//! Nothing here can be shared between threads. There, use `async-channel` or `futures`, whose
//! wakers reach a loop from anywhere. Everything here works under any executor, and outside a
//! runtime too.
//!
//! | | carries | waits |
//! |---|---|---|
//! | [`oneshot`] | one value | the receiver; the sender, for the receiver to go |
//! | [`mpsc`] | a queue of values, bounded or not | the receiver; senders, for room |
//! | [`broadcast`] | each value to each receiver | receivers; slow ones miss values and are told |
//! | [`watch`] | the latest value | receivers, for a change |
//! | [`Notify`] | "look again" | any task |
//! | [`Semaphore`] | permits | a task that wants more than are free |
//! | [`Mutex`] | a value across awaits | a task that wants it |
//! | [`OnceCell`] | a value made once, by async code | every task but the one that makes it |
//!
//! # What holds for all of them
//!
//! - **First come, first served.** Waiting tasks are served in the order of their first polls; no
//!   newcomer overtakes them.
//! - **Cancel safety.** Dropping a future that waits gives up its place in line. A permit or
//!   notification that it was handed but has not returned goes to the next waiter. Each operation
//!   says what else it loses, if anything.
//! - **Budget.** An awaited operation that completes at once spends the task's budget, so a loop
//!   over a channel that is never empty lets other tasks run. The `try_` forms and the methods that
//!   are not `async` spend nothing.
//! - **Re-entrancy.** Values are dropped and cloned, and wakers called, while nothing is borrowed:
//!   a destructor may use the very channel that drops it.
//! - **Wakers that panic.** A panic of a foreign waker is reported like that of a detached task.
//!   The caller never sees it, and the remaining waiters are woken.

pub mod broadcast;
mod error;
pub mod mpsc;
mod mutex;
mod notify;
mod once_cell;
pub mod oneshot;
mod semaphore;
mod waiters;
pub mod watch;

pub use mutex::{Mutex, MutexGuard, OwnedMutexGuard};
pub use notify::{Notified, Notify};
pub use once_cell::OnceCell;
pub use semaphore::{Closed, OwnedPermit, Permit, Semaphore, TryAcquireError};
