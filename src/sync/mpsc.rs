//! A queue of values from many tasks to one.
//!
//! The items stand in one cell with the senders that wait for room. There is room while items and
//! *held* places (kept by a `Permit`, or given to a sender that waited) are together below the
//! limit. So sending is a push, receiving is a pop, and nothing else is counted. A closed channel
//! has the limit zero; an unbounded one has a limit that memory never reaches. The receiver is
//! alone, so it waits in a slot instead of a queue.
//!
//! # Invariants
//!
//! - Items and held places together never exceed the capacity. While a sender waits they do not
//!   fall below it either: room that comes back goes to the first in line before any other task can
//!   see it.
//! - The receiver is woken after every item, when the last sender goes, and, once closed, when a
//!   held place comes back unused.
//!
//! `send` and `recv` return structs: an `async fn` around each would add a second state machine to
//! every message.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;

pub use super::error::SendError;
use super::waiters::{Step, Waiters, WakerSlot, poll_spending, wait_until};
use crate::event_loop::wake::{discard, wake_all};
use crate::executor::budget;

/// Largest capacity that an empty channel keeps allocated. A receiver that keeps pace finds fewer
/// items between two polls.
const KEPT: usize = 1024;

/// The limit of an unbounded channel: never reached, and sums with it do not overflow.
const UNBOUNDED: usize = usize::MAX / 2;

/// Why an item was not sent at once. Holds the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or other tasks wait for it: `send` waits in line.
    Full(T),
    /// The receiver is closed or gone.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// Returns the item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the channel is full",
            Self::Closed(_) => "the channel's receiver is closed",
        })
    }
}

impl<T> std::error::Error for TrySendError<T> {}

/// The receiver is closed or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel's receiver is closed")
    }
}

impl std::error::Error for Closed {}

/// Why [`Receiver::try_recv`] has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// No item is there at the moment.
    Empty,
    /// No item will come: all senders are gone, or the channel was closed and is drained.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the channel is empty",
            Self::Closed => "the channel is empty and nobody will send",
        })
    }
}

impl std::error::Error for TryRecvError {}

struct Chan<T> {
    state: RefCell<ChannelState<T>>,
    receiver: WakerSlot,
    senders: Cell<usize>,
    capacity: usize,
}

struct ChannelState<T> {
    items: VecDeque<T>,
    // Places without an item: kept by a `Permit`, or given to a waiting sender not yet polled
    // again.
    held: usize,
    // Bound on items and held places: the capacity, and zero once the channel is closed.
    limit: usize,
    // Senders that wait for room; empty while there is room.
    sending: Waiters<Admission>,
    // Senders in `closed().await`.
    closing: Waiters<()>,
    receiver_gone: bool,
}

/// The answer to a sender that waited.
enum Admission {
    /// It holds a place.
    Given,
    Refused,
}

impl<T> ChannelState<T> {
    fn is_closed(&self) -> bool {
        self.limit == 0
    }

    fn has_room(&self) -> bool {
        self.items.len() + self.held < self.limit
    }

    /// Gives a place that has just come back to the first waiting sender. Returns that sender's
    /// waker.
    fn hand(&mut self) -> Option<Waker> {
        let sender = self.sending.hand_first(|_| {})?;
        self.held += 1;
        Some(sender)
    }

    /// Looks for room, and holds a place once there is some.
    fn step(&mut self, key: &mut Option<usize>, waker: &Waker, spare: &mut Option<Waker>) -> Step<Result<(), Closed>> {
        if key.is_none() {
            if self.has_room() {
                self.held += 1;
                return Step::Done(Ok(()));
            }
            if self.is_closed() {
                return Step::Done(Err(Closed(())));
            }
        }
        self.sending.step(key, || Admission::Given, waker, spare).map(|turn| match turn {
            Admission::Given => Ok(()),
            Admission::Refused => Err(Closed(())),
        })
    }

    /// Frees the memory that a burst of items took. Called when there are none.
    #[inline]
    fn give_back(&mut self) {
        if self.items.capacity() > KEPT {
            self.items = VecDeque::new();
        }
    }

    /// Sends into a held place. The caller wakes the receiver.
    fn fill(&mut self, item: T) -> Result<(), SendError<T>> {
        self.held -= 1;
        if self.receiver_gone {
            return Err(SendError(item));
        }
        self.items.push_back(item);
        Ok(())
    }
}

impl<T> Chan<T> {
    fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(ChannelState {
                items: VecDeque::new(),
                held: 0,
                limit: capacity,
                sending: Waiters::new(),
                closing: Waiters::new(),
                receiver_gone: false,
            }),
            receiver: WakerSlot::default(),
            senders: Cell::new(1),
            capacity,
        })
    }

    #[inline]
    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state.borrow_mut();
        if !state.has_room() {
            return Err(if state.is_closed() { TrySendError::Closed(item) } else { TrySendError::Full(item) });
        }
        state.items.push_back(item);
        drop(state);
        self.receiver.wake();
        Ok(())
    }

    /// Gives up a held place.
    fn release(&self) {
        let mut state = self.state.borrow_mut();
        state.held -= 1;
        let sender = state.hand();
        let closed = state.is_closed();
        drop(state);
        wake_all(sender);
        if closed {
            self.receiver.wake();
        }
    }

    /// Takes the next item, whose place goes to the next waiting sender.
    #[inline]
    fn take(&self) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let item = state.items.pop_front()?;
        let awaited = !state.sending.is_empty();
        drop(state);
        if awaited {
            self.hand();
        }
        Some(item)
    }

    #[inline(never)] // keeps the common path short
    fn hand(&self) {
        let sender = self.state.borrow_mut().hand();
        wake_all(sender);
    }

    /// Whether a channel without items will get no more.
    fn is_over(&self) -> bool {
        let state = self.state.borrow();
        self.senders.get() == 0 || (state.is_closed() && state.held == 0)
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        self.take().ok_or_else(|| if self.is_over() { TryRecvError::Closed } else { TryRecvError::Empty })
    }

    #[inline]
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        ready!(budget::poll_available(cx));
        let item = match self.take() {
            None => ready!(self.poll_empty(cx)),
            item => item,
        };
        budget::spend();
        Poll::Ready(item)
    }

    #[inline(never)] // keeps the common path short
    fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if !self.is_over() && self.receiver.keep(cx) {
            self.state.borrow_mut().give_back();
            return Poll::Pending;
        }
        self.poll_again(cx)
    }

    /// The channel is over, or the waker is foreign: keeping that one may run code that sends an
    /// item.
    #[cold]
    fn poll_again(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.register(cx);
        let received = self.try_recv();
        if matches!(received, Err(TryRecvError::Empty)) {
            self.state.borrow_mut().give_back();
            return Poll::Pending;
        }
        self.receiver.clear();
        Poll::Ready(received.ok())
    }

    fn cancel_reserve(&self, key: usize) {
        let (turn, waker) = self.state.borrow_mut().sending.remove(key);
        match (turn, waker) {
            (Admission::Given, None) => self.release(),
            (_, waker) => discard(waker),
        }
    }

    fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.limit = 0;
        let mut wakers = state.sending.hand_all(|turn| *turn = Admission::Refused);
        wakers.extend(state.closing.hand_all(|()| {}));
        drop(state);
        wake_all(wakers);
    }

    fn closed(&self) -> bool {
        self.state.borrow().is_closed()
    }

    fn len(&self) -> usize {
        self.state.borrow().items.len()
    }
}

/// A sender's share of the channel, of either kind. The last one to go wakes the receiver.
struct SenderShare<T>(Rc<Chan<T>>);

impl<T> Clone for SenderShare<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Self(Rc::clone(&self.0))
    }
}

impl<T> Drop for SenderShare<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0 {
            self.0.receiver.wake();
        }
    }
}

impl<T> Deref for SenderShare<T> {
    type Target = Chan<T>;

    fn deref(&self) -> &Chan<T> {
        &self.0
    }
}

impl<T> SenderShare<T> {
    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("len", &self.len()).field("closed", &self.closed()).finish()
    }
}

struct Reserve<'a, T> {
    chan: &'a Chan<T>,
    key: Option<usize>,
}

impl<T> Future for Reserve<'_, T> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { chan, key } = &mut *self;
        poll_spending(cx, |waker, spare| chan.state.borrow_mut().step(key, waker, spare))
    }
}

impl<T> Drop for Reserve<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.chan.cancel_reserve(key);
        }
    }
}

struct Sending<'a, T> {
    room: Reserve<'a, T>,
    // `None` once it has been sent or given back.
    item: Option<T>,
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { room: Reserve { chan, key }, item } = &mut *self;
        let sent = ready!(poll_spending(cx, |waker, spare| {
            let state = &mut *chan.state.borrow_mut();
            state.step(key, waker, spare).map(|room| {
                let item = item.take().expect("a send is not polled once it is ready");
                if room.is_ok() { state.fill(item) } else { Err(SendError(item)) }
            })
        }));
        if sent.is_ok() {
            chan.receiver.wake();
        }
        Poll::Ready(sent)
    }
}

// The item is moved, never pinned.
impl<T> Unpin for Sending<'_, T> {}

/// Makes a channel with room for `capacity` items; a sender that finds it full waits in line.
///
/// # Panics
///
/// "a channel needs room for at least one item" if `capacity` is 0, and "a channel's capacity is at
/// most usize::MAX / 2".
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::sync::mpsc;
/// let (sender, mut receiver) = mpsc::channel(1);
/// postlude::spawn(async move {
///     sender.send("a").await.unwrap();
///     sender.reserve().await.unwrap().send("b").unwrap();
/// });
/// assert_eq!(receiver.recv().await, Some("a"));
/// assert_eq!(receiver.recv().await, Some("b"));
/// assert_eq!(receiver.recv().await, None);
/// # }) }
/// ```
#[must_use]
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one item");
    assert!(capacity <= UNBOUNDED, "a channel's capacity is at most usize::MAX / 2");
    let chan = Chan::new(capacity);
    (Sender { chan: SenderShare(Rc::clone(&chan)) }, Receiver { chan })
}

/// Makes a channel without a limit. Sending never waits, so nothing slows a sender down: prefer
/// [`channel`] where the receiver may be slower.
///
/// ```
/// let (sender, mut receiver) = postlude::sync::mpsc::unbounded();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.try_recv(), Ok(1));
/// ```
#[must_use]
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let chan = Chan::new(UNBOUNDED);
    (UnboundedSender { chan: SenderShare(Rc::clone(&chan)) }, Receiver { chan })
}

/// A sending end of a bounded channel. After the last one is dropped, the receiver ends once it has
/// taken the items in the channel.
pub struct Sender<T> {
    chan: SenderShare<T>,
}

impl<T> Sender<T> {
    /// Sends an item, after waiting for room.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready drops the item, unsent; its place in line, or the
    /// room that it was given, goes to the next sender. [`reserve`](Self::reserve) waits without
    /// the item.
    ///
    /// # Errors
    ///
    /// Gives the item back if the receiver is closed or gone.
    pub fn send(&self, item: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Sending { room: Reserve { chan: &self.chan, key: None }, item: Some(item) }
    }

    /// Sends an item if there is room and no sender waits for it; otherwise gives it back.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.chan.try_send(item)
    }

    /// Waits for room for one item, and keeps it until the permit is used or dropped.
    ///
    /// Dropping the future gives up its place in line; room that it was given goes to the next
    /// sender. Fails with [`Closed`] if the receiver is closed or gone.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, Closed> {
        Reserve { chan: &self.chan, key: None }.await?;
        Ok(Permit { chan: Some(&self.chan) })
    }

    /// Waits until the receiver is closed or gone.
    ///
    /// Dropping the future loses nothing.
    pub async fn closed(&self) {
        wait_until(&self.chan.state, |state| &mut state.closing, ChannelState::is_closed).await;
    }

    /// Returns whether the receiver is closed or gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.chan.closed()
    }

    /// Returns how many more items fit now.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let state = self.chan.state.borrow();
        self.chan.capacity - state.items.len() - state.held
    }

    /// Returns how many items the channel was made for.
    #[must_use]
    pub fn max_capacity(&self) -> usize {
        self.chan.capacity
    }

    /// Returns how many items wait for the receiver.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Returns whether no item waits for the receiver.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { chan: self.chan.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chan.fmt("Sender", f)
    }
}

/// Room for one item, reserved for its holder; the drop gives it up.
#[must_use = "the room is given up when this is dropped"]
pub struct Permit<'a, T> {
    // `None` once it has been used.
    chan: Option<&'a Chan<T>>,
}

impl<T> Permit<'_, T> {
    /// Sends the item, or gives it back if the receiver is gone. A receiver that was closed in the
    /// meantime still gets it.
    pub fn send(mut self, item: T) -> Result<(), SendError<T>> {
        match self.chan.take() {
            Some(chan) => {
                chan.state.borrow_mut().fill(item)?;
                chan.receiver.wake();
                Ok(())
            }
            None => Err(SendError(item)),
        }
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if let Some(chan) = self.chan {
            chan.release();
        }
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// A sending end of an unbounded channel. After the last one is dropped, the receiver ends once it
/// has taken the items in the channel.
pub struct UnboundedSender<T> {
    chan: SenderShare<T>,
}

impl<T> UnboundedSender<T> {
    /// Sends an item at once, or gives it back if the receiver is closed or gone.
    #[inline]
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.chan.try_send(item).map_err(|error| SendError(error.into_inner()))
    }

    /// Waits until the receiver is closed or gone.
    ///
    /// Dropping the future loses nothing.
    pub async fn closed(&self) {
        wait_until(&self.chan.state, |state| &mut state.closing, ChannelState::is_closed).await;
    }

    /// Returns whether the receiver is closed or gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.chan.closed()
    }

    /// Returns how many items wait for the receiver.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Returns whether no item waits for the receiver.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for UnboundedSender<T> {
    fn clone(&self) -> Self {
        Self { chan: self.chan.clone() }
    }
}

impl<T> fmt::Debug for UnboundedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chan.fmt("UnboundedSender", f)
    }
}

/// The receiving end of either channel, and an async iterator of the items.
///
/// Dropping it drops the items in the channel and refuses senders.
pub struct Receiver<T> {
    chan: Rc<Chan<T>>,
}

impl<T> Receiver<T> {
    /// Waits for an item. Returns `None` once all items are received and all senders are gone, or
    /// the channel was closed.
    ///
    /// Dropping the future loses nothing: an item that came meanwhile stays in the channel.
    pub fn recv(&mut self) -> impl Future<Output = Option<T>> {
        Recv { chan: &self.chan, waiting: false }
    }

    /// Takes an item if one is there.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.chan.try_recv()
    }

    /// Refuses senders from now on. Items in the channel, and items of permits that are out, can
    /// still be received.
    pub fn close(&mut self) {
        self.chan.close();
    }

    /// Returns how many items wait for it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Returns whether no item waits for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.chan.poll_recv(cx)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.chan.close();
        self.chan.receiver.clear();
        let mut state = self.chan.state.borrow_mut();
        state.receiver_gone = true;
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish()
    }
}

struct Recv<'a, T> {
    chan: &'a Chan<T>,
    // Whether the receiver's slot may hold its waker.
    waiting: bool,
}

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let polled = self.chan.poll_recv(cx);
        self.waiting = polled.is_pending();
        polled
    }
}

impl<T> Drop for Recv<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.waiting {
            self.chan.receiver.clear();
        }
    }
}
