//! A queue of values from many tasks to one.
//!
//! The items and the permits for room stand in one cell, borrowed once per operation. A bounded channel's sender takes a permit, which
//! comes back when the item is received; the unbounded channel is the same with more permits than memory has room for. The receiver is
//! alone, so it waits in a slot instead of a queue.
//!
//! # Invariants
//!
//! - Available permits, items in the queue, and permits held by senders sum up to the capacity.
//! - The receiver is woken after every item, when the last sender goes, and, once closed, when a permit comes back unused.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::semaphore::{Permits, TryAcquireError};
use super::waiters::{Step, Waiters, WakerSlot, forget_wait, poll_steps};
use crate::task::budget;

/// So many that they never run out, and sums of them do not overflow.
const UNBOUNDED: usize = usize::MAX / 2;

/// The receiver was closed or is gone; the item comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel's receiver is closed")
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why an item was not sent at once; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or others wait for it: `send` waits in line.
    Full(T),
    /// The receiver was closed or is gone.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The item.
    ///
    /// ```
    /// assert_eq!(postlude::sync::mpsc::TrySendError::Full(7).into_inner(), 7);
    /// ```
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

/// The receiver was closed or is gone.
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
    /// None is there at the moment.
    Empty,
    /// None will come: all senders are gone, or the channel was closed and is drained.
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
    state: RefCell<State<T>>,
    receiver: WakerSlot,
    senders: Cell<usize>,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    permits: Permits,
    // Senders in `closed().await`.
    closing: Waiters<()>,
    receiver_gone: bool,
}

impl<T> Chan<T> {
    fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                items: VecDeque::new(),
                permits: Permits::new(capacity),
                closing: Waiters::new(),
                receiver_gone: false,
            }),
            receiver: WakerSlot::default(),
            senders: Cell::new(1),
            capacity,
        })
    }

    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state.borrow_mut();
        match state.permits.try_take(1) {
            Ok(()) => {}
            Err(TryAcquireError::NoPermits) => return Err(TrySendError::Full(item)),
            Err(TryAcquireError::Closed) => return Err(TrySendError::Closed(item)),
        }
        state.items.push_back(item);
        drop(state);
        self.receiver.wake();
        Ok(())
    }

    /// Sends with a permit that is held.
    fn send_permitted(&self, item: T) -> Result<(), SendError<T>> {
        let mut state = self.state.borrow_mut();
        if state.receiver_gone {
            return Err(SendError(item));
        }
        state.items.push_back(item);
        drop(state);
        self.receiver.wake();
        Ok(())
    }

    /// Gives a permit back unused.
    fn release(&self) {
        let mut state = self.state.borrow_mut();
        state.permits.available += 1;
        let sender = state.permits.hand();
        let closed = state.permits.closed;
        drop(state);
        wake(sender);
        if closed {
            self.receiver.wake();
        }
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.state.borrow_mut();
        if let Some(item) = state.items.pop_front() {
            state.permits.available += 1;
            let sender = state.permits.hand();
            drop(state);
            wake(sender);
            return Ok(item);
        }
        let drained = state.permits.closed && state.permits.available == self.capacity;
        Err(if drained || self.senders.get() == 0 { TryRecvError::Closed } else { TryRecvError::Empty })
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if budget::poll_available(cx).is_pending() {
            return Poll::Pending;
        }
        let mut registered = false;
        loop {
            let item = match self.try_recv() {
                Ok(item) => Some(item),
                Err(TryRecvError::Closed) => None,
                Err(TryRecvError::Empty) if !registered && self.receiver.register(cx) => {
                    registered = true;
                    continue;
                }
                Err(TryRecvError::Empty) => return Poll::Pending,
            };
            budget::spend();
            return Poll::Ready(item);
        }
    }

    fn poll_reserve(&self, key: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if budget::poll_available(cx).is_pending() {
            return Poll::Pending;
        }
        let polled = poll_steps(cx, |waker, spare| self.state.borrow_mut().permits.step(key, 1, waker, spare));
        if polled.is_ready() {
            budget::spend();
        }
        polled.map_err(|_| Closed(()))
    }

    fn cancel_reserve(&self, key: usize) {
        let mut state = self.state.borrow_mut();
        let own = state.permits.cancel(key);
        let next = state.permits.hand();
        let closed = state.permits.closed;
        drop(state);
        drop(own);
        wake(next);
        if closed {
            self.receiver.wake();
        }
    }

    fn poll_closed(&self, key: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<()> {
        if budget::poll_available(cx).is_pending() {
            return Poll::Pending;
        }
        let polled = poll_steps(cx, |waker, spare| {
            let state = &mut *self.state.borrow_mut();
            match state.permits.closed {
                true => Step::Done(()),
                false => state.closing.step(key, || (), waker, spare),
            }
        });
        if polled.is_ready() {
            budget::spend();
        }
        polled
    }

    fn close(&self) {
        let mut state = self.state.borrow_mut();
        let mut wakers = state.permits.close();
        wakers.extend(state.closing.hand_all(|()| {}));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn closed(&self) -> bool {
        self.state.borrow().permits.closed
    }

    fn len(&self) -> usize {
        self.state.borrow().items.len()
    }

    fn add_sender(&self) {
        self.senders.set(self.senders.get() + 1);
    }

    fn remove_sender(&self) {
        self.senders.set(self.senders.get() - 1);
        if self.senders.get() == 0 {
            self.receiver.wake();
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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
        chan.poll_reserve(key, cx)
    }
}

impl<T> Drop for Reserve<'_, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.chan.cancel_reserve(key);
        }
    }
}

struct Closing<'a, T> {
    chan: &'a Chan<T>,
    key: Option<usize>,
}

impl<T> Future for Closing<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { chan, key } = &mut *self;
        chan.poll_closed(key, cx)
    }
}

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        forget_wait(&self.chan.state, |state| &mut state.closing, &mut self.key);
    }
}

/// Makes a channel with room for `capacity` items; who sends into a full one waits in line.
///
/// # Panics
///
/// "a channel needs room for at least one item" if `capacity` is 0, and "a channel's capacity is at most usize::MAX / 2".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let (sender, mut receiver) = postlude::sync::mpsc::channel(1);
///     postlude::spawn(async move {
///         sender.send("a").await.unwrap();
///         sender.send("b").await.unwrap();
///     });
///     assert_eq!(receiver.recv().await, Some("a"));
///     assert_eq!(receiver.recv().await, Some("b"));
///     assert_eq!(receiver.recv().await, None);
/// })
/// # }
/// ```
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one item");
    assert!(capacity <= UNBOUNDED, "a channel's capacity is at most usize::MAX / 2");
    let chan = Chan::new(capacity);
    (Sender { chan: Rc::clone(&chan) }, Receiver { chan })
}

/// Makes a channel that holds as much as memory does. Sending never waits, so nothing slows a sender down: prefer [`channel`] where
/// the receiver may be the slower one.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let (sender, mut receiver) = postlude::sync::mpsc::unbounded();
///     sender.send(1).unwrap();
///     drop(sender);
///     assert_eq!(receiver.recv().await, Some(1));
///     assert_eq!(receiver.recv().await, None);
/// })
/// # }
/// ```
#[must_use]
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let chan = Chan::new(UNBOUNDED);
    (UnboundedSender { chan: Rc::clone(&chan) }, Receiver { chan })
}

/// A sending end of a bounded channel. When the last one is dropped the receiver ends after the items that are there.
pub struct Sender<T> {
    chan: Rc<Chan<T>>,
}

impl<T> Sender<T> {
    /// Sends an item, waiting for room.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready drops the item with it, unsent; the place in line, or the room it had been given, goes to
    /// the next sender. [`reserve`](Self::reserve) waits without the item.
    ///
    /// # Errors
    ///
    /// The item, once the receiver was closed or is gone.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, receiver) = postlude::sync::mpsc::channel(1);
    /// sender.send(1).await.unwrap();
    /// drop(receiver);
    /// assert_eq!(sender.send(2).await.unwrap_err().0, 2);
    /// # })
    /// # }
    /// ```
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(permit) => permit.send(item),
            Err(_) => Err(SendError(item)),
        }
    }

    /// Sends an item if there is room and nobody waits for it.
    ///
    /// # Errors
    ///
    /// The item, with the reason.
    ///
    /// ```
    /// use postlude::sync::mpsc::{TrySendError, channel};
    /// let (sender, _receiver) = channel(1);
    /// sender.try_send(1).unwrap();
    /// assert!(matches!(sender.try_send(2), Err(TrySendError::Full(2))));
    /// ```
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.chan.try_send(item)
    }

    /// Waits for room for one item, which is then kept for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line, or the room it had been given: that goes to the next sender.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the receiver was closed or is gone.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, mut receiver) = postlude::sync::mpsc::channel(1);
    /// let permit = sender.reserve().await.unwrap();
    /// assert!(sender.try_send(1).is_err());
    /// permit.send(2).unwrap();
    /// assert_eq!(receiver.recv().await, Some(2));
    /// # })
    /// # }
    /// ```
    pub async fn reserve(&self) -> Result<Permit<'_, T>, Closed> {
        Reserve { chan: &self.chan, key: None }.await?;
        Ok(Permit { chan: Some(&self.chan) })
    }

    /// Waits until the receiver was closed or is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, receiver) = postlude::sync::mpsc::channel::<u8>(1);
    /// drop(receiver);
    /// sender.closed().await;
    /// # })
    /// # }
    /// ```
    pub async fn closed(&self) {
        Closing { chan: &self.chan, key: None }.await;
    }

    /// Whether the receiver was closed or is gone.
    ///
    /// ```
    /// let (sender, receiver) = postlude::sync::mpsc::channel::<u8>(1);
    /// drop(receiver);
    /// assert!(sender.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.chan.closed()
    }

    /// How many items there is room for now.
    ///
    /// ```
    /// let (sender, _receiver) = postlude::sync::mpsc::channel(3);
    /// sender.try_send(1).unwrap();
    /// assert_eq!((sender.capacity(), sender.max_capacity(), sender.len()), (2, 3, 1));
    /// ```
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chan.state.borrow().permits.available
    }

    /// How many items it was made for.
    ///
    /// ```
    /// assert_eq!(postlude::sync::mpsc::channel::<u8>(3).0.max_capacity(), 3);
    /// ```
    #[must_use]
    pub fn max_capacity(&self) -> usize {
        self.chan.capacity
    }

    /// How many items wait for the receiver.
    ///
    /// ```
    /// assert_eq!(postlude::sync::mpsc::channel::<u8>(3).0.len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether no item waits for the receiver.
    ///
    /// ```
    /// assert!(postlude::sync::mpsc::channel::<u8>(3).0.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.chan.add_sender();
        Self { chan: Rc::clone(&self.chan) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.chan.remove_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).field("closed", &self.is_closed()).finish()
    }
}

/// Room for one item, kept for its holder; given up when dropped.
#[must_use = "the room is given up when this is dropped"]
pub struct Permit<'a, T> {
    // `None` once it was used.
    chan: Option<&'a Chan<T>>,
}

impl<T> Permit<'_, T> {
    /// Sends the item. A receiver that was closed meanwhile still gets it.
    ///
    /// # Errors
    ///
    /// The item, if the receiver is gone.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, mut receiver) = postlude::sync::mpsc::channel(1);
    /// sender.reserve().await.unwrap().send(2).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(2));
    /// # })
    /// # }
    /// ```
    pub fn send(mut self, item: T) -> Result<(), SendError<T>> {
        match self.chan.take() {
            Some(chan) => chan.send_permitted(item),
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

/// A sending end of an unbounded channel. When the last one is dropped the receiver ends after the items that are there.
pub struct UnboundedSender<T> {
    chan: Rc<Chan<T>>,
}

impl<T> UnboundedSender<T> {
    /// Sends an item, at once.
    ///
    /// # Errors
    ///
    /// The item, once the receiver was closed or is gone.
    ///
    /// ```
    /// let (sender, receiver) = postlude::sync::mpsc::unbounded();
    /// drop(receiver);
    /// assert_eq!(sender.send(7).unwrap_err().0, 7);
    /// ```
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.chan.try_send(item).map_err(|error| SendError(error.into_inner()))
    }

    /// Waits until the receiver was closed or is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, receiver) = postlude::sync::mpsc::unbounded::<u8>();
    /// drop(receiver);
    /// sender.closed().await;
    /// # })
    /// # }
    /// ```
    pub async fn closed(&self) {
        Closing { chan: &self.chan, key: None }.await;
    }

    /// Whether the receiver was closed or is gone.
    ///
    /// ```
    /// let (sender, _receiver) = postlude::sync::mpsc::unbounded::<u8>();
    /// assert!(!sender.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.chan.closed()
    }

    /// How many items wait for the receiver.
    ///
    /// ```
    /// assert_eq!(postlude::sync::mpsc::unbounded::<u8>().0.len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether no item waits for the receiver.
    ///
    /// ```
    /// assert!(postlude::sync::mpsc::unbounded::<u8>().0.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for UnboundedSender<T> {
    fn clone(&self) -> Self {
        self.chan.add_sender();
        Self { chan: Rc::clone(&self.chan) }
    }
}

impl<T> Drop for UnboundedSender<T> {
    fn drop(&mut self) {
        self.chan.remove_sender();
    }
}

impl<T> fmt::Debug for UnboundedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundedSender").field("len", &self.len()).field("closed", &self.is_closed()).finish()
    }
}

/// The receiving end of either channel; an async iterator of the items.
///
/// Dropping it drops the items that are there, and refuses senders.
pub struct Receiver<T> {
    chan: Rc<Chan<T>>,
}

impl<T> Receiver<T> {
    /// Waits for an item; `None` when all senders are gone, or the channel was closed, and the items that were there have been received.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: an item that came meanwhile stays in the channel.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// let (sender, mut receiver) = postlude::sync::mpsc::unbounded();
    /// sender.send(7).unwrap();
    /// assert_eq!(receiver.recv().await, Some(7));
    /// # })
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<T> {
        Recv { chan: &self.chan, waiting: false }.await
    }

    /// Takes an item if one is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: none yet, or none any more.
    ///
    /// ```
    /// let (sender, mut receiver) = postlude::sync::mpsc::unbounded();
    /// assert!(receiver.try_recv().is_err());
    /// sender.send(7).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(7));
    /// ```
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.chan.try_recv()
    }

    /// Refuses senders from now on. What is in the channel, and what comes by permits that are out, can still be received.
    ///
    /// ```
    /// let (sender, mut receiver) = postlude::sync::mpsc::unbounded();
    /// sender.send(1).unwrap();
    /// receiver.close();
    /// assert!(sender.send(2).is_err());
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// ```
    pub fn close(&mut self) {
        self.chan.close();
    }

    /// How many items are there.
    ///
    /// ```
    /// assert_eq!(postlude::sync::mpsc::unbounded::<u8>().1.len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether no item is there.
    ///
    /// ```
    /// assert!(postlude::sync::mpsc::unbounded::<u8>().1.is_empty());
    /// ```
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
    // Whether it may have left its waker.
    waiting: bool,
}

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let polled = self.chan.poll_recv(cx);
        self.waiting = polled.is_pending();
        polled
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        if self.waiting {
            self.chan.receiver.clear();
        }
    }
}
