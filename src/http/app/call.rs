//! A call: a handler as the router keeps it, its future, its answer, and its panic.

use std::pin::Pin;
use std::rc::Rc;

use super::request::{Record, Request};
use super::response::{IntoResponse, Response};
use crate::http::background::say;

/// A handler as the router keeps it.
pub(crate) type Call = Rc<dyn Fn(Request) -> AnswerFuture>;

/// The future of one call.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// A response, and whether the handler failed.
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
}

/// The text a client gets after a panic.
pub(crate) const UNANSWERED: &str = "the server could not answer";

/// Says on stderr that a handler panicked, and for which request.
pub(crate) fn tell_of_panic(text: &str, record: &Record) {
    let (method, target) = (record.head.method(&record.bytes), record.head.target(&record.bytes));
    say(format_args!("a handler panicked: {text} ({method} {target}, request {})", record.number));
}
