//! UDP: [`UdpSocket`].
//!
//! A datagram is sent and received whole or not at all, so how long one is says nothing about the next: nothing but "would block"
//! ends the readiness of such a socket.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

use super::lookup::{self, ToAddress};
use crate::reactor::Direction;
use crate::reactor::io::{Io, never};

/// A UDP socket, connected to one peer or open to all.
///
/// Methods take `&self`, and any number of tasks may send and receive at a time.
///
/// Not guaranteed: that a datagram arrives, arrives once, or in order; udp(7).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::net::UdpSocket;
/// postlude::run(async {
///     let server = UdpSocket::bind("127.0.0.1:0")?;
///     let client = UdpSocket::bind("127.0.0.1:0")?;
///     client.send_to(b"ping", server.local_addr()?).await?;
///     let mut buffer = [0; 1500];
///     let (len, from) = server.recv_from(&mut buffer).await?;
///     assert_eq!((&buffer[..len], from), (&b"ping"[..], client.local_addr()?));
///     Ok(())
/// })?
/// # }
/// ```
pub struct UdpSocket {
    io: Io<std::net::UdpSocket>,
}

impl UdpSocket {
    /// Binds to an address; port 0 lets the system choose one. A host name is looked up on this thread. Needs no runtime.
    ///
    /// For other options make a socket with `socket2` and use [`from_std`](Self::from_std).
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours or malformed, or the name does not resolve.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind(address: impl ToAddress) -> io::Result<Self> {
        lookup::first_here(address.target(), std::net::UdpSocket::bind::<SocketAddr>).and_then(Self::from_std)
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and datagrams from anybody else are not received any more. Nothing is sent, so
    /// nobody need be there; that shows as `ConnectionRefused` of a later `send` or `recv`, once, and does the socket no harm. A host
    /// name is looked up on the blocking pool, and the first of its addresses that can be routed to is taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the peer as it was.
    ///
    /// # Errors
    ///
    /// As connect(2), or that the name does not resolve.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if a name must be looked up.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// let server = UdpSocket::bind("127.0.0.1:0")?;
    /// let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.connect(server.local_addr()?).await?;
    /// assert_eq!(client.peer_addr()?, server.local_addr()?);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn connect(&self, address: impl ToAddress) -> io::Result<()> {
        lookup::first(address.target(), async |address| self.io.get().connect(address)).await
    }

    /// Sends a datagram to the [connected](Self::connect) peer, and says how many bytes it has: all of them.
    ///
    /// # Cancel safety
    ///
    /// Nothing is sent unless its length is returned.
    ///
    /// # Errors
    ///
    /// As send(2), except that it never would block: `EMSGSIZE` if it is too long (65,507 bytes over IPv4), `EDESTADDRREQ` if no peer is
    /// set, `ECONNREFUSED` if an earlier datagram found nobody (the next one is sent again); or if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.connect(server.local_addr()?).await?;
    /// assert_eq!(client.send(b"hello").await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.wait(Direction::Write, |socket| socket.send(bytes), never).await
    }

    /// Receives a datagram and returns its length. What does not fit the buffer is lost. Waits while there is none; a datagram may be
    /// empty, so 0 is not the end of anything.
    ///
    /// # Cancel safety
    ///
    /// No datagram is taken unless its length is returned.
    ///
    /// # Errors
    ///
    /// As recv(2), except that it never would block: `ECONNREFUSED`, once, if a datagram sent to the connected peer found nobody; or
    /// if used outside its runtime.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"longer", server.local_addr()?).await?;
    /// let mut four = [0; 4];
    /// assert_eq!(server.recv(&mut four).await?, 4);
    /// assert_eq!(&four, b"long");
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |socket| socket.recv(buffer), never).await
    }

    /// Sends a datagram to an address, and says how many bytes it has: all of them. Look names up once, with
    /// [`lookup_host`](super::lookup_host).
    ///
    /// # Cancel safety
    ///
    /// Nothing is sent unless its length is returned.
    ///
    /// # Errors
    ///
    /// As sendto(2), except that it never would block; or if used outside its runtime. That nobody is there is not reported, unless
    /// the socket is connected.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(client.send_to(b"hello", server.local_addr()?).await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<usize> {
        self.io.wait(Direction::Write, |socket| socket.send_to(bytes, address), never).await
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"", server.local_addr()?).await?;
    /// assert_eq!(server.recv_from(&mut [0; 16]).await?, (0, client.local_addr()?));
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.wait(Direction::Read, |socket| socket.recv_from(buffer), never).await
    }

    /// Receives the next datagram without taking it. Otherwise as [`recv`](Self::recv).
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"twice", server.local_addr()?).await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(server.peek(&mut buffer).await?, 5);
    /// assert_eq!(server.recv(&mut buffer).await?, 5);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.wait(Direction::Read, |socket| socket.peek(buffer), never).await
    }

    /// Receives the next datagram and who sent it, without taking it. Otherwise as [`recv`](Self::recv).
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"twice", server.local_addr()?).await?;
    /// assert_eq!(server.peek_from(&mut [0; 16]).await?, (5, client.local_addr()?));
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.wait(Direction::Read, |socket| socket.peek_from(buffer), never).await
    }

    /// Waits until a datagram or an error has been reported. Another task may take it first, so the next
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"x", server.local_addr()?).await?;
    /// server.readable().await?;
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until there is room for a datagram. Another task may take it first, so the next [`send`](Self::send) may wait all
    /// the same.
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// UdpSocket::bind("127.0.0.1:0")?.writable().await?;
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.connect(server.local_addr()?).await?;
    /// assert_eq!(std::future::poll_fn(|cx| client.poll_send(cx, b"x")).await?, 1);
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
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"x", server.local_addr()?).await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(std::future::poll_fn(|cx| server.poll_recv(cx, &mut buffer)).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Read, |socket| socket.recv(buffer), never)
    }

    /// Like [`send_to`](Self::send_to), for a future of one's own. The last waker of those who poll to send wins.
    ///
    /// # Errors
    ///
    /// As `send_to`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// let address = server.local_addr()?;
    /// assert_eq!(std::future::poll_fn(|cx| client.poll_send_to(cx, b"x", address)).await?, 1);
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], address: SocketAddr) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Direction::Write, |socket| socket.send_to(bytes, address), never)
    }

    /// Like [`recv_from`](Self::recv_from), for a future of one's own. The last waker of those who poll to receive wins.
    ///
    /// # Errors
    ///
    /// As `recv`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # use postlude::net::UdpSocket;
    /// # postlude::run(async {
    /// # let server = UdpSocket::bind("127.0.0.1:0")?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// client.send_to(b"x", server.local_addr()?).await?;
    /// let mut buffer = [0; 16];
    /// let (len, from) = std::future::poll_fn(|cx| server.poll_recv_from(cx, &mut buffer)).await?;
    /// assert_eq!((len, from), (1, client.local_addr()?));
    /// # Ok(())
    /// # })?
    /// # }
    /// ```
    pub fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll(cx, Direction::Read, |socket| socket.recv_from(buffer), never)
    }

    /// Our address.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.ip().is_loopback());
    /// # Ok(())
    /// # }
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
    /// let nobody = postlude::net::UdpSocket::bind("127.0.0.1:0")?.peer_addr().unwrap_err();
    /// assert_eq!(nobody.kind(), std::io::ErrorKind::NotConnected);
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Takes the pending error off the socket (`SO_ERROR`, socket(7)), if there is one, so that no `send` or `recv` returns it.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UdpSocket::bind("127.0.0.1:0")?.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.get().take_error()
    }

    /// Whether datagrams may be sent to a broadcast address (`SO_BROADCAST`, socket(7)). Off by default.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.io.get().set_broadcast(broadcast)
    }

    /// Whether datagrams may be sent to a broadcast address.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(!postlude::net::UdpSocket::bind("127.0.0.1:0")?.broadcast()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get().broadcast()
    }

    /// The hops a datagram may take (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_ttl(8)?;
    /// assert_eq!(socket.ttl()?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get().set_ttl(ttl)
    }

    /// The hops a datagram may take.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UdpSocket::bind("127.0.0.1:0")?.ttl()? > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get().ttl()
    }

    /// Whether this host receives the multicast datagrams it sends over IPv4 (`IP_MULTICAST_LOOP`, ip(7)). On by default.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_loop_v4(false)?;
    /// assert!(!socket.multicast_loop_v4()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.io.get().set_multicast_loop_v4(on)
    }

    /// Whether this host receives the multicast datagrams it sends over IPv4.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UdpSocket::bind("127.0.0.1:0")?.multicast_loop_v4()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.io.get().multicast_loop_v4()
    }

    /// The hops a multicast datagram may take over IPv4 (`IP_MULTICAST_TTL`, ip(7)). 1 by default: not beyond this network.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_ttl_v4(4)?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.io.get().set_multicast_ttl_v4(ttl)
    }

    /// The hops a multicast datagram may take over IPv4.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(postlude::net::UdpSocket::bind("127.0.0.1:0")?.multicast_ttl_v4()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.io.get().multicast_ttl_v4()
    }

    /// Whether this host receives the multicast datagrams it sends over IPv6 (`IPV6_MULTICAST_LOOP`, ipv6(7)). On by default.
    ///
    /// # Errors
    ///
    /// As setsockopt(2); also if the socket is an IPv4 one.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("[::1]:0")?;
    /// socket.set_multicast_loop_v6(false)?;
    /// assert!(!socket.multicast_loop_v6()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.io.get().set_multicast_loop_v6(on)
    }

    /// Whether this host receives the multicast datagrams it sends over IPv6.
    ///
    /// # Errors
    ///
    /// As getsockopt(2); also if the socket is an IPv4 one.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// assert!(postlude::net::UdpSocket::bind("[::1]:0")?.multicast_loop_v6()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.io.get().multicast_loop_v6()
    }

    /// Receives what is sent to a multicast group on the interface with this address (`IP_ADD_MEMBERSHIP`, ip(7)). `0.0.0.0` lets the
    /// system choose the interface.
    ///
    /// # Errors
    ///
    /// As setsockopt(2): no such interface, no multicast address, or the group was joined already.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// let socket = postlude::net::UdpSocket::bind("0.0.0.0:5353")?;
    /// socket.join_multicast_v4(Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::UNSPECIFIED)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().join_multicast_v4(&group, &interface)
    }

    /// Undoes [`join_multicast_v4`](Self::join_multicast_v4). The drop of the socket leaves every group.
    ///
    /// # Errors
    ///
    /// As setsockopt(2), `AddrNotAvailable` if the group was not joined.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(socket.leave_multicast_v4(Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().leave_multicast_v4(&group, &interface)
    }

    /// Receives what is sent to a multicast group on the interface with this index (`IPV6_ADD_MEMBERSHIP`, ipv6(7)). 0 lets the
    /// system choose the interface.
    ///
    /// # Errors
    ///
    /// As setsockopt(2): no such interface, no multicast address, or the group was joined already.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("[::]:5353")?;
    /// socket.join_multicast_v6("ff02::fb".parse().unwrap(), 0)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().join_multicast_v6(&group, interface)
    }

    /// Undoes [`join_multicast_v6`](Self::join_multicast_v6). The drop of the socket leaves every group.
    ///
    /// # Errors
    ///
    /// As setsockopt(2), `AddrNotAvailable` if the group was not joined.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(socket.leave_multicast_v6("ff02::fb".parse().unwrap(), 0).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().leave_multicast_v6(&group, interface)
    }

    /// Takes a standard socket over and puts it in non-blocking mode. Needs no runtime.
    ///
    /// # Errors
    ///
    /// If the mode cannot be set.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let socket = postlude::net::UdpSocket::from_std(socket)?;
    /// # drop(socket); Ok(()) }
    /// ```
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: Io::new(socket) })
    }

    /// Gives the standard socket back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// If it belongs to another runtime that is alive; it is closed there then.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = postlude::net::UdpSocket::bind("127.0.0.1:0")?.into_std()?;
    /// socket.set_nonblocking(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        self.io.into_inner()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get().as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.io.get().as_raw_fd()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}
