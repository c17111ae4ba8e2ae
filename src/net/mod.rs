//! Sockets: TCP, UDP and Unix ones.
//!
//! Every type is a socket of the standard library in non-blocking mode and a place in a reactor once it had to wait. Methods take
//! `&self`, so two tasks may read and write one socket at the same time; any number may wait in each direction. The `poll_*`
//! methods and the `futures-io` traits share one place per direction, where the last waker wins.
//!
//! A socket belongs to no runtime until it first waits; from then on it can be used in that runtime only, and reports an error
//! anywhere else. `into_std` and `from_std` move it. What the types do not offer (`SO_REUSEPORT`, backlog, keep-alive)
//! is set on the standard socket, with `socket2` for instance, before `from_std`.

mod accept;
mod datagram;
mod listener;
mod lookup;
mod stream;
mod tcp;
mod udp;
mod unix;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, Listener, ListenerSocket};
pub use lookup::{ToAddress, lookup_host};
pub use stream::{ReadHalf, Stream, StreamSocket, WriteHalf};
pub use tcp::{TcpListener, TcpReadHalf, TcpStream, TcpWriteHalf};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixReadHalf, UnixStream, UnixWriteHalf};

use sealed::Sealed;

mod sealed {
    pub trait Sealed {}
}
