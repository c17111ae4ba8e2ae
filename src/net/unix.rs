//! Unix sockets: [`UnixListener`] and [`UnixStream`].
//!
//! The same as TCP ones but for their addresses, and for reads: a short one does not show that nothing is left, since the system ends a
//! read early at a message that carries descriptors or credentials (unix(7)).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self as unix, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Sealed;
use super::accept::Backoff;
use super::incoming::Incoming;
use super::stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
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
        Ok((UnixStream::new(stream), address))
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
        accepted.map_ok(|(stream, address)| (UnixStream::new(stream), address))
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

/// A Unix stream connection: a [`Stream`], which has the methods to read and write.
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
pub type UnixStream = Stream<unix::UnixStream>;

/// The reading half of a [split](Stream::split) [`UnixStream`].
pub type UnixReadHalf = ReadHalf<unix::UnixStream>;

/// The writing half of a [split](Stream::split) [`UnixStream`]. Its drop ends the writing
/// direction.
pub type UnixWriteHalf = WriteHalf<unix::UnixStream>;

/// Methods of [`UnixStream`] only.
impl Stream<unix::UnixStream> {
    /// Connects to the socket at a path.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    ///
    /// # Errors
    ///
    /// Those of connect(2): nothing is there, nobody listens, the backlog is full (`ResourceBusy`),
    /// or permission is missing; or if used outside a runtime.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect(path)).await
    }

    /// Connects to an address, which may be in the abstract namespace (unix(7)). Otherwise as
    /// [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As `connect`.
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect_addr(address)).await
    }

    async fn finish_connect(begun: io::Result<mio::net::UnixStream>) -> io::Result<Self> {
        match begun {
            Ok(stream) => Self::connecting(stream).await,
            Err(error) => {
                budget::proceed().await;
                // Waiting would not help: connect(2) does not tell when there is room again.
                Err(match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        io::Error::new(io::ErrorKind::ResourceBusy, "the listener's backlog is full; try again later")
                    }
                    _ => error,
                })
            }
        }
    }

    /// Makes two sockets connected to each other: socketpair(2). Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses the descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = unix::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }
}

impl Sealed for unix::UnixStream {}

impl StreamSocket for unix::UnixStream {
    type Address = SocketAddr;

    /// The system ends a read early at a message that carries descriptors or credentials: unix(7).
    const SHORT_READ_DRAINS: bool = false;

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
