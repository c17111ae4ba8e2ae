//! Handlers: async functions and closures whose parameters are extractors.
//!
//! One trait over `F: AsyncFn(A, B, …) -> R` accepts them all. A call is one boxed future: it owns
//! the request, runs the extractors in order, drops the request, and awaits the function.
//!
//! The bounds on parameters and output sit on the callers, not on the trait, so the compiler names
//! the offending type.

use std::rc::Rc;

use super::call::Answer;
use super::endpoint::Endpoint;
use super::extract::FromRequest;
use super::request::{HandlerState, Request};
use super::response::{IntoResponse, Response};

/// An async function or closure that answers requests. Its parameters, at most eight, are
/// extractors; its output implements [`IntoResponse`].
///
/// It is implemented for those functions and closures and for [`Endpoint`]; do not implement it by
/// hand.
///
/// ```
/// use postlude::http::{Path, Router};
/// async fn greet(Path(name): Path<String>) -> String {
///     format!("Hello, {name}!")
/// }
/// let router = Router::new().get("/", async || "Hello!").get("/{name}", greet);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "not an async function of at most 8 parameters",
    note = "a handler is an `async fn` or async closure; its parameters, at most 8, implement `FromRequest`, its output implements `IntoResponse`"
)]
pub trait Handler<P>: Sized + 'static {
    /// The function's output.
    type Output: 'static;

    #[doc(hidden)]
    fn call(&self, parameters: P) -> impl Future<Output = Self::Output>;

    #[doc(hidden)]
    fn into_endpoint(self) -> Endpoint
    where
        P: Parameters,
        Self::Output: IntoResponse,
    {
        let handler = Rc::new(self);
        Endpoint::new(Rc::new(move |mut request: Request| {
            let handler = Rc::clone(&handler);
            Box::pin(async move {
                let record = Rc::clone(&request.record);
                record.handler.set(HandlerState::Running);
                let answer = match P::take(&mut request).await {
                    Ok(parameters) => {
                        drop(request);
                        Answer::of(handler.call(parameters).await)
                    }
                    Err(rejection) => Answer::failed(rejection),
                };
                answer.settle(&record)
            })
        }))
    }
}

#[diagnostic::do_not_recommend]
impl Handler<(Request,)> for Endpoint {
    type Output = Response;

    async fn call(&self, (request,): (Request,)) -> Response {
        (self.call)(request).await.for_layers()
    }

    fn into_endpoint(self) -> Endpoint {
        self
    }
}

/// Turns a handler into an [`Endpoint`], to give it settings of its own: a body limit, a time
/// limit, state, layers.
pub fn endpoint<P: Parameters>(handler: impl Handler<P, Output: IntoResponse>) -> Endpoint {
    handler.into_endpoint()
}

/// The parameters of a handler: a tuple of up to eight extractors, which run in order.
pub trait Parameters: Sized + 'static {
    #[doc(hidden)]
    fn take(request: &mut Request) -> impl Future<Output = Result<Self, Response>>;
}

macro_rules! handler {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter,)*> Handler<($($parameter,)*)> for F
        where
            F: AsyncFn($($parameter),*) -> R + 'static,
            R: 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "the parameters' types name them too")]
            async fn call(&self, ($($parameter,)*): ($($parameter,)*)) -> R {
                self($($parameter),*).await
            }
        }

        impl<$($parameter: FromRequest + 'static,)*> Parameters for ($($parameter,)*) {
            #[allow(clippy::unused_async, unused_variables, reason = "there may be none")]
            async fn take(request: &mut Request) -> Result<Self, Response> {
                Ok(($($parameter::from_request(request).await.map_err(IntoResponse::into_response)?,)*))
            }
        }
    };
}

handler!();
handler!(A);
handler!(A B);
handler!(A B C);
handler!(A B C D);
handler!(A B C D E);
handler!(A B C D E G);
handler!(A B C D E G H);
handler!(A B C D E G H I);
