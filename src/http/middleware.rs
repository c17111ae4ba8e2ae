//! Middleware: async closures around the handlers of a group of routes.
//!
//! A layer takes the request and a [`Next`], which stands for everything inside of it: the layers added after it, then the handler, the fallback, or
//! the 404 or 405. It is given to [`Router::with`](super::Router::with). A route without layers pays nothing for their existence.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

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
