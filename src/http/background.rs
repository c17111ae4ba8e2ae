//! Background tasks: work that a request leaves behind for after its answer.
//!
//! Every request has one list. Extractors, the handler and the returned response add to it; when
//! the last byte of the answer was accepted by the socket, the list leaves the connection for the
//! loop's deferred queue and runs there in order, one task after the other. The connection goes on
//! with the next request, or closes; nothing that happens to it afterwards reaches the tasks, and
//! no task can reach the connection.
//!
//! # How it works
//!
//! - [`BackgroundTasks`] is a handle on the list; clones are the same list.
//! - A `Trigger` stands for the answer. It fires exactly once, from `Drop` too, with an outcome:
//!   delivered, aborted (the answer could not be written), failed (the handler did). After a
//!   failure the tasks do not run; each is reported.
//! - The list runs as one deferred task; a concurrent one has a deferred task for each of its own
//!   beside it. A task may add tasks to it while it runs; when its last one has ended the list is
//!   closed.
//! - The [`Ledger`] keeps the server's books: how many tasks are accepted and not ended, which
//!   lists run, which tasks were not finished at shutdown.
//! - It also counts the tasks that are ready to run on the loop ([`Ready`]). While they are more
//!   than half of the limit, a connection pauses before it begins another request, so that under
//!   load clients wait a moment instead of being refused. A task that waits (for a timer, a thread,
//!   a socket) is not ready and pauses nothing.
//!
//! # Invariants
//!
//! - What `add` accepted ends in exactly one of: completed, failed, skipped, unfinished. `pending`
//!   counts what has not ended yet.
//! - User code (tasks, their destructors, the hook) runs while nothing here is borrowed, and its
//!   panics end there.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use http::StatusCode;
use pin_project_lite::pin_project;
use slab::Slab;

use crate::blocking::Pool;
use crate::sync::Notify;
use crate::task::{AbortOnDrop, is_woken};
use crate::{JoinHandle, defer, time};

/// The output of a background task: nothing, or a `Result` whose error is reported.
#[diagnostic::on_unimplemented(
    message = "a background task cannot return `{Self}`",
    note = "return `()`, or `Result<(), E>` with an `E: Display`"
)]
pub trait TaskOutput {
    /// The error's text, if it is one.
    ///
    /// # Errors
    ///
    /// If the task failed.
    fn into_result(self) -> Result<(), String>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> TaskOutput for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// The refusal of a background task. Its answer is a 503, with `Retry-After` unless it is
/// [`Closed`](Self::Closed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// As many tasks as the server or one request may have are waiting already.
    Full,
    /// The server has ended its drain and starts nothing new.
    ShuttingDown,
    /// The request's answer is out and the last of its tasks has ended.
    Closed,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many background tasks are waiting; try again later",
            Self::ShuttingDown => "the server is shutting down and takes no more background tasks",
            Self::Closed => "the request's background tasks have ended; add before the answer, or from one of them",
        })
    }
}

impl std::error::Error for AddError {}

/// Seconds after which a refused client may try again (RFC 9110, section 10.2.3): no pause of the
/// server lasts longer.
pub(crate) const RETRY_AFTER: &str = "1";

impl AddError {
    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Self::Full | Self::ShuttingDown)
    }
}

/// An accepted task. Ids are counted per server from 1 and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskRef(u64);

impl TaskRef {
    /// The task's id.
    #[must_use]
    pub fn id(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the request that a list belongs to ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerOutcome {
    /// The last byte of the answer was accepted by the socket.
    Delivered,
    /// There was an answer, but it could not be written to its end.
    Aborted,
    /// The handler gave an `Err`, an extractor rejected the request, or something panicked.
    Failed(StatusCode),
}

/// A request's list of background tasks: an extractor, and a handle that can be cloned and kept.
///
/// The tasks run after the answer, in the order they were added, one after the other; lists of
/// different requests overlap. They run whether or not the client is still there, but not if the
/// handler failed.
///
/// ```
/// use postlude::http::{self, BackgroundTasks, Router};
/// let router = Router::new().post("/orders", async |tasks: BackgroundTasks| {
///     tasks.add(async { println!("the client has its answer") })?;
///     tasks.add_blocking(|| std::fs::write("/tmp/orders", "one more"))?;
///     let mail = tasks.task("mail").run(async || println!("sent"))?;
///     Ok::<_, http::Error>(format!("ordered, task {mail} sends the mail"))
/// });
/// ```
#[derive(Clone)]
pub struct BackgroundTasks {
    list: Rc<TaskList>,
}

impl BackgroundTasks {
    /// The list of the request with this method and target.
    pub(crate) fn new(ledger: Rc<Ledger>, request: &[u8], number: u64) -> Self {
        let mut line = ledger.spare_lines.borrow_mut().pop().unwrap_or_default();
        line.extend_from_slice(request);
        let list = TaskList {
            ledger,
            line,
            number,
            queue: RefCell::default(),
            current: RefCell::default(),
            runner: Cell::new(NO_RUNNER),
            concurrent: Cell::new(false),
            stop_on_error: Cell::new(false),
            added: RefCell::default(),
            state: Cell::new(ListState::Open),
        };
        Self { list: Rc::new(list) }
    }

    /// Adds a future. It is named after this line of your code.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the future is dropped.
    #[track_caller]
    pub fn add<F>(&self, task: F) -> Result<TaskRef, AddError>
    where
        F: Future + 'static,
        F::Output: TaskOutput,
    {
        self.list.accept(QueuedTask::future(task))
    }

    /// Adds a closure that blocks; it runs on the server's background threads.
    ///
    /// # Errors
    ///
    /// See [`AddError`]; the closure is dropped.
    #[track_caller]
    pub fn add_blocking<F, T>(&self, task: F) -> Result<TaskRef, AddError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: TaskOutput,
    {
        self.list.accept(QueuedTask::blocking(task))
    }

    /// Begins a task with a name, which reports use.
    #[must_use = "a task is added by `run` or `run_blocking`"]
    pub fn task(&self, name: impl Into<Cow<'static, str>>) -> NewTask<'_> {
        NewTask { tasks: self, name: name.into() }
    }

    /// Runs the tasks of this request at the same time, not one after the other, from the next one
    /// to start on.
    pub fn concurrent(&self) {
        self.list.concurrent.set(true);
    }

    /// Makes the first task of this request that fails or panics the last one: those that have not
    /// started are skipped, and each is reported as such. Those that run already, on a
    /// [concurrent](Self::concurrent) list, go on.
    ///
    /// ```
    /// use postlude::http::{BackgroundTasks, Error, Router};
    /// let router = Router::new().get("/", async |tasks: BackgroundTasks| {
    ///     tasks.stop_on_error();
    ///     tasks.task("charge").run(async || Err::<(), _>("no money"))?;
    ///     tasks.task("ship").run(async || println!("not without the money"))?;
    ///     Ok::<_, Error>("answer")
    /// });
    /// ```
    pub fn stop_on_error(&self) {
        self.list.stop_on_error.set(true);
    }

    /// Moves the tasks of a response to the end of the list. If they do not all fit, none is added.
    pub(crate) fn extend(&self, entries: Vec<QueuedTask>) -> Result<(), AddError> {
        if let Err(error) = self.list.admit(entries.len()) {
            let _ = drop_quietly(entries);
            return Err(error);
        }
        entries.into_iter().try_for_each(|entry| self.list.accept(entry).map(drop))
    }
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasks")
            .field("request", &self.list.request())
            .field("waiting", &self.list.queue.borrow().len())
            .finish_non_exhaustive()
    }
}

/// A named task about to be added: see [`BackgroundTasks::task`].
#[must_use = "a task is added by `run` or `run_blocking`"]
#[derive(Debug)]
pub struct NewTask<'a> {
    tasks: &'a BackgroundTasks,
    name: Cow<'static, str>,
}

impl NewTask<'_> {
    /// Adds it, from an async closure.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run<F, T>(self, task: F) -> Result<TaskRef, AddError>
    where
        F: AsyncFnOnce() -> T + 'static,
        T: TaskOutput + 'static,
    {
        let entry = QueuedTask::future(async move { task().await });
        self.tasks.list.accept(QueuedTask { name: Name::Given(self.name), ..entry })
    }

    /// Adds it, from a closure that blocks.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn run_blocking<F, T>(self, task: F) -> Result<TaskRef, AddError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: TaskOutput,
    {
        self.tasks.list.accept(QueuedTask { name: Name::Given(self.name), ..QueuedTask::blocking(task) })
    }
}

/// The name of a task.
#[derive(Clone, Debug)]
enum Name {
    Given(Cow<'static, str>),
    /// It has none: where it was added.
    At(&'static Location<'static>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(name) => f.write_str(name),
            Self::At(place) => write!(f, "{}:{}", place.file(), place.line()),
        }
    }
}

/// A task on its way.
pub(crate) struct QueuedTask {
    /// Given when it is accepted.
    id: u64,
    name: Name,
    added: Instant,
    work: TaskWork,
}

type TaskFuture = Pin<Box<dyn Future<Output = Result<(), String>>>>;

enum TaskWork {
    Future(TaskFuture),
    Blocking(Box<dyn FnOnce() -> Result<(), String> + Send>),
}

pin_project! {
    /// A task's future with its output turned into a result.
    struct Finish<F> {
        #[pin]
        task: F,
    }
}

impl<F: Future<Output: TaskOutput>> Future for Finish<F> {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().task.poll(cx).map(TaskOutput::into_result)
    }
}

impl QueuedTask {
    #[track_caller]
    pub(crate) fn future<F>(task: F) -> Self
    where
        F: Future + 'static,
        F::Output: TaskOutput,
    {
        Self::new(TaskWork::Future(Box::pin(Finish { task })))
    }

    #[track_caller]
    pub(crate) fn blocking<F, T>(task: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
        T: TaskOutput,
    {
        Self::new(TaskWork::Blocking(Box::new(move || task().into_result())))
    }

    #[track_caller]
    fn new(work: TaskWork) -> Self {
        Self { id: 0, name: Name::At(Location::caller()), added: time::now(), work }
    }
}

impl TaskWork {
    fn start(self, ledger: &Ledger) -> TaskRun {
        match self {
            Self::Future(task) => TaskRun::Here(Some(task)),
            Self::Blocking(job) => TaskRun::OnThread(Box::new(ledger.pool().spawn(job).abort_on_drop())),
        }
    }
}

/// A task that has begun.
enum TaskRun {
    /// `None` once it has ended.
    Here(Option<TaskFuture>),
    /// In a box, to keep the runners of the others small.
    OnThread(Box<AbortOnDrop<Result<(), String>>>),
}

impl TaskRun {
    /// Polls it so that its panics end here.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Self::Here(task) => {
                let Some(running) = task else { return Poll::Pending };
                let result = match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(result)) => result.map_err(Fault::Error),
                    Err(payload) => Err(Fault::Panic(text_of(payload))),
                };
                Poll::Ready(result.and(drop_quietly(task.take())))
            }
            Self::OnThread(handle) => Pin::new(&mut **handle).poll(cx).map(|ended| match ended {
                Ok(result) => result.map_err(Fault::Error),
                Err(error) if error.is_panic() => {
                    Err(Fault::Panic(error.into_panic().map_or_else(String::new, text_of)))
                }
                Err(error) => Err(Fault::Error(error.to_string())),
            }),
        }
    }
}

impl Drop for TaskRun {
    fn drop(&mut self) {
        if let Self::Here(task) = self {
            let _ = drop_quietly(task.take());
        }
    }
}

/// Drops a user's value; a panic of its destructor is an outcome like any other.
fn drop_quietly<T>(value: T) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(|| drop(value))).map_err(|payload| Fault::Panic(text_of(payload)))
}

/// The text of a panic. The payload's own destructor may panic too.
pub(crate) fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| String::from(*text));
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text.unwrap_or_else(|| String::from("a panic without a text"))
}

/// Drops a user's value. A panic of its destructor goes unreported.
pub(crate) fn discard<T>(value: T) {
    let _ = drop_quietly(value);
}

/// Where a list is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListState {
    /// The answer is not out.
    Open,
    /// The tasks run.
    Running,
    /// The last one has ended.
    Closed,
}

/// One request's tasks.
struct TaskList {
    ledger: Rc<Ledger>,
    /// Method and target, for reports.
    line: Vec<u8>,
    number: u64,
    queue: RefCell<Line<QueuedTask>>,
    /// The tasks that run now: one, or any number if the list is concurrent. Written by the runner,
    /// read by reports.
    current: RefCell<Line<RunningTask>>,
    /// The key of its runner in the ledger, or `NO_RUNNER`.
    runner: Cell<usize>,
    /// Set by the user: start the next task before the last one has ended.
    concurrent: Cell<bool>,
    /// Set by the user: start none after one has failed.
    stop_on_error: Cell<bool>,
    /// Wakes the runner of a concurrent list when a task is added to it.
    added: RefCell<Option<Waker>>,
    state: Cell<ListState>,
}

struct RunningTask {
    id: u64,
    name: Name,
    added: Instant,
}

const NO_RUNNER: usize = usize::MAX;

/// First in, first out. The first has its place in here: most requests leave one task, or none.
struct Line<T> {
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }
}

impl<T> Line<T> {
    fn push(&mut self, value: T) {
        if self.len() == 0 { self.first = Some(value) } else { self.rest.push_back(value) }
    }

    fn pop(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    /// Takes out the one that is meant, wherever in the line.
    fn take(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(first) = self.first.take_if(|first| is_meant(first)) {
            return Some(first);
        }
        let place = self.rest.iter().position(is_meant)?;
        self.rest.remove(place)
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

impl TaskList {
    /// Whether so many more tasks may be added.
    fn admit(&self, more: usize) -> Result<(), AddError> {
        if self.state.get() == ListState::Closed {
            return Err(AddError::Closed);
        }
        let waiting = self.queue.borrow().len() + more;
        if waiting > self.ledger.limits.per_request {
            return Err(AddError::Full);
        }
        self.ledger.admit(more)
    }

    fn accept(&self, mut entry: QueuedTask) -> Result<TaskRef, AddError> {
        self.admit(1)?;
        entry.id = self.ledger.enter();
        let id = entry.id;
        self.queue.borrow_mut().push(entry);
        let runner = self.added.borrow_mut().take();
        if let Some(runner) = runner {
            runner.wake();
        }
        Ok(TaskRef(id))
    }

    fn request(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// Takes the next task and notes that it runs.
    fn start_next(&self) -> Option<(u64, TaskRun)> {
        let QueuedTask { id, name, added, work } = self.queue.borrow_mut().pop()?;
        self.current.borrow_mut().push(RunningTask { id, name, added });
        Some((id, work.start(&self.ledger)))
    }

    fn finish(&self, id: u64, result: Result<(), Fault>) {
        let Some(current) = self.current.borrow_mut().take(|current| current.id == id) else { return };
        let failed = result.is_err();
        match result {
            Ok(()) => self.ledger.completed.set(self.ledger.completed.get() + 1),
            Err(fault) => self.report(id, &current.name, fault),
        }
        self.ledger.leave();
        if failed && self.stop_on_error.get() {
            self.skip(&Fault::After(current.name.to_string()));
        }
    }

    fn report(&self, id: u64, name: &Name, fault: Fault) {
        let (kind, message) = fault.told();
        self.ledger.report(&TaskFailure {
            id,
            name: name.to_string(),
            request: self.request(),
            number: self.number,
            kind,
            message,
        });
    }

    /// Drops the waiting tasks and reports each.
    fn skip(&self, why: &Fault) {
        loop {
            let Some(entry) = self.queue.borrow_mut().pop() else { return };
            let QueuedTask { id, name, work, .. } = entry;
            let _ = drop_quietly(work);
            self.report(id, &name, why.clone());
            self.ledger.leave();
        }
    }

    /// Notes the tasks that were never finished.
    fn give_up(&self) {
        self.state.set(ListState::Closed);
        loop {
            let Some(RunningTask { id, name, added }) = self.current.borrow_mut().pop() else { break };
            self.ledger.abandon(self.unfinished(id, &name, added, true));
        }
        loop {
            let Some(entry) = self.queue.borrow_mut().pop() else { return };
            let QueuedTask { id, name, added, work } = entry;
            let _ = drop_quietly(work);
            self.ledger.abandon(self.unfinished(id, &name, added, false));
        }
    }

    /// Tasks that have not ended.
    fn pending(&self) -> usize {
        self.queue.borrow().len() + self.current.borrow().len()
    }

    fn unfinished(&self, id: u64, name: &Name, added: Instant, started: bool) -> UnfinishedTask {
        UnfinishedTask {
            id,
            name: name.to_string(),
            request: self.request(),
            number: self.number,
            age: time::now().saturating_duration_since(added),
            started,
        }
    }
}

impl Drop for TaskList {
    fn drop(&mut self) {
        // A list that was never started: its answer never came.
        self.give_up();
        let mut line = std::mem::take(&mut self.line);
        let mut spare = self.ledger.spare_lines.borrow_mut();
        if spare.len() < SPARE_LINES && line.capacity() <= SPARE_LINE {
            line.clear();
            spare.push(line);
        }
    }
}

/// How many ended lists leave the memory of their line to the next ones, and how much of it.
const SPARE_LINES: usize = 64;
const SPARE_LINE: usize = 256;

/// Runs a list to its end. Dropping it, polled or not, closes the list; what has not ended is
/// noted.
struct Runner {
    ready: Ready,
    /// The task that runs, and its id.
    current: Option<(u64, TaskRun)>,
    /// Tasks of a concurrent list: a deferred task for each.
    together: Vec<AbortOnDrop<()>>,
}

impl Runner {
    fn new(list: Rc<TaskList>) -> Self {
        let count = list.pending();
        Self { ready: Ready::new(list, count), current: None, together: Vec::new() }
    }

    /// Runs one task after the other.
    fn poll_in_order(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some((id, job)) = &mut self.current {
                let result = ready!(job.poll(cx));
                let id = *id;
                self.current = None;
                self.ready.list.finish(id, result);
            }
            if self.ready.list.concurrent.get() {
                return self.poll_together(cx);
            }
            self.current = self.ready.list.start_next();
            if self.current.is_none() {
                return Poll::Ready(());
            }
        }
    }

    /// Runs the rest of a list at the same time.
    fn poll_together(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let list = &self.ready.list;
        loop {
            while let Some((id, job)) = list.start_next() {
                let one = One { ready: Ready::new(Rc::clone(list), 1), id, job };
                self.together.push(defer(one).abort_on_drop());
            }
            self.together.retain_mut(|task| Pin::new(task).poll(cx).is_pending());
            if list.queue.borrow().len() == 0 {
                break;
            }
        }
        if self.together.is_empty() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let before = list.added.borrow_mut().replace(waker);
        drop(before);
        Poll::Pending
    }
}

impl Future for Runner {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.poll_in_order(cx);
        let count = if polled.is_pending() && is_woken() { self.ready.list.pending() } else { 0 };
        self.ready.set(count);
        polled
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.current = None;
        self.together.clear();
        let list = &self.ready.list;
        list.give_up();
        list.ledger.end(list.runner.get());
    }
}

/// One task of a concurrent list.
struct One {
    ready: Ready,
    id: u64,
    job: TaskRun,
}

impl Future for One {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.job.poll(cx);
        self.ready.set(usize::from(polled.is_pending() && is_woken()));
        polled.map(|result| self.ready.list.finish(self.id, result))
    }
}

/// How many tasks of a list nothing but the loop keeps from running, as far as one deferred task
/// has to do with them.
///
/// They count from when that task is spawned until a poll leaves it waiting, and again from when a
/// poll ends with it woken. (What wakes it later is seen at its next poll.)
struct Ready {
    list: Rc<TaskList>,
    count: usize,
}

impl Ready {
    fn new(list: Rc<TaskList>, count: usize) -> Self {
        let mut ready = Self { list, count: 0 };
        ready.set(count);
        ready
    }

    fn set(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.count, count);
        if count != before {
            self.list.ledger.count_ready(before, count);
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Stands for the answer to one request; starts its tasks when it fires.
pub(crate) struct Trigger {
    /// Set until it fires.
    tasks: Option<BackgroundTasks>,
    /// The status of the answer if the handler failed.
    failed: Option<StatusCode>,
}

impl Trigger {
    pub(crate) fn new(tasks: BackgroundTasks, failed: Option<StatusCode>) -> Self {
        Self { tasks: Some(tasks), failed }
    }

    pub(crate) fn fire(mut self, outcome: AnswerOutcome) {
        self.release(outcome);
    }

    fn release(&mut self, outcome: AnswerOutcome) {
        let Some(BackgroundTasks { list }) = self.tasks.take() else { return };
        match self.failed.map_or(outcome, AnswerOutcome::Failed) {
            AnswerOutcome::Failed(status) => {
                list.state.set(ListState::Closed);
                list.skip(&Fault::NotRun(status));
            }
            AnswerOutcome::Delivered | AnswerOutcome::Aborted => Ledger::start(list),
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.release(AnswerOutcome::Aborted);
    }
}

/// How many tasks may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskLimits {
    pub(crate) per_server: usize,
    pub(crate) per_request: usize,
    pub(crate) threads: usize,
}

/// Told of each failed task: see [`Server::on_task_error`](super::Server::on_task_error).
pub(crate) type FailureHook = Box<dyn Fn(&TaskFailure)>;

/// The server's books about background tasks.
pub(crate) struct Ledger {
    limits: TaskLimits,
    hook: Option<FailureHook>,
    /// The lane of the blocking tasks, from the first one on.
    pool: OnceCell<Pool>,
    last_id: Cell<u64>,
    /// Accepted and not ended.
    pending: Cell<usize>,
    /// The pending tasks that are ready to run on the loop. Written by [`Ready`] alone.
    ready: Cell<usize>,
    /// Tells paused connections that there may be room.
    room: Notify,
    completed: Cell<usize>,
    failed: Cell<usize>,
    /// Set when the drain is over: nothing is accepted or started any more.
    closed: Cell<bool>,
    /// The runners; none while one is being spawned.
    running: RefCell<Slab<Option<JoinHandle<()>>>>,
    unfinished: RefCell<Vec<UnfinishedTask>>,
    /// Memory of ended lists.
    spare_lines: RefCell<Vec<Vec<u8>>>,
    /// Waits for `pending` to be zero.
    waiter: RefCell<Option<Waker>>,
}

impl Ledger {
    pub(crate) fn new(limits: TaskLimits, hook: Option<FailureHook>) -> Self {
        Self {
            limits,
            hook,
            pool: OnceCell::new(),
            last_id: Cell::new(0),
            pending: Cell::new(0),
            ready: Cell::new(0),
            room: Notify::new(),
            completed: Cell::new(0),
            failed: Cell::new(0),
            closed: Cell::new(false),
            running: RefCell::default(),
            unfinished: RefCell::default(),
            spare_lines: RefCell::default(),
            waiter: RefCell::default(),
        }
    }

    fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::new(self.limits.threads))
    }

    fn admit(&self, more: usize) -> Result<(), AddError> {
        if self.closed.get() {
            return Err(AddError::ShuttingDown);
        }
        if self.pending.get() + more > self.limits.per_server { Err(AddError::Full) } else { Ok(()) }
    }

    /// Whether so many tasks are pending that a connection should release those of its own answers
    /// before it begins another request.
    pub(crate) fn is_loaded(&self) -> bool {
        self.pending.get() > self.limits.per_server / 2
    }

    /// Whether so many tasks are ready to run that no request should be begun.
    pub(crate) fn is_busy(&self) -> bool {
        self.ready.get() > self.limits.per_server / 2
    }

    /// Waits until few enough tasks are ready to run.
    pub(crate) async fn room(&self) {
        let mut has_waited = false;
        while self.is_busy() {
            has_waited = true;
            self.room.notified().await;
        }
        if has_waited {
            // There may be room for the next as well: it looks for itself.
            self.room.notify_one();
        }
    }

    /// So many are ready in place of so many. When they get fewer one connection may go on, and
    /// when none is left, all may.
    fn count_ready(&self, before: usize, now: usize) {
        self.ready.set(self.ready.get() + now - before);
        if now > before {
            return;
        }
        if self.ready.get() == 0 {
            self.room.notify_waiters();
        } else if !self.is_busy() {
            self.room.notify_one();
        }
    }

    fn enter(&self) -> u64 {
        self.pending.set(self.pending.get() + 1);
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    fn leave(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
        if self.pending.get() == 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Hands a list to the loop.
    fn start(list: Rc<TaskList>) {
        if list.queue.borrow().len() == 0 {
            list.state.set(ListState::Closed);
            return;
        }
        let ledger = Rc::clone(&list.ledger);
        if ledger.closed.get() {
            list.give_up();
            return;
        }
        list.state.set(ListState::Running);
        let key = ledger.running.borrow_mut().insert(None);
        list.runner.set(key);
        // Outside a runtime, where a connection may be dropped, `defer` panics and drops the
        // runner, which notes what is lost.
        match catch_unwind(AssertUnwindSafe(|| defer(Runner::new(list)))) {
            Ok(handle) => ledger.keep(key, handle),
            Err(payload) => drop(text_of(payload)),
        }
    }

    /// Keeps a runner's handle until it ends.
    fn keep(&self, key: usize, handle: JoinHandle<()>) {
        let mut running = self.running.borrow_mut();
        match running.get_mut(key) {
            Some(place) => *place = Some(handle),
            None => {
                // A hook that was called for its spawning has ended the server.
                drop(running);
                handle.abort();
            }
        }
    }

    /// A runner has ended.
    fn end(&self, key: usize) {
        let handle = self.running.borrow_mut().try_remove(key);
        drop(handle);
    }

    fn abandon(&self, task: UnfinishedTask) {
        self.unfinished.borrow_mut().push(task);
        self.leave();
    }

    fn report(&self, failure: &TaskFailure) {
        self.failed.set(self.failed.get() + 1);
        match &self.hook {
            Some(hook) => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(failure))) {
                    say(format_args!("the `on_task_error` hook panicked: {}", text_of(payload)));
                }
            }
            None => say(format_args!("{failure}")),
        }
    }

    pub(crate) fn completed(&self) -> usize {
        self.completed.get()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed.get()
    }

    /// Ready when no task is pending.
    pub(crate) fn poll_idle(&self, cx: &Context<'_>) -> Poll<()> {
        if self.pending.get() == 0 {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let before = self.waiter.borrow_mut().replace(waker);
        drop(before);
        Poll::Pending
    }

    /// Ends the tasks that still run; returns the unfinished ones.
    pub(crate) async fn close(&self) -> Vec<UnfinishedTask> {
        self.closed.set(true);
        let running: Vec<_> = self.running.take().into_iter().filter_map(|(_, handle)| handle).collect();
        for handle in &running {
            handle.abort();
        }
        for handle in running {
            let _ = handle.await;
        }
        let mut unfinished = self.unfinished.take();
        unfinished.sort_by_key(|task| task.id);
        unfinished
    }
}

/// A line on stderr, which may be closed.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "postlude: {text}");
}

/// The failure of a task, on its way to a [`TaskFailure`].
#[derive(Clone, Debug)]
enum Fault {
    Error(String),
    Panic(String),
    /// The handler failed with this status.
    NotRun(StatusCode),
    /// The task of this name failed, and the list stops on errors.
    After(String),
}

impl Fault {
    fn told(self) -> (FailureKind, String) {
        match self {
            Self::Error(text) => (FailureKind::Error, text),
            Self::Panic(text) => (FailureKind::Panic, text),
            Self::NotRun(status) => (FailureKind::Skipped, format!("the handler failed with {}", status.as_u16())),
            Self::After(name) => (FailureKind::Skipped, format!("'{name}' failed")),
        }
    }
}

/// The ways in which a background task fails: see [`TaskFailure::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The task returned an error.
    Error,
    /// The task panicked, or its destructor did.
    Panic,
    /// The task was not run at all: the handler failed, or a task before it on a list that stops on
    /// errors.
    Skipped,
}

/// A background task that failed, panicked, or was not run because the handler failed: see
/// `Server::on_task_error`.
///
/// Its text is what stands on stderr without a hook.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{FailureKind, Router, Server};
/// let server = Server::bind("127.0.0.1:0", Router::new())?.on_task_error(|failure| match failure.kind {
///     FailureKind::Panic => eprintln!("a bug: {failure}"),
///     _ => eprintln!("{} of {} failed: {}", failure.name, failure.request, failure.message),
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFailure {
    /// The task's id, as `add` gave it.
    pub id: u64,
    /// The task's name, or where it was added.
    pub name: String,
    /// Method and target of the request.
    pub request: String,
    /// The request's number.
    pub number: u64,
    /// Whether it failed, panicked, or was not run.
    pub kind: FailureKind,
    /// The error, the panic, or the reason why it was not run, as a text.
    pub message: String,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, request, number, message, .. } = self;
        let what = match self.kind {
            FailureKind::Error => "failed",
            FailureKind::Panic => "failed: panicked",
            FailureKind::Skipped => "not run",
        };
        write!(f, "background task '{name}' {what}: {message} ({request}, request {number})")
    }
}

/// A task that shutdown did not wait for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnfinishedTask {
    /// The task's id, as `add` gave it.
    pub id: u64,
    /// The task's name, or where it was added.
    pub name: String,
    /// Method and target of the request.
    pub request: String,
    /// The request's number.
    pub number: u64,
    /// How long ago it was added.
    pub age: Duration,
    /// Whether it had begun.
    pub started: bool,
}

impl fmt::Display for UnfinishedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.started { "running" } else { "not begun" };
        let Self { name, request, number, age, .. } = self;
        write!(f, "'{name}' ({request}, request {number}), {state}, {:.1} s old", age.as_secs_f64())
    }
}
