//! Middleware: async closures around the handlers of a group of routes.
//!
//! A layer takes the request and a [`Next`], which stands for everything inside of it: the layers
//! added after it, then the handler, the fallback, or the 404 or 405. It is given to
//! [`Router::with`](crate::http::Router::with), or to
//! [`Endpoint::with`](crate::http::Endpoint::with) for one route. A route without layers pays
//! nothing for their existence; one with layers pays an allocation for each and one for the whole.
//!
//! A layer sees an error's answer as a text; whether it goes out as one or as JSON is settled when
//! it is written. What is never a call is not seen: a head that is malformed, too large or too
//! slow.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::call::{Answer, AnswerFuture, Call, UNANSWERED, poll_caught, tell_of_panic};
use super::delivery::Delivery;
use super::request::Request;
use super::response::{IntoResponse, Response};

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

/// The inside of a layer: the layers after it and the handler.
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
    /// The layer to run next.
    at: usize,
    call: Call,
}

impl Next {
    /// All of these layers, the first one outermost, and the call.
    pub(crate) fn new(layers: &Rc<[Layer]>, call: &Call) -> Self {
        Self { layers: Rc::clone(layers), at: 0, call: Rc::clone(call) }
    }

    pub(super) fn layers(&self) -> &Rc<[Layer]> {
        &self.layers
    }

    /// As [`run`](Self::run), for the connection. Without layers it is the call itself.
    pub(crate) fn start(self, request: Request) -> AnswerFuture {
        if self.layers.is_empty() {
            return (self.call)(request);
        }
        Box::pin(async { Answer::of(self.run(request).await) })
    }

    /// Runs the layers inside and the handler, and returns the response. If the handler failed, the
    /// response remembers it: its background tasks do not run as long as the layer passes this
    /// response on and not one of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler's at the place where it waits.
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

/// A layer that answers 503 if what is inside takes longer than this; its future is dropped then,
/// the background tasks added until then do not run. Streams of a response are not part of it.
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

/// A layer that answers 500 if what is inside panics, so that the layers around it see an answer
/// like any other; the panic is reported on stderr with the request's line, and background tasks
/// that were added until then do not run.
///
/// Without it a panic ends the whole call, layers included, and the connection answers 500: the
/// client sees the same, but no layer adds its fields to the answer. Neither is about the stream of
/// a response, which runs when the layers have returned; a panic there breaks the answer off.
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

/// As [`catch_panic`], with an answer of your own, made from the panic's text. That text is better
/// not sent to the client.
pub fn catch_panic_with<R>(answer: impl Fn(&str) -> R + 'static) -> impl AsyncFn(Request, Next) -> Response + 'static
where
    R: IntoResponse,
{
    async move |request, next| {
        let record = Rc::clone(&request.record);
        let mut running = Some(Box::pin(next.run(request)));
        poll_fn(|cx| poll_caught(&mut running, cx)).await.unwrap_or_else(|text| {
            tell_of_panic(&text, &record);
            Answer::failed(answer(&text).into_response()).for_layers()
        })
    }
}

/// A layer that gives each response an `X-Request-Id`: the request's own, if it is 1 to 128
/// letters, digits or `-_.`, else the request's number.
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

/// A layer that reports each request when its answer has ended: not when the handler gave it, but
/// when the socket accepted the last byte, or when that became impossible. A client that hangs up,
/// a handler that panics and a connection that is dropped are reported, too.
///
/// The function is called on the loop's thread; an [`Access`] is one line by `Display`. What never
/// becomes a call of this group is not seen: a request that cannot be parsed or does not arrive in
/// time. As the first layer of the outermost router it sees all the others.
///
/// ```
/// use std::io::Write;
/// use postlude::http::{Router, middleware};
/// let router = Router::new().get("/", async || "hello").with(middleware::access_log(|access| {
///     let _ = writeln!(std::io::stderr(), "{access}");
/// }));
/// ```
pub fn access_log(report: impl Fn(&Access) + 'static) -> impl AsyncFn(Request, Next) -> Response + 'static {
    let report = Rc::new(report);
    async move |request, next| {
        let (method, target) = (request.method_name(), request.target());
        let (line, method) = (format!("{method} {target}"), method.len());
        let (peer, number, begin) = (request.peer_addr(), request.number(), crate::time::now());
        let report = Rc::clone(&report);
        request.on_delivery(move |delivery| {
            let time = crate::time::now().saturating_duration_since(begin);
            report(&Access { line, method, peer, number, time, delivery });
        });
        next.run(request).await
    }
}

/// One request and the end of its answer: see [`access_log`].
///
/// As text it is one line without its end, whose columns are the client, method, target, status,
/// body bytes, seconds, and `complete` or `aborted`; `-` stands for an unknown one:
/// `192.0.2.7:4711 GET /thing?id=7 200 13 0.000052 complete`.
#[derive(Clone, Debug)]
pub struct Access {
    /// Method, a space, target.
    line: String,
    /// The method's length.
    method: usize,
    peer: Option<SocketAddr>,
    number: u64,
    time: Duration,
    delivery: Delivery,
}

impl Access {
    /// The method's name, as it was sent.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.line[..self.method]
    }

    /// The request target, as it was sent: graphic ASCII without quotes.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.line[self.method + 1..]
    }

    /// The client's end of the connection, if it is known: see [`Request::peer_addr`].
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The request's number: see [`Request::number`].
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// From the layer's call, when the head was there, to the answer's end.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Status, bytes, and whether the answer is complete.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{peer} {} ", self.line)?,
            None => write!(f, "- {} ", self.line)?,
        }
        match self.delivery.status {
            Some(status) => f.write_str(status.as_str())?,
            None => f.write_str("-")?,
        }
        let ending = if self.delivery.complete { "complete" } else { "aborted" };
        write!(f, " {} {:.6} {ending}", self.delivery.bytes, self.time.as_secs_f64())
    }
}
