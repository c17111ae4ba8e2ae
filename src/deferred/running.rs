//! What a job can ask and tell while it runs: [`Running`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::books;
use super::id::JobId;
use super::info::Outcome;

/// A job's view of itself, handed to closures that ask for one. Clones are the same; it may cross
/// threads.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::deferred::{Queue, Running};
/// postlude::run(async {
///     let queue = Queue::new();
///     let id = queue.task("index").run_blocking(|job: Running| {
///         for done in 1..=10 {
///             if job.is_cancelled() || job.is_stopping() {
///                 return Err("stopped");
///             }
///             job.progress(done, 10);
///         }
///         Ok(())
///     }).unwrap();
///     queue.idle().await;
///     assert_eq!(queue.get(id).unwrap().progress, Some((10, 10)));
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
    attempt: u32,
}

/// Written by the job and by the books.
pub(super) struct Shared {
    id: JobId,
    /// The number of its queue.
    queue: u64,
    outcome: Option<Outcome>,
    done: AtomicU64,
    of: AtomicU64,
    cancelled: AtomicBool,
    stopping: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(id: JobId, queue: u64, outcome: Option<Outcome>, stopping: Arc<AtomicBool>) -> Self {
        let (done, of, cancelled) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { id, queue, outcome, done, of, cancelled, stopping }
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        let of = self.of.load(Ordering::Relaxed);
        (of != 0).then(|| (self.done.load(Ordering::Relaxed), of))
    }
}

impl Running {
    pub(super) fn new(shared: Arc<Shared>, attempt: u32) -> Self {
        Self { shared, attempt }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.shared.id
    }

    /// The number of this try, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How the answer that the job's group follows has ended; `None` for a job without a group.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.outcome
    }

    /// Tells that `done` of `of` is done. The last value wins; nothing is woken. 0 for `of` takes
    /// back what was told.
    pub fn progress(&self, done: u64, of: u64) {
        self.shared.done.store(done, Ordering::Relaxed);
        self.shared.of.store(of, Ordering::Relaxed);
    }

    /// Whether the job was cancelled by its id. A future is dropped then, so this is for threads.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled()
    }

    /// Whether the queue drains: what can stop early should.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Waits until the queue drains. On a thread without that queue it waits for ever; ask
    /// [`is_stopping`](Self::is_stopping) there.
    ///
    /// Dropping the future loses nothing.
    pub async fn stopping(&self) {
        match books::find(self.shared.queue) {
            Some(books) => books.stop.cancelled().await,
            None if self.is_stopping() => {}
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("id", &self.shared.id.0).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
