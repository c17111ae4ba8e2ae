//! Listeners of any kind: [`Acceptor`], the form in which a server holds several, and the tasks of
//! the connections.
//!
//! A connection comes in two steps. `accept` takes what the system has; the server awaits it for
//! all listeners in one task. `handshake` makes a stream of it, in the connection's own task: so a
//! client that is silent in a TLS handshake holds up no other client.
//!
//! The trait's methods are async, so it cannot be a trait object. A [`Listener`] is one: its loop,
//! as one boxed future, costs an allocation per listener and none per connection.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use pin_project_lite::pin_project;

use crate::http::app::peer::Peer;
use crate::http::app::refusal::Refusal;
use crate::http::conn::closing::Leftover;
use crate::http::conn::connection::Connection;
use crate::http::conn::places::ConnectionPlace;
use crate::http::conn::shared::ServerState;
use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::spawn;
use crate::task::poll_proceed;
use crate::time::timeout;

/// Accepts connections for a [`Server`](crate::http::Server): a TCP or a Unix listener,
/// [`ProxyProtocol`](crate::http::ProxyProtocol) around one, TLS around any of them
/// (`examples/https`), or your own.
///
/// ```
/// use std::io;
/// use postlude::http::{Acceptor, Address, Peer, Router, Server};
/// use postlude::net::{TcpListener, TcpStream};
///
/// /// Answers only this machine.
/// struct Private(TcpListener);
///
/// impl Acceptor for Private {
///     type Raw = TcpStream;
///     type Io = TcpStream;
///
///     async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
///         Acceptor::accept(&self.0).await
///     }
///
///     async fn handshake(&self, stream: TcpStream, peer: &mut Peer) -> io::Result<TcpStream> {
///         match peer.addr() {
///             Some(address) if address.ip().is_loopback() => Ok(stream),
///             _ => Err(io::ErrorKind::PermissionDenied.into()),
///         }
///     }
///
///     fn local_addr(&self) -> io::Result<Address> {
///         Acceptor::local_addr(&self.0)
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let server = Server::new(Router::new()).listen(Private(TcpListener::bind("127.0.0.1:0")?));
/// assert!(server.local_addr()?.port() > 0);
/// # Ok(())
/// # }
/// ```
pub trait Acceptor {
    /// A connection as the system gives it.
    type Raw: 'static;
    /// A connection that speaks HTTP.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Waits for the next connection. An error stops the server, so that of a single connection
    /// belongs to `handshake`. The server may drop the future at any time, which must lose no
    /// connection, and awaits one at a time.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Raw, Peer)>>;

    /// Makes a stream of the connection. It may correct the peer.
    ///
    /// It runs in the connection's task, counts among
    /// [`Limits::max_connections`](crate::http::Limits::max_connections), and is dropped after
    /// [`Limits::header_timeout`](crate::http::Limits::header_timeout) or when the server stops. An
    /// error closes the connection, and is told as
    /// [`Refusal::Handshake`](crate::http::Refusal::Handshake).
    fn handshake(&self, raw: Self::Raw, peer: &mut Peer) -> impl Future<Output = io::Result<Self::Io>>;

    /// Returns the address on which it listens.
    ///
    /// # Errors
    ///
    /// If the system reports one.
    fn local_addr(&self) -> io::Result<Address>;

    /// Returns how often it has paused so far, because descriptors or memory ran short. By default
    /// zero; one around another listener asks that. The server tells of each pause as
    /// [`Refusal::Descriptors`](crate::http::Refusal::Descriptors).
    fn pauses(&self) -> u64 {
        0
    }
}

impl Acceptor for TcpListener {
    type Raw = TcpStream;
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = poll_fn(|cx| self.poll_accept(cx)).await?;
        // Answers are written whole, so a delay to gather more bytes only costs time. Without the
        // option the connection works, too.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::Ip(address)))
    }

    #[allow(clippy::unused_async, reason = "there is nothing to wait for")]
    async fn handshake(&self, stream: TcpStream, _: &mut Peer) -> io::Result<TcpStream> {
        Ok(stream)
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.local_addr().map(Address::Ip)
    }

    fn pauses(&self) -> u64 {
        self.pauses()
    }
}

impl Acceptor for UnixListener {
    type Raw = UnixStream;
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = poll_fn(|cx| self.poll_accept(cx)).await?;
        Ok((stream, Peer::Unix))
    }

    #[allow(clippy::unused_async, reason = "there is nothing to wait for")]
    async fn handshake(&self, stream: UnixStream, _: &mut Peer) -> io::Result<UnixStream> {
        Ok(stream)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unix(self.local_addr()?.as_pathname().map(Into::into)))
    }

    fn pauses(&self) -> u64 {
        self.pauses()
    }
}

/// The address of a listener.
///
/// ```
/// use postlude::http::Address;
/// let address = Address::Ip(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
/// assert_eq!(address.to_string(), "127.0.0.1:80");
/// assert_eq!(Address::Unix(Some("/run/app.sock".into())).to_string(), "unix:/run/app.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// One of TCP.
    Ip(SocketAddr),
    /// The path of a Unix socket; `None` in the abstract namespace.
    Unix(Option<PathBuf>),
    /// Of an acceptor of your own.
    Other(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Accepts until it fails.
pub(super) type AcceptLoop = Pin<Box<dyn Future<Output = io::Error>>>;

/// An [`Acceptor`] as a trait object.
pub(super) trait Listener {
    fn address(&self) -> io::Result<Address>;
    fn accept_all(self: Rc<Self>, shared: Rc<ServerState>) -> AcceptLoop;
}

impl<A: Acceptor + 'static> Listener for A {
    fn address(&self) -> io::Result<Address> {
        Acceptor::local_addr(self)
    }

    fn accept_all(self: Rc<Self>, shared: Rc<ServerState>) -> AcceptLoop {
        Box::pin(async move {
            loop {
                match accept_one(&*self, &shared).await {
                    Ok((raw, peer)) => start(&self, &shared, raw, peer),
                    Err(error) => return error,
                }
                // For acceptors that spend none themselves.
                poll_fn(poll_proceed).await;
            }
        })
    }
}

/// Waits for a connection, and accepts none without room for it.
async fn accept_one<A: Acceptor>(acceptor: &A, shared: &ServerState) -> io::Result<(A::Raw, Peer)> {
    let mut accepting = pin!(acceptor.accept());
    let mut waits = false;
    poll_fn(|cx| {
        if shared.places.poll_room(shared.most_connections.get(), cx).is_pending() {
            if !std::mem::replace(&mut waits, true) {
                shared.parts.refused.tell(Refusal::Connections, Peer::Unknown, None, b"", "");
            }
            return Poll::Pending;
        }
        let before = acceptor.pauses();
        let polled = accepting.as_mut().poll(cx);
        if acceptor.pauses() > before {
            shared.places.ask_to_give_way();
            shared.parts.refused.tell(Refusal::Descriptors, Peer::Unknown, None, b"", "");
        }
        polled
    })
    .await
}

/// Polls the loops of all listeners, each time beginning with another one: none of them can use up
/// the task's budget for ever.
pub(super) fn poll_all(loops: &mut [AcceptLoop], cx: &mut Context<'_>) -> Poll<io::Error> {
    if loops.len() > 1 {
        loops.rotate_left(1);
    }
    for accept in loops {
        if let Poll::Ready(error) = accept.as_mut().poll(cx) {
            return Poll::Ready(error);
        }
    }
    Poll::Pending
}

/// Starts the connection's task.
fn start<A: Acceptor + 'static>(acceptor: &Rc<A>, shared: &Rc<ServerState>, raw: A::Raw, peer: Peer) {
    if shared.places.make_room(shared.most_connections.get()) {
        shared.parts.refused.tell(Refusal::GaveWay, Peer::Unknown, None, b"", "");
    }
    let place = shared.places.enter();
    let key = place.key();
    let first = shake_hands(Rc::clone(acceptor), raw, peer, Rc::clone(shared), place);
    let task = spawn(Served::Handshake { first, then: |connection: Connection<A::Io>| connection.serve(close_later) });
    shared.places.own(key, task);
}

/// Returns nothing if it fails, takes too long, or the server stops.
async fn shake_hands<A: Acceptor>(
    acceptor: Rc<A>,
    raw: A::Raw,
    mut peer: Peer,
    shared: Rc<ServerState>,
    place: ConnectionPlace,
) -> Option<Connection<A::Io>> {
    let shaken = {
        let mut handshake = pin!(timeout(shared.limits.header_timeout, acceptor.handshake(raw, &mut peer)));
        poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(shaken) => Poll::Ready(Some(shaken)),
            Poll::Pending if place.must_end(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    let fault = match shaken? {
        Ok(Ok(io)) => {
            place.is_busy();
            return Some(Connection::new(shared, io, peer, place));
        }
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    shared.parts.refused.tell(Refusal::Handshake, peer, None, b"", &fault);
    None
}

pin_project! {
    // The life of a connection: two futures in one place. An async block would keep room for both,
    // and ten thousand idle connections with it (`tests/http_memory.rs`).
    #[project = ServedProjection]
    enum Served<H, T, S> {
        Handshake { #[pin] first: H, then: T },
        Serving { #[pin] second: S },
    }
}

impl<C, H, T, S> Future for Served<H, T, S>
where
    H: Future<Output = Option<C>>,
    T: Fn(C) -> S,
    S: Future<Output = ()>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let second = match self.as_mut().project() {
                ServedProjection::Serving { second } => return second.poll(cx),
                ServedProjection::Handshake { first, then } => match ready!(first.poll(cx)) {
                    Some(connection) => then(connection),
                    None => return Poll::Ready(()),
                },
            };
            self.set(Self::Serving { second });
        }
    }
}

/// Leaves an idle TCP connection to the closing task: see `conn/closing.rs`. Others close at once:
/// they may have to say goodbye first.
async fn close_later<IO: AsyncWrite + Unpin + 'static>(leftover: Leftover<IO>, shared: &ServerState) {
    let mut leftover = Some(leftover);
    if let Some(tcp) = (&mut leftover as &mut dyn Any).downcast_mut::<Option<Leftover<TcpStream>>>() {
        tcp.take().into_iter().for_each(|leftover| shared.closing.add(leftover));
    }
    if let Some(leftover) = leftover {
        leftover.close().await;
    }
}
