//! UDP: [`UdpSocket`], a [`Datagram`] with UDP's own methods.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use super::Sealed;
use super::datagram::{Datagram, DatagramSocket};
use super::lookup::{self, ToAddress};
use crate::io::operation::never;
use crate::reactor::Direction;

/// A UDP socket: a [`Datagram`], which has the methods to send to a peer and to receive.
///
/// **Not guaranteed:** that a datagram arrives, arrives once, or in order; udp(7).
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// use postlude::net::UdpSocket;
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"ping", server.local_addr()?).await?;
/// let mut buffer = [0; 1500];
/// let (len, from) = server.recv_from(&mut buffer).await?;
/// assert_eq!((&buffer[..len], from), (&b"ping"[..], client.local_addr()?));
/// # Ok(()) })? }
/// ```
pub type UdpSocket = Datagram<std::net::UdpSocket>;

/// Methods of [`UdpSocket`] only.
impl Datagram<std::net::UdpSocket> {
    /// Binds to an address; port 0 lets the system choose one. Needs no runtime: a host name is
    /// looked up on this thread.
    ///
    /// For other options make a socket with `socket2` and use [`from_std`](Self::from_std).
    ///
    /// # Errors
    ///
    /// If the address is taken, not one of this host or malformed, or the name does not resolve.
    pub fn bind(address: impl ToAddress) -> io::Result<Self> {
        let addresses = lookup::resolve_here(address.target())?;
        lookup::first(addresses, std::net::UdpSocket::bind::<SocketAddr>).and_then(Self::from_std)
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and only its datagrams are received.
    ///
    /// Nothing is sent, so the peer need not exist. If it does not, one later `send` or `recv`
    /// returns `ConnectionRefused`, which does the socket no harm. A host name is looked up as by
    /// [`lookup_host`](super::lookup_host), and its first address that has a route is taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the peer as it was.
    ///
    /// # Errors
    ///
    /// Those of connect(2), or that the name does not resolve.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if a name must be looked up.
    pub async fn connect(&self, address: impl ToAddress) -> io::Result<()> {
        let addresses = lookup::resolve(address.target()).await?;
        lookup::first(addresses, |address| self.socket().connect(address))
    }

    /// Sends a datagram to an address, and returns its length: all of it is sent. Look names up
    /// once, with [`lookup_host`](super::lookup_host).
    ///
    /// Cancel safety as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Errors of sendto(2), except "would block"; or if used outside its runtime. A missing
    /// receiver is reported only to a connected socket.
    pub async fn send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<usize> {
        self.io().wait(Direction::Write, |socket| socket.send_to(bytes, address), never).await
    }

    /// Like [`send_to`](Self::send_to), for hand-written futures; the last waker to poll for
    /// sending wins.
    pub fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], address: SocketAddr) -> Poll<io::Result<usize>> {
        self.io().poll(cx, Direction::Write, |socket| socket.send_to(bytes, address), never)
    }

    /// Receives the next datagram and leaves it there. Otherwise as [`recv`](Self::recv), cancel
    /// safety included.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io().wait(Direction::Read, |socket| socket.peek(buffer), never).await
    }

    /// Receives the next datagram and its sender, and leaves it there. Otherwise as
    /// [`recv`](Self::recv), cancel safety included.
    pub async fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io().wait(Direction::Read, |socket| socket.peek_from(buffer), never).await
    }

    /// Receives datagrams of a multicast group on the interface with this address
    /// (`IP_ADD_MEMBERSHIP`, ip(7)). `0.0.0.0` lets the system choose the interface.
    ///
    /// # Errors
    ///
    /// Errors of setsockopt(2): no such interface, no multicast address, or the group was joined
    /// already.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.socket().join_multicast_v4(&group, &interface)
    }

    /// Undoes [`join_multicast_v4`](Self::join_multicast_v4); `AddrNotAvailable` if the group was
    /// not joined. The drop of the socket leaves every group.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.socket().leave_multicast_v4(&group, &interface)
    }

    /// Receives datagrams of a multicast group on the interface with this index
    /// (`IPV6_ADD_MEMBERSHIP`, ipv6(7)). 0 lets the system choose. Errors as
    /// [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket().join_multicast_v6(&group, interface)
    }

    /// Undoes [`join_multicast_v6`](Self::join_multicast_v6); `AddrNotAvailable` if the group was
    /// not joined. The drop of the socket leaves every group.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket().leave_multicast_v6(&group, interface)
    }
}

/// Options of [`UdpSocket`]. Errors are those of getsockopt(2) and setsockopt(2).
impl Datagram<std::net::UdpSocket> {
    /// Takes the pending error off the socket (`SO_ERROR`, socket(7)), so that no `send` or `recv`
    /// returns it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket().take_error()
    }

    /// Sets whether datagrams may go to a broadcast address (`SO_BROADCAST`, socket(7)). Off by
    /// default.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket().set_broadcast(broadcast)
    }

    /// Returns whether datagrams may go to a broadcast address.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket().broadcast()
    }

    /// Sets how many hops a datagram may take (`IP_TTL`, ip(7)).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_ttl(ttl)
    }

    /// Returns how many hops a datagram may take.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket().ttl()
    }

    /// Sets whether this host receives the multicast datagrams it sends over IPv4
    /// (`IP_MULTICAST_LOOP`, ip(7)). On by default.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.socket().set_multicast_loop_v4(on)
    }

    /// Returns whether this host receives the multicast datagrams it sends over IPv4.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket().multicast_loop_v4()
    }

    /// Sets how many hops a multicast datagram may take over IPv4 (`IP_MULTICAST_TTL`, ip(7)).
    /// Default 1: not beyond this network.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_multicast_ttl_v4(ttl)
    }

    /// Returns how many hops a multicast datagram may take over IPv4.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket().multicast_ttl_v4()
    }

    /// Sets whether this host receives the multicast datagrams it sends over IPv6
    /// (`IPV6_MULTICAST_LOOP`, ipv6(7)). On by default. An error on an IPv4 socket.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.socket().set_multicast_loop_v6(on)
    }

    /// Returns whether this host receives the multicast datagrams it sends over IPv6. An error on
    /// an IPv4 socket.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.socket().multicast_loop_v6()
    }
}

impl Sealed for std::net::UdpSocket {}

impl DatagramSocket for std::net::UdpSocket {
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
        // Not reached: there is no `UdpSocket::shutdown`.
        Err(io::ErrorKind::NotConnected.into())
    }
}
