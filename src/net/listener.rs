//! Listeners, TCP and Unix ones: [`Listener`], and its connections as an async iterator,
//! [`Incoming`].
//!
//! A listener wraps mio's socket, not the standard one, because mio's accept4(2) also makes the new
//! socket non-blocking: one system call per connection. `accept.rs` handles the errors;
//! [`ListenerSocket`] names the differences between the families; `tcp.rs` and `unix.rs` bind.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::stream::FusedStream;

use super::Sealed;
use super::accept::Backoff;
use super::stream::{Stream, StreamSocket};
use crate::io::operation::{Io, never};
use crate::reactor::Direction;

/// A socket that a [`Listener`] wraps: TCP or Unix, of the standard library. Sealed.
pub trait ListenerSocket: Sealed + From<OwnedFd> + 'static {
    /// The sockets of the connections.
    type Connection: StreamSocket<Address = Self::Address>;
    /// The addresses of the family.
    type Address;

    #[doc(hidden)]
    type Mio: AsFd + AsRawFd + Into<OwnedFd> + fmt::Debug + Send + Sync + 'static;

    /// Takes over a socket in non-blocking mode.
    #[doc(hidden)]
    fn into_mio(self) -> Self::Mio;
    #[doc(hidden)]
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    #[doc(hidden)]
    fn accept(listener: &Self::Mio) -> io::Result<(OwnedFd, Self::Address)>;
    #[doc(hidden)]
    fn local_addr(listener: &Self::Mio) -> io::Result<Self::Address>;
}

type Accepted<S> = io::Result<(Stream<<S as ListenerSocket>::Connection>, <S as ListenerSocket>::Address)>;

/// Accepts connections: a [`TcpListener`](super::TcpListener) or a
/// [`UnixListener`](super::UnixListener).
///
/// ```
/// use postlude::net::{Listener, ListenerSocket};
///
/// async fn greet_all<S: ListenerSocket>(listener: Listener<S>) -> std::io::Result<()> {
///     loop {
///         let (stream, _address) = listener.accept().await?;
///         drop(postlude::spawn(async move { stream.write_all(b"hello\n").await }));
///     }
/// }
/// # let _ = greet_all::<std::net::TcpListener>;
/// ```
pub struct Listener<S: ListenerSocket> {
    io: Io<S::Mio>,
    backoff: Backoff,
}

impl<S: ListenerSocket> Listener<S> {
    pub(super) fn new(listener: S::Mio) -> Self {
        Self { io: Io::new(listener), backoff: Backoff::default() }
    }

    /// Waits for the next connection.
    ///
    /// Skips connections that failed before they were accepted (accept(2): `ECONNABORTED` and
    /// network errors of the new socket). Out of descriptors or memory, the listener pauses for 100
    /// ms, once for all tasks that accept, and tries again; connections wait in the backlog.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a connection that it has not returned stays in the
    /// backlog.
    ///
    /// # Errors
    ///
    /// If the listener itself is unusable, or used outside its runtime; outside any runtime also if
    /// descriptors or memory run short.
    pub async fn accept(&self) -> Accepted<S> {
        let mut accepting = self.io.wait(Direction::Read, S::accept, never);
        let accepted = poll_fn(|cx| self.backoff.poll(cx, |cx| Pin::new(&mut accepting).poll(cx)));
        let (connection, address) = accepted.await?;
        Ok((Stream::new(connection), address))
    }

    /// Like [`accept`](Self::accept), for hand-written futures; the last waker wins.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Accepted<S>> {
        let accepted = self.backoff.poll(cx, |cx| self.io.poll(cx, Direction::Read, S::accept, never));
        accepted.map_ok(|(connection, address)| (Stream::new(connection), address))
    }

    /// Returns the connections as an async iterator, as [`accept`](Self::accept) gives them.
    ///
    /// An error of the listener is returned and ends the iterator, which otherwise never ends.
    /// Dropping the iterator or its `next` loses nothing, as with `accept`.
    pub fn incoming(&self) -> Incoming<'_, Self> {
        Incoming { listener: Some(self) }
    }

    /// Returns how often it has paused so far, because descriptors or memory ran short: see
    /// [`accept`](Self::accept).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(postlude::net::TcpListener::bind("127.0.0.1:0")?.pauses(), 0);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn pauses(&self) -> u64 {
        self.backoff.pauses()
    }

    /// Returns the address on which it listens: getsockname(2).
    pub fn local_addr(&self) -> io::Result<S::Address> {
        S::local_addr(self.io.get())
    }

    /// Takes over a standard listener and puts it in non-blocking mode, which may fail. Needs no
    /// runtime.
    pub fn from_std(listener: S) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(listener.into_mio()))
    }

    /// Gives the standard listener back, still in non-blocking mode. Fails if it belongs to another
    /// live runtime, which then closes it.
    pub fn into_std(self) -> io::Result<S> {
        Ok(S::from(self.io.into_inner()?.into()))
    }
}

impl<S: ListenerSocket> AsFd for Listener<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl<S: ListenerSocket> AsRawFd for Listener<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl<S: ListenerSocket> fmt::Debug for Listener<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// An async iterator of a listener's connections: see [`Listener::incoming`].
///
/// ```
/// use futures_lite::StreamExt;
/// use postlude::net::TcpListener;
///
/// async fn greet_all(listener: TcpListener) -> std::io::Result<()> {
///     let mut incoming = listener.incoming();
///     while let Some(connection) = incoming.next().await {
///         let (stream, _address) = connection?;
///         stream.write_all(b"hello\n").await?;
///     }
///     Ok(())
/// }
/// # let _ = greet_all;
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a, L> {
    /// `None` after an error: a listener's error is permanent, and a loop that got it again and
    /// again would never wait.
    listener: Option<&'a L>,
}

impl<S: ListenerSocket> futures_core::Stream for Incoming<'_, Listener<S>> {
    type Item = Accepted<S>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(listener) = self.listener else { return Poll::Ready(None) };
        let result = ready!(listener.poll_accept(cx));
        if result.is_err() {
            self.listener = None;
        }
        Poll::Ready(Some(result))
    }
}

impl<S: ListenerSocket> FusedStream for Incoming<'_, Listener<S>> {
    fn is_terminated(&self) -> bool {
        self.listener.is_none()
    }
}

impl<L: fmt::Debug> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", &self.listener).finish()
    }
}
