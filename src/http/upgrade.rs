//! Upgrades: a connection that goes on with another protocol, WebSocket for one.
//!
//! A handler answers [`Response::upgrade`]. If the client asked for that protocol the connection writes the 101 and hands its socket over, with what
//! was read behind the request, to the function that came with the response; it runs in the connection's task and ends with it. If the
//! client did not ask, the answer is 426, which names the protocol.

use std::fmt;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::background::{discard, say, text_of};
use super::wire::parse::{Framing, Version};
use super::request::Record;
use super::response::{Payload, Response};

/// What runs on the socket after the 101.
pub(crate) type OnUpgrade = Box<dyn FnOnce(Upgraded) -> Running>;
pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;

trait Io: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Io for T {}

/// A connection that left HTTP: its socket, and first what the client had sent behind its request.
///
/// It implements `futures_io::{AsyncRead, AsyncWrite}`. The server's limits of time and size do not hold for it any more. When the server stops, it is waited for as
/// long as `Server::drain_limit` says and then cut. Dropping it closes the connection.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use postlude::http::{Response, Router, Upgraded};
/// let router = Router::new().get("/shout", async || {
///     Response::upgrade("shout", async |mut client: Upgraded| {
///         let mut word = [0; 5];
///         if client.read_exact(&mut word).await.is_ok() {
///             let _ = client.write_all(&word.to_ascii_uppercase()).await;
///         }
///     })
/// });
/// ```
pub struct Upgraded {
    io: Box<dyn Io + Unpin>,
    /// Read and not taken; everything before `taken` is.
    left: Vec<u8>,
    taken: usize,
}

impl Upgraded {
    pub(super) fn new(io: impl AsyncRead + AsyncWrite + Unpin + 'static, left: Vec<u8>) -> Self {
        Self { io: Box::new(io), left, taken: 0 }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let left = &self.left[self.taken..];
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.left.len() {
            (self.left, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("left", &(self.left.len() - self.taken)).finish_non_exhaustive()
    }
}

impl Response {
    /// 101: the connection goes on with another protocol, spoken by `run`, which gets the socket.
    ///
    /// Only if the client asked for it: a request of HTTP/1.1 without a body, with `Connection: upgrade` and this protocol in its `Upgrade` field. Otherwise
    /// the answer is 426 and `run` is dropped. Background tasks start when the 101 is written. A panic of `run` ends the connection and is a line on
    /// stderr.
    ///
    /// # Panics
    ///
    /// "not a field": if the protocol holds a control character.
    ///
    /// ```
    /// use postlude::http::{Response, Upgraded};
    /// let response = Response::upgrade("websocket", async |_socket: Upgraded| ()).with_field("sec-websocket-accept", "…key…");
    /// assert_eq!(response.status(), 101);
    /// ```
    #[must_use]
    pub fn upgrade<F>(protocol: &str, run: F) -> Self
    where
        F: AsyncFnOnce(Upgraded) + 'static,
    {
        let mut response = Self::of(StatusCode::SWITCHING_PROTOCOLS).with_field(header::UPGRADE, protocol);
        response.payload = Payload::Upgrade(Box::new(|upgraded| Box::pin(async move { run(upgraded).await })));
        response
    }
}

/// Whether the client asked for what the response offers.
pub(super) fn was_asked(record: &Record, response: &Response) -> bool {
    let Some(offered) = response.field("upgrade").map(HeaderValue::as_bytes) else { return false };
    let head = &record.head;
    let names = head.fields(&record.bytes).filter(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let mut protocols = names.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && matches!(response.payload, Payload::Upgrade(_))
        && head.method(&record.bytes) != "HEAD"
        && head.has_upgrade()
        && head.version() == Version::Http11
        && matches!(head.framing(), Framing::None | Framing::Length(0))
        && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(offered))
}

/// The answer to a client that did not ask: what it must ask for.
pub(super) fn required(mut response: Response) -> Response {
    let text = "this resource is served to clients that ask for an upgrade";
    let mut answer = Response::text(StatusCode::UPGRADE_REQUIRED, text);
    answer.fields.extend(response.fields.drain(..).filter(|(name, _)| *name == header::UPGRADE));
    discard(response.payload);
    answer
}

/// Runs what was made for the socket; a panic of it ends here.
pub(super) async fn run(on_upgrade: OnUpgrade, upgraded: Upgraded) {
    let mut running = match catch_unwind(AssertUnwindSafe(|| on_upgrade(upgraded))) {
        Ok(running) => Some(running),
        Err(payload) => return tell(&text_of(payload)),
    };
    std::future::poll_fn(|cx| {
        let Some(future) = &mut running else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => tell(&text_of(payload)),
        }
        discard(running.take());
        Poll::Ready(())
    })
    .await;
}

fn tell(text: &str) {
    say(format_args!("an upgraded connection panicked: {text}"));
}
