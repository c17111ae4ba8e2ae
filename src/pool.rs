//! Threads for work that blocks: [`Pool`], which knows no runtime.
//!
//! Jobs wait in a channel. A thread is started when a job arrives, no thread is idle for it, and there are fewer than the
//! limit; one that has found no job for a while ends. All of that is decided under one lock, which also covers sending and the
//! decision to end, so the books and the channel always agree:
//!
//! ```text
//!     enqueue:  lock { queued += 1; send; if queued > idle and threads < limit: threads += 1, start one }
//!     worker:   lock { idle += 1 }  receive  lock { idle -= 1; queued -= 1 }  run
//!               timed out:  lock { if queued > 0: receive again; else threads -= 1, end }
//! ```
//!
//! # Invariant
//!
//! While a job is queued, at least one thread runs or will look again: a thread only ends when nothing is queued, and if none exists
//! one is started, or the job is refused with the reason.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::executor::error::JoinError;

/// How long an idle thread waits for another job. Long enough to serve the next burst, short enough that a quiet process is small.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Something a thread can run, or be told that it will not.
pub(crate) trait Job: Send {
    /// Runs it and keeps the result. Does not panic.
    fn run(&mut self);
    /// Hands the result over. Does not panic.
    fn deliver(self: Box<Self>);
    /// Ends it unrun. Does not panic.
    fn refuse(self: Box<Self>, reason: JoinError);
}

/// A bounded pool of threads for work that blocks.
///
/// A clone is a handle of the same pool. No thread is started before the first job. When the last handle is dropped, queued jobs
/// still run.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::blocking::Pool;
/// postlude::run(async {
///     let disk = Pool::new(2);
///     assert_eq!(disk.spawn(|| 6 * 7).await.unwrap(), 42);
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    /// The process whose threads these are: a fork has none of them.
    process: u32,
    keep_alive: Duration,
    books: Mutex<Books>,
    /// Signalled when a job or a thread has ended, or may have.
    rested: Condvar,
    /// Jobs, and after the shutdown a `None` for each idle thread.
    sender: Sender<Option<Box<dyn Job>>>,
    receiver: Receiver<Option<Box<dyn Job>>>,
    start_thread: StartThread,
}

type StartThread = fn(Arc<Shared>) -> io::Result<()>;

#[derive(Default)]
struct Books {
    threads: usize,
    idle: usize,
    /// Jobs sent and not yet received.
    queued: usize,
    /// Jobs received and not yet run to their end.
    running: usize,
    closed: bool,
}

impl Pool {
    /// A pool of at most `threads` threads; 0 counts as 1.
    ///
    /// ```
    /// let pool = postlude::blocking::Pool::new(4);
    /// assert_eq!(pool.threads(), 0, "none is started before there is work");
    /// ```
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with(threads, KEEP_ALIVE, start_thread)
    }

    fn with(limit: usize, keep_alive: Duration, start_thread: StartThread) -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let shared = Shared {
            limit: limit.max(1),
            process: std::process::id(),
            keep_alive,
            books: Mutex::default(),
            rested: Condvar::new(),
            sender,
            receiver,
            start_thread,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Threads alive now.
    ///
    /// ```
    /// assert_eq!(postlude::blocking::Pool::new(4).threads(), 0);
    /// ```
    #[must_use]
    pub fn threads(&self) -> usize {
        if self.shared.is_forked() { 0 } else { self.shared.lock().threads }
    }

    /// Jobs that wait for a thread now.
    ///
    /// ```
    /// assert_eq!(postlude::blocking::Pool::new(4).queued(), 0);
    /// ```
    #[must_use]
    pub fn queued(&self) -> usize {
        if self.shared.is_forked() { 0 } else { self.shared.lock().queued }
    }

    /// Cancels the queued jobs, refuses new ones, and waits for the running ones, at most `limit`. Returns how many still run; they
    /// go on by themselves.
    ///
    /// Blocks the calling thread: on a loop's thread, call it with a limit of zero, or at the end.
    ///
    /// ```
    /// use std::time::Duration;
    /// assert_eq!(postlude::blocking::Pool::new(4).shutdown(Duration::from_secs(1)), 0);
    /// ```
    pub fn shutdown(&self, limit: Duration) -> usize {
        if self.shared.is_forked() {
            return 0;
        }
        let deadline = Instant::now().checked_add(limit);
        let cancelled = {
            let mut books = self.shared.lock();
            books.closed = true;
            let jobs: Vec<_> = self.shared.receiver.try_iter().collect();
            books.queued = books.idle;
            for _ in 0..books.idle {
                // The receiver is ours, so there is somebody to receive it.
                let _received = self.shared.sender.send(None);
            }
            jobs
        };
        for job in cancelled.into_iter().flatten() {
            job.refuse(JoinError::cancelled());
        }
        let mut books = self.shared.lock();
        while books.threads > 0 {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            books = self.shared.rested.wait_timeout(books, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        books.running
    }

    /// Queues a job, or refuses it.
    pub(crate) fn enqueue(&self, job: Box<dyn Job>) {
        if let Err((job, reason)) = self.shared.enqueue(job) {
            job.refuse(reason);
        }
    }
}

impl Shared {
    /// Whether this process was forked from the one with the threads. To be asked before the lock, which a thread that is not
    /// there may have held.
    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and sees to it that a thread will take it; gives it back if none will.
    fn enqueue(self: &Arc<Self>, job: Box<dyn Job>) -> Result<(), (Box<dyn Job>, JoinError)> {
        if self.is_forked() {
            let error =
                "this process was forked after the pool was made, and has none of its threads; make a runtime in it";
            return Err((job, JoinError::not_started(io::Error::other(error))));
        }
        let mut books = self.lock();
        if books.closed {
            return Err((job, JoinError::cancelled()));
        }
        if books.queued >= books.idle && books.threads < self.limit {
            match (self.start_thread)(Arc::clone(self)) {
                Ok(()) => books.threads += 1,
                Err(error) if books.threads == 0 => return Err((job, JoinError::not_started(error))),
                // Those that exist will come to it.
                Err(_) => {}
            }
        }
        books.queued += 1;
        // The receiver is ours, so there is somebody to receive it.
        let _received = self.sender.send(Some(job));
        Ok(())
    }

    /// The life of a thread.
    fn work(&self) {
        while let Some(mut job) = self.next_job() {
            job.run();
            // Before its result is known: whoever has that may rely on the job being over.
            self.lock().running -= 1;
            self.rested.notify_all();
            job.deliver();
        }
    }

    /// Waits for a job. `None` if there was none for the keep-alive; the thread is off the books then.
    fn next_job(&self) -> Option<Box<dyn Job>> {
        let mut books = self.lock();
        self.rested.notify_all();
        if books.closed {
            books.threads -= 1;
            return None;
        }
        books.idle += 1;
        drop(books);
        loop {
            let received = self.receiver.recv_timeout(self.keep_alive);
            let mut books = self.lock();
            match received {
                Ok(job) => {
                    books.idle -= 1;
                    books.queued -= 1;
                    match job {
                        Some(_) => books.running += 1,
                        None => books.threads -= 1,
                    }
                    self.rested.notify_all();
                    return job;
                }
                Err(RecvTimeoutError::Timeout) if books.queued > 0 => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    books.idle -= 1;
                    books.threads -= 1;
                    self.rested.notify_all();
                    return None;
                }
            }
        }
    }
}

fn start_thread(shared: Arc<Shared>) -> io::Result<()> {
    thread::Builder::new().name("postlude-blocking".to_owned()).spawn(move || shared.work()).map(drop)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = self.shared.lock();
        f.debug_struct("Pool")
            .field("limit", &self.shared.limit)
            .field("threads", &books.threads)
            .field("idle", &books.idle)
            .field("queued", &books.queued)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    struct Plain(Option<Box<dyn FnOnce() + Send>>, Option<mpsc::Sender<String>>);

    impl Job for Plain {
        fn run(&mut self) {
            drop(self.0.take().map(|run| catch_unwind(AssertUnwindSafe(run))));
        }

        fn deliver(self: Box<Self>) {}

        fn refuse(self: Box<Self>, reason: JoinError) {
            self.1.map(|sender| sender.send(reason.to_string()));
        }
    }

    fn job(run: impl FnOnce() + Send + 'static) -> Box<dyn Job> {
        Box::new(Plain(Some(Box::new(run)), None))
    }

    #[test]
    fn every_job_runs_though_threads_end_all_the_time() {
        let pool = Pool::with(4, Duration::from_millis(1), start_thread);
        let (done, count) = (Arc::new(AtomicUsize::new(0)), 10_000);
        for n in 0..count {
            let done = Arc::clone(&done);
            pool.enqueue(job(move || {
                done.fetch_add(1, Ordering::SeqCst);
            }));
            if n % 500 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        let patience = Instant::now() + Duration::from_secs(60);
        while done.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < patience, "{} of {count} ran: {pool:?}", done.load(Ordering::SeqCst));
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_is_refused_with_the_reason_when_no_thread_can_be_started() {
        let pool = Pool::with(4, KEEP_ALIVE, |_| Err(io::Error::other("no more threads")));
        let (sender, refused) = mpsc::channel();
        pool.enqueue(Box::new(Plain(Some(Box::new(|| ())), Some(sender))));
        assert_eq!(refused.recv().unwrap(), "the blocking job was not started: no more threads");
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
    }

    #[test]
    fn never_more_threads_than_the_limit() {
        let pool = Pool::with(3, KEEP_ALIVE, start_thread);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..50 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            pool.enqueue(job(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        while pool.queued() > 0 {
            thread::yield_now();
        }
        assert_eq!(pool.shutdown(Duration::from_secs(60)), 0);
        assert!(most.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn shutdown_cancels_what_waits_and_counts_what_runs() {
        let pool = Pool::with(1, KEEP_ALIVE, start_thread);
        let (release, gate) = mpsc::channel::<()>();
        let (entered, running) = mpsc::channel();
        pool.enqueue(job(move || {
            entered.send(()).unwrap();
            let _released = gate.recv();
        }));
        running.recv().unwrap();
        let (sender, refused) = mpsc::channel();
        pool.enqueue(Box::new(Plain(Some(Box::new(|| panic!("must not run"))), Some(sender.clone()))));
        assert_eq!(pool.shutdown(Duration::ZERO), 1);
        assert_eq!(refused.recv().unwrap(), "the task was cancelled");
        pool.enqueue(Box::new(Plain(Some(Box::new(|| panic!("must not run"))), Some(sender))));
        assert_eq!(refused.recv().unwrap(), "the task was cancelled");
        drop(release);
        assert_eq!(pool.shutdown(Duration::MAX), 0);
    }

    #[test]
    fn a_panicking_job_leaves_its_thread_alive() {
        let pool = Pool::with(1, KEEP_ALIVE, start_thread);
        let (sender, done) = mpsc::channel();
        pool.enqueue(job(|| std::panic::resume_unwind(Box::new("quietly"))));
        pool.enqueue(job(move || sender.send(thread::current().name().map(str::to_owned)).unwrap()));
        assert_eq!(done.recv().unwrap().as_deref(), Some("postlude-blocking"));
        assert_eq!(pool.threads(), 1);
    }
}
