//! The error of the built-in extractors.

use std::fmt;

use http::StatusCode;

use super::body::BodyError;

/// An extractor's refusal of a request: a status and a text for the client.
///
/// ```
/// use postlude::http::{IntoResponse, Rejection};
/// assert_eq!(Rejection::new(422, "the date lies in the past").into_response().status(), 422);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: StatusCode,
    text: String,
    /// Whether the response has a `Retry-After`.
    pub(crate) is_temporary: bool,
}

impl Rejection {
    /// Creates a rejection. An invalid status becomes 400.
    #[must_use]
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self::of(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), text)
    }

    pub(crate) fn of(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), is_temporary: false }
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, text)
    }

    /// A mistake in the server's code.
    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Rejection {}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        Self { is_temporary: error.is_temporary(), ..Self::of(error.status(), error.to_string()) }
    }
}
