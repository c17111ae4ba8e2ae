//! Readiness of any other descriptor: [`Async`] waits for pipes, terminals, timers and sockets that [`net`](crate::net) does not know.

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
/// What is to be done with it is a closure given to [`read_with`](Self::read_with) or [`write_with`](Self::write_with): it is called at
/// once, and again whenever the system reports the descriptor ready, until it returns something other than `WouldBlock`. A report
/// may be wrong, so the closure may be called more often than there is something to do; the caller never sees that.
///
/// Implements `futures_io::{AsyncRead, AsyncWrite}`, also for `&Async<T>`, where `&T` implements `Read` and `Write`, as files and sockets
/// do. `poll_close` only flushes; the drop closes.
///
/// As a socket it belongs to no runtime until it first waits, and from then on can be used in that runtime only. Dropped elsewhere it
/// is closed in its runtime's next turn.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::{fs::File, io::Read, os::fd::OwnedFd, process::{Command, Stdio}};
/// use postlude::io::Async;
/// postlude::run(async {
///     let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
///     let output = File::from(OwnedFd::from(child.stdout.take().unwrap()));
///     socket2::SockRef::from(&output).set_nonblocking(true)?; // `fcntl` with `O_NONBLOCK`
///     let output = Async::new(output);
///     let mut buffer = [0; 64];
///     let len = output.read_with(|mut output| output.read(&mut buffer)).await?;
///     assert_eq!(&buffer[..len], b"hello\n");
///     # child.wait()?;
///     Ok(())
/// })?
/// # }
/// ```
pub struct Async<T: AsFd + Send + 'static> {
    io: Io<Inner<T>>,
}

/// What the reactor needs of a `T`.
struct Inner<T>(T);

impl<T: AsFd> AsRawFd for Inner<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: AsFd + Send + 'static> Async<T> {
    /// Takes a descriptor over. Needs no runtime.
    ///
    /// The descriptor must be in non-blocking mode (`O_NONBLOCK`, fcntl(2)); if it is not, its operations block the whole loop. The
    /// mode belongs to the open file, so whoever shares it (a parent's terminal, an inherited pipe) shares the mode.
    /// `T::as_fd` must give the same descriptor every time, and it must not be in another `Async` or socket of the same runtime.
    ///
    /// A file on disk is ready always and never waits: read it with [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// # drop(a); Ok(()) }
    /// ```
    #[must_use]
    pub fn new(inner: T) -> Self {
        Self { io: Io::new(Inner(inner)) }
    }

    /// What was given to `new`. An operation done on it directly says "would block" as it always did, and [`readable`](Self::readable)
    /// does not learn of that.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// assert!(a.get_ref().peer_addr()?.is_unnamed());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.io.get().0
    }

    /// Gives it back, still in non-blocking mode; it may be used in another runtime then.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a).into_inner()?;
    /// a.set_nonblocking(false)?;
    /// # Ok(()) }
    /// ```
    pub fn into_inner(self) -> Result<T> {
        Ok(self.io.into_inner()?.0)
    }

    /// Waits until the descriptor is reported readable, at its end, or in error, and no [`read_with`](Self::read_with) has found
    /// that used up since.
    ///
    /// A hint, not a promise: read with `read_with`, which waits again if need be. A loop of this and operations on
    /// [`get_ref`](Self::get_ref) would spin.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the descriptor cannot be waited for (a file on disk; epoll_ctl(2)), `AlreadyExists` if another socket or
    /// `Async` of this runtime has it, or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use std::io::Write;
    /// # postlude::run(async {
    /// # let (a, mut b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// b.write_all(b"x")?;
    /// a.readable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn readable(&self) -> Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until the descriptor is reported writable, closed at the other end, or in error. Otherwise as
    /// [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// As `readable`.
    ///
    /// # Errors
    ///
    /// As `readable`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # postlude::run(async {
    /// # let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// a.writable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn writable(&self) -> Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Calls `operation` until it returns something other than `WouldBlock` or `Interrupted`, and waits until the descriptor is
    /// readable before it calls it again. Any number of tasks may do so at a time.
    ///
    /// # Cancel safety
    ///
    /// It is dropped between two calls, or before the first.
    ///
    /// # Errors
    ///
    /// What `operation` returns, and as [`readable`](Self::readable) once it has to wait.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use std::io::{Read, Write};
    /// # postlude::run(async {
    /// # let (a, mut b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// b.write_all(b"hello")?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(a.read_with(|mut a| a.read(&mut buffer)).await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn read_with<R>(&self, mut operation: impl FnMut(&T) -> Result<R>) -> Result<R> {
        self.io.wait(Direction::Read, |inner| operation(&inner.0), never).await
    }

    /// Calls `operation` until it returns something other than `WouldBlock` or `Interrupted`, and waits until the descriptor is
    /// writable before it calls it again. Otherwise as [`read_with`](Self::read_with).
    ///
    /// # Cancel safety
    ///
    /// As `read_with`.
    ///
    /// # Errors
    ///
    /// What `operation` returns, and as [`readable`](Self::readable) once it has to wait.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use std::io::Write;
    /// # postlude::run(async {
    /// # let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// assert_eq!(a.write_with(|mut a| a.write(b"hello")).await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn write_with<R>(&self, mut operation: impl FnMut(&T) -> Result<R>) -> Result<R> {
        self.io.wait(Direction::Write, |inner| operation(&inner.0), never).await
    }

    /// Like [`read_with`](Self::read_with), for a future of one's own. The last waker of those who poll to read wins.
    ///
    /// # Errors
    ///
    /// As `read_with`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use std::io::{Read, Write};
    /// # postlude::run(async {
    /// # let (a, mut b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// b.write_all(b"x")?;
    /// let mut byte = [0; 1];
    /// let read = std::future::poll_fn(|cx| a.poll_read_with(cx, |mut a| a.read(&mut byte)));
    /// assert_eq!(read.await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> Result<R>,
    ) -> Poll<Result<R>> {
        self.io.poll(cx, Direction::Read, |inner| operation(&inner.0), never)
    }

    /// Like [`write_with`](Self::write_with), for a future of one's own. The last waker of those who poll to write wins.
    ///
    /// # Errors
    ///
    /// As `write_with`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use std::io::Write;
    /// # postlude::run(async {
    /// # let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// # a.set_nonblocking(true)?;
    /// let a = postlude::io::Async::new(a);
    /// let write = std::future::poll_fn(|cx| a.poll_write_with(cx, |mut a| a.write(b"x")));
    /// assert_eq!(write.await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
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

/// It is never pinned in place.
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
