//! [`Waiters`], the queue of waiting futures that all primitives here share, and [`WakerSlot`], for
//! a waiter that is always alone.
//!
//! A waiting future owns an entry and finds it by its key; the queue links the entries that still
//! wait. The operation that ends a wait *hands* the entry over: the entry leaves the queue at once,
//! so no waiter is served twice. It stays in the slab until its future has returned or is dropped.
//!
//! # Invariants
//!
//! - Only the future that made an entry removes it, so keys need no generation.
//! - The queue clones, wakes and drops no waker. The caller passes wakers in and gets them back, to
//!   handle after its borrow.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use slab::Slab;

use crate::event_loop::wake::{discard, wake, wake_all};
use crate::event_loop::waker;
use crate::executor::budget;

const NONE: usize = usize::MAX;

/// A first-in-first-out queue of waiting futures, each with a word of data.
pub(super) struct Waiters<D> {
    entries: Slab<Waiter<D>>,
    first: usize,
    last: usize,
}

struct Waiter<D> {
    data: D,
    // `None` once it was handed over; the entry is then out of the queue and its links are stale.
    waker: Option<Waker>,
    previous: usize,
    next: usize,
}

/// The outcome of one look at a wait.
pub(super) enum Step<R> {
    Done(R),
    Waiting,
    /// Look again with a clone of the waker, made outside the borrow.
    NeedsWaker,
}

impl<R> Step<R> {
    pub(super) fn map<S>(self, result: impl FnOnce(R) -> S) -> Step<S> {
        match self {
            Self::Done(found) => Step::Done(result(found)),
            Self::Waiting => Step::Waiting,
            Self::NeedsWaker => Step::NeedsWaker,
        }
    }
}

impl<D> Waiters<D> {
    pub(super) const fn new() -> Self {
        Self { entries: Slab::new(), first: NONE, last: NONE }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// How many entries exist: waiting, or handed over and not yet taken by their future.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The data of the longest waiter.
    pub(super) fn first(&self) -> Option<&D> {
        self.entries.get(self.first).map(|entry| &entry.data)
    }

    pub(super) fn push(&mut self, data: D, waker: Waker) -> usize {
        let key = self.entries.insert(Waiter { data, waker: Some(waker), previous: self.last, next: NONE });
        match self.entries.get_mut(self.last) {
            Some(last) => last.next = key,
            None => self.first = key,
        }
        self.last = key;
        key
    }

    /// Takes the longest waiter out of the queue and returns its waker.
    pub(super) fn hand_first(&mut self, mark: impl FnOnce(&mut D)) -> Option<Waker> {
        let entry = self.entries.get_mut(self.first)?;
        mark(&mut entry.data);
        let waker = entry.waker.take();
        self.first = entry.next;
        match self.entries.get_mut(self.first) {
            Some(first) => first.previous = NONE,
            None => self.last = NONE,
        }
        waker
    }

    /// Takes every waiter out of the queue and returns their wakers, in order.
    pub(super) fn hand_all(&mut self, mark: impl Fn(&mut D)) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(waker) = self.hand_first(&mark) {
            wakers.push(waker);
        }
        wakers
    }

    /// Ends a wait. Returns its data, and its waker if it was still in the queue.
    pub(super) fn remove(&mut self, key: usize) -> (D, Option<Waker>) {
        if self.entries[key].waker.is_some() {
            self.unlink(key);
        }
        let entry = self.entries.remove(key);
        (entry.data, entry.waker)
    }

    /// Looks whether the wait is over; if it is not, leaves the current task's waker.
    ///
    /// `spare` brings a clone of the waker and takes away the one that it replaces.
    pub(super) fn step(
        &mut self,
        key: &mut Option<usize>,
        data: impl FnOnce() -> D,
        waker: &Waker,
        spare: &mut Option<Waker>,
    ) -> Step<D> {
        let Some(at) = *key else {
            let Some(waker) = spare.take() else { return Step::NeedsWaker };
            *key = Some(self.push(data(), waker));
            return Step::Waiting;
        };
        match &mut self.entries[at].waker {
            None => {
                *key = None;
                Step::Done(self.entries.remove(at).data)
            }
            Some(known) if known.will_wake(waker) => Step::Waiting,
            Some(known) => {
                let Some(new) = spare.take() else { return Step::NeedsWaker };
                *spare = Some(std::mem::replace(known, new));
                Step::Waiting
            }
        }
    }

    fn unlink(&mut self, key: usize) {
        let (previous, next) = (self.entries[key].previous, self.entries[key].next);
        match self.entries.get_mut(previous) {
            Some(entry) => entry.next = next,
            None => self.first = next,
        }
        match self.entries.get_mut(next) {
            Some(entry) => entry.previous = previous,
            None => self.last = previous,
        }
    }
}

impl Waiters<()> {
    /// Waits in a queue whose waiters look for themselves what has happened: a wait that was handed
    /// over begins anew.
    pub(super) fn wait<R>(&mut self, key: &mut Option<usize>, waker: &Waker, spare: &mut Option<Waker>) -> Step<R> {
        loop {
            match self.step(key, || (), waker, spare) {
                Step::Done(()) => {}
                Step::Waiting => return Step::Waiting,
                Step::NeedsWaker => return Step::NeedsWaker,
            }
        }
    }
}

/// Polls a wait: repeats `step`, cloning the waker outside the borrow whenever it asks for a clone.
pub(super) fn poll_steps<R>(
    cx: &mut Context<'_>,
    mut step: impl FnMut(&Waker, &mut Option<Waker>) -> Step<R>,
) -> Poll<R> {
    let mut spare = None;
    let polled = loop {
        match step(cx.waker(), &mut spare) {
            Step::Done(result) => break Poll::Ready(result),
            Step::Waiting => break Poll::Pending,
            Step::NeedsWaker => spare = Some(cx.waker().clone()),
        }
    };
    discard(spare);
    polled
}

/// [`poll_steps`] for an operation that spends the task's budget once it is ready.
pub(super) fn poll_spending<R>(
    cx: &mut Context<'_>,
    step: impl FnMut(&Waker, &mut Option<Waker>) -> Step<R>,
) -> Poll<R> {
    ready!(budget::poll_available(cx));
    let result = ready!(poll_steps(cx, step));
    budget::spend();
    Poll::Ready(result)
}

/// Wakes every waiter of a queue whose waiters look for themselves what has happened.
///
/// Wakes one at a time, which allocates nothing. A waiter that queues up again meanwhile may be
/// woken once more.
pub(super) fn wake_queue<S>(state: &RefCell<S>, waiters: impl Fn(&mut S) -> &mut Waiters<()>) {
    let count = waiters(&mut state.borrow_mut()).len();
    for _ in 0..count {
        let waker = waiters(&mut state.borrow_mut()).hand_first(|()| {});
        match waker {
            Some(waker) => wake(waker),
            None => return,
        }
    }
}

/// Ends a wait in such a queue, and drops its waker after the borrow.
pub(super) fn forget_wait<S>(
    state: &RefCell<S>,
    waiters: impl Fn(&mut S) -> &mut Waiters<()>,
    key: &mut Option<usize>,
) {
    if let Some(key) = key.take() {
        let ((), waker) = waiters(&mut state.borrow_mut()).remove(key);
        discard(waker);
    }
}

/// The place of a future in such a queue; the drop leaves the queue.
struct Wait<'a, S> {
    state: &'a RefCell<S>,
    waiters: fn(&mut S) -> &mut Waiters<()>,
    key: Option<usize>,
}

impl<S> Drop for Wait<'_, S> {
    fn drop(&mut self) {
        forget_wait(self.state, self.waiters, &mut self.key);
    }
}

/// Waits in such a queue until `is_over`, and leaves the queue when it is dropped.
pub(super) async fn wait_until<S>(
    state: &RefCell<S>,
    waiters: fn(&mut S) -> &mut Waiters<()>,
    is_over: fn(&S) -> bool,
) {
    let mut wait = Wait { state, waiters, key: None };
    let mut look = |waker: &Waker, spare: &mut Option<Waker>| {
        let state = &mut *state.borrow_mut();
        if is_over(state) { Step::Done(()) } else { waiters(state).wait(&mut wait.key, waker, spare) }
    };
    poll_fn(|cx| poll_spending(cx, &mut look)).await;
}

/// The waker of a waiter that is always alone.
#[derive(Default)]
pub(super) struct WakerSlot(Cell<Option<Waker>>);

impl WakerSlot {
    /// Keeps the task's waker if that runs no foreign code. Otherwise does nothing and returns
    /// false.
    #[inline]
    pub(super) fn keep(&self, cx: &mut Context<'_>) -> bool {
        let (kept, waker) = match self.0.take() {
            Some(known) => (known.will_wake(cx.waker()), Some(known)),
            None => {
                let own = waker::copy(cx.waker());
                (own.is_some(), own)
            }
        };
        self.0.set(waker);
        kept
    }

    /// Keeps the task's waker. Returns true if that may have run foreign code (a clone, a drop):
    /// look again then, once.
    ///
    /// Once, because a clone need not equal its original: registering until nothing is cloned might
    /// never end.
    pub(super) fn register(&self, cx: &mut Context<'_>) -> bool {
        if self.keep(cx) {
            return false;
        }
        self.clear();
        self.0.set(Some(cx.waker().clone()));
        true
    }

    pub(super) fn wake(&self) {
        wake_all(self.0.take());
    }

    pub(super) fn clear(&self) {
        discard(self.0.take());
    }
}
