//! An HTTP/1.1 server with background tasks that run after the response.
//!
//! A [`Router`] maps requests to handlers: async functions whose parameters are extractors. A
//! handler that takes [`BackgroundTasks`] adds work to its request's list. Once the socket has
//! accepted the last byte of the answer, the list runs in order on the loop's deferred queue, even
//! if the connection ends.
//!
//! ```no_run
//! use postlude::http::{self, BackgroundTasks, Path, Router};
//!
//! async fn send_notification(Path(email): Path<String>, tasks: BackgroundTasks) -> http::Result<&'static str> {
//!     tasks.add(async move { println!("notification for {email}: some notification") })?;
//!     Ok("Notification sent in the background")
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let app = Router::new().post("/send-notification/{email}", send_notification);
//!     postlude::run(http::serve("127.0.0.1:8000", app))?
//! }
//! ```
//!
//! # The folders, from the wire upwards
//!
//! Each depends only on those above it in this table.
//!
//! | folder | contents |
//! | --- | --- |
//! | `wire/` | the syntax of heads and bodies, without I/O |
//! | `background` | a request's list of tasks, and the answer that releases it |
//! | `app/` | routing, extractors, handlers, responses |
//! | `conn/` | one connection: reads, calls, answers |
//! | `server/` | accepts, stops, drains |

mod app;
mod background;
mod conn;
mod server;
mod wire;

#[doc(inline)]
pub use crate::deferred::AddError;
pub use ::http::{HeaderName, HeaderValue, Method, StatusCode};
pub use app::body::{Body, BodyError};
pub use app::client::ClientGone;
pub use app::delivery::Delivery;
pub use app::endpoint::Endpoint;
pub use app::error::{Error, Result};
pub use app::extensions::Extensions;
pub use app::extract::{Cached, Extension, Form, FromRequest, Json, Path, PeerAddr, Query, State};
pub use app::handler::{Handler, Parameters, endpoint};
pub use app::middleware::Next;
pub use app::peer::Peer;
pub use app::prefixed::Prefixed;
pub use app::proxies::TrustedProxies;
pub use app::refusal::{Refusal, RefusalInfo, Refused};
pub use app::rejection::Rejection;
pub use app::request::Request;
pub use app::response::{IntoResponse, Response};
pub use app::router::Router;
pub use app::sse::{Event, sse, sse_with};
pub use app::stopping::Stopping;
pub use app::upgraded::Upgraded;
pub use app::{files, jobs, middleware};
pub use background::BackgroundTasks;
pub use conn::limits::Limits;
#[cfg(feature = "signal")]
pub use server::serve;
pub use server::{Acceptor, Address, ProxyProtocol, Server, ShutdownHandle, ShutdownReport};
pub use wire::{chunked, parse};
