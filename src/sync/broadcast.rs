//! A channel that gives each value to each receiver.
//!
//! A ring holds the latest values, numbered from the first one ever sent; a receiver is the number
//! that it reads next. A value leaves the ring when every receiver has read it, or when the ring is
//! full and a new one comes. Receivers that had not read it are told how many they missed. So a
//! slow receiver delays no other task and holds no more memory than the ring.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

pub use super::error::SendError;
use super::waiters::{Step, Waiters, forget_wait, poll_spending, wake_queue};

/// The receiver was too slow and missed this many values; it continues with the oldest one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receiver was too slow and missed {} values", self.0)
    }
}

impl std::error::Error for Lagged {}

/// Why [`Receiver::recv`] has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// This many values were missed; the next call returns the oldest one left.
    Lagged(u64),
    /// All senders are gone, and every value has been read.
    Closed,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged(missed) => Lagged(*missed).fmt(f),
            Self::Closed => f.write_str("all senders are gone"),
        }
    }
}

impl std::error::Error for RecvError {}

/// Why [`Receiver::try_recv`] has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// No value is there at the moment.
    Empty,
    /// This many values were missed; the next call returns the oldest one left.
    Lagged(u64),
    /// All senders are gone, and every value has been read.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the channel is empty"),
            Self::Lagged(missed) => Lagged(*missed).fmt(f),
            Self::Closed => f.write_str("all senders are gone"),
        }
    }
}

impl std::error::Error for TryRecvError {}

struct RingValue<T> {
    // Shared with a receiver that clones it outside the borrow.
    value: Rc<T>,
    // How many receivers have not read it yet.
    unread: usize,
}

struct BroadcastState<T> {
    ring: VecDeque<RingValue<T>>,
    capacity: usize,
    // The number of the ring's first value.
    oldest: u64,
    senders: usize,
    receivers: usize,
    waiters: Waiters<()>,
}

impl<T> BroadcastState<T> {
    fn next(&self) -> u64 {
        self.oldest + self.ring.len() as u64
    }

    fn pop(&mut self) -> Option<RingValue<T>> {
        let slot = self.ring.pop_front()?;
        self.oldest += 1;
        Some(slot)
    }

    /// Reads the value with this number, if it is in the ring.
    fn read(&mut self, number: u64) -> Option<Rc<T>> {
        let index = usize::try_from(number.checked_sub(self.oldest)?).ok()?;
        let slot = self.ring.get_mut(index)?;
        slot.unread -= 1;
        // Every reader has read the values before it, so this is the first one.
        if slot.unread == 0 { self.pop().map(|slot| slot.value) } else { Some(Rc::clone(&slot.value)) }
    }

    fn try_recv(&mut self, next: &mut u64) -> Result<Rc<T>, TryRecvError> {
        if *next < self.oldest {
            let missed = self.oldest - *next;
            *next = self.oldest;
            return Err(TryRecvError::Lagged(missed));
        }
        match self.read(*next) {
            Some(value) => {
                *next += 1;
                Ok(value)
            }
            None if self.senders == 0 => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// Makes a channel that keeps the latest `capacity` values for receivers that have not read them
/// yet.
///
/// # Panics
///
/// "a channel needs room for at least one value" if `capacity` is 0.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::sync::broadcast;
/// let (sender, mut first) = broadcast::channel(2);
/// let mut second = sender.subscribe();
/// sender.send("a").unwrap();
/// assert_eq!((first.recv().await, second.recv().await), (Ok("a"), Ok("a")));
/// for word in ["b", "c", "d"] {
///     sender.send(word).unwrap();
/// }
/// assert_eq!(first.recv().await, Err(broadcast::RecvError::Lagged(1)));
/// assert_eq!(first.recv().await, Ok("c"));
/// # }) }
/// ```
#[must_use]
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one value");
    let state = BroadcastState {
        ring: VecDeque::new(),
        capacity,
        oldest: 0,
        senders: 1,
        receivers: 1,
        waiters: Waiters::new(),
    };
    let state = Rc::new(RefCell::new(state));
    (Sender { state: Rc::clone(&state) }, Receiver { state, next: 0, key: None })
}

/// A sending end. When the last one is dropped, the receivers end after the values in the channel.
pub struct Sender<T> {
    state: Rc<RefCell<BroadcastState<T>>>,
}

impl<T> Sender<T> {
    /// Sends a value to all receivers, without waiting, and returns the number of receivers.
    ///
    /// Gives the value back if there is no receiver.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let mut state = self.state.borrow_mut();
        let receivers = state.receivers;
        if receivers == 0 {
            return Err(SendError(value));
        }
        let full = state.ring.len() == state.capacity;
        let pushed_out = if full { state.pop() } else { None };
        state.ring.push_back(RingValue { value: Rc::new(value), unread: receivers });
        let waiting = !state.waiters.is_empty();
        drop(state);
        if waiting {
            wake_queue(&self.state, |state| &mut state.waiters);
        }
        drop(pushed_out);
        Ok(receivers)
    }

    /// Makes a receiver for the values sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.state.borrow_mut();
        state.receivers += 1;
        Receiver { state: Rc::clone(&self.state), next: state.next(), key: None }
    }

    /// Returns how many receivers there are.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.state.borrow().receivers
    }

    /// Returns how many values some receiver has not read yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.borrow().ring.len()
    }

    /// Returns whether every receiver has read everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.state.borrow_mut().senders += 1;
        Self { state: Rc::clone(&self.state) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.senders -= 1;
        let last = state.senders == 0;
        drop(state);
        if last {
            wake_queue(&self.state, |state| &mut state.waiters);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).field("receivers", &self.receiver_count()).finish()
    }
}

/// A receiving end, and an async iterator of the values, in which [`Lagged`] stands for missed
/// ones.
pub struct Receiver<T> {
    state: Rc<RefCell<BroadcastState<T>>>,
    // The number of the value that it reads next.
    next: u64,
    key: Option<usize>,
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value.
    ///
    /// Fails with [`RecvError::Lagged`], once, after values were missed, and with
    /// [`RecvError::Closed`] at the end. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        BroadcastRecv { receiver: self }.await
    }

    /// Takes the next value if one is there.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let value = self.state.borrow_mut().try_recv(&mut self.next)?;
        Ok(owned(value))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        let Self { state, next, key } = self;
        let polled = poll_spending(cx, |waker, spare| {
            let state = &mut *state.borrow_mut();
            match state.try_recv(next) {
                Ok(value) => Step::Done(Ok(value)),
                Err(TryRecvError::Lagged(missed)) => Step::Done(Err(RecvError::Lagged(missed))),
                Err(TryRecvError::Closed) => Step::Done(Err(RecvError::Closed)),
                Err(TryRecvError::Empty) => state.waiters.wait(key, waker, spare),
            }
        });
        if polled.is_ready() {
            self.forget();
        }
        polled.map_ok(owned)
    }
}

/// Returns the value itself to its last reader, a clone to the others.
fn owned<T: Clone>(value: Rc<T>) -> T {
    Rc::try_unwrap(value).unwrap_or_else(|shared| (*shared).clone())
}

impl<T> Receiver<T> {
    /// Returns how many values it has not read yet, missed ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.state.borrow().next() - self.next).unwrap_or(usize::MAX)
    }

    /// Returns whether it has read everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget(&mut self) {
        forget_wait(&self.state, |state| &mut state.waiters, &mut self.key);
    }
}

impl<T: Clone> Stream for Receiver<T> {
    type Item = Result<T, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(|result| match result {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(RecvError::Closed) => None,
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.forget();
        let mut state = self.state.borrow_mut();
        state.receivers -= 1;
        let mut unread = Vec::new();
        for number in self.next.max(state.oldest)..state.next() {
            unread.extend(state.read(number));
        }
        drop(state);
        drop(unread);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish()
    }
}

struct BroadcastRecv<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Clone> Future for BroadcastRecv<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.receiver.poll_recv(cx)
    }
}

impl<T> Drop for BroadcastRecv<'_, T> {
    fn drop(&mut self) {
        self.receiver.forget();
    }
}
