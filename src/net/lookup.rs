//! From names to addresses. Literal addresses are parsed in place; names are looked up on the blocking pool, since the system's
//! look-up (getaddrinfo(3)) blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use crate::blocking::spawn_blocking;
use crate::task::budget;

/// What can be connected to: an address, or a host name and a port.
///
/// Implemented for socket addresses, pairs of host and port, and `"host:port"` texts. It is sealed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let addresses = postlude::net::lookup_host(("127.0.0.1", 80)).await?;
///     assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
///     Ok(())
/// })?
/// # }
/// ```
pub trait ToAddress: sealed::Sealed {}

mod sealed {
    use std::net::SocketAddr;

    pub trait Sealed {
        fn target(self) -> Target;
    }

    /// An address, or a name that has to be looked up.
    #[derive(Debug)]
    pub enum Target {
        Literal(SocketAddr),
        /// Host, port.
        Name(String, u16),
        /// A text without a port.
        Malformed(String),
    }
}

use sealed::Sealed;
pub(super) use sealed::Target;

impl<A: Sealed> ToAddress for A {}

fn literal(address: impl Into<SocketAddr>) -> Target {
    Target::Literal(address.into())
}

fn host(host: &str, port: u16) -> Target {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_or_else(|_| Target::Name(host.to_owned(), port), |ip: IpAddr| literal((ip, port)))
}

impl Sealed for SocketAddr {
    fn target(self) -> Target {
        literal(self)
    }
}

impl Sealed for SocketAddrV4 {
    fn target(self) -> Target {
        literal(self)
    }
}

impl Sealed for SocketAddrV6 {
    fn target(self) -> Target {
        literal(self)
    }
}

impl Sealed for (IpAddr, u16) {
    fn target(self) -> Target {
        literal(self)
    }
}

impl Sealed for (Ipv4Addr, u16) {
    fn target(self) -> Target {
        literal(self)
    }
}

impl Sealed for (Ipv6Addr, u16) {
    fn target(self) -> Target {
        literal(self)
    }
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
            return Target::Literal(address);
        }
        match self.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) => host(name, port),
            _ => Target::Malformed(self.to_owned()),
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

/// The addresses of a host, in the system's order. A literal address is its own answer and needs no look-up.
///
/// # Cancel safety
///
/// A look-up that has started goes on by itself, and its answer is dropped.
///
/// # Errors
///
/// If the name does not resolve, if a text has no port, or if the look-up could not be started.
///
/// # Panics
///
/// Outside a runtime, if a name must be looked up.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// postlude::run(async {
///     let addresses = postlude::net::lookup_host("localhost:80").await?;
///     assert!(addresses.iter().all(|address| address.port() == 80));
///     Ok(())
/// })?
/// # }
/// ```
pub async fn lookup_host(host: impl ToAddress) -> io::Result<Vec<SocketAddr>> {
    resolve(host.target()).await
}

async fn resolve(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Literal(address) => {
            budget::proceed().await;
            Ok(vec![address])
        }
        Target::Malformed(text) => {
            budget::proceed().await;
            Err(malformed(&text))
        }
        Target::Name(host, port) => {
            spawn_blocking(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await?
        }
    }
}

/// Tries `attempt` with each address of `target`. Returns the first success, or the last error.
pub(super) async fn first<T>(target: Target, attempt: impl AsyncFn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut result = Err(no_address());
    for address in resolve(target).await? {
        result = attempt(address).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

/// The same without waiting, for `bind`: a name is looked up on the calling thread.
pub(super) fn first_here<T>(target: Target, attempt: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let addresses = match target {
        Target::Literal(address) => return attempt(address),
        Target::Malformed(text) => return Err(malformed(&text)),
        Target::Name(host, port) => (host.as_str(), port).to_socket_addrs()?,
    };
    let mut result = Err(no_address());
    for address in addresses {
        result = attempt(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{text}` is no address; write `host:port`"))
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}
