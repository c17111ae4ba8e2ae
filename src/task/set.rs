//! Many tasks of one kind, joined as they finish: [`JoinSet`].
//!
//! Each task's future is wrapped with a notice. When the future is gone, however it ended, the
//! notice's drop appends the task's number to a list shared with the set, and wakes the waiter. So
//! a finish costs one list entry and one poll of one handle, however many tasks the set holds.
//!
//! # Invariant
//!
//! A number is reused only after its notice was read. `detach_all` leaves the old list to the
//! detached tasks. A spawn that panics removes the notice of its task, which never existed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;
use slab::Slab;

use super::join::JoinHandle;
use super::{TaskId, spawn_task};
use crate::event_loop::wake::{discard, wake_all};
use crate::executor::budget;
use crate::executor::error::JoinError;
use crate::executor::queue::QueueId;
use crate::executor::stage::{Boxed, Stage};

/// A set of tasks, joined in the order they finish. Dropping it aborts the tasks left.
///
/// It is also a [`Stream`] of their outputs, which ends when the set is empty.
///
/// Loops come in two kinds. One joins what was spawned and ends: [`join_next`](Self::join_next)
/// tells it when the set is empty. The other spawns as it goes on, and the set may be empty for a
/// while: [`next_finished`](Self::next_finished) waits then.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let mut set = postlude::task::JoinSet::new();
///     for n in 1..=3 {
///         set.spawn(async move { n });
///     }
///     let mut sum = 0;
///     while let Some(result) = set.join_next().await {
///         sum += result.unwrap();
///     }
///     assert_eq!(sum, 6);
/// })
/// # }
/// ```
pub struct JoinSet<T> {
    handles: Slab<JoinHandle<T>>,
    shared: Rc<RefCell<Ended>>,
}

/// The ended tasks, shared by the tasks and the set.
#[derive(Default)]
struct Ended {
    /// The numbers of ended tasks, in the order they ended.
    numbers: VecDeque<usize>,
    /// The waiter for the next one.
    waker: Option<Waker>,
}

impl<T: 'static> JoinSet<T> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { handles: Slab::new(), shared: Rc::default() }
    }

    /// Spawns a task into the set, like [`spawn`](crate::spawn), with the same panics.
    #[track_caller]
    pub fn spawn<F: Future<Output = T> + 'static>(&mut self, future: F) -> TaskId {
        self.insert(self.boxed(future), None, Location::caller(), "JoinSet::spawn")
    }

    /// Spawns a task with a name, for reports and logs. Panics like [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn_named<F: Future<Output = T> + 'static>(&mut self, name: impl Into<String>, future: F) -> TaskId {
        let name = name.into().into_boxed_str();
        self.insert(self.boxed(future), Some(name), Location::caller(), "JoinSet::spawn_named")
    }

    /// Boxes the next task to be inserted, with its notice.
    #[inline(always)] // a call by value copies the future
    fn boxed<F: Future<Output = T> + 'static>(&self, future: F) -> Boxed {
        let notice = Notice { number: self.handles.vacant_key(), shared: Rc::clone(&self.shared) };
        Stage::boxed(SetMember { future, notice })
    }

    /// Spawns a task on behalf of the public function `what`, called at `location`.
    pub(crate) fn spawn_at<F: Future<Output = T> + 'static>(
        &mut self,
        future: F,
        location: &'static Location<'static>,
        what: &str,
    ) {
        self.insert(self.boxed(future), None, location, what);
    }

    /// Spawns a task made by `boxed`.
    fn insert(
        &mut self,
        task: Boxed,
        name: Option<Box<str>>,
        location: &'static Location<'static>,
        what: &str,
    ) -> TaskId {
        let entry = self.handles.vacant_entry();
        let unspawned = Unspawned { number: entry.key(), shared: &self.shared };
        let handle = JoinHandle::new(spawn_task(task, QueueId::FOREGROUND, name, location, what));
        std::mem::forget(unspawned);
        entry.insert(handle).id()
    }

    /// Waits for the next task to finish and gives its output; `None`, at once, if the set is
    /// empty.
    ///
    /// In a loop around [`race`](super::race()) that `None` wins round after round, and the loop
    /// never sleeps: race [`next_finished`](Self::next_finished) there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no output.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// Waits for the next task to finish and gives its output; never ready while the set is empty.
    ///
    /// It is a branch for a [`race`](super::race()) in a loop that goes on spawning: with an empty
    /// set the race waits for its other branches. Awaited alone on an empty set it waits for ever,
    /// as nothing can be spawned into a set that is borrowed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no output.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::{sync::mpsc, task::{JoinSet, race}};
    ///
    /// enum Event {
    ///     Order(Option<u32>),
    ///     Done(u32),
    /// }
    /// postlude::run(async {
    ///     let (orders, mut inbox) = mpsc::channel(4);
    ///     postlude::spawn(async move { orders.send(20).await.unwrap() });
    ///     let (mut set, mut sum) = (JoinSet::new(), 0);
    ///     loop {
    ///         let order = async { Event::Order(inbox.recv().await) };
    ///         let done = async { Event::Done(set.next_finished().await.unwrap()) };
    ///         match race((order, done)).await.1 {
    ///             Event::Order(Some(n)) => {
    ///                 set.spawn(async move { n + 1 });
    ///             }
    ///             Event::Order(None) => break,
    ///             Event::Done(n) => sum += n,
    ///         }
    ///     }
    ///     while let Some(last) = set.join_next().await {
    ///         sum += last.unwrap();
    ///     }
    ///     assert_eq!(sum, 21);
    /// })
    /// # }
    /// ```
    pub async fn next_finished(&mut self) -> Result<T, JoinError> {
        match self.join_next().await {
            Some(result) => result,
            // No task can be spawned meanwhile: this future borrows the set.
            None => pending().await,
        }
    }

    /// Polls for the next task to finish, as [`join_next`](Self::join_next). The last waker wins.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        if self.handles.is_empty() {
            ready!(budget::poll_proceed(cx));
            return Poll::Ready(None);
        }
        let Some(number) = self.first_ended() else {
            let waker = cx.waker().clone();
            let before = self.shared.borrow_mut().waker.replace(waker);
            discard(before);
            return Poll::Pending;
        };
        ready!(budget::poll_available(cx));
        let result = self.handles.get_mut(number).map(|handle| Pin::new(handle).poll(cx));
        match result {
            // Called in a destructor of the very task that is ending: the handle has the waker now.
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(result)) => {
                self.forget(number);
                Poll::Ready(Some(result))
            }
            None => unreachable!("a number is only reused after its notice was read"),
        }
    }

    /// Returns the output of a finished task, without waiting. Spends no budget.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let number = self.first_ended()?;
        let Poll::Ready(result) = self.handles.get_mut(number)?.poll_output(Waker::noop()) else { return None };
        self.forget(number);
        Some(result)
    }

    fn first_ended(&self) -> Option<usize> {
        self.shared.borrow().numbers.front().copied()
    }

    fn forget(&mut self, number: usize) {
        self.shared.borrow_mut().numbers.pop_front();
        drop(self.handles.remove(number));
    }

    /// Aborts every task. For each task that had not finished, [`join_next`](Self::join_next)
    /// returns a cancelled [`JoinError`].
    pub fn abort_all(&self) {
        for (_, handle) in &self.handles {
            handle.abort();
        }
    }

    /// Aborts every task, waits until all their futures are gone, and drops their outputs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the tasks aborted. Tasks not joined yet stay in the set.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Detaches every task, and leaves the set empty.
    pub fn detach_all(&mut self) {
        self.shared = Rc::default();
        // Empty the set first: dropping a handle may drop an output, which may use the set.
        drop(std::mem::take(&mut self.handles));
    }
}

impl<T> JoinSet<T> {
    /// The number of tasks not joined yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether the set has no tasks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

impl<T: 'static> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static> Stream for JoinSet<T> {
    type Item = Result<T, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_join_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        for (_, handle) in &self.handles {
            handle.abort();
        }
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a task in a set. Fields drop in order, so the notice comes when the future is
    /// gone.
    struct SetMember<F> {
        #[pin]
        future: F,
        notice: Notice,
    }
}

impl<F: Future> Future for SetMember<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

struct Notice {
    number: usize,
    shared: Rc<RefCell<Ended>>,
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut ended = self.shared.borrow_mut();
        ended.numbers.push_back(self.number);
        let waker = ended.waker.take();
        drop(ended);
        wake_all(waker);
    }
}

/// Guards a spawn. It is dropped only if the spawn panics; then it removes the notice of the task,
/// which is gone.
struct Unspawned<'a> {
    number: usize,
    shared: &'a RefCell<Ended>,
}

impl Drop for Unspawned<'_> {
    #[cold]
    fn drop(&mut self) {
        self.shared.borrow_mut().numbers.retain(|&number| number != self.number);
    }
}
