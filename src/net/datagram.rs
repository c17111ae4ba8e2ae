//! Unix datagram sockets: [`UnixDatagram`].
//!
//! Unlike UDP, nothing is lost or reordered on the way, and a full receiver makes the sender wait. There is one trap in that. The
//! system tells a *connected* sender when its peer has room again. One that is not connected it calls writable whoever is full:
//! Linux reports it anew after each send that would block, so to wait for events would be to spin; elsewhere no event may come at all.
//! [`UnixDatagram::send_to`] therefore tries again by the clock.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::executor::budget;
use crate::io::operation::{Io, never};
use crate::reactor::Direction;
use crate::time;

/// How long a sender that is not connected waits before it tries a full receiver again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// A Unix datagram socket, connected to one peer or open to all.
///
/// Methods take `&self`, and any number of tasks may send and receive at a time. A datagram is sent and received whole; unix(7).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::UnixDatagram;
/// postlude::run(async {
///     let (a, b) = UnixDatagram::pair()?;
///     a.send(b"ping").await?;
///     let mut buffer = [0; 16];
///     let len = b.recv(&mut buffer).await?;
///     assert_eq!(&buffer[..len], b"ping");
///     Ok(())
/// })?
/// # }
/// ```
pub struct UnixDatagram {
    io: Io<std::os::unix::net::UnixDatagram>,
    /// Set by `shutdown`, read by those who receive: an ended socket says "would block" for ever.
    ended: AtomicBool,
}

impl UnixDatagram {
    /// Binds to a path. The file stays when the socket is dropped; a path that exists is an error. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the path is taken, too long (108 bytes, unix(7)), or not ours to write.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("postlude-doc-dgram-{}", std::process::id()));
    /// let socket = postlude::net::UnixDatagram::bind(&path)?;
    /// # drop(socket);
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixDatagram::bind(path)?)
    }

    /// Binds to an address, which may be in the abstract namespace (unix(7)). Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the address is taken.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # #[cfg(target_os = "linux")] {
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let address = SocketAddr::from_abstract_name(format!("postlude-doc-dgram-{}", std::process::id()))?;
    /// let socket = postlude::net::UnixDatagram::bind_addr(&address)?;
    /// # drop(socket); }
    /// # Ok(()) }
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixDatagram::bind_addr(address)?)
    }

    /// A socket without an address, to send from. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses the descriptor.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UnixDatagram::unbound()?.local_addr()?.is_unnamed());
    /// # Ok(()) }
    /// ```
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixDatagram::unbound()?)
    }

    /// Two sockets connected to each other: socketpair(2). Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses the descriptors.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (a, b) = postlude::net::UnixDatagram::pair()?;
    /// # drop((a, b)); Ok(()) }
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Sets the peer to the socket at a path: [`send`](Self::send) sends to it, and nobody else can send to us. At once.
    ///
    /// # Errors
    ///
    /// As connect(2): nothing is there, nobody has it open, or we may not.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::UnixDatagram;
    /// let path = std::env::temp_dir().join(format!("postlude-doc-dgram-connect-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.connect(&path)?;
    /// assert_eq!(client.peer_addr()?.as_pathname(), Some(path.as_path()));
    /// # drop(server);
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.get().connect(path)
    }

    /// Sets the peer by its address, which may be in the abstract namespace. Otherwise as [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// As `connect`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::net::UnixDatagram;
    /// let path = std::env::temp_dir().join(format!("postlude-doc-dgram-connect-addr-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// UnixDatagram::unbound()?.connect_addr(&server.local_addr()?)?;
    /// std::fs::remove_file(&path)
    /// # }
    /// ```
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.io.get().connect_addr(address)
    }

    /// Sends a datagram to the connected peer, and says how many bytes it has: all of them. Waits while the peer is full.
    ///
    /// # Cancel safety
    ///
    /// Nothing is sent unless its length is returned.
    ///
    /// # Errors
    ///
    /// As send(2), except that it never would block: `EMSGSIZE` if it is longer than the send buffer, `ENOTCONN` if no peer is set,
    /// `ECONNREFUSED` if it is gone; or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, _b) = UnixDatagram::pair()?;
    /// assert_eq!(a.send(b"hello").await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.wait(Direction::Write, |socket| socket.send(bytes), never).await
    }

    /// Receives a datagram and returns its length. What does not fit the buffer is lost. Waits while there is none; a datagram may be
    /// empty, so 0 is not the end of anything, unless the socket was [shut down](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// No datagram is taken unless its length is returned.
    ///
    /// # Errors
    ///
    /// As recv(2), except that it never would block; or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"longer").await?;
    /// let mut four = [0; 4];
    /// assert_eq!(b.recv(&mut four).await?, 4);
    /// assert_eq!(&four, b"long");
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |socket| self.or_end(socket.recv(buffer), || Ok(0)), never).await
    }

    /// Sends a datagram to the socket at a path, and says how many bytes it has: all of them. While the receiver is full it tries again
    /// by the clock, every 16 ms in the end, since the system does not report room to a socket that is not connected.
    ///
    /// # Cancel safety
    ///
    /// Nothing is sent unless its length is returned.
    ///
    /// # Errors
    ///
    /// As sendto(2), except that it never would block: nothing is there, nobody has it open, or we may not.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if it has to wait: "`sleep` was polled".
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-dgram-to-{}", std::process::id()));
    /// postlude::run(async {
    ///     let server = UnixDatagram::bind(&path)?;
    ///     assert_eq!(UnixDatagram::unbound()?.send_to(b"hello", &path).await?, 5);
    ///     # drop(server); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.send_by_clock(|socket| socket.send_to(bytes, path)).await
    }

    /// Sends a datagram to an address, which may be in the abstract namespace. Otherwise as [`send_to`](Self::send_to).
    ///
    /// # Cancel safety
    ///
    /// As `send_to`.
    ///
    /// # Errors
    ///
    /// As `send_to`.
    ///
    /// # Panics
    ///
    /// As `send_to`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-dgram-to-addr-{}", std::process::id()));
    /// postlude::run(async {
    ///     let server = UnixDatagram::bind(&path)?;
    ///     UnixDatagram::unbound()?.send_to_addr(b"hello", &server.local_addr()?).await?;
    ///     # drop(server); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn send_to_addr(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.send_by_clock(|socket| socket.send_to_addr(bytes, address)).await
    }

    async fn send_by_clock(
        &self,
        send: impl Fn(&std::os::unix::net::UnixDatagram) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut pause = FIRST_PAUSE;
        loop {
            budget::proceed().await;
            match send(self.io.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// What a receiver gets: the end instead of "would block", once `shutdown` has set it. The system itself does that only for
    /// descriptors in blocking mode.
    fn or_end<T>(&self, received: io::Result<T>, end: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.ended.load(Ordering::Acquire) => end(),
            received => received,
        }
    }

    /// Receives a datagram and returns its length and who sent it. Otherwise as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As `recv`.
    ///
    /// # Errors
    ///
    /// As `recv`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"hello").await?;
    /// let (len, from) = b.recv_from(&mut [0; 16]).await?;
    /// assert!(len == 5 && from.is_unnamed());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.wait(Direction::Read, |socket| self.or_end(socket.recv_from(buffer), nobody), never).await
    }

    /// Waits until a datagram, an error or an end has been reported. Another task may take it first, so the next
    /// [`recv`](Self::recv) may wait all the same.
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
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"x").await?;
    /// b.readable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until the connected peer has room. One that is not connected is writable always, whoever is full.
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
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, _b) = UnixDatagram::pair()?;
    /// a.writable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Like [`send`](Self::send), for a future of one's own. The last waker of those who poll to send wins.
    ///
    /// # Errors
    ///
    /// As `send`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, _b) = UnixDatagram::pair()?;
    /// assert_eq!(std::future::poll_fn(|cx| a.poll_send(cx, b"x")).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Write, |socket| socket.send(bytes), never)
    }

    /// Like [`recv`](Self::recv), for a future of one's own. The last waker of those who poll to receive wins.
    ///
    /// # Errors
    ///
    /// As `recv`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"x").await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(std::future::poll_fn(|cx| b.poll_recv(cx, &mut buffer)).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |socket| self.or_end(socket.recv(buffer), || Ok(0)), never)
    }

    /// Like [`send_to_addr`](Self::send_to_addr), for a future of one's own. The last waker of those who poll to send wins.
    ///
    /// Not guaranteed: quiet, or a wake. While a receiver is full the system may report room all the time (Linux) or not at all. Unless
    /// the socket is connected use `send_to`, which waits by the clock.
    ///
    /// # Errors
    ///
    /// As `send_to`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-dgram-poll-to-{}", std::process::id()));
    /// postlude::run(async {
    ///     let server = UnixDatagram::bind(&path)?;
    ///     let (client, address) = (UnixDatagram::unbound()?, server.local_addr()?);
    ///     assert_eq!(std::future::poll_fn(|cx| client.poll_send_to(cx, b"x", &address)).await?, 1);
    ///     # drop(server); std::fs::remove_file(&path)?;
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], address: &SocketAddr) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Write, |socket| socket.send_to_addr(bytes, address), never)
    }

    /// Like [`recv_from`](Self::recv_from), for a future of one's own. The last waker of those who poll to receive wins.
    ///
    /// # Errors
    ///
    /// As `recv`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"x").await?;
    /// let mut buffer = [0; 16];
    /// let (len, from) = std::future::poll_fn(|cx| b.poll_recv_from(cx, &mut buffer)).await?;
    /// assert!(len == 1 && from.is_unnamed());
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll(cx, Direction::Read, |socket| self.or_end(socket.recv_from(buffer), nobody), never)
    }

    /// Ends one direction or both, at once: who receives here gets 0 when what has arrived is taken, who sends here gets `EPIPE`.
    ///
    /// # Errors
    ///
    /// As shutdown(2); some systems refuse a socket without a peer.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UnixDatagram;
    /// # postlude::run(async {
    /// # let (a, _b) = UnixDatagram::pair()?;
    /// a.shutdown(std::net::Shutdown::Both)?;
    /// assert_eq!(a.recv(&mut [0; 16]).await?, 0);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // Before the call, whose event makes those who wait look.
        let before = self.ended.fetch_or(how != Shutdown::Write, Ordering::AcqRel);
        self.io.get().shutdown(how).inspect_err(|_| self.ended.store(before, Ordering::Release))
    }

    /// Our address.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UnixDatagram::pair()?.0.local_addr()?.is_unnamed());
    /// # Ok(()) }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// The connected peer's address.
    ///
    /// # Errors
    ///
    /// `NotConnected` if no peer is set; otherwise as getpeername(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UnixDatagram::pair()?.0.peer_addr()?.is_unnamed());
    /// # Ok(()) }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Takes a standard socket over and puts it in non-blocking mode. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the mode cannot be set.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = std::os::unix::net::UnixDatagram::unbound()?;
    /// let socket = postlude::net::UnixDatagram::from_std(socket)?;
    /// # drop(socket); Ok(()) }
    /// ```
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: Io::new(socket), ended: AtomicBool::new(false) })
    }

    /// Gives the standard socket back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UnixDatagram::unbound()?.into_std()?;
    /// socket.set_nonblocking(false)?;
    /// # Ok(()) }
    /// ```
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixDatagram> {
        self.io.into_inner()
    }
}

/// What `recv_from` gives at the end.
fn nobody() -> io::Result<(usize, SocketAddr)> {
    Ok((0, SocketAddr::from_pathname("")?))
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for UnixDatagram {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}
