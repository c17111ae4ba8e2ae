//! Reports the end of an answer to callbacks.
//!
//! A callback of [`Request::on_delivery`](crate::http::Request::on_delivery) waits in the request's
//! record until the answer's head is appended to the output, and then in the output until the count
//! of written bytes passes the answer's end. Each is called exactly once: from `Drop`, if there is
//! never an answer or an end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::StatusCode;

use crate::http::background::{say, text_of};

/// The outcome of sending a response, for
/// [`Request::on_delivery`](crate::http::Request::on_delivery).
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
    /// The status sent; `None` if the connection was dropped before there was an answer.
    pub status: Option<StatusCode>,
    /// Bytes of the body that the socket accepted, chunk framing included.
    pub bytes: u64,
    /// Whether the socket accepted the last byte. If not, the client went away or was too slow, or
    /// the body's stream failed.
    pub complete: bool,
}

pub(crate) type Callback = Box<dyn FnOnce(Delivery)>;

pub(crate) struct Watch {
    /// Empty once they are called.
    callbacks: Vec<Callback>,
    status: Option<StatusCode>,
    /// The output's count of bytes at the beginning of the body.
    start: u64,
}

impl Watch {
    /// Returns `None` without callbacks.
    pub(crate) fn new(callbacks: Vec<Callback>, status: Option<StatusCode>, start: u64) -> Option<Self> {
        (!callbacks.is_empty()).then_some(Self { callbacks, status, start })
    }

    /// Reports that the answer has ended, and the output's count of written bytes.
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
