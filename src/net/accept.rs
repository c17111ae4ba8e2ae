//! Accepting connections: what both kinds of listener do about errors of accept(2).
//!
//! Some errors are of the one connection that would have been accepted; they are passed over. Some are a shortage that passes when
//! somebody closes something: then the listener pauses, once for all who accept, instead of spinning on a backlog that stays readable.
//! The rest are the caller's.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::io::operation::{Io, never};
use crate::reactor::Direction;
use crate::time::{self, Sleep};

/// How long a listener waits when the system is out of descriptors or memory. Ten tries a second cost nothing and are seldom later
/// than a person would notice.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener's pause, while there is one.
#[derive(Default)]
pub(super) struct Acceptor {
    pause: Mutex<Option<Sleep>>,
}

impl Acceptor {
    pub(super) async fn accept<S, T>(&self, io: &Io<S>, accept: fn(&S) -> io::Result<T>) -> io::Result<T>
    where
        S: AsRawFd + Send + 'static,
    {
        loop {
            while let Some(deadline) = self.paused_until() {
                time::sleep_until(deadline).await;
                self.end_pause(deadline);
            }
            let result = io.wait(Direction::Read, accept, never).await;
            if let Some(answer) = self.sort(result) {
                return answer;
            }
        }
    }

    pub(super) fn poll_accept<S, T>(
        &self,
        cx: &mut Context<'_>,
        io: &Io<S>,
        accept: fn(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>>
    where
        S: AsRawFd + Send + 'static,
    {
        loop {
            // Out of the lock while it is polled: that touches the caller's waker.
            let pause = self.lock().take();
            if let Some(mut pause) = pause {
                if Pin::new(&mut pause).poll(cx).is_pending() {
                    *self.lock() = Some(pause);
                    return Poll::Pending;
                }
            }
            let result = ready!(io.poll(cx, Direction::Read, accept, never));
            if let Some(answer) = self.sort(result) {
                return Poll::Ready(answer);
            }
        }
    }

    /// What becomes of a call to accept(2): an answer for the caller, or nothing, to try again.
    fn sort<T>(&self, result: io::Result<T>) -> Option<io::Result<T>> {
        match result {
            Err(error) if is_of_one_connection(&error) => None,
            Err(error) if is_shortage(&error) => {
                let before = self.lock().replace(time::sleep(PAUSE));
                drop(before);
                None
            }
            answer => Some(answer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sleep>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused_until(&self) -> Option<Instant> {
        self.lock().as_ref().map(Sleep::deadline)
    }

    /// The first to wake ends the pause and tries; if that fails, the others find the next one.
    fn end_pause(&self, deadline: Instant) {
        let over = self.lock().take_if(|pause| pause.deadline() == deadline);
        drop(over);
    }
}

/// Errors of the connection that would have been accepted, not of the listener: accept(2), "Error handling".
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

/// Errors that pass when somebody gives something back: accept(2).
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
