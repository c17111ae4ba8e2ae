//! The latest item, once there was quiet: [`debounce`].
//!
//! Each item takes the place of the one held and sets the time anew. The source goes first: what is there counts as said, so that no item
//! is given while a later one waits. Only where the task's budget ends the source is not asked, and an item whose time is over is given
//! all the same: else a source that is ready without end would put it off for ever.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::time::{Sleep, sleep};

/// Yields the latest item of `stream` once nothing has followed it for `quiet`. What it followed is dropped.
///
/// The time counts from the poll that finds the item. When the source ends, the item held is given at once. A source that never pauses
/// for so long yields nothing until then. With a `quiet` of zero it yields the last of the items that are there, or of as many of them as
/// the task's budget allows one poll.
///
/// # Cancel safety
///
/// Dropping a wait for the next item loses nothing, and the time runs on; dropping the adapter drops the source and the item held.
///
/// # Panics
///
/// When polled, as [`sleep`], once there was an item.
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
        // The latest item, and when it is to be given.
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
        // Out of budget the time limit is still looked at: a busy task must not put it off for ever.
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
