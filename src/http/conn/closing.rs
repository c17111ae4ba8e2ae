//! Closes the sockets of clients that have gone, after work that cannot wait.
//!
//! The kernel takes some ten microseconds to end a TCP connection. When ten thousand clients hang
//! up in the same moment that is a tenth of a second, and a request that comes just then would wait
//! behind all of them, although none of them is urgent. So a connection that ends while it is idle,
//! because of its client, its time or the server's stop, leaves its socket here, and a task of the
//! server closes them, one after the other.
//!
//! It must keep pace all the same, or a busy server whose clients hang up after each request would
//! run out of descriptors. So each time the task is polled it goes on closing for as long as it had
//! to wait for the others: half of the time is its own, if it needs it, however busy they are.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncWrite;

use super::places::Place;
use super::timer::LINGER;
use crate::net::TcpStream;
use crate::sync::Notify;
use crate::task::yield_now;
use crate::time::{now, timeout};

/// How long a poll closes sockets at most. A handler that blocked the loop for a second has done
/// enough harm.
const SLICE: Duration = Duration::from_millis(10);

/// The remains of a connection that ended while it was idle: its socket, and then its entry in the
/// server's list.
pub(crate) struct Leftover<IO> {
    io: IO,
    #[allow(dead_code, reason = "held until the socket is closed")]
    place: Place,
}

impl<IO: AsyncWrite + Unpin> Leftover<IO> {
    pub(super) fn new(io: IO, place: Place) -> Self {
        Self { io, place }
    }

    /// Says goodbye, if the socket has a way to, and closes it.
    pub(crate) async fn close(mut self) {
        let _ = timeout(LINGER, poll_fn(|cx| Pin::new(&mut self.io).poll_close(cx))).await;
    }
}

/// The sockets that wait to be closed.
#[derive(Default)]
pub(crate) struct Closing {
    /// None while no task closes them. They hold their places, so they must not stay behind.
    leftovers: RefCell<Option<Vec<Leftover<TcpStream>>>>,
    came: Notify,
}

impl Closing {
    /// Closes the socket now if there is no task to do it.
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

    fn take(&self) -> Vec<Leftover<TcpStream>> {
        self.leftovers.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Closes sockets as they come, until it is dropped.
pub(crate) async fn close(closing: Rc<Closing>) {
    let _open = Open::new(&closing);
    loop {
        closing.came.notified().await;
        let mut end = now();
        for leftover in closing.take() {
            drop(leftover);
            if now() >= end {
                let waiting_since = now();
                yield_now().await;
                end = now() + now().saturating_duration_since(waiting_since).min(SLICE);
            }
        }
    }
}

/// While there is one, sockets are left to the task that has it.
struct Open<'a>(&'a Closing);

impl<'a> Open<'a> {
    fn new(closing: &'a Closing) -> Self {
        closing.leftovers.replace(Some(Vec::new()));
        Self(closing)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        drop(self.0.leftovers.take());
    }
}
