//! When a server stops: a future, a signal, or a call of [`ShutdownHandle::shutdown`].
//!
//! [`StopSources`] collects what the settings name; `run` turns it into [`Watched`]. The first
//! event of any source begins the stop. A later one, unless it comes at once, means that its sender
//! will not wait any longer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::http::app::stopping::Stopping;
use crate::http::conn::shared::ServerState;
#[cfg(feature = "signal")]
use crate::signal::{self, Hold, Signal};
use crate::task::Cancelled;
use crate::time::now;

/// Signals that come within this time of the first count as one. A service manager may signal the
/// process and its group, and a terminal both a shell's script and what it runs; a person who wants
/// to wait no longer needs longer.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

type Until = Pin<Box<dyn Future<Output = ()>>>;

/// What the server's settings name.
#[derive(Default)]
pub(super) struct StopSources {
    until: Option<Until>,
    /// Caught from the setting on. `watch` reports an error.
    #[cfg(feature = "signal")]
    signals: Option<io::Result<[Signal; 2]>>,
}

impl StopSources {
    pub(super) fn until(&mut self, stop: impl Future<Output = ()> + 'static) {
        self.until = Some(Box::pin(stop));
    }

    #[cfg(feature = "signal")]
    pub(super) fn signals(&mut self) {
        self.signals = Some(signal::ctrl_c().and_then(|interrupt| Ok([interrupt, signal::terminate()?])));
    }

    #[cfg_attr(not(feature = "signal"), allow(clippy::unnecessary_wraps, reason = "signals may fail"))]
    pub(super) fn watch(self, shared: &ServerState) -> io::Result<Watched> {
        Ok(Watched {
            until: self.until,
            asked: shared.parts.stop.announced.cancelled(),
            since: None,
            skips: false,
            #[cfg(feature = "signal")]
            hold: Hold::new()?,
            #[cfg(feature = "signal")]
            signals: self.signals.transpose()?,
        })
    }
}

/// The sources, while the server runs.
pub(super) struct Watched {
    until: Option<Until>,
    /// A call of `shutdown`.
    asked: Cancelled,
    /// When the stop began.
    since: Option<Instant>,
    /// A later signal has come.
    skips: bool,
    /// Dropped before `signals`, which are not to be held.
    #[cfg(feature = "signal")]
    hold: Hold,
    #[cfg(feature = "signal")]
    signals: Option<[Signal; 2]>,
}

impl Watched {
    /// Is ready when the server is to stop.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let signalled = self.poll_signal(cx).is_ready();
        let asked = Pin::new(&mut self.asked).poll(cx).is_ready();
        let is_over = self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
        if !(signalled || asked || is_over) {
            return Poll::Pending;
        }
        // It may own a listener for signals, which goes to `hold` now.
        self.until = None;
        self.since = Some(now());
        Poll::Ready(())
    }

    /// Is ready at a signal that is no repetition of the first, and from then on.
    pub(super) fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.skips && self.poll_signal(cx).is_ready() {
            self.skips = self.since.is_none_or(|since| now().saturating_duration_since(since) >= ONE_SIGNAL);
        }
        if self.skips { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Is ready at a signal. Ignores a failed listener.
    #[cfg(feature = "signal")]
    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut came = matches!(self.hold.poll_recv(cx), Poll::Ready(Ok(_)));
        for signal in self.signals.iter_mut().flatten() {
            came |= matches!(signal.poll_recv(cx), Poll::Ready(Ok(())));
        }
        if came { Poll::Ready(()) } else { Poll::Pending }
    }

    #[cfg(not(feature = "signal"))]
    #[allow(clippy::unused_self, reason = "there are no signals without the feature")]
    fn poll_signal(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Begins the stop when it is dropped, so also if `run` is.
pub(super) struct Ending<'a>(&'a ServerState);

impl<'a> Ending<'a> {
    pub(super) fn new(shared: &'a ServerState) -> Self {
        shared.running.set(true);
        Self(shared)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
        self.0.stop();
    }
}

/// Stops a server from code: see [`Server::shutdown_handle`](crate::http::Server::shutdown_handle).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use postlude::http::{Router, Server};
/// let server = Server::bind("127.0.0.1:0", Router::new())?;
/// let handle = server.shutdown_handle();
/// postlude::run(async move {
///     let running = postlude::spawn(server.run());
///     handle.shutdown();
///     assert!(running.await.unwrap()?.is_clean());
///     Ok(())
/// })?
/// # }
/// ```
#[derive(Clone)]
pub struct ShutdownHandle {
    shared: Rc<ServerState>,
}

impl ShutdownHandle {
    pub(super) fn new(shared: Rc<ServerState>) -> Self {
        Self { shared }
    }

    /// Stops the server, as a signal would. A second call does nothing.
    ///
    /// [`Server::run`](crate::http::Server::run) goes through all steps of the
    /// [stop](crate::http::Server#stopping). Without it the stop begins at once: idle connections
    /// of [`serve_connection`](crate::http::Server::serve_connection) close, and
    /// [`Server::drain`](crate::http::Server::drain) does the rest.
    pub fn shutdown(&self) {
        if self.shared.running.get() {
            self.shared.parts.stop.announced.cancel();
        } else {
            self.shared.stop();
        }
    }

    /// Returns a future that is ready once the server stops.
    pub fn stopping(&self) -> Stopping {
        self.shared.parts.stop.stopping()
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle").finish_non_exhaustive()
    }
}
