//! The response, and the conversions into it.
//!
//! A response is a status, a list of headers and a payload. A payload of known length is sent with
//! `Content-Length`, another one in chunks. The connection writes `Date`, `Connection` and the
//! framing headers itself.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::refusal::Refusal;
use super::upgraded::{OnUpgrade, Upgraded};
use crate::deferred::{JobId, NewJob, SendTaskOutput, TaskOutput};

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A body that is made piece by piece.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Vec<u8>>>>>;

pub(crate) enum ResponseBody {
    Empty,
    Static(&'static [u8]),
    Bytes(Vec<u8>),
    /// The text of an error. The client's `Accept` decides its form.
    Problem(String),
    Stream(Pieces),
    /// A stream of server-sent events. The connection may send a comment between two pieces, and
    /// ends the stream when the server stops.
    Events(Pieces),
    /// A stream, and the length of the body.
    Sized(u64, Pieces),
    /// No body: the socket is handed to this function.
    Upgrade(OnUpgrade),
}

impl ResponseBody {
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Sized(length, _) => Some(*length),
            other => other.bytes().map(|bytes| bytes.len() as u64),
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Events(_) | Self::Sized(..))
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Static(bytes) => Some(bytes),
            Self::Bytes(bytes) => Some(bytes),
            Self::Problem(text) => Some(text.as_bytes()),
            Self::Stream(_) | Self::Events(_) | Self::Sized(..) | Self::Upgrade(_) => None,
        }
    }
}

/// A response: a status, headers, a body, and background tasks.
///
/// ```
/// use postlude::http::Response;
/// let response = Response::new(201)
///     .with_field("location", "/files/7")
///     .with_body("made")
///     .background(async { println!("the answer is out") });
/// assert_eq!(response.status(), 201);
/// ```
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: ResponseBody,
    /// The response's own background tasks, which run after those of extractors and handler.
    pub(crate) tasks: Vec<NewJob>,
    /// Whether the handler failed. A layer passes it on with the response.
    pub(crate) failed: bool,
    /// Told once the request is known: see `call::tell_note`.
    pub(crate) note: Option<Note>,
}

/// Something about a response for the operator, not for the client.
pub(crate) enum Note {
    /// The error behind a 500.
    Failed(String),
    Refused(Refusal, String),
}

impl Response {
    /// Creates an empty response.
    ///
    /// # Panics
    ///
    /// "a response's status is within 200..=999" if it is not.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        Self::of(status.expect("a response's status is within 200..=999"))
    }

    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, fields: Vec::new(), payload: ResponseBody::Empty, tasks: Vec::new(), failed: false, note: None }
    }

    /// Creates a 202 for work that a background task does: its `Location` is `path` with `{id}`
    /// replaced by the task's id, and its body the id as JSON.
    ///
    /// [`jobs::status`](crate::http::jobs::status) answers at that path.
    ///
    /// # Panics
    ///
    /// "`path` cannot be a header" if it cannot.
    #[must_use]
    #[track_caller]
    pub fn accepted(id: JobId, path: &str) -> Self {
        let location = HeaderValue::try_from(path.replace("{id}", &id.to_string())).expect("`path` cannot be a header");
        Self::new(202)
            .with_field("location", location)
            .with_field("content-type", "application/json")
            .with_body(format!("{{\"id\":\"{id}\"}}"))
    }

    /// Creates an error's answer: see `problem`.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        (status, with(TEXT, ResponseBody::Problem(text.into()))).into_response()
    }

    /// Creates a response whose body is a stream of unknown length. It is sent in chunks, or up to
    /// the connection's end for an HTTP/1.0 client.
    ///
    /// An error of the stream breaks the connection off, so that the client notices the missing
    /// part. An HTTP/1.0 client cannot notice it: if the length is known, use
    /// [`stream_sized`](Self::stream_sized).
    ///
    /// The stream is dropped as soon as the client has reset the connection, or when a piece cannot
    /// be written in time. A client that has ended its sending gets the pieces that the stream has;
    /// once the stream has been silent for [`Limits::half_close`](crate::http::Limits::half_close),
    /// it is dropped and the connection broken off.
    #[must_use]
    pub fn stream(stream: impl Stream<Item = io::Result<Vec<u8>>> + 'static) -> Self {
        Self { payload: ResponseBody::Stream(Box::pin(stream)), ..Self::of(StatusCode::OK) }
    }

    /// Creates a response whose body is a stream of known length. It is sent with `Content-Length`,
    /// so the client can show its progress, and an HTTP/1.0 connection goes on, too.
    ///
    /// After `length` bytes the stream is dropped; it is not polled for its end. A stream that ends
    /// earlier or fails breaks the connection off. If a piece exceeds the length, the rest is cut
    /// off and the connection closes after the response. All of these are reported on stderr.
    ///
    /// ```
    /// use postlude::http::Response;
    /// let parts = futures::stream::iter([Ok(b"Hello, ".to_vec()), Ok(b"World!".to_vec())]);
    /// let response = Response::stream_sized(13, parts).with_field("content-type", "text/plain");
    /// ```
    #[must_use]
    pub fn stream_sized(length: u64, stream: impl Stream<Item = io::Result<Vec<u8>>> + 'static) -> Self {
        Self { payload: ResponseBody::Sized(length, Box::pin(stream)), ..Self::of(StatusCode::OK) }
    }

    /// Creates a 101: the connection goes on with another protocol, and `run` gets the socket.
    ///
    /// This requires that the client asked for it: by an HTTP/1.1 request without a body, with
    /// `Connection: upgrade` and this protocol in `Upgrade`. Otherwise the answer is 426, and `run`
    /// is dropped. Background tasks start when the 101 is written. A panic of `run` ends the
    /// connection and is reported on stderr.
    ///
    /// # Panics
    ///
    /// As [`with_field`](Self::with_field), if the protocol contains a control character.
    #[doc(alias = "websocket")]
    #[must_use]
    pub fn upgrade<F>(protocol: &str, run: F) -> Self
    where
        F: AsyncFnOnce(Upgraded) + 'static,
    {
        let mut response = Self::of(StatusCode::SWITCHING_PROTOCOLS).with_field(header::UPGRADE, protocol);
        response.payload = ResponseBody::Upgrade(Box::new(|upgraded| Box::pin(async move { run(upgraded).await })));
        response
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Sets the status code.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Self::new(status).status;
        self
    }

    /// Adds a header. `Content-Length`, `Transfer-Encoding`, `Connection` and `Date` are left out,
    /// since the connection writes its own. It obeys `Connection: close`, and the `Content-Length`
    /// of a 304 or an answer to `HEAD` without a body.
    ///
    /// # Panics
    ///
    /// "not a field: a name is a token, a value has no control characters". For a value from
    /// outside make a `HeaderValue` first.
    #[doc(alias = "header", alias = "with_header")]
    #[must_use]
    pub fn with_field<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let (Ok(name), Ok(value)) = (name.try_into(), value.try_into()) else {
            panic!("not a field: a name is a token, a value has no control characters")
        };
        self.fields.push((name, value));
        self
    }

    /// Sets the body. The `Content-Type` is `text/plain` for a text and `application/octet-stream`
    /// for bytes, unless there already is one.
    #[must_use]
    pub fn with_body(mut self, body: impl IntoResponse) -> Self {
        let from = body.into_response();
        self.payload = from.payload;
        self.tasks.extend(from.tasks);
        for (name, value) in from.fields {
            if self.field(name.as_str()).is_none() {
                self.fields.push((name, value));
            }
        }
        self
    }

    /// Returns the value of the first header with this name, in any case.
    #[doc(alias = "header")]
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&HeaderValue> {
        self.fields.iter().find(|(known, _)| known.as_str().eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Adds a background task to the request's list, after those of extractors and handler.
    ///
    /// If the list is full when the response is sent, the answer is a 503 instead.
    #[must_use]
    #[track_caller]
    pub fn background<F, M>(mut self, task: F) -> Self
    where
        F: Future<Output: TaskOutput<M>> + 'static,
        M: 'static,
    {
        self.tasks.push(NewJob::future(task));
        self
    }

    /// Adds a blocking closure as [`background`](Self::background) adds a future. It runs on the
    /// server's background threads.
    #[must_use]
    #[track_caller]
    pub fn background_blocking<F, T, M>(mut self, task: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
        T: SendTaskOutput<M>,
    {
        self.tasks.push(NewJob::blocking(task));
        self
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("fields", &self.fields)
            .field("length", &self.payload.length())
            .field("tasks", &self.tasks.len())
            .finish()
    }
}

/// Converts a value into a response.
///
/// ```
/// use postlude::http::{IntoResponse, Response};
/// struct Teapot;
/// impl IntoResponse for Teapot {
///     fn into_response(self) -> Response {
///         Response::new(418).with_body("short and stout")
///     }
/// }
/// assert_eq!(Teapot.into_response().status(), 418);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be answered",
    note = "answer a text, bytes, a `StatusCode`, `Json`, a `Response`, a pair of status and one of these, or a `Result` of two"
)]
pub trait IntoResponse {
    /// Converts the value.
    fn into_response(self) -> Response;

    /// Returns whether the handler failed, so that its background tasks do not run. Only the `Err`
    /// of a `Result` is a failure, whatever the status.
    fn is_failure(&self) -> bool {
        false
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> Self {
        self
    }

    fn is_failure(&self) -> bool {
        self.failed
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::of(StatusCode::OK)
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl IntoResponse for StatusCode {
    /// Creates an empty response with this status. An interim status becomes a 500.
    fn into_response(self) -> Response {
        Response::of(if self.is_informational() { Self::INTERNAL_SERVER_ERROR } else { self })
    }
}

fn with(kind: HeaderValue, payload: ResponseBody) -> Response {
    Response { fields: vec![(header::CONTENT_TYPE, kind)], payload, ..Response::of(StatusCode::OK) }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        with(TEXT, ResponseBody::Static(self.as_bytes()))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        with(TEXT, ResponseBody::Bytes(self.into_bytes()))
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        with(BYTES, ResponseBody::Static(self))
    }
}

impl<const N: usize> IntoResponse for &'static [u8; N] {
    fn into_response(self) -> Response {
        self.as_slice().into_response()
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        with(BYTES, ResponseBody::Bytes(self))
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response.status = self.0.into_response().status;
        response
    }

    fn is_failure(&self) -> bool {
        self.1.is_failure()
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => error.into_response(),
        }
    }

    fn is_failure(&self) -> bool {
        self.as_ref().map_or(true, IntoResponse::is_failure)
    }
}
