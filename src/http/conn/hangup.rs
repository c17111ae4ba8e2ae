//! Hears a client's end while its connection only waits, for a handler or for a stream.
//!
//! Over an arbitrary `IO` only a read shows the end. So a connection that waits reads ahead, at
//! most until its input buffer is full: the bytes belong to a later request, or to a body that the
//! handler has not asked for. Between two polls an empty buffer is spare, so that ten thousand
//! waiting connections share a few.
//!
//! # How it works
//!
//! | the read finds | the handler | the stream |
//! | --- | --- | --- |
//! | bytes | waits on | waits on |
//! | the end (FIN) | waits on, and is answered | sends what it has; its [`Silence`] is limited |
//! | an error (RST) | runs to its end, by [`outlive`] | is dropped with the connection |
//!
//! After a FIN the client sends no more, but may still read. TCP does not tell whether it does,
//! until a write arrives there: the kernel of a client that has closed its socket answers with a
//! reset, and the next write fails. So a write is the probe.
//!
//! With the input buffer full nothing is read, and the end shows at the next write.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::AsyncRead;

use super::active::{Active, Held};
use super::buffer::{Input, SpareBuffers};
use super::places::ConnectionPlace;
use crate::http::app::call::{Answer, AnswerFuture, poll_caught};
use crate::http::app::client::ClientEnd;
use crate::http::app::delivery::Watch;
use crate::http::app::response::ResponseBody;
use crate::http::app::sse::COMMENT;
use crate::http::background::discard;
use crate::time::now;

/// The time after the first probe of an event stream until the second, which finds the client's
/// reset. Each further one takes twice as long, for clients that are farther away.
const SECOND_PROBE: Duration = Duration::from_millis(10);

/// Whether the client has ended its sending, and how long the current stream may be silent then.
#[derive(Debug, Default)]
pub(super) struct HalfClose {
    heard: bool,
    /// Set when a handler is called and when its response begins.
    pub(super) silence: Silence,
    /// When the silence is over. Unset when the stream has given something, and without a limit.
    pub(super) until: Option<Instant>,
}

/// The silence that a stream may keep although its client has half-closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Silence {
    /// A handler goes on, and a stream whose length promises an end.
    #[default]
    Unlimited,
    /// The stream ends after this time.
    Limited(Duration),
    /// A comment goes out after this time.
    Probed(Duration),
}

impl Silence {
    pub(super) fn of(payload: &ResponseBody, half_close: Duration) -> Self {
        match payload {
            ResponseBody::Events(_) => Self::Probed(Duration::ZERO),
            ResponseBody::Stream(_) => Self::Limited(half_close),
            _ => Self::Unlimited,
        }
    }
}

impl HalfClose {
    /// Begins or continues a silence, and returns its deadline.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        match self.silence {
            Silence::Limited(time) | Silence::Probed(time) if self.heard => {
                if self.until.is_none() {
                    self.until = now().checked_add(time);
                }
                self.until
            }
            _ => None,
        }
    }

    /// Returns the piece that ends the silence when its time is over; `None` if the stream must
    /// end. The next silence may be longer, and any that would exceed `half_close` is unlimited.
    pub(super) fn probe(&mut self, half_close: Duration) -> Option<Vec<u8>> {
        let Silence::Probed(time) = self.silence else { return None };
        let next = time.saturating_mul(2).max(SECOND_PROBE);
        self.silence = if next <= half_close { Silence::Probed(next) } else { Silence::Unlimited };
        Some(COMMENT.to_vec())
    }
}

impl Active {
    /// Reads ahead. A failed read breaks the output.
    pub(super) fn listen<IO: AsyncRead + Unpin>(&mut self, io: &mut IO, spare: &SpareBuffers, cx: &mut Context<'_>) {
        while !self.half_close.heard && self.input.has_room() {
            match self.input.poll_fill(io, spare, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.hear_half_close(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return self.break_off(),
            }
        }
        if self.half_close.heard {
            // It may have been heard during an earlier request.
            self.record.client.end(ClientEnd::Gone);
        }
        // The rest of a body comes fast, into a buffer that has grown for it.
        if self.body.as_ref().is_none_or(|body| body.ended) {
            self.input.release(spare);
        }
    }

    pub(super) fn hear_half_close(&mut self) {
        self.half_close.heard = true;
        self.record.client.end(ClientEnd::Gone);
    }
}

/// Closes the socket of a client that has gone, and runs its handler to the end. Another connection
/// may have its place, but the server's drain waits for it.
///
/// Boxed because few connections need this part of the future.
pub(super) fn outlive<IO>(io: IO, active: Held, place: ConnectionPlace) -> Pin<Box<dyn Future<Output = ()>>> {
    drop(io);
    Box::pin(async move {
        let _place = place.release();
        let mut held = active;
        let active = &mut *held;
        // Declared later than the rest, so that it is dropped first if this future is.
        let mut running: Option<AnswerFuture> = active.orphan.take();
        active.break_off();
        if let Some(body) = active.body.take() {
            body.cut(&mut active.input);
        }
        active.input = Input::default();
        active.record.client.end(ClientEnd::Gone);
        let outcome = poll_fn(|cx| poll_caught(&mut running, cx)).await;
        let mut answer = outcome.unwrap_or_else(|text| active.answer_panic(&text));
        active.gather_tasks(&mut answer);
        let Answer { response, failed } = answer;
        let trigger = active.settle(failed.then_some(response.status));
        drop(Watch::new(active.record.take_watchers(), Some(response.status), 0));
        drop(trigger);
        discard(response.payload);
    })
}
