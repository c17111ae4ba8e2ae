//! Coroutines: generators that are sent a value for each item they hand out.
//!
//! [`Coroutine::resume`] puts a value in the shared slot and polls the body until it emits or
//! returns. The first value is the body's argument, each further one the result of an `ask`, so
//! values and items strictly alternate.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::body::{BodyFuture, EmitSlot, Out};

/// Makes a coroutine of `body`: the first [`resume`](Coroutine::resume) starts it with a value,
/// each further one sends a value that [`Out::ask`] returns (Python's `asend`).
///
/// Nothing runs before the first `resume`. Dropping the coroutine drops the body where it stands
/// (`aclose`). A panic of the body goes to the caller of `resume` and ends the coroutine. A
/// coroutine allocates once, and nothing per value.
///
/// ```
/// use postlude::iter::{self, Resumed};
///
/// # postlude::run(async {
/// let mut average = std::pin::pin!(iter::coroutine(async |first: f64, out| {
///     let (mut sum, mut count) = (first, 1.0);
///     while count < 3.0 {
///         sum += out.ask(sum / count).await;
///         count += 1.0;
///     }
///     sum
/// }));
/// assert_eq!(average.as_mut().resume(10.0).await, Resumed::Yielded(10.0));
/// assert_eq!(average.as_mut().resume(20.0).await, Resumed::Yielded(15.0));
/// assert_eq!(average.as_mut().resume(60.0).await, Resumed::Complete(90.0));
/// # }).unwrap();
/// ```
pub fn coroutine<T, S, R>(
    body: impl AsyncFnOnce(S, &mut Out<T, S>) -> R,
) -> Coroutine<T, S, R, impl Future<Output = R>> {
    let slot = EmitSlot::new();
    let mut out = Out::new(&slot);
    let first = std::rc::Rc::clone(&slot);
    let future = async move {
        let first = std::future::poll_fn(move |_| first.sent.take().map_or(Poll::Pending, Poll::Ready)).await;
        body(first, &mut out).await
    };
    Coroutine { body: BodyFuture::new(slot, future) }
}

impl<T, S> Out<T, S> {
    /// Hands out an item in a coroutine, and returns the value sent for it. A generator uses
    /// [`emit`](Out::emit).
    ///
    /// # Cancel safety
    ///
    /// An `ask` dropped before its first poll drops the item. Once it has been polled, the item is
    /// delivered even if the `ask` is dropped. The value sent for such an item is dropped when the
    /// next item is handed out, so each `ask` returns the value sent for its own item.
    pub async fn ask(&mut self, item: T) -> S {
        self.hand_out(item).answer().await
    }
}

/// The outcome of a [`resume`](Coroutine::resume).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed<T, R> {
    /// The body emitted this item and waits for the next `resume`.
    Yielded(T),
    /// The body returned this. Resuming again panics.
    Complete(R),
}

pin_project! {
    /// A coroutine, made by [`coroutine`]. Not `Unpin`: pin it with `pin!` or `Box::pin`.
    #[must_use = "a coroutine does nothing unless resumed"]
    pub struct Coroutine<T, S, R, F> {
        #[pin]
        body: BodyFuture<T, S, F, R>,
    }
}

impl<T, S, R, F: Future<Output = R>> Coroutine<T, S, R, F> {
    /// Sends a value in and runs the body until it emits or returns.
    ///
    /// # Panics
    ///
    /// "this coroutine has completed" if polled after the body has returned or panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll, it drops the value and changes nothing. Dropped later, it
    /// leaves the body where it is. The next `resume` then continues there: it gets the answer to
    /// the dropped one's value, and its own value is dropped unless the body takes it on the way.
    pub fn resume(self: Pin<&mut Self>, value: S) -> Resume<'_, T, S, R, F> {
        Resume { coroutine: self, value: Some(value) }
    }

    /// Returns whether the body has panicked, or has returned and its output has been fetched.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.body.is_over() && self.body.output.is_none()
    }

    fn poll_resume(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resumed<T, R>> {
        let mut body = self.project().body;
        body.as_mut().poll_item(cx).map(|item| match item {
            Some(item) => {
                // Sent for an item that an earlier, dropped `resume` had asked for.
                drop(body.slot.sent.take());
                Resumed::Yielded(item)
            }
            None => match body.take_output() {
                Some(output) => Resumed::Complete(output),
                None => panic!("this coroutine has completed; ask `is_complete` before resuming it again"),
            },
        })
    }
}

impl<T, S, R, F> fmt::Debug for Coroutine<T, S, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine").finish_non_exhaustive()
    }
}

/// The future of [`Coroutine::resume`].
#[must_use = "futures do nothing unless awaited"]
pub struct Resume<'a, T, S, R, F> {
    coroutine: Pin<&'a mut Coroutine<T, S, R, F>>,
    /// Unset once it has been sent.
    value: Option<S>,
}

/// The value is moved, never pinned.
impl<T, S, R, F> Unpin for Resume<'_, T, S, R, F> {}

impl<T, S, R, F: Future<Output = R>> Future for Resume<'_, T, S, R, F> {
    type Output = Resumed<T, R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resumed<T, R>> {
        if let Some(value) = self.value.take() {
            let unsent = self.coroutine.body.slot.sent.replace(Some(value));
            drop(unsent);
        }
        self.coroutine.as_mut().poll_resume(cx)
    }
}

impl<T, S, R, F> fmt::Debug for Resume<'_, T, S, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume").field("sent", &self.value.is_none()).finish_non_exhaustive()
    }
}
