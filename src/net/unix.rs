//! Unix sockets: [`UnixListener`] and [`UnixStream`], a [`Listener`] and a [`Stream`] with the
//! methods that only Unix sockets have.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self as unix, SocketAddr};
use std::path::Path;

use super::Sealed;
use super::listener::{Listener, ListenerSocket};
use super::stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
use crate::executor::budget;

/// Accepts Unix stream connections: a [`Listener`], which has the methods to accept.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::{UnixListener, UnixStream};
/// # let path = std::env::temp_dir().join(format!("postlude-doc-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let _client = UnixStream::connect(&path).await?;
/// let (_server, address) = listener.accept().await?;
/// assert!(address.is_unnamed());
/// std::fs::remove_file(&path)
/// # })? }
/// ```
pub type UnixListener = Listener<unix::UnixListener>;

/// Methods of [`UnixListener`] only.
impl Listener<unix::UnixListener> {
    /// Binds to a path and listens. Needs no runtime.
    ///
    /// The file must not exist yet, and stays when the listener is dropped. An error if the path is
    /// taken or too long (108 bytes, unix(7)), or permission is missing.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(mio::net::UnixListener::bind(path)?))
    }

    /// Binds to an address, which may be in the abstract namespace (unix(7)), and listens. An error
    /// if the address is taken.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Ok(Self::new(mio::net::UnixListener::bind_addr(address)?))
    }
}

impl Sealed for unix::UnixListener {}

impl ListenerSocket for unix::UnixListener {
    type Connection = unix::UnixStream;
    type Address = SocketAddr;
    type Mio = mio::net::UnixListener;

    fn into_mio(self) -> Self::Mio {
        mio::net::UnixListener::from_std(self)
    }

    forward! { set_nonblocking(nonblocking: bool) -> () }

    fn accept(listener: &Self::Mio) -> io::Result<(OwnedFd, SocketAddr)> {
        listener.accept().map(|(connection, address)| (connection.into(), address))
    }

    fn local_addr(listener: &Self::Mio) -> io::Result<SocketAddr> {
        listener.local_addr()
    }
}

/// A Unix stream connection: a [`Stream`], which has the methods to read and write.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::UnixStream;
/// let (client, server) = UnixStream::pair()?;
/// client.write_all(b"ping").await?;
/// let mut word = [0; 4];
/// server.read_exact(&mut word).await?;
/// assert_eq!(&word, b"ping");
/// # Ok(()) })? }
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
    /// Those of connect(2): nothing is there, no process listens, the backlog is full
    /// (`ResourceBusy`), or permission is missing; or if used outside a runtime.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect(path)).await
    }

    /// Connects to an address, which may be in the abstract namespace (unix(7)). Otherwise as
    /// `connect`, cancel safety included.
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::finish_connect(mio::net::UnixStream::connect_addr(address)).await
    }

    async fn finish_connect(begun: io::Result<mio::net::UnixStream>) -> io::Result<Self> {
        if begun.is_err() {
            budget::proceed().await;
        }
        // Waiting would not help: connect(2) does not tell when there is room again.
        let begun = begun.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "the listener's backlog is full; try again later")
            }
            _ => error,
        });
        Self::connecting(begun).await
    }

    /// Makes two sockets connected to each other: socketpair(2). Needs no runtime. An error if the
    /// system refuses the descriptors.
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

    forward! {
        shutdown(how: Shutdown) -> (),
        local_addr() -> SocketAddr,
        peer_addr() -> SocketAddr,
        take_error() -> Option<io::Error>,
        set_nonblocking(nonblocking: bool) -> (),
    }
}
