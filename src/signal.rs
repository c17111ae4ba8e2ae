//! Unix signals as streams: [`ctrl_c`], [`terminate`], and [`signal`] for any other.
//!
//! Each listener is a socket pair. The handler, which may do next to nothing (signal-safety(7)),
//! writes a byte into one end; the other end is read like any socket. Nothing is installed before a
//! signal's first listener exists.
//!
//! A handler stays installed, so after its last listener the signal would be swallowed. Therefore
//! the first thing installed for a signal is a conditional default: without a listener the signal
//! takes its default action (`SIGINT` ends the process). That holds for a signal that was ignored
//! before, by `nohup` say: its default action comes back, not the ignoring.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::net::UnixStream;

/// Bytes read from the pair at a time, each a signal. Signals that come faster than they are read
/// count as one anyway.
const SIGNALS_PER_READ: usize = 64;

/// Listens for `SIGINT`, which Ctrl-C sends.
///
/// # Errors
///
/// If the handler or the socket pair cannot be made.
pub fn ctrl_c() -> io::Result<Signal> {
    signal(SIGINT)
}

/// Listens for `SIGTERM`, which service managers and `kill` send. Errors as [`ctrl_c`].
pub fn terminate() -> io::Result<Signal> {
    signal(SIGTERM)
}

/// Listens for the signal of this number (signal(7)).
///
/// The signal takes no default action from this call until its last listener is dropped. Any number
/// of listeners may exist; each gets every signal. Needs no runtime yet.
///
/// # Errors
///
/// If the number is no signal's, the signal cannot be caught (`SIGKILL`, `SIGSTOP`) or may not be
/// (`SIGSEGV` and its like), or the socket pair cannot be made.
pub fn signal(number: i32) -> io::Result<Signal> {
    if signal_hook::consts::FORBIDDEN.contains(&number) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal `{number}` cannot be listened for; the system or a fault of the program raises it"),
        ));
    }
    let (read, write) = StdUnixStream::pair()?;
    let stream = UnixStream::from_std(read)?;
    write.set_nonblocking(true)?;
    let audience = audience(number)?;
    let id = pipe::register(number, write)?;
    audience.arrives();
    Ok(Signal { stream, number, id, audience })
}

/// A listener for a signal: see [`signal`]. It is also a [`Stream`] with an item for each signal,
/// which never ends.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// let mut hangups = postlude::signal::signal(1)?;
/// # std::process::Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status()?;
/// hangups.recv().await?;
/// println!("reading the configuration again");
/// # Ok(()) })? }
/// ```
#[must_use = "dropping it gives the signal its default action back"]
pub struct Signal {
    stream: UnixStream,
    number: i32,
    id: SigId,
    audience: Arc<Audience>,
}

impl Signal {
    /// Waits for the next signal. Signals that arrived since the last call count as one.
    ///
    /// Fails outside the listener's runtime. Dropping the future loses no signal.
    pub async fn recv(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Like [`recv`](Self::recv), for hand-written futures; the last waker wins.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; SIGNALS_PER_READ];
        match ready!(self.stream.poll_read(cx, &mut bytes)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Returns the number of the signal.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }
}

impl Stream for Signal {
    type Item = io::Result<()>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        self.poll_recv(cx).map(Some)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        unregister(self.id);
        self.audience.leaves();
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The listeners of a signal: their number, and the flag that the signal's conditional default
/// reads.
struct Audience {
    listeners: Mutex<usize>,
    nobody: Arc<AtomicBool>,
}

impl Audience {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrives(&self) {
        *self.lock() += 1;
        self.nobody.store(false, Ordering::SeqCst);
    }

    fn leaves(&self) {
        let mut listeners = self.lock();
        *listeners -= 1;
        self.nobody.store(*listeners == 0, Ordering::SeqCst);
    }
}

/// Returns the audience of a signal. The first call for a signal installs its conditional default,
/// for the life of the process.
fn audience(number: i32) -> io::Result<Arc<Audience>> {
    static AUDIENCES: Mutex<BTreeMap<i32, Arc<Audience>>> = Mutex::new(BTreeMap::new());
    let mut audiences = AUDIENCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(audience) = audiences.get(&number) {
        return Ok(Arc::clone(audience));
    }
    let nobody = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_default(number, Arc::clone(&nobody))?;
    let audience = Arc::new(Audience { listeners: Mutex::new(0), nobody });
    audiences.insert(number, Arc::clone(&audience));
    Ok(audience)
}
