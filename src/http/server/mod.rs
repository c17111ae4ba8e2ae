//! The server: accepts connections, and stops without losing work.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use super::app::router::Router;
use super::background::say;
use super::conn::closing::{self, Leftover};
use super::conn::connection::Connection;
use super::conn::limits::Limits;
use super::conn::places::Places;
use super::conn::shared::ServerState;
use crate::deferred::{Fault, Info, Lane, Queue, Status};
use crate::net::{TcpListener, TcpStream, ToAddress};
#[cfg(feature = "signal")]
use crate::signal::{self, Signal};
use crate::{spawn, time};

type Until = Pin<Box<dyn Future<Output = ()>>>;
type TaskHook = Box<dyn Fn(&Info, Option<&Fault>)>;

/// An HTTP/1.1 server on one address.
///
/// # Stopping
///
/// 1. The listener closes, and idle connections close.
/// 2. Current requests are answered with `Connection: close`.
/// 3. Background tasks run until there are none, or [`Limits::drain_limit`] is over. Handlers and
///    tasks may add others until then.
/// 4. The remaining connections and tasks are cancelled, and reported.
///
/// With [`shutdown_on_signals`](Self::shutdown_on_signals) a signal during the drain skips to step
/// 4.
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
    until: Option<Until>,
    /// Caught from `shutdown_on_signals` on. `run` reports an error.
    #[cfg(feature = "signal")]
    signals: Option<io::Result<[Signal; 2]>>,
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
            until: None,
            #[cfg(feature = "signal")]
            signals: None,
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
        self.until = Some(Box::pin(stop));
        self
    }

    /// Stops on SIGINT and SIGTERM. They are caught from this call on, and have their default
    /// action again when `run` is over.
    #[cfg(feature = "signal")]
    #[must_use]
    pub fn shutdown_on_signals(mut self) -> Self {
        self.signals = Some(signal::ctrl_c().and_then(|interrupt| Ok([interrupt, signal::terminate()?])));
        self
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
        let mut stop = Stop {
            until: self.until.take(),
            #[cfg(feature = "signal")]
            signals: self.signals.take().transpose()?,
        };
        let stopping = Stopping(&shared.places);
        let _closing = spawn(closing::close(Rc::clone(&shared.closing))).abort_on_drop();
        let accepted = poll_fn(|cx| self.poll_accept_until(&shared, &mut stop, cx)).await;
        drop(self);
        drop(stopping);
        let report = drain(&shared, &mut stop).await;
        if accepted.is_err() {
            // The caller gets the error, so the report must go elsewhere.
            say(format_args!("{report}"));
        }
        accepted.map(|()| report)
    }

    fn poll_accept_until(
        &self,
        shared: &Rc<ServerState>,
        stop: &mut Stop,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if stop.poll_first(cx).is_ready() {
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

/// Tells the connections that the server stops, even if `run` is dropped.
struct Stopping<'a>(&'a Places);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

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

    /// Is ready at a signal. Ignores a failed signal listener.
    #[cfg(feature = "signal")]
    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut came = false;
        for signal in self.signals.iter_mut().flatten() {
            came |= matches!(signal.poll_recv(cx), Poll::Ready(Ok(())));
        }
        if came { Poll::Ready(()) } else { Poll::Pending }
    }

    #[cfg(not(feature = "signal"))]
    fn poll_signal(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

async fn drain(shared: &ServerState, stop: &mut Stop) -> ShutdownReport {
    let queue = &shared.queue;
    let before = queue.stats().total();
    queue.begin_drain();
    let mut limit = time::sleep(shared.limits.drain_limit);
    let mut idle = pin!(queue.idle());
    poll_fn(|cx| {
        shared.places.wait(cx);
        let is_quiet = idle.as_mut().poll(cx).is_ready();
        if is_quiet {
            // Handlers that still run may add others.
            idle.set(queue.idle());
        }
        let is_over = is_quiet && shared.places.is_empty();
        if is_over || stop.poll_signal(cx).is_ready() { Poll::Ready(()) } else { Pin::new(&mut limit).poll(cx) }
    })
    .await;
    let connections_cut = shared.places.cut().await;
    let unfinished = queue.drain(Duration::ZERO).await.unfinished;
    let after = queue.stats().total();
    ShutdownReport {
        completed: (after.done - before.done) as usize,
        failed: (after.failed - before.failed) as usize,
        connections_cut,
        unfinished,
    }
}

/// The work done during a drain, and the work left undone.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{Router, Server};
/// let server = Server::bind("127.0.0.1:0", Router::new())?.shutdown_on(async {});
/// let report = postlude::run(server.run())??;
/// report.unfinished.iter().for_each(|task| eprintln!("lost: {task}"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Background tasks completed during the drain.
    pub completed: usize,
    /// Background tasks that failed during the drain.
    pub failed: usize,
    /// Connections that were cut.
    pub connections_cut: usize,
    /// Background tasks that did not finish, in the order they were added.
    pub unfinished: Vec<Info>,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, connections_cut, unfinished } = self;
        write!(
            f,
            "stopped: {completed} background tasks completed, {failed} failed, {} not finished",
            unfinished.len()
        )?;
        write!(f, "; {connections_cut} connections cut")?;
        unfinished.iter().try_for_each(|task| {
            let Info { name, label, group, age, .. } = task;
            let state = if task.status == Status::Running { "running" } else { "not begun" };
            write!(f, "\n  not finished: '{name}' ({label}, request {group}), {state}, {:.1} s old", age.as_secs_f64())
        })
    }
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
