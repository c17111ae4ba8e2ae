//! Middleware: layers around handlers.
//!
//! A layer is an async function or closure that takes the request and a [`Next`]: everything inside
//! the layer, down to the handler, the fallback, the 404 or the 405.
//! [`Router::with`](crate::http::Router::with) adds it to a group of routes,
//! [`Endpoint::with`](crate::http::Endpoint::with) to one. A request allocates once per layer and
//! once more if there is any (`tests/http_allocations.rs`).
//!
//! A layer sees an error as a text response; its form, text or JSON, is chosen when it is written.
//! No layer sees a request whose head is invalid, too large or too slow.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode};

use super::call::{Answer, AnswerFuture, Call, UNANSWERED, poll_caught, tell_of_panic};
use super::delivery::Delivery;
use super::request::Request;
use super::response::{IntoResponse, Response};
use crate::http::wire::parse::Version;

pub(crate) type Layer = Rc<dyn Fn(Request, Next) -> Pin<Box<dyn Future<Output = Response>>>>;

pub(crate) fn layer_of<F, R>(layer: F) -> Layer
where
    F: AsyncFn(Request, Next) -> R + 'static,
    R: IntoResponse + 'static,
{
    let layer = Rc::new(layer);
    Rc::new(move |request, next| {
        let layer = Rc::clone(&layer);
        Box::pin(async move { Answer::of(layer(request, next).await).for_layers() })
    })
}

/// The layers inside the current one, and the handler.
///
/// ```
/// use postlude::http::{Next, Request, Router};
/// let router = Router::new().get("/", async || "hello").with(async |request: Request, next: Next| {
///     next.run(request).await.with_field("x-served-by", "postlude")
/// });
/// ```
#[must_use = "the handler runs when `run` is awaited"]
pub struct Next {
    layers: Rc<[Layer]>,
    /// The index of the layer to run next.
    at: usize,
    call: Call,
}

impl Next {
    /// Creates the outside of all layers, of which the first is the outermost.
    pub(crate) fn new(layers: &Rc<[Layer]>, call: &Call) -> Self {
        Self { layers: Rc::clone(layers), at: 0, call: Rc::clone(call) }
    }

    pub(super) fn layers(&self) -> &Rc<[Layer]> {
        &self.layers
    }

    /// Does as [`run`](Self::run), for the connection. Without layers it is the call itself.
    pub(crate) fn start(self, request: Request) -> AnswerFuture {
        if self.layers.is_empty() {
            return (self.call)(request);
        }
        Box::pin(async { Answer::of(self.run(request).await) })
    }

    /// Runs the layers inside and the handler, and returns the response.
    ///
    /// The request remembers whether the handler failed: background tasks then do not run. If it
    /// has answered, they do. Nothing that a layer does afterwards changes that: another response,
    /// an `Err`, a time limit, a panic. Tasks that the response carried are on the request's list
    /// already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the handler where it waits.
    pub async fn run(mut self, request: Request) -> Response {
        let Some(layer) = self.layers.get(self.at).map(Rc::clone) else {
            return (self.call)(request).await.for_layers();
        };
        self.at += 1;
        layer(request, self).await
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("layers", &(self.layers.len() - self.at)).finish_non_exhaustive()
    }
}

/// A layer that answers 503 if the handler takes longer than `limit`.
///
/// The handler's future is dropped, and the background tasks added so far do not run. If the
/// handler had answered, and a layer inside this one took too long, they do. The time of a
/// response's stream does not count.
pub fn timeout(limit: Duration) -> impl AsyncFn(Request, Next) -> Response + 'static {
    async move |request, next| {
        let mut sleep = crate::time::sleep(limit);
        let mut inside = std::pin::pin!(next.run(request));
        poll_fn(|cx| match inside.as_mut().poll(cx) {
            Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| {
                let response = Response::text(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long");
                Answer::failed(response).for_layers()
            }),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }
}

/// A layer that answers 500 if the handler panics.
///
/// The panic is reported on stderr with the request line, and the background tasks added so far do
/// not run, unless the handler had answered and a layer panicked. Without this layer the connection
/// does the same, but the other layers do not see the answer and cannot add headers to it. A panic
/// in a response's stream, which runs after the layers, breaks the answer off.
///
/// ```
/// use postlude::http::{Router, middleware};
/// let router = Router::new()
///     .get("/", async || -> &'static str { panic!("a bug") })
///     .with(middleware::request_id())
///     .with(middleware::catch_panic());
/// ```
pub fn catch_panic() -> impl AsyncFn(Request, Next) -> Response + 'static {
    catch_panic_with(|_| Response::text(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED))
}

/// Does as [`catch_panic`], but calls `answer` with the panic's text, which should not reach the
/// client.
pub fn catch_panic_with<R>(answer: impl Fn(&str) -> R + 'static) -> impl AsyncFn(Request, Next) -> Response + 'static
where
    R: IntoResponse,
{
    async move |request, next| {
        let record = Rc::clone(&request.record);
        let mut running = Some(Box::pin(next.run(request)));
        poll_fn(|cx| poll_caught(&mut running, cx)).await.unwrap_or_else(|text| {
            tell_of_panic(&text, &record);
            record.panicked();
            Answer::failed(answer(&text).into_response()).for_layers()
        })
    }
}

/// A layer that adds `X-Request-Id` to each response: the request's own if it is 1 to 128 ASCII
/// letters, digits or `-_.`, else [`Request::number`].
pub fn request_id() -> impl AsyncFn(Request, Next) -> Response + 'static {
    async |request, next| {
        let given =
            request.field("x-request-id").filter(|id| is_id(id)).and_then(|id| HeaderValue::from_bytes(id).ok());
        let id = given.unwrap_or_else(|| HeaderValue::from(request.number()));
        next.run(request).await.with_field("x-request-id", id)
    }
}

fn is_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A layer that reports each request when its answer has ended: when the socket has accepted the
/// last byte, or never will. So it also reports clients that hang up, panics and dropped
/// connections.
///
/// `report` runs on the loop's thread. An [`Access`] displays as one line. Requests that never
/// reach the layer are not reported, such as invalid ones; as the first layer of the outermost
/// router it sees all others.
///
/// Requests wait for `report`: write with [`stderr::line`](crate::stderr::line), which never waits,
/// or hand the lines to a thread.
///
/// ```
/// use postlude::http::{Router, middleware};
/// use postlude::stderr;
/// let router = Router::new().get("/", async || "hello").with(middleware::access_log(|access| {
///     stderr::line(format_args!("{}", access.clf()));
/// }));
/// ```
pub fn access_log(report: impl Fn(&Access) + 'static) -> impl AsyncFn(Request, Next) -> Response + 'static {
    let report = Rc::new(report);
    async move |request, next| {
        let (method, target) = (request.method(), request.target().to_owned());
        let (peer_addr, number, begin) = (request.peer_addr(), request.number(), crate::time::now());
        let (version, at) = (request.record.head.version(), SystemTime::now());
        let report = Rc::clone(&report);
        request.on_delivery(move |delivery| {
            let time = crate::time::now().saturating_duration_since(begin);
            report(&Access { at, method, target, version, peer_addr, number, time, delivery });
        });
        next.run(request).await
    }
}

/// A request and the end of its answer, for [`access_log`].
///
/// It displays as a line without line end: client, method, target, status, body bytes, seconds, and
/// `complete` or `aborted`. An unknown client or status is `-`. For example:
/// `192.0.2.7:4711 GET /thing?id=7 200 13 0.000052 complete`. [`clf`](Self::clf) and
/// [`json`](Self::json) have the time of day, too, and forms that other programs read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Access {
    /// When the layer was called.
    pub at: SystemTime,
    /// The method.
    pub method: Method,
    /// The request target as sent: graphic ASCII without `"`, so it can forge no line.
    pub target: String,
    /// The version of HTTP.
    pub version: Version,
    /// The client's address: see [`Request::peer_addr`].
    pub peer_addr: Option<SocketAddr>,
    /// The request's number: see [`Request::number`].
    pub number: u64,
    /// The time from the layer's call to the answer's end.
    pub time: Duration,
    /// The outcome: status, bytes, and whether the answer is complete.
    pub delivery: Delivery,
}

impl Access {
    /// Returns the Common Log Format, for programs that read logs of Apache or nginx. A `\` is
    /// doubled; the client's port is left out; the time is UTC:
    /// `192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "GET /thing?id=7 HTTP/1.1" 200 13`.
    #[must_use]
    pub fn clf(&self) -> impl fmt::Display + '_ {
        from_fn(|f| {
            match self.peer_addr {
                Some(peer) => write!(f, "{}", peer.ip())?,
                None => f.write_str("-")?,
            }
            // "Sun, 06 Nov 1994 08:49:37 GMT"
            let date = httpdate::fmt_http_date(self.at);
            let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
            let target = self.target.replace('\\', r"\\");
            let version = if self.version == Version::Http10 { "1.0" } else { "1.1" };
            write!(f, " - - [{day}/{month}/{year}:{time} +0000] \"{} {target} HTTP/{version}\"", self.method)?;
            let status = self.delivery.status.as_ref().map_or("-", StatusCode::as_str);
            write!(f, " {status} {}", self.delivery.bytes)
        })
    }

    /// Returns one JSON object: `time` (seconds since 1970), `peer`, `method`, `target`, `version`,
    /// `status`, `bytes`, `seconds`, `complete` and `number`. An unknown peer or status is `null`.
    #[must_use]
    pub fn json(&self) -> impl fmt::Display + '_ {
        from_fn(|f| {
            let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let object = serde_json::json!({
                "time": (since.as_secs_f64() * 1000.0).round() / 1000.0,
                "peer": self.peer_addr.map(|peer| peer.to_string()),
                "method": self.method.as_str(),
                "target": self.target,
                "version": if self.version == Version::Http10 { "1.0" } else { "1.1" },
                "status": self.delivery.status.map(|status| status.as_u16()),
                "bytes": self.delivery.bytes,
                "seconds": self.time.as_secs_f64(),
                "complete": self.delivery.complete,
                "number": self.number,
            });
            write!(f, "{object}")
        })
    }
}

/// A value that displays as `write` writes it.
fn from_fn(write: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result) -> impl fmt::Display {
    struct FromFn<F>(F);
    impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for FromFn<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (self.0)(f)
        }
    }
    FromFn(write)
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer_addr {
            Some(peer) => write!(f, "{peer}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {} {} ", self.method, self.target)?;
        match self.delivery.status {
            Some(status) => f.write_str(status.as_str())?,
            None => f.write_str("-")?,
        }
        let ending = if self.delivery.complete { "complete" } else { "aborted" };
        write!(f, " {} {:.6} {ending}", self.delivery.bytes, self.time.as_secs_f64())
    }
}
