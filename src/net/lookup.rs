//! Targets of connections, and [`lookup_host`]. Literal addresses are parsed in place. Names go to
//! the [resolver](super::resolver).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use super::resolver;
use crate::executor::budget;

/// A target of a connection: an address, or a host name and a port.
///
/// Implemented for socket addresses, pairs of host and port, and `"host:port"` texts. Sealed.
pub trait ToAddress: sealed::Sealed {}

mod sealed {
    use std::io;
    use std::net::SocketAddr;

    pub trait Sealed {
        fn target(self) -> Target;
    }

    #[derive(Debug)]
    pub enum Target {
        /// A literal address, or the error of a text without a valid port.
        Known(io::Result<SocketAddr>),
        /// Host, port: to be looked up.
        Name(String, u16),
    }
}

use sealed::Sealed;
pub(super) use sealed::Target;

impl<A: Sealed> ToAddress for A {}

/// Implements [`Sealed`] for addresses, which need no look-up.
macro_rules! literals {
    ($($address:ty),*) => {
        $(impl Sealed for $address {
            fn target(self) -> Target {
                Target::Known(Ok(self.into()))
            }
        })*
    };
}

literals!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

fn host(host: &str, port: u16) -> Target {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_or_else(|_| Target::Name(host.to_owned(), port), |ip: IpAddr| (ip, port).target())
}

impl Sealed for (&str, u16) {
    fn target(self) -> Target {
        host(self.0, self.1)
    }
}

impl Sealed for (String, u16) {
    fn target(self) -> Target {
        host(&self.0, self.1)
    }
}

impl Sealed for &str {
    fn target(self) -> Target {
        if let Ok(address) = self.parse() {
            return Target::Known(Ok(address));
        }
        match self.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) => host(name, port),
            _ => {
                let text = format!("`{self}` is no address; write `host:port`");
                Target::Known(Err(io::Error::new(io::ErrorKind::InvalidInput, text)))
            }
        }
    }
}

impl Sealed for String {
    fn target(self) -> Target {
        self.as_str().target()
    }
}

impl Sealed for &String {
    fn target(self) -> Target {
        self.as_str().target()
    }
}

/// Returns the addresses of a host, in the system's order. A literal address needs no look-up.
///
/// Look-ups have threads of their own, four per runtime, so slow ones delay no other blocking work.
/// Equal names that are asked for at the same time are looked up once. Nothing is cached here.
///
/// # Cancel safety
///
/// Dropping the future gives the look-up up: it leaves the queue if nobody else waits for the name.
/// One that has started continues by itself, and its answer is dropped.
///
/// # Errors
///
/// If the name does not resolve, a text has no valid port, or the look-up cannot be started.
///
/// # Panics
///
/// Outside a runtime, if a name must be looked up.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// let addresses = postlude::net::lookup_host("localhost:80").await?;
/// assert!(addresses.iter().all(|address| address.port() == 80));
/// # Ok(()) })? }
/// ```
pub async fn lookup_host(host: impl ToAddress) -> io::Result<Vec<SocketAddr>> {
    resolve(host.target()).await
}

pub(super) async fn resolve(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Known(address) => {
            budget::proceed().await;
            Ok(vec![address?])
        }
        Target::Name(host, port) => resolver::resolve(host, port).await,
    }
}

/// [`resolve`] on the calling thread, for `bind`, which is not async.
pub(super) fn resolve_here(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Known(address) => Ok(vec![address?]),
        Target::Name(host, port) => Ok((host.as_str(), port).to_socket_addrs()?.collect()),
    }
}

/// Tries each address in turn. Returns the first success, or the last error.
pub(super) fn first<T>(
    addresses: Vec<SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = no_address();
    for address in addresses {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The error if a look-up succeeds without an address.
pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}
