//! The other end of a connection, by kind of address.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection, or the client that a proxy speaks for.
///
/// ```
/// use postlude::http::Peer;
/// let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
/// assert_eq!((peer.to_string().as_str(), Peer::Unix.addr()), ("127.0.0.1:80", None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Peer {
    /// An address of TCP. The port is 0 if a proxy did not say it.
    Ip(SocketAddr),
    /// A process on this machine, through a Unix socket.
    Unix,
    /// Without an address: a socket pair, a pipe, a client that its proxy does not know.
    #[default]
    Unknown,
}

impl Peer {
    /// Returns the address, if it is one of TCP.
    #[must_use]
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix | Self::Unknown => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
