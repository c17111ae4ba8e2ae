//! At most one item per period: [`throttle`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::executor::budget;
use crate::time::{Sleep, sleep};

/// Yields the items of `stream`, each at least `period` after the one before. The first does not
/// wait.
///
/// No item is dropped: the adapter does not poll the source before the period is over. So it finds
/// the end then, too.
///
/// Dropping a wait for the next item loses nothing; dropping the adapter drops the source.
///
/// # Panics
///
/// When polled after the first item, as [`sleep`].
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::time::Duration;
/// use futures::StreamExt;
/// let slow = postlude::iter::throttle(futures::stream::iter([1, 2]), Duration::from_millis(1));
/// assert_eq!(slow.collect::<Vec<_>>().await, [1, 2]);
/// # }) }
/// ```
pub fn throttle<S: Stream>(stream: S, period: Duration) -> Throttle<S> {
    Throttle { stream, period, gate: None, ended: false }
}

pin_project! {
    /// The stream of [`throttle`].
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Throttle<S> {
        #[pin]
        stream: S,
        period: Duration,
        // Set from an item until its period is over.
        gate: Option<Sleep>,
        ended: bool,
    }
}

impl<S: Stream> Stream for Throttle<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if *this.ended {
            return budget::poll_proceed(cx).map(|()| None);
        }
        ready!(budget::poll_available(cx));
        if let Some(gate) = this.gate {
            ready!(Pin::new(gate).poll(cx));
            *this.gate = None;
        }
        let item = ready!(this.stream.poll_next(cx));
        budget::spend();
        match item {
            Some(_) => *this.gate = Some(sleep(*this.period)),
            None => *this.ended = true,
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended { (0, Some(0)) } else { self.stream.size_hint() }
    }
}

impl<S: Stream> FusedStream for Throttle<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
