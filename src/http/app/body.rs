//! The request body, which arrives while the handler asks for it.
//!
//! The connection owns the socket and the handler owns a [`Body`]. A cell between them holds the
//! decoded bytes that the handler has not taken. The connection reads only while the handler wants
//! bytes, so a slow handler slows the client down and nothing piles up in memory.
//!
//! # How it works
//!
//! - The handler polls its `Body`. If there is nothing, it sets `wanted` and returns pending.
//! - The connection polls the handler's future itself. So it sees `wanted`, reads, decodes into the
//!   cell, and polls again. If the body has moved to another task, two wakers replace that poll.
//! - A request without a body has no cell.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use http::StatusCode;

use super::budget::{Budget, Load};
use crate::http::wire::parse;

/// The reason a request body ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is larger than [`Limits::max_body`](crate::http::Limits::max_body).
    TooLarge,
    /// The client was slower than [`Limits::body_timeout`](crate::http::Limits::body_timeout)
    /// allows.
    TimedOut,
    /// The framing is invalid, or exceeds a limit of
    /// [`BodyLimits`](crate::http::chunked::BodyLimits).
    Malformed(parse::Error),
    /// The connection ended before the body.
    Disconnected,
    /// The server's bodies took all of the memory that
    /// [`Limits::memory`](crate::http::Limits::memory) gives them.
    Overloaded,
}

impl BodyError {
    /// Returns the status to answer with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Disconnected => StatusCode::BAD_REQUEST,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl BodyError {
    /// Whether the same request may be answered later.
    pub(crate) fn is_temporary(self) -> bool {
        self == Self::Overloaded
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the request body is larger than this server accepts"),
            Self::TimedOut => f.write_str("the request body did not arrive in time; send it without pauses"),
            Self::Malformed(error) => write!(f, "the request body is not framed as HTTP/1.1 asks: {error}"),
            Self::Disconnected => f.write_str("the connection ended before the request body was complete"),
            Self::Overloaded => {
                f.write_str("the server has no memory for the request body at the moment; try again later")
            }
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
            BodyError::Overloaded => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

/// A request body, read piece by piece. It is an extractor, and comes from
/// [`Request::take_body`](crate::http::Request::take_body), too.
///
/// It is a [`Stream`] of the pieces as they arrive. The server throws away up to 64 KiB that a
/// handler leaves unread; if more is left, the connection closes after the answer.
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
    /// Unset if the request has no body, or the body has ended.
    cell: Option<Rc<BodyCell>>,
}

impl Body {
    pub(crate) fn new(cell: Rc<BodyCell>) -> Self {
        Self { cell: Some(cell) }
    }

    /// Waits for the next piece; `None` is the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// See [`BodyError`]. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, BodyError>> {
        let _asking = self.cell.clone().map(Asking);
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Waits for the rest of the body, in one piece. Dropping the future loses nothing: the bytes
    /// stay for the next call.
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

/// Resets the demand when the handler stops waiting, so that the connection neither reads nor
/// counts the time.
struct Asking(Rc<BodyCell>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.state.borrow_mut().wanted = Demand::Nothing;
    }
}

/// The bytes that the handler asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Demand {
    #[default]
    Nothing,
    /// The next bytes, however many.
    Piece,
    /// Everything, in one buffer.
    Whole,
}

/// The cell between the connection and the handler's [`Body`].
///
/// Its memory is a part of the [budget](super::budget) that the request's list of tasks shares.
/// When both have let go, that is given back.
pub(crate) struct BodyCell {
    state: RefCell<BodyState>,
    /// Unset once the handler has ended.
    load: RefCell<Option<Rc<Load>>>,
}

#[derive(Default)]
struct BodyState {
    /// Decoded bytes that the `Body` has not taken. The connection appends.
    bytes: Vec<u8>,
    /// How the body ended; unset while more may come. The connection sets it.
    end: Option<Result<(), BodyError>>,
    /// Set by the `Body`, reset by the connection when it is met.
    wanted: Demand,
    /// Set while the connection polls the handler: it will look at `wanted` by itself.
    attended: bool,
    /// The connection's task, for a `Body` in another task.
    connection: Option<Waker>,
    /// The task that wants bytes.
    reader: Option<Waker>,
}

impl BodyCell {
    pub(crate) fn new(budget: &Rc<Budget>) -> Self {
        Self { state: RefCell::default(), load: RefCell::new(Some(Rc::new(Load::new(budget)))) }
    }

    /// Counts bytes that were pushed for a handler that wants the whole body. `Err` if the budget
    /// needs its memory more: then nothing is left of it.
    pub(crate) fn weigh(&self, bytes: usize, is_whole: bool, cx: &Context<'_>) -> Result<(), BodyError> {
        let Some(load) = self.load() else { return Ok(()) };
        if !is_whole && bytes > 0 {
            load.collect(bytes, cx);
        }
        let is_lost = load.is_cut() || is_whole && !load.hold(bytes);
        if !is_lost {
            return Ok(());
        }
        self.state.borrow_mut().bytes = Vec::new();
        Err(BodyError::Overloaded)
    }

    /// Its part of the budget, while it has one.
    pub(crate) fn load(&self) -> Option<Rc<Load>> {
        self.load.borrow().clone()
    }

    /// The handler has ended: only tasks may still own the body.
    pub(crate) fn let_go(&self) {
        drop(self.load.take());
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        let mut state = self.state.borrow_mut();
        if !state.bytes.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut state.bytes))));
        }
        drop(state);
        self.poll_end(Demand::Piece, cx).map(|end| end.err().map(Err))
    }

    fn poll_whole(&self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, BodyError>> {
        ready!(self.poll_end(Demand::Whole, cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.state.borrow_mut().bytes)))
    }

    /// Is ready if the body has ended; otherwise asks the connection for bytes.
    fn poll_end(&self, wanted: Demand, cx: &Context<'_>) -> Poll<Result<(), BodyError>> {
        let waker = cx.waker().clone();
        let mut state = self.state.borrow_mut();
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        state.wanted = wanted;
        let before = state.reader.replace(waker);
        let connection = if state.attended { None } else { state.connection.take() };
        drop(state);
        drop(before);
        if let Some(connection) = connection {
            connection.wake();
        }
        Poll::Pending
    }

    /// Called before and after the connection polls the handler.
    pub(crate) fn attend(&self, attended: bool) {
        self.state.borrow_mut().attended = attended;
    }

    /// Returns what the handler asks for. A later demand will wake the connection.
    pub(crate) fn wanted(&self, cx: &Context<'_>) -> Demand {
        let waker = cx.waker().clone();
        let mut state = self.state.borrow_mut();
        let before = state.connection.replace(waker);
        let wanted = state.wanted;
        drop(state);
        drop(before);
        wanted
    }

    /// Appends decoded bytes, which meet the demand for a piece. `left` is the number of bytes that
    /// will follow them, if the head declares it.
    pub(crate) fn push(&self, bytes: &[u8], left: Option<u64>) {
        let mut state = self.state.borrow_mut();
        state.make_room(bytes.len(), left);
        state.bytes.extend_from_slice(bytes);
        if state.wanted == Demand::Piece {
            state.wanted = Demand::Nothing;
        }
    }

    /// Drops bytes that no reader will take.
    pub(crate) fn forget(&self) {
        self.state.borrow_mut().bytes.clear();
    }

    /// Ends the body early, and wakes the reader, in whichever task it is.
    pub(crate) fn abandon(&self) {
        self.end(Err(BodyError::Disconnected));
        let reader = self.state.borrow_mut().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Ends the body; its first end counts.
    pub(crate) fn end(&self, end: Result<(), BodyError>) {
        if let Some(load) = self.load().filter(|_| end.is_err()) {
            load.clear();
        }
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(end);
        state.wanted = Demand::Nothing;
    }

    /// Wakes the reader if its demand is met and it is not the connection's own task.
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

/// The body's room is allocated once an eighth of it has arrived: a length that a client only
/// announces must not cost memory.
const EARNEST: usize = 8;

impl BodyState {
    /// Makes room for all of a body of known length. Growing step by step would copy it, need twice
    /// its size, and leave holes.
    fn make_room(&mut self, more: usize, left: Option<u64>) {
        if self.wanted != Demand::Whole || self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let whole = left.and_then(|left| usize::try_from(left).ok()).and_then(|left| left.checked_add(more));
        if let Some(whole) = whole.filter(|whole| whole / EARNEST <= self.bytes.len()) {
            self.bytes.reserve_exact(whole);
        }
    }
}
