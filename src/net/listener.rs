//! Listeners, TCP and Unix ones: [`Listener`], and its connections as an async iterator,
//! [`Incoming`].
//!
//! A listener wraps mio's socket, not the standard one, because mio's accept4(2) also makes the new
//! socket non-blocking: one system call per connection. `accept.rs` decides about errors;
//! [`ListenerSocket`] names what differs between the families; how to bind stands in `tcp.rs` and
//! `unix.rs`.

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

/// The sockets that a [`Listener`] wraps: TCP and Unix ones of the standard library. It is sealed.
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

/// Accepts connections. Its kinds are [`TcpListener`](super::TcpListener) and
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
    /// Connections that failed before they were accepted are passed over (accept(2): `ECONNABORTED`
    /// and network errors of the new socket). Out of descriptors or memory, the listener pauses for
    /// a tenth of a second, once for all tasks that accept, and tries again; connections wait in
    /// the backlog.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a connection that it has not returned stays in the
    /// backlog.
    ///
    /// # Errors
    ///
    /// If the listener itself is unusable, or used outside its runtime; outside any runtime also a
    /// shortage of descriptors or memory.
    pub async fn accept(&self) -> Accepted<S> {
        let mut accepting = self.io.wait(Direction::Read, S::accept, never);
        let accepted = poll_fn(|cx| self.backoff.poll(cx, |cx| Pin::new(&mut accepting).poll(cx)));
        let (connection, address) = accepted.await?;
        Ok((Stream::new(connection), address))
    }

    /// Like [`accept`](Self::accept), for hand-written futures. All calls share one waker: the last
    /// one replaces the others.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Accepted<S>> {
        let accepted = self.backoff.poll(cx, |cx| self.io.poll(cx, Direction::Read, S::accept, never));
        accepted.map_ok(|(connection, address)| (Stream::new(connection), address))
    }

    /// Returns the connections as an async iterator, as [`accept`](Self::accept) gives them.
    ///
    /// An error of the listener is handed out and ends the iterator; otherwise it never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the iterator or its `next` loses nothing: a connection that was not returned stays
    /// in the backlog.
    pub fn incoming(&self) -> Incoming<'_, Self> {
        Incoming { listener: Some(self) }
    }

    /// Returns the address on which it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<S::Address> {
        S::local_addr(self.io.get())
    }

    /// Takes over a standard listener and puts it in non-blocking mode. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the mode cannot be set.
    pub fn from_std(listener: S) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(listener.into_mio()))
    }

    /// Gives the standard listener back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If the listener belongs to another runtime that is alive, which then closes it.
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

/// The connections of a listener as an async iterator: see [`Listener::incoming`].
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
    /// `None` after an error: a listener's error does not pass, and a loop that is handed it again
    /// and again would never wait.
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
