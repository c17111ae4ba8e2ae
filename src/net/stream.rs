//! Connections, TCP and Unix ones: [`Stream`] and its halves.
//!
//! A stream is a standard socket in non-blocking mode inside an `Io`, which knows how to wait. Each
//! operation is one system call in a closure: [`Stream::read`] and its like pass the closure to
//! `Io::wait`, the `poll_*` methods to `Io::poll`. [`StreamSocket`] names the few differences
//! between the two families; `tcp.rs` and `unix.rs` connect.
//!
//! A read or write that moves fewer bytes than it was offered marks its direction as drained. So
//! the usual request costs one `read` and one `write`, and no second call that would only say
//! "would block" (`reactor/source.rs` says when that holds).

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::Sealed;
use crate::executor::budget;
use crate::io::operation::{Io, never};
use crate::reactor::Direction;

/// A socket that a [`Stream`] wraps: TCP or Unix, of the standard library. Sealed.
pub trait StreamSocket: Sealed + AsFd + AsRawFd + From<OwnedFd> + fmt::Debug + Send + Sync + 'static {
    /// The addresses of the family.
    type Address;

    /// Whether a read that leaves room in its buffer shows that nothing is left to read.
    #[doc(hidden)]
    const SHORT_READ_DRAINS: bool;
    #[doc(hidden)]
    fn io(&self) -> impl Read + Write;
    #[doc(hidden)]
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    #[doc(hidden)]
    fn local_addr(&self) -> io::Result<Self::Address>;
    #[doc(hidden)]
    fn peer_addr(&self) -> io::Result<Self::Address>;
    #[doc(hidden)]
    fn take_error(&self) -> io::Result<Option<io::Error>>;
    #[doc(hidden)]
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
}

/// A connection: a [`TcpStream`](super::TcpStream) or a [`UnixStream`](super::UnixStream).
///
/// `Stream` and `&Stream` both implement `futures_io::{AsyncRead, AsyncWrite}`, so one task can
/// read while another writes. Any number of tasks may call the inherent methods at a time.
///
/// ```
/// use postlude::net::{Stream, StreamSocket};
///
/// async fn greet<S: StreamSocket>(stream: &Stream<S>) -> std::io::Result<()> {
///     stream.write_all(b"hello\n").await
/// }
/// # let _ = (greet::<std::net::TcpStream>, greet::<std::os::unix::net::UnixStream>);
/// ```
pub struct Stream<S: StreamSocket> {
    io: Io<S>,
}

impl<S: StreamSocket> Stream<S> {
    /// Wraps a socket that is in non-blocking mode already.
    pub(super) fn new(socket: impl Into<OwnedFd>) -> Self {
        Self { io: Io::new(socket.into().into()) }
    }

    /// Wraps a socket that has begun to connect, and waits until it is connected.
    pub(super) async fn connecting(socket: io::Result<impl Into<OwnedFd>>) -> io::Result<Self> {
        let stream = Self::new(socket?);
        stream.io.wait(Direction::Write, is_connected, never).await?;
        Ok(stream)
    }

    pub(super) fn socket(&self) -> &S {
        self.io.get()
    }

    pub(super) fn io(&self) -> &Io<S> {
        &self.io
    }

    /// Reads the bytes that have arrived, at most as many as fit; 0 means the end of the stream.
    ///
    /// Waits while none have arrived, also with an empty buffer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it takes bytes only when it returns their count.
    ///
    /// # Errors
    ///
    /// Errors of recv(2), except "would block"; or if used outside its runtime.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len();
        self.io.wait(Direction::Read, |stream| stream.io().read(buffer), move |&n| Self::read_drains(n, len)).await
    }

    /// Reads into several buffers, one after the other: readv(2). Otherwise as
    /// [`read`](Self::read), cancel safety included.
    pub async fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |stream| stream.io().read_vectored(buffers), never).await
    }

    /// Reads until the buffer is full.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the bytes that it has read.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the stream ends first; otherwise as `read`.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            budget::proceed().await;
        }
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    /// Writes as many bytes as the system takes, and returns their count. Waits while it takes
    /// none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it writes bytes only when it returns their count.
    ///
    /// # Errors
    ///
    /// Errors of send(2), except "would block" and without `SIGPIPE`; or if used outside its
    /// runtime.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len();
        self.io.wait(Direction::Write, |stream| stream.io().write(bytes), move |&n| n < len).await
    }

    /// Writes several buffers, one after the other: writev(2). Otherwise as [`write`](Self::write),
    /// cancel safety included.
    pub async fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.wait(Direction::Write, |stream| stream.io().write_vectored(buffers), never).await
    }

    /// Writes all bytes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the number of written bytes unknown.
    ///
    /// # Errors
    ///
    /// `WriteZero` if the system takes no byte and reports no error; otherwise as `write`.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            budget::proceed().await;
        }
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// Waits until a read is worth trying: there are bytes, an end or an error.
    ///
    /// Once reported, readiness stays reported until a read of this socket finds nothing. Fails
    /// outside the socket's runtime. Dropping the future loses nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until a write is worth trying. Otherwise as [`readable`](Self::readable), cancel
    /// safety included.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Like [`read`](Self::read), for hand-written futures; the last waker to poll for reading
    /// wins.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = buffer.len();
        self.io.poll(cx, Direction::Read, |stream| stream.io().read(buffer), |&n| Self::read_drains(n, len))
    }

    /// Like [`write`](Self::write), for hand-written futures; the last waker to poll for writing
    /// wins.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        self.io.poll(cx, Direction::Write, |stream| stream.io().write(bytes), |&n| n < len)
    }

    fn read_drains(n: usize, len: usize) -> bool {
        S::SHORT_READ_DRAINS && n < len
    }

    /// Shuts down one direction or both, at once: shutdown(2). A connection that has already ended
    /// is no error.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.socket().shutdown(how) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Splits the stream into halves for two tasks. They can be [reunited](ReadHalf::reunite).
    ///
    /// To split it within one task, use `&stream` twice.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> { postlude::run(async {
    /// # let (client, server) = postlude::net::UnixStream::pair()?;
    /// let (read, write) = client.split();
    /// drop(write); // ends this direction
    /// assert_eq!(server.read(&mut [0; 1]).await?, 0);
    /// server.write_all(b"x").await?;
    /// assert_eq!(read.stream().read(&mut [0; 1]).await?, 1);
    /// # Ok(()) })? }
    /// ```
    #[must_use]
    pub fn split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        let stream = Arc::new(self);
        (ReadHalf { stream: Arc::clone(&stream) }, WriteHalf { stream, ends_stream: true })
    }

    /// Returns the address of this end: getsockname(2).
    pub fn local_addr(&self) -> io::Result<S::Address> {
        self.socket().local_addr()
    }

    /// Returns the address of the other end: getpeername(2).
    pub fn peer_addr(&self) -> io::Result<S::Address> {
        self.socket().peer_addr()
    }

    /// Takes over a standard stream and puts it in non-blocking mode, which may fail. Needs no
    /// runtime.
    ///
    /// The stream should be connected: the system reports any other as ready at once, for its
    /// error.
    pub fn from_std(stream: S) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { io: Io::new(stream) })
    }

    /// Gives the standard stream back, still in non-blocking mode. Fails if it belongs to another
    /// live runtime, which then closes it.
    pub fn into_std(self) -> io::Result<S> {
        self.io.into_inner()
    }
}

/// Whether a connection is made: connect(2), "EINPROGRESS". That the socket is writable does not
/// show it, for an event may be spurious.
fn is_connected<S: StreamSocket>(stream: &S) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

/// The count of bytes that an operation moved.
type PollCount = Poll<io::Result<usize>>;

impl<S: StreamSocket> AsyncRead for &Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> PollCount {
        Stream::poll_read(self.get_mut(), cx, buffer)
    }

    fn poll_read_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> PollCount {
        self.io.poll(cx, Direction::Read, |stream| stream.io().read_vectored(buffers), never)
    }
}

impl<S: StreamSocket> AsyncWrite for &Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> PollCount {
        Stream::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> PollCount {
        self.io.poll(cx, Direction::Write, |stream| stream.io().write_vectored(buffers), never)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(budget::poll_proceed(cx));
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl<S: StreamSocket> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> PollCount {
        Self::poll_read(&self, cx, buffer)
    }

    fn poll_read_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> PollCount {
        Pin::new(&mut &*self).poll_read_vectored(cx, buffers)
    }
}

impl<S: StreamSocket> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> PollCount {
        Self::poll_write(&self, cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> PollCount {
        Pin::new(&mut &*self).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl<S: StreamSocket> AsFd for Stream<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl<S: StreamSocket> AsRawFd for Stream<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl<S: StreamSocket> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// The reading half of a [split](Stream::split) stream.
#[derive(Debug)]
pub struct ReadHalf<S: StreamSocket> {
    stream: Arc<Stream<S>>,
}

impl<S: StreamSocket> ReadHalf<S> {
    /// Returns the whole stream, for its `&self` methods.
    #[must_use]
    pub fn stream(&self) -> &Stream<S> {
        &self.stream
    }

    /// Joins the halves again, without shutting anything down. Gives both back if they are not
    /// halves of one stream.
    pub fn reunite(self, mut write: WriteHalf<S>) -> Result<Stream<S>, (Self, WriteHalf<S>)> {
        if !Arc::ptr_eq(&self.stream, &write.stream) {
            return Err((self, write));
        }
        write.ends_stream = false;
        drop(write);
        Ok(Arc::into_inner(self.stream).expect("the halves were the only two owners"))
    }
}

impl<S: StreamSocket> AsyncRead for ReadHalf<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> PollCount {
        self.stream.poll_read(cx, buffer)
    }
}

/// The writing half of a [split](Stream::split) stream.
///
/// Its drop shuts the writing direction down: the other end sees the end of the stream, while the
/// reading half continues.
#[derive(Debug)]
pub struct WriteHalf<S: StreamSocket> {
    stream: Arc<Stream<S>>,
    /// Whether the drop shuts the direction down; unset when the halves are reunited.
    ends_stream: bool,
}

impl<S: StreamSocket> WriteHalf<S> {
    /// Returns the whole stream, for its `&self` methods.
    #[must_use]
    pub fn stream(&self) -> &Stream<S> {
        &self.stream
    }
}

impl<S: StreamSocket> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        if self.ends_stream {
            // A connection that is gone needs no end.
            let _gone = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl<S: StreamSocket> AsyncWrite for WriteHalf<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> PollCount {
        self.stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> PollCount {
        Pin::new(&mut &*self.stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_close(cx)
    }
}
