//! Blocking work of a runtime: [`spawn_blocking`], and jobs on a [`Pool`] of one's own.
//!
//! The threads are `pool.rs`, and how a job's result comes back is `task/job.rs`.

use std::panic::Location;

use crate::event_loop::context;
use crate::event_loop::misuse::Misuse;
pub use crate::pool::Pool;
use crate::runtime::RemoteHandle;
use crate::task::{JoinHandle, job};

impl Pool {
    /// Runs a closure on one of the pool's threads. The handle is a task's of the current runtime.
    ///
    /// Dropping the handle lets the job run on; `abort` cancels it only if it has not started. A
    /// panic of the closure is the handle's [`JoinError`](crate::JoinError). If no thread can be
    /// started and none exists, or the pool is shut down, the handle gives an error.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let pool = postlude::blocking::Pool::new(1);
    ///     assert_eq!(pool.spawn(|| "done").await.unwrap(), "done");
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn<T: Send + 'static>(&self, closure: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let Some(parts) = context::current() else {
            panic!("{}", Misuse::no_runtime("`blocking::Pool::spawn` was called"))
        };
        job::spawn(&parts, self, closure, Location::caller())
    }

    /// Runs a closure on one of the pool's threads, from plain code: no runtime is needed.
    ///
    /// A thread can wait for the handle, with a limit, and a task can await it anywhere. It gives
    /// the output, the panic, or the cancellation. Dropping it lets the job run on, and then only
    /// the process's panic hook is told of a panic. `abort` cancels the job at once if it has not
    /// started. If no thread can be started and none exists, or the pool is shut down, the handle
    /// gives an error. Inside a runtime, prefer [`spawn`](Self::spawn): its loop knows of the job,
    /// reports its panic, and holds a paused clock still for it.
    ///
    /// A job that waits for another one of the same pool may wait for ever, if none of the threads
    /// is left for that.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = postlude::blocking::Pool::new(1);
    /// let mut sum = pool.submit(|| (1..=100).sum::<u32>());
    /// let result = loop {
    ///     match sum.wait(Duration::from_millis(100)) {
    ///         Some(result) => break result,
    ///         None => println!("still adding"),
    ///     }
    /// };
    /// assert_eq!(result.unwrap(), 5050);
    /// ```
    pub fn submit<T: Send + 'static>(&self, closure: impl FnOnce() -> T + Send + 'static) -> RemoteHandle<T> {
        let (promise, control) = job::submit(self, closure);
        RemoteHandle::of_job(promise, control)
    }
}

/// Runs a closure that blocks on one of the runtime's threads, of which there are at most
/// [`max_blocking_threads`](crate::Builder::max_blocking_threads).
///
/// Dropping the handle lets the job run on; `abort` cancels it only if it has not started. When the
/// runtime ends, waiting jobs are cancelled, and running ones go on by themselves.
///
/// # Panics
///
/// Outside a runtime.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let bytes = postlude::spawn_blocking(|| std::fs::read("Cargo.toml")).await.unwrap();
///     # drop(bytes);
/// })
/// # }
/// ```
#[track_caller]
pub fn spawn_blocking<T: Send + 'static>(closure: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`spawn_blocking` was called")) };
    job::spawn(&parts, &parts.pool, closure, Location::caller())
}
