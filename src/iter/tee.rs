//! One source and many readers, each of which gets each item: [`tee()`] and [`broadcast`].
//!
//! A reader that is ahead of the others polls the source for its next item, and leaves the item in
//! a buffer for the others. The readers pull, so no item is lost. In a
//! [`sync::broadcast`](crate::sync::broadcast) channel values are pushed, and slow receivers miss
//! some.
//!
//! # How it works
//!
//! The source is not polled with the waker of the reader that polls it. That reader may be dropped,
//! or not polled for a long time, and the others would wait although there is an item. The source
//! has a waker of its own, which wakes all waiting readers. The first of them polls the source; the
//! others find the item in the buffer.
//!
//! Items are numbered from the first; a reader is the number that it reads next. Each buffered item
//! counts the readers that have not read it, and leaves at zero. It is then the first in the
//! buffer, since readers read in order.
//!
//! # Invariants
//!
//! - The source is out of its cell while it is polled. A reader that the source itself polls waits,
//!   and is woken when the poll is over.
//! - No borrow and no lock is held while the source is polled or dropped, an item cloned or
//!   dropped, or a waker called.
//! - `ready` is false only after a poll of the source that was pending and registered the shared
//!   waker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use slab::Slab;

use crate::event_loop::wake::{discard, wake};
use crate::executor::budget;

/// Splits one source into two readers, each of which gets every item, or a clone of it. Neither
/// waits for the other.
///
/// Items that only one of them has read are kept, so memory is bounded only by the distance between
/// the readers (as with Python's `itertools.tee`); [`broadcast`] bounds it. Clone a reader for
/// more. [`Tee`] describes the readers.
///
/// ```
/// use futures::{StreamExt, stream};
/// # postlude::run(async {
/// let (first, second) = postlude::iter::tee(stream::iter([1, 2, 3]));
/// assert_eq!(first.collect::<Vec<_>>().await, [1, 2, 3]);
/// assert_eq!(second.collect::<Vec<_>>().await, [1, 2, 3]);
/// # }).unwrap();
/// ```
pub fn tee<S: Stream<Item: Clone>>(stream: S) -> (Tee<S>, Tee<S>) {
    let first = Tee::new(stream, usize::MAX);
    let second = first.clone();
    (first, second)
}

/// Makes a reader of a source that can be cloned: each clone gets every item from its original's
/// position on.
///
/// No reader is more than `capacity` items ahead of the slowest: it waits until that one reads on
/// or is dropped. So a reader that is kept but not polled blocks the others. Give each reader a
/// task of its own, or poll them together. [`sync::broadcast`](crate::sync::broadcast) is for
/// values that are pushed, and for receivers that would rather miss some than block others. [`Tee`]
/// describes the readers.
///
/// # Panics
///
/// "a broadcast needs room for at least one item" if `capacity` is 0.
///
/// ```
/// use futures::{StreamExt, stream};
/// # postlude::run(async {
/// let first = postlude::iter::broadcast(stream::iter([1, 2, 3]), 1);
/// let second = first.clone();
/// let sum = postlude::spawn(first.fold(0, async |sum, n| sum + n));
/// let product = postlude::spawn(second.fold(1, async |product, n| product * n));
/// assert_eq!((sum.await.unwrap(), product.await.unwrap()), (6, 6));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn broadcast<S: Stream<Item: Clone>>(stream: S, capacity: usize) -> Tee<S> {
    assert!(capacity > 0, "a broadcast needs room for at least one item");
    Tee::new(stream, capacity)
}

/// A reader of a source shared with others: see [`tee()`] and [`broadcast`].
///
/// Readers may be in different tasks of one thread. The first that needs an item polls the source,
/// and only after the source was woken or has just yielded one. Dropping a reader releases the
/// items that only it had not read; the drop of the last reader drops the source. Works under any
/// executor.
///
/// An item is cloned for each reader but the last to read it. While there are several readers, each
/// item costs one allocation.
///
/// Dropping a wait for the next item loses nothing, for this reader and for the others.
///
/// # Panics
///
/// A panic of the source goes to the reader that polled it. The others get the items read before,
/// and then panic: "the source of this reader panicked while another reader polled it".
#[must_use = "streams do nothing unless polled"]
pub struct Tee<S: Stream> {
    shared: Rc<SharedSource<S>>,
    /// Number of the item to read next.
    next: u64,
    /// Key of its entry in `Readers::waiting`.
    key: usize,
    ended: bool,
}

struct SharedSource<S: Stream> {
    source: Cell<TeeSource<S>>,
    buffer: RefCell<Buffer<S::Item>>,
    readers: Arc<Readers>,
    /// Made of `readers`.
    waker: Waker,
}

enum TeeSource<S> {
    Here(Pin<Box<S>>),
    /// A reader is polling it.
    Away,
    Ended,
    Panicked,
}

/// The items that some readers have read and others have not.
struct Buffer<T> {
    slots: VecDeque<SharedItem<T>>,
    /// Number of the first item in `slots`.
    oldest: u64,
    capacity: usize,
    readers: usize,
}

struct SharedItem<T> {
    /// Shared with a reader that clones it outside the borrow.
    item: Rc<T>,
    /// How many readers have not read it yet.
    unread: usize,
}

impl<T> Buffer<T> {
    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.oldest).unwrap_or(usize::MAX)
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// Reads the item with this number. Returns true beside it if readers may wait for its room.
    fn read(&mut self, number: u64) -> Option<(Rc<T>, bool)> {
        let (index, full) = (self.index(number), self.is_full());
        let slot = self.slots.get_mut(index)?;
        slot.unread -= 1;
        if slot.unread > 0 {
            return Some((Rc::clone(&slot.item), false));
        }
        // Every reader has read the items before it, so this is the first one.
        self.oldest += 1;
        self.slots.pop_front().map(|slot| (slot.item, full))
    }

    fn enter(&mut self, number: u64) {
        self.readers += 1;
        let index = self.index(number);
        self.slots.range_mut(index..).for_each(|slot| slot.unread += 1);
    }

    /// Removes a reader. Returns the items that only it had not read, and whether readers may wait
    /// for their room.
    fn leave(&mut self, number: u64) -> (Vec<SharedItem<T>>, bool) {
        self.readers -= 1;
        let (index, full) = (self.index(number), self.is_full());
        self.slots.range_mut(index..).for_each(|slot| slot.unread -= 1);
        let read = self.slots.iter().take_while(|slot| slot.unread == 0).count();
        self.oldest += read as u64;
        (self.slots.drain(..read).collect(), full && read > 0)
    }
}

impl<S: Stream> Tee<S> {
    fn new(stream: S, capacity: usize) -> Self {
        let readers = Arc::new(Readers { ready: AtomicBool::new(true), waiting: Mutex::default() });
        let key = readers.lock().insert(None);
        let shared = SharedSource {
            source: Cell::new(TeeSource::Here(Box::pin(stream))),
            buffer: RefCell::new(Buffer { slots: VecDeque::new(), oldest: 0, capacity, readers: 1 }),
            waker: Waker::from(Arc::clone(&readers)),
            readers,
        };
        Self { shared: Rc::new(shared), next: 0, key, ended: false }
    }
}

impl<S: Stream<Item: Clone>> Tee<S> {
    /// Takes the next item from the buffer, or else from the source.
    fn poll_item(&mut self) -> Poll<Option<S::Item>> {
        let buffered = self.shared.buffer.borrow_mut().read(self.next);
        if let Some((item, room)) = buffered {
            self.next += 1;
            if room {
                self.shared.readers.wake_waiting();
            }
            return Poll::Ready(Some(Rc::unwrap_or_clone(item)));
        }
        let item = ready!(self.shared.poll_source());
        let Some(item) = item else { return Poll::Ready(None) };
        self.next += 1;
        Poll::Ready(Some(self.shared.share(item)))
    }
}

impl<S: Stream> SharedSource<S> {
    /// Polls the source, if there is room for an item and the source may have one.
    fn poll_source(&self) -> Poll<Option<S::Item>> {
        let mut visit = SourceLoan { shared: self, after: Some(self.source.replace(TeeSource::Away)) };
        match &visit.after {
            Some(TeeSource::Ended) => return Poll::Ready(None),
            Some(TeeSource::Panicked) => panic!("the source of this reader panicked while another reader polled it"),
            Some(TeeSource::Here(_)) if self.may_poll() => {}
            _ => return Poll::Pending,
        }
        let Some(TeeSource::Here(mut stream)) = visit.after.take() else { return Poll::Pending };
        let poll = stream.as_mut().poll_next(&mut Context::from_waker(&self.waker));
        if poll.is_ready() {
            self.readers.ready.store(true, Ordering::Release);
        }
        if matches!(poll, Poll::Ready(None)) {
            drop(stream);
            visit.after = Some(TeeSource::Ended);
            drop(visit);
            self.readers.wake_waiting();
        } else {
            visit.after = Some(TeeSource::Here(stream));
        }
        poll
    }

    /// Leaves an item for the other readers, too.
    fn share(&self, item: S::Item) -> S::Item
    where
        S::Item: Clone,
    {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.readers == 1 {
            buffer.oldest += 1;
            return item;
        }
        let item = Rc::new(item);
        let unread = buffer.readers - 1;
        buffer.slots.push_back(SharedItem { item: Rc::clone(&item), unread });
        drop(buffer);
        self.readers.wake_waiting();
        Rc::unwrap_or_clone(item)
    }

    fn may_poll(&self) -> bool {
        !self.buffer.borrow().is_full() && self.readers.ready.swap(false, Ordering::AcqRel)
    }
}

/// Puts the source back, or records that it panicked.
struct SourceLoan<'a, S: Stream> {
    shared: &'a SharedSource<S>,
    after: Option<TeeSource<S>>,
}

impl<S: Stream> Drop for SourceLoan<'_, S> {
    fn drop(&mut self) {
        let panicked = self.after.is_none();
        self.shared.source.set(self.after.take().unwrap_or(TeeSource::Panicked));
        if panicked {
            self.shared.readers.wake_waiting();
        }
    }
}

impl<S: Stream<Item: Clone>> Stream for Tee<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.ended {
            return budget::poll_proceed(cx).map(|()| None);
        }
        ready!(budget::poll_available(cx));
        let mut poll = self.poll_item();
        if poll.is_pending() {
            self.shared.readers.register(self.key, cx.waker());
            // An item that came before the waker was registered woke no task.
            poll = self.poll_item();
        }
        let item = ready!(poll);
        budget::spend();
        self.ended = item.is_none();
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        let buffer = self.shared.buffer.borrow();
        let buffered = buffer.slots.len() - buffer.index(self.next);
        drop(buffer);
        let visit = SourceLoan { shared: &self.shared, after: Some(self.shared.source.replace(TeeSource::Away)) };
        let (lower, upper) = match &visit.after {
            Some(TeeSource::Here(stream)) => stream.size_hint(),
            Some(TeeSource::Ended | TeeSource::Panicked) => (0, Some(0)),
            _ => (0, None),
        };
        (lower.saturating_add(buffered), upper.and_then(|upper| upper.checked_add(buffered)))
    }
}

impl<S: Stream<Item: Clone>> FusedStream for Tee<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S: Stream> Clone for Tee<S> {
    /// Makes another reader, which continues from this one's position.
    fn clone(&self) -> Self {
        self.shared.buffer.borrow_mut().enter(self.next);
        let key = self.shared.readers.lock().insert(None);
        Self { shared: Rc::clone(&self.shared), next: self.next, key, ended: self.ended }
    }
}

impl<S: Stream> Drop for Tee<S> {
    fn drop(&mut self) {
        let waker = self.shared.readers.lock().try_remove(self.key);
        discard(waker.flatten());
        let (unread, room) = self.shared.buffer.borrow_mut().leave(self.next);
        if room {
            self.shared.readers.wake_waiting();
        }
        drop(unread);
    }
}

impl<S: Stream> fmt::Debug for Tee<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffer = self.shared.buffer.borrow();
        f.debug_struct("Tee")
            .field("readers", &buffer.readers)
            .field("unread", &(buffer.slots.len() - buffer.index(self.next)))
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The readers that wait for the source or for room. The source's waker is made of this, so it may
/// be called on any thread.
struct Readers {
    /// Whether the source may have an item. Set by its waker, cleared before each poll.
    ready: AtomicBool,
    /// One entry per reader, set while it waits.
    waiting: Mutex<Slab<Option<Waker>>>,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, key: usize, waker: &Waker) {
        let known = self.lock()[key].as_ref().is_some_and(|known| known.will_wake(waker));
        if !known {
            let new = waker.clone();
            let before = self.lock()[key].replace(new);
            discard(before);
        }
    }

    /// Wakes all waiting readers, one at a time, which allocates nothing.
    fn wake_waiting(&self) {
        let mut from = 0;
        while let Some((key, waker)) = self.next_waiting(from) {
            wake(waker);
            from = key + 1;
        }
    }

    fn next_waiting(&self, from: usize) -> Option<(usize, Waker)> {
        let mut waiting = self.lock();
        (from..waiting.capacity()).find_map(|key| waiting.get_mut(key)?.take().map(|waker| (key, waker)))
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::Release);
        self.wake_waiting();
    }
}
