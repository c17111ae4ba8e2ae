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
//!
//! A [`Hold`] puts that off: it takes the place of a signal's last listener. One registry counts
//! the listeners and knows the holds, behind one lock, since nothing here is frequent.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
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
    let (stream, write) = pair()?;
    let mut registry = registry();
    registry.make_conditional(number)?;
    let id = pipe::register(number, write)?;
    registry.arrives(number);
    Ok(Signal { stream, number, id })
}

/// Makes a pair whose second end the handler of a signal may write into.
fn pair() -> io::Result<(UnixStream, StdUnixStream)> {
    let (read, write) = StdUnixStream::pair()?;
    write.set_nonblocking(true)?;
    Ok((UnixStream::from_std(read)?, write))
}

fn poll_bytes(stream: &UnixStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut bytes = [0; SIGNALS_PER_READ];
    match ready!(stream.poll_read(cx, &mut bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Poll::Ready(Ok(())),
        Err(error) => Poll::Ready(Err(error)),
    }
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
        poll_bytes(&self.stream, cx)
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
        // Before the handler goes: a signal in between would take its default action.
        registry().leaves(self.number);
        unregister(self.id);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Signals that ask a process to end, and are taken over by a [`Hold`].
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Keeps the process alive at a second signal to end, after the listener for the first is gone.
///
/// It installs nothing. But when the last listener of `SIGHUP`, `SIGINT`, `SIGQUIT` or `SIGTERM` is
/// dropped while a `Hold` lives, the signal does not get its default action back: the hold takes
/// the listener's place, and is told of the next signal. A new listener replaces it. With the
/// hold's own drop the default action is back.
///
/// An HTTP server holds one while it runs, so that a future that awaits a signal and ends with it
/// does not leave the drain unprotected.
///
/// ```
/// # fn main() -> std::io::Result<()> { postlude::run(async {
/// let mut hold = postlude::signal::Hold::new()?;
/// let first = postlude::signal::terminate()?;
/// drop(first);
/// # std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status()?;
/// hold.recv().await?;
/// println!("still here");
/// # Ok(()) })? }
/// ```
#[must_use = "dropping it gives the signals their default actions back"]
pub struct Hold {
    stream: UnixStream,
    key: u64,
}

impl Hold {
    /// Creates a hold. Needs no runtime yet.
    ///
    /// # Errors
    ///
    /// If the socket pair cannot be made.
    pub fn new() -> io::Result<Self> {
        let (stream, write) = pair()?;
        let mut registry = registry();
        let key = registry.next_hold;
        registry.next_hold += 1;
        registry.holds.insert(key, Held { write, ids: BTreeMap::new() });
        Ok(Self { stream, key })
    }

    /// Waits for a signal that has no listener any more. Signals that arrived since the last call
    /// count as one.
    ///
    /// Fails outside the hold's runtime. Dropping the future loses no signal.
    pub async fn recv(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Like [`recv`](Self::recv), for hand-written futures; the last waker wins.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_bytes(&self.stream, cx)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        registry().end_hold(self.key);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

/// The process's listeners and holds.
struct Registry {
    audiences: BTreeMap<i32, Audience>,
    holds: BTreeMap<u64, Held>,
    next_hold: u64,
}

/// The listeners of a signal: their number, and the flag that the signal's conditional default
/// reads.
struct Audience {
    listeners: usize,
    nobody: Arc<AtomicBool>,
}

/// A hold: where it is written to, and the handlers it has for signals without a listener.
struct Held {
    write: StdUnixStream,
    ids: BTreeMap<i32, SigId>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { audiences: BTreeMap::new(), holds: BTreeMap::new(), next_hold: 0 });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Installs the signal's conditional default at its first listener, for the life of the
    /// process.
    fn make_conditional(&mut self, number: i32) -> io::Result<()> {
        if let Entry::Vacant(audience) = self.audiences.entry(number) {
            let nobody = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(number, Arc::clone(&nobody))?;
            audience.insert(Audience { listeners: 0, nobody });
        }
        Ok(())
    }

    fn arrives(&mut self, number: i32) {
        let Some(audience) = self.audiences.get_mut(&number) else { return };
        audience.listeners += 1;
        audience.nobody.store(false, Ordering::SeqCst);
        for id in self.holds.values_mut().filter_map(|hold| hold.ids.remove(&number)) {
            unregister(id);
        }
    }

    /// A hold that cannot take over, for want of descriptors, does not.
    fn leaves(&mut self, number: i32) {
        let Some(audience) = self.audiences.get_mut(&number) else { return };
        audience.listeners -= 1;
        if audience.listeners == 0 && ENDING.contains(&number) {
            for hold in self.holds.values_mut() {
                if let Ok(id) = hold.write.try_clone().and_then(|write| pipe::register(number, write)) {
                    hold.ids.insert(number, id);
                }
            }
        }
        self.settle(number);
    }

    fn end_hold(&mut self, key: u64) {
        for (number, id) in self.holds.remove(&key).into_iter().flat_map(|hold| hold.ids) {
            self.settle(number);
            unregister(id);
        }
    }

    /// Restores the default action of a signal that nothing listens for.
    fn settle(&self, number: i32) {
        let held = self.holds.values().any(|hold| hold.ids.contains_key(&number));
        if let Some(audience) = self.audiences.get(&number) {
            audience.nobody.store(audience.listeners == 0 && !held, Ordering::SeqCst);
        }
    }
}
