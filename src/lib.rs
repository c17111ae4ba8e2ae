//! Postlude, a single-threaded async runtime.

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("postlude needs a 64-bit Unix: a waker is a 64-bit integer, and sockets are file descriptors");

pub mod blocking;
mod deferred;
pub mod io;
pub mod net;
pub(crate) mod reactor;
mod runtime;
#[cfg(feature = "signal")]
pub mod signal;
pub mod task;
pub mod time;

pub use blocking::spawn_blocking;
pub use deferred::defer;
pub use runtime::{Builder, Handle, RemoteHandle, Runtime, Stats, TaskPanic, Turn, run};
pub use task::{JoinError, JoinHandle, spawn};
