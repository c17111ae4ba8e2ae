//! A time limit between items: [`timeout()`].
//!
//! The adapter asks the source first, so an item that is there is never late. The limit begins with
//! the first poll that finds no item.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::time::{Elapsed, Sleep, sleep};

/// Yields the items of `stream` as `Ok`, and an [`Elapsed`] whenever the next one takes longer than
/// `limit`.
///
/// After an [`Elapsed`] the adapter waits on, with a new limit. With a `limit` of zero every poll
/// that finds no item yields one.
///
/// Dropping a wait for the next item loses nothing, and its limit runs on. Dropping the adapter
/// drops the source.
///
/// # Panics
///
/// When polled while there is no item, as [`sleep`].
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::time::Duration;
/// use futures::StreamExt;
/// let limit = Duration::from_millis(1);
/// let mut silent = postlude::iter::timeout(futures::stream::pending::<()>(), limit);
/// assert!(silent.next().await.unwrap().is_err());
/// # }) }
/// ```
pub fn timeout<S: Stream>(stream: S, limit: Duration) -> Timeout<S> {
    Timeout { stream, limit, sleep: None, put_off: false, ended: false }
}

pin_project! {
    /// The stream of [`timeout()`].
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Timeout<S> {
        #[pin]
        stream: S,
        limit: Duration,
        // Set while the adapter waits for an item.
        sleep: Option<Sleep>,
        // Whether an `Elapsed` was postponed for lack of budget: once only.
        put_off: bool,
        ended: bool,
    }
}

impl<S: Stream> Stream for Timeout<S> {
    type Item = Result<S::Item, Elapsed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if *this.ended {
            return budget::poll_proceed(cx).map(|()| None);
        }
        if budget::poll_available(cx).is_ready() {
            if let Poll::Ready(item) = this.stream.poll_next(cx) {
                budget::spend();
                (*this.sleep, *this.put_off) = (None, false);
                *this.ended = item.is_none();
                return Poll::Ready(item.map(Ok));
            }
        }
        let has_had_its_turn = budget::has_budget();
        ready!(this.sleep.get_or_insert_with(|| sleep(*this.limit)).poll_deadline(cx));
        if !has_had_its_turn && !std::mem::replace(this.put_off, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        (*this.sleep, *this.put_off) = (None, false);
        Poll::Ready(Some(Err(Elapsed)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Any number of `Elapsed` may come between the items.
        if self.ended { (0, Some(0)) } else { (self.stream.size_hint().0, None) }
    }
}

impl<S: Stream> FusedStream for Timeout<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
