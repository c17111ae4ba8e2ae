//! The executor: tasks, where they live, and the queues of those that are ready.
//!
//! It knows nothing of time, descriptors or threads. The event loop takes a ready task out of the [`table`], polls it, and puts
//! it back; a wake marks it ready again.
//!
//! ```text
//!     id.rs      what names a task: a slot and its generation
//!     stage.rs   a task's one allocation: the future, then its output
//!     slots.rs   where tasks stand, and the states of a slot
//!     queue.rs   chains of ready slots
//!     table.rs   spawn, wake, visit, put back, finish, join
//!     about.rs   names and places of tasks
//!     error.rs   why a task has no output
//!     caught.rs  panics of user code
//!     budget.rs  how much a task may do in one poll
//!     local.rs   values a task hands to those it spawns
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
