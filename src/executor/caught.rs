//! Panics of user code, caught: their payloads and texts.
//!
//! Each place that runs user code (a poll, a destructor, a waker, a hook) catches its panics, so
//! that they never reach another task or the loop. A payload is a user's value as well, so its
//! destructor may panic in turn.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// The value that a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The text of a panic, or a stand-in.
pub(crate) fn panic_text(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Drops a user's value, and returns the panic of its drop.
pub(crate) fn drop_caught<T>(value: T) -> Option<Payload> {
    catch_unwind(AssertUnwindSafe(|| drop(value))).err()
}

/// Drops the payload of a panic. If that panics in turn, the second payload is leaked: its own drop
/// could panic again, without end.
pub(crate) fn drop_payload(payload: Payload) {
    if let Some(again) = drop_caught(payload) {
        std::mem::forget(again);
    }
}

/// Calls a user's closure.
pub(crate) fn call<T>(code: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

pin_project! {
    /// A user's future whose panics end here: `Err` is the panic of its poll, or of its drop, which
    /// follows in the same poll. Dropped before, it drops the future and its panic silently.
    pub(crate) struct Caught<F> {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Caught<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            if let Err(payload) = call(|| future.set(None)) {
                drop_payload(payload);
            }
        }
    }
}

impl<F> Caught<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }

    /// In place of a future that has ended.
    pub(crate) fn over() -> Self {
        Self { future: None }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Payload>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut place = self.project().future;
        let Some(future) = place.as_mut().as_pin_mut() else { return Poll::Pending };
        let output = match call(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        match call(|| place.set(None)) {
            Ok(()) => Poll::Ready(output),
            Err(payload) => {
                drop_silently(output);
                Poll::Ready(Err(payload))
            }
        }
    }
}

/// Drops a user's value and ignores the panic of its drop, where there is nothing to report it to.
pub(crate) fn drop_silently<T>(value: T) {
    if let Some(payload) = drop_caught(value) {
        drop_payload(payload);
    }
}
