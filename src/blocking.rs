//! Blocking work: a bounded pool of threads, [`Pool`], and [`spawn_blocking`] on the runtime's own.
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
//!
//! A job's result goes to an `Outcome`. Of a job that was spawned inside a runtime, a task in the table awaits it, so that its handle is as
//! any other; of one that plain code has submitted, the handle itself does.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::runtime::RemoteHandle;
use crate::runtime::context::{self, Home, Misuse};
use crate::runtime::drop_silently;
use crate::runtime::inbox::Message;
use crate::runtime::outcome::Outcome;
use crate::task::stage::{Output, Payload, Task, drop_payload};
use crate::task::table::Class;
use crate::task::{JoinError, JoinHandle};

/// How long an idle thread waits for another job. Long enough to serve the next burst, short enough that a quiet process is small.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Something a thread can run, or be told that it will not.
trait Job: Send {
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
            keep_alive,
            books: Mutex::default(),
            rested: Condvar::new(),
            sender,
            receiver,
            start_thread,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs a closure on one of the pool's threads. The handle is a task's of the current runtime.
    ///
    /// Dropping the handle lets the job run on; `abort` cancels it only if it has not started. A panic of the closure is the
    /// handle's [`JoinError`]. If no thread can be started and none exists, or the pool is shut down, the handle gives an error.
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
    pub fn spawn<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let Some(parts) = context::current() else {
            panic!("{}", Misuse::no_runtime("`blocking::Pool::spawn` was called"))
        };
        let control = JobControl::new();
        let outcome = Arc::new(Outcome::of_job(control.clone()));
        let task = Waiting { outcome: Arc::clone(&outcome), control: control.clone(), output: None };
        let handle =
            parts.spawn_boxed(Box::pin(task), Class::Foreground, None, Location::caller()).with_job(control.clone());
        let work = Box::new(Work { closure: Some(job), result: None, control, outcome, home: Some(parts.home) });
        if parts.closing.get() {
            work.refuse(JoinError::cancelled());
            return handle;
        }
        parts.jobs.set(parts.jobs.get() + 1);
        self.enqueue(work);
        handle
    }

    /// Runs a closure on one of the pool's threads, from plain code: no runtime is needed.
    ///
    /// The handle can be waited for by a thread, with a limit, or awaited anywhere; it gives the output, the panic, or the
    /// cancellation. Dropping it lets the job run on, and if that panics, nobody but the process's panic hook is told. `abort`
    /// cancels the job at once if it has not started. If no thread can be started and none exists, or the pool is shut down, the
    /// handle gives an error. Inside a runtime, prefer [`spawn`](Self::spawn): its loop knows of the job, reports its panic, and
    /// holds a paused clock still for it.
    ///
    /// A job that waits for another one of the same pool may wait for ever, if none of the threads is left for that.
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
    pub fn submit<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> RemoteHandle<T> {
        let control = JobControl::new();
        let outcome = Arc::new(Outcome::of_job(control.clone()));
        self.enqueue(Box::new(Work {
            closure: Some(job),
            result: None,
            control,
            outcome: Arc::clone(&outcome),
            home: None,
        }));
        RemoteHandle::new(outcome)
    }

    /// Threads alive now.
    ///
    /// ```
    /// assert_eq!(postlude::blocking::Pool::new(4).threads(), 0);
    /// ```
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }

    /// Jobs that wait for a thread now.
    ///
    /// ```
    /// assert_eq!(postlude::blocking::Pool::new(4).queued(), 0);
    /// ```
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.lock().queued
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

    fn enqueue(&self, job: Box<dyn Job>) {
        if let Err((job, reason)) = self.shared.enqueue(job) {
            job.refuse(reason);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and sees to it that a thread will take it; gives it back if none will.
    fn enqueue(self: &Arc<Self>, job: Box<dyn Job>) -> Result<(), (Box<dyn Job>, JoinError)> {
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

/// Runs a closure that blocks on one of the runtime's threads, of which there are at most
/// [`max_blocking_threads`](crate::Builder::max_blocking_threads).
///
/// Dropping the handle lets the job run on; `abort` cancels it only if it has not started. When the runtime ends, jobs that wait
/// are cancelled, and those that run are left to themselves.
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
pub fn spawn_blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match context::current() {
        Some(parts) => parts.pool.spawn(job),
        None => panic!("{}", Misuse::no_runtime("`spawn_blocking` was called")),
    }
}

/// Whether a job may still be cancelled: shared by its handle, its task and its thread.
#[derive(Clone, Debug)]
pub(crate) struct JobControl(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

impl JobControl {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    fn start(&self) -> bool {
        self.0.compare_exchange(QUEUED, STARTED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// False if the job has started, and so will end by itself.
    pub(crate) fn cancel(&self) -> bool {
        self.0.compare_exchange(QUEUED, CANCELLED, Ordering::AcqRel, Ordering::Acquire) != Err(STARTED)
    }
}

/// A closure on its way to a thread, and where its result goes.
struct Work<F, T> {
    /// Taken by the run.
    closure: Option<F>,
    /// Left by the run.
    result: Option<Result<T, JoinError>>,
    control: JobControl,
    outcome: Arc<Outcome<T>>,
    /// The loop that counts this job, if one does.
    home: Option<Home>,
}

impl<F, T> Job for Work<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&mut self) {
        let Some(closure) = self.closure.take() else { return };
        if self.control.start() {
            self.result = Some(catch_unwind(AssertUnwindSafe(closure)).map_err(JoinError::panicked));
        } else {
            drop_silently(closure);
        }
    }

    fn deliver(self: Box<Self>) {
        let Self { result, outcome, home, .. } = *self;
        end(outcome, home, result.unwrap_or_else(|| Err(JoinError::cancelled())));
    }

    fn refuse(self: Box<Self>, reason: JoinError) {
        let Self { closure, outcome, home, .. } = *self;
        drop_silently(closure);
        end(outcome, home, Err(reason));
    }
}

/// The result goes first: the loop must not learn that the job has ended before its task is woken. If nobody is left to fetch it, it is
/// dropped here. Neither that nor a foreign waker may end the thread by a panic.
fn end<T>(outcome: Arc<Outcome<T>>, home: Option<Home>, result: Result<T, JoinError>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(outcome.finish(result)))) {
        drop_payload(panic);
    }
    if let Some(home) = home {
        home.send(Message::JobEnded);
    }
    drop_silently(outcome);
}

/// The task that stands for a job in the table.
struct Waiting<T> {
    outcome: Arc<Outcome<T>>,
    control: JobControl,
    output: Output<T>,
}

/// Nothing in it is polled in place.
impl<T> Unpin for Waiting<T> {}

impl<T: 'static> Task for Waiting<T> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.output = Some(ready!(self.outcome.poll(cx)));
        Poll::Ready(())
    }

    fn cancel(mut self: Pin<&mut Self>) {
        self.control.cancel();
        self.output = Some(Err(JoinError::cancelled()));
    }

    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        Some(&mut self.get_mut().output)
    }

    fn error(self: Pin<&mut Self>) -> Option<&JoinError> {
        self.get_mut().output.as_ref()?.as_ref().err()
    }

    fn take_panic(mut self: Pin<&mut Self>) -> Option<Payload> {
        self.output.take_if(|result| result.as_ref().is_err_and(JoinError::is_panic))?.err()?.into_panic()
    }
}

impl<T> Drop for Waiting<T> {
    /// The runtime ends: nobody will want the result of a job that has not started.
    fn drop(&mut self) {
        if self.output.is_none() {
            self.control.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
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
