//! The executor: tasks, their slots, and the queues of ready tasks.
//!
//! It knows nothing of time, descriptors or threads. The event loop takes a ready task out of the
//! [`table`], polls it, and puts it back. A wake marks the task ready again.
//!
//! ```text
//!     id.rs      the keys of tasks: slot and generation
//!     stage.rs   a task's one allocation: the future, then its output
//!     slots.rs   pages of slots, and the states of a slot
//!     queue.rs   chains of ready slots
//!     table.rs   spawn, wake, visit, put back, finish, join
//!     about.rs   names and spawn sites of tasks
//!     error.rs   `JoinError`
//!     caught.rs  panics of user code, caught
//!     budget.rs  the operations a task may complete in one poll
//!     local.rs   task-locals
//!     random.rs  numbers for seeded orders
//! ```

pub(crate) mod about;
pub(crate) mod budget;
pub(crate) mod caught;
pub(crate) mod error;
pub(crate) mod id;
pub(crate) mod local;
pub(crate) mod queue;
pub(crate) mod random;
mod slots;
pub(crate) mod stage;
pub(crate) mod table;
