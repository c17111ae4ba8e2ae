//! Server-sent events: a response whose body is a stream of events.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http::StatusCode;
use pin_project_lite::pin_project;

use super::response::{Response, ResponseBody};
use crate::time::{Sleep, now, sleep};

/// An event or a comment for [`sse`].
///
/// ```
/// use postlude::http::Event;
/// let event = Event::data("two\nlines").event("news").id("7");
/// assert_eq!(event.to_string(), "event: news\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    lines: String,
    data: Option<String>,
}

impl Event {
    /// Creates an event with this text. Line ends of any kind reach the client as `\n`.
    #[must_use]
    pub fn data(text: impl Into<String>) -> Self {
        Self { lines: String::new(), data: Some(text.into()) }
    }

    /// Creates a comment, which clients ignore.
    #[must_use]
    pub fn comment(text: &str) -> Self {
        let mut event = Self::default();
        lines_of(text).for_each(|line| event.lines += &format!(": {line}\n"));
        event
    }

    /// Sets the event's type.
    ///
    /// # Panics
    ///
    /// "an event's name is one line" if it contains a line end.
    #[must_use]
    pub fn event(mut self, name: &str) -> Self {
        assert!(!name.contains(['\r', '\n']), "an event's name is one line");
        self.lines += &format!("event: {name}\n");
        self
    }

    /// Sets the id, which the client sends as `Last-Event-ID` when it reconnects.
    ///
    /// # Panics
    ///
    /// "an event's id is one line without nulls" if it contains a line end or a null.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        assert!(!id.contains(['\r', '\n', '\0']), "an event's id is one line without nulls");
        self.lines += &format!("id: {id}\n");
        self
    }

    /// Sets the time that the client waits before it reconnects, sent in milliseconds.
    #[must_use]
    pub fn retry(mut self, wait: Duration) -> Self {
        self.lines += &format!("retry: {}\n", wait.as_millis());
        self
    }
}

fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines)?;
        if let Some(data) = &self.data {
            lines_of(data).try_for_each(|line| writeln!(f, "data: {line}"))?;
        }
        f.write_str("\n")
    }
}

/// The shortest comment.
pub(crate) const COMMENT: &[u8] = b":\n\n";

pin_project! {
    struct Events<S> {
        #[pin]
        stream: S,
        // After this time without an event a comment is sent.
        every: Duration,
        quiet: Option<Sleep>,
    }
}

impl<S: Stream<Item = Event>> Stream for Events<S> {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Poll::Ready(event) = this.stream.poll_next(cx) {
            if let Some((quiet, deadline)) = this.quiet.as_mut().zip(now().checked_add(*this.every)) {
                quiet.reset(deadline);
            }
            return Poll::Ready(event.map(|event| Ok(event.to_string().into_bytes())));
        }
        let quiet = this.quiet.get_or_insert_with(|| sleep(*this.every));
        if Pin::new(&mut *quiet).poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(deadline) = now().checked_add(*this.every) {
            quiet.reset(deadline);
        }
        Poll::Ready(Some(Ok(COMMENT.to_vec())))
    }
}

/// Answers with the events of a stream, and with a comment after every 15 s without an event, so
/// that proxies keep the connection.
///
/// The stream is dropped when the client has gone. A client that has ended its sending is sent a
/// comment at once, and more at growing intervals during
/// [`Limits::half_close`](crate::http::Limits::half_close). If it has closed its socket, its
/// system answers the first with a reset, and the stream is dropped; if it still reads, the stream
/// goes on.
///
/// When the server stops, the stream is dropped at once and the response ends, so that the
/// browser's `EventSource` reconnects, to the server's successor.
///
/// ```
/// use postlude::http::{self, Event, Router};
/// let router = Router::new().get("/events", async || http::sse(futures::stream::iter([Event::data("hello")])));
/// ```
#[must_use]
pub fn sse(events: impl Stream<Item = Event> + 'static) -> Response {
    sse_with(events, Duration::from_secs(15))
}

/// Does as [`sse`], with another time between comments.
#[must_use]
pub fn sse_with(events: impl Stream<Item = Event> + 'static, keep_alive: Duration) -> Response {
    let events = Events { stream: events, every: keep_alive, quiet: None };
    Response { payload: ResponseBody::Events(Box::pin(events)), ..Response::of(StatusCode::OK) }
        .with_field("content-type", "text/event-stream")
        .with_field("cache-control", "no-cache")
}
