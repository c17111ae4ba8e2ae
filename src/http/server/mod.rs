//! The server: accepts connections, and stops without losing work.
//!
//! | file | contents |
//! | --- | --- |
//! | `stop` | when to stop: a future, signals, a call |
//! | `drain` | the end: what is waited for, what is cut, and the report |

mod drain;
mod stop;

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::deferred::{Fault, Info, Lane, Queue};
use crate::http::app::router::Router;
use crate::http::app::stopping::Stopping;
use crate::http::background::say;
use crate::http::conn::closing::{self, Leftover};
use crate::http::conn::connection::Connection;
use crate::http::conn::limits::Limits;
use crate::http::conn::shared::ServerState;
use crate::net::{TcpListener, TcpStream, ToAddress};
use crate::{spawn, time};

pub use drain::ShutdownReport;
use drain::drain;
pub use stop::ShutdownHandle;
use stop::{Ending, StopSources, Watched};

type TaskHook = Box<dyn Fn(&Info, Option<&Fault>)>;
type StopHook = Box<dyn FnOnce()>;

/// An HTTP/1.1 server on one address.
///
/// # Stopping
///
/// 1. The stop is announced: [`Stopping::is_announced`], [`on_stop`](Self::on_stop). For
///    [`ready_delay`](Self::ready_delay), by default not at all, everything else goes on.
/// 2. The listener closes, and [`Stopping`] is ready. Connections close that are idle or have sent
///    half a head; event streams of [`sse`](crate::http::sse()) end, and so do upgraded connections
///    that wait for their client.
/// 3. Current requests are answered with `Connection: close`.
/// 4. Background tasks run until there are none, or [`Limits::drain_limit`] is over. Handlers and
///    tasks may add others until then.
/// 5. The remaining connections and tasks are cancelled, and reported.
///
/// A signal more than 500 ms after the one that began the stop skips to step 5. Before, it counts
/// as the same one: service managers and terminals may send two.
///
/// ```
/// use postlude::http::{Limits, Router, Server};
/// # fn main() -> std::io::Result<()> {
/// let router = Router::new().get("/", async || "hello");
/// let server = Server::bind("127.0.0.1:0", router)?
///     .limits(Limits { max_body: 64 * 1024, ..Limits::default() })
///     .shutdown_on(async { /* a channel, a signal, a timer */ });
/// let report = postlude::run(server.run())??;
/// assert_eq!(report.unfinished.len(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listener: TcpListener,
    limits: Limits,
    router: Cell<Router>,
    hook: Cell<Option<TaskHook>>,
    queue: Cell<Option<Queue>>,
    sources: StopSources,
    ready_delay: Duration,
    stop_hook: Cell<Option<StopHook>>,
    /// Made of the parts above for the first connection.
    shared: OnceCell<Rc<ServerState>>,
}

impl Server {
    /// Creates a server that listens on an address. Needs no runtime; the current thread looks a
    /// host name up.
    ///
    /// # Errors
    ///
    /// If the address is malformed or cannot be bound.
    pub fn bind(address: impl ToAddress, router: Router) -> io::Result<Self> {
        Ok(Self::from_listener(TcpListener::bind(address)?, router))
    }

    /// Creates a server on a listening socket: one that is inherited, or has other options.
    ///
    /// For example a longer backlog: [`bind`](Self::bind) lets 128 connections wait in the kernel,
    /// as the standard library does, and on a busy address more may come at once.
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
            limits: Limits::default(),
            router: Cell::new(router),
            hook: Cell::new(None),
            queue: Cell::new(None),
            sources: StopSources::default(),
            ready_delay: Duration::ZERO,
            stop_hook: Cell::new(None),
            shared: OnceCell::new(),
        }
    }

    /// Sets all limits of time and size. Begin with [`Limits::default`] to keep the others.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets a function to call for each background task that fails or is not run, with the error
    /// itself. By default stderr is told. Has no effect on a queue of your own, which has
    /// [`on_fault`](crate::deferred::QueueBuilder::on_fault).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::deferred::{Fault, Status};
    /// use postlude::http::{Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.on_task_error(|task, fault| match fault {
    ///     Some(Fault::Panic(_)) => eprintln!("a bug: {task}"),
    ///     _ if task.status == Status::Skipped => {}
    ///     _ => eprintln!("{} of {} failed: {:?}", task.name, task.label, task.fault),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_task_error(self, hook: impl Fn(&Info, Option<&Fault>) + 'static) -> Self {
        self.hook.set(Some(Box::new(hook)));
        self
    }

    /// Uses a queue of your own for background tasks: with lanes, limits and hooks. The limits of
    /// background tasks in [`Limits`] have no effect then. A stop of the server drains it.
    #[must_use]
    pub fn queue(self, queue: Queue) -> Self {
        self.queue.set(Some(queue));
        self
    }

    /// Returns the queue of the server's background tasks: to ask for one by its id, cancel it, or
    /// add others. Limits and hooks that are set after this call have no effect.
    #[must_use]
    pub fn tasks(&self) -> Queue {
        self.shared().queue.clone()
    }

    /// Stops when this future is ready.
    #[must_use]
    pub fn shutdown_on(mut self, stop: impl Future<Output = ()> + 'static) -> Self {
        self.sources.until(stop);
        self
    }

    /// Stops on SIGINT and SIGTERM. They are caught from this call on, and have their default
    /// action again when `run` is over.
    #[cfg(feature = "signal")]
    #[must_use]
    pub fn shutdown_on_signals(mut self) -> Self {
        self.sources.signals();
        self
    }

    /// Goes on to accept and to answer for this long after the stop is announced, so that a load
    /// balancer can see an unhealthy readiness route and turn away before the listener closes. By
    /// default zero.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use postlude::http::{Rejection, Router, Server, Stopping};
    /// let app = Router::new().get("/ready", async |stopping: Stopping| match stopping.is_announced() {
    ///     true => Err(Rejection::new(503, "stopping")),
    ///     false => Ok("ready"),
    /// });
    /// let server = Server::bind("127.0.0.1:0", app)?.ready_delay(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ready_delay(mut self, delay: Duration) -> Self {
        self.ready_delay = delay;
        self
    }

    /// Sets a function that [`run`](Self::run) calls when its stop is announced: to sign off from a
    /// registry, or to tell a service manager.
    #[must_use]
    pub fn on_stop(self, hook: impl FnOnce() + 'static) -> Self {
        self.stop_hook.set(Some(Box::new(hook)));
        self
    }

    /// Returns a future that is ready once the server stops. Settings of limits, hooks and the queue
    /// after this call have no effect.
    pub fn stopping(&self) -> Stopping {
        self.shared().parts.stop.stopping()
    }

    /// Returns a handle that stops the server from code, also while it runs. Settings of limits,
    /// hooks and the queue after this call have no effect.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(Rc::clone(self.shared()))
    }

    /// Stops the server: see [`ShutdownHandle::shutdown`].
    pub fn shutdown(&self) {
        self.shutdown_handle().shutdown();
    }

    /// Returns the address it listens on, with the real port if it was bound to port 0.
    ///
    /// # Errors
    ///
    /// If the system reports one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn shared(&self) -> &Rc<ServerState> {
        self.shared.get_or_init(|| {
            let router = self.router.take().finished();
            let limits = self.limits.clone().normalised();
            let queue = self.queue.take().unwrap_or_else(|| {
                let queue = Queue::builder()
                    .pending(limits.background_tasks)
                    .per_group(limits.background_tasks_per_request)
                    .lane(Lane::on_threads("threads").at_once(limits.background_threads));
                match self.hook.take() {
                    Some(hook) => queue.on_fault(hook).build(),
                    None => queue.build(),
                }
            });
            Rc::new(ServerState::new(router, limits, queue))
        })
    }

    /// Serves a connection from elsewhere to its end: a Unix socket, a TLS session, a pipe.
    ///
    /// Changes of the server's settings after its first connection have no effect. Dropping the
    /// future drops the connection; background tasks of its answers run on.
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
        connection.serve(async |leftover: Leftover<IO>, _: &ServerState| leftover.close().await).await;
    }

    /// Accepts and serves connections until it is told to stop, then drains: see
    /// [Stopping](Self#stopping).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener. Connections finish their current request and close;
    /// background tasks run on.
    ///
    /// # Errors
    ///
    /// If a signal handler cannot be installed, before anything is accepted. If the listener fails
    /// for good, after the drain.
    pub async fn run(mut self) -> io::Result<ShutdownReport> {
        let shared = Rc::clone(self.shared());
        let mut stop = std::mem::take(&mut self.sources).watch(&shared)?;
        let ending = Ending::new(&shared);
        let _closing = spawn(closing::close(Rc::clone(&shared.closing))).abort_on_drop();
        let accepted = self.accept_until(&shared, |cx| stop.poll_first(cx)).await;
        shared.parts.stop.announced.cancel();
        if let Some(hook) = self.stop_hook.take() {
            hook();
        }
        let accepted = match accepted {
            Ok(()) => self.accept_for(self.ready_delay, &shared, &mut stop).await,
            Err(error) => Err(error),
        };
        drop(self);
        drop(ending);
        let report = drain(&shared, |cx| stop.poll_later(cx)).await;
        if accepted.is_err() {
            // The caller gets the error, so the report must go elsewhere.
            say(format_args!("{report}"));
        }
        accepted.map(|()| report)
    }

    /// Accepts for the time that a load balancer needs to turn away.
    async fn accept_for(&self, delay: Duration, shared: &Rc<ServerState>, stop: &mut Watched) -> io::Result<()> {
        if delay.is_zero() {
            return Ok(());
        }
        let mut delay = pin!(time::sleep(delay));
        self.accept_until(shared, |cx| match delay.as_mut().poll(cx) {
            Poll::Pending => stop.poll_later(cx),
            Poll::Ready(()) => Poll::Ready(()),
        })
        .await
    }

    async fn accept_until(
        &self,
        shared: &Rc<ServerState>,
        mut until: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> io::Result<()> {
        poll_fn(|cx| {
            if until(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            while shared.places.has_room(shared.limits.max_connections, cx) {
                match self.listener.poll_accept(cx) {
                    Poll::Ready(Ok((stream, peer))) => start(shared, stream, peer),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn start(shared: &Rc<ServerState>, stream: TcpStream, peer: SocketAddr) {
    // Answers are written whole, so a delay to gather more bytes only costs time. Without the
    // option the connection works, too.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(Rc::clone(shared), stream, Some(peer));
    let key = connection.key();
    shared.places.own(key, spawn(connection.serve(close_later)));
}

/// Leaves an idle connection's socket to the closing task.
fn close_later(leftover: Leftover<TcpStream>, shared: &ServerState) -> Ready<()> {
    shared.closing.add(leftover);
    ready(())
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Serves until SIGINT or SIGTERM, drains, and prints the report to stderr.
///
/// It is [`Server::bind`], [`shutdown_on_signals`](Server::shutdown_on_signals) and
/// [`Server::run`], with their errors and cancel safety.
#[cfg(feature = "signal")]
pub async fn serve(address: impl ToAddress, router: Router) -> io::Result<()> {
    let report = Server::bind(address, router)?.shutdown_on_signals().run().await?;
    say(format_args!("{report}"));
    Ok(())
}
