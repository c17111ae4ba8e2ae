//! Unix sockets: [`UnixListener`] and [`UnixStream`].
//!
//! The same as TCP ones but for their addresses, and for reads: a short one does not show that nothing is left, since the system ends a
//! read early at a message that carries descriptors or credentials (unix(7)).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::accept::Backoff;
use super::incoming::Incoming;
use crate::reactor::Direction;
use crate::reactor::io::{Io, never};
use crate::task::budget;

/// Accepts Unix stream connections.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::{UnixListener, UnixStream};
/// # let path = std::env::temp_dir().join(format!("postlude-doc-1-{}", std::process::id()));
/// postlude::run(async {
///     let listener = UnixListener::bind(&path)?;
///     # let path = std::fs::canonicalize(&path)?;
///     let client = UnixStream::connect(&path).await?;
///     let (server, address) = listener.accept().await?;
///     assert!(address.is_unnamed());
///     # drop((client, server)); std::fs::remove_file(&path)?;
///     Ok(())
/// })?
/// # }
/// ```
pub struct UnixListener {
    io: Io<mio::net::UnixListener>,
    backoff: Backoff,
}

impl UnixListener {
    /// Binds to a path and listens. The file stays when the listener is dropped; a path that exists is an error. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the path is taken, too long (108 bytes, unix(7)), or not ours to write.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("postlude-doc-bind-{}", std::process::id()));
    /// let listener = postlude::net::UnixListener::bind(&path)?;
    /// # drop(listener);
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(mio::net::UnixListener::bind(path)?))
    }

    /// Binds to an address, which may be in the abstract namespace (unix(7)), and listens.
    ///
    /// # Errors
    ///
    /// If the address is taken.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # #[cfg(target_os = "linux")] {
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let address = SocketAddr::from_abstract_name(format!("postlude-doc-{}", std::process::id()))?;
    /// let listener = postlude::net::UnixListener::bind_addr(&address)?;
    /// # drop(listener); }
    /// # Ok(()) }
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Ok(Self::new(mio::net::UnixListener::bind_addr(address)?))
    }

    fn new(listener: mio::net::UnixListener) -> Self {
        Self { io: Io::new(listener), backoff: Backoff::default() }
    }

    /// Waits for the next connection.
    ///
    /// Connections that failed before they were accepted are passed over (accept(2): `ECONNABORTED` and network errors of the new
    /// socket). Out of descriptors or memory, the listener pauses for a tenth of a second, once for all who accept, and tries
    /// again; nobody spins, and connections wait in the backlog.
    ///
    /// # Cancel safety
    ///
    /// A connection that is not returned is still in the backlog.
    ///
    /// # Errors
    ///
    /// If the listener itself is unusable, or used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::{UnixListener, UnixStream};
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-2-{}", std::process::id()));
    /// postlude::run(async {
    ///     let listener = UnixListener::bind(&path)?;
    ///     # let path = std::fs::canonicalize(&path)?;
    ///     let (client, accepted) = (UnixStream::connect(&path).await?, listener.accept().await?);
    ///     # drop((client, accepted)); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let mut accepting = self.io.wait(Direction::Read, mio::net::UnixListener::accept, never);
        let accepted = poll_fn(|cx| self.backoff.poll(cx, |cx| Pin::new(&mut accepting).poll(cx)));
        let (stream, address) = accepted.await?;
        Ok((UnixStream::from_mio(stream), address))
    }

    /// Like [`accept`](Self::accept), for a future of one's own. The last waker wins.
    ///
    /// # Errors
    ///
    /// As `accept`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::{UnixListener, UnixStream};
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-3-{}", std::process::id()));
    /// postlude::run(async {
    ///     let listener = UnixListener::bind(&path)?;
    ///     # let path = std::fs::canonicalize(&path)?;
    ///     let client = UnixStream::connect(&path).await?;
    ///     let (server, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
    ///     # drop((client, server)); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        let accept = mio::net::UnixListener::accept;
        let accepted = self.backoff.poll(cx, |cx| self.io.poll(cx, Direction::Read, accept, never));
        accepted.map_ok(|(stream, address)| (UnixStream::from_mio(stream), address))
    }

    /// The connections as they come, as [`accept`](Self::accept) gives them. An error of the listener is handed out and ends the
    /// iterator; as long as there is none it goes on.
    ///
    /// # Cancel safety
    ///
    /// Whatever is dropped, a connection that was not returned is still in the backlog.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use futures_lite::StreamExt;
    /// use postlude::net::{UnixListener, UnixStream};
    /// postlude::run(async {
    ///     let path = std::env::temp_dir().join(format!("postlude-incoming-{}", std::process::id()));
    ///     let listener = UnixListener::bind(&path)?;
    ///     let client = UnixStream::connect(&path).await?;
    ///     if let Some(connection) = listener.incoming().next().await {
    ///         let (_server, _address) = connection?;
    ///     }
    ///     # drop(client); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming<'_, Self> {
        Incoming::new(self)
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("postlude-doc-local-{}", std::process::id()));
    /// assert_eq!(postlude::net::UnixListener::bind(&path)?.local_addr()?.as_pathname(), Some(path.as_path()));
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// Takes a standard listener over and puts it in non-blocking mode. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the mode cannot be set.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("postlude-doc-from-{}", std::process::id()));
    /// let listener = std::os::unix::net::UnixListener::bind(&path)?;
    /// let listener = postlude::net::UnixListener::from_std(listener)?;
    /// # drop(listener); std::fs::remove_file(&path) }
    /// ```
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(mio::net::UnixListener::from_std(listener)))
    }

    /// Gives the standard listener back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("postlude-doc-into-{}", std::process::id()));
    /// let listener = postlude::net::UnixListener::bind(&path)?.into_std()?;
    /// listener.set_nonblocking(false)?;
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixListener> {
        Ok(OwnedFd::from(self.io.into_inner()?).into())
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// A Unix stream connection.
///
/// Implements `futures_io::{AsyncRead, AsyncWrite}`, also for `&UnixStream`, which is how one task reads while another writes. The
/// inherent methods do the same and may be called by any number of tasks at a time.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::UnixStream;
/// postlude::run(async {
///     let (client, server) = UnixStream::pair()?;
///     client.write_all(b"ping").await?;
///     let mut word = [0; 4];
///     server.read_exact(&mut word).await?;
///     assert_eq!(&word, b"ping");
///     Ok(())
/// })?
/// # }
/// ```
pub struct UnixStream {
    io: Io<std::os::unix::net::UnixStream>,
}

impl UnixStream {
    /// Connects to the socket at a path.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the socket.
    ///
    /// # Errors
    ///
    /// As connect(2): nothing is there, nobody listens, the backlog is full (`ResourceBusy`), or we may not.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// postlude::run(async {
    ///     let nobody = postlude::net::UnixStream::connect("/nobody/listens/here").await;
    ///     assert_eq!(nobody.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    /// })
    /// # }
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect(path)).await
    }

    /// Connects to an address, which may be in the abstract namespace (unix(7)).
    ///
    /// # Cancel safety
    ///
    /// As `connect`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::{UnixListener, UnixStream};
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-addr-{}", std::process::id()));
    /// postlude::run(async {
    ///     let listener = UnixListener::bind(&path)?;
    ///     let client = UnixStream::connect_addr(&listener.local_addr()?).await?;
    ///     # drop(client); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect_addr(address)).await
    }

    async fn finish_connect(begun: io::Result<mio::net::UnixStream>) -> io::Result<Self> {
        if begun.is_err() {
            budget::proceed().await;
        }
        // There is nothing to wait for: connect(2) does not say when there is room again.
        let stream = Self::from_mio(begun.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "the listener's backlog is full; try again later")
            }
            _ => error,
        })?);
        stream.io.wait(Direction::Write, is_connected, never).await?;
        Ok(stream)
    }

    fn from_mio(stream: mio::net::UnixStream) -> Self {
        Self { io: Io::new(OwnedFd::from(stream).into()) }
    }

    /// Two sockets connected to each other: socketpair(2). Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses the descriptors.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (a, b) = postlude::net::UnixStream::pair()?;
    /// # drop((a, b)); Ok(()) }
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Reads what is there, at most as much as fits; 0 is the end of the stream. Waits while nothing is there,
    /// also into an empty buffer.
    ///
    /// # Cancel safety
    ///
    /// No byte is taken unless its count is returned.
    ///
    /// # Errors
    ///
    /// As recv(2), except that it never would block; or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// # drop(client);
    /// let mut buffer = [0; 1024];
    /// assert_eq!(server.read(&mut buffer).await?, 0, "the client is gone");
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |mut stream| stream.read(buffer), never).await
    }

    /// Reads into several buffers, one after the other: readv(2). Otherwise as [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As `read`.
    ///
    /// # Errors
    ///
    /// As `read`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// client.write_all(b"abcd").await?;
    /// let (mut head, mut tail) = ([0; 2], [0; 2]);
    /// let mut buffers = [std::io::IoSliceMut::new(&mut head), std::io::IoSliceMut::new(&mut tail)];
    /// assert_eq!(server.read_vectored(&mut buffers).await?, 4);
    /// assert_eq!((&head, &tail), (b"ab", b"cd"));
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |mut stream| stream.read_vectored(buffers), never).await
    }

    /// Reads until the buffer is full.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses what it had read.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the stream ends first; otherwise as `read`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// client.write_all(b"four").await?;
    /// let mut word = [0; 4];
    /// server.read_exact(&mut word).await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
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

    /// Writes as much as the system takes, and says how much that was. Waits while it takes nothing.
    ///
    /// # Cancel safety
    ///
    /// No byte is written unless its count is returned.
    ///
    /// # Errors
    ///
    /// As send(2), except that it never would block and never raises `SIGPIPE`; or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// assert_eq!(client.write(b"hello").await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len();
        self.io.wait(Direction::Write, |mut stream| stream.write(bytes), move |&n| n < len).await
    }

    /// Writes several buffers, one after the other: writev(2). Otherwise as [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// As `write`.
    ///
    /// # Errors
    ///
    /// As `write`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let buffers = [std::io::IoSlice::new(b"head"), std::io::IoSlice::new(b"body")];
    /// assert_eq!(client.write_vectored(&buffers).await?, 8);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.wait(Direction::Write, |mut stream| stream.write_vectored(buffers), never).await
    }

    /// Writes all of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves unknown how much was written.
    ///
    /// # Errors
    ///
    /// `WriteZero` if the system takes nothing for good; otherwise as `write`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// client.write_all(b"all of it").await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
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
    /// Once reported, it stays reported until a read of this socket finds nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    ///
    /// # Errors
    ///
    /// If used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// client.write_all(b"x").await?;
    /// server.readable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until a write is worth trying. Otherwise as [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// As `readable`.
    ///
    /// # Errors
    ///
    /// If used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// client.writable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Like [`read`](Self::read), for a future of one's own. The last waker wins.
    ///
    /// # Errors
    ///
    /// As `read`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// client.write_all(b"x").await?;
    /// let mut byte = [0; 1];
    /// assert_eq!(std::future::poll_fn(|cx| server.poll_read(cx, &mut byte)).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |mut stream| stream.read(buffer), never)
    }

    /// Like [`write`](Self::write), for a future of one's own. The last waker wins.
    ///
    /// # Errors
    ///
    /// As `write`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// assert_eq!(std::future::poll_fn(|cx| client.poll_write(cx, b"x")).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        self.io.poll(cx, Direction::Write, |mut stream| stream.write(bytes), |&n| n < len)
    }

    /// Ends one direction or both, at once. A connection that has ended already is no error.
    ///
    /// # Errors
    ///
    /// As shutdown(2), except `ENOTCONN`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, server) = UnixStream::pair()?;
    /// client.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(server.read(&mut [0; 1]).await?, 0);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.io.get().shutdown(how) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Splits it into halves that can live in two tasks. They can be [reunited](UnixReadHalf::reunite).
    ///
    /// To split within one task, use `&stream` twice.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let (read, write) = client.split();
    /// assert!(read.reunite(write).is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn split(self) -> (UnixReadHalf, UnixWriteHalf) {
        let stream = Arc::new(self);
        (UnixReadHalf { stream: Arc::clone(&stream) }, UnixWriteHalf { stream, ends_stream: true })
    }

    /// Our address.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// assert!(client.local_addr()?.is_unnamed());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    ///
    /// As getpeername(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// assert!(client.peer_addr()?.is_unnamed());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Takes a standard stream over and puts it in non-blocking mode. Needs no runtime.
    ///
    /// The stream should be connected: one that is not is reported ready at once, for its error.
    ///
    /// # Errors
    ///
    /// If the mode cannot be set.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (a, b) = std::os::unix::net::UnixStream::pair()?;
    /// let stream = postlude::net::UnixStream::from_std(a)?;
    /// # drop((stream, b)); Ok(()) }
    /// ```
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { io: Io::new(stream) })
    }

    /// Gives the standard stream back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let stream: std::os::unix::net::UnixStream = client.into_std()?;
    /// stream.set_nonblocking(false)?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        self.io.into_inner()
    }
}

/// Whether a connection is made: connect(2), "EINPROGRESS". Writable alone does not say so: an event may be spurious.
fn is_connected(stream: &std::os::unix::net::UnixStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

impl AsyncRead for &UnixStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        UnixStream::poll_read(self.get_mut(), cx, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |mut stream| stream.read_vectored(buffers), never)
    }
}

impl AsyncWrite for &UnixStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        UnixStream::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Write, |mut stream| stream.write_vectored(buffers), never)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(budget::poll_proceed(cx));
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Self::poll_read(&self, cx, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, buffers)
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for UnixStream {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// The reading half of a [split](UnixStream::split) stream.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # use postlude::net::UnixStream;
/// # postlude::run(async {
/// # let (client, _server) = UnixStream::pair()?;
/// let (read, _write) = client.split();
/// assert!(read.stream().peer_addr().is_ok());
/// # Ok(())
/// # })?
/// # }
/// ```
#[derive(Debug)]
pub struct UnixReadHalf {
    stream: Arc<UnixStream>,
}

impl UnixReadHalf {
    /// The whole stream, for its `&self` methods.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let (read, _write) = client.split();
    /// assert!(read.stream().local_addr().is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Puts the halves together again. Nothing is shut down.
    ///
    /// # Errors
    ///
    /// Gives both back if they are not halves of one stream.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let (read, write) = client.split();
    /// let client: UnixStream = read.reunite(write).unwrap();
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn reunite(self, mut write: UnixWriteHalf) -> Result<UnixStream, (Self, UnixWriteHalf)> {
        if !Arc::ptr_eq(&self.stream, &write.stream) {
            return Err((self, write));
        }
        write.ends_stream = false;
        drop(write);
        Ok(Arc::into_inner(self.stream).expect("the halves were the only two owners"))
    }
}

impl AsyncRead for UnixReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(cx, buffer)
    }
}

/// The writing half of a [split](UnixStream::split) stream. Its drop shuts the writing direction down, so that the other end sees the
/// end of the stream while the reading half goes on.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # use postlude::net::UnixStream;
/// # postlude::run(async {
/// # let (client, server) = UnixStream::pair()?;
/// let (_read, write) = client.split();
/// drop(write);
/// assert_eq!(server.read(&mut [0; 1]).await?, 0);
/// # Ok(())
/// # })?
/// # }
/// ```
#[derive(Debug)]
pub struct UnixWriteHalf {
    stream: Arc<UnixStream>,
    /// Whether the drop shuts the direction down: not when the halves are reunited.
    ends_stream: bool,
}

impl Drop for UnixWriteHalf {
    fn drop(&mut self) {
        if self.ends_stream {
            // A connection that is gone needs no end.
            let _gone = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl UnixWriteHalf {
    /// The whole stream, for its `&self` methods.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixStream;
    /// # postlude::run(async {
    /// # let (client, _server) = UnixStream::pair()?;
    /// let (_read, write) = client.split();
    /// assert!(write.stream().local_addr().is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

impl AsyncWrite for UnixWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_close(cx)
    }
}
