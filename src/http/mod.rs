//! A small HTTP/1.1 server whose point is what comes after the response.
//!
//! A [`Router`] leads requests to handlers: async functions whose parameters are extractors. A
//! handler that takes [`BackgroundTasks`] adds work to its request's list; the connection sends the
//! answer, and when the last byte was accepted by the socket, the list runs on the loop's deferred
//! queue, in order, whatever becomes of the connection.
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
//! Each depends on those above it in this table and on no other.
//!
//! | folder | contents |
//! | --- | --- |
//! | `wire/` | bytes in, bytes out: the head of a request, the framing of a body, the lines of a response's head |
//! | `background` | the tasks after the answer, and their books |
//! | `app/` | from a request to a function's parameters, and from its output to a response |
//! | `conn/` | one connection: read, call, answer, in order |
//! | `server` | accepting, stopping, draining |

mod app;
mod background;
mod conn;
mod server;
mod wire;

pub use ::http::{HeaderName, HeaderValue, Method, StatusCode};
pub use app::body::{Body, BodyError};
pub use app::delivery::Delivery;
pub use app::endpoint::Endpoint;
pub use app::error::{Error, Result};
pub use app::extensions::Extensions;
pub use app::extract::{Extension, Form, FromRequest, Json, Path, PeerAddr, Query, State};
pub use app::handler::{Handler, Parameters, endpoint};
pub use app::middleware::Next;
pub use app::rejection::Rejection;
pub use app::request::Request;
pub use app::response::{IntoResponse, Response};
pub use app::router::Router;
pub use app::sse::{Event, sse, sse_with};
pub use app::upgraded::Upgraded;
pub use app::{files, middleware};
pub use background::{
    AddError, BackgroundTasks, FailureKind, NewTask, TaskFailure, TaskOutput, TaskRef, UnfinishedTask,
};
pub use conn::limits::Limits;
#[cfg(feature = "signal")]
pub use server::serve;
pub use server::{Server, ShutdownReport};
pub use wire::{chunked, parse};
