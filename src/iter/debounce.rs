//! The latest item, once the source has been quiet: [`debounce`].
//!
//! Each item replaces the held one and restarts the time. The adapter asks the source first, so it
//! never yields an item while a later one is there. Only without budget it does not ask: an item
//! whose time is over is then yielded all the same. Otherwise a source that is always ready would
//! postpone it forever.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::time::{Sleep, sleep};

/// Yields the latest item of `stream` once no other has followed it for `quiet`; drops the items
/// before it.
///
/// The time counts from the poll that finds the item. When the source ends, the held item is
/// yielded at once. A source that never pauses for `quiet` yields nothing before its end. With a
/// `quiet` of zero the adapter yields the last of the items that are there, or of as many as the
/// task's budget allows in one poll.
///
/// Dropping a wait for the next item loses nothing, and the time runs on. Dropping the adapter
/// drops the source and the held item.
///
/// # Panics
///
/// When polled after an item has come, as [`sleep`].
///
/// ```
/// use std::time::Duration;
/// use futures::StreamExt;
/// use postlude::{iter, time};
///
/// # postlude::Runtime::builder().paused_clock().build().unwrap().block_on(async {
/// const MS: Duration = Duration::from_millis(1);
/// let keys = iter::generate(async |out| {
///     for (pause, typed) in [(0, "p"), (50, "po"), (50, "pos"), (500, "post")] {
///         time::sleep(pause * MS).await;
///         out.emit(typed).await;
///     }
/// });
/// assert_eq!(iter::debounce(keys, 100 * MS).collect::<Vec<_>>().await, ["pos", "post"]);
/// # }).unwrap();
/// ```
pub fn debounce<S: Stream>(stream: S, quiet: Duration) -> Debounce<S> {
    Debounce { stream, quiet, held: None, ended: false }
}

pin_project! {
    /// The stream of [`debounce`].
    #[must_use = "streams do nothing unless polled"]
    pub struct Debounce<S: Stream> {
        #[pin]
        stream: S,
        quiet: Duration,
        // The latest item, and the time at which it is yielded.
        held: Option<(S::Item, Sleep)>,
        ended: bool,
    }
}

impl<S: Stream> Stream for Debounce<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        if *this.ended {
            return budget::poll_proceed(cx).map(|()| None);
        }
        // Without budget only the time is checked, below: a busy task must not postpone it forever.
        while budget::poll_available(cx).is_ready() {
            match this.stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    budget::spend();
                    let before = this.held.replace((item, sleep(*this.quiet)));
                    drop(before);
                }
                Poll::Ready(None) => {
                    budget::spend();
                    *this.ended = true;
                    return Poll::Ready(this.held.take().map(|(item, _)| item));
                }
                Poll::Pending => break,
            }
        }
        let Some((_, due)) = this.held else { return Poll::Pending };
        ready!(due.poll_deadline(cx));
        Poll::Ready(this.held.take().map(|(item, _)| item))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        let held = usize::from(self.held.is_some());
        let (lower, upper) = self.stream.size_hint();
        (lower.saturating_add(held).min(1), upper.and_then(|upper| upper.checked_add(held)))
    }
}

impl<S: Stream> FusedStream for Debounce<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S: Stream> fmt::Debug for Debounce<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debounce")
            .field("quiet", &self.quiet)
            .field("holds_item", &self.held.is_some())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
