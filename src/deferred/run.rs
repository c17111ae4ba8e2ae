//! Running jobs: the tasks that do it, and what one try is.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::books::{Books, Phase};
use super::group::Members;
use super::id::JobId;
use super::info::{Fault, Status};
use super::lane::{Kind, LaneBooks};
use super::life::Start;
use super::row::JobRef;
use super::work::{Make, TaskFuture, ThreadJob};
use crate::event_loop::context;
use crate::event_loop::misuse::Misuse;
use crate::executor::caught::{self, Caught, Payload, drop_payload, drop_silently, panic_text};
use crate::executor::error::JoinError;
use crate::executor::id::TaskKey;
use crate::executor::queue::QueueId;
use crate::executor::stage::Stage;
use crate::task::is_woken;
use crate::time;

/// Spawns a task of the queue in the deferred class, without a handle.
#[track_caller]
pub(super) fn spawn(books: &Books, future: impl Future<Output = ()> + 'static) -> TaskKey {
    let Some(parts) = context::current() else {
        panic!("{}", Misuse::no_runtime("a job was added to a `deferred::Queue`"))
    };
    let task = parts.spawn(Stage::boxed(future), QueueId::DEFERRED, None, Location::caller());
    parts.detach(task.key);
    books.home.set(Some(task.home));
    task.key
}

/// The task that is being polled.
fn current_task() -> TaskKey {
    context::current().map_or(TaskKey::NONE, |parts| parts.running.get())
}

/// How many jobs nothing but the loop keeps from running, as far as one task has to do with them.
///
/// They count from when that task is spawned until a poll leaves it waiting, and again from when a
/// poll ends with it woken. (What wakes it later is seen at its next poll.)
struct Ready(u32);

impl Ready {
    fn new(books: &Books, count: usize) -> Self {
        books.runners.set(books.runners.get() + 1);
        let mut ready = Self(0);
        ready.set(books, count);
        ready
    }

    fn set(&mut self, books: &Books, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.0, count);
        if count != before {
            books.pressure.count(before as usize, count as usize);
        }
    }

    /// The task is being dropped.
    fn end(&mut self, books: &Books) {
        self.set(books, 0);
        books.runners.set(books.runners.get() - 1);
        if books.runners.get() == 0 {
            books.quiet.notify_waiters();
        }
    }
}

/// True, and the task is woken later, if nothing may begin now.
#[inline]
fn is_held(books: &Books) -> bool {
    let is_held = books.held.get();
    if is_held {
        books.held_up.borrow_mut().push(current_task());
    }
    is_held
}

/// Runs a group to the end of its line. Dropping it cuts off what has not ended.
pub(super) struct Runner {
    members: Rc<Members>,
    ready: Ready,
    /// The row and id of the job that runs. (A `JobRef` would take eight bytes more.)
    row: u32,
    id: JobId,
    /// Its future; that is over if none runs.
    future: Caught<TaskFuture>,
}

impl Runner {
    pub(super) fn new(members: Rc<Members>) -> Self {
        let ready = Ready::new(&members.books, members.waiting());
        let JobRef { row, id } = JobRef::NONE;
        Self { members, ready, row, id, future: Caught::over() }
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let members = &self.members;
        let books = &members.books;
        loop {
            if !self.future.is_over() {
                let job = JobRef { row: self.row, id: self.id };
                let end = if books.is_cancelled(job) {
                    self.future = Caught::over();
                    (Status::Cancelled, None)
                } else {
                    ended(ready!(Pin::new(&mut self.future).poll(cx)))
                };
                finish(books, Some(members), job, end);
            }
            if members.awaited.get() != JobRef::NONE.id {
                return Poll::Pending;
            }
            // What is left is cut off as this is dropped.
            if books.phase.get() == Phase::Closed {
                return Poll::Ready(());
            }
            if is_held(books) {
                return Poll::Pending;
            }
            let Some(job) = members.next() else { return Poll::Ready(()) };
            if members.concurrent.get() {
                Single::spawn(books, Some(Rc::clone(members)), job);
                continue;
            }
            match books.start(job, current_task()) {
                Start::Plain(future) => {
                    (self.row, self.id, self.future) = (job.row, job.id, Caught::new(future));
                }
                Start::Full => {
                    members.awaited.set(job.id);
                    Single::spawn(books, Some(Rc::clone(members)), job);
                }
                Start::Gone => {}
            }
        }
    }
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let polled = this.poll_line(cx);
        let count = match polled {
            Poll::Pending if is_woken() => this.members.waiting() + usize::from(!this.future.is_over()),
            _ => 0,
        };
        this.ready.set(&this.members.books, count);
        polled
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.ready.end(&self.members.books);
        self.members.runner.set(TaskKey::NONE);
        self.members.awaited.set(JobRef::NONE.id);
        if !self.future.is_over() {
            self.future = Caught::over();
            cut(&self.members.books, JobRef { row: self.row, id: self.id });
        }
        if self.members.waiting() > 0 { self.members.give_up() } else { self.members.close_if_over() }
    }
}

/// A job that is a task of its own.
pub(super) struct Single {
    books: Rc<Books>,
    ready: Ready,
    members: Option<Rc<Members>>,
    job: JobRef,
    /// `None` before the first poll, and once it has ended.
    work: Option<SingleWork>,
    is_over: bool,
}

type Tries = Pin<Box<dyn Future<Output = (Status, Option<Fault>)>>>;

enum SingleWork {
    Plain(Caught<TaskFuture>),
    Full(Caught<Tries>),
}

impl Single {
    pub(super) fn spawn(books: &Rc<Books>, members: Option<Rc<Members>>, job: JobRef) {
        if let Some(members) = &members {
            members.singles.set(members.singles.get() + 1);
        }
        let single =
            Self { books: Rc::clone(books), ready: Ready::new(books, 1), members, job, work: None, is_over: false };
        let key = spawn(books, single);
        books.run_by(job, key);
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let books = &self.books;
        if books.is_cancelled(self.job) && !books.is_on_thread(self.job) {
            drop_silently(self.work.take());
            return self.finish((Status::Cancelled, None));
        }
        if self.work.is_none() {
            if books.phase.get() == Phase::Closed {
                return Poll::Ready(());
            }
            if is_held(books) {
                return Poll::Pending;
            }
            self.work = Some(match books.start(self.job, current_task()) {
                Start::Plain(future) => SingleWork::Plain(Caught::new(future)),
                Start::Full => {
                    let tries: Tries = Box::pin(tries(Rc::clone(books), self.members.clone(), self.job));
                    SingleWork::Full(Caught::new(tries))
                }
                Start::Gone => return Poll::Ready(()),
            });
        }
        let polled = match &mut self.work {
            Some(SingleWork::Plain(future)) => Pin::new(future).poll(cx).map(ended),
            // Between the tries a panic is one of the `Retry`.
            Some(SingleWork::Full(tries)) => Pin::new(tries)
                .poll(cx)
                .map(|result| result.unwrap_or_else(|payload| (Status::Failed, flatten(Err(payload)).err()))),
            None => return Poll::Ready(()),
        };
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                drop_silently(self.work.take());
                self.finish(end)
            }
        }
    }

    fn finish(&mut self, end: (Status, Option<Fault>)) -> Poll<()> {
        self.is_over = true;
        finish(&self.books, self.members.as_ref(), self.job, end);
        Poll::Ready(())
    }
}

impl Future for Single {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let polled = this.poll_work(cx);
        this.ready.set(&this.books, usize::from(polled.is_pending() && is_woken()));
        polled
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.ready.end(&self.books);
        drop_silently(self.work.take());
        if !self.is_over {
            cut(&self.books, self.job);
        }
        if let Some(members) = &self.members {
            members.singles.set(members.singles.get() - 1);
            members.pass_on(self.job);
            members.close_if_over();
        }
    }
}

/// The task that ran a job was dropped. A thread that has not let go is still at work, cancelled or
/// not.
fn cut(books: &Rc<Books>, job: JobRef) {
    if books.is_cancelled(job) && !books.is_on_thread(job) {
        books.end(job, Status::Cancelled, None);
    } else {
        books.cut(job);
    }
}

fn finish(books: &Rc<Books>, members: Option<&Rc<Members>>, job: JobRef, end: (Status, Option<Fault>)) {
    let (status, fault) = end;
    if status == Status::Unfinished {
        return cut(books, job);
    }
    books.end(job, status, fault.as_ref());
    drop_silently(fault);
    if let Some(members) = members {
        members.ended(job, status);
    }
}

/// What the result of a plain job's future means.
fn ended(result: Result<Result<(), Fault>, Payload>) -> (Status, Option<Fault>) {
    match flatten(result) {
        Ok(()) => (Status::Done, None),
        Err(fault) => (Status::Failed, Some(fault)),
    }
}

fn flatten(result: Result<Result<(), Fault>, Payload>) -> Result<(), Fault> {
    result.unwrap_or_else(|payload| {
        let text = panic_text(&payload).to_owned();
        drop_payload(payload);
        Err(Fault::Panic(text))
    })
}

/// A job from its delay to the end of its last try.
async fn tries(books: Rc<Books>, members: Option<Rc<Members>>, job: JobRef) -> (Status, Option<Fault>) {
    let mut wait = books.with_extra(job, |extra| extra.after).flatten();
    let step_aside = || {
        if let Some(members) = &members {
            members.pass_on(job);
        }
    };
    loop {
        if let Some(wait) = wait {
            // Nothing waits for time while the queue drains.
            if books.phase.get() != Phase::Open {
                return (Status::Unfinished, None);
            }
            books.with_extra(job, |extra| extra.asleep = true);
            step_aside();
            time::sleep(wait).await;
            books.with_extra(job, |extra| extra.asleep = false);
        }
        wait_for_key(&books, job, &step_aside).await;
        let lane = books.lane_of(job);
        let place = match lane.places() {
            None => None,
            Some(places) => {
                if places.available() == 0 {
                    watch(&books, lane);
                }
                places.acquire_owned().await.ok()
            }
        };
        poll_fn(|_| if is_held(&books) { Poll::Pending } else { Poll::Ready(()) }).await;
        books.begin(job);
        if books.is_cancelled(job) {
            // By the hook that was told of the beginning.
            return (Status::Cancelled, None);
        }
        let fault = match attempt(&books, job).await {
            Ok(()) => return (Status::Done, None),
            Err(fault) => fault,
        };
        drop(place);
        if books.is_cancelled(job) {
            return (Status::Cancelled, Some(fault));
        }
        let again = books.with_extra(job, |extra| extra.retry.clone().map(|retry| (retry, extra.attempt))).flatten();
        let Some(next) = again.and_then(|(retry, attempt)| retry.wait_after(attempt, &fault, job.id)) else {
            return (Status::Failed, Some(fault));
        };
        books.wait_again(job, &fault);
        drop_silently(fault);
        if !books.is_waiting(job) {
            // It was cancelled by the hook that was told, or by the error's destructor.
            return (Status::Cancelled, None);
        }
        wait = Some(next);
    }
}

/// Waits while another job with the same key runs, then takes its place.
async fn wait_for_key(books: &Rc<Books>, job: JobRef, step_aside: &impl Fn()) {
    let Some(key) = books.with_extra(job, |extra| extra.key.clone()).flatten() else { return };
    while let Some(other_ended) = books.keys.take_turn(&key, job.id) {
        step_aside();
        other_ended.notified().await;
    }
}

/// One try.
async fn attempt(books: &Rc<Books>, job: JobRef) -> Result<(), Fault> {
    let timeout = books.with_extra(job, |extra| extra.timeout).flatten();
    if let Some(future) = books.take_once(job) {
        return on_loop(future, timeout).await;
    }
    let Some(running) = books.running(job) else { return Ok(()) };
    let make = books.with_extra(job, |extra| extra.make.take()).flatten();
    let Some(mut make) = make else { return Ok(()) };
    let made = match &mut make {
        Make::OnLoop(make) => caught::call(|| make(running)).map(Made::Future),
        Make::OnThread(make) => caught::call(|| make(running)).map(Made::Job),
    };
    books.with_extra(job, |extra| extra.make = Some(make));
    match made {
        Ok(Made::Future(future)) => on_loop(future, timeout).await,
        Ok(Made::Job(closure)) => on_thread(books, job, closure, timeout).await,
        Err(payload) => flatten(Err(payload)),
    }
}

enum Made {
    Future(TaskFuture),
    Job(ThreadJob),
}

async fn on_loop(future: TaskFuture, timeout: Option<std::time::Duration>) -> Result<(), Fault> {
    let future = Caught::new(future);
    let Some(limit) = timeout else { return flatten(future.await) };
    let began = time::now();
    match time::timeout(limit, future).await {
        Ok(result) => flatten(result),
        Err(_) => Err(Fault::TimedOut { limit, elapsed: time::now().saturating_duration_since(began) }),
    }
}

/// A thread has no destructor to call: a job that takes too long is told so, and counts as running
/// until its thread lets go.
async fn on_thread(
    books: &Rc<Books>,
    job: JobRef,
    closure: ThreadJob,
    timeout: Option<std::time::Duration>,
) -> Result<(), Fault> {
    let began = time::now();
    let mut handle = books.lane_of(job).pool().spawn(closure);
    books.with_extra(job, |extra| extra.on_thread = true);
    let mut late = None;
    let result = match timeout {
        None => handle.await,
        Some(limit) => match time::timeout(limit, &mut handle).await {
            Ok(result) => result,
            Err(_) => {
                late = Some(limit);
                books.ask_to_stop(job);
                handle.await
            }
        },
    };
    books.with_extra(job, |extra| extra.on_thread = false);
    if let Some(limit) = late {
        return Err(Fault::TimedOut { limit, elapsed: time::now().saturating_duration_since(began) });
    }
    match result {
        Ok(result) => result.map_err(|error| Fault::Error(error)),
        Err(error) if error.is_panic() => match error.into_panic() {
            Some(payload) => flatten(Err(payload)),
            None => Err(Fault::Panic(String::new())),
        },
        Err(error) => Err(Fault::Error(Box::<JoinError>::new(error))),
    }
}

/// Has a task report the lane if jobs wait for it and nothing in it moves.
fn watch(books: &Rc<Books>, lane: &LaneBooks) {
    if lane.watched.replace(true) {
        return;
    }
    let Some(place) = books.lanes.iter().position(|one| std::ptr::eq(one, lane)) else { return };
    let watched = Rc::clone(books);
    spawn(books, async move {
        let books = watched;
        let lane = &books.lanes[place];
        let mut seen = lane.moves.get();
        loop {
            let wait = time::sleep(lane.stalled_after);
            let stop = books.stop.run_until_cancelled(wait);
            if stop.await.is_none() || lane.load().0 == 0 {
                lane.watched.set(false);
                return;
            }
            let moves = lane.moves.get();
            // Jobs may also wait for their group or for time.
            let is_full = lane.places().is_none_or(|places| places.available() == 0);
            if moves == seen && is_full {
                let (waiting, running) = lane.load();
                let what = if lane.kind == Kind::Threads { "threads" } else { "places" };
                books.voice.say(&format!(
                    "the lane `{}` of a deferred queue has not moved for {:?}: {running} running on all its {what}, {waiting} waiting",
                    lane.name, lane.stalled_after
                ));
            }
            seen = moves;
        }
    });
}
