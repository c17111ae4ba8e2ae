//! TCP: [`TcpListener`] accepts, [`TcpStream`] connects, reads and writes.
//!
//! A read or write of a stream that moves fewer bytes than it was offered marks its direction as drained, so the usual request costs
//! one `read` and one `write` and no second call that would only say "would block" (see `reactor/source.rs` for when that holds).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Sealed;
use super::accept::Backoff;
use super::incoming::Incoming;
use super::lookup::{self, ToAddress};
use super::stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
use crate::reactor::Direction;
use crate::reactor::io::{Io, never};

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
        Ok((TcpStream::new(stream), address))
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
        accepted.map_ok(|(stream, address)| (TcpStream::new(stream), address))
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

/// A TCP connection: a [`Stream`], which has the methods to read and write.
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
pub type TcpStream = Stream<std::net::TcpStream>;

/// The reading half of a [split](Stream::split) [`TcpStream`].
pub type TcpReadHalf = ReadHalf<std::net::TcpStream>;

/// The writing half of a [split](Stream::split) [`TcpStream`]. Its drop ends the writing direction.
pub type TcpWriteHalf = WriteHalf<std::net::TcpStream>;

/// Methods of [`TcpStream`] only.
impl Stream<std::net::TcpStream> {
    /// Connects. A host name is looked up on the blocking pool, and its addresses are tried in turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    ///
    /// # Errors
    ///
    /// The error of the last address (`SO_ERROR`, connect(2)), or that the name does not resolve; or
    /// if used outside a runtime.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if a name must be looked up.
    pub async fn connect(address: impl ToAddress) -> io::Result<Self> {
        let addresses = lookup::resolve(address.target()).await?;
        lookup::first(addresses, async |address| Self::connecting(mio::net::TcpStream::connect(address)?).await).await
    }

    /// Reads the bytes that have arrived and leaves them there. Otherwise as [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As `read`.
    ///
    /// # Errors
    ///
    /// As `read`.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io().wait(Direction::Read, |stream| stream.peek(buffer), never).await
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`, tcp(7)). Off by default, as the
    /// system has it.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_nodelay(nodelay)
    }

    /// Returns whether small writes are sent at once.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket().nodelay()
    }

    /// Sets how many hops a packet may take (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_ttl(ttl)
    }

    /// Returns how many hops a packet may take.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket().ttl()
    }
}

impl Sealed for std::net::TcpStream {}

impl StreamSocket for std::net::TcpStream {
    type Address = SocketAddr;

    const SHORT_READ_DRAINS: bool = true;

    fn io(&self) -> impl Read + Write {
        self
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        self.set_nonblocking(true)
    }
}
