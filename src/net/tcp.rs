//! TCP: [`TcpListener`] and [`TcpStream`], a [`Listener`] and a [`Stream`] with TCP's own methods.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;

use super::Sealed;
use super::listener::{Listener, ListenerSocket};
use super::lookup::{self, ToAddress};
use super::stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
use crate::io::operation::never;
use crate::reactor::Direction;

/// Accepts TCP connections: a [`Listener`], which has the methods to accept.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::{TcpListener, TcpStream};
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (_server, address) = listener.accept().await?;
/// assert_eq!(address, client.local_addr()?);
/// # Ok(()) })? }
/// ```
pub type TcpListener = Listener<std::net::TcpListener>;

/// Methods of [`TcpListener`] only.
impl Listener<std::net::TcpListener> {
    /// Binds and listens, with `SO_REUSEADDR`. Needs no runtime: a host name is looked up on this
    /// thread.
    ///
    /// For other options make a socket with `socket2` and use [`from_std`](Self::from_std).
    ///
    /// # Errors
    ///
    /// If the address is taken, not one of this host or malformed, or the name does not resolve.
    pub fn bind(address: impl ToAddress) -> io::Result<Self> {
        let addresses = lookup::resolve_here(address.target())?;
        lookup::first(addresses, mio::net::TcpListener::bind).map(Self::new)
    }
}

impl Sealed for std::net::TcpListener {}

impl ListenerSocket for std::net::TcpListener {
    type Connection = std::net::TcpStream;
    type Address = SocketAddr;
    type Mio = mio::net::TcpListener;

    fn into_mio(self) -> Self::Mio {
        mio::net::TcpListener::from_std(self)
    }

    forward! { set_nonblocking(nonblocking: bool) -> () }

    fn accept(listener: &Self::Mio) -> io::Result<(OwnedFd, SocketAddr)> {
        listener.accept().map(|(connection, address)| (connection.into(), address))
    }

    fn local_addr(listener: &Self::Mio) -> io::Result<SocketAddr> {
        listener.local_addr()
    }
}

/// A TCP connection: a [`Stream`], which has the methods to read and write.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::{TcpListener, TcpStream};
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
/// client.write_all(b"ping").await?;
/// let mut word = [0; 4];
/// server.read_exact(&mut word).await?;
/// assert_eq!(&word, b"ping");
/// # Ok(()) })? }
/// ```
pub type TcpStream = Stream<std::net::TcpStream>;

/// The reading half of a [split](Stream::split) [`TcpStream`].
pub type TcpReadHalf = ReadHalf<std::net::TcpStream>;

/// The writing half of a [split](Stream::split) [`TcpStream`]. Its drop ends the writing direction.
pub type TcpWriteHalf = WriteHalf<std::net::TcpStream>;

/// Methods of [`TcpStream`] only.
impl Stream<std::net::TcpStream> {
    /// Connects. A host name is looked up as by [`lookup_host`](super::lookup_host), and its
    /// addresses are tried in turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    ///
    /// # Errors
    ///
    /// The error of the last address (`SO_ERROR`, connect(2)), or that the name does not resolve;
    /// or if used outside a runtime.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if a name must be looked up.
    pub async fn connect(address: impl ToAddress) -> io::Result<Self> {
        let mut last = lookup::no_address();
        for address in lookup::resolve(address.target()).await? {
            match Self::connecting(mio::net::TcpStream::connect(address)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads the bytes that have arrived and leaves them there. Otherwise as [`read`](Self::read),
    /// cancel safety included.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io().wait(Direction::Read, |stream| stream.peek(buffer), never).await
    }
}

/// Options of [`TcpStream`]. Errors are those of getsockopt(2) and setsockopt(2).
impl Stream<std::net::TcpStream> {
    /// Sets whether small writes are sent at once (`TCP_NODELAY`, tcp(7)). Off by default.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_nodelay(nodelay)
    }

    /// Returns whether small writes are sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket().nodelay()
    }

    /// Sets how many hops a packet may take (`IP_TTL`, ip(7)).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_ttl(ttl)
    }

    /// Returns how many hops a packet may take.
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

    forward! {
        shutdown(how: Shutdown) -> (),
        local_addr() -> SocketAddr,
        peer_addr() -> SocketAddr,
        take_error() -> Option<io::Error>,
        set_nonblocking(nonblocking: bool) -> (),
    }
}
