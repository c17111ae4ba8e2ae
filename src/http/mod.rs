//! A small HTTP/1.1 server whose point is what comes after the response.
//!
//! A [`Router`] leads requests to handlers: async functions whose parameters are extractors. A handler that takes [`BackgroundTasks`] adds work to
//! its request's list; the connection sends the answer, and when the last byte was accepted by the socket, the list runs on the loop's deferred
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
//! # The files, from the wire upwards
//!
//! | file | what |
//! | --- | --- |
//! | `wire/` | `parse` reads the head of a request, `chunked` the framing of its body, `write` writes the head of a response |
//! | `buffer`, `timer` | bytes read and bytes to be written, with the places where answers end; one deadline |
//! | `body`, `request`, `response` | what handlers see |
//! | `connection` | one connection: read, call, answer, in order |
//! | `closing` | the sockets of clients who have gone |
//! | `upgrade` | the socket for another protocol |
//! | `router`, `pattern`, `endpoint`, `handler`, `extract`, `path`, `error` | from a request to a function's parameters, and back |
//! | `extensions` | values by type |
//! | `problem` | the form of error answers |
//! | `middleware` | closures around the handlers of a group |
//! | `background` | the tasks after the answer, and their books |
//! | `delivery` | telling who asked how an answer ended |
//! | `files`, `conditional` | files as answers; what a condition or a range makes of an answer |
//! | `sse` | server-sent events |
//! | `server` | accepting, stopping, draining |

mod app;
mod background;
mod buffer;
mod closing;
mod connection;
mod server;
mod timer;
mod upgrade;
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
pub use background::{AddError, BackgroundTasks, NewTask, TaskFailure, TaskOutput, TaskRef, UnfinishedTask};
#[cfg(feature = "signal")]
pub use server::serve;
pub use server::{Server, ShutdownReport};
pub use wire::{chunked, parse};
