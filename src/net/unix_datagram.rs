//! Unix datagram sockets: [`UnixDatagram`], a [`Datagram`] with the methods that only Unix sockets
//! have.
//!
//! Unlike UDP, nothing is lost or reordered on the way, and a full receiver makes the sender wait.
//! That waiting has one trap. The system tells a *connected* sender when its peer has room again. A
//! sender without a peer always counts as writable: Linux reports so again after each send that
//! would block, so waiting for events would spin; elsewhere no event may come at all. So
//! `UnixDatagram::send_to` tries again by the clock.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self as unix, SocketAddr};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Sealed;
use super::datagram::{Datagram, DatagramSocket};
use crate::executor::budget;
use crate::io::operation::never;
use crate::reactor::Direction;
use crate::time;

/// How long a sender without a peer waits before it tries a full receiver again, at first and at
/// most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// A Unix datagram socket: a [`Datagram`], which has the methods to send to a peer and to receive.
///
/// A datagram is sent and received whole; unix(7).
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::UnixDatagram;
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"ping").await?;
/// let mut buffer = [0; 16];
/// let len = b.recv(&mut buffer).await?;
/// assert_eq!(&buffer[..len], b"ping");
/// # Ok(()) })? }
/// ```
pub type UnixDatagram = Datagram<unix::UnixDatagram>;

/// Methods of [`UnixDatagram`] only.
impl Datagram<unix::UnixDatagram> {
    /// Binds to a path. Needs no runtime.
    ///
    /// The file must not exist yet, and stays when the socket is dropped. An error if the path is
    /// taken or too long (108 bytes, unix(7)), or permission is missing.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(unix::UnixDatagram::bind(path)?)
    }

    /// Binds to an address, which may be in the abstract namespace (unix(7)). Needs no runtime. An
    /// error if the address is taken.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::from_std(unix::UnixDatagram::bind_addr(address)?)
    }

    /// Makes a socket without an address, to send from. Needs no runtime. An error if the system
    /// refuses the descriptor.
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(unix::UnixDatagram::unbound()?)
    }

    /// Makes two sockets connected to each other: socketpair(2). Needs no runtime. An error if the
    /// system refuses the descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = unix::UnixDatagram::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Sets the peer to the socket at a path, at once: [`send`](Self::send) sends to it, and only
    /// it can send to this socket.
    ///
    /// # Errors
    ///
    /// Errors of connect(2): nothing is there, no process has it open, or permission is missing.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket().connect(path)
    }

    /// Sets the peer by its address, which may be in the abstract namespace. Otherwise as
    /// `connect`.
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.socket().connect_addr(address)
    }

    /// Sends a datagram to the socket at a path, and returns its length: all of it is sent.
    ///
    /// While the receiver is full it tries again by the clock, in the end every 16 ms, since the
    /// system does not report room to a socket without a peer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it sends the datagram only when it returns the length.
    ///
    /// # Errors
    ///
    /// Errors of sendto(2), except "would block": nothing is there, no process has it open, or
    /// permission is missing.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if it has to wait: "`sleep` was polled".
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.send_by_clock(|socket| socket.send_to(bytes, path)).await
    }

    /// Sends a datagram to an address, which may be in the abstract namespace. Otherwise as
    /// `send_to`, cancel safety and panics included.
    pub async fn send_to_addr(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.send_by_clock(|socket| socket.send_to_addr(bytes, address)).await
    }

    async fn send_by_clock(&self, send: impl Fn(&unix::UnixDatagram) -> io::Result<usize>) -> io::Result<usize> {
        let mut pause = FIRST_PAUSE;
        loop {
            budget::proceed().await;
            match send(self.socket()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Like [`send_to_addr`](Self::send_to_addr), for hand-written futures; the last waker to poll
    /// for sending wins.
    ///
    /// **Not guaranteed:** a wake, or rest. While a receiver is full the system may report room all
    /// the time (Linux) or not at all. Unless the socket is connected use `send_to`, which waits by
    /// the clock.
    pub fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], address: &SocketAddr) -> Poll<io::Result<usize>> {
        self.io().poll(cx, Direction::Write, |socket| socket.send_to_addr(bytes, address), never)
    }

    /// Shuts down one direction or both, at once: shutdown(2). Receiving then returns 0 once
    /// everything that has arrived is taken, and sending returns `EPIPE`. Some systems refuse a
    /// socket without a peer.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // Before the call, whose event makes the waiting tasks look.
        let before = self.ended.fetch_or(how != Shutdown::Write, Ordering::AcqRel);
        self.socket().shutdown(how).inspect_err(|_| self.ended.store(before, Ordering::Release))
    }
}

impl Sealed for unix::UnixDatagram {}

impl DatagramSocket for unix::UnixDatagram {
    type Address = SocketAddr;

    forward! {
        send(bytes: &[u8]) -> usize,
        recv(buffer: &mut [u8]) -> usize,
        recv_from(buffer: &mut [u8]) -> (usize, SocketAddr),
        local_addr() -> SocketAddr,
        peer_addr() -> SocketAddr,
        set_nonblocking(nonblocking: bool) -> (),
    }

    fn no_sender() -> io::Result<SocketAddr> {
        SocketAddr::from_pathname("")
    }
}
