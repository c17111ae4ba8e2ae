//! Sockets: TCP, UDP and Unix ones.
//!
//! | | TCP | UDP | Unix | the methods |
//! |---|---|---|---|---|
//! | listeners | [`TcpListener`] | | [`UnixListener`] | [`Listener`] |
//! | connections | [`TcpStream`] | | [`UnixStream`] | [`Stream`] |
//! | datagrams | | [`UdpSocket`] | [`UnixDatagram`] | [`Datagram`] |
//!
//! Each is a socket of the standard library in non-blocking mode, with a place in a reactor once it
//! has had to wait. Methods take `&self`, so two tasks may read and write one socket at the same
//! time; any number may wait in each direction. The `poll_*` methods and the `futures-io` traits
//! share one waker per direction: the last one replaces the others.
//!
//! A socket belongs to no runtime until it first waits. From then on only that runtime may use it;
//! anywhere else its operations return an error. `into_std` and `from_std` move it. Set other
//! options (`SO_REUSEPORT`, backlog, keep-alive) on the standard socket before `from_std`, with
//! `socket2` for instance.

/// Implements trait methods by the inherent methods of the same names. The standard library's
/// sockets share them, but no trait of it says so.
macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty)?) -> $result:ty),* $(,)?) => {
        $(fn $method(&self $(, $argument: $type)?) -> io::Result<$result> {
            self.$method($($argument)?)
        })*
    };
}

mod accept;
mod datagram;
mod listener;
mod lookup;
mod resolver;
mod stream;
mod tcp;
mod udp;
mod unix;
mod unix_datagram;

pub use datagram::{Datagram, DatagramSocket};
pub use listener::{Incoming, Listener, ListenerSocket};
pub use lookup::{ToAddress, lookup_host};
pub use stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
pub use tcp::{TcpListener, TcpReadHalf, TcpStream, TcpWriteHalf};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixReadHalf, UnixStream, UnixWriteHalf};
pub use unix_datagram::UnixDatagram;

use sealed::Sealed;

mod sealed {
    /// Keeps the traits of the families to the standard library's sockets.
    pub trait Sealed {}
}
