//! The server: accepting, and stopping without losing anything.
//!
//! # Stopping, in order
//!
//! 1. The listener closes; idle connections close at once.
//! 2. Answers that are being made are finished, and say `Connection: close`.
//! 3. Background tasks run until none is left or `drain_limit` is over. What running handlers and tasks add is accepted until then.
//! 4. Connections and tasks that are still there are cancelled, and reported by name.
//!
//! A second signal skips the waiting.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use super::app::router::Router;
use super::background::{Ledger, Limits, TaskFailure, UnfinishedTask, say};
use super::conn::closing::{self, Leftover};
use super::conn::config::Config;
use super::conn::connection::Connection;
use super::conn::places::Places;
use super::conn::shared::Shared;
use super::wire::chunked::BodyLimits;
use super::wire::parse;
use crate::net::{TcpListener, TcpStream, ToAddress};
#[cfg(feature = "signal")]
use crate::signal::{self, Signal};
use crate::{spawn, time};

/// A head slower than this is no client's on any line that still exists; a client that means harm sends a byte a second or less.
const HEADER_RATE: u32 = 256;
/// Two lost packets and their repetitions fit into it.
const HEADER_GRACE: Duration = Duration::from_secs(5);
/// Bytes a second of bodies and answers, over a time that `body_timeout` and `write_timeout` say: slower than any modem.
const RATE: u32 = 1024;
/// A connection that waits costs about a kilobyte here and some more in the kernel, one that is busy 200 KiB at worst before its handler's own
/// needs: ten thousand are no burden, a hundred thousand should be somebody's decision.
const CONNECTIONS: usize = 16 * 1024;

type Until = Pin<Box<dyn Future<Output = ()>>>;
type Hook = Box<dyn Fn(&TaskFailure)>;

/// A server on one address, with its limits.
///
/// # Limits
///
/// All are on unless said otherwise. An answer with one of these statuses says `Connection: close`, and the connection ends after it.
///
/// | limit | default | beyond it | set by |
/// | --- | --- | --- | --- |
/// | bytes of a head | 16 KiB | 431 | [`head_limits`](Self::head_limits) |
/// | bytes of a target | 8 KiB | 414 | [`head_limits`](Self::head_limits) |
/// | fields of a head | 100 | 431 | [`head_limits`](Self::head_limits) |
/// | time for a head | 10 s | 408 | [`header_timeout`](Self::header_timeout) |
/// | bytes a second of a head | 256 after 5 s | 408 | [`min_header_rate`](Self::min_header_rate) |
/// | bytes of a body | 2 MiB | 413 | [`max_body`](Self::max_body), [`Router::max_body`] for a group of routes |
/// | bytes of chunk extensions | 16 KiB a body | 413 | [`chunk_limits`](Self::chunk_limits) |
/// | bytes and fields of trailers | 16 KiB, 100 | 431 | [`chunk_limits`](Self::chunk_limits) |
/// | waiting for a body | 30 s, earned back by its bytes | 408 | [`body_timeout`](Self::body_timeout) |
/// | bytes a second of a body | 1024 | 408 | [`min_body_rate`](Self::min_body_rate) |
/// | body left unread by the handler | 64 KiB | closed after the answer | |
/// | waiting for a client that reads slowly | 30 s, earned back by its bytes | closed | [`write_timeout`](Self::write_timeout) |
/// | bytes a second it reads | 1024 | closed | [`min_write_rate`](Self::min_write_rate) |
/// | answers that wait for it | 64 KiB and one piece | nothing more is read | [`max_buffer`](Self::max_buffer) |
/// | time without a request | 60 s | closed | [`idle_timeout`](Self::idle_timeout) |
/// | requests of a connection | 100 000 | closed after the answer | [`max_requests_per_connection`](Self::max_requests_per_connection) |
/// | connections | 16 384 | they wait in the kernel's queue | [`max_connections`](Self::max_connections) |
/// | open files | the system's | they wait, and are tried again every 100 ms | `ulimit -n` |
/// | background tasks | 10 000, 1 000 a request | 503 with `Retry-After` | [`background_limits`](Self::background_limits) |
/// | background tasks ready to run | half of that | requests wait, for a second at most | |
/// | time to stop | 30 s | reported | [`drain_limit`](Self::drain_limit) |
///
/// A head or a body that is not what HTTP/1.1 asks is 400, an unknown transfer coding, an endless method or `CONNECT` 501, another major version
/// 505, an expectation that is none 417.
///
/// Memory: a connection that waits for a request holds about a kilobyte. While it is served it holds what was read of a head or body (8 KiB,
/// while a head is incomplete at most twice the limit of a head, while a body comes fast 128 KiB), the answers that wait, and whatever the handler
/// collects, at most the limit of a body. What was freed the process's allocator may keep: glibc's does so with large bodies, unless
/// `MALLOC_MMAP_THRESHOLD_` is set in its environment (mallopt(3)).
///
/// ```
/// use postlude::http::{Router, Server};
/// # fn main() -> std::io::Result<()> {
/// let router = Router::new().get("/", async || "hello");
/// let server = Server::bind("127.0.0.1:0", router)?
///     .max_body(64 * 1024)
///     .shutdown_on(async { /* a channel, a signal, a timer */ });
/// let report = postlude::run(server.run())??;
/// assert_eq!(report.unfinished().len(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listener: TcpListener,
    config: Config,
    router: Cell<Router>,
    hook: Cell<Option<Hook>>,
    until: Option<Until>,
    /// Listened for from `shutdown_on_signals` on; an error is for `run` to report.
    #[cfg(feature = "signal")]
    signals: Option<io::Result<[Signal; 2]>>,
    /// Made of the parts above when the first connection comes.
    shared: OnceCell<Rc<Shared>>,
}

impl Server {
    /// Binds an address. Needs no runtime; a host name is looked up on this thread.
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours, or malformed.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?;
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind(address: impl ToAddress, router: Router) -> io::Result<Self> {
        Ok(Self::from_listener(TcpListener::bind(address)?, router))
    }

    /// Serves a socket that listens already: one that was inherited, or made with other options.
    ///
    /// A reason for one: the kernel's queue of connections that were not accepted yet holds 128, as everywhere in Rust. More than that may come at once
    /// on a busy address; `socket2` makes listeners with a longer queue.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::{http::{Router, Server}, net::TcpListener};
    /// use socket2::{Domain, Socket, Type};
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// socket.set_reuse_address(true)?;
    /// socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    /// socket.listen(4096)?;
    /// let server = Server::from_listener(TcpListener::from_std(socket.into())?, Router::new());
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn from_listener(listener: TcpListener, router: Router) -> Self {
        Self {
            listener,
            config: Config {
                head: parse::Limits::default(),
                chunks: BodyLimits::default(),
                header_timeout: Duration::from_secs(10),
                header_rate: HEADER_RATE,
                header_grace: HEADER_GRACE,
                body_timeout: Duration::from_secs(30),
                body_rate: RATE,
                idle_timeout: Duration::from_secs(60),
                write_timeout: Duration::from_secs(30),
                write_rate: RATE,
                max_body: 2 * 1024 * 1024,
                max_buffer: 64 * 1024,
                max_requests: 100_000,
                max_connections: CONNECTIONS,
                drain_limit: Duration::from_secs(30),
                tasks: Limits { per_server: 10_000, per_request: 1_000, threads: 4 },
            },
            router: Cell::new(router),
            hook: Cell::new(None),
            until: None,
            #[cfg(feature = "signal")]
            signals: None,
            shared: OnceCell::new(),
        }
    }

    /// How many blocking background tasks run at once; 4 if not said. They have threads of their own.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.background_threads(2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn background_threads(mut self, threads: usize) -> Self {
        self.config.tasks.threads = threads;
        self
    }

    /// How many background tasks may wait or run, in all and per request. Default 10 000 and 1 000; beyond that `add` gives
    /// [`Full`](super::AddError::Full).
    ///
    /// While more than half as many are ready to run on the loop, the server pauses before it begins another request, for a second at
    /// most, so that clients wait a moment instead of being refused. Tasks that wait for a timer, a thread or a socket pause
    /// nothing.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.background_limits(100, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn background_limits(mut self, per_server: usize, per_request: usize) -> Self {
        self.config.tasks.per_server = per_server;
        self.config.tasks.per_request = per_request;
        self
    }

    /// How long the head of a request may take from its first byte to its last, however short the gaps; 10 s if not said. Then the answer
    /// is 408. A head that comes slowly is cut off before: see [`min_header_rate`](Self::min_header_rate).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.header_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.config.header_timeout = limit;
        self
    }

    /// How many bytes a second of a head must have come, on average, once it has taken `grace`; 256 after 5 s if not said, 0 for any number. Then
    /// the answer is 408.
    ///
    /// So a client that sends a byte just in time holds its connection no longer than one that sends none.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.min_header_rate(1000, Duration::from_secs(2));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn min_header_rate(mut self, bytes_per_second: u32, grace: Duration) -> Self {
        (self.config.header_rate, self.config.header_grace) = (bytes_per_second, grace);
        self
    }

    /// How long a request body may be waited for; 30 s if not said. Then the answer is 408.
    ///
    /// Its bytes earn the time back, as [`min_body_rate`](Self::min_body_rate) says, so a body of any size may come. Only the time counts in which
    /// the handler asks for bytes and there are none.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.body_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.config.body_timeout = limit;
        self
    }

    /// How many bytes of a request body earn back a second of [`body_timeout`](Self::body_timeout), and so how many a second must come on average;
    /// 1024 if not said. With 0 any byte earns all of it back, and a client may send one just in time for ever.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.min_body_rate(64 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn min_body_rate(mut self, bytes_per_second: u32) -> Self {
        self.config.body_rate = bytes_per_second;
        self
    }

    /// How long answers may wait for a client that does not take them; 30 s if not said. Then the connection is closed, and background tasks that
    /// asked for delivery learn that there was none.
    ///
    /// What it takes earns the time back, as [`min_write_rate`](Self::min_write_rate) says, so an answer of any size may be sent. What counts is what
    /// the kernel takes: its buffer lets the client fall behind by some hundred kilobytes before anything waits here.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.write_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.config.write_timeout = limit;
        self
    }

    /// How many bytes of answers earn back a second of [`write_timeout`](Self::write_timeout), and so how many a second a client must take on
    /// average; 1024 if not said. With 0 any byte earns all of it back.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.min_write_rate(64 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn min_write_rate(mut self, bytes_per_second: u32) -> Self {
        self.config.write_rate = bytes_per_second;
        self
    }

    /// How many requests one connection may send; 100 000 if not said, at least 1. The last answer says `Connection: close`, and the
    /// connection ends after it; what a client sent behind that request it has to send again, as RFC 9112 section 9.6 says.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.max_requests_per_connection(1000);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_requests_per_connection(mut self, requests: u32) -> Self {
        self.config.max_requests = requests.max(1);
        self
    }

    /// How many bytes of answers may wait for one client before no further request of its is read and no further piece is asked of a
    /// stream; 64 KiB if not said. One answer or one piece more than that may be held, since the handler has made it.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.max_buffer(16 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_buffer(mut self, bytes: usize) -> Self {
        self.config.max_buffer = bytes;
        self
    }

    /// How long a connection may stay open without a request; 60 s if not said.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.idle_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.config.idle_timeout = limit;
        self
    }

    /// How long a request body may be; 2 MiB if not said. Beyond that the answer is 413.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.max_body(64 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// What a request's head may hold: see [`Limits`](parse::Limits).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server, parse::Limits};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.head_limits(Limits { fields: 20, ..Limits::default() });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn head_limits(mut self, limits: parse::Limits) -> Self {
        self.config.head = limits;
        self
    }

    /// What a chunked request body may hold beside its data: see [`BodyLimits`].
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server, chunked::BodyLimits};
    /// let limits = BodyLimits { trailer_fields: 0, ..BodyLimits::default() };
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.chunk_limits(limits);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn chunk_limits(mut self, limits: BodyLimits) -> Self {
        self.config.chunks = limits;
        self
    }

    /// How many connections may be open; 16 384 if not said, at least 1. Further ones wait in the kernel's queue until one ends: nobody is
    /// turned away. The same happens when the system gives no more open files (`ulimit -n`), whatever is said here.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.max_connections(1000);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = connections.max(1);
        self
    }

    /// How long a stop waits for answers and background tasks; 30 s if not said.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.drain_limit(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.config.drain_limit = limit;
        self
    }

    /// Is told of background tasks that failed or were not run. Without it they are a line on stderr.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?
    ///     .on_task_error(|failure| eprintln!("{} failed: {}", failure.name(), failure.message()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_task_error(self, hook: impl Fn(&TaskFailure) + 'static) -> Self {
        self.hook.set(Some(Box::new(hook)));
        self
    }

    /// Stops when this is ready.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async { /* whatever says so */ });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shutdown_on(mut self, stop: impl Future<Output = ()> + 'static) -> Self {
        self.until = Some(Box::pin(stop));
        self
    }

    /// Stops on SIGINT and SIGTERM; the second of them skips the drain. They are caught from here on; their default action comes back when `run`
    /// is over.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on_signals();
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "signal")]
    #[must_use]
    pub fn shutdown_on_signals(mut self) -> Self {
        self.signals = Some(signal::ctrl_c().and_then(|interrupt| Ok([interrupt, signal::terminate()?])));
        self
    }

    /// Where it listens: the port, if it was bound to port 0.
    ///
    /// # Errors
    ///
    /// If the socket does not know.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let server = postlude::http::Server::bind("127.0.0.1:0", postlude::http::Router::new())?;
    /// println!("listening on http://{}", server.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn shared(&self) -> &Rc<Shared> {
        self.shared.get_or_init(|| {
            let router = self.router.take().finished();
            let ledger = Rc::new(Ledger::new(self.config.tasks, self.hook.take()));
            Rc::new(Shared::new(router, self.config.clone(), ledger))
        })
    }

    /// Serves one connection that came from elsewhere, to its end: a Unix socket, a TLS session, one end of a pipe.
    ///
    /// What the builder methods say holds as it was at the first connection. Dropping the future drops the connection; the background tasks of
    /// what it answered run on.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// postlude::run(async {
    ///     let (client, wire) = postlude::net::UnixStream::pair()?;
    ///     let server = Server::bind("127.0.0.1:0", Router::new().get("/", async || "hello"))?;
    ///     client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await?;
    ///     server.serve_connection(wire).await;
    ///     let mut answer = [0; 12];
    ///     client.read_exact(&mut answer).await?;
    ///     assert_eq!(&answer, b"HTTP/1.1 200");
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn serve_connection<IO: AsyncRead + AsyncWrite + Unpin + 'static>(&self, io: IO) {
        let connection = Connection::new(Rc::clone(self.shared()), io, None);
        connection.serve(async |leftover: Leftover<IO>, _: &Shared| leftover.close().await).await;
    }

    /// Accepts and serves until it is told to stop, then drains: see the order in the module's text.
    ///
    /// Dropping the future closes the listener; connections finish what they are answering and close, background tasks run on.
    ///
    /// # Errors
    ///
    /// If a signal handler cannot be installed or the listener fails for good. What is going on then is drained all the same.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
    /// let report = postlude::run(server.run())??;
    /// eprintln!("{report}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(mut self) -> io::Result<ShutdownReport> {
        let shared = Rc::clone(self.shared());
        let mut stop = self.stop()?;
        let stopping = Stopping { places: &shared.places };
        let _closing = spawn(closing::close(Rc::clone(&shared.closing))).abort_on_drop();
        let accepted = poll_fn(|cx| self.poll_accept_until(&shared, &mut stop, cx)).await;
        drop(self);
        drop(stopping);
        let report = drain(&shared, &mut stop).await;
        if accepted.is_err() {
            // The error is what the caller gets; what was left undone must not be lost with it.
            say(format_args!("{report}"));
        }
        accepted.map(|()| report)
    }

    fn stop(&mut self) -> io::Result<Stop> {
        Ok(Stop {
            until: self.until.take(),
            #[cfg(feature = "signal")]
            signals: self.signals.take().transpose()?,
        })
    }

    fn poll_accept_until(&self, shared: &Rc<Shared>, stop: &mut Stop, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if stop.poll_first(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while shared.places.has_room(shared.config.max_connections, cx) {
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, peer))) => start(shared, stream, peer),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

fn start(shared: &Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    // Answers are written whole: waiting for more to send only delays them. Failing to say so is no reason to hang up.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(Rc::clone(shared), stream, Some(peer));
    let key = connection.key();
    shared.places.own(key, spawn(connection.serve(close_later)));
}

/// Leaves the closing of an idle connection's socket to the server's task.
fn close_later(leftover: Leftover<TcpStream>, shared: &Shared) -> Ready<()> {
    shared.closing.add(leftover);
    ready(())
}

/// Tells the connections that the server stops, also when `run` is dropped.
struct Stopping<'a> {
    places: &'a Places,
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.places.stop();
    }
}

/// What tells the server to stop.
struct Stop {
    until: Option<Until>,
    #[cfg(feature = "signal")]
    signals: Option<[Signal; 2]>,
}

impl Stop {
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = &mut self.until {
            if until.as_mut().poll(cx).is_ready() {
                self.until = None;
                return Poll::Ready(());
            }
        }
        self.poll_signal(cx)
    }

    /// A signal; a listener that fails is none.
    #[cfg(feature = "signal")]
    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let signals = self.signals.iter_mut().flatten();
        let mut came = false;
        for signal in signals {
            came |= matches!(signal.poll_recv(cx), Poll::Ready(Ok(())));
        }
        if came { Poll::Ready(()) } else { Poll::Pending }
    }

    #[cfg(not(feature = "signal"))]
    fn poll_signal(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

async fn drain(shared: &Shared, stop: &mut Stop) -> ShutdownReport {
    let (completed, failed) = (shared.ledger.completed(), shared.ledger.failed());
    let mut limit = time::sleep(shared.config.drain_limit);
    poll_fn(|cx| {
        shared.places.wait(cx);
        let idle = shared.ledger.poll_idle(cx).is_ready() && shared.places.is_empty();
        if idle || stop.poll_signal(cx).is_ready() { Poll::Ready(()) } else { Pin::new(&mut limit).poll(cx) }
    })
    .await;
    let connections = shared.places.cut().await;
    let unfinished = shared.ledger.close().await;
    ShutdownReport {
        completed: shared.ledger.completed() - completed,
        failed: shared.ledger.failed() - failed,
        connections,
        unfinished,
    }
}

/// What a stop found to do, and what it had to leave.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{Router, Server};
/// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
/// let report = postlude::run(server.run())??;
/// eprintln!("{report}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownReport {
    completed: usize,
    failed: usize,
    connections: usize,
    unfinished: Vec<UnfinishedTask>,
}

impl ShutdownReport {
    /// Background tasks completed during the drain.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
    /// let report = postlude::run(server.run())??;
    /// assert_eq!(report.completed(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// Background tasks that failed during the drain.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
    /// let report = postlude::run(server.run())??;
    /// assert_eq!(report.failed(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Connections that had to be cut.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
    /// let report = postlude::run(server.run())??;
    /// assert_eq!(report.connections_cut(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connections_cut(&self) -> usize {
        self.connections
    }

    /// Background tasks that were not finished, in the order they were added.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
    /// let report = postlude::run(server.run())??;
    /// assert!(report.unfinished().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unfinished(&self) -> &[UnfinishedTask] {
        &self.unfinished
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, connections, unfinished } = self;
        write!(
            f,
            "stopped: {completed} background tasks completed, {failed} failed, {} not finished",
            unfinished.len()
        )?;
        write!(f, "; {connections} connections cut")?;
        unfinished.iter().try_for_each(|task| write!(f, "\n  not finished: {task}"))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("config", &self.config).finish_non_exhaustive()
    }
}

/// Serves until SIGINT or SIGTERM, drains, and prints the report to stderr. A second signal skips the drain.
///
/// The signals have their default action again when it is over. Dropping the future stops accepting: see [`Server::run`].
///
/// # Errors
///
/// If the address cannot be bound, a signal handler not be installed, or the listener fails for good.
///
/// ```no_run
/// use postlude::http::{self, Router};
/// fn main() -> std::io::Result<()> {
///     postlude::run(http::serve("127.0.0.1:8000", Router::new().get("/", async || "hello")))?
/// }
/// ```
#[cfg(feature = "signal")]
pub async fn serve(address: impl ToAddress, router: Router) -> io::Result<()> {
    let report = Server::bind(address, router)?.shutdown_on_signals().run().await?;
    say(format_args!("{report}"));
    Ok(())
}
