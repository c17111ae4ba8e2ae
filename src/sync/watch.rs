//! A channel that holds the latest value and tells receivers when it changes.
//!
//! The value is an `Rc` that is replaced, never written to, so a [`Ref`] is a snapshot that blocks
//! no other task. `send_modify` works on a clone: the closure may use the channel itself, and a
//! panic leaves everything as it was. Each new value increments the version; a receiver is the
//! version that it has seen.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

pub use super::error::SendError;
use super::waiters::{Step, Waiters, forget_wait, poll_spending, wait_until, wake_queue};
use crate::executor::budget;

/// All senders are gone, so the value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all senders are gone, so the value will not change")
    }
}

impl std::error::Error for Closed {}

struct WatchState<T> {
    value: Rc<T>,
    version: u64,
    senders: usize,
    receivers: usize,
    changing: Waiters<()>,
    // Senders in `closed().await`.
    closing: Waiters<()>,
}

/// Makes a channel with a first value, which counts as seen by its receiver.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// let (sender, mut level) = postlude::sync::watch::channel(1);
/// postlude::spawn(async move { sender.send(2).unwrap() });
/// assert_eq!(*level.borrow(), 1);
/// level.changed().await.unwrap();
/// assert_eq!(*level.borrow_and_update(), 2);
/// assert!(level.wait_for(|&level| level > 5).await.is_err(), "the sender is gone");
/// # }) }
/// ```
#[must_use]
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = WatchState {
        value: Rc::new(value),
        version: 0,
        senders: 1,
        receivers: 1,
        changing: Waiters::new(),
        closing: Waiters::new(),
    };
    let state = Rc::new(RefCell::new(state));
    (Sender { state: Rc::clone(&state) }, Receiver { state, seen: 0, key: None })
}

/// A snapshot of the value.
#[derive(Clone, Debug)]
pub struct Ref<T>(Rc<T>);

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A sending end. When the last one is dropped, waiting receivers get [`Closed`].
pub struct Sender<T> {
    state: Rc<RefCell<WatchState<T>>>,
}

impl<T> Sender<T> {
    /// Replaces the value, or gives the new one back if there is no receiver;
    /// [`send_replace`](Self::send_replace) keeps it for later ones.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Replaces the value, even without receivers, and returns the old one.
    pub fn send_replace(&self, value: T) -> Ref<T> {
        let value = Rc::new(value);
        let mut state = self.state.borrow_mut();
        let old = std::mem::replace(&mut state.value, value);
        state.version += 1;
        let waiting = !state.changing.is_empty();
        drop(state);
        if waiting {
            wake_queue(&self.state, |state| &mut state.changing);
        }
        Ref(old)
    }

    /// Changes the value in place.
    ///
    /// The closure works on a clone, which becomes the value when the closure returns. That
    /// overwrites anything the closure itself sends, and nothing happens if the closure panics.
    pub fn send_modify(&self, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value in place, as [`send_modify`](Self::send_modify) does, if the closure
    /// returns true. Returns what the closure returned.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool
    where
        T: Clone,
    {
        let mut value = (*self.borrow()).clone();
        let modified = change(&mut value);
        if modified {
            self.send_replace(value);
        }
        modified
    }

    /// Returns the present value.
    #[must_use]
    pub fn borrow(&self) -> Ref<T> {
        Ref(Rc::clone(&self.state.borrow().value))
    }

    /// Makes a receiver, for which the present value counts as seen.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.state.borrow_mut();
        state.receivers += 1;
        Receiver { state: Rc::clone(&self.state), seen: state.version, key: None }
    }

    /// Returns how many receivers there are.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.state.borrow().receivers
    }

    /// Waits until there is no receiver.
    ///
    /// Dropping the future loses nothing.
    pub async fn closed(&self) {
        wait_until(&self.state, |state| &mut state.closing, |state| state.receivers == 0).await;
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
            wake_queue(&self.state, |state| &mut state.changing);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("value", &*self.borrow()).field("receivers", &self.receiver_count()).finish()
    }
}

/// A receiving end, and an async iterator of clones of the new values, which may skip some.
pub struct Receiver<T> {
    state: Rc<RefCell<WatchState<T>>>,
    // The version that it has seen.
    seen: u64,
    key: Option<usize>,
}

impl<T> Receiver<T> {
    /// Returns the present value, without marking it as seen.
    #[must_use]
    pub fn borrow(&self) -> Ref<T> {
        Ref(Rc::clone(&self.state.borrow().value))
    }

    /// Returns the present value and marks it as seen.
    #[must_use]
    pub fn borrow_and_update(&mut self) -> Ref<T> {
        let state = self.state.borrow();
        self.seen = state.version;
        Ref(Rc::clone(&state.value))
    }

    /// Returns whether there is a value that it has not seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seen != self.state.borrow().version
    }

    /// Waits for a value that it has not seen, and marks it as seen.
    ///
    /// Dropping the future loses nothing. Fails with [`Closed`] if all senders are gone and the
    /// last value has been seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        Changed { receiver: self }.await
    }

    /// Waits until the value satisfies the condition, beginning with the present one, and marks it
    /// as seen.
    ///
    /// Fails with [`Closed`] if all senders are gone and the last value does not satisfy the
    /// condition.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, but values passed to the condition count as seen.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<Ref<T>, Closed> {
        // The condition may hold at once, time and again.
        poll_fn(budget::poll_proceed).await;
        loop {
            let value = self.borrow_and_update();
            if condition(&value) {
                return Ok(value);
            }
            drop(value);
            self.changed().await?;
        }
    }

    /// Marks the present value as not seen, so the next wait or item returns it.
    pub fn mark_changed(&mut self) {
        self.seen = self.state.borrow().version.wrapping_sub(1);
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Self { state, seen, key } = self;
        let polled = poll_spending(cx, |waker, spare| {
            let state = &mut *state.borrow_mut();
            if *seen != state.version {
                *seen = state.version;
                return Step::Done(Ok(()));
            }
            if state.senders == 0 { Step::Done(Err(Closed(()))) } else { state.changing.wait(key, waker, spare) }
        });
        if polled.is_ready() {
            self.forget();
        }
        polled
    }

    fn forget(&mut self) {
        forget_wait(&self.state, |state| &mut state.changing, &mut self.key);
    }
}

impl<T> Clone for Receiver<T> {
    /// Makes another receiver, which has seen the same version.
    fn clone(&self) -> Self {
        self.state.borrow_mut().receivers += 1;
        Self { state: Rc::clone(&self.state), seen: self.seen, key: None }
    }
}

impl<T: Clone> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_changed(cx).map(|changed| changed.ok().map(|()| (*self.borrow()).clone()))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.forget();
        let mut state = self.state.borrow_mut();
        state.receivers -= 1;
        let last = state.receivers == 0;
        drop(state);
        if last {
            wake_queue(&self.state, |state| &mut state.closing);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("value", &*self.borrow()).field("changed", &self.has_changed()).finish()
    }
}

struct Changed<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T> Future for Changed<'_, T> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.receiver.poll_changed(cx)
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        self.receiver.forget();
    }
}
