//! One source and many readers, each of whom gets each item: [`tee()`] and [`broadcast`].
//!
//! Whoever is ahead of the others and wants an item polls the source, and leaves the item in a buffer for those who have not come so far.
//! The source is pulled by its readers, and loses nothing; a channel into which values are pushed, and whose slow receivers miss some, is
//! [`sync::broadcast`](crate::sync::broadcast).
//!
//! # How it works
//!
//! The source is not polled with the waker of the reader that happens to poll it: that reader may be dropped, or not be polled again for a
//! long time, and the others would wait although there is an item. It is polled with a waker of its own, which wakes all readers that wait.
//! The first of them polls the source, the others find the item in the buffer.
//!
//! Items are numbered from the first; a reader is the number it reads next. Each item in the buffer counts the readers that have yet to read
//! it, and leaves when there is none: readers pass over items in order, so it is the first one then.
//!
//! # Invariants
//!
//! - The source is out of its cell while it is polled: a reader that is polled by the source itself waits, and is woken when the poll is over.
//! - No borrow and no lock is held while the source is polled or dropped, an item cloned or dropped, or a waker called.
//! - `ready` is false only after a poll of the source that was pending and registered the shared waker.

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
/// Items that one has read and the other has not are kept, so memory is bounded only by how far the
/// readers are apart (as with Python's `itertools.tee`); [`broadcast`] bounds it. More readers are
/// clones. [`Tee`] says what holds for a reader.
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

/// Makes a reader of a source that can be cloned: each clone gets every item from where its
/// original stood.
///
/// No reader is more than `capacity` items ahead of the slowest: it waits until that one reads on
/// or is dropped. So a reader that is kept but not polled holds up the others; give readers tasks
/// of their own, or poll them together. For values that are pushed, and receivers that miss some
/// rather than hold up others, there is [`sync::broadcast`](crate::sync::broadcast). [`Tee`] says
/// what holds for a reader.
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
/// Readers may be in different tasks of one thread. The first of them to come polls the source, and
/// only after it was woken or has just given an item. Dropping a reader gives up what it had not
/// read; the last reader's drop drops the source. Works under any executor.
///
/// An item is cloned for each reader but the last to read it. One allocation per item while there
/// is more than one reader.
///
/// # Cancel safety
///
/// Dropping a wait for the next item loses nothing, for this reader and for the others.
///
/// # Panics
///
/// A panic of the source goes to the reader that polled it. The others get what was read before,
/// and then panic: "the source of this reader panicked while another reader polled it".
#[must_use = "streams do nothing unless polled"]
pub struct Tee<S: Stream> {
    shared: Rc<Shared<S>>,
    /// Number of the item to read next.
    next: u64,
    /// Its place among those that wait.
    key: usize,
    ended: bool,
}

struct Shared<S: Stream> {
    source: Cell<Source<S>>,
    buffer: RefCell<Buffer<S::Item>>,
    readers: Arc<Readers>,
    /// Made of `readers`.
    waker: Waker,
}

enum Source<S> {
    Here(Pin<Box<S>>),
    /// In the hands of a reader.
    Away,
    Ended,
    Panicked,
}

/// The items that some have read and others have not.
struct Buffer<T> {
    slots: VecDeque<Slot<T>>,
    /// Number of the first item in `slots`.
    oldest: u64,
    capacity: usize,
    readers: usize,
}

struct Slot<T> {
    /// Shared with a reader that is cloning it outside of the borrow.
    item: Rc<T>,
    /// How many readers have yet to read it.
    unread: usize,
}

impl<T> Buffer<T> {
    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.oldest).unwrap_or(usize::MAX)
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// Reads the item with that number; true if others may wait for the room it left.
    fn read(&mut self, number: u64) -> Option<(Rc<T>, bool)> {
        let (index, full) = (self.index(number), self.is_full());
        let slot = self.slots.get_mut(index)?;
        slot.unread -= 1;
        if slot.unread > 0 {
            return Some((Rc::clone(&slot.item), false));
        }
        // All have read what came before, so this is the first one.
        self.oldest += 1;
        self.slots.pop_front().map(|slot| (slot.item, full))
    }

    /// Keeps an item for all readers but the one that brought it.
    fn keep(&mut self, item: Rc<T>) {
        self.slots.push_back(Slot { item, unread: self.readers - 1 });
    }

    fn enter(&mut self, number: u64) {
        self.readers += 1;
        let index = self.index(number);
        self.slots.range_mut(index..).for_each(|slot| slot.unread += 1);
    }

    /// Counts a reader off; what only it had not read comes back, and true if others may wait for the room.
    fn leave(&mut self, number: u64) -> (Vec<Slot<T>>, bool) {
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
        let shared = Shared {
            source: Cell::new(Source::Here(Box::pin(stream))),
            buffer: RefCell::new(Buffer { slots: VecDeque::new(), oldest: 0, capacity, readers: 1 }),
            waker: Waker::from(Arc::clone(&readers)),
            readers,
        };
        Self { shared: Rc::new(shared), next: 0, key, ended: false }
    }
}

impl<S: Stream<Item: Clone>> Tee<S> {
    /// The next item: out of the buffer, or else from the source.
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

impl<S: Stream> Shared<S> {
    /// Polls the source, if there is room for an item and it may have one.
    fn poll_source(&self) -> Poll<Option<S::Item>> {
        let mut visit = Visit { shared: self, after: Some(self.source.replace(Source::Away)) };
        match &visit.after {
            Some(Source::Ended) => return Poll::Ready(None),
            Some(Source::Panicked) => panic!("the source of this reader panicked while another reader polled it"),
            Some(Source::Here(_)) if self.may_poll() => {}
            _ => return Poll::Pending,
        }
        let Some(Source::Here(mut stream)) = visit.after.take() else { return Poll::Pending };
        let poll = stream.as_mut().poll_next(&mut Context::from_waker(&self.waker));
        if poll.is_ready() {
            self.readers.ready.store(true, Ordering::Release);
        }
        if matches!(poll, Poll::Ready(None)) {
            drop(stream);
            visit.after = Some(Source::Ended);
            drop(visit);
            self.readers.wake_waiting();
        } else {
            visit.after = Some(Source::Here(stream));
        }
        poll
    }

    /// Leaves an item to the other readers, too.
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
        buffer.keep(Rc::clone(&item));
        drop(buffer);
        self.readers.wake_waiting();
        Rc::unwrap_or_clone(item)
    }

    fn may_poll(&self) -> bool {
        !self.buffer.borrow().is_full() && self.readers.ready.swap(false, Ordering::AcqRel)
    }
}

/// Puts the source back, or the word that it panicked.
struct Visit<'a, S: Stream> {
    shared: &'a Shared<S>,
    after: Option<Source<S>>,
}

impl<S: Stream> Drop for Visit<'_, S> {
    fn drop(&mut self) {
        let panicked = self.after.is_none();
        self.shared.source.set(self.after.take().unwrap_or(Source::Panicked));
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
            // Whatever came before the waker was in its place woke nobody here.
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
        let visit = Visit { shared: &self.shared, after: Some(self.shared.source.replace(Source::Away)) };
        let (lower, upper) = match &visit.after {
            Some(Source::Here(stream)) => stream.size_hint(),
            Some(Source::Ended | Source::Panicked) => (0, Some(0)),
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
    /// Another reader, which goes on from where this one stands.
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

/// Who waits for the source, or for room. The source's waker is made of this, so it may be woken on any thread.
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

    /// Wakes all that wait, one after the other so that it allocates nothing.
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
