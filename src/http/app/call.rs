//! Handlers as the router keeps them: their call, its answer, and its panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::request::{HandlerState, Request, RequestRecord};
use super::response::{IntoResponse, Note, Response};
use crate::http::background::text_of;

/// A handler as the router keeps it.
pub(crate) type Call = Rc<dyn Fn(Request) -> AnswerFuture>;

/// The future of one call.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// A response, and whether it stands for a failure: of the handler, or of a layer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) failed: bool,
}

impl Answer {
    pub(crate) fn failed(response: Response) -> Self {
        Self { response, failed: true }
    }

    pub(crate) fn of(answer: impl IntoResponse) -> Self {
        let failed = answer.is_failure();
        Self { response: answer.into_response(), failed }
    }

    /// Notes on the request how its handler ended, and adds the response's tasks to the request's
    /// list, before any layer sees the response. If they do not fit, the error is the answer.
    pub(super) fn settle(mut self, record: &RequestRecord) -> Self {
        if !self.response.tasks.is_empty() {
            if let Err(full) = record.tasks().extend(std::mem::take(&mut self.response.tasks)) {
                self = Self::failed(full.into_response());
            }
        }
        tell_note(&mut self.response, record);
        let failed = self.failed.then_some(self.response.status);
        record.handler.set(failed.map_or(HandlerState::Answered, HandlerState::Failed));
        self
    }

    /// Converts it into a response that remembers the failure, for the layers around.
    pub(super) fn for_layers(self) -> Response {
        let Self { mut response, failed } = self;
        response.failed |= failed;
        response
    }
}

/// Polls a future and drops it when it has ended. A panic of the poll or the drop becomes its text.
#[inline]
pub(crate) fn poll_caught<F: Future + Unpin>(
    running: &mut Option<F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, String>> {
    let Some(future) = running else { return Poll::Pending };
    let output = match catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(cx))) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => Err(text_of(payload)),
    };
    let ended = running.take();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(ended))).map_err(text_of);
    Poll::Ready(output.and_then(|output| dropped.map(|()| output)))
}

/// The text that a client gets after a panic.
pub(crate) const UNANSWERED: &str = "the server could not answer";

/// Reports a handler's panic and its request on stderr.
pub(crate) fn tell_of_panic(text: &str, record: &RequestRecord) {
    record.say(format_args!("a handler panicked: {text}"));
}

/// Reports what a response has for the operator, which the code that made it could not: it did not
/// know the request.
pub(crate) fn tell_note(response: &mut Response, record: &RequestRecord) {
    match response.note.take() {
        Some(Note::Failed(text)) => record.say(format_args!("a handler failed: {text}")),
        Some(Note::Refused(what, text)) => record.refuse(what, Some(response.status), &text),
        None => {}
    }
}
