//! Handlers: async functions and async closures whose parameters are extractors.
//!
//! One trait over `F: AsyncFn(A, B, …) -> R` takes them all. A call is one box: the future owns the request, runs the extractors in order, lets the
//! request go and awaits the function.

use std::pin::Pin;
use std::rc::Rc;

use super::endpoint::Endpoint;
use super::extract::FromRequest;
use super::request::Request;
use super::response::{IntoResponse, Response};

/// A handler as the router keeps it.
pub(crate) type Call = Rc<dyn Fn(Request) -> Answering>;

/// The future of one call.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer>>>;

/// A response, and whether the handler failed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) failed: bool,
}

impl Answer {
    pub(crate) fn failed(response: Response) -> Self {
        Self { response, failed: true }
    }

    pub(crate) fn of(answer: impl IntoResponse) -> Self {
        let failed = answer.is_failure();
        Self { response: answer.into_response(), failed }
    }
}

/// An async function or closure that answers requests. Its parameters, at most eight, are extractors.
///
/// It is implemented for what fits, and for an [`Endpoint`], and not meant to be implemented by hand. The type parameter only tells the numbers of
/// parameters apart.
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
    label = "not an async function of extractors",
    note = "a handler is an `async fn` or async closure whose parameters (at most 8) implement `FromRequest` and whose output implements `IntoResponse`"
)]
pub trait Handler<Parameters>: 'static {
    #[doc(hidden)]
    fn into_endpoint(self) -> Endpoint;
}

impl Handler<Endpoint> for Endpoint {
    fn into_endpoint(self) -> Endpoint {
        self
    }
}

macro_rules! handler {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter,)*> Handler<($($parameter,)*)> for F
        where
            F: AsyncFn($($parameter),*) -> R + 'static,
            R: IntoResponse + 'static,
            $($parameter: FromRequest + 'static,)*
        {
            #[allow(non_snake_case, unused_mut, reason = "the parameters' types name them too, and there may be none")]
            fn into_endpoint(self) -> Endpoint {
                let handler = Rc::new(self);
                Endpoint::new(Rc::new(move |mut request| {
                    let handler = Rc::clone(&handler);
                    Box::pin(async move {
                        $(
                            let $parameter = match $parameter::from_request(&mut request).await {
                                Ok(value) => value,
                                Err(rejection) => return Answer::failed(rejection.into_response()),
                            };
                        )*
                        drop(request);
                        Answer::of(handler($($parameter),*).await)
                    })
                }))
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
