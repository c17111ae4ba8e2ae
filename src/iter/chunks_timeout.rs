//! Items in batches, none of which waits for long: [`chunks_timeout`].
//!
//! The adapter asks the source first, so a chunk is as full as it can be. It checks the time when
//! the source has nothing or the task has no budget.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::time::{Sleep, sleep};

/// Yields the items of `stream` in chunks: when there are `n`, or when `limit` has passed since the
/// first item of the chunk came.
///
/// No chunk is empty. The items left when the source ends are the last chunk. With a `limit` of
/// zero a chunk is everything that is there at once, up to `n`.
///
/// Dropping a wait for the next chunk loses nothing: the items stay, and the time runs on. Dropping
/// the adapter drops them and the source.
///
/// # Panics
///
/// "a chunk needs room for at least one item" if `n` is 0. When polled after an item has come, as
/// [`sleep`].
///
/// ```
/// use std::time::Duration;
/// use futures::StreamExt;
/// use postlude::{iter, time};
///
/// # postlude::Runtime::builder().paused_clock().build().unwrap().block_on(async {
/// let lines = iter::generate(async |out| {
///     for n in 1..=4 {
///         out.emit(n).await;
///     }
///     time::sleep(Duration::from_secs(60)).await;
///     out.emit(5).await;
/// });
/// let chunks = iter::chunks_timeout(lines, 3, Duration::from_secs(1));
/// assert_eq!(chunks.collect::<Vec<_>>().await, [vec![1, 2, 3], vec![4], vec![5]]);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn chunks_timeout<S: Stream>(stream: S, n: usize, limit: Duration) -> ChunksTimeout<S> {
    assert!(n > 0, "a chunk needs room for at least one item");
    ChunksTimeout { stream, n, limit, items: Vec::new(), due: None, ended: false }
}

pin_project! {
    /// The stream of [`chunks_timeout`].
    #[must_use = "streams do nothing unless polled"]
    pub struct ChunksTimeout<S: Stream> {
        #[pin]
        stream: S,
        n: usize,
        limit: Duration,
        // Fewer than `n` between polls.
        items: Vec<S::Item>,
        // Set while there are items.
        due: Option<Sleep>,
        ended: bool,
    }
}

impl<S: Stream> Stream for ChunksTimeout<S> {
    type Item = Vec<S::Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<S::Item>>> {
        if self.is_terminated() {
            return budget::poll_proceed(cx).map(|()| None);
        }
        let mut this = self.as_mut().project();
        while !*this.ended && this.items.len() < *this.n {
            // Check the deadline even without budget; a busy sibling future could postpone it
            // forever.
            if budget::poll_available(cx).is_pending() {
                return self.poll_due(cx);
            }
            match this.stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    this.items.push(item);
                    this.due.get_or_insert_with(|| sleep(*this.limit));
                }
                Poll::Ready(None) => *this.ended = true,
                Poll::Pending => return self.poll_due(cx),
            }
            budget::spend();
        }
        Poll::Ready(self.take_chunk())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.items.len();
        let (lower, upper) = if self.ended { (0, Some(0)) } else { self.stream.size_hint() };
        // Each item may be a chunk of its own.
        let rest = upper.and_then(|upper| upper.checked_add(usize::from(held > 0)));
        (lower.saturating_add(held).div_ceil(self.n), rest)
    }
}

impl<S: Stream> ChunksTimeout<S> {
    fn poll_due(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<S::Item>>> {
        let Some(due) = self.as_mut().project().due else { return Poll::Pending };
        ready!(due.poll_deadline(cx));
        Poll::Ready(self.take_chunk())
    }

    fn take_chunk(self: Pin<&mut Self>) -> Option<Vec<S::Item>> {
        let this = self.project();
        *this.due = None;
        Some(std::mem::take(this.items)).filter(|items| !items.is_empty())
    }
}

impl<S: Stream> FusedStream for ChunksTimeout<S> {
    fn is_terminated(&self) -> bool {
        self.ended && self.items.is_empty()
    }
}

impl<S: Stream> fmt::Debug for ChunksTimeout<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunksTimeout")
            .field("n", &self.n)
            .field("limit", &self.limit)
            .field("held", &self.items.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
