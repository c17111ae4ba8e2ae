//! TCP: [`TcpListener`] accepts, [`TcpStream`] connects, reads and writes.
//!
//! A read or write of a stream that moves fewer bytes than it was offered marks its direction as drained, so the usual request costs
//! one `read` and one `write` and no second call that would only say "would block" (see `reactor/source.rs` for when that holds).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::accept::Backoff;
use super::incoming::Incoming;
use super::lookup::{self, ToAddress};
use crate::reactor::Direction;
use crate::reactor::io::{Io, never};
use crate::task::budget;

/// Accepts TCP connections.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::{TcpListener, TcpStream};
/// postlude::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (server, address) = listener.accept().await?;
///     assert_eq!(address, client.local_addr()?);
///     # drop(server);
///     Ok(())
/// })?
/// # }
/// ```
pub struct TcpListener {
    io: Io<mio::net::TcpListener>,
    backoff: Backoff,
}

impl TcpListener {
    /// Binds and listens, with `SO_REUSEADDR`. A host name is looked up on this thread. Needs no runtime.
    ///
    /// For other options make a socket with `socket2` and use [`from_std`](Self::from_std).
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours or malformed, or the name does not resolve.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let listener = postlude::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind(address: impl ToAddress) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup::resolve_here(address.target())? {
            match mio::net::TcpListener::bind(address) {
                Ok(listener) => return Ok(Self::new(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn new(listener: mio::net::TcpListener) -> Self {
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
    /// use postlude::net::{TcpListener, TcpStream};
    /// postlude::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let (client, accepted) = (TcpStream::connect(listener.local_addr()?).await?, listener.accept().await?);
    ///     # drop((client, accepted));
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut accepting = self.io.wait(Direction::Read, mio::net::TcpListener::accept, never);
        let accepted = poll_fn(|cx| self.backoff.poll(cx, |cx| Pin::new(&mut accepting).poll(cx)));
        let (stream, address) = accepted.await?;
        Ok((TcpStream::from_mio(stream), address))
    }

    /// Like [`accept`](Self::accept), for a future of one's own. The last waker wins.
    ///
    /// # Errors
    ///
    /// As `accept`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::{TcpListener, TcpStream};
    /// postlude::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (server, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
    ///     # drop((client, server));
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accept = mio::net::TcpListener::accept;
        let accepted = self.backoff.poll(cx, |cx| self.io.poll(cx, Direction::Read, accept, never));
        accepted.map_ok(|(stream, address)| (TcpStream::from_mio(stream), address))
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
    /// use postlude::net::{TcpListener, TcpStream};
    /// postlude::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let mut incoming = listener.incoming();
    ///     if let Some(connection) = incoming.next().await {
    ///         let (_server, address) = connection?;
    ///         assert_eq!(address, client.local_addr()?);
    ///     }
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
    /// assert!(postlude::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.ip().is_loopback());
    /// # Ok(())
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
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = postlude::net::TcpListener::from_std(listener)?;
    /// # drop(listener); Ok(()) }
    /// ```
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(mio::net::TcpListener::from_std(listener)))
    }

    /// Gives the standard listener back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let listener = postlude::net::TcpListener::bind("127.0.0.1:0")?.into_std()?;
    /// listener.set_nonblocking(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        Ok(OwnedFd::from(self.io.into_inner()?).into())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// A TCP connection.
///
/// Implements `futures_io::{AsyncRead, AsyncWrite}`, also for `&TcpStream`, which is how one task reads while another writes. The
/// inherent methods do the same and may be called by any number of tasks at a time.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::{TcpListener, TcpStream};
/// postlude::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (server, _) = listener.accept().await?;
///     client.write_all(b"ping").await?;
///     let mut word = [0; 4];
///     server.read_exact(&mut word).await?;
///     assert_eq!(&word, b"ping");
///     Ok(())
/// })?
/// # }
/// ```
pub struct TcpStream {
    io: Io<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects. A host name is looked up on the blocking pool, and its addresses are tried one after the other.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the socket.
    ///
    /// # Errors
    ///
    /// What the last address failed with (`SO_ERROR`, connect(2)), or that the name does not resolve.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::{TcpListener, TcpStream};
    /// postlude::run(async {
    ///     let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    ///     let refused = TcpStream::connect(address).await.unwrap_err();
    ///     assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn connect(address: impl ToAddress) -> io::Result<Self> {
        let addresses = lookup::resolve(address.target()).await?;
        lookup::first(addresses, Self::connect_to).await
    }

    async fn connect_to(address: SocketAddr) -> io::Result<Self> {
        let stream = Self::from_mio(mio::net::TcpStream::connect(address)?);
        stream.io.wait(Direction::Write, is_connected, never).await?;
        Ok(stream)
    }

    fn from_mio(stream: mio::net::TcpStream) -> Self {
        Self { io: Io::new(OwnedFd::from(stream).into()) }
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
    /// # drop(client);
    /// let mut buffer = [0; 1024];
    /// assert_eq!(server.read(&mut buffer).await?, 0, "the client is gone");
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len();
        self.io.wait(Direction::Read, |mut stream| stream.read(buffer), move |&n| n < len).await
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
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

    /// Reads what is there without taking it. Otherwise as [`read`](Self::read).
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
    /// client.write_all(b"x").await?;
    /// let mut byte = [0; 1];
    /// assert_eq!(server.peek(&mut byte).await?, 1);
    /// assert_eq!(server.read(&mut byte).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |stream| stream.peek(buffer), never).await
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
    /// client.write_all(b"x").await?;
    /// let mut byte = [0; 1];
    /// assert_eq!(std::future::poll_fn(|cx| server.poll_read(cx, &mut byte)).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = buffer.len();
        self.io.poll(cx, Direction::Read, |mut stream| stream.read(buffer), |&n| n < len)
    }

    /// Like [`write`](Self::write), for a future of one's own. The last waker wins.
    ///
    /// # Errors
    ///
    /// As `write`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
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

    /// Splits it into halves that can live in two tasks. They can be [reunited](TcpReadHalf::reunite).
    ///
    /// To split within one task, use `&stream` twice.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (read, write) = client.split();
    /// assert!(read.reunite(write).is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn split(self) -> (TcpReadHalf, TcpWriteHalf) {
        let stream = Arc::new(self);
        (TcpReadHalf { stream: Arc::clone(&stream) }, TcpWriteHalf { stream, ends_stream: true })
    }

    /// Our address.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(client.local_addr()?.ip().is_loopback());
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// assert_eq!(client.peer_addr()?, listener.local_addr()?);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`, tcp(7)). Off by default, as the system has it.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// client.set_nodelay(true)?;
    /// assert!(client.nodelay()?);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get().set_nodelay(nodelay)
    }

    /// Whether small writes are sent at once.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(!client.nodelay()?);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get().nodelay()
    }

    /// The hops a packet may take (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// client.set_ttl(8)?;
    /// assert_eq!(client.ttl()?, 8);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get().set_ttl(ttl)
    }

    /// The hops a packet may take.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(client.ttl()? > 0);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get().ttl()
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
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let stream = postlude::net::TcpStream::from_std(stream)?;
    /// # drop(stream); Ok(()) }
    /// ```
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let stream: std::net::TcpStream = client.into_std()?;
    /// stream.set_nonblocking(false)?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        self.io.into_inner()
    }
}

/// Whether a connection is made: connect(2), "EINPROGRESS". Writable alone does not say so: an event may be spurious.
fn is_connected(stream: &std::net::TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        TcpStream::poll_read(self.get_mut(), cx, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |mut stream| stream.read_vectored(buffers), never)
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        TcpStream::poll_write(self.get_mut(), cx, bytes)
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

impl AsyncRead for TcpStream {
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

impl AsyncWrite for TcpStream {
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

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

/// The reading half of a [split](TcpStream::split) stream.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # use postlude::net::{TcpListener, TcpStream};
/// # postlude::run(async {
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (read, _write) = client.split();
/// assert!(read.stream().peer_addr().is_ok());
/// # Ok(())
/// # })?
/// # }
/// ```
#[derive(Debug)]
pub struct TcpReadHalf {
    stream: Arc<TcpStream>,
}

impl TcpReadHalf {
    /// The whole stream, for its `&self` methods.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (read, _write) = client.split();
    /// assert!(read.stream().local_addr().is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
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
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (read, write) = client.split();
    /// let client: TcpStream = read.reunite(write).unwrap();
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn reunite(self, mut write: TcpWriteHalf) -> Result<TcpStream, (Self, TcpWriteHalf)> {
        if !Arc::ptr_eq(&self.stream, &write.stream) {
            return Err((self, write));
        }
        write.ends_stream = false;
        drop(write);
        Ok(Arc::into_inner(self.stream).expect("the halves were the only two owners"))
    }
}

impl AsyncRead for TcpReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(cx, buffer)
    }
}

/// The writing half of a [split](TcpStream::split) stream. Its drop shuts the writing direction down, so that the other end sees the
/// end of the stream while the reading half goes on.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # use postlude::net::{TcpListener, TcpStream};
/// # postlude::run(async {
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let client = TcpStream::connect(listener.local_addr()?).await?;
/// # let (server, _) = listener.accept().await?;
/// let (_read, write) = client.split();
/// drop(write);
/// assert_eq!(server.read(&mut [0; 1]).await?, 0);
/// # Ok(())
/// # })?
/// # }
/// ```
#[derive(Debug)]
pub struct TcpWriteHalf {
    stream: Arc<TcpStream>,
    /// Whether the drop shuts the direction down: not when the halves are reunited.
    ends_stream: bool,
}

impl Drop for TcpWriteHalf {
    fn drop(&mut self) {
        if self.ends_stream {
            // A connection that is gone needs no end.
            let _gone = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl TcpWriteHalf {
    /// The whole stream, for its `&self` methods.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::{TcpListener, TcpStream};
    /// # postlude::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_read, write) = client.split();
    /// assert!(write.stream().local_addr().is_ok());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncWrite for TcpWriteHalf {
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
