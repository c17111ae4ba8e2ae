//! Many sources as one: [`merge`].
//!
//! Sources that may have an item stand in a queue, and the adapter polls the first. While it yields
//! items it keeps its place, until its quota is used up; then it goes to the end. A source that has
//! nothing leaves the queue, and its waker puts it back at the end. So a source is polled when it
//! was woken, not when others were, and a wake costs the same however many sources there are.
//!
//! # How it works
//!
//! A waker may be called on any thread, so each source has one of its own, made of an `Arc`, and
//! the wakers write behind a mutex. A poll first moves the keys written there to the queue, which
//! only the adapter touches.
//!
//! # Invariants
//!
//! - A source is in the queue at most once: `in_turn`. Otherwise a woken source would have two
//!   turns in each round.
//! - A source that is in the list of woken sources does not enter it again: `listed`, cleared when
//!   its key is moved. So repeated wakes do not lengthen the list.
//! - One poll visits a source at most once; a source that wakes itself meanwhile waits for the next
//!   poll.
//! - No lock is held while a source is polled or dropped, or a waker called, cloned or dropped.

use std::collections::VecDeque;
use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use slab::Slab;

use crate::event_loop::wake::{discard, wake, wake_all};
use crate::executor::budget;

/// Items that a source may yield in a row while others have some. One is the order that a reader
/// expects: in turn.
const DEFAULT_QUOTA: usize = 1;

/// Yields the items of all `streams` as they come; ends when all have ended.
///
/// Sources that have items take turns, with one item each, or as many as [`Merge::quota`] says. So
/// no source waits longer than a quota of each of the others, however busy they are. A source is
/// polled only after it was woken or has just yielded an item, and is dropped as soon as it has
/// ended. The order within a source is kept. Sources of different types can be
/// [`Boxed`](super::Boxed).
///
/// Two allocations per source, none per item. Works under any executor; wakes may come from any
/// thread.
///
/// Dropping a wait for the next item loses nothing; dropping the adapter drops the sources.
///
/// # Panics
///
/// A panic of a source goes to the consumer. That source is dropped, and the others continue.
///
/// ```
/// use futures::{StreamExt, stream};
/// # postlude::run(async {
/// let mut merged = postlude::iter::merge([stream::iter(vec![1, 2, 3])]);
/// merged.push(stream::iter(vec![10]));
/// assert_eq!(merged.collect::<Vec<_>>().await, [1, 10, 2, 3]);
/// # }).unwrap();
/// ```
pub fn merge<S: Stream>(streams: impl IntoIterator<Item = S>) -> Merge<S> {
    let mut merge = Merge {
        sources: Slab::new(),
        turns: VecDeque::new(),
        quota: DEFAULT_QUOTA,
        left: DEFAULT_QUOTA,
        woken: Arc::default(),
    };
    for stream in streams {
        merge.push(stream);
    }
    merge
}

/// The stream of [`merge`].
#[must_use = "streams do nothing unless polled"]
pub struct Merge<S> {
    sources: Slab<MergeSource<S>>,
    /// Keys of sources that may have an item, the next one first.
    turns: VecDeque<usize>,
    quota: usize,
    /// The rest of the quota of the first source in `turns`.
    left: usize,
    woken: Arc<Woken>,
}

struct MergeSource<S> {
    stream: Pin<Box<S>>,
    flag: Arc<Flag>,
    /// Made of `flag`.
    waker: Waker,
    /// Whether its key is in `turns`.
    in_turn: bool,
}

impl<S> Merge<S> {
    /// Lets a source yield up to `n` items in a row before the next one has its turn. Default 1.
    ///
    /// A larger quota is faster and less fair.
    ///
    /// # Panics
    ///
    /// "a source needs a quota of at least one item" if `n` is 0.
    #[track_caller]
    pub fn quota(mut self, n: usize) -> Self {
        assert!(n > 0, "a source needs a quota of at least one item");
        self.quota = n;
        self.left = n;
        self
    }

    /// Adds a source, which takes its first turn after the ones in the queue. A merge that had
    /// ended continues; a loop that adds sources waits with [`next_item`](Merge::next_item).
    pub fn push(&mut self, stream: S) {
        let stream = Box::pin(stream);
        let entry = self.sources.vacant_entry();
        let flag = Arc::new(Flag { key: entry.key(), listed: AtomicBool::new(false), woken: Arc::clone(&self.woken) });
        let waker = Waker::from(Arc::clone(&flag));
        entry.insert(MergeSource { stream, flag, waker: waker.clone(), in_turn: false });
        waker.wake();
    }

    /// Returns how many sources have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Returns whether all sources have ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Queues the sources that were woken. If there are any, returns the waker of the task: it need
    /// not be woken while this polls.
    fn queue_woken(&mut self) -> Option<Waker> {
        if !self.woken.any.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut list = self.woken.lock();
        while let Some(key) = list.keys.pop_front() {
            // The key of a source that woke itself as it ended is unknown.
            let Some(source) = self.sources.get_mut(key) else { continue };
            // Before the source is polled, so that a wake during its poll is listed again.
            source.flag.listed.swap(false, Ordering::AcqRel);
            if !std::mem::replace(&mut source.in_turn, true) {
                self.turns.push_back(key);
            }
        }
        list.task.take()
    }
}

impl<S: Stream> Merge<S> {
    /// Waits for the next item of any source; never ready while there is no source.
    ///
    /// It is a branch for a [`race`](crate::task::race()) in a loop that [adds](Self::push)
    /// sources: without any the race waits for its other branches, where `next` would be ready with
    /// `None` round after round. Awaited alone without a source it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item.
    ///
    /// ```
    /// use futures::stream;
    /// use postlude::{iter, task::race};
    /// # postlude::run(async {
    /// let mut merged = iter::merge([]);
    /// assert_eq!(race((merged.next_item(), async { 0 })).await, (1, 0), "no source, no item");
    /// merged.push(stream::iter([7]));
    /// assert_eq!(merged.next_item().await, 7);
    /// # }).unwrap();
    /// ```
    pub async fn next_item(&mut self) -> S::Item {
        match poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await {
            Some(item) => item,
            // No source can be added meanwhile: this future borrows the merge.
            None => pending().await,
        }
    }

    /// Polls the queue in order. Returns the first item found.
    fn poll_turns(&mut self) -> Option<S::Item> {
        for _ in 0..self.turns.len() {
            let key = self.turns.pop_front()?;
            if let Poll::Ready(Some(item)) = self.poll_source(key) {
                self.turn_again(key);
                return Some(item);
            }
            self.left = self.quota;
        }
        None
    }

    fn poll_source(&mut self, key: usize) -> Poll<Option<S::Item>> {
        let mut visit = SourceVisit { sources: &mut self.sources, key, goes_on: false };
        let Some(source) = visit.sources.get_mut(key) else { return Poll::Ready(None) };
        source.in_turn = false;
        let poll = source.stream.as_mut().poll_next(&mut Context::from_waker(&source.waker));
        visit.goes_on = !matches!(poll, Poll::Ready(None));
        poll
    }

    fn turn_again(&mut self, key: usize) {
        self.sources[key].in_turn = true;
        self.left -= 1;
        if self.left > 0 {
            self.turns.push_front(key);
        } else {
            self.turns.push_back(key);
            self.left = self.quota;
        }
    }
}

/// Drops a source that has ended, or whose poll unwinds.
struct SourceVisit<'a, S> {
    sources: &'a mut Slab<MergeSource<S>>,
    key: usize,
    goes_on: bool,
}

impl<S> Drop for SourceVisit<'_, S> {
    fn drop(&mut self) {
        if !self.goes_on {
            drop(self.sources.try_remove(self.key));
        }
    }
}

impl<S: Stream> Stream for Merge<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        ready!(budget::poll_available(cx));
        let known = self.queue_woken();
        let item = self.poll_turns();
        if item.is_none() && !self.sources.is_empty() {
            self.woken.register(known, cx.waker());
            return Poll::Pending;
        }
        discard(known);
        budget::spend();
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.sources.iter().fold((0, Some(0)), |(lower, upper), (_, source)| {
            let (low, up) = source.stream.size_hint();
            let upper = upper.zip(up).and_then(|(upper, up): (usize, usize)| upper.checked_add(up));
            (low.saturating_add(lower), upper)
        })
    }
}

impl<S: Stream> FusedStream for Merge<S> {
    fn is_terminated(&self) -> bool {
        self.sources.is_empty()
    }
}

impl<S> fmt::Debug for Merge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("sources", &self.sources.len())
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

/// The sources that were woken, written by their wakers on any thread.
#[derive(Default)]
struct Woken {
    /// Whether the list has keys: a poll with none spares the lock.
    any: AtomicBool,
    list: Mutex<WokenList>,
}

#[derive(Default)]
struct WokenList {
    /// Sources woken since the last poll, in order.
    keys: VecDeque<usize>,
    /// The task that waits for one of them.
    task: Option<Waker>,
}

impl Drop for WokenList {
    fn drop(&mut self) {
        discard(self.task.take());
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, WokenList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task woken with the next source, or at once if one was woken during the poll. Reuses
    /// `known` instead of a clone where it can.
    fn register(&self, known: Option<Waker>, waker: &Waker) {
        let task = match known {
            Some(known) if known.will_wake(waker) => known,
            other => {
                discard(other);
                waker.clone()
            }
        };
        let mut list = self.lock();
        if list.keys.is_empty() {
            // There is one if something else than a source caused this poll.
            let before = list.task.replace(task);
            drop(list);
            return discard(before);
        }
        drop(list);
        wake(task);
    }
}

/// The waker of a source.
struct Flag {
    key: usize,
    /// Whether the key is in the list. Set by the waker, cleared by the poll that moves it.
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = self.woken.lock();
        list.keys.push_back(self.key);
        self.woken.any.store(true, Ordering::Release);
        let task = list.task.take();
        drop(list);
        wake_all(task);
    }
}
