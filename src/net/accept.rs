//! Errors of accept(2): the ones that a listener skips, and the pause after a shortage.
//!
//! Some errors belong to the one connection that would have been accepted; the listener skips them.
//! Others are a shortage of descriptors or memory, which ends when something is closed. The backlog
//! stays readable meanwhile, so waiting for readiness would spin; the listener pauses instead. All
//! other errors go to the caller.
//!
//! A pause belongs to the listener, not to the task that met the shortage. Its timer wakes all
//! waiting tasks, so a pause costs one timer however many tasks accept, and no task depends on
//! another one being polled again.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use crate::event_loop::context::{self, Home};
use crate::time::{self, Sleep};

/// How long a listener pauses: at most ten attempts a second, and a delay that a person hardly
/// notices.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause of one listener, if there is one.
#[derive(Default)]
pub(super) struct Backoff {
    pause: Mutex<Option<Pause>>,
    /// The number of pauses begun.
    pauses: AtomicU64,
}

struct Pause {
    /// Polled with `waiting` as its waker, by every task that accepts.
    timer: Sleep,
    /// The timer's runtime. In another one the pause does not count, and the socket decides whether
    /// it may be used.
    home: Home,
    waiting: Arc<PauseWakers>,
}

/// The wakers of the tasks that wait for the end of a pause. As a waker it wakes them all.
///
/// A dropped `accept` leaves its waker here: one spurious wake at most.
#[derive(Default)]
struct PauseWakers(Mutex<Vec<Waker>>);

impl Backoff {
    pub(super) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Polls `attempt`, a call of accept(2), until it has an answer for the caller; pauses in
    /// between.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_pause(cx));
            match ready!(attempt(cx)) {
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_shortage(&error) && self.begin_pause() => {}
                answer => return Poll::Ready(answer),
            }
        }
    }

    /// Begins a pause. Returns false if no runtime can time it, or if another one already does: the
    /// caller then gets the error.
    fn begin_pause(&self) -> bool {
        let Some(parts) = context::current() else { return false };
        let mut pause = lock(&self.pause);
        if pause.as_ref().is_some_and(|pause| pause.home != parts.home && pause.home.is_alive()) {
            return false;
        }
        let next = Pause { timer: time::sleep(PAUSE), home: parts.home, waiting: Arc::default() };
        let before = pause.replace(next);
        self.pauses.fetch_add(1, Ordering::Relaxed);
        drop(pause);
        drop(before);
        true
    }

    fn poll_pause(&self, cx: &mut Context<'_>) -> Poll<()> {
        if lock(&self.pause).is_none() {
            return Poll::Ready(());
        }
        // A waker is foreign code: it is cloned and dropped outside the lock.
        let waker = cx.waker().clone();
        let mut pause = lock(&self.pause);
        let Some(Pause { timer, home, waiting }) = pause.as_mut() else { return Poll::Ready(()) };
        if context::current_of(*home).is_none() {
            return Poll::Ready(());
        }
        let wakes_all = Waker::from(Arc::clone(waiting));
        if timer.poll_deadline(&mut Context::from_waker(&wakes_all)).is_pending() {
            let mut wakers = lock(&waiting.0);
            if !wakers.iter().any(|known| known.will_wake(&waker)) {
                wakers.push(waker);
            }
            return Poll::Pending;
        }
        let over = pause.take();
        drop(pause);
        drop(over);
        Poll::Ready(())
    }
}

impl Wake for PauseWakers {
    fn wake(self: Arc<Self>) {
        let wakers = mem::take(&mut *lock(&self.0));
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Errors of the connection that would have been accepted, not of the listener: accept(2), "Error
/// handling".
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::EPERM
                | libc::ETIMEDOUT
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// Errors that end when something is closed or freed: accept(2).
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
