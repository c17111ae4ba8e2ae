//! Extractors: types that a handler takes from the request as parameters.
//!
//! They run in the order of the parameters. One that rejects the request ends the call with its
//! answer: 400 for an invalid request, 408, 413, 415 or 422 for a body, 500 for a mistake in the
//! server, such as a missing state.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Method, StatusCode};
use memchr::memchr_iter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::Body;
use super::path;
use super::peer::Peer;
use super::refusal::{Refusal, Refused};
use super::rejection::Rejection;
use super::request::Request;
use super::response::{IntoResponse, Response};
use super::stopping::Stopping;
use crate::deferred::Queue;
use crate::http::background::BackgroundTasks;

/// Extracts a value from a request, as a handler's parameter. An implementation writes
/// `async fn from_request`.
///
/// It may use other extractors. [`BackgroundTasks`] is the same list for all of them.
///
/// ```
/// use postlude::http::{BackgroundTasks, FromRequest, Rejection, Request};
/// struct Agent(String);
/// impl FromRequest for Agent {
///     type Rejection = postlude::http::Error;
///     async fn from_request(request: &mut Request) -> Result<Self, Self::Rejection> {
///         let agent = request.field("user-agent").ok_or(Rejection::new(400, "name your program"))?;
///         let agent = String::from_utf8_lossy(agent).into_owned();
///         BackgroundTasks::from_request(request).await?.add(async { println!("somebody called") })?;
///         Ok(Self(agent))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a request",
    note = "a handler's parameters are extractors: `Path`, `Query`, `Json`, `Form`, `State`, `Extension`, `PeerAddr`, `ClientGone`, `BackgroundTasks`, `Body`, `String`, `Vec<u8>`, `Method`, `Request`, or your own `FromRequest`"
)]
pub trait FromRequest: Sized {
    /// The answer if the request has no valid value.
    type Rejection: IntoResponse;

    /// Extracts the value.
    fn from_request(request: &mut Request) -> impl Future<Output = Result<Self, Self::Rejection>>;
}

/// Extracts the path's parameters, percent-decoded: one value, a tuple in the path's order, or a
/// struct by name.
///
/// ```
/// use postlude::http::{Path, Router};
/// let router = Router::new()
///     .get("/files/{id}", async |Path(id): Path<u64>| id.to_string())
///     .get("/{year}/{month}", async |Path((year, month)): Path<(u16, u8)>| format!("{year}-{month:02}"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Path<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        path::from_parameters(request.parameters()).map(Self)
    }
}

/// Extracts the query, as a struct or a list of pairs. A query that does not fit the type, or is
/// not UTF-8 once it is decoded, is a 400.
///
/// It is decoded like a [`Form`], but a `%` without two hexadecimal digits stands for itself, as in
/// a browser's `URLSearchParams`: people type `?q=50%` into the address bar. More pairs than
/// [`Limits::max_pairs`](crate::http::Limits::max_pairs) are a 400.
///
/// ```
/// use postlude::http::{Query, Router};
/// #[derive(serde::Deserialize)]
/// struct Page {
///     page: Option<u32>,
/// }
/// let router = Router::new()
///     .get("/list", async |Query(page): Query<Page>| format!("page {}", page.page.unwrap_or(1)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        let query = request.query().unwrap_or_default();
        if has_more_pairs(query.as_bytes(), request.record.server.max_pairs) {
            return Err(too_many_pairs("query", StatusCode::BAD_REQUEST, request));
        }
        check_pairs("query", query.as_bytes(), path::decode_leniently)?;
        let parsed = serde_urlencoded::from_str(query);
        parsed.map(Self).map_err(|error| Rejection::bad_request(format!("the query cannot be read: {error}")))
    }
}

/// Extracts a JSON body, or answers with one.
///
/// A `Content-Type` other than `application/json` or `application/*+json` is a 415, invalid JSON a
/// 400, and a value that does not fit the type a 422.
///
/// ```
/// use postlude::http::{Json, Router};
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
/// let router = Router::new().post("/mirror", async |Json(Point { x, y }): Json<Point>| Json(Point { x: y, y: x }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Json<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        if !is_json(media_type(request)) {
            return Err(Rejection::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json"));
        }
        let bytes = request.take_body().collect().await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
            Rejection::of(status, format!("the JSON cannot be read: {error}"))
        })
    }
}

/// Extracts a body of `application/x-www-form-urlencoded`, as HTML forms send it. Another
/// `Content-Type` is a 415, a body that is not percent-encoded UTF-8 a 400, and one that does not
/// fit the type a 422. More pairs than [`Limits::max_pairs`](crate::http::Limits::max_pairs) are a
/// 413.
///
/// The parser is that of the [URL
/// standard](https://url.spec.whatwg.org/#concept-urlencoded-parser): `+` is a space, a name
/// without `=` has an empty value, and empty pairs are skipped. In two points it is stricter: the
/// standard keeps a `%` without two digits, and replaces invalid UTF-8 by U+FFFD. Here both are
/// errors, as in a path. No form of a page in UTF-8 sends them, and other clients should learn that
/// they were misunderstood.
///
/// ```
/// use postlude::http::{Form, Router};
/// #[derive(serde::Deserialize)]
/// struct Login { name: String }
/// let router = Router::new().post("/login", async |Form(login): Form<Login>| login.name);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Form<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        const KIND: &str = "application/x-www-form-urlencoded";
        if !media_type(request).eq_ignore_ascii_case(KIND) {
            return Err(Rejection::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content-type must be {KIND}")));
        }
        let bytes = request.take_body().collect().await?;
        if has_more_pairs(&bytes, request.record.server.max_pairs) {
            return Err(too_many_pairs("form", StatusCode::PAYLOAD_TOO_LARGE, request));
        }
        check_pairs("form", &bytes, path::decode)?;
        serde_urlencoded::from_bytes(&bytes).map(Self).map_err(|error| {
            Rejection::of(StatusCode::UNPROCESSABLE_ENTITY, format!("the form cannot be read: {error}"))
        })
    }
}

/// Returns whether there are more than `most` pairs, and looks no further than that. One `&` at the
/// end begins no pair.
fn has_more_pairs(pairs: &[u8], most: usize) -> bool {
    let pairs = pairs.strip_suffix(b"&").unwrap_or(pairs);
    !pairs.is_empty() && memchr_iter(b'&', pairs).take(most).count() == most
}

fn too_many_pairs(what: &str, status: StatusCode, request: &Request) -> Rejection {
    let most = request.record.server.max_pairs;
    request.record.refuse(Refusal::Pairs, Some(status), "");
    Rejection::of(status, format!("the {what} has more than {most} pairs; send fewer, or raise the limit"))
}

/// Refuses pairs that `decode` refuses, because `serde_urlencoded` would decode them with a loss.
fn check_pairs(what: &str, pairs: &[u8], decode: fn(&str) -> Option<Cow<'_, str>>) -> Result<(), Rejection> {
    const SHOWN: usize = 40;
    let is_sound = |pair: &[u8]| std::str::from_utf8(pair).is_ok_and(|pair| decode(pair).is_some());
    let Some(pair) = pairs.split(|byte| *byte == b'&').find(|pair| !is_sound(pair)) else { return Ok(()) };
    // A character has at most four bytes: so the cost does not depend on the pair's length.
    let text = String::from_utf8_lossy(&pair[..pair.len().min(4 * SHOWN + 4)]);
    let (shown, more) = text.char_indices().nth(SHOWN).map_or((&*text, ""), |(end, _)| (&text[..end], "…"));
    Err(Rejection::bad_request(format!("the {what} cannot be read: {shown:?}{more} is not percent-encoded UTF-8")))
}

/// Returns the `Content-Type` without parameters; empty if there is none.
fn media_type(request: &Request) -> &str {
    let kind = request.field("content-type").and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

fn is_json(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    lower.strip_prefix("application/").is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    /// Converts the value into JSON; if that fails, into a 500.
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Response::new(200).with_field("content-type", "application/json").with_body(bytes),
            Err(error) => Rejection::internal(format!("the answer cannot be written as JSON: {error}")).into_response(),
        }
    }
}

/// Extracts a clone of the value given to [`Endpoint::state`](crate::http::Endpoint::state) or
/// [`Router::state`](crate::http::Router::state): the innermost one. Without one it is a 500.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use postlude::http::{Router, State};
/// let router = Router::new().state(Rc::new(Cell::new(0))).get("/", async |State(visits): State<Rc<Cell<u32>>>| {
///     visits.set(visits.get() + 1);
///     visits.get().to_string()
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + 'static> FromRequest for State<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        request.record.state_of::<T>().cloned().map(Self).ok_or_else(|| {
            let kind = std::any::type_name::<T>();
            Rejection::internal(format!("there is no state of type {kind}; give it to `Router::state`"))
        })
    }
}

/// Extracts a clone of the value that a layer or another extractor put into
/// [`Request::extensions_mut`]. Without one it is a 500: the layer is missing.
///
/// ```
/// use std::rc::Rc;
/// use postlude::http::{Extension, Next, Request, Router};
/// let router = Router::new().get("/", async |Extension(role): Extension<Rc<str>>| role.to_string()).with(
///     async |mut request: Request, next: Next| {
///         request.extensions_mut().insert::<Rc<str>>(Rc::from("guest"));
///         next.run(request).await
///     },
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension<T>(pub T);

impl<T: Clone + 'static> FromRequest for Extension<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        request.extensions().get::<T>().cloned().map(Self).ok_or_else(|| {
            let kind = std::any::type_name::<T>();
            Rejection::internal(format!("no layer has put a {kind} into the request; use `Request::extensions_mut`"))
        })
    }
}

/// Extracts the client's address. Behind a proxy it is the proxy's, unless that is a
/// [trusted](crate::http::Server::trusted_proxies) one.
///
/// A connection without an address is a 500, a client that a trusted proxy does not name a 400: see
/// [`Request::peer`].
///
/// ```
/// use postlude::http::{PeerAddr, Router};
/// let router = Router::new().get("/ip", async |PeerAddr(peer): PeerAddr| peer.ip().to_string());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl FromRequest for PeerAddr {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        let peer = request.peer_addr();
        peer.map(Self).ok_or_else(|| match request.connection_peer() {
            Peer::Ip(_) => Rejection::bad_request("the proxy does not say where the request comes from"),
            Peer::Unix | Peer::Unknown => Rejection::internal(
                "this connection has no address; give one to `serve_connection_from`, or trust the proxy that has it",
            ),
        })
    }
}

impl FromRequest for BackgroundTasks {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.tasks())
    }
}

/// Extracts the queue of the server's background tasks: to ask for a job by its id, or to add one
/// that does not wait for this answer.
impl FromRequest for Queue {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.record.server.queue.clone())
    }
}

impl FromRequest for Stopping {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.record.server.stop.stopping())
    }
}

impl FromRequest for Refused {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.record.server.refused.clone())
    }
}

/// Runs an extractor once for a request: others that take it as `Cached`, too, get a clone.
///
/// An extractor that adds a background task, opens a transaction or asks a database should be taken
/// so by all that share it. (FastAPI caches dependencies by itself; here it is said.)
///
/// ```
/// use postlude::http::{self, BackgroundTasks, Cached, FromRequest, Request};
/// #[derive(Clone)]
/// struct User(String);
/// impl FromRequest for User {
///     type Rejection = http::Error;
///     async fn from_request(request: &mut Request) -> http::Result<Self> {
///         let tasks = BackgroundTasks::from_request(request).await?;
///         tasks.add(async { println!("noted once, although two parameters are made of it") })?;
///         Ok(Self("ann".into()))
///     }
/// }
/// struct Admin(User);
/// impl FromRequest for Admin {
///     type Rejection = http::Error;
///     async fn from_request(request: &mut Request) -> http::Result<Self> {
///         let Cached(user) = Cached::<User>::from_request(request).await?;
///         Ok(Self(user))
///     }
/// }
/// async fn handler(Cached(user): Cached<User>, admin: Admin) -> String {
///     format!("{} and {}", user.0, admin.0.0)
/// }
/// # let _ = http::Router::new().get("/", handler);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached<T>(pub T);

impl<T: FromRequest + Clone + 'static> FromRequest for Cached<T> {
    type Rejection = T::Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, T::Rejection> {
        if let Some(Self(value)) = request.extensions().get::<Self>() {
            return Ok(Self(value.clone()));
        }
        let value = T::from_request(request).await?;
        request.extensions_mut().insert(Self(value.clone()));
        Ok(Self(value))
    }
}

impl FromRequest for Method {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.method())
    }
}

impl FromRequest for Body {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.take_body())
    }
}

impl FromRequest for Request {
    type Rejection = Infallible;

    /// Takes the head, and the body and extensions unless an earlier extractor took them.
    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(request.take())
    }
}

impl FromRequest for Vec<u8> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        Ok(request.take_body().collect().await?)
    }
}

impl FromRequest for String {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Self, Rejection> {
        let bytes = request.take_body().collect().await?;
        Self::from_utf8(bytes).map_err(|_| Rejection::bad_request("the body is not UTF-8"))
    }
}

impl<T: FromRequest> FromRequest for Result<T, T::Rejection> {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<Self, Infallible> {
        Ok(T::from_request(request).await)
    }
}
