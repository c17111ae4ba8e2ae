//! How an answer ended, reported to the callbacks that ask for it.
//!
//! A callback given to [`Request::on_delivery`](crate::http::Request::on_delivery) waits in the
//! request's record until the answer's head is written, then in the output until the count of
//! accepted bytes passes the answer's end. Every one is called exactly once: from `Drop`, too, when
//! there is never an answer or never an end. A request without callbacks pays for an empty list.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::StatusCode;

use crate::http::background::{say, text_of};

/// How an answer ended.
///
/// ```
/// use postlude::http::{Request, Router};
/// let router = Router::new().get("/", async |request: Request| {
///     request.on_delivery(|delivery| eprintln!("{:?}, {} bytes", delivery.status, delivery.bytes));
///     "hello"
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The status that went out; None if the connection was dropped before there was an answer.
    pub status: Option<StatusCode>,
    /// Bytes of the body that the socket accepted; the framing of chunks counts.
    pub bytes: u64,
    /// Whether the socket accepted the answer to its last byte. False: the client went away, was
    /// too slow, or the body's stream failed.
    pub complete: bool,
}

pub(crate) type Callback = Box<dyn FnOnce(Delivery)>;

/// The callbacks of one answer.
pub(crate) struct Watch {
    /// Empty once they were called.
    callbacks: Vec<Callback>,
    status: Option<StatusCode>,
    /// Where the body begins, in the output's count of bytes.
    start: u64,
}

impl Watch {
    /// None without callbacks.
    pub(crate) fn new(callbacks: Vec<Callback>, status: Option<StatusCode>, start: u64) -> Option<Self> {
        (!callbacks.is_empty()).then_some(Self { callbacks, status, start })
    }

    /// Tells that the answer has ended, and how far it was accepted.
    pub(crate) fn end(mut self, complete: bool, accepted: u64) {
        self.tell(complete, accepted);
    }

    fn tell(&mut self, complete: bool, accepted: u64) {
        let delivery = Delivery { status: self.status, bytes: accepted.saturating_sub(self.start), complete };
        for callback in std::mem::take(&mut self.callbacks) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(delivery))) {
                say(format_args!("an `on_delivery` callback panicked: {}", text_of(payload)));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tell(false, self.start);
    }
}
