//! Channels and locks between tasks of one thread: `Rc` inside, no atomics.
//!
//! Nothing of this is `Send` where it is shared: across threads use `async-channel` or `futures`, whose wakers reach a loop from
//! anywhere. What is here works under any executor, outside of a runtime too.
//!
//! | | what it carries | who waits |
//! |---|---|---|
//! | [`oneshot`] | one value | the receiver; the sender, for the receiver to go |
//! | [`mpsc`] | a queue of values, bounded or not | the receiver; senders, for room |
//! | [`broadcast`] | each value to each receiver | receivers; slow ones miss values and are told |
//! | [`watch`] | the latest value | receivers, for a change |
//! | [`Notify`] | "look again" | anyone |
//! | [`Semaphore`] | permits | who wants some |
//! | [`Mutex`] | a value across awaits | who wants it |
//! | [`OnceCell`] | a value made once, by async code | who comes while it is made |
//!
//! # What holds for all of them
//!
//! - **First come, first served.** Who waits is served in the order in which it was first polled, and nobody overtakes.
//! - **Cancel safety.** Dropping a future that waits leaves the queue. If it had been given something it had not yet returned (a
//!   permit, a notification), that goes to the next one. What each operation loses, if anything, stands on it.
//! - **Budget.** An operation that is awaited and completes at once spends the task's budget, so that a loop over a channel that is
//!   never empty lets the others run. The `try_` forms and those that are not `async` spend nothing.
//! - **Re-entrancy.** Values are dropped and cloned, and wakers called, while nothing is borrowed: a destructor may use the very
//!   channel it is dropped from.
//! - **Wakers that panic.** A panic of a foreign waker is reported like that of a detached task. The caller never sees it, and the
//!   others that wait are woken.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use postlude::sync::mpsc;
//!
//! postlude::run(async {
//!     let (sender, mut receiver) = mpsc::channel(8);
//!     postlude::spawn(async move {
//!         for n in 0..3 {
//!             sender.send(n).await.unwrap();
//!         }
//!     });
//!     let mut sum = 0;
//!     while let Some(n) = receiver.recv().await {
//!         sum += n;
//!     }
//!     assert_eq!(sum, 3);
//! })
//! # }
//! ```

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
