//! Closes the sockets of connections that ended while idle, a few at a time.
//!
//! The kernel takes some ten microseconds to close a TCP connection. When ten thousand clients hang
//! up at once, closing them all would make the next request wait for a tenth of a second, although
//! none of it is urgent (`examples/attack`, row `idle`, measures another client's waits). So a
//! connection that ends while idle leaves its socket here, and a task of the server closes the
//! sockets one by one.
//!
//! The task must keep pace, or a busy server whose clients hang up after each request would run out
//! of descriptors. So at each poll it closes sockets for as long as it had to wait for the other
//! tasks: if it needs to, it takes half of the time.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncWrite;

use super::places::ConnectionPlace;
use super::timer::LINGER;
use crate::net::TcpStream;
use crate::sync::Notify;
use crate::task::yield_now;
use crate::time::{now, timeout};

/// The longest time that one poll closes sockets. Without it a handler that blocks the loop for a
/// second would cost the others another second.
const SLICE: Duration = Duration::from_millis(10);

/// The rest of a connection that ended while idle: its socket, and its entry in the server's list.
pub(crate) struct Leftover<IO> {
    io: IO,
    #[allow(dead_code, reason = "held until the socket is closed")]
    place: ConnectionPlace,
}

impl<IO: AsyncWrite + Unpin> Leftover<IO> {
    pub(super) fn new(io: IO, place: ConnectionPlace) -> Self {
        Self { io, place }
    }

    /// Shuts the socket down, within `LINGER`, and closes it.
    pub(crate) async fn close(mut self) {
        let _ = timeout(LINGER, poll_fn(|cx| Pin::new(&mut self.io).poll_close(cx))).await;
    }
}

/// The sockets that wait to be closed.
#[derive(Default)]
pub(crate) struct Closing {
    /// Unset while no task closes them: they hold their places, so none may stay behind.
    leftovers: RefCell<Option<Vec<Leftover<TcpStream>>>>,
    came: Notify,
}

impl Closing {
    /// Leaves the socket to the closing task, or closes it now if there is none.
    pub(crate) fn add(&self, leftover: Leftover<TcpStream>) {
        let refused = match self.leftovers.borrow_mut().as_mut() {
            None => Some(leftover),
            Some(list) => {
                list.push(leftover);
                None
            }
        };
        drop(refused);
        self.came.notify_one();
    }
}

/// Closes sockets as they come, until it is dropped.
pub(crate) async fn close(closing: Rc<Closing>) {
    closing.leftovers.replace(Some(Vec::new()));
    let _open = Open(&closing);
    loop {
        closing.came.notified().await;
        let mut end = now();
        let leftovers = closing.leftovers.borrow_mut().as_mut().map(std::mem::take);
        for leftover in leftovers.unwrap_or_default() {
            drop(leftover);
            if now() >= end {
                let waiting_since = now();
                yield_now().await;
                end = now() + now().saturating_duration_since(waiting_since).min(SLICE);
            }
        }
    }
}

/// Lets no socket stay behind when the task that closes them ends.
struct Open<'a>(&'a Closing);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        drop(self.0.leftovers.take());
    }
}
