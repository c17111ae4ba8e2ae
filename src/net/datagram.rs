//! Datagram sockets, UDP and Unix ones: [`Datagram`].
//!
//! A datagram is sent and received whole or not at all, so the length of one says nothing about the
//! next: only "would block" ends the readiness of such a socket. [`DatagramSocket`] names the
//! differences between the families; `udp.rs` and `unix_datagram.rs` bind, connect and send to an
//! address.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::Sealed;
use crate::io::operation::{Io, never};
use crate::reactor::Direction;

/// A socket that a [`Datagram`] wraps: UDP or Unix, of the standard library. Sealed.
pub trait DatagramSocket: Sealed + AsFd + AsRawFd + fmt::Debug + Send + Sync + 'static {
    /// The addresses of the family.
    type Address;

    #[doc(hidden)]
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;
    #[doc(hidden)]
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;
    #[doc(hidden)]
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)>;
    /// The sender that `recv_from` returns once the socket was shut down.
    #[doc(hidden)]
    fn no_sender() -> io::Result<Self::Address>;
    #[doc(hidden)]
    fn local_addr(&self) -> io::Result<Self::Address>;
    #[doc(hidden)]
    fn peer_addr(&self) -> io::Result<Self::Address>;
    #[doc(hidden)]
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
}

/// A datagram socket, connected to one peer or open to all: [`UdpSocket`](super::UdpSocket) or
/// [`UnixDatagram`](super::UnixDatagram). Any number of tasks may send and receive at a time.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::UnixDatagram;
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"longer").await?;
/// let mut four = [0; 4];
/// assert_eq!(b.recv(&mut four).await?, 4);
/// assert_eq!(&four, b"long", "what did not fit is lost");
/// # Ok(()) })? }
/// ```
pub struct Datagram<S: DatagramSocket> {
    io: Io<S>,
    /// Set by `UnixDatagram::shutdown`, read by the methods that receive. The system reports the
    /// end only to descriptors in blocking mode; ours would block for ever.
    pub(super) ended: AtomicBool,
}

impl<S: DatagramSocket> Datagram<S> {
    pub(super) fn socket(&self) -> &S {
        self.io.get()
    }

    pub(super) fn io(&self) -> &Io<S> {
        &self.io
    }

    fn recv_now(&self, socket: &S, buffer: &mut [u8]) -> io::Result<usize> {
        self.or_end(socket.recv(buffer), || Ok(0))
    }

    fn recv_from_now(&self, socket: &S, buffer: &mut [u8]) -> io::Result<(usize, S::Address)> {
        self.or_end(socket.recv_from(buffer), || Ok((0, S::no_sender()?)))
    }

    fn or_end<T>(&self, received: io::Result<T>, end: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.ended.load(Ordering::Acquire) => end(),
            received => received,
        }
    }

    /// Sends a datagram to the connected peer, and returns its length: all of it is sent.
    ///
    /// Waits while there is no room, on a Unix socket also while the receiver is full.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it sends the datagram only when it returns the length.
    ///
    /// # Errors
    ///
    /// Errors of send(2), except "would block"; or if used outside its runtime.
    ///
    /// - `EMSGSIZE` if the datagram is too long: 65,507 bytes over IPv4, the send buffer's size for
    ///   a Unix socket;
    /// - `EDESTADDRREQ` (UDP) or `ENOTCONN` (Unix) if no peer is set;
    /// - `ECONNREFUSED` if the Unix peer is gone, or an earlier UDP datagram found no receiver. UDP
    ///   reports that once and sends the next datagram again.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.wait(Direction::Write, |socket| socket.send(bytes), never).await
    }

    /// Receives a datagram and returns its length. Bytes that do not fit the buffer are lost.
    ///
    /// A datagram may be empty, so 0 does not mean an end, unless a Unix socket was shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it takes a datagram only when it returns the length.
    ///
    /// # Errors
    ///
    /// Errors of recv(2), except "would block"; or if used outside its runtime. A connected UDP
    /// socket reports `ECONNREFUSED` once if a datagram that it sent found no receiver.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |socket| self.recv_now(socket, buffer), never).await
    }

    /// Receives a datagram and returns its length and its sender. Otherwise as
    /// [`recv`](Self::recv), cancel safety included.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, S::Address)> {
        self.io.wait(Direction::Read, |socket| self.recv_from_now(socket, buffer), never).await
    }

    /// Waits until a datagram, an error or an end has been reported. Another task may take it
    /// first, so the next [`recv`](Self::recv) may wait all the same.
    ///
    /// Fails outside the socket's runtime. Dropping the future loses nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until there is room for a datagram. Another task may take it first, so the next
    /// [`send`](Self::send) may wait all the same.
    ///
    /// A Unix socket without a peer always counts as writable, even while a receiver is full. Fails
    /// outside the socket's runtime. Dropping the future loses nothing.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Like [`send`](Self::send), for hand-written futures; the last waker to poll for sending
    /// wins.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Write, |socket| socket.send(bytes), never)
    }

    /// Like [`recv`](Self::recv), for hand-written futures; the last waker to poll for receiving
    /// wins.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |socket| self.recv_now(socket, buffer), never)
    }

    /// Like [`recv_from`](Self::recv_from), for hand-written futures; the last waker to poll for
    /// receiving wins.
    pub fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, S::Address)>> {
        self.io.poll(cx, Direction::Read, |socket| self.recv_from_now(socket, buffer), never)
    }

    /// Returns the address of this socket: getsockname(2).
    pub fn local_addr(&self) -> io::Result<S::Address> {
        self.socket().local_addr()
    }

    /// Returns the address of the connected peer, or `NotConnected` if none is set: getpeername(2).
    pub fn peer_addr(&self) -> io::Result<S::Address> {
        self.socket().peer_addr()
    }

    /// Takes over a standard socket and puts it in non-blocking mode, which may fail. Needs no
    /// runtime.
    pub fn from_std(socket: S) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: Io::new(socket), ended: AtomicBool::new(false) })
    }

    /// Gives the standard socket back, still in non-blocking mode. Fails if it belongs to another
    /// live runtime, which then closes it.
    pub fn into_std(self) -> io::Result<S> {
        self.io.into_inner()
    }
}

impl<S: DatagramSocket> AsFd for Datagram<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl<S: DatagramSocket> AsRawFd for Datagram<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl<S: DatagramSocket> fmt::Debug for Datagram<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}
