//! Scopes: concurrent children that may borrow from their owner.
//!
//! A task lives on by itself, so it may borrow nothing. A scope's children live inside the scope's
//! own future, which keeps, polls and drops them. So they may borrow anything that outlives that
//! future, without unsafe code. Like a task, each child has a slot: an id, a name and a waker of
//! its own, so that a wake leads to one child, not to all of them.
//!
//! # How it works
//!
//! ```text
//!     waker of a child ──▶ its slot ──▶ queue of the scope ──▶ (first wake) the owner's waker
//!     owner is polled  ──▶ the scope takes ready children off its queue and polls them
//! ```
//!
//! The body has such a slot as well, so a child's wake does not poll the body, nor the other way
//! round. An output goes through an `Rc` to the [`Child`] that awaits it.
//!
//! # Fairness
//!
//! Children are polled first in, first out, or as the runtime's seed picks. A child that wakes
//! itself is polled again in the scope's next poll. A poll of the scope ends after [`POLLS`]
//! children, or when the owner's budget is used up; then the scope wakes its owner.
//!
//! # Invariants
//!
//! - A child is in `children`, or being polled, or gone. `end` empties the list; from then on `add`
//!   drops new children.
//! - `end` gives back the slots and the queue, once, in one borrow, before any user's destructor
//!   runs; where the runtime is not current, by a message after them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;
use slab::Slab;

use crate::event_loop::context::{self, Home};
use crate::event_loop::hooks::TaskEnd;
use crate::event_loop::inbox::Message;
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::{Parts, Spawned, table_is_full};
use crate::event_loop::wake::{discard, wake_all};
use crate::event_loop::waker;
use crate::executor::about::Current;
use crate::executor::budget;
use crate::executor::caught::{Payload, drop_caught};
use crate::executor::error::JoinError;
use crate::executor::id::{TaskId, TaskKey};
use crate::executor::local::{self, Scoped};
use crate::executor::queue::QueueId;
use crate::executor::table::{BODY, Visit};
use crate::slabs::grow_gently;

/// The most children polled in one poll of their scope, as many as the loop's polls in a turn.
const POLLS: usize = 64;

/// Runs `body` and the children it spawns, which may borrow from outside the scope, until all of
/// them have ended.
///
/// The first failure ends the scope: a child or the body returns `Err`, a child panics, or
/// [`Scope::cancel`] is called. The scope then drops its running children, in spawn order, and the
/// body, and returns the failure with any further ones attached. Nothing outside the scope is
/// cancelled. A panic of the body, or of the closure that makes it, drops the children and goes on
/// to the caller.
///
/// The scope works under any poller inside a runtime: a task, `block_on`, a `select`, another
/// scope. **Its children run only while this future is polled.** Each poll polls only children that
/// were woken, 64 at most.
///
/// # Errors
///
/// A [`ScopeError`] with the first failure.
///
/// # Panics
///
/// Outside a runtime: "`task::scope` was called on thread …, which runs no runtime; …". When polled
/// inside another runtime: "`task::scope` was polled on thread …; do it inside the
/// `Runtime::block_on` it belongs to, …". When the runtime already holds 67 108 608 tasks, as
/// [`spawn`](crate::spawn) does.
///
/// # Cancel safety
///
/// Dropping the future drops the children, in spawn order, then the body, and loses their
/// unfinished work. A panic of a child's destructor is reported like a detached task's, and so is a
/// panic that the scope had not returned yet.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::scope;
/// postlude::run(async {
///     let words = vec![String::from("one"), String::from("three")];
///     let mut total = 0;
///     let longest = scope::<_, std::io::Error, _>(async |s| {
///         let first = s.spawn(async { words[0].len() });
///         let second = s.spawn(async { words[1].len() });
///         s.try_spawn(async { total += words.len(); Ok(()) });
///         Ok(first.await.unwrap().max(second.await.unwrap()))
///     })
///     .await;
///     assert_eq!(longest.unwrap(), 5);
///     assert_eq!(total, 2);
/// })
/// # }
/// ```
///
/// Children may not borrow values that the body declares, since these do not outlive them. Declare
/// such values before the scope, or move them in.
///
/// ```compile_fail
/// async fn sum() -> Result<(), postlude::task::ScopeError<()>> {
///     postlude::task::scope(async |s| {
///         let inside = String::new();
///         s.spawn(async { inside.len() });
///         Ok(())
///     })
///     .await
/// }
/// ```
pub async fn scope<'env, T, E, F>(body: F) -> Result<T, ScopeError<E>>
where
    F: AsyncFnOnce(Scope<'env, E>) -> Result<T, E>,
    E: 'env,
{
    let scope = Scope::open();
    // Made before the body: if making the body panics, the driver's drop ends the children.
    let mut driver = pin!(Driver { shared: Rc::clone(&scope.shared), body: None, result: None });
    let body = body(scope);
    driver.as_mut().project().body.set(Some(body));
    poll_fn(|cx| driver.as_mut().poll(cx)).await
}

/// A child, as its scope keeps it.
struct ChildEntry<'env, E> {
    key: TaskKey,
    /// Not a [`TaskId`], so that an unused slab entry needs no tag.
    id: NonZeroU64,
    /// `None` while the child is being polled.
    job: Option<BoxedChild<'env, E>>,
}

impl<E> ChildEntry<'_, E> {
    /// Drops the child with its scope. Returns the panic of its destructor, and how the child has
    /// ended.
    fn drop_job(self, child: Option<Current>) -> (Option<Failure<E>>, (TaskId, TaskEnd)) {
        let failure = drop_caught(self.job).map(|panic| Failure::panicked(child, panic));
        let how = if failure.is_some() { TaskEnd::Panicked } else { TaskEnd::Aborted };
        (failure, (TaskId(self.id.get()), how))
    }
}

type BoxedChild<'env, E> = Pin<Box<dyn Future<Output = Result<(), E>> + 'env>>;

/// The state shared by a scope's handles and its future.
struct ScopeState<'env, E> {
    home: Home,
    queue: QueueId,
    /// The key of the body; waking it gets the scope polled.
    body: TaskKey,
    cancelled: Cell<bool>,
    /// Set by `end`: new children are dropped.
    ended: Cell<bool>,
    children: RefCell<Slab<ChildEntry<'env, E>>>,
}

/// Spawns children into a [`scope`](scope()), and can cancel it.
///
/// Cheap to clone: a child that spawns others takes a clone along. Once the scope has ended, it
/// drops new children at once.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let count = std::cell::Cell::new(0);
///     let ended = postlude::task::scope::<_, (), _>(async |s| {
///         let (inner, count) = (s.clone(), &count);
///         s.spawn(async move {
///             count.set(count.get() + 1);
///             inner.spawn(async { count.set(count.get() + 1) });
///         });
///         Ok(())
///     });
///     ended.await.unwrap();
///     assert_eq!(count.get(), 2);
/// })
/// # }
/// ```
pub struct Scope<'env, E> {
    shared: Rc<ScopeState<'env, E>>,
}

impl<'env, E: 'env> Scope<'env, E> {
    fn open() -> Self {
        let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`task::scope` was called")) };
        let mut tasks = parts.tasks.borrow_mut();
        let queue = tasks.add_queue();
        let Some((body, _)) = tasks.insert_member(queue, BODY, Location::caller(), None) else {
            tasks.remove_queue(queue, &[]);
            drop(tasks);
            table_is_full()
        };
        drop(tasks);
        Self {
            shared: Rc::new(ScopeState {
                home: parts.home,
                queue,
                body,
                cancelled: Cell::new(false),
                ended: Cell::new(false),
                children: RefCell::new(Slab::new()),
            }),
        }
    }

    /// Runs a future as a child of the scope. It is first polled after the caller has yielded.
    ///
    /// Dropping the returned [`Child`] lets it run on; the scope waits for it all the same.
    ///
    /// # Panics
    ///
    /// Where the scope's runtime is not current: "`task::Scope::spawn` was called on thread …; do
    /// it inside the `Runtime::block_on` it belongs to, …". When the runtime already holds
    /// 67 108 608 tasks, as [`spawn`](crate::spawn) does.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Child<F::Output>
    where
        F: Future + 'env,
        F::Output: 'env,
    {
        self.add(boxed(future, Ok), None, Location::caller())
    }

    /// Runs a future as a child whose `Err` ends the scope, which returns that error. Panics like
    /// [`spawn`](Self::spawn).
    #[track_caller]
    pub fn try_spawn<T, F>(&self, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + 'env,
        T: 'env,
    {
        self.add(boxed(future, |result| result), None, Location::caller())
    }

    /// Spawns a child with a name, for reports and logs.
    pub fn named(&self, name: impl Into<String>) -> NamedChild<'_, 'env, E> {
        NamedChild { scope: self, name: name.into().into_boxed_str() }
    }

    /// Cancels the scope: its next poll drops the body and the children, and returns
    /// [`Cause::Cancelled`].
    ///
    /// This call drops nothing itself. A child that calls it is dropped when its poll ends. Does
    /// nothing once the scope has ended.
    pub fn cancel(&self) {
        if !self.shared.ended.get() && !self.shared.cancelled.replace(true) {
            waker::waker(self.shared.body).wake();
        }
    }

    /// Adds a child, which inherits its spawner's task-locals.
    fn add<T>(
        &self,
        (job, outlet): (BoxedChild<'env, E>, Rc<Outlet<T>>),
        name: Option<Box<str>>,
        location: &'static Location<'static>,
    ) -> Child<T> {
        let job = match local::current() {
            None => job,
            Some(map) => Box::pin(Scoped::new(map, job)),
        };
        Child { task: self.shared.add(job, name, location), outlet }
    }
}

impl<'env, E> ScopeState<'env, E> {
    /// Adds a child, or drops it if the scope or the runtime has ended.
    fn add(&self, job: BoxedChild<'env, E>, name: Option<Box<str>>, location: &'static Location<'static>) -> Spawned {
        let parts = context::current_of(self.home);
        if parts.is_none() && !self.ended.get() && self.home.is_alive() {
            panic!("{}", Misuse::elsewhere("`task::Scope::spawn` was called"));
        }
        let open = parts.filter(|parts| !self.ended.get() && !parts.tasks.borrow().is_closed());
        let Some(parts) = open else { return Spawned { key: TaskKey::NONE, home: self.home, id: TaskId(0) } };
        let mut children = self.children.borrow_mut();
        grow_gently(&mut children);
        let vacant = children.vacant_entry();
        let inserted = parts.tasks.borrow_mut().insert_member(self.queue, vacant.key() as u32, location, name);
        let Some((key, id)) = inserted else {
            drop(children);
            table_is_full()
        };
        vacant.insert(ChildEntry { key, id: NonZeroU64::new(id.get()).unwrap_or(NonZeroU64::MAX), job: Some(job) });
        drop(children);
        // Wake the scope if it waits: the spawner may be outside it.
        let owner = parts.tasks.borrow_mut().take_owner(self.queue);
        if let Some(owner) = owner {
            parts.wake_target(owner);
        }
        parts.spawned(key);
        Spawned { key, home: self.home, id }
    }

    /// Polls one child, or drops it if it was aborted. `Err` is the scope's first failure; if the
    /// child's drop panicked after that failure, its panic is attached.
    fn visit_child(&self, parts: &Parts, key: TaskKey, index: u32, is_aborted: bool) -> Result<(), ScopeError<E>> {
        let job = self.children.borrow_mut().get_mut(index as usize).and_then(|entry| entry.job.take());
        let Some(mut job) = job else { return Ok(()) };
        let waker = waker::waker(key);
        if !is_aborted {
            parts.poll_begins(key);
        }
        let owner = parts.running.replace(key);
        let polled = if is_aborted {
            Ok(Poll::Ready(Ok(())))
        } else {
            catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut Context::from_waker(&waker))))
        };
        let result = match polled {
            Ok(Poll::Pending) => {
                parts.running.set(owner);
                parts.tasks.borrow_mut().put_back_member(key);
                if let Some(entry) = self.children.borrow_mut().get_mut(index as usize) {
                    entry.job = Some(job);
                }
                parts.poll_ends(key);
                return Ok(());
            }
            Ok(Poll::Ready(result)) => result.map_err(Cause::Error),
            Err(panic) => Err(Cause::Panicked(JoinError::panicked(panic))),
        };
        let dropped = drop_caught(job).map(|panic| Cause::Panicked(JoinError::panicked(panic)));
        parts.running.set(owner);
        if !is_aborted {
            parts.poll_ends(key);
        }
        if parts.has_hooks() {
            let how = match result {
                _ if dropped.is_some() => TaskEnd::Panicked,
                Err(Cause::Panicked(_)) => TaskEnd::Panicked,
                _ if is_aborted => TaskEnd::Aborted,
                _ => TaskEnd::Returned,
            };
            parts.tell_ended(key, how);
        }
        let has_failed = result.is_err() || dropped.is_some();
        let child = if has_failed { parts.tasks.borrow_mut().describe_key(key) } else { None };
        self.children.borrow_mut().try_remove(index as usize);
        parts.tasks.borrow_mut().remove(key);
        if has_failed { Self::failed(child.as_ref(), result.err().into_iter().chain(dropped)) } else { Ok(()) }
    }

    #[cold]
    fn failed(child: Option<&Current>, causes: impl Iterator<Item = Cause<E>>) -> Result<(), ScopeError<E>> {
        let mut failures = causes.map(|cause| Failure { child: child.cloned(), cause });
        failures.next().map_or(Ok(()), |first| Err(ScopeError { first, others: failures.collect() }))
    }

    /// Ends the scope: gives the slots back and drops the children. Returns the panics of their
    /// destructors.
    fn end(&self) -> Vec<Failure<E>> {
        if self.ended.replace(true) {
            return Vec::new();
        }
        let entries = std::mem::take(&mut *self.children.borrow_mut());
        let mut entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        let keys: Vec<_> = entries.iter().map(|entry| entry.key).chain([self.body]).collect();
        let Some(parts) = context::current_of(self.home) else {
            let dropped = entries.into_iter().map(|entry| entry.drop_job(None));
            let (failures, ended): (Vec<_>, Vec<_>) = dropped.unzip();
            self.home.send(Message::EndScope(self.queue, keys, ended));
            return failures.into_iter().flatten().collect();
        };
        let mut tasks = parts.tasks.borrow_mut();
        let described: Vec<_> = keys.iter().map(|&key| tasks.describe_key(key)).collect();
        let owner = tasks.remove_queue(self.queue, &keys);
        drop(tasks);
        parts.guarded(|| drop(owner));
        let drop_child = |(entry, child): (ChildEntry<'env, E>, _)| {
            let (failure, (task, how)) = entry.drop_job(child);
            parts.tell(|hooks| hooks.ended(task, how));
            failure
        };
        entries.into_iter().zip(described).filter_map(drop_child).collect()
    }
}

pin_project! {
    /// The future of a scope.
    struct Driver<'env, E, B, T> {
        shared: Rc<ScopeState<'env, E>>,
        // `None` until the body is made, and once it has ended.
        #[pin]
        body: Option<B>,
        // The body's value, or the failure that ended the scope, until the scope returns it.
        result: Option<Result<T, ScopeError<E>>>,
    }

    impl<E, B, T> PinnedDrop for Driver<'_, E, B, T> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let home = this.shared.home;
            let dropped = this.shared.end();
            dropped.into_iter().for_each(|failure| failure.report(home));
            if let Some(Err(unreturned)) = this.result.take_if(|result| result.is_err()) {
                unreturned.first.report(home);
                unreturned.others.into_iter().for_each(|failure| failure.report(home));
            }
        }
    }
}

impl<E, B, T> Driver<'_, E, B, T>
where
    B: Future<Output = Result<T, E>>,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, ScopeError<E>>> {
        let home = self.shared.home;
        let Some(parts) = context::current_of(home) else {
            panic!("{}", Misuse::elsewhere("`task::scope` was polled"));
        };
        if self.shared.ended.get() {
            // The queue's number may belong to another scope by now.
            return self.say(cx);
        }
        let queue = self.shared.queue;
        let owner = {
            let mut tasks = parts.tasks.borrow_mut();
            tasks.take_up_later(queue);
            // The scope is being polled, so no wake of its owner is needed meanwhile.
            tasks.take_owner(queue)
        };
        parts.guarded(|| drop(owner));
        for polls in 0.. {
            if self.as_mut().is_over() {
                return self.say(cx);
            }
            let next = if polls < POLLS && budget::has_budget() { next_member(&parts, queue) } else { None };
            let Some((key, index, is_aborted)) = next else { break };
            let visited = if index == BODY {
                self.as_mut().poll_body(&parts, key)
            } else {
                self.shared.visit_child(&parts, key, index, is_aborted)
            };
            if let Err(failure) = visited {
                self.as_mut().fail(failure);
                return self.say(cx);
            }
        }
        let owner = waker::target(cx.waker(), home);
        let (unused, is_ready) = parts.tasks.borrow_mut().set_owner(queue, owner);
        parts.guarded(|| drop(unused));
        if is_ready {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Returns the result once there is budget for it, so that a loop of scopes that end in their
    /// first poll lets other tasks run.
    fn say(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, ScopeError<E>>> {
        ready!(budget::poll_proceed(cx));
        self.project().result.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Polls the body. It runs as part of the owner, and its panic unwinds through the scope, which
    /// drops the children.
    fn poll_body(self: Pin<&mut Self>, parts: &Parts, key: TaskKey) -> Result<(), ScopeError<E>> {
        let mut this = self.project();
        let waker = waker::waker(key);
        let polled = this.body.as_mut().as_pin_mut().map(|body| body.poll(&mut Context::from_waker(&waker)));
        // Put back even if the body has ended: `Scope::cancel` wakes it to get the scope polled.
        parts.tasks.borrow_mut().put_back_member(key);
        let Some(Poll::Ready(result)) = polled else { return Ok(()) };
        this.body.set(None);
        *this.result = Some(Ok(result.map_err(|error| ScopeError::of_scope(Cause::Error(error)))?));
        Ok(())
    }

    /// Whether there is a result to return.
    fn is_over(self: Pin<&mut Self>) -> bool {
        if self.shared.cancelled.get() {
            self.fail(ScopeError::of_scope(Cause::Cancelled));
            return true;
        }
        self.body.is_none() && self.shared.children.borrow().is_empty()
    }

    /// Ends the scope with an error.
    fn fail(self: Pin<&mut Self>, mut error: ScopeError<E>) {
        let mut this = self.project();
        error.others.append(&mut this.shared.end());
        let body = catch_unwind(AssertUnwindSafe(|| this.body.set(None))).err();
        let value = drop_caught(this.result.take());
        error.others.extend(body.into_iter().chain(value).map(|panic| Failure::panicked(None, panic)));
        *this.result = Some(Err(error));
    }
}

/// Takes the next ready member of a scope: its key, its index, and whether it was aborted.
fn next_member(parts: &Parts, queue: QueueId) -> Option<(TaskKey, u32, bool)> {
    let mut tasks = parts.tasks.borrow_mut();
    let Visit { key, is_aborted, .. } = tasks.pop(queue)?;
    tasks.member_index(key).map(|index| (key, index, is_aborted))
}

/// The output of a child, on its way to the handle.
struct Outlet<T> {
    result: Cell<Option<T>>,
    ended: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// Tells the handle when it is dropped that the child has ended.
struct End<T> {
    outlet: Rc<Outlet<T>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.outlet.ended.set(true);
        wake_all(self.outlet.waker.take());
    }
}

pin_project! {
    /// A child's future. Fields drop in this order, so the handle is told when the future is gone.
    struct ChildFuture<F, T, S> {
        #[pin]
        future: F,
        end: End<T>,
        split: S,
    }
}

/// Boxes a child's future and makes its outlet. `split` separates the output from the failure.
#[inline(always)] // a call by value copies the future
fn boxed<'env, F, T, E>(
    future: F,
    split: impl Fn(F::Output) -> Result<T, E> + 'env,
) -> (BoxedChild<'env, E>, Rc<Outlet<T>>)
where
    F: Future + 'env,
    T: 'env,
    E: 'env,
{
    let outlet = Rc::new(Outlet { result: Cell::new(None), ended: Cell::new(false), waker: Cell::new(None) });
    let end = End { outlet: Rc::clone(&outlet) };
    (Box::pin(ChildFuture { future, end, split }), outlet)
}

impl<F, T, E, S> Future for ChildFuture<F, T, S>
where
    F: Future,
    S: Fn(F::Output) -> Result<T, E>,
{
    type Output = Result<(), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        this.end.outlet.result.set(Some((this.split)(output)?));
        Poll::Ready(Ok(()))
    }
}

/// Waits for a child of a [`scope`](scope()).
///
/// Awaiting it gives the child's output. The only error is a cancellation: the child was
/// [aborted](Self::abort), the child failed, or the scope ended first. A handle polled again after
/// it was ready returns that error too. Dropping the handle lets the child run on within its scope.
///
/// # Cancel safety
///
/// Dropping a polled handle loses the child's output, not the child. Poll `&mut child` in a
/// `select` to go on waiting later.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let sum = postlude::task::scope::<_, (), _>(async |s| {
///         let (a, b) = (s.spawn(async { 1 }), s.spawn(async { 2 }));
///         let endless = s.spawn(std::future::pending::<()>());
///         endless.abort();
///         assert!(endless.await.unwrap_err().is_cancelled());
///         Ok(a.await.unwrap() + b.await.unwrap())
///     });
///     assert_eq!(sum.await.unwrap(), 3);
/// })
/// # }
/// ```
pub struct Child<T> {
    task: Spawned,
    outlet: Rc<Outlet<T>>,
}

impl<T> Child<T> {
    /// The child's number, among those of the runtime's tasks.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.id
    }

    /// Aborts the child: the scope drops its future in its next poll, and the handle returns a
    /// cancelled [`JoinError`]. The scope and its other children go on.
    ///
    /// This call drops nothing itself. A child that aborts itself and is ready in the same poll has
    /// finished. A finished child stays as it is.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the child's future is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.outlet.ended.get()
    }
}

impl<T> Future for Child<T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::poll_available(cx));
        let outlet = &self.outlet;
        if !outlet.ended.get() {
            let waker = cx.waker().clone();
            discard(outlet.waker.replace(Some(waker)));
            return Poll::Pending;
        }
        budget::spend();
        Poll::Ready(outlet.result.take().ok_or_else(JoinError::cancelled))
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("id", &self.task.id.get()).finish_non_exhaustive()
    }
}

impl<E> Clone for Scope<'_, E> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl<E> fmt::Debug for Scope<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children = self.shared.children.try_borrow().map_or(0, |children| children.len());
        f.debug_struct("Scope").field("children", &children).finish_non_exhaustive()
    }
}

/// Spawns a child with a name: see [`Scope::named`].
#[must_use = "it names a child that is still to be spawned"]
pub struct NamedChild<'s, 'env, E> {
    scope: &'s Scope<'env, E>,
    name: Box<str>,
}

impl<'env, E: 'env> NamedChild<'_, 'env, E> {
    /// Like [`Scope::spawn`], with the same panics.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Child<F::Output>
    where
        F: Future + 'env,
        F::Output: 'env,
    {
        self.scope.add(boxed(future, Ok), Some(self.name), Location::caller())
    }

    /// Like [`Scope::try_spawn`], with the same panics.
    #[track_caller]
    pub fn try_spawn<T, F>(self, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + 'env,
        T: 'env,
    {
        self.scope.add(boxed(future, |result| result), Some(self.name), Location::caller())
    }
}

impl<E> fmt::Debug for NamedChild<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedChild").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The error of a [`scope`](scope()): its first failure, and the panics of later drops.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::task::{Cause, scope};
/// postlude::run(async {
///     let failed = scope::<(), _, _>(async |s| {
///         s.named("bad").try_spawn(async { Err::<(), _>("no") });
///         std::future::pending().await
///     })
///     .await
///     .unwrap_err();
///     assert_eq!(failed.first.child.unwrap().name.as_deref(), Some("bad"));
///     assert!(matches!(failed.first.cause, Cause::Error("no")));
///     assert!(failed.others.is_empty());
/// })
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ScopeError<E> {
    /// The failure that ended the scope.
    pub first: Failure<E>,
    /// Panics of destructors: of the child that failed, and of the children and the body dropped
    /// when the scope ended.
    pub others: Vec<Failure<E>>,
}

impl<E> ScopeError<E> {
    /// An error of the body or the scope itself.
    fn of_scope(cause: Cause<E>) -> Self {
        Self { first: Failure { child: None, cause }, others: Vec::new() }
    }
}

impl<E: fmt::Display> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match self.others.len() {
            0 => Ok(()),
            others => write!(f, " (and {others} more)"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.first.cause {
            Cause::Error(error) => Some(error),
            Cause::Panicked(error) => Some(error),
            Cause::Cancelled => None,
        }
    }
}

/// One failure in a scope: the child, if a child failed, and the [`Cause`]. See [`ScopeError`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<E> {
    /// The child that failed; `None` if the body did, or the scope was cancelled.
    pub child: Option<Current>,
    /// The cause of the failure.
    pub cause: Cause<E>,
}

/// The cause of a [`Failure`].
#[derive(Debug)]
pub enum Cause<E> {
    /// A child or the body returned this.
    Error(E),
    /// A child panicked, or a destructor did.
    Panicked(JoinError),
    /// [`Scope::cancel`] was called.
    Cancelled,
}

impl<E> Failure<E> {
    fn panicked(child: Option<Current>, panic: Payload) -> Self {
        Self { child, cause: Cause::Panicked(JoinError::panicked(panic)) }
    }

    /// Reports a panic that a dropped scope cannot return: the cause, or the drop of the error.
    #[cold]
    fn report(self, home: Home) {
        let error = match self.cause {
            Cause::Panicked(error) => Some(error),
            Cause::Error(error) => drop_caught(error).map(JoinError::panicked),
            Cause::Cancelled => None,
        };
        let Some(error) = error else { return };
        match context::current_of(home) {
            Some(parts) => parts.report_error(self.child.as_ref(), error),
            None => home.send(Message::Panicked(self.child, error)),
        }
    }

    /// The returned error, if that was the cause.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        if let Cause::Error(error) = &self.cause { Some(error) } else { None }
    }

    /// The returned error, by value.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        if let Cause::Error(error) = self.cause { Some(error) } else { None }
    }

    /// The panic, for its text or for [`JoinError::into_panic`], by value.
    #[must_use]
    pub fn into_panic(self) -> Option<JoinError> {
        if let Cause::Panicked(error) = self.cause { Some(error) } else { None }
    }

    /// Whether [`Scope::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.cause, Cause::Cancelled)
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, &self.child) {
            (Cause::Cancelled, _) => f.write_str("the scope was cancelled"),
            (Cause::Error(error), None) => write!(f, "the scope's body failed: {error}"),
            (Cause::Error(error), Some(child)) => write!(f, "child {} of the scope failed: {error}", child.id),
            (Cause::Panicked(error), None) => write!(f, "the scope's body was dropped: {error}"),
            (Cause::Panicked(error), Some(child)) => write!(f, "child {} of the scope: {error}", child.id),
        }
    }
}
