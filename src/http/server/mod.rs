//! The server: accepts connections, and stops without losing work.
//!
//! | file | contents |
//! | --- | --- |
//! | `accept` | listeners of any kind, and the tasks of their connections |
//! | `descriptors` | the limit of descriptors, and how many connections fit |
//! | `proxy` | the PROXY protocol around a listener |
//! | `stop` | when to stop: a future, signals, a call |
//! | `drain` | the end: what is waited for, what is cut, and the report |

mod accept;
mod descriptors;
mod drain;
mod proxy;
mod stop;

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use socket2::SockRef;

use crate::deferred::{Fault, Info, Lane, Queue};
use crate::http::app::peer::Peer;
use crate::http::app::proxies::TrustedProxies;
use crate::http::app::refusal::{RefusalHook, RefusalInfo, Refused};
use crate::http::app::router::Router;
use crate::http::app::stopping::Stopping;
use crate::http::conn::closing::{self, Leftover};
use crate::http::conn::connection::Connection;
use crate::http::conn::limits::Limits;
use crate::http::conn::shared::ServerState;
use crate::net::{TcpListener, ToAddress};
use crate::{spawn, stderr, time};

use accept::{AcceptLoop, Listener, poll_all};
pub use accept::{Acceptor, Address};
pub use drain::ShutdownReport;
use drain::drain;
pub use proxy::ProxyProtocol;
pub use stop::ShutdownHandle;
use stop::{Ending, StopSources};

type TaskHook = Box<dyn Fn(&Info, Option<&Fault>)>;
/// Connections that wait in the kernel: enough for a burst while the loop is busy.
const BACKLOG: u32 = 1024;

type StopHook = Box<dyn FnOnce()>;

/// An HTTP/1.1 server, on any number of listeners.
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
    listeners: Vec<Rc<dyn Listener>>,
    limits: Limits,
    router: Cell<Router>,
    hook: Cell<Option<TaskHook>>,
    refusal_hook: Cell<Option<RefusalHook>>,
    queue: Cell<Option<Queue>>,
    proxies: Cell<TrustedProxies>,
    sources: StopSources,
    ready_delay: Duration,
    keeps_descriptor_limit: bool,
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
        Self::bind_with_backlog(address, BACKLOG, router)
    }

    /// Creates a server as [`bind`](Self::bind) does, with another backlog than 1 024: the number
    /// of connections that wait in the kernel until the server accepts them. More are not refused
    /// but repeat their SYN after a second. The system has a limit of its own (listen(2); on Linux
    /// `net.core.somaxconn`, 4 096).
    ///
    /// # Errors
    ///
    /// If the address is malformed or cannot be bound.
    pub fn bind_with_backlog(address: impl ToAddress, backlog: u32, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // A socket that listens already takes the new backlog.
        SockRef::from(&listener).listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(Self::from_listener(listener, router))
    }

    /// Creates a server without a listener: for [`listen`](Self::listen), or for
    /// [`serve_connection`](Self::serve_connection) alone.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self {
            listeners: Vec::new(),
            limits: Limits::default(),
            router: Cell::new(router),
            hook: Cell::new(None),
            refusal_hook: Cell::new(None),
            queue: Cell::new(None),
            proxies: Cell::default(),
            sources: StopSources::default(),
            ready_delay: Duration::ZERO,
            keeps_descriptor_limit: false,
            stop_hook: Cell::new(None),
            shared: OnceCell::new(),
        }
    }

    /// Creates a server on a listening socket: one that is inherited, or has other options. Its
    /// backlog stays as it is, for example:
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
    pub fn from_listener(listener: impl Acceptor + 'static, router: Router) -> Self {
        Self::new(router).listen(listener)
    }

    /// Accepts on this listener, too. All of them share the server's limits, queue and stop; if one
    /// fails for good, the server stops.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Router, Server};
    /// use postlude::net::UnixListener;
    /// # let path = std::env::temp_dir().join(format!("postlude-doc-{}.sock", std::process::id()));
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.listen(UnixListener::bind(&path)?);
    /// assert_eq!(server.addresses()?[1].to_string(), format!("unix:{}", path.display()));
    /// # std::fs::remove_file(&path)
    /// # }
    /// ```
    #[must_use]
    pub fn listen(mut self, listener: impl Acceptor + 'static) -> Self {
        self.listeners.push(Rc::new(listener));
        self
    }

    /// Believes these proxies: what they write into `X-Forwarded-For` (or
    /// [`Forwarded`](TrustedProxies::forwarded)) about a request's client becomes its
    /// [`PeerAddr`](crate::http::PeerAddr). By default no proxy is believed.
    ///
    /// The client is the right-most address of the header that is no proxy's: what stands to its
    /// left the client may have invented. It has port 0, unless the header says one.
    #[must_use]
    pub fn trusted_proxies(self, proxies: TrustedProxies) -> Self {
        self.proxies.set(proxies);
        self
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

    /// Sets a function to call for everything that the server refuses, cuts off or holds up because
    /// of a limit. By default stderr is told, at most 20 lines a second. [`refused`](Self::refused)
    /// counts in any case.
    ///
    /// The function runs on the loop. A client can make it run as often as it sends requests.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use postlude::http::{Refusal, Router, Server};
    /// let server = Server::bind("127.0.0.1:0", Router::new())?.on_refusal(|refusal| match refusal.what {
    ///     Refusal::Pause | Refusal::Connections => eprintln!("more load than this machine takes: {refusal}"),
    ///     _ => {}
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_refusal(self, hook: impl Fn(&RefusalInfo) + 'static) -> Self {
        self.refusal_hook.set(Some(Box::new(hook)));
        self
    }

    /// Returns the counts of all that the server refuses, which go on while it runs. Limits and
    /// hooks that are set after this call have no effect.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.shared().parts.refused.clone()
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

    /// Leaves the process's limit of open descriptors alone. By default [`run`](Self::run) raises
    /// it as far as the process may (setrlimit(2), `RLIMIT_NOFILE`). Either way it takes no more
    /// connections than fit, with an eighth of the descriptors kept for files and the like.
    #[must_use]
    pub fn keep_descriptor_limit(mut self) -> Self {
        self.keeps_descriptor_limit = true;
        self
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

    /// Returns a future that is ready once the server stops. Settings of limits, hooks and the
    /// queue after this call have no effect.
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

    /// Returns the first address of TCP that it listens on, with the real port if it was bound to
    /// port 0.
    ///
    /// # Errors
    ///
    /// If the system reports one, or no listener has such an address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let first = self.addresses()?.into_iter().find_map(|address| match address {
            Address::Ip(address) => Some(address),
            _ => None,
        });
        first.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the server has no listener of TCP"))
    }

    /// Returns the addresses of all listeners, in the order they were given.
    ///
    /// # Errors
    ///
    /// If the system reports one.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        self.listeners.iter().map(|listener| listener.address()).collect()
    }

    fn shared(&self) -> &Rc<ServerState> {
        self.shared.get_or_init(|| {
            stderr::guard_panics();
            let router = self.router.take().finished();
            let limits = self.limits.clone().normalised();
            let queue = self.queue.take().unwrap_or_else(|| {
                let queue = Queue::builder()
                    .pending(limits.background_tasks)
                    .per_group(limits.background_tasks_per_request)
                    .per_share(limits.background_tasks_per_peer)
                    .lane(Lane::on_threads("threads").at_once(limits.background_threads));
                match self.hook.take() {
                    Some(hook) => queue.on_fault(hook).build(),
                    None => queue.build(),
                }
            });
            Rc::new(ServerState::new(
                router,
                limits,
                queue,
                self.proxies.take(),
                Refused::new(self.refusal_hook.take()),
            ))
        })
    }

    /// Serves a connection from elsewhere to its end: a Unix socket, a TLS session, a pipe.
    ///
    /// Changes of the server's settings after its first connection have no effect. Dropping the
    /// future drops the connection; background tasks of its answers run on.
    ///
    /// While a handler or a response's stream is pending, the connection reads ahead, at most one
    /// buffer. If a read or write fails, it drops `io` at once; the future goes on until the
    /// handler has ended.
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
        self.serve_connection_from(io, Peer::Unknown).await;
    }

    /// Serves a connection from elsewhere, as [`serve_connection`](Self::serve_connection), and
    /// gives its requests this [`peer`](crate::http::Request::peer).
    pub async fn serve_connection_from<IO>(&self, io: IO, peer: impl Into<Peer>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shared = self.shared();
        let place = shared.places.enter();
        let key = place.key();
        let connection = Connection::new(Rc::clone(shared), io, peer.into(), place);
        let close = async |leftover: Leftover<IO>, _: &ServerState| leftover.close().await;
        let mut serving = pin!(connection.serve(close));
        poll_fn(|cx| match shared.places.poll_cut(key, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => serving.as_mut().poll(cx),
        })
        .await;
    }

    /// Stops and drains a server whose connections come from an accept loop of your own. For
    /// [`run`](Self::run), which does it itself, there is [`shutdown`](Self::shutdown).
    ///
    /// It goes through [steps](Self#stopping) 2 to 5: connections that are open end as there, and
    /// after [`Limits::drain_limit`] the rest is cut and reported. Stop accepting first, or when
    /// [`stopping`](Self::stopping) is ready.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the server stopping: call it again.
    ///
    /// Await one such future at a time: of two, the first waits to its limit.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::rc::Rc;
    /// use postlude::http::{Router, Server};
    /// use postlude::net::UnixStream;
    /// postlude::run(async {
    ///     let server = Rc::new(Server::new(Router::new().get("/", async || "hello")));
    ///     let (client, wire) = UnixStream::pair()?;
    ///     let serving = Rc::clone(&server);
    ///     drop(postlude::spawn(async move { serving.serve_connection(wire).await }));
    ///     client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await?;
    ///     client.read(&mut [0; 512]).await?;
    ///     assert!(server.drain().await.is_clean());
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn drain(&self) -> ShutdownReport {
        self.shared().stop();
        drain(self.shared(), |_| Poll::Pending).await
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
    /// If a signal handler or its sockets cannot be made, before anything is accepted. If a
    /// listener fails for good, after the drain.
    pub async fn run(mut self) -> io::Result<ShutdownReport> {
        let shared = Rc::clone(self.shared());
        let mut stop = std::mem::take(&mut self.sources).watch(&shared)?;
        let ending = Ending::new(&shared);
        if !self.keeps_descriptor_limit {
            // What cannot be raised is fitted to.
            let _ = descriptors::raise();
        }
        shared.most_connections.set(descriptors::fit(shared.limits.max_connections));
        let _closing = spawn(closing::close(Rc::clone(&shared.closing))).abort_on_drop();
        let listeners = std::mem::take(&mut self.listeners);
        let mut loops: Vec<_> = listeners.into_iter().map(|listener| listener.accept_all(Rc::clone(&shared))).collect();
        let mut accepted = accept_until(&mut loops, |cx| stop.poll_first(cx)).await;
        shared.parts.stop.announced.cancel();
        if let Some(hook) = self.stop_hook.take() {
            hook();
        }
        if accepted.is_ok() && !self.ready_delay.is_zero() {
            let mut delay = pin!(time::sleep(self.ready_delay));
            accepted = accept_until(&mut loops, |cx| match delay.as_mut().poll(cx) {
                Poll::Pending => stop.poll_later(cx),
                Poll::Ready(()) => Poll::Ready(()),
            })
            .await;
        }
        drop(loops);
        drop(ending);
        let report = drain(&shared, |cx| stop.poll_later(cx)).await;
        if accepted.is_err() {
            // The caller gets the error, so the report must go elsewhere.
            tell(&report);
        }
        accepted.map(|()| report)
    }
}

async fn accept_until(loops: &mut [AcceptLoop], mut until: impl FnMut(&mut Context<'_>) -> Poll<()>) -> io::Result<()> {
    poll_fn(|cx| {
        if until(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        poll_all(loops, cx).map(Err)
    })
    .await
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Says on stderr where it listens, serves until SIGINT or SIGTERM, drains, and prints the report
/// to stderr.
///
/// It is [`Server::bind`], [`shutdown_on_signals`](Server::shutdown_on_signals) and
/// [`Server::run`], with their errors and cancel safety.
#[cfg(feature = "signal")]
pub async fn serve(address: impl ToAddress, router: Router) -> io::Result<()> {
    let server = Server::bind(address, router)?.shutdown_on_signals();
    stderr::line(format_args!("postlude: listening on http://{}", server.local_addr()?));
    let report = server.run().await?;
    tell(&report);
    Ok(())
}

/// Writes the report of a stop to stderr. It may be the last line of the process, so a slow reader
/// gets a second.
fn tell(report: &ShutdownReport) {
    stderr::line_within(Duration::from_secs(1), format_args!("postlude: {report}"));
}
