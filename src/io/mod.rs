//! Waiting for any other descriptor: pipes, terminals, timers, and sockets that [`net`](crate::net)
//! does not offer. See [`Async`].

pub(crate) mod operation;

use std::fmt;
use std::io::{Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::reactor::Direction;
use operation::{Io, never};

/// A descriptor in **non-blocking mode** whose operations wait instead of saying "would block".
///
/// [`read_with`](Self::read_with) and [`write_with`](Self::write_with) take the operation as a
/// closure. They call it at once, and again whenever the system reports the descriptor ready, until
/// it returns something other than `WouldBlock`. A report may be spurious, so the closure may be
/// called more often than there is something to do; the caller never sees that.
///
/// Where `&T` implements `Read` or `Write`, as files and sockets do, `Async<T>` and `&Async<T>`
/// implement `futures_io::AsyncRead` or `AsyncWrite`. `poll_close` only flushes; the drop closes.
///
/// Like a socket it belongs to no runtime until it first waits; from then on only that runtime may
/// use it. Dropped elsewhere, it is closed in its runtime's next turn.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use std::{fs::File, io::Read, os::fd::OwnedFd, process::{Command, Stdio}};
/// use postlude::io::Async;
/// let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
/// let output = File::from(OwnedFd::from(child.stdout.take().unwrap()));
/// socket2::SockRef::from(&output).set_nonblocking(true)?; // `fcntl` with `O_NONBLOCK`
/// let output = Async::new(output);
/// let mut buffer = [0; 64];
/// let len = output.read_with(|mut output| output.read(&mut buffer)).await?;
/// assert_eq!(&buffer[..len], b"hello\n");
/// # child.wait()?;
/// # Ok(()) })? }
/// ```
pub struct Async<T: AsFd + Send + 'static> {
    io: Io<Inner<T>>,
}

/// A `T` as the reactor needs it: with a raw descriptor.
struct Inner<T>(T);

impl<T: AsFd> AsRawFd for Inner<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: AsFd + Send + 'static> Async<T> {
    /// Takes a descriptor over. Needs no runtime.
    ///
    /// The descriptor must be in non-blocking mode (`O_NONBLOCK`, fcntl(2)); otherwise its
    /// operations block the whole loop. The mode belongs to the open file: processes that share it
    /// (a parent's terminal, an inherited pipe) share the mode. `T::as_fd` must return the same
    /// descriptor every time, and no other `Async` or socket of the same runtime may have it.
    ///
    /// A file on disk is always ready and never waits: read it with
    /// [`spawn_blocking`](crate::spawn_blocking).
    #[must_use]
    pub fn new(inner: T) -> Self {
        Self { io: Io::new(Inner(inner)) }
    }

    /// Returns the value given to `new`. Operations on it may say "would block", and
    /// [`readable`](Self::readable) does not learn of that.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.io.get().0
    }

    /// Gives the value back, still in non-blocking mode; another runtime may then use it. Fails if
    /// it belongs to another live runtime, which then closes it.
    pub fn into_inner(self) -> Result<T> {
        Ok(self.io.into_inner()?.0)
    }

    /// Waits until the descriptor is reported readable, at its end, or in error, and no
    /// [`read_with`](Self::read_with) has found otherwise since.
    ///
    /// A hint, not a promise: read with `read_with`, which waits again if need be. A loop of this
    /// and operations on [`get_ref`](Self::get_ref) would spin. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the descriptor cannot be waited for (a file on disk; epoll_ctl(2)),
    /// `AlreadyExists` if another socket or `Async` of this runtime has it, or if used outside its
    /// runtime.
    pub async fn readable(&self) -> Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until the descriptor is reported writable, closed at the other end, or in error.
    /// Otherwise as [`readable`](Self::readable), cancel safety and errors included.
    pub async fn writable(&self) -> Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Calls `operation` until it returns something other than `WouldBlock` or `Interrupted`, and
    /// waits until the descriptor is readable after each `WouldBlock`. Any number of tasks may do
    /// so at a time.
    ///
    /// # Cancel safety
    ///
    /// The future can be dropped only between two calls, or before the first.
    ///
    /// # Errors
    ///
    /// The errors of `operation`, and those of [`readable`](Self::readable) once it has to wait.
    pub async fn read_with<R>(&self, mut operation: impl FnMut(&T) -> Result<R>) -> Result<R> {
        self.io.wait(Direction::Read, |inner| operation(&inner.0), never).await
    }

    /// Like [`read_with`](Self::read_with), cancel safety and errors included, but waits until the
    /// descriptor is writable.
    pub async fn write_with<R>(&self, mut operation: impl FnMut(&T) -> Result<R>) -> Result<R> {
        self.io.wait(Direction::Write, |inner| operation(&inner.0), never).await
    }

    /// Like [`read_with`](Self::read_with), for hand-written futures; the last waker to poll for
    /// reading wins.
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> Result<R>,
    ) -> Poll<Result<R>> {
        self.io.poll(cx, Direction::Read, |inner| operation(&inner.0), never)
    }

    /// Like [`write_with`](Self::write_with), for hand-written futures; the last waker to poll for
    /// writing wins.
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> Result<R>,
    ) -> Poll<Result<R>> {
        self.io.poll(cx, Direction::Write, |inner| operation(&inner.0), never)
    }
}

impl<T: AsFd + Send + 'static> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        self.poll_read_with(cx, |mut inner| inner.read(buffer))
    }
}

impl<T: AsFd + Send + 'static> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_with(cx, |mut inner| inner.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_write_with(cx, |mut inner| inner.flush())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

impl<T: AsFd + Send + 'static> AsyncRead for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buffer)
    }
}

impl<T: AsFd + Send + 'static> AsyncWrite for Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

/// The value is never pinned.
impl<T: AsFd + Send + 'static> Unpin for Async<T> {}

impl<T: AsFd + Send + 'static> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd + Send + 'static> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T: AsFd + Send + fmt::Debug + 'static> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.get_ref()).finish()
    }
}
