//! The latest value, and word to receivers when it changes.
//!
//! The value is an `Rc` that is replaced, never written to: a [`Ref`] is a snapshot that holds up
//! no other task. `send_modify` works on a clone, so it may look at the channel itself, and leaves
//! everything as it was if it panics. Each new value counts the version up; a receiver is the
//! version it has seen.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

pub use super::error::SendError;
use super::waiters::{Step, Waiters, forget_wait, poll_spending, wake_queue};
use crate::executor::budget;

/// All senders are gone: the value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all senders are gone, so the value will not change")
    }
}

impl std::error::Error for Closed {}

struct State<T> {
    value: Rc<T>,
    version: u64,
    senders: usize,
    receivers: usize,
    changing: Waiters<()>,
    // Senders in `closed().await`.
    closing: Waiters<()>,
}

impl<T> State<T> {
    /// Whether there is something new for who has seen that version; `Err` if there will not be.
    fn changed(&self, seen: &mut u64) -> Option<Result<(), Closed>> {
        if *seen != self.version {
            *seen = self.version;
            return Some(Ok(()));
        }
        (self.senders == 0).then_some(Err(Closed(())))
    }
}

/// Makes a channel with a first value, which its receiver counts as seen.
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
    let state = State {
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

/// The value as it was when this was made.
#[derive(Clone, Debug)]
pub struct Ref<T>(Rc<T>);

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A sending end. When the last one is dropped, waiting receivers are told that nothing will change.
pub struct Sender<T> {
    state: Rc<RefCell<State<T>>>,
}

impl<T> Sender<T> {
    /// Replaces the value.
    ///
    /// # Errors
    ///
    /// Gives the value back if there is no receiver: [`send_replace`](Self::send_replace) keeps it
    /// for later ones.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Replaces the value, even without receivers, and returns the one that was there.
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
    /// The closure works on a clone, which becomes the value when it returns: it overwrites what
    /// the closure itself sends, and nothing happens if the closure panics.
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
    /// returns true; returns what the closure returned.
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

    /// Returns the value as it is now.
    #[must_use]
    pub fn borrow(&self) -> Ref<T> {
        Ref(Rc::clone(&self.state.borrow().value))
    }

    /// Makes a receiver, which counts the present value as seen.
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
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn closed(&self) {
        Closing { state: &self.state, key: None }.await;
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

struct Closing<'a, T> {
    state: &'a RefCell<State<T>>,
    key: Option<usize>,
}

impl<T> Future for Closing<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { state, key } = &mut *self;
        poll_spending(cx, |waker, spare| {
            let state = &mut *state.borrow_mut();
            if state.receivers == 0 { Step::Done(()) } else { state.closing.wait(key, waker, spare) }
        })
    }
}

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        forget_wait(self.state, |state| &mut state.closing, &mut self.key);
    }
}

/// A receiving end; an async iterator of clones of each value it finds new, which may skip some.
pub struct Receiver<T> {
    state: Rc<RefCell<State<T>>>,
    // The version it has seen.
    seen: u64,
    key: Option<usize>,
}

impl<T> Receiver<T> {
    /// Returns the value as it is now, without counting it as seen.
    #[must_use]
    pub fn borrow(&self) -> Ref<T> {
        Ref(Rc::clone(&self.state.borrow().value))
    }

    /// Returns the value as it is now and counts it as seen.
    #[must_use]
    pub fn borrow_and_update(&mut self) -> Ref<T> {
        let state = self.state.borrow();
        self.seen = state.version;
        Ref(Rc::clone(&state.value))
    }

    /// Returns whether there is a value it has not seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seen != self.state.borrow().version
    }

    /// Waits for a value it has not seen, and counts it as seen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Closed`] if all senders are gone and the last value was seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        Changed { receiver: self }.await
    }

    /// Waits until the value satisfies the condition, beginning with the present one; that value
    /// counts as seen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, but values that the condition was given count as seen.
    ///
    /// # Errors
    ///
    /// [`Closed`] if all senders are gone and the last value does not satisfy it.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<Ref<T>, Closed> {
        // It may be so already, time and again.
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

    /// Counts the present value as not seen, so that the next wait or item is about it.
    ///
    /// ```
    /// let (_sender, mut receiver) = postlude::sync::watch::channel(1);
    /// receiver.mark_changed();
    /// assert!(receiver.has_changed());
    /// ```
    pub fn mark_changed(&mut self) {
        self.seen = self.state.borrow().version.wrapping_sub(1);
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Self { state, seen, key } = self;
        let polled = poll_spending(cx, |waker, spare| {
            let state = &mut *state.borrow_mut();
            match state.changed(seen) {
                Some(result) => Step::Done(result),
                None => state.changing.wait(key, waker, spare),
            }
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
    /// Another receiver, which has seen what this one has.
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
