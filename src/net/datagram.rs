//! Unix datagram sockets: [`UnixDatagram`].
//!
//! Unlike UDP, nothing is lost or reordered, and a full receiver makes the sender wait. There is one trap in that: a socket that is
//! not connected is always reported writable, whomever it sends to, so [`UnixDatagram::send_to`] tries again by the clock.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

use crate::reactor::Direction;
use crate::reactor::io::{Io, never};

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
}
