//! The response, and the conversions into it.
//!
//! A response is a status, a list of fields and a payload. A payload whose length is known goes out
//! with `Content-Length`, a stream whose length is not in chunks. The connection writes `Date`,
//! `Connection` and the framing fields itself.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::upgraded::{OnUpgrade, Upgraded};
use crate::http::background::{QueuedTask, TaskOutput};

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A body as it comes into being.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Vec<u8>>>>>;

/// The bytes of a response.
pub(crate) enum Payload {
    Empty,
    Static(&'static [u8]),
    Bytes(Vec<u8>),
    /// The text of an error; the client's `Accept` decides in which form it goes out.
    Problem(String),
    Stream(Pieces),
    /// A stream, and how many of its bytes are the body.
    Sized(u64, Pieces),
    /// No body: the socket is handed to this function.
    Upgrade(OnUpgrade),
}

impl Payload {
    /// Its length; None if only its end will tell.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Sized(length, _) => Some(*length),
            other => other.bytes().map(|bytes| bytes.len() as u64),
        }
    }

    /// Whether it comes piece by piece.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Sized(..))
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Static(bytes) => Some(bytes),
            Self::Bytes(bytes) => Some(bytes),
            Self::Problem(text) => Some(text.as_bytes()),
            Self::Stream(_) | Self::Sized(..) | Self::Upgrade(_) => None,
        }
    }
}

/// The response of a handler.
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
    pub(crate) payload: Payload,
    /// Tasks that came with the response; they run after those that extractors and handler added.
    pub(crate) tasks: Vec<QueuedTask>,
    /// Whether the handler behind it failed; a layer passes it on.
    pub(crate) failed: bool,
}

impl Response {
    /// An empty response.
    ///
    /// # Panics
    ///
    /// "status N is not within 200..=999": an interim status is not a response, and anything else
    /// no status.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        Self::of(status.expect("a response's status is within 200..=999"))
    }

    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, fields: Vec::new(), payload: Payload::Empty, tasks: Vec::new(), failed: false }
    }

    /// An error's answer: see `problem`.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        (status, with(TEXT, Payload::Problem(text.into()))).into_response()
    }

    /// A response whose bytes come from a stream: in chunks, or up to the connection's end for a
    /// client that speaks HTTP/1.0.
    ///
    /// An error of the stream ends the connection, so that the client cannot take the part for the
    /// whole; one that speaks HTTP/1.0 has no other mark of the end, and does. Where the length is
    /// known, [`stream_sized`](Self::stream_sized) is the better one.
    ///
    /// The stream is dropped when a piece cannot be written, or not in time. While it gives nothing
    /// the client may go unnoticed: one that is quiet for long should say something now and then,
    /// as [`sse`](crate::http::sse()) does.
    #[must_use]
    pub fn stream(stream: impl Stream<Item = io::Result<Vec<u8>>> + 'static) -> Self {
        let mut response = Self::of(StatusCode::OK);
        response.payload = Payload::Stream(Box::pin(stream));
        response
    }

    /// A response whose bytes come from a stream of known length: with `Content-Length`, so that
    /// the client can show its progress and the connection goes on for HTTP/1.0 clients, too.
    ///
    /// When that many bytes were sent the stream is dropped, and not asked for its end. A stream
    /// that ends earlier or fails breaks the connection off, so that the client cannot take the
    /// part for the whole. A piece that goes beyond is cut off, and the connection closes after the
    /// answer, since its length and its bytes disagree. Both are reported on stderr.
    ///
    /// ```
    /// use postlude::http::Response;
    /// let parts = futures::stream::iter([Ok(b"Hello, ".to_vec()), Ok(b"World!".to_vec())]);
    /// let response = Response::stream_sized(13, parts).with_field("content-type", "text/plain");
    /// ```
    #[must_use]
    pub fn stream_sized(length: u64, stream: impl Stream<Item = io::Result<Vec<u8>>> + 'static) -> Self {
        let mut response = Self::of(StatusCode::OK);
        response.payload = Payload::Sized(length, Box::pin(stream));
        response
    }

    /// 101: the connection goes on with another protocol, spoken by `run`, which gets the socket.
    ///
    /// Only if the client asked for it: a request of HTTP/1.1 without a body, with
    /// `Connection: upgrade` and this protocol in its `Upgrade` field. Otherwise the answer is 426
    /// and `run` is dropped. Background tasks start when the 101 is written. A panic of `run` ends
    /// the connection and is a line on stderr.
    ///
    /// # Panics
    ///
    /// "not a field": if the protocol holds a control character.
    #[must_use]
    pub fn upgrade<F>(protocol: &str, run: F) -> Self
    where
        F: AsyncFnOnce(Upgraded) + 'static,
    {
        let mut response = Self::of(StatusCode::SWITCHING_PROTOCOLS).with_field(header::UPGRADE, protocol);
        response.payload = Payload::Upgrade(Box::new(|upgraded| Box::pin(async move { run(upgraded).await })));
        response
    }

    /// The status.
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

    /// Adds a header field. `Content-Length`, `Transfer-Encoding` and `Date` are the connection's
    /// business and left out when it is written.
    ///
    /// # Panics
    ///
    /// "not a field": if the name is not a token or the value holds a control character. For values
    /// that come from outside, make a `HeaderValue` first.
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

    /// Sets the body. Its type is `text/plain` for texts and `application/octet-stream` for bytes
    /// unless a field already says what it is.
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

    /// The first field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&HeaderValue> {
        self.fields.iter().find(|(known, _)| known.as_str().eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Adds a background task to the request's one list; it runs after those of extractors and
    /// handler.
    ///
    /// If the list is full when the response is sent, the answer is a 503 instead.
    #[must_use]
    #[track_caller]
    pub fn background<F>(mut self, task: F) -> Self
    where
        F: Future + 'static,
        F::Output: TaskOutput,
    {
        self.tasks.push(QueuedTask::future(task));
        self
    }

    /// As [`background`](Self::background), for a closure that blocks: it runs on the server's
    /// background threads.
    #[must_use]
    #[track_caller]
    pub fn background_blocking<F, T>(mut self, task: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
        T: TaskOutput,
    {
        self.tasks.push(QueuedTask::blocking(task));
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
    /// Turns it into a response.
    fn into_response(self) -> Response;

    /// Whether this means that the handler failed: then background tasks do not run. Only the `Err`
    /// of a `Result` says so, whatever the status.
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
    /// Empty, with this status; an interim status becomes a 500.
    fn into_response(self) -> Response {
        Response::of(if self.is_informational() { Self::INTERNAL_SERVER_ERROR } else { self })
    }
}

fn with(kind: HeaderValue, payload: Payload) -> Response {
    Response {
        status: StatusCode::OK,
        fields: vec![(header::CONTENT_TYPE, kind)],
        payload,
        tasks: Vec::new(),
        failed: false,
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        with(TEXT, Payload::Static(self.as_bytes()))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        with(TEXT, Payload::Bytes(self.into_bytes()))
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        with(BYTES, Payload::Static(self))
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
        with(BYTES, Payload::Bytes(self))
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
