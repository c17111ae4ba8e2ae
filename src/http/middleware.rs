//! Middleware: async closures around the handlers of a group of routes.
//!
//! A layer takes the request and a [`Next`], which stands for everything inside of it: the layers added after it, then the handler, the fallback, or
//! the 404 or 405. It is given to [`Router::with`](super::Router::with). A route without layers pays nothing for their existence.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::request::Request;
use super::response::Response;
use super::router::{Call, Route};

pub(crate) type Layer = Rc<dyn Fn(Request, Next) -> Pin<Box<dyn Future<Output = Response>>>>;

/// What is inside of a layer: the layers after it and the handler.
///
/// ```
/// use postlude::http::{Next, Request, Router};
/// let router = Router::new().get("/", async || "hello").with(async |request: Request, next: Next| {
///     next.run(request).await.with_field("x-served-by", "postlude")
/// });
/// ```
#[must_use = "the handler runs when `run` is awaited"]
pub struct Next {
    pub(crate) route: Rc<Route>,
    /// The layer to run next.
    pub(crate) at: usize,
    pub(crate) call: Call,
}

impl Next {
    /// Runs what is inside, and gives its response. If the handler failed, the response remembers it: its background tasks do not run as long as
    /// the layer passes this response on and not one of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler's at the place where it waits.
    ///
    /// ```
    /// use postlude::http::{Next, Request, Response, Router};
    /// let router = Router::new().get("/", async || "hello").with(async |request: Request, next: Next| {
    ///     if request.field("authorization").is_none() {
    ///         return Response::new(401);
    ///     }
    ///     next.run(request).await
    /// });
    /// ```
    pub async fn run(mut self, request: Request) -> Response {
        let Some(layer) = self.route.layers.get(self.at).map(Rc::clone) else {
            let answer = (self.call)(request).await;
            let mut response = answer.response;
            response.failed |= answer.failed;
            return response;
        };
        self.at += 1;
        layer(request, self).await
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("layers", &(self.route.layers.len() - self.at)).finish_non_exhaustive()
    }
}

/// A layer that answers 503 if what is inside takes longer than this; its future is dropped then, the background tasks added until then do not run.
/// Streams of a response are not part of it.
///
/// ```
/// use std::time::Duration;
/// use postlude::http::{Router, middleware};
/// let router = Router::new().get("/", async || "hello").with(middleware::timeout(Duration::from_secs(5)));
/// ```
pub fn timeout(limit: Duration) -> impl AsyncFn(Request, Next) -> Response + 'static {
    async move |request, next| {
        let mut sleep = crate::time::sleep(limit);
        let mut inside = std::pin::pin!(next.run(request));
        std::future::poll_fn(|cx| match inside.as_mut().poll(cx) {
            Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| {
                let mut response = Response::text(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long");
                response.failed = true;
                response
            }),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }
}

/// A layer that gives each response an `X-Request-Id`: the request's own, if it is 1 to 128 letters, digits or `-_.`, else the request's number.
///
/// ```
/// use postlude::http::{Router, middleware};
/// let router = Router::new().get("/", async || "hello").with(middleware::request_id());
/// ```
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
