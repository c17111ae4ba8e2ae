//! The socket of a connection that has left HTTP.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::prefixed::Prefixed;
use super::stopping::Stopping;

/// Runs on the socket after the 101.
pub(crate) type OnUpgrade = Box<dyn FnOnce(Upgraded) -> UpgradeFuture>;
pub(crate) type UpgradeFuture = Pin<Box<dyn Future<Output = ()>>>;

trait Transport: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Transport for T {}

/// A connection that has left HTTP, for the function of
/// [`Response::upgrade`](crate::http::Response::upgrade).
///
/// It implements `futures_io::{AsyncRead, AsyncWrite}`; it first reads the bytes that the client
/// sent after the request. The server's limits do not apply to it any more. Dropping it closes the
/// connection.
///
/// When the server stops, a read that would wait returns 0, as at the client's end: so an idle
/// connection ends at once. A function that says goodbye first awaits [`Stopping`] and calls
/// [`outlive_stop`](Self::outlive_stop). After `Limits::drain_limit` the server cuts it.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use postlude::http::{Response, Router, Upgraded};
/// let router = Router::new().get("/shout", async || {
///     Response::upgrade("shout", async |mut client: Upgraded| {
///         let mut word = [0; 5];
///         if client.read_exact(&mut word).await.is_ok() {
///             let _ = client.write_all(&word.to_ascii_uppercase()).await;
///         }
///     })
/// });
/// ```
pub struct Upgraded {
    io: Prefixed<Box<dyn Transport + Unpin>>,
    /// Ends reads that wait. Unset by `outlive_stop`.
    stopping: Option<Stopping>,
}

impl Upgraded {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Unpin + 'static, left: Vec<u8>, stopping: Stopping) -> Self {
        Self { io: Prefixed::new(Box::new(io), left), stopping: Some(stopping) }
    }

    /// Lets reads wait for the client although the server stops: for a closing handshake.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use postlude::http::{Response, Router, Stopping, Upgraded};
    /// let router = Router::new().get("/wait", async |stopping: Stopping| {
    ///     Response::upgrade("wait", async |mut client: Upgraded| {
    ///         client.outlive_stop();
    ///         stopping.await;
    ///         let _ = client.write_all(b"bye").await;
    ///         let _ = client.read(&mut [0; 3]).await;
    ///     })
    /// });
    /// ```
    pub fn outlive_stop(&mut self) {
        self.stopping = None;
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let stops = |stopping: &mut Stopping| Pin::new(stopping).poll(cx).is_ready();
        if read.is_pending() && self.stopping.as_mut().is_some_and(stops) { Poll::Ready(Ok(0)) } else { read }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("io", &self.io).finish_non_exhaustive()
    }
}
