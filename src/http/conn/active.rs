//! The buffers and records that a connection needs only during a request.
//!
//! An idle connection puts its [`Active`] into the server's [`Spare`], and takes one when it is
//! polled. So ten thousand idle connections share a few, and a busy one allocates none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_io::AsyncWrite;
use http::StatusCode;

use super::buffer::{Input, OutputBuffer, SpareBuffers};
use super::hangup::HalfClose;
use super::incoming::IncomingBody;
use super::limits::Limits;
use super::timer::RateLimit;
use crate::deferred::AddError;
use crate::http::app::budget::Load;
use crate::http::app::call::{Answer, AnswerFuture, UNANSWERED, tell_of_panic};
use crate::http::app::client::ClientEnd;
use crate::http::app::delivery::Watch;
use crate::http::app::peer::Peer;
use crate::http::app::refusal::Refusal;
use crate::http::app::request::{HandlerState, RequestRecord};
use crate::http::app::response::{IntoResponse, Response};
use crate::http::app::settings::ServerParts;
use crate::http::app::upgraded::OnUpgrade;
use crate::http::background::Trigger;
use crate::http::wire::parse::HeadParser;

/// The number of spare `Active`s that are kept.
const SPARE: usize = 64;

pub(super) struct Active {
    pub(super) input: Input,
    pub(super) output: OutputBuffer,
    pub(super) parser: HeadParser,
    /// When the first byte of an incomplete head was seen.
    pub(super) head_since: Option<Instant>,
    pub(super) record: Rc<RequestRecord>,
    pub(super) body: Option<IncomingBody>,
    /// The memory of the output that the client does not take.
    unsent: Load,
    /// Set while a handler runs: its tasks have no trigger yet.
    pub(super) calling: bool,
    /// Gets the socket after the current answer.
    pub(super) on_upgrade: Option<OnUpgrade>,
    pub(super) half_close: HalfClose,
    /// The handler that still runs although the client has gone.
    pub(super) orphan: Option<AnswerFuture>,
}

impl Active {
    pub(super) fn new(limits: &Limits, server: &Rc<ServerParts>) -> Self {
        Self {
            input: Input::default(),
            output: OutputBuffer::new(limits.max_buffer, RateLimit::new(limits.write_timeout, limits.write_rate)),
            parser: HeadParser::new(limits.head),
            head_since: None,
            record: Rc::new(RequestRecord::new(Rc::clone(server), Peer::Unknown)),
            body: None,
            unsent: Load::new(&server.budget),
            calling: false,
            on_upgrade: None,
            half_close: HalfClose::default(),
            orphan: None,
        }
    }

    /// Writes what waits, and weighs the rest. A client that reads too slowly for the server's
    /// memory is cut off.
    pub(super) fn poll_flush<IO: AsyncWrite + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<()> {
        if self.unsent.is_cut() {
            self.record.refuse(Refusal::Memory, None, "");
            self.break_off();
        }
        if self.output.poll_flush(io, cx).is_ready() {
            self.unsent.all_written(self.output.written());
            return Poll::Ready(());
        }
        self.unsent.wait(self.output.memory(), self.output.written(), cx);
        Poll::Pending
    }

    /// Gives up the output: nothing more can be written.
    pub(super) fn break_off(&mut self) {
        self.output.break_off();
        self.unsent.clear();
    }

    /// The handler has ended, so the memory of its body counts no more, unless a task or its
    /// response's stream may still have it.
    pub(super) fn let_go_of_body(&self) {
        if self.body.as_ref().is_none_or(|body| body.ended) {
            drop(self.record.load.take());
            if let Some(body) = &self.body {
                body.cell.let_go();
            }
        }
    }

    /// Reports a handler's panic, and creates its answer.
    pub(super) fn answer_panic(&self, text: &str) -> Answer {
        tell_of_panic(text, &self.record);
        self.record.panicked();
        Answer::failed(Response::text(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED))
    }

    /// Adds the response's tasks to the request's list. If they do not fit, the error becomes the
    /// answer.
    pub(super) fn gather_tasks(&self, answer: &mut Answer) {
        if answer.response.tasks.is_empty() {
            return;
        }
        let added: Result<(), AddError> = self.record.tasks().extend(std::mem::take(&mut answer.response.tasks));
        if let Err(full) = added {
            *answer = Answer::failed(full.into_response());
        }
    }

    /// The handler has answered: creates the trigger of its tasks, as [`trigger`](Self::trigger).
    pub(super) fn settle(&mut self, failed: Option<StatusCode>) -> Option<Trigger> {
        self.calling = false;
        if Rc::strong_count(&self.record) > 1 {
            // The request is still held, and its list may be asked for after the answer. It must be
            // triggered, too, so that it closes.
            self.record.tasks();
        }
        self.trigger(failed)
    }

    /// Creates the trigger of the request's tasks, if it has any. `failed` is the status of the
    /// response if that is an error: it counts if no handler was called.
    fn trigger(&self, failed: Option<StatusCode>) -> Option<Trigger> {
        let failed = match self.record.handler.get() {
            HandlerState::NotCalled => failed,
            HandlerState::Running => Some(StatusCode::SERVICE_UNAVAILABLE),
            HandlerState::Failed(status) => Some(status),
            HandlerState::Answered => None,
        };
        self.record.tasks.get().map(|tasks| Trigger::new(tasks, failed))
    }

    /// Returns whether another connection could use it.
    pub(super) fn is_unused(&self) -> bool {
        self.input.is_empty() && self.output.is_fresh() && self.body.is_none()
    }
}

/// A connection's `Active`; empty only while the connection is idle.
#[derive(Default)]
pub(super) struct Held(pub(super) Option<Box<Active>>);

impl Deref for Held {
    type Target = Active;

    #[inline]
    fn deref(&self) -> &Active {
        self.0.as_deref().expect("a connection that is not idle has its buffers")
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Active {
        self.0.as_deref_mut().expect("a connection that is not idle has its buffers")
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.record.client.end(ClientEnd::Gone);
        if self.calling {
            drop(self.trigger(None));
            drop(Watch::new(self.record.take_watchers(), None, 0));
        }
    }
}

/// The `Active`s and input buffers that no connection needs now.
#[derive(Default)]
pub(super) struct Spare {
    #[allow(clippy::vec_box, reason = "the boxes themselves go from one connection to the next")]
    buffers: RefCell<Vec<Box<Active>>>,
    pub(super) input: SpareBuffers,
}

impl Spare {
    pub(super) fn lend(&self) -> Option<Box<Active>> {
        self.buffers.borrow_mut().pop()
    }

    /// Keeps it for the next connection, unless enough are kept.
    pub(super) fn give_back(&self, active: Box<Active>) {
        if self.buffers.borrow().len() < SPARE {
            self.buffers.borrow_mut().push(active);
        }
    }

    pub(super) fn clear(&self) {
        drop(self.buffers.take());
        self.input.clear();
    }
}
