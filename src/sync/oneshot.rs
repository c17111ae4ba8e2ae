//! A channel for one value, from one task to another.
//!
//! Both ends share a cell for the value and two slots for wakers. The value moves in and out of its
//! cell and is never borrowed.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::waiters::WakerSlot;
use crate::executor::budget;

/// The sender was dropped without sending, or the value was taken already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no value will come: the sender is gone")
    }
}

impl std::error::Error for Closed {}

/// Why [`Receiver::try_recv`] has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// The value has not been sent yet.
    Empty,
    /// No value will come: the sender is gone, or the value was taken already.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no value yet",
            Self::Closed => "no value will come: the sender is gone",
        })
    }
}

impl std::error::Error for TryRecvError {}

struct OneshotCell<T> {
    value: Cell<Option<T>>,
    // Set by the sender, when it sends or is dropped.
    sender_gone: Cell<bool>,
    // Set by the receiver, when it is closed or dropped.
    receiver_closed: Cell<bool>,
    receiver: WakerSlot,
    sender: WakerSlot,
}

/// Makes a channel for one value.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::sync::oneshot;
/// let (sender, receiver) = oneshot::channel();
/// postlude::spawn(async move { sender.send(7).unwrap() });
/// assert_eq!(receiver.await, Ok(7));
/// # }) }
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(OneshotCell {
        value: Cell::new(None),
        sender_gone: Cell::new(false),
        receiver_closed: Cell::new(false),
        receiver: WakerSlot::default(),
        sender: WakerSlot::default(),
    });
    (Sender { shared: Rc::clone(&shared) }, Receiver { shared })
}

/// The sending end. Dropping it without sending is an error for the receiver.
pub struct Sender<T> {
    shared: Rc<OneshotCell<T>>,
}

impl<T> Sender<T> {
    /// Sends the value.
    ///
    /// Gives the value back if the receiver is closed or gone. Success does not mean that the value
    /// will be received.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.shared.receiver_closed.get() {
            return Err(value);
        }
        self.shared.value.set(Some(value));
        Ok(())
    }

    /// Returns whether the receiver is closed or gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.receiver_closed.get()
    }

    /// Waits until the receiver is closed or gone, so that the work for the value can stop.
    ///
    /// Dropping the future loses nothing.
    pub async fn closed(&mut self) {
        let shared = &*self.shared;
        let _waiting = SenderWakerGuard(&shared.sender);
        poll_fn(|cx| {
            ready!(budget::poll_available(cx));
            let closed = || shared.receiver_closed.get();
            // Cloning the waker may have closed it.
            if closed() || (shared.sender.register(cx) && closed()) {
                budget::spend();
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Removes the waker when the wait ends or is dropped.
struct SenderWakerGuard<'a>(&'a WakerSlot);

impl Drop for SenderWakerGuard<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.sender_gone.set(true);
        self.shared.receiver.wake();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

/// The receiving end: a future of the value.
///
/// # Cancel safety
///
/// Awaiting `&mut receiver` and dropping that future loses nothing: the value stays. Dropping the
/// receiver drops a value that was sent.
///
/// # Errors
///
/// [`Closed`] if the sender was dropped without sending, and when polled again after the value.
#[must_use = "futures do nothing unless awaited"]
pub struct Receiver<T> {
    shared: Rc<OneshotCell<T>>,
}

impl<T> Receiver<T> {
    /// Takes the value if it has been sent.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.shared.value.take() {
            Some(value) => Ok(value),
            None if self.shared.sender_gone.get() || self.shared.receiver_closed.get() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Refuses a value that has not been sent yet; one that has can still be taken.
    pub fn close(&mut self) {
        self.shared.receiver_closed.set(true);
        self.shared.sender.wake();
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(budget::poll_available(cx));
        let mut registered = false;
        loop {
            let result = match self.try_recv() {
                Ok(value) => Ok(value),
                Err(TryRecvError::Closed) => Err(Closed(())),
                Err(TryRecvError::Empty) if !registered && self.shared.receiver.register(cx) => {
                    registered = true;
                    continue;
                }
                Err(TryRecvError::Empty) => return Poll::Pending,
            };
            budget::spend();
            return Poll::Ready(result);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        self.shared.receiver.clear();
        drop(self.shared.value.take());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("sender_gone", &self.shared.sender_gone.get()).finish()
    }
}
