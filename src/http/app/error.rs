//! The error that a handler returns with `?`, and the conversion of all errors into responses.
//!
//! The conversions are here so that the files that define the errors need not know responses.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;

use super::body::BodyError;
use super::call::UNANSWERED;
use super::refusal::Refusal;
use super::rejection::Rejection;
use super::response::{IntoResponse, Note, Response};
use crate::deferred::AddError;
use crate::http::background::RETRY_AFTER;

/// The result of a handler that uses `?`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A handler's error: a status and a text for the client.
///
/// The client gets the text as `text/plain`, or as `application/problem+json` (RFC 9457) if its
/// `Accept` prefers that. This holds for all errors of this module except that of an invalid head,
/// which is always text.
///
/// `?` converts any other error. [`AddError`], [`BodyError`] and [`Rejection`] keep their status,
/// their text and their `Retry-After`. The others are a 500, and their text goes to stderr
/// instead of to the client.
///
/// ```
/// use postlude::http::{self, Error, Path};
/// async fn double(Path(number): Path<u32>) -> http::Result<String> {
///     let twice = number.checked_mul(2).ok_or(Error::new(422, "too large"))?;
///     Ok(twice.to_string())
/// }
/// # let _ = http::Router::new().get("/{number}", double);
/// ```
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    text: String,
    /// What the server lacks at the moment: the response has a `Retry-After`.
    lacks: Option<Lack>,
    /// The error behind a 500, which the client does not see.
    source: Option<Box<dyn StdError>>,
}

/// See [`Limits`](crate::http::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Places for background tasks.
    Places,
    /// Memory for bodies.
    Memory,
}

impl Error {
    /// Creates an error with a status and a text for the client. An invalid status becomes 500.
    #[must_use]
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, text: text.into(), lacks: None, source: None }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn told(status: StatusCode, error: &dyn StdError) -> Self {
        Self { status, text: error.to_string(), lacks: None, source: None }
    }
}

impl From<Error> for Box<dyn StdError> {
    /// The error behind a 500, if it is one, else the text: so a background task may use `?` as a
    /// handler does.
    fn from(error: Error) -> Self {
        error.source.unwrap_or_else(|| error.text.into())
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    /// The text, for a blocking background task: the error behind a 500 need not be `Send`.
    fn from(error: Error) -> Self {
        error.source.map_or(error.text, |source| source.to_string()).into()
    }
}

impl<E: StdError + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(error) = any.downcast_ref::<AddError>() {
            let lacks = error.is_temporary().then_some(Lack::Places);
            return Self { lacks, ..Self::told(StatusCode::SERVICE_UNAVAILABLE, error) };
        }
        if let Some(error) = any.downcast_ref::<BodyError>() {
            let lacks = error.is_temporary().then_some(Lack::Memory);
            return Self { lacks, ..Self::told(error.status(), error) };
        }
        if let Some(error) = any.downcast_ref::<Rejection>() {
            let lacks = error.is_temporary.then_some(Lack::Memory);
            return Self { lacks, ..Self::told(error.status(), error) };
        }
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let text = String::from(UNANSWERED);
        Self { status, text, lacks: None, source: Some(Box::new(error)) }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let note = match &self.source {
            Some(source) => Some(Note::Failed(source.to_string())),
            // Of a lack of memory the connection tells.
            None => (self.lacks == Some(Lack::Places)).then(|| Note::Refused(Refusal::Tasks, self.text.clone())),
        };
        let mut response = Response::text(self.status, self.text);
        response.note = note;
        if self.lacks.is_some() { response.with_field("retry-after", RETRY_AFTER) } else { response }
    }
}

impl IntoResponse for AddError {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} ({source})", self.text),
            None => f.write_str(&self.text),
        }
    }
}
