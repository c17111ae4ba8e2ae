//! The request body: bytes that arrive while the handler asks for them.
//!
//! The connection owns the socket, the handler owns a [`Body`], and a small cell between them holds
//! the bytes that are decoded and not yet taken. The connection reads from the socket only while
//! the handler wants bytes, so a slow handler slows the client down and nothing piles up in memory.
//!
//! # How it works
//!
//! - The handler polls its end; finding nothing it sets `wanted` and returns pending.
//! - The connection, which polls the handler's future itself, sees `wanted`, reads, decodes, puts
//!   bytes into the cell and polls again. If the body was moved to another task, two wakers do what
//!   the nested poll does otherwise.
//! - A request without a body has no cell: that costs nothing.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use http::StatusCode;

use crate::http::wire::parse;

/// The error of a request body whose rest will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than `Limits::max_body` allows.
    TooLarge,
    /// The client sent too little for as long as `Limits::body_timeout` allows.
    TimedOut,
    /// Its framing breaks the rules of HTTP/1.1 or a limit of
    /// [`BodyLimits`](crate::http::chunked::BodyLimits); the error says what and where, and has the
    /// status.
    Malformed(parse::Error),
    /// The connection ended in the middle of it.
    Disconnected,
}

impl BodyError {
    /// The status of the answer that says so.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Disconnected => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the request body is larger than this server accepts"),
            Self::TimedOut => f.write_str("the request body did not arrive in time; send it without pauses"),
            Self::Malformed(error) => write!(f, "the request body is not framed as HTTP/1.1 asks: {error}"),
            Self::Disconnected => f.write_str("the connection ended before the request body was complete"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge | BodyError::Malformed(_) => io::ErrorKind::InvalidData,
            BodyError::TimedOut => io::ErrorKind::TimedOut,
            BodyError::Disconnected => io::ErrorKind::UnexpectedEof,
        };
        Self::new(kind, error)
    }
}

/// The handler's end of a request body. Take it as an extractor, or with
/// [`Request::take_body`](crate::http::Request::take_body).
///
/// It is a [`Stream`] of pieces as they arrive. Bytes that a handler leaves unread are thrown away,
/// up to 64 KiB; beyond that the connection closes after the answer.
///
/// ```
/// use postlude::http::{Body, Router};
/// let router = Router::new().put("/upload", async |mut body: Body| {
///     let mut bytes = 0;
///     while let Some(piece) = body.next().await {
///         bytes += piece?.len();
///     }
///     Ok::<_, postlude::http::Error>(format!("{bytes} bytes"))
/// });
/// ```
#[derive(Default)]
pub struct Body {
    /// None: the request has no body, or an earlier call took it.
    cell: Option<Rc<BodyCell>>,
}

impl Body {
    pub(crate) fn new(cell: Rc<BodyCell>) -> Self {
        Self { cell: Some(cell) }
    }

    /// The next piece, `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// See [`BodyError`]. After an error there is no more.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, BodyError>> {
        let _asking = self.cell.clone().map(Asking);
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// All that is left of it, in one piece. Dropping the future loses nothing: the bytes stay for
    /// the next call.
    ///
    /// # Errors
    ///
    /// See [`BodyError`].
    pub async fn collect(&mut self) -> Result<Vec<u8>, BodyError> {
        let Some(cell) = &self.cell else { return Ok(Vec::new()) };
        let _asking = Asking(Rc::clone(cell));
        let all = std::future::poll_fn(|cx| cell.poll_whole(cx)).await;
        self.cell = None;
        all
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        let Some(cell) = &self.cell else { return Poll::Ready(None) };
        let piece = ready!(cell.poll_piece(cx));
        if !matches!(piece, Some(Ok(_))) {
            self.cell = None;
        }
        Poll::Ready(piece)
    }
}

impl Stream for Body {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map_err(io::Error::from)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("is_empty", &self.cell.is_none()).finish()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            cell.state.borrow_mut().wanted = Demand::Nothing;
        }
    }
}

/// A handler that waits for bytes. One that gives up asks for nothing: the connection then neither
/// reads nor counts the time.
struct Asking(Rc<BodyCell>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.state.borrow_mut().wanted = Demand::Nothing;
    }
}

/// How much the handler asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Demand {
    #[default]
    Nothing,
    /// Whatever comes next.
    Piece,
    /// Everything, in one buffer.
    Whole,
}

/// How the body ended.
#[derive(Clone, Copy, Debug)]
enum BodyEnd {
    Complete,
    Failed(BodyError),
}

/// The cell between the connection and the handler's [`Body`].
#[derive(Default)]
pub(crate) struct BodyCell {
    state: RefCell<BodyState>,
}

#[derive(Default)]
struct BodyState {
    /// Decoded and not taken. The connection writes, the body takes.
    bytes: Vec<u8>,
    /// None while more may come. Written by the connection.
    end: Option<BodyEnd>,
    /// Written by the body, cleared by the connection when it is met.
    wanted: Demand,
    /// Whether the connection is polling the handler now, and so will look at `wanted` by itself.
    attended: bool,
    /// The connection's task, for a body that lives in another one.
    connection: Option<Waker>,
    /// The task that wants bytes.
    reader: Option<Waker>,
}

impl BodyCell {
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        let mut state = self.state.borrow_mut();
        if !state.bytes.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut state.bytes))));
        }
        match state.end {
            Some(BodyEnd::Complete) => Poll::Ready(None),
            Some(BodyEnd::Failed(error)) => Poll::Ready(Some(Err(error))),
            None => {
                drop(state);
                self.want(Demand::Piece, cx);
                Poll::Pending
            }
        }
    }

    fn poll_whole(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, BodyError>> {
        let mut state = self.state.borrow_mut();
        match state.end {
            Some(BodyEnd::Complete) => Poll::Ready(Ok(std::mem::take(&mut state.bytes))),
            Some(BodyEnd::Failed(error)) => Poll::Ready(Err(error)),
            None => {
                drop(state);
                self.want(Demand::Whole, cx);
                Poll::Pending
            }
        }
    }

    fn want(&self, wanted: Demand, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let mut state = self.state.borrow_mut();
        state.wanted = wanted;
        let before = state.reader.replace(waker);
        let connection = if state.attended { None } else { state.connection.take() };
        drop(state);
        drop(before);
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// Called around the connection's poll of the handler.
    pub(crate) fn attend(&self, attended: bool) {
        self.state.borrow_mut().attended = attended;
    }

    /// How much the handler asks for; the connection is woken when that changes.
    pub(crate) fn wanted(&self, cx: &Context<'_>) -> Demand {
        let waker = cx.waker().clone();
        let mut state = self.state.borrow_mut();
        let before = state.connection.replace(waker);
        let wanted = state.wanted;
        drop(state);
        drop(before);
        wanted
    }

    /// Adds decoded bytes, behind which so many will come if the head says it; hands them over if
    /// the handler wants pieces.
    pub(crate) fn push(&self, bytes: &[u8], left: Option<u64>) {
        let mut state = self.state.borrow_mut();
        state.make_room(bytes.len(), left);
        state.bytes.extend_from_slice(bytes);
        if state.wanted == Demand::Piece {
            state.hand_over();
        }
    }

    /// Throws away bytes that no reader will take.
    pub(crate) fn forget(&self) {
        self.state.borrow_mut().bytes.clear();
    }

    pub(crate) fn complete(&self) {
        self.end(BodyEnd::Complete);
    }

    pub(crate) fn fail(&self, error: BodyError) {
        self.end(BodyEnd::Failed(error));
    }

    /// The connection is done with the body: the rest will not come, and the reader is woken,
    /// whichever task it is.
    pub(crate) fn abandon(&self) {
        self.fail(BodyError::Disconnected);
        let reader = self.state.borrow_mut().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn end(&self, end: BodyEnd) {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(end);
        state.hand_over();
    }

    /// Wakes the reader if it is another task than the connection's.
    pub(crate) fn wake_reader(&self, cx: &Context<'_>) {
        let reader = {
            let mut state = self.state.borrow_mut();
            if state.wanted == Demand::Nothing { state.reader.take() } else { None }
        };
        if let Some(reader) = reader.filter(|reader| !reader.will_wake(cx.waker())) {
            reader.wake();
        }
    }
}

/// The part of a body that must be there before room is made for all of it: what a client only
/// announces must not cost memory.
const EARNEST: usize = 8;

impl BodyState {
    /// Room for all of a body of known length, once it is known to come. Growing step by step
    /// copies it, needs twice its size and leaves holes.
    fn make_room(&mut self, more: usize, left: Option<u64>) {
        if self.wanted != Demand::Whole || self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let whole = left.and_then(|left| usize::try_from(left).ok()).and_then(|left| left.checked_add(more));
        if let Some(whole) = whole.filter(|whole| whole / EARNEST <= self.bytes.len()) {
            self.bytes.reserve_exact(whole);
        }
    }

    fn hand_over(&mut self) {
        self.wanted = Demand::Nothing;
    }
}

impl fmt::Debug for BodyCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyCell").finish_non_exhaustive()
    }
}
