//! Threads for work that blocks: [`Pool`], which knows no runtime.
//!
//! One lock guards the queue of jobs and the stack of idle threads. A queued job calls one thread:
//! the one that went idle last, or a new one if none is idle and the limit allows. While a called
//! thread is on its way, no other is called. When it arrives it takes a job, and if more are
//! queued it calls the next thread before it runs its own job.
//!
//! ```text
//!     enqueue:  lock { push the job; call }
//!     call:     if a job is queued and no thread is on its way:
//!                   wake the top of the stack, or start a thread if there are fewer than the limit
//!     thread:   lock { pop a job; call }
//!               run the job
//!               lock { if no job is queued: push this thread onto the stack }
//!               hand the result over
//!               if on the stack: park until called; after the keep-alive, leave the stack and end
//! ```
//!
//! So many short jobs cost few wakes: threads that are awake take most of them before the next one
//! arrives. Long jobs delay nothing: each thread that arrives calls another, until all jobs run or
//! no thread is left. A burst that finds the pool cold starts its threads one after the other.
//!
//! A thread goes onto the stack before it hands its result over. A caller that answers a result
//! with another job thus calls the thread that has just become free, often before it parks; then
//! the call is no system call. Threads at the bottom of the stack are not needed and retire.
//!
//! # Invariant
//!
//! While a job is queued, a called thread is on its way, or all threads are busy and no more may be
//! started (or none can be). So an idle thread may end at any time: no job counts on it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crate::executor::caught::drop_silently;
use crate::executor::error::JoinError;

/// How long an idle thread waits for another job. Long enough to serve the next burst, short enough
/// that a quiet process is small.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Jobs the queue has room for without asking the allocator: 4 KiB.
const SPARE_JOBS: usize = 256;

/// Something a thread can run, or be told that it will not.
pub(crate) trait Job: Send {
    /// Runs it and keeps the result. Does not panic.
    fn run(&mut self);
    /// Hands the result over, or returns it if no handle will fetch it: its drop is the user's code
    /// and may take long. Does not panic.
    fn deliver(self: Box<Self>) -> Option<Box<dyn Send>>;
    /// Ends it unrun. Does not panic.
    fn refuse(self: Box<Self>, reason: JoinError);
    /// Whether its run would do nothing.
    fn is_cancelled(&self) -> bool;
}

/// A bounded pool of threads for work that blocks.
///
/// A clone is a handle of the same pool. No thread is started before the first job. The thread that
/// went idle last takes the next job; one that was not needed for 10 s ends. When the last handle
/// is dropped, queued jobs still run.
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
    /// Signalled when a thread of a closed pool ends.
    ended: Condvar,
    start_thread: StartThread,
}

type StartThread = fn(Arc<Shared>) -> io::Result<()>;

#[derive(Default)]
struct Books {
    queue: VecDeque<Box<dyn Job>>,
    /// The stack of threads without a job. Each pushes itself; `call` pops it.
    idle: Vec<Idle>,
    /// A called thread is on its way: set by `call`, unset by the thread when it arrives.
    is_called: bool,
    threads: usize,
    /// Jobs taken and not yet run to their end.
    running: usize,
    is_closed: bool,
}

/// A thread that waits for a call, or is about to.
struct Idle {
    id: ThreadId,
    thread: Thread,
}

impl Books {
    /// Where on the stack a thread is; `None` once it was called.
    fn place(&self, id: ThreadId) -> Option<usize> {
        self.idle.iter().rposition(|idle| idle.id == id)
    }

    /// Nothing is queued, so what a burst took is given back, too.
    fn push_idle(&mut self) {
        self.queue.shrink_to(SPARE_JOBS);
        let thread = thread::current();
        self.idle.push(Idle { id: thread.id(), thread });
    }
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
        let shared = Shared {
            limit: limit.max(1),
            process: std::process::id(),
            keep_alive,
            books: Mutex::default(),
            ended: Condvar::new(),
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
        if self.shared.is_forked() { 0 } else { self.shared.lock().queue.len() }
    }

    /// Cancels the queued jobs, refuses new ones, and waits for the running ones, at most `limit`.
    /// Returns how many still run; they go on by themselves.
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
        let mut books = self.shared.lock();
        books.is_closed = true;
        let (cancelled, idle) = (std::mem::take(&mut books.queue), std::mem::take(&mut books.idle));
        drop(books);
        for idle in idle {
            idle.thread.unpark();
        }
        for job in cancelled {
            job.refuse(JoinError::cancelled());
        }
        let mut books = self.shared.lock();
        while books.threads > 0 {
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            books = self.shared.ended.wait_timeout(books, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        books.running
    }

    /// Takes cancelled jobs off the queue. Otherwise each stays until a thread comes to it.
    pub(crate) fn remove_cancelled(&self) {
        if self.shared.is_forked() {
            return;
        }
        let mut cancelled = Vec::new();
        let mut books = self.shared.lock();
        // Not `extract_if`, which this crate's oldest compiler does not have.
        for _ in 0..books.queue.len() {
            match books.queue.pop_front() {
                Some(job) if job.is_cancelled() => cancelled.push(job),
                Some(job) => books.queue.push_back(job),
                None => break,
            }
        }
        drop(books);
        for job in cancelled {
            job.refuse(JoinError::cancelled());
        }
    }

    /// Queues a job, or refuses it. `process` is the number of this process: asking for it is a
    /// system call, which the caller need not make for each job.
    pub(crate) fn enqueue(&self, job: Box<dyn Job>, process: u32) {
        if let Err((job, reason)) = self.shared.enqueue(job, process) {
            job.refuse(reason);
        }
    }
}

impl Shared {
    /// Whether this process was forked from the one with the threads. Ask before taking the lock,
    /// which a thread that does not exist here may hold.
    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and sees to it that a thread will take it; gives it back if none will.
    fn enqueue(self: &Arc<Self>, job: Box<dyn Job>, process: u32) -> Result<(), (Box<dyn Job>, JoinError)> {
        if process != self.process {
            let error =
                "this process was forked after the pool was made, and has none of its threads; make a runtime in it";
            return Err((job, JoinError::not_started(io::Error::other(error))));
        }
        let mut books = self.lock();
        if books.is_closed {
            return Err((job, JoinError::cancelled()));
        }
        books.queue.push_back(job);
        match self.call(&mut books) {
            Ok(called) => {
                drop(books);
                wake(called);
            }
            Err(error) if books.threads == 0 => {
                // Without threads no other job is queued, so this one is the last.
                if let Some(job) = books.queue.pop_back() {
                    return Err((job, JoinError::not_started(error)));
                }
            }
            // The existing threads will come to it.
            Err(_) => {}
        }
        Ok(())
    }

    /// Calls a thread if one is needed: starts one, or returns an idle one, which the caller wakes
    /// after it has released the lock.
    fn call(self: &Arc<Self>, books: &mut Books) -> io::Result<Option<Thread>> {
        if books.is_called || books.queue.is_empty() {
            return Ok(None);
        }
        let called = books.idle.pop();
        if called.is_none() {
            if books.threads >= self.limit {
                return Ok(None);
            }
            (self.start_thread)(Arc::clone(self))?;
            books.threads += 1;
        }
        books.is_called = true;
        Ok(called.map(|idle| idle.thread))
    }

    /// The life of a thread, which is started because it is called.
    fn work(self: &Arc<Self>) {
        let mut books = self.lock();
        books.is_called = false;
        loop {
            let is_idle = if let Some(job) = books.queue.pop_front() {
                books.running += 1;
                // If no thread can be started, the existing ones will come to the jobs.
                let called = self.call(&mut books).unwrap_or_default();
                drop(books);
                wake(called);
                self.run(job)
            } else if books.is_closed {
                books.threads -= 1;
                self.ended.notify_all();
                return;
            } else {
                books.push_idle();
                drop(books);
                true
            };
            if is_idle {
                let Some(called) = self.wait() else { return };
                books = called;
            } else {
                books = self.lock();
            }
        }
    }

    /// Runs a job and hands its result over. True if the thread went onto the stack.
    fn run(self: &Arc<Self>, mut job: Box<dyn Job>) -> bool {
        job.run();
        let mut books = self.lock();
        // Before the result is known: its receiver may rely on the job being over.
        books.running -= 1;
        let is_idle = books.queue.is_empty() && !books.is_closed;
        if is_idle {
            books.push_idle();
        }
        drop(books);
        let Some(unclaimed) = job.deliver() else { return is_idle };
        if is_idle {
            self.decline();
        }
        drop_silently(unclaimed);
        false
    }

    /// Parks the thread until it is called. `None` after the keep-alive: the thread is off the
    /// books and must end. If a job is queued, another thread is on its way to it.
    fn wait(&self) -> Option<MutexGuard<'_, Books>> {
        let id = thread::current().id();
        let begun = Instant::now();
        loop {
            thread::park_timeout(self.keep_alive.saturating_sub(begun.elapsed()));
            let mut books = self.lock();
            let Some(place) = books.place(id) else {
                books.is_called = false;
                return Some(books);
            };
            if begun.elapsed() >= self.keep_alive {
                books.idle.remove(place);
                books.threads -= 1;
                return None;
            }
            // Not the pool but a job's code has unparked the thread.
        }
    }

    /// Leaves the stack to do something else. A thread that was called meanwhile calls another.
    fn decline(self: &Arc<Self>) {
        let mut books = self.lock();
        if let Some(place) = books.place(thread::current().id()) {
            books.idle.remove(place);
            return;
        }
        books.is_called = false;
        let called = self.call(&mut books).unwrap_or_default();
        drop(books);
        wake(called);
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
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
            .field("idle", &books.idle.len())
            .field("queued", &books.queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A job made of closures.
    struct Plain {
        run: Option<Box<dyn FnOnce() + Send>>,
        deliver: Box<dyn FnOnce() -> Option<Box<dyn Send>> + Send>,
        refuse: Box<dyn FnOnce(String) + Send>,
    }

    impl Job for Plain {
        fn run(&mut self) {
            drop(self.run.take().map(|run| catch_unwind(AssertUnwindSafe(run))));
        }

        fn deliver(self: Box<Self>) -> Option<Box<dyn Send>> {
            (self.deliver)()
        }

        fn refuse(self: Box<Self>, reason: JoinError) {
            (self.refuse)(reason.to_string());
        }

        fn is_cancelled(&self) -> bool {
            self.run.is_none()
        }
    }

    fn plain(run: impl FnOnce() + Send + 'static) -> Plain {
        Plain { run: Some(Box::new(run)), deliver: Box::new(|| None), refuse: Box::new(drop) }
    }

    /// A job that tells why it was refused.
    fn refused(sender: &mpsc::Sender<String>) -> Plain {
        let sender = sender.clone();
        let refuse = Box::new(move |reason| sender.send(reason).unwrap());
        Plain { refuse, ..plain(|| panic!("must not run")) }
    }

    fn enqueue(pool: &Pool, job: Plain) {
        pool.enqueue(Box::new(job), std::process::id());
    }

    /// Runs a job and waits for its result. Returns the thread it ran on.
    fn run_one(pool: &Pool) -> ThreadId {
        let (sender, result) = mpsc::channel();
        let id = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&id);
        let deliver = Box::new(move || {
            sender.send(()).unwrap();
            None
        });
        enqueue(pool, Plain { deliver, ..plain(move || *seen.lock().unwrap() = Some(thread::current().id())) });
        result.recv_timeout(PATIENCE).unwrap();
        id.lock().unwrap().unwrap()
    }

    /// Has `count` jobs run at the same time. Returns when their threads are idle.
    fn burst(pool: &Pool, count: usize) {
        let all_run = Arc::new(std::sync::Barrier::new(count));
        for _ in 0..count {
            let all_run = Arc::clone(&all_run);
            enqueue(
                pool,
                plain(move || {
                    all_run.wait();
                }),
            );
        }
        wait_until(pool, |books| books.idle.len() == count);
    }

    fn wait_until(pool: &Pool, reached: impl Fn(&Books) -> bool) {
        let begun = Instant::now();
        while !reached(&pool.shared.lock()) {
            assert!(begun.elapsed() < PATIENCE, "{pool:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn every_job_runs_though_threads_end_all_the_time() {
        let pool = Pool::with(4, Duration::from_millis(1), start_thread);
        let (done, count) = (Arc::new(AtomicUsize::new(0)), 10_000);
        for n in 0..count {
            let done = Arc::clone(&done);
            enqueue(
                &pool,
                plain(move || {
                    done.fetch_add(1, Ordering::SeqCst);
                }),
            );
            if n % 500 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        wait_until(&pool, |_| done.load(Ordering::SeqCst) == count);
        wait_until(&pool, |books| books.threads == 0);
    }

    #[test]
    fn a_job_is_refused_with_the_reason_when_no_thread_can_be_started() {
        let pool = Pool::with(4, KEEP_ALIVE, |_| Err(io::Error::other("no more threads")));
        let (sender, reasons) = mpsc::channel();
        enqueue(&pool, refused(&sender));
        assert_eq!(reasons.recv().unwrap(), "the blocking job was not started: no more threads");
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
    }

    #[test]
    fn never_more_threads_than_the_limit() {
        let pool = Pool::with(3, KEEP_ALIVE, start_thread);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..50 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            enqueue(
                &pool,
                plain(move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                    running.fetch_sub(1, Ordering::SeqCst);
                }),
            );
        }
        wait_until(&pool, |books| books.queue.is_empty());
        assert_eq!(pool.shutdown(PATIENCE), 0);
        assert!(most.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn a_burst_calls_one_thread_and_leaves_the_rest_to_that_one() {
        // Threads that are called and never arrive.
        let pool = Pool::with(4, KEEP_ALIVE, |_| Ok(()));
        (0..100).for_each(|_| enqueue(&pool, plain(|| ())));
        assert_eq!((pool.threads(), pool.queued()), (1, 100), "it starts one");
        let pool = Pool::with(4, KEEP_ALIVE, |_| panic!("two threads are idle"));
        (0..2).for_each(|_| pool.shared.lock().push_idle());
        (0..100).for_each(|_| enqueue(&pool, plain(|| ())));
        assert_eq!(pool.shared.lock().idle.len(), 1, "it wakes one");
        assert_eq!(pool.queued(), 100);
    }

    #[test]
    fn every_thread_that_arrives_calls_the_next_so_long_jobs_keep_none_waiting() {
        let pool = Pool::with(8, KEEP_ALIVE, start_thread);
        // Each job waits for all the others: first with threads to be started, then with idle ones.
        burst(&pool, 8);
        burst(&pool, 8);
        assert_eq!(pool.threads(), 8);
    }

    #[test]
    fn the_thread_that_went_idle_last_takes_the_next_job_and_the_rest_retire() {
        let pool = Pool::with(16, Duration::from_secs(1), start_thread);
        burst(&pool, 16);
        let first = run_one(&pool);
        let begun = Instant::now();
        while pool.threads() > 1 {
            assert_eq!(run_one(&pool), first);
            assert!(begun.elapsed() < PATIENCE, "{pool:?}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(run_one(&pool), first);
    }

    #[test]
    fn a_job_that_answers_a_result_goes_to_the_thread_that_has_just_become_free() {
        let pool = Pool::with(16, KEEP_ALIVE, start_thread);
        let first = run_one(&pool);
        for _ in 0..1000 {
            assert_eq!(run_one(&pool), first);
        }
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn no_job_waits_for_the_drop_of_a_result_nobody_fetches() {
        struct Slow(mpsc::Receiver<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                let _released = self.0.recv_timeout(PATIENCE);
            }
        }
        let pool = Pool::with(2, KEEP_ALIVE, start_thread);
        let (release, gate) = mpsc::channel();
        let (sender, done) = mpsc::channel();
        let again = pool.clone();
        let deliver = Box::new(move || {
            // The pool calls this very thread, which is on the stack.
            enqueue(&again, plain(move || sender.send(()).unwrap()));
            Some(Box::new(Slow(gate)) as Box<dyn Send>)
        });
        enqueue(&pool, Plain { deliver, ..plain(|| ()) });
        done.recv_timeout(PATIENCE).expect("another thread runs it");
        run_one(&pool);
        release.send(()).unwrap();
        wait_until(&pool, |books| books.idle.len() == 2);
    }

    #[test]
    fn a_thread_that_a_job_unparks_stays_idle() {
        let pool = Pool::with(2, KEEP_ALIVE, start_thread);
        let (sender, threads) = mpsc::channel();
        enqueue(&pool, plain(move || sender.send(thread::current()).unwrap()));
        let thread = threads.recv().unwrap();
        wait_until(&pool, |books| books.idle.len() == 1);
        for _ in 0..100 {
            thread.unpark();
            assert_eq!(run_one(&pool), thread.id());
            thread.unpark();
        }
        wait_until(&pool, |books| books.idle.len() == 1 && !books.is_called);
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let pool = Pool::with(1, KEEP_ALIVE, start_thread);
        (0..10_000).for_each(|_| enqueue(&pool, plain(|| ())));
        wait_until(&pool, |books| books.idle.len() == 1);
        assert!(pool.shared.lock().queue.capacity() <= 2 * SPARE_JOBS);
    }

    #[test]
    fn cancelled_jobs_are_taken_off_the_queue_and_the_others_keep_their_order() {
        let pool = Pool::with(1, KEEP_ALIVE, |_| Ok(()));
        let (sender, reasons) = mpsc::channel();
        let (run, order) = mpsc::channel();
        for n in 0..10 {
            let run = run.clone();
            enqueue(&pool, plain(move || run.send(n).unwrap()));
            enqueue(&pool, Plain { run: None, ..refused(&sender) });
        }
        pool.remove_cancelled();
        assert_eq!(reasons.try_iter().collect::<Vec<_>>(), ["the task was cancelled"; 10]);
        pool.shared.lock().queue.iter_mut().for_each(|job| job.run());
        assert_eq!(order.try_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn shutdown_cancels_what_waits_and_counts_what_runs() {
        let pool = Pool::with(1, KEEP_ALIVE, start_thread);
        let (release, gate) = mpsc::channel::<()>();
        let (entered, running) = mpsc::channel();
        enqueue(
            &pool,
            plain(move || {
                entered.send(()).unwrap();
                let _released = gate.recv();
            }),
        );
        running.recv().unwrap();
        let (sender, reasons) = mpsc::channel();
        enqueue(&pool, refused(&sender));
        assert_eq!(pool.shutdown(Duration::ZERO), 1);
        assert_eq!(reasons.recv().unwrap(), "the task was cancelled");
        enqueue(&pool, refused(&sender));
        assert_eq!(reasons.recv().unwrap(), "the task was cancelled");
        drop(release);
        assert_eq!(pool.shutdown(Duration::MAX), 0);
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn a_panicking_job_leaves_its_thread_alive() {
        let pool = Pool::with(1, KEEP_ALIVE, start_thread);
        let (sender, done) = mpsc::channel();
        enqueue(&pool, plain(|| std::panic::resume_unwind(Box::new("quietly"))));
        enqueue(&pool, plain(move || sender.send(thread::current().name().map(str::to_owned)).unwrap()));
        assert_eq!(done.recv().unwrap().as_deref(), Some("postlude-blocking"));
        assert_eq!(pool.threads(), 1);
    }
}
