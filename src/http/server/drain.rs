//! The drain: waits for connections and background tasks, cuts what is left, and reports it.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::process::{ExitCode, Termination};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::deferred::{Info, Status};
use crate::http::conn::shared::ServerState;
use crate::time;

/// Drains the server until nothing is left, `Limits::drain_limit` is over, or `skip` is ready.
pub(super) async fn drain(shared: &ServerState, mut skip: impl FnMut(&mut Context<'_>) -> Poll<()>) -> ShutdownReport {
    let queue = &shared.queue;
    let before = queue.stats().total();
    queue.begin_drain();
    let mut limit = time::sleep(shared.limits.drain_limit);
    let mut idle = pin!(queue.idle());
    poll_fn(|cx| {
        shared.places.wait(cx);
        let is_quiet = idle.as_mut().poll(cx).is_ready();
        if is_quiet {
            // Handlers that still run may add others.
            idle.set(queue.idle());
        }
        let is_over = is_quiet && shared.places.is_empty();
        if is_over || skip(cx).is_ready() { Poll::Ready(()) } else { Pin::new(&mut limit).poll(cx) }
    })
    .await;
    let connections_cut = shared.places.cut().await;
    let unfinished = queue.drain(Duration::ZERO).await.unfinished;
    let after = queue.stats().total();
    ShutdownReport {
        completed: (after.done - before.done) as usize,
        failed: (after.failed - before.failed) as usize,
        connections_cut,
        unfinished,
    }
}

/// The exit code of a process that left work undone: `EX_TEMPFAIL` of sysexits.h.
const LEFT_SOMETHING: u8 = 75;

/// The work done during a drain, and the work left undone.
///
/// As a program's result it is an exit code: 0 if nothing was left, or 75 (`EX_TEMPFAIL` in
/// sysexits.h) if a connection was cut or a task did not finish.
///
/// ```
/// use postlude::http::{Router, Server, ShutdownReport};
///
/// fn main() -> std::io::Result<ShutdownReport> {
///     let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
///     let report = postlude::run(server.run())??;
///     report.unfinished.iter().for_each(|task| eprintln!("lost: {task}"));
///     Ok(report)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Background tasks completed during the drain.
    pub completed: usize,
    /// Background tasks that failed during the drain.
    pub failed: usize,
    /// Connections that were cut.
    pub connections_cut: usize,
    /// Background tasks that did not finish, in the order they were added.
    pub unfinished: Vec<Info>,
}

impl ShutdownReport {
    /// Returns whether nothing was left: no connection cut, every task at its end. A task that
    /// failed was not left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.connections_cut == 0 && self.unfinished.is_empty()
    }

    /// Returns the exit code that says so: 0 or 75.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(LEFT_SOMETHING) }
    }
}

impl Termination for ShutdownReport {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, connections_cut, unfinished } = self;
        write!(
            f,
            "stopped: {completed} background tasks completed, {failed} failed, {} not finished",
            unfinished.len()
        )?;
        write!(f, "; {connections_cut} connections cut")?;
        unfinished.iter().try_for_each(|task| {
            let Info { name, label, group, age, .. } = task;
            let state = if task.status == Status::Running { "running" } else { "not begun" };
            write!(f, "\n  not finished: '{name}' ({label}, request {group}), {state}, {:.1} s old", age.as_secs_f64())
        })
    }
}
