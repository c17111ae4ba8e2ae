//! Tells handlers and streams that their client has gone: [`ClientGone`].
//!
//! The connection notes the client's end in the request's record. A `ClientGone` is a handle on
//! that record, like a request, so it allocates nothing.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::extract::FromRequest;
use super::request::{Request, RequestRecord};
use crate::task::poll_proceed;

/// Why a client waits no longer for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    Gone,
    /// The whole answer is in the connection's output.
    Answered,
}

/// The end of one request's client, in the request's record.
#[derive(Default)]
pub(crate) struct ClientWatch {
    /// Unset while the client waits. The connection sets it; its first value counts.
    end: Cell<Option<ClientEnd>>,
    /// The tasks that await a `ClientGone`. Each of these removes its own.
    waiters: RefCell<Slab<Waker>>,
}

impl ClientWatch {
    /// Notes the end, and wakes the tasks that wait for it.
    pub(crate) fn end(&self, end: ClientEnd) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
            if !self.waiters.borrow().is_empty() {
                let waiters = self.waiters.take();
                waiters.into_iter().for_each(|(_, waker)| waker.wake());
            }
        }
    }

    pub(super) fn clear(&self) {
        self.end.set(None);
    }
}

/// Tells that a request's client has gone: an extractor, a future and a flag.
///
/// A handler runs to its end whatever its client does, and so do its background tasks. One whose
/// work is only for this client can take `ClientGone` and end early: it races the work with the
/// future, or looks at [`is_gone`](Self::is_gone) between two steps.
///
/// The client has gone when it has reset or closed the connection, or was too slow for the
/// server's [`Limits`](crate::http::Limits). The connection notices while it waits for the handler
/// or the response's stream, and at each write.
///
/// The future is ready then, and also when the response is complete, so that no task waits for it
/// forever. It may be cloned, and awaited in several tasks. Dropping it loses nothing.
///
/// **Not guaranteed:** that the client no longer reads. A client that has only shut down its
/// sending side, as `nc -N` does, counts as gone: TCP cannot tell the difference until something is
/// written. Such a client still gets the response that the handler returns. Nor that the end is
/// noticed, before the next write, if the client has pipelined so many requests that the
/// connection's input buffer is full.
///
/// ```
/// use std::time::Duration;
/// use postlude::http::{ClientGone, Router, StatusCode};
/// use postlude::{task, time};
///
/// async fn search() -> &'static str {
///     time::sleep(Duration::from_secs(20)).await;
///     "found"
/// }
///
/// let router = Router::new().get("/search", async |gone: ClientGone| {
///     let gone = async { gone.await; Err(StatusCode::REQUEST_TIMEOUT) };
///     task::race((async { Ok(search().await) }, gone)).await.1
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct ClientGone {
    record: Rc<RequestRecord>,
    /// The number of its waker in the record, once it has been polled.
    key: Option<usize>,
}

impl ClientGone {
    fn new(record: &Rc<RequestRecord>) -> Self {
        Self { record: Rc::clone(record), key: None }
    }

    /// Returns whether the client went before its response was complete.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.record.client.end.get() == Some(ClientEnd::Gone)
    }
}

impl Future for ClientGone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let watch = &this.record.client;
        if watch.end.get().is_some() {
            return poll_proceed(cx);
        }
        let waker = cx.waker().clone();
        let mut waiters = watch.waiters.borrow_mut();
        let before = match this.key.and_then(|key| waiters.get_mut(key)) {
            Some(known) => Some(std::mem::replace(known, waker)),
            None => {
                this.key = Some(waiters.insert(waker));
                None
            }
        };
        drop(waiters);
        drop(before);
        Poll::Pending
    }
}

impl Clone for ClientGone {
    fn clone(&self) -> Self {
        Self::new(&self.record)
    }
}

impl Drop for ClientGone {
    fn drop(&mut self) {
        let waker = self.key.and_then(|key| self.record.client.waiters.borrow_mut().try_remove(key));
        drop(waker);
    }
}

impl fmt::Debug for ClientGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientGone").field("is_gone", &self.is_gone()).finish_non_exhaustive()
    }
}

impl FromRequest for ClientGone {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(Self::new(&request.record))
    }
}
