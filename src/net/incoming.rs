//! The connections of a listener as an async iterator, [`Incoming`].

use std::fmt;
use std::io;
use std::os::unix;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The connections of a listener as they come: see [`TcpListener::incoming`] and [`UnixListener::incoming`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use futures_lite::StreamExt;
/// use postlude::net::{Incoming, TcpListener};
///
/// async fn accept_all(mut incoming: Incoming<'_, TcpListener>) -> std::io::Result<()> {
///     while let Some(connection) = incoming.next().await {
///         let (stream, _address) = connection?;
///         drop(postlude::spawn(async move { stream.write_all(b"hello").await }));
///     }
///     Ok(())
/// }
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # drop(accept_all(listener.incoming()));
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a, L> {
    /// `None` after an error: an error of a listener does not pass, and handing it out for ever would keep the thread busy.
    listener: Option<&'a L>,
}

impl<'a, L> Incoming<'a, L> {
    pub(super) fn new(listener: &'a L) -> Self {
        Self { listener: Some(listener) }
    }

    fn poll_with<T>(&mut self, poll: impl FnOnce(&L) -> Poll<io::Result<T>>) -> Poll<Option<io::Result<T>>> {
        let Some(listener) = self.listener else { return Poll::Ready(None) };
        let result = ready!(poll(listener));
        if result.is_err() {
            self.listener = None;
        }
        Poll::Ready(Some(result))
    }
}

impl Stream for Incoming<'_, TcpListener> {
    type Item = io::Result<(TcpStream, std::net::SocketAddr)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_with(|listener| listener.poll_accept(cx))
    }
}

impl Stream for Incoming<'_, UnixListener> {
    type Item = io::Result<(UnixStream, unix::net::SocketAddr)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_with(|listener| listener.poll_accept(cx))
    }
}

impl<L> FusedStream for Incoming<'_, L>
where
    Self: Stream,
{
    fn is_terminated(&self) -> bool {
        self.listener.is_none()
    }
}

impl<L: fmt::Debug> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", &self.listener).finish()
    }
}
