//! The server's stop, as handlers, streams, upgrades and background tasks see it.
//!
//! A stop has two moments. First it is *announced*: readiness routes turn unhealthy, and everything
//! else goes on. Then it *begins*: the listeners close, and [`Stopping`] is ready. Without
//! [`Server::ready_delay`](crate::http::Server::ready_delay) the two fall together. Each moment is
//! a [`CancelToken`], so any number of futures may wait for it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::task::{CancelToken, Cancelled};

/// The two moments of a server's stop.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) announced: CancelToken,
    pub(crate) begun: CancelToken,
}

impl Stop {
    pub(crate) fn stopping(&self) -> Stopping {
        Stopping { announced: self.announced.clone(), begun: self.begun.clone(), waiting: self.begun.cancelled() }
    }
}

/// A future that is ready once the server stops: an extractor, and a value of the server
/// ([`Server::stopping`](crate::http::Server::stopping)).
///
/// Handlers, streams, upgraded connections and background tasks that could outlast
/// [`Limits::drain_limit`](crate::http::Limits::drain_limit) await it to end in time. A clone waits
/// for itself. Once ready it may be polled again, and is ready again.
///
/// ```
/// use std::time::Duration;
/// use postlude::http::{Rejection, Router, Stopping};
/// use postlude::time::timeout;
/// let router = Router::new()
///     .get("/poll", async |stopping: Stopping| match timeout(Duration::from_secs(50), stopping).await {
///         Ok(()) => "the server stops, ask its successor",
///         Err(_) => "nothing new",
///     })
///     // For the load balancer, which turns away during `Server::ready_delay`.
///     .get("/ready", async |stopping: Stopping| match stopping.is_announced() {
///         true => Err(Rejection::new(503, "stopping")),
///         false => Ok("ready"),
///     });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Stopping {
    announced: CancelToken,
    begun: CancelToken,
    waiting: Cancelled,
}

impl Stopping {
    /// Returns whether the server has been told to stop. It may still accept connections, until
    /// [`Server::ready_delay`](crate::http::Server::ready_delay) is over.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled() || self.has_begun()
    }

    /// Returns whether the stop has begun, so that the future is ready.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.waiting).poll(cx)
    }
}

impl Clone for Stopping {
    fn clone(&self) -> Self {
        Self { announced: self.announced.clone(), begun: self.begun.clone(), waiting: self.begun.cancelled() }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping")
            .field("is_announced", &self.is_announced())
            .field("has_begun", &self.has_begun())
            .finish()
    }
}

/// A stream that ends when the server stops.
pub(crate) struct UntilStop<S> {
    pub(crate) stream: S,
    pub(crate) stopping: Stopping,
}

impl<S: Stream + Unpin> Stream for UntilStop<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if Pin::new(&mut self.stopping).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.stream).poll_next(cx)
    }
}
