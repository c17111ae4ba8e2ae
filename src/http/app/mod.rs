//! Turns requests into a handler's parameters, and its output into a response.
//!
//! | file | contents |
//! | --- | --- |
//! | `body`, `request`, `response`, `upgraded`, `delivery`, `client` | a handler's input and output |
//! | `extensions`, `settings` | values by type; the settings of routes and handlers |
//! | `path`, `extract`, `rejection`, `error` | extractors, and the responses to errors |
//! | `call`, `middleware`, `endpoint`, `handler` | handlers, the layers around them, and their settings |
//! | `pattern`, `route`, `router` | from a path to a handler |
//! | `problem` | the form of error responses |
//! | `jobs` | the status of background tasks |
//! | `peer`, `proxies`, `accounts` | where a request comes from, which proxies are believed, and what a client holds |
//! | `prefixed` | a connection with bytes that were read already |
//! | `stopping` | the server's stop, for handlers and tasks |
//! | `files`, `conditional`, `sse` | files, conditional and range requests, server-sent events |
//!
//! This folder knows no connections: `conn/` calls a handler and sends its response.

pub(super) mod accounts;
pub(super) mod body;
pub(crate) mod budget;
pub(super) mod call;
pub(super) mod client;
mod conditional;
pub(super) mod delivery;
pub(super) mod endpoint;
pub(super) mod error;
pub(super) mod extensions;
pub(super) mod extract;
pub mod files;
pub(super) mod handler;
pub mod jobs;
pub mod middleware;
mod path;
mod pattern;
pub(super) mod peer;
pub(super) mod prefixed;
pub(super) mod problem;
pub(super) mod proxies;
pub(super) mod refusal;
pub(super) mod rejection;
pub(super) mod request;
pub(super) mod response;
pub(super) mod route;
pub(super) mod router;
pub(super) mod settings;
pub(super) mod sse;
pub(super) mod stopping;
pub(super) mod upgraded;
